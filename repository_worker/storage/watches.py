"""Who watches a mailbox, and at which reply queue. One document for each; `expires` ends it.

A session has a few places for watches, so that no session fills the collection: queues that fall into the same place
replace each other, and who is replaced looks by itself from time to time.
"""

from __future__ import annotations

from typing import Final

from pymongo.database import Database

from crypto_core import moments, suite
from crypto_core.ids import Milliseconds, UserId
from repository_worker.effects import Outcome, SetWatch
from repository_worker.storage import collections as names
from repository_worker.storage.driver import Document

#: Queues of one session that may watch at the same time.
PLACES: Final = 8
#: Watches that count, the newest; a worker holds all of them, about 300 bytes each.
WATCHES_MAX: Final = 20_000


class Watches:
    """The watches of one repository. Thread-safe. Methods raise PyMongoError."""

    def __init__(self, database: Database[Document]) -> None:
        self._collection = database[names.WATCHES]

    def set(self, effect: SetWatch) -> Outcome:
        """Begins a watch, or has it last longer."""
        place = suite.sha256(effect.queue.encode())[0] % PLACES
        key = {"session": effect.session, "place": place}
        found = {"mailbox": effect.owner, "queue": effect.queue, "expires": moments.to_datetime(effect.until)}
        self._collection.update_one(key, {"$set": found}, upsert=True)
        return Outcome()

    def all(self, now: Milliseconds) -> dict[UserId, tuple[str, ...]]:
        """The queues that watch each mailbox now."""
        wanted = {"expires": {"$gt": moments.to_datetime(now)}}
        newest = self._collection.find(wanted, {"mailbox": 1, "queue": 1}).sort("expires", -1).limit(WATCHES_MAX)
        found: dict[UserId, tuple[str, ...]] = {}
        for each in newest:
            mailbox = UserId(bytes(each["mailbox"]))
            found[mailbox] = (*found.get(mailbox, ()), str(each["queue"]))
        return found
