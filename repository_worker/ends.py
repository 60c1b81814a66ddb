"""Workers tell each other where the chains of mailboxes end that they have extended.

So a worker seldom has to ask the database before it stores a letter, although another one stored the letter before it.
What is told goes, after the replies of a batch, into a queue of each other worker (`broker_config.names.ends_queue`);
which these are, workers note in the database. A worker alone tells nobody. Nothing rests on any of it: who hears
nothing asks, and the database refuses a number that is taken.

The broker is believed nothing: a message counts if its MAC is of this repository (`crypto_core.ends`), and then it only
says what a majority of the database held already. Whatever else comes is counted and dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import structlog

from broker_config.names import QueueName
from crypto_core import ends
from crypto_core.ends import End
from crypto_core.errors import ProtocolError
from crypto_core.ids import Milliseconds, RepositoryId, UserId
from repository_worker.background import Background
from repository_worker.errors import StorageError
from repository_worker.keys import now_ms
from repository_worker.metrics import Metrics
from repository_worker.storage.chains import Tip
from repository_worker.storage.heads import Heard

#: Between two notes of this worker that it listens, and how long one counts; seconds.
NOTE_SECONDS: Final = 10.0
NOTED_SECONDS: Final = 35.0
#: Other workers that are told, at most: of more than these each one looks, which costs less than telling all.
WORKERS_TOLD: Final = 8


class Letterbox:
    """How workers of one repository write to each other, and know what none of them wrote."""

    def __init__(
        self, repository: RepositoryId, key: bytes, metrics: Metrics, *, clock: Callable[[], Milliseconds] = now_ms
    ) -> None:
        """`key`: 32 bytes that only workers of this repository have."""
        self._repository = repository
        self._key = key
        self._outcomes = {ok: metrics.ends_heard.labels(name) for ok, name in ((True, "ok"), (False, "refused"))}
        self._clock = clock

    def write(self, tips: Mapping[UserId, Tip]) -> bytes:
        """The message that says where these chains end now."""
        found = [End(mailbox, tip.number, tip.hash, tip.time, tip.bytes) for mailbox, tip in tips.items()]
        return ends.seal(self._key, self._repository, self._clock(), found)

    def read(self, message: bytes) -> Heard | None:
        """What a message says; None if no worker of this repository made it."""
        try:
            told, found = ends.read(self._key, self._repository, message)
        except ProtocolError:
            self._outcomes[False].inc()
            return None
        self._outcomes[True].inc()
        return Heard({each.mailbox: Tip(each.number, each.hash, each.time, each.bytes) for each in found}, told)


class EndsStore(Protocol):
    """What the storage has for it."""

    def ends_made(self) -> Mapping[UserId, Tip]:
        """What this worker has made since it was asked last."""

    def ends_heard(self, tips: Mapping[UserId, Tip], told: Milliseconds) -> None:
        """What another worker has made, as `Heads.hear` says."""

    def listeners(self) -> tuple[QueueName, ...]:
        """The queues of all workers, as they were lately. Asks nobody."""

    def note_listener(self, queue: QueueName, seconds: float) -> None:
        """Notes that a worker listens, for so long. Raises StorageError."""


class Ends(Background):
    """Tells and hears. A context manager, at work inside of it. Thread-safe."""

    def __init__(self, letterbox: Letterbox, store: EndsStore) -> None:
        super().__init__("ends", self._note)
        self._letterbox = letterbox
        self._store = store
        self._queue: QueueName | None = None
        self._listens = threading.Event()

    def listen(self, queue: QueueName) -> None:
        """From now on this worker hears by `queue`."""
        self._queue = queue
        self._listens.set()

    def due(self) -> list[tuple[QueueName, bytes]]:
        """What is to be told now: a message for each queue."""
        made = self._store.ends_made()
        if not made:
            return []
        others = [each for each in self._store.listeners() if each != self._queue]
        if not 0 < len(others) <= WORKERS_TOLD:
            return []
        message = self._letterbox.write(made)
        return [(each, message) for each in others]

    def hear(self, message: bytes) -> None:
        """Takes what came by this worker's queue, if a worker of this repository made it."""
        heard = self._letterbox.read(message)
        if heard is not None:
            self._store.ends_heard(heard.tips, heard.told)

    def _note(self) -> None:
        self._listens.wait()
        while not self._ended.is_set() and self._queue is not None:
            try:
                self._store.note_listener(self._queue, NOTED_SECONDS)
            except StorageError as error:
                structlog.get_logger("ends").info("not now", error=str(error))
            self._listens.clear()
            self._listens.wait(NOTE_SECONDS)

    def _end(self) -> None:
        super()._end()
        self._listens.set()
