"""The client library at work, with its own outbox on disk and a virtual card.

    python -m tests.chaos.library_client PLAN NAME NUMBER INCARNATION

Killed and started again, the library sends what was waiting in its outbox before anything else, and says how that
ended: this is noted as the end of the operation that had none.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from client.api import Repository
from client.errors import CheckFailed, ClientError, Unreachable
from client.naming import letter_name
from client.settings import Settings
from client.state import files
from crypto_core.ids import LetterId
from pki.signers import CardSettings
from pki.virtual_card import open_virtual_card
from tests.chaos.history import Kind, Notes, Outcome, open_operations
from tests.chaos.plan import PASSPHRASE, PIN, Member, Plan

REPLY_SECONDS = 8.0
ENDING_SECONDS = 30.0  #: how long the outbox is sent further once the run is told to end
_WITH_EFFECT = (Kind.SEND.value, Kind.RECEIPT.value)


def settings(home: Path, card: CardSettings) -> Settings:
    """The library's settings for a home below a folder of the run."""
    return Settings(
        home=home / "home",
        card=card,
        passphrase=lambda _: PASSPHRASE,
        pin=lambda _: PIN,
        memory=files.private_folder(home / "memory"),
        allow_private_crl_hosts=True,
        reply_seconds=REPLY_SECONDS,
    )


class LibraryClient:
    """The citizen at work."""

    def __init__(self, plan: Plan, name: str, number: int, incarnation: int) -> None:
        self.plan = plan
        self.member: Member = plan.members[number]
        self.notes = Notes(plan.history, name)
        self.random = random.Random(f"{plan.seed} {name} {incarnation}")
        self.others = [each.user for each in plan.members if each.user != self.member.user]
        self.own: list[str] = []
        self.resumed = 0
        self.waiting: str | None = None  #: the operation whose envelope is in the outbox
        home = Path(self.member.home)
        self.repository = Repository(settings(home, open_virtual_card(home / "card").settings))

    def run(self) -> None:
        """Works until the file `stop` is there, and then until the outbox is empty."""
        with self.repository:
            waiting = [each for each in open_operations(self.notes.path) if each["kind"] in _WITH_EFFECT]
            if waiting and self._outbox_holds():
                self.waiting = waiting[-1]["op"]
            while not self.plan.stop.exists():
                self._empty_outbox()
                draw = self.random.random()
                if draw < 0.4:
                    self._send()
                elif draw < 0.8 or not self.own:
                    self._read()
                else:
                    self._status(self.random.choice(self.own))
            self._empty_outbox()

    def _outbox_holds(self) -> bool:
        return bool(self.repository._context.outbox.all())

    def _empty_outbox(self) -> None:
        """Lists until what waits was answered: so no effect is begun while another waits, and each can be told."""
        end = None
        while self._outbox_holds():
            self._look([])
            if self.plan.stop.exists():
                end = end or time.monotonic() + ENDING_SECONDS
                if time.monotonic() > end:
                    return

    def _do(self, kind: Kind, work: Callable[[], dict[str, Any]], **about: Any) -> bool:
        """One operation, noted before and after."""
        operation = self.notes.invoke(kind, self.member.user, **about)
        try:
            learned = work()
        except Unreachable as error:
            self._note_resumed()
            self.notes.end(operation, Outcome.UNKNOWN, reason=error.what)
            if kind.value in _WITH_EFFECT and self._outbox_holds():
                self.waiting = operation
            return False
        except CheckFailed as error:
            self._note_resumed()
            self.notes.forged(f"{kind.value}: {error}")
            self.notes.end(operation, Outcome.UNKNOWN, reason=error.what)
            return False
        except ClientError as error:
            self._note_resumed()
            self.notes.end(operation, Outcome.FAILED, reason=f"{error.code}: {error.what}")
            return False
        self._note_resumed()
        self.notes.end(operation, Outcome.OK, **learned)
        return True

    def _note_resumed(self) -> None:
        """What the library says of its outbox. Whatever began without an answer and was not in it stays unknown."""
        for each in self.repository.resumed[self.resumed :]:
            if self.waiting is not None and not each.problem:
                learned = {"letter": self._letter_id(each.letter_id)} if each.command == "SEND" else {}
                self.notes.end(self.waiting, Outcome.OK, **learned)
            elif self.waiting is not None:
                self.notes.end(self.waiting, Outcome.FAILED, reason=each.problem)
            self.waiting = None
        self.resumed = len(self.repository.resumed)

    def _letter_id(self, name: str) -> str:
        """A letter by its name, which has all bits of its id."""
        return _from_name(name).hex()

    def _send(self) -> None:
        operation = self.notes.next_id()
        to = self.random.sample(self.others, 1)
        body = f"{operation}\n{'Olá! Segue a ata. ' * self.random.randrange(1, 60)}".encode()

        def work() -> dict[str, Any]:
            sent = self.repository.send(to, body, "Ata")
            self.own.append(sent.letter_id)
            return {"letter": self._letter_id(sent.letter_id), "positions": [(self.member.user, sent.number, "")]}

        about = {"author": self.member.user, "recipients": to, "body": hashlib.sha256(body).hexdigest()}
        self._do(Kind.SEND, work, **about)

    def _look(self, unread: list[Any]) -> bool:
        def work() -> dict[str, Any]:
            unread.extend(self.repository.new())
            bad = [each for each in unread if not each.good]
            if bad:
                self.notes.forged(f"a letter whose checks fail: {[check.name for check in bad[0].checks]}")
            return {}

        return self._do(Kind.LIST, work)

    def _read(self) -> None:
        unread: list[Any] = []
        if not self._look(unread):
            return
        for each in unread:
            if self._outbox_holds():
                return
            about = {"author": each.author.hex(), "letter": self._letter_id(each.letter_id)}
            read = self._do(Kind.READ, lambda name=each.letter_id: self._body(name), **about)
            if self.plan.stop.exists():
                return
            if read and self.random.random() < 0.7:
                self._do(Kind.RECEIPT, lambda name=each.letter_id: self._receipt(name), **about)

    def _body(self, name: str) -> dict[str, Any]:
        return {"body": hashlib.sha256(self.repository.read(name).body).hexdigest()}

    def _receipt(self, name: str) -> dict[str, Any]:
        self.repository.send_receipt(name)
        return {}

    def _status(self, name: str) -> None:
        def work() -> dict[str, Any]:
            receipts = self.repository.status(name).receipts
            failed = [each for each in receipts if each.verdict.value == "failed"]
            if failed:
                self.notes.forged(f"a receipt whose checks fail: {[str(check) for check in failed[0].checks]}")
            return {"readers": [each.reader.hex() for each in receipts if each.verdict.value == "verified"]}

        self._do(Kind.STATUS, work, author=self.member.user, letter=self._letter_id(name))


def _from_name(name: str) -> LetterId:
    """The id that a full name stands for."""
    value = 0
    for character in name:
        value = value * 32 + "abcdefghijklmnopqrstuvwxyz234567".index(character)
    found = LetterId((value >> (5 * len(name) - 128)).to_bytes(16, "big"))
    if letter_name(found) != name:
        raise ValueError(f"{name} is not the full name of a letter")
    return found


def main() -> None:
    plan_path, name, number, incarnation, *_ = sys.argv[1:]
    LibraryClient(Plan.load(Path(plan_path)), name, int(number), int(incarnation)).run()


if __name__ == "__main__":
    main()
