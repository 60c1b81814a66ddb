"""A client that floods: it publishes garbage as fast as the broker takes it, until somebody cuts it off."""

from __future__ import annotations

import threading
import time
from typing import Final

import pika
import pika.exceptions

from broker_config import names
from broker_config.connection import ConnectionSettings, connect
from repository_worker.guard import CUT_OFF_SECONDS

#: How long it floods if nobody does; seconds.
FLOOD_SECONDS: Final = 4 * CUT_OFF_SECONDS
AT_ONCE: Final = 50
PAUSE_SECONDS: Final = 0.02


class Flood(threading.Thread):
    """`ended` is when it was cut off, None while it was not; times are those of `time.monotonic`."""

    def __init__(self, settings: ConnectionSettings) -> None:
        super().__init__(name="flood", daemon=True)
        self.settings = settings
        self.began = time.monotonic()
        self.ended: float | None = None
        self.sent = 0

    def run(self) -> None:
        connection = connect(self.settings)
        channel = connection.channel()
        properties = pika.BasicProperties(user_id=self.settings.user)
        self.began = time.monotonic()
        try:
            while time.monotonic() < self.began + FLOOD_SECONDS:
                for _ in range(AT_ONCE):
                    channel.basic_publish(names.COMMANDS_EXCHANGE, names.COMMANDS_ROUTING_KEY, b"junk", properties)
                    self.sent += 1
                connection.process_data_events(PAUSE_SECONDS)
        except pika.exceptions.AMQPError:
            self.ended = time.monotonic()
