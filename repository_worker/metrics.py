"""What an operator can measure, for Prometheus. Labels are few and fixed: nothing that a client chooses is one."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

LOOPBACK: Final = "127.0.0.1"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """One worker's metrics, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.handled = Counter(
            "smr_messages_handled",
            "Messages that were handled to their end, by kind (descriptor, hello, confirm or the command's name).",
            ["kind"],
            registry=self.registry,
        )
        self.refused = Counter(
            "smr_commands_refused", "Signed refusals, by their code.", ["code"], registry=self.registry
        )
        self.dead = Counter(
            "smr_messages_rejected",
            "Messages that got no effect and became dead letters, by what was wrong with them.",
            ["reason"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "smr_message_seconds",
            "Time from taking a message to its reply being ready, in seconds, by kind.",
            ["kind"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.storage_waits = Counter(
            "smr_storage_waits",
            "Times that a message had to wait for the database to come back.",
            registry=self.registry,
        )
        self.broker_reconnects = Counter(
            "smr_broker_reconnects", "Times that the connection to the broker was lost.", registry=self.registry
        )
        self.held = Gauge(
            "smr_messages_held", "Messages taken from the broker and not yet acknowledged.", registry=self.registry
        )

    def serve(self, port: int) -> None:
        """Answers Prometheus on loopback, from a thread of its own. Raises OSError when the port is taken."""
        start_http_server(port, addr=LOOPBACK, registry=self.registry)
