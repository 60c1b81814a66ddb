"""Who is to be told that a mailbox grew: the watches of all sessions, as one worker knows them.

A thread of its own reads them again every `ROUND_SECONDS`, so that no command ever waits for that: while nobody
watches, a letter costs one look into an empty table. What is told is a hint, without content, best effort: a client
believes nothing but the signed reply to its own question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import structlog

from crypto_core.ids import UserId
from repository_worker.background import Background
from repository_worker.errors import StorageError

#: How old what a worker knows may be; seconds. A client looks once more by itself after it began to watch.
ROUND_SECONDS: Final = 2.0

Read = Callable[[], Mapping[UserId, tuple[str, ...]]]


class Watchers(Background):
    """A context manager, at work inside of it. Thread-safe."""

    def __init__(self, read: Read, round_seconds: float = ROUND_SECONDS) -> None:
        """`read` gives the queues that watch each mailbox now; raises StorageError."""
        super().__init__("watchers", self._work)
        self._read = read
        self._round_seconds = round_seconds
        self._known: Mapping[UserId, tuple[str, ...]] = {}

    def queues(self, owners: Iterable[UserId]) -> tuple[str, ...]:
        """The queues to be told that these mailboxes grew."""
        known = self._known
        return tuple(queue for owner in owners for queue in known.get(owner, ())) if known else ()

    def _work(self) -> None:
        while not self._ended.is_set():
            try:
                self._known = self._read()
            except StorageError as error:
                structlog.get_logger("watchers").info("not now", error=str(error))
            self._ended.wait(self._round_seconds)
