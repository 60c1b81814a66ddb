"""Whose letters a citizen does not want. One document for each pair of mailbox and author; no document: wanted.

Every SEND asks, so an answer is remembered for `MEMORY_SECONDS`: a sender who writes to the same people again costs no
look at the database, and a block counts in every worker after that time at the latest. The worker that took it knows
at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from pymongo.client_session import ClientSession
from pymongo.database import Database

from crypto_core import limits
from crypto_core.ids import UserId
from repository_worker.effects import Outcome, SetBlock
from repository_worker.storage import collections as names

#: How long a worker goes on with an answer; seconds.
MEMORY_SECONDS: Final = 2.0
#: Pairs of mailbox and author that one worker remembers, about 300 bytes each with Python's own.
REMEMBERED: Final = 50_000

_Pair = tuple[UserId, UserId]


class Blocks:
    """The blocks of one repository. Thread-safe. Raises PyMongoError."""

    def __init__(self, database: Database[dict[str, Any]], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._collection = database[names.BLOCKS]
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: dict[_Pair, tuple[float, bool]] = {}

    def refusing(self, readers: Sequence[UserId], author: UserId) -> tuple[UserId, ...]:
        """Those of `readers` who block `author`, in their order."""
        now = self._monotonic()
        answers = {reader: self._remembered((reader, author), now) for reader in readers}
        unknown = [reader for reader, answer in answers.items() if answer is None]
        if unknown:
            found = self._collection.find({"mailbox": {"$in": unknown}, "author": author}, {"mailbox": 1})
            blocking = {bytes(each["mailbox"]) for each in found}
            answers |= {reader: reader in blocking for reader in unknown}
            self._remember({(reader, author): reader in blocking for reader in unknown}, now)
        return tuple(reader for reader in readers if answers[reader])

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
        return Outcome()

    def _remembered(self, pair: _Pair, now: float) -> bool | None:
        until, answer = self._known.get(pair, (0.0, False))
        return answer if now < until else None

    def _remember(self, answers: dict[_Pair, bool], now: float) -> None:
        with self._lock:
            if len(self._known) + len(answers) > REMEMBERED:
                self._known.clear()  # costs one look for each pair that is still in use
            self._known |= {pair: (now + MEMORY_SECONDS, answer) for pair, answer in answers.items()}
