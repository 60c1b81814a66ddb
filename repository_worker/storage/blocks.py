"""Whose letters a citizen does not want. One document for each pair of mailbox and author; no document: wanted.

Every SEND asks, so answers are remembered for `MEMORY_SECONDS`: who blocks nobody, which is most people and holds for
every sender, and pairs of those who block somebody. A letter to people who were asked about costs no look at the
database, and a block counts in every worker after that time at the latest. The worker that took it knows at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from pymongo.client_session import ClientSession
from pymongo.database import Database

from crypto_core import limits
from crypto_core.ids import UserId
from repository_worker.effects import Outcome, SetBlock
from repository_worker.storage import collections as names

#: How long a worker goes on with an answer; seconds.
MEMORY_SECONDS: Final = 2.0
#: Answers of each kind that one worker remembers, about 300 bytes each with Python's own.
REMEMBERED: Final = 50_000

_Pair = tuple[UserId, UserId]
_Key = TypeVar("_Key")
_Answer = TypeVar("_Answer")


class Blocks:
    """The blocks of one repository. Thread-safe. Raises PyMongoError."""

    def __init__(self, database: Database[dict[str, Any]], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._collection = database[names.BLOCKS]
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: dict[_Pair, tuple[float, bool]] = {}
        #: Who blocks nobody, and how long that counts.
        self._open: dict[UserId, float] = {}

    def refusing(self, readers: Sequence[UserId], author: UserId) -> tuple[UserId, ...]:
        """Those of `readers` who block `author`, in their order."""
        now = self._monotonic()
        asked = [reader for reader in readers if now >= self._open.get(reader, 0.0)]
        answers = {reader: self._remembered((reader, author), now) for reader in asked}
        unknown = [reader for reader, answer in answers.items() if answer is None]
        if unknown:
            blocking = self._blocking(unknown, author, now)
            answers |= {reader: reader in blocking for reader in unknown}
        return tuple(reader for reader in asked if answers[reader])

    def _blocking(self, readers: Sequence[UserId], author: UserId, now: float) -> set[UserId]:
        """Those of `readers` who block `author`, from the database."""
        wary = {UserId(bytes(each)) for each in self._collection.distinct("mailbox", {"mailbox": {"$in": readers}})}
        blocking: set[UserId] = set()
        if wary:
            found = self._collection.find({"mailbox": {"$in": sorted(wary)}, "author": author}, {"mailbox": 1})
            blocking = {UserId(bytes(each["mailbox"])) for each in found}
        with self._lock:
            _keep(self._open, {reader: now + MEMORY_SECONDS for reader in readers if reader not in wary})
            _keep(self._known, {(reader, author): (now + MEMORY_SECONDS, reader in blocking) for reader in wary})
        return blocking

    def of(self, owner: UserId) -> tuple[UserId, ...]:
        """Everybody whom `owner` blocks, in ascending order; one more than the limit at most."""
        found = self._collection.find({"mailbox": owner}, {"author": 1}).sort("author", 1).limit(limits.BLOCKED + 1)
        return tuple(UserId(bytes(each["author"])) for each in found)

    def apply(self, effect: SetBlock, session: ClientSession, *, repeated: bool) -> Outcome:
        """Part of the transaction of `session`. A repeated command changes nothing: another may have come since."""
        pair = {"mailbox": effect.owner, "author": effect.user}
        if repeated:
            return Outcome()
        if effect.blocked:
            self._collection.update_one(pair, {"$setOnInsert": pair}, upsert=True, session=session)
        else:
            self._collection.delete_one(pair, session=session)
        with self._lock:
            self._known.pop((effect.owner, effect.user), None)
            self._open.pop(effect.owner, None)
        return Outcome()

    def _remembered(self, pair: _Pair, now: float) -> bool | None:
        until, answer = self._known.get(pair, (0.0, False))
        return answer if now < until else None


def _keep(known: dict[_Key, _Answer], more: dict[_Key, _Answer]) -> None:
    if len(known) + len(more) > REMEMBERED:
        known.clear()  # costs one look for each that is still in use
    known.update(more)
