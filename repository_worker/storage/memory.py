"""Answers that workers remember because every command asks for them: open sessions, blocks, whose card was renewed.

One document for each kind, in `news`, counts the changes that could make such an answer wrong. Whoever changes
something counts it in the same transaction; whoever remembers asks for the counts once in `NEWS_SECONDS` and forgets
when one has moved: everything of its kind, or of sessions those that were closed since. A worker asks ahead of that, so
that no message waits for it; what is older than `NEWS_SECONDS` all the same is asked for by whoever needs it. So a
change counts in every worker after that time at the latest, and at once in the worker that made it, and answers that
nothing contradicts cost no question. A worker of an older release does not count its changes: therefore, and since a
database may be restored, no answer is older than `MEMORY_SECONDS`, and no session than `sessions.CACHE_SECONDS`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Final, Generic, TypeVar

from pymongo.client_session import ClientSession
from pymongo.database import Database

from broker_config.errors import NameRefused
from broker_config.names import QueueName, parse_ends_queue
from crypto_core.ids import SessionId
from repository_worker.storage import collections as names
from repository_worker.storage.interface import Closed

#: How long a worker goes on without asking for news; seconds.
NEWS_SECONDS: Final = 1.0
#: How old an answer may be that no news contradicts; seconds.
MEMORY_SECONDS: Final = 60.0
#: Answers of each kind that one worker remembers, about 300 bytes each with Python's own.
REMEMBERED: Final = 50_000
#: Closed sessions that the news name. Where more were closed since a worker asked, it forgets all that it remembers.
CLOSED_SESSIONS: Final = 256
_PEOPLE: Final = {"_id": "people"}
_SESSIONS: Final = {"_id": "sessions"}
_LISTENERS: Final = {"_id": "listeners"}

Monotonic = Callable[[], float]
Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


class News:
    """How often something changed that is remembered. Thread-safe. Raises PyMongoError."""

    def __init__(self, database: Database[dict[str, Any]], monotonic: Monotonic = time.monotonic) -> None:
        self._collection = database[names.NEWS]
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._count = 0
        self._closed = Closed(0, ())
        self._listeners: tuple[QueueName, ...] = ()
        self._fresh_until = 0.0
        self._wanted = False  #: whether anybody needed it since it was asked for last

    def refresh_ahead(self) -> None:
        """Asks before a message has to wait for it. Where no message came since the last time, nothing is asked."""
        if self._wanted:
            self._ask()

    def count(self) -> int:
        """How often people changed, as it was at most `NEWS_SECONDS` ago."""
        self._refresh()
        return self._count

    def closed(self, since: int) -> Closed:
        """What `Storage.closed` says."""
        self._refresh()
        known = self._closed
        if known.count == since:
            return Closed(since, ())
        more, named = known.count - since, known.sessions or ()
        return Closed(known.count, named[-more:] if 0 < more <= len(named) else None)

    @property
    def listeners(self) -> tuple[QueueName, ...]:
        """The queues of workers that hear where chains end, as they were when there was reason to ask last."""
        return self._listeners

    def note_listener(self, queue: QueueName, seconds: float) -> None:
        """Notes such a queue, for so long by the database's clock, and forgets those whose time is over."""
        others = {
            "$filter": {
                "input": {"$ifNull": ["$listeners", []]},
                "cond": {"$and": [{"$gt": ["$$this.until", "$$NOW"]}, {"$ne": ["$$this.queue", queue]}]},
            }
        }
        own = {"queue": queue, "until": {"$add": ["$$NOW", int(seconds * 1000)]}}
        noted = {"count": {"$ifNull": ["$count", 0]}, "listeners": {"$concatArrays": [others, [own]]}}
        self._collection.update_one(_LISTENERS, [{"$set": noted}], upsert=True)

    def announce(self, session: ClientSession) -> None:
        """Counts one change of people more, in its transaction."""
        self._collection.update_one(_PEOPLE, {"$inc": {"count": 1}}, upsert=True, session=session)

    def announce_closed(self, closed: SessionId, session: ClientSession) -> None:
        """Counts and names a session that is closed, in the transaction that closes it."""
        named = {"closed": {"$each": [closed], "$slice": -CLOSED_SESSIONS}}
        self._collection.update_one(_SESSIONS, {"$inc": {"count": 1}, "$push": named}, upsert=True, session=session)

    def _refresh(self) -> None:
        self._wanted = True
        if self._monotonic() >= self._fresh_until:
            self._ask()

    def _ask(self) -> None:
        fresh_until = self._monotonic() + NEWS_SECONDS
        self._wanted = False
        found = {each["_id"]: each for each in self._collection.find()}
        people, sessions, listeners = (found.get(key["_id"], {}) for key in (_PEOPLE, _SESSIONS, _LISTENERS))
        queues = _queues(listeners.get("listeners", ()))
        named = tuple(SessionId(bytes(each)) for each in sessions.get("closed", ()))
        closed = Closed(int(sessions.get("count", 0)), named)
        with self._lock:
            if fresh_until > self._fresh_until:  # or somebody who asked later was faster
                self._count, self._closed, self._fresh_until = int(people.get("count", 0)), closed, fresh_until
                self._listeners = queues


def _queues(found: Iterable[Mapping[str, Any]]) -> tuple[QueueName, ...]:
    """Those names that are of such queues: who writes the database has nobody told by another one."""
    queues: list[QueueName] = []
    for each in found:
        with contextlib.suppress(NameRefused):
            queues.append(parse_ends_queue(each["queue"]))
    return tuple(queues)


class Memory(Generic[Key, Answer]):
    """Answers of one kind. Thread-safe. `recall` raises PyMongoError."""

    def __init__(self, news: News, monotonic: Monotonic = time.monotonic) -> None:
        self._news = news
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._count = 0
        self._known: dict[Key, tuple[float, Answer]] = {}

    def recall(self, keys: Iterable[Key]) -> tuple[dict[Key, Answer], int]:
        """What is known of these, and under which count of the news: `keep` takes it with what was asked for then."""
        count, now = self._news.count(), self._monotonic()
        with self._lock:
            if count != self._count:
                self._known.clear()
                self._count = count
            found = {key: self._known[key] for key in keys if key in self._known}
        return {key: answer for key, (until, answer) in found.items() if now < until}, count

    def keep(self, answers: Mapping[Key, Answer], count: int) -> None:
        """Remembers what was asked for after `count` was read, unless there were news in between."""
        until = self._monotonic() + MEMORY_SECONDS
        with self._lock:
            if count != self._count:
                return
            if len(self._known) + len(answers) > REMEMBERED:
                self._known.clear()  # costs one question for each that is still in use
            self._known.update((key, (until, answer)) for key, answer in answers.items())

    def forget(self, key: Key) -> None:
        """This one was changed here."""
        with self._lock:
            self._known.pop(key, None)
