"""What happened, as the clients saw it: an append-only file of JSON lines for each client, and one for the faults.

A line is written before an operation is begun and when it ends, in one write to a file opened for appending: a client
that is killed loses nothing that it noted, and leaves an operation without an end, which is `unknown`. Times are
nanoseconds of the machine's monotonic clock, which all processes share. Bytes are hexadecimal.
"""

from __future__ import annotations

import enum
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self


class Outcome(enum.Enum):
    """How an operation ended, as far as its client knows."""

    OK = "ok"  #: a valid reply came
    FAILED = "failed"  #: a valid refusal came: there was no effect
    UNKNOWN = "unknown"  #: nothing came, or the client was killed: there may have been an effect


class Kind(enum.Enum):
    """What a client wanted."""

    SESSION = "session"
    SEND = "send"
    READ = "read"
    RECEIPT = "receipt"
    STATUS = "status"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Position:
    """An entry that the repository signed for. `entry` is its hash, empty where the client does not tell."""

    mailbox: str
    number: int
    entry: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: what it was about, and what its client learned. What does not apply is empty."""

    id: str
    client: str
    kind: Kind
    owner: str  #: the citizen who did it
    invoked: int  #: when; nanoseconds
    first_end: int | None = None  #: when its first end was noted; None when the client was killed before
    first: Outcome = Outcome.UNKNOWN  #: the first end
    ended: int | None = None  #: when the last end was noted: what was unknown may be answered later
    outcome: Outcome = Outcome.UNKNOWN
    author: str = ""
    letter: str = ""
    recipients: tuple[str, ...] = ()
    body: str = ""  #: SHA-256 of a letter's text
    readers: tuple[str, ...] = ()  #: whose receipts a status showed
    positions: tuple[Position, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Forgery:
    """Something that a client received and that nobody may have sent to it."""

    client: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fault:
    """Something was broken from `began` until it was mended and all had time to notice; nanoseconds."""

    kind: str
    began: int
    ended: int


@dataclass(frozen=True, slots=True)
class History:
    """Everything that was noted in one run."""

    operations: tuple[Operation, ...]
    forgeries: tuple[Forgery, ...]
    faults: tuple[Fault, ...]


def now() -> int:
    """The clock of all notes."""
    return time.monotonic_ns()


class Notes:
    """The file of one client, or of the faults."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}.jsonl"
        self.name = name
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._last = _highest(self.path)

    def invoke(self, kind: Kind, owner: str, **about: Any) -> str:
        """Notes that an operation begins; gives its id."""
        self._last += 1
        operation = f"{self.name}.{self._last}"
        self.write(event="invoked", op=operation, kind=kind.value, owner=owner, **about)
        return operation

    def next_id(self) -> str:
        """The id that the next operation will have: a letter carries it in its text."""
        return f"{self.name}.{self._last + 1}"

    def end(self, operation: str, outcome: Outcome, **learned: Any) -> None:
        """Notes how it ended; may be noted again when an answer comes later."""
        self.write(event=outcome.value, op=operation, **learned)

    def forged(self, reason: str) -> None:
        """Notes something that nobody may have sent."""
        self.write(event="forged", reason=reason)

    def fault(self, kind: str, began: int, ended: int) -> None:
        """Notes a fault that is over."""
        self.write(event="fault", kind=kind, began=began, ended=ended)

    def write(self, **line: Any) -> None:
        """One line, in one write."""
        os.write(self._file, json.dumps({"at": now(), **line}, ensure_ascii=False).encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_operations(path: Path) -> list[dict[str, Any]]:
    """What a client began and never noted as answered or refused, oldest first, as the lines that began it."""
    waiting: dict[str, dict[str, Any]] = {}
    for line in _lines(path):
        if line["event"] == "invoked":
            waiting[line["op"]] = line
        elif line["event"] in (Outcome.OK.value, Outcome.FAILED.value):
            waiting.pop(line["op"], None)
    return list(waiting.values())


def load(folder: Path) -> History:
    """All files of a run."""
    operations: dict[str, Operation] = {}
    forgeries: list[Forgery] = []
    faults: list[Fault] = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in _lines(path):
            match line["event"]:
                case "invoked":
                    operations[line["op"]] = _begun(path.stem, line)
                case "forged":
                    forgeries.append(Forgery(path.stem, line["reason"]))
                case "fault":
                    faults.append(Fault(line["kind"], line["began"], line["ended"]))
                case _:
                    operations[line["op"]] = _ended(operations[line["op"]], line)
    return History(tuple(operations.values()), tuple(forgeries), tuple(sorted(faults, key=lambda each: each.began)))


def _begun(client: str, line: dict[str, Any]) -> Operation:
    return Operation(
        id=line["op"],
        client=client,
        kind=Kind(line["kind"]),
        owner=line["owner"],
        invoked=line["at"],
        author=line.get("author", ""),
        letter=line.get("letter", ""),
        recipients=tuple(sorted(line.get("recipients", ()))),
        body=line.get("body", ""),
    )


def _ended(operation: Operation, line: dict[str, Any]) -> Operation:
    outcome = Outcome(line["event"])
    if operation.first_end is None:
        operation = replace(operation, first_end=line["at"], first=outcome)
    return replace(
        operation,
        ended=line["at"],
        outcome=outcome,
        letter=line.get("letter", operation.letter),
        body=line.get("body", operation.body),
        readers=tuple(line.get("readers", ())),
        positions=tuple(Position(*each) for each in line.get("positions", ())),
        reason=line.get("reason", ""),
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    # While the client works, the end of its last line may not be there yet.
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    for line in whole.splitlines():
        yield json.loads(line)


def _highest(path: Path) -> int:
    return max((int(line["op"].rpartition(".")[2]) for line in _lines(path) if line["event"] == "invoked"), default=0)
