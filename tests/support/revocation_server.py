"""A web server on loopback that publishes what a CA publishes, rightly or with one fault at a time.

    with RevocationServer() as server:
        server.publish("/root.crl", der)
        server.publish("/root.crl", der, Fault.TRUNCATED)
        server.answer("/ocsp/root", lambda question: der)

Real sockets and real HTTP: what is tested is what a client does with bytes from the network.
"""

from __future__ import annotations

import enum
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

OVERSIZED_BYTES = 300_000
DRIP_SECONDS = 0.05


class Fault(enum.Enum):
    """How a server can answer wrongly."""

    NONE = "none"
    SILENT = "it takes the request and says nothing"
    SLOW = "it sends a byte now and then"
    TRUNCATED = "it ends before the length that it promised"
    OVERSIZED = "it sends more than the limit"
    OVERSIZED_WITHOUT_LENGTH = "it sends more than the limit and never said how much"
    REFUSED = "it answers 503"
    EMPTY = "it answers with nothing"
    RUBBISH = "what it sends is no DER"
    TRAILING = "bytes follow the DER"
    REDIRECT = "it sends the client to the right place"
    CIRCLE = "it sends the client round and round"
    REDIRECT_TO_FILE = "it sends the client to a file"
    REDIRECT_TO_SEE_OTHER = "it answers 303, which turns a question into a plain request"


@dataclass(frozen=True)
class Page:
    """What stands at a path: the answer to a question (empty for GET), and the fault."""

    answer: Callable[[bytes], bytes]
    fault: Fault = Fault.NONE


class RevocationServer:
    """Serves until it is closed. `counts`: requests by path."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.counts: Counter[str] = Counter()
        self.stopped = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.owner = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def publish(self, path: str, der: bytes, fault: Fault = Fault.NONE) -> None:
        self.pages[path] = Page(lambda _question: der, fault)

    def answer(self, path: str, answer: Callable[[bytes], bytes], fault: Fault = Fault.NONE) -> None:
        self.pages[path] = Page(answer, fault)

    def spoil(self, path: str, fault: Fault) -> None:
        self.pages[path] = Page(self.pages[path].answer, fault)

    def close(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Handler(BaseHTTPRequestHandler):
    timeout = 5
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        self._talk(b"")

    def do_POST(self) -> None:
        self._talk(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def _talk(self, question: bytes) -> None:
        owner: RevocationServer = self.server.owner  # type: ignore[attr-defined]
        path = self.path.removeprefix("/moved")
        owner.counts[path] += 1
        page = owner.pages.get(path)
        if page is None:
            self.send_error(404)
            return
        body = page.answer(question)
        moved = self.path != path
        fault = Fault.NONE if moved and page.fault is Fault.REDIRECT else page.fault
        try:
            self._faulty(owner, fault, body)
        except OSError:
            return  # the client hung up, as it should

    def _faulty(self, owner: RevocationServer, fault: Fault, body: bytes) -> None:
        moves = {
            Fault.REDIRECT: (307, f"/moved{self.path}"),
            Fault.CIRCLE: (307, self.path),
            Fault.REDIRECT_TO_FILE: (307, "file:///etc/passwd"),
            Fault.REDIRECT_TO_SEE_OTHER: (303, f"/moved{self.path}"),
        }
        if fault in moves:
            status, location = moves[fault]
            self.send_response(status)
            self.send_header("Location", location)
            self.end_headers()
        elif fault is Fault.REFUSED:
            self.send_error(503)
        elif fault is Fault.SILENT:
            owner.stopped.wait(5)
        elif fault is Fault.SLOW:
            self._head(len(body))
            for index in range(len(body)):
                self.wfile.write(body[index : index + 1])
                if owner.stopped.wait(DRIP_SECONDS):
                    return
        else:
            self._send(fault, body)

    def _send(self, fault: Fault, body: bytes) -> None:
        sent = {
            Fault.TRUNCATED: body[: len(body) // 2],
            Fault.OVERSIZED: body + bytes(OVERSIZED_BYTES),
            Fault.OVERSIZED_WITHOUT_LENGTH: body + bytes(OVERSIZED_BYTES),
            Fault.EMPTY: b"",
            Fault.RUBBISH: b"<html>not found</html>",
            Fault.TRAILING: body + b"\x00",
        }.get(fault, body)
        promised = len(body) if fault is Fault.TRUNCATED else len(sent)
        self._head(None if fault is Fault.OVERSIZED_WITHOUT_LENGTH else promised)
        self.wfile.write(sent)

    def _head(self, length: int | None) -> None:
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
