"""What a supervisor may ask a worker, on loopback unless told otherwise: is it alive, is it ready, what did it measure.

    GET /live      200 while the process answers at all: restart it when it does not
    GET /ready     200 while messages flow and the database takes writes, 503 otherwise: wait, or route around it
    GET /metrics   for Prometheus

A worker that is told to stop, or that lost broker or database, is alive and not ready. Nothing secret is told, and
nothing can be changed from here. Answers are JSON with one member for each part.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from repository_worker.background import Background
from repository_worker.errors import HomeError, StorageError
from repository_worker.metrics import Metrics

LOOPBACK: Final = "127.0.0.1"
#: Whoever asks more often gets the same answer about the database; seconds.
PROBE_SECONDS: Final = 1.0
REQUEST_SECONDS: Final = 5


class Health:
    """What one worker knows of itself. Thread-safe."""

    def __init__(
        self, metrics: Metrics, probe: Callable[[], None], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`probe` raises StorageError unless the database takes writes."""
        self.metrics = metrics
        self._probe = probe
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._consuming: float | None = None
        self._stopping = False
        self._database = (float("-inf"), False)

    def consuming(self) -> None:
        """Messages begin to flow, until the connection is lost the next time."""
        self._consuming = self.metrics.reconnects()

    def stopping(self) -> None:
        """The worker takes nothing more. May be called from a signal handler."""
        self._stopping = True

    def parts(self) -> dict[str, bool]:
        """What readiness is made of."""
        return {
            "consuming": not self._stopping and self._consuming == self.metrics.reconnects(),
            "database": self._database_answers(),
        }

    def _database_answers(self) -> bool:
        with self._lock:
            asked, answer = self._database
            if self._monotonic() - asked < PROBE_SECONDS:
                return answer
            try:
                self._probe()
                answer = True
            except StorageError:
                answer = False
            self._database = (self._monotonic(), answer)
            return answer


class HealthServer(Background):
    """Answers on a port while it is entered. Raises HomeError when the port is taken."""

    def __init__(self, health: Health, port: int, address: str = LOOPBACK) -> None:
        """Port 0 takes a free one."""
        try:
            self._server = _Server((address, port), _Handler)
        except OSError as error:
            raise HomeError(
                f"Port {port} for metrics and health is taken; choose another SMR_REPOSITORY_METRICS_PORT."
            ) from error
        self._server.health = health
        super().__init__("health", self._server.serve_forever)

    @property
    def port(self) -> int:
        """Where it answers."""
        return int(self._server.server_address[1])

    def _end(self) -> None:
        super()._end()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    health: Health


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_SECONDS
    server: _Server

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self.server.health.metrics.registry))
        elif self.path == "/live":
            self._json(HTTPStatus.OK, {"live": True})
        elif self.path == "/ready":
            parts = self.server.health.parts()
            ready = all(parts.values())
            self._json(HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE, {"ready": ready, **parts})
        else:
            self._json(HTTPStatus.NOT_FOUND, {"paths": ["/live", "/ready", "/metrics"]})

    def _json(self, status: HTTPStatus, value: dict[str, Any]) -> None:
        self._answer(status, "application/json", json.dumps(value).encode() + b"\n")

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's signature
        """Probes come every few seconds and say nothing: none is logged."""
