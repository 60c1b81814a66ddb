"""Whose letters a citizen does not want. One document for each pair of mailbox and author; no document: wanted.

Every SEND asks, so answers are remembered (`memory`): who blocks nobody, which is most people and holds for every
sender, and pairs of those who block somebody.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.database import Database

from crypto_core import limits
from crypto_core.ids import UserId
from repository_worker.effects import Outcome, SetBlock
from repository_worker.storage import collections as names
from repository_worker.storage.memory import Memory, Monotonic, News

_Pair = tuple[UserId, UserId]


class Blocks:
    """The blocks of one repository. Thread-safe. Raises PyMongoError."""

    def __init__(self, database: Database[dict[str, Any]], news: News, monotonic: Monotonic = time.monotonic) -> None:
        self._collection = database[names.BLOCKS]
        self._news = news
        self._wary: Memory[UserId, bool] = Memory(news, monotonic)  #: whether they block anybody
        self._pairs: Memory[_Pair, bool] = Memory(news, monotonic)  #: whether this reader blocks this author

    def refusing(self, readers: Sequence[UserId], author: UserId) -> tuple[UserId, ...]:
        """Those of `readers` who block `author`, in their order."""
        known, count = self._wary.recall(readers)
        unknown = [reader for reader in readers if reader not in known]
        if unknown:
            wary = {UserId(bytes(each)) for each in self._collection.distinct("mailbox", _of(unknown))}
            answers = {reader: reader in wary for reader in unknown}
            self._wary.keep(answers, count)
            known |= answers
        asked = [reader for reader in readers if known[reader]]
        blocking = self._blocking(asked, author) if asked else {}
        return tuple(reader for reader in asked if blocking[reader, author])

    def _blocking(self, readers: Sequence[UserId], author: UserId) -> dict[_Pair, bool]:
        """Which of `readers`, who all block somebody, block `author`."""
        known, count = self._pairs.recall((reader, author) for reader in readers)
        unknown = [reader for reader in readers if (reader, author) not in known]
        if unknown:
            found = self._collection.find({**_of(unknown), "author": author}, {"mailbox": 1})
            blocking = {UserId(bytes(each["mailbox"])) for each in found}
            answers = {(reader, author): reader in blocking for reader in unknown}
            self._pairs.keep(answers, count)
            known |= answers
        return known

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
        self._news.announce(session)
        self._wary.forget(effect.owner)
        self._pairs.forget((effect.owner, effect.user))
        return Outcome()


def _of(readers: Sequence[UserId]) -> dict[str, Any]:
    return {"mailbox": {"$in": list(readers)}}
