"""Counts what no single message shows: how many wait, how many died, how many sessions are open.

One thread, a connection of its own, a look every few seconds; only in workers whose metrics somebody reads. What it
cannot see for the moment keeps its last value, and `smr_observed_timestamp_seconds` tells how old that is.
"""

from __future__ import annotations

import time
from typing import Final, Protocol

import pika.exceptions
import structlog

from broker_config import names
from broker_config.connection import ConnectionSettings, connect
from broker_config.errors import BrokerError
from crypto_core.ids import Milliseconds
from repository_worker.background import Background
from repository_worker.errors import StorageError
from repository_worker.keys import now_ms
from repository_worker.metrics import Metrics

ROUND_SECONDS: Final = 10.0


class CountsSessions(Protocol):
    """The part of the storage that is needed here."""

    def open_sessions(self, now: Milliseconds) -> int:
        """How many sessions are open. Raises StorageError."""


class Observer(Background):
    """Looks around while it is entered."""

    def __init__(self, broker: ConnectionSettings, storage: CountsSessions, metrics: Metrics) -> None:
        super().__init__("observer", self._run, awaited=False)
        self._broker = broker
        self._storage = storage
        self._metrics = metrics

    def look(self) -> None:
        """One round. Raises BrokerError, StorageError, or the broker library's AMQPError."""
        with connect(self._broker, attempts=1, name="smr-worker observer") as connection:
            channel = connection.channel()
            # A passive declaration asks for no permission and changes nothing.
            for queue, gauge in (
                (names.COMMANDS_QUEUE, self._metrics.waiting),
                (names.DEAD_LETTER_QUEUE, self._metrics.dead_letters),
            ):
                gauge.set(channel.queue_declare(queue, passive=True).method.message_count)
        self._metrics.sessions.set(self._storage.open_sessions(now_ms()))
        self._metrics.observed.set(time.time())

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except (BrokerError, StorageError, pika.exceptions.AMQPError) as error:
                structlog.get_logger("observer").warning("not observed", error=type(error).__name__)
            if self._ended.wait(ROUND_SECONDS):
                return
