"""Sessions as a worker finds them: sealed records from the storage, opened, and kept in memory for a short time.

The worker that closes a session knows it no more from that moment on; others that have its record in memory hear of it
within `storage.memory.NEWS_SECONDS`. Until then they may answer its questions, and store its letters, receipts, choices
and deletions where no look at the counters precedes them. With every other change they read whether it was closed.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from crypto_core import records
from crypto_core.errors import ProtocolError
from crypto_core.ids import Milliseconds, SessionId
from crypto_core.records import SessionRecord
from repository_worker.effects import OpenSession
from repository_worker.keys import KekRing
from repository_worker.storage.interface import Storage

CACHE_SECONDS: Final = 60.0
CACHE_ENTRIES: Final = 10_000


class Sessions:
    """Finds and seals session records. Thread-safe."""

    def __init__(
        self,
        storage: Storage,
        ring: KekRing,
        *,
        seconds: float = CACHE_SECONDS,
        entries: int = CACHE_ENTRIES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._ring = ring
        self._seconds = seconds
        self._entries = entries
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._cache: OrderedDict[SessionId, tuple[float, SessionRecord]] = OrderedDict()
        self._closed = 0  #: how many sessions were closed before what is in memory was read

    def find(self, session: SessionId) -> SessionRecord | None:
        """The record, or None for a session that is unknown, or that no key opens any more.

        Raises StorageUnavailable.
        """
        closed = self._forget_closed()
        record = self._recall(session)
        if record is None:
            record = self._open(session)
            if record is not None:
                self._remember(record, closed)
        return record

    def forget(self, session: SessionId) -> None:
        """The session is closed."""
        with self._lock:
            self._cache.pop(session, None)

    def seal(self, record: SessionRecord, now: Milliseconds) -> OpenSession:
        """The effect that stores a record, sealed under the current KEK."""
        kek = self._ring.current(now)
        return OpenSession(record.session, records.seal_record(kek, record), kek.id, record.expires)

    def _forget_closed(self) -> int:
        """Forgets what was closed since the last time. Gives how many sessions were closed so far."""
        closed = self._storage.closed(self._closed)
        if closed.count != self._closed:
            with self._lock:
                for each in self._cache.copy() if closed.sessions is None else closed.sessions:
                    self._cache.pop(each, None)
                self._closed = closed.count
        return closed.count

    def _open(self, session: SessionId) -> SessionRecord | None:
        sealed = self._storage.session(session)
        if sealed is None:
            return None
        try:
            return records.open_record(self._ring.holding(records.kek_id_of(sealed)), session, sealed)
        except ProtocolError:
            # Under a KEK that was destroyed, or written by somebody else than a worker: no session either way.
            return None

    def _recall(self, session: SessionId) -> SessionRecord | None:
        with self._lock:
            found = self._cache.get(session)
            if found is None or self._monotonic() >= found[0]:
                self._cache.pop(session, None)
                return None
            return found[1]

    def _remember(self, record: SessionRecord, closed: int) -> None:
        """Unless sessions were closed since this one was asked for: it may be among them."""
        with self._lock:
            if closed != self._closed:
                return
            self._cache[record.session] = (self._monotonic() + self._seconds, record)
            while len(self._cache) > self._entries:
                self._cache.popitem(last=False)
