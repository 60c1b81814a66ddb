"""Answers that workers remember because every SEND asks for them: whom a reader blocks, whose card was renewed.

One document, `news`, counts the changes that could make such an answer wrong. Whoever changes something counts it in
the same transaction; whoever remembers asks for the count once in `NEWS_SECONDS` and forgets everything when it has
moved. So a change counts in every worker after that time at the latest, and at once in the worker that made it, and
answers that nothing contradicts cost no question. A worker of an older release does not count its changes: therefore,
and since a database may be restored, no answer is older than `MEMORY_SECONDS`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Final, Generic, TypeVar

from pymongo.client_session import ClientSession
from pymongo.database import Database

from repository_worker.storage import collections as names

#: How long a worker goes on without asking for news; seconds.
NEWS_SECONDS: Final = 1.0
#: How old an answer may be that no news contradicts; seconds.
MEMORY_SECONDS: Final = 60.0
#: Answers of each kind that one worker remembers, about 300 bytes each with Python's own.
REMEMBERED: Final = 50_000
_KEY: Final = {"_id": "people"}

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
        self._fresh_until = 0.0

    def count(self) -> int:
        """The count as it was at most `NEWS_SECONDS` ago."""
        now = self._monotonic()
        if now >= self._fresh_until:
            found = self._collection.find_one(_KEY)
            with self._lock:
                self._count, self._fresh_until = int(found["count"]) if found else 0, now + NEWS_SECONDS
        return self._count

    def announce(self, session: ClientSession) -> None:
        """Counts one change more, in its transaction."""
        self._collection.update_one(_KEY, {"$inc": {"count": 1}}, upsert=True, session=session)


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
