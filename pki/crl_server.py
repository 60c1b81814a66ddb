"""A small web server on loopback for the test CA's lists and its OCSP answers, for development stacks and tests.

    with CrlServer(ca.crl_folder) as server:
        server.answer_questions(TestResponder(ca).answer)
        ... server.url

Rules: loopback only; files directly in the folder with the endings that a CA publishes, nothing else; no listing.
Questions (POST to /ocsp/<authority>) get 404 until somebody is there to answer them.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

LOOPBACK: Final = "127.0.0.1"
REQUEST_SECONDS_MAX: Final = 10.0
_POLL_SECONDS: Final = 0.05  #: how soon a server that is closed notices it
QUESTION_BYTES_MAX: Final = 4096
_AUTHORITY: Final = re.compile(r"/ocsp/([a-z]{1,32})")
_FILE: Final = re.compile(r"/([a-z0-9][a-z0-9-]{0,63}\.(crl|cer))")
_TYPES: Final = {"crl": "application/pkix-crl", "cer": "application/pkix-cert"}

Responder = Callable[[str, bytes], bytes]  #: authority and OCSP request to the answer, both in DER


class CrlServer:
    """Serves a folder from its own threads until it is closed."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        """Listen at once, on any free port when `port` is 0. Raises OSError when the port is taken."""
        self._server = _Server(folder, port)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name="crl-server", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The base address, without a slash at its end."""
        return f"http://{LOOPBACK}:{self.port}"

    def answer_questions(self, responder: Responder) -> None:
        """Let `responder` answer OCSP requests from now on."""
        self._server.responder = responder

    def wait(self) -> None:
        """Wait until another thread, or Ctrl-C, ends it."""
        self._thread.join()

    def close(self) -> None:
        """Stop listening and wait for the serving thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.responder: Responder | None = None
        super().__init__((LOOPBACK, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_SECONDS_MAX
    server: _Server

    def do_GET(self) -> None:
        """Answer with one file."""
        wanted = _FILE.fullmatch(self.path)
        try:
            body = (self.server.folder / wanted[1]).read_bytes() if wanted else None
        except OSError:
            body = None
        if wanted is None or body is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self._send(_TYPES[wanted[2]], body)

    def do_POST(self) -> None:
        """Answer a question about one certificate."""
        wanted = _AUTHORITY.fullmatch(self.path)
        length = self.headers.get("Content-Length", "")
        if wanted is None or self.server.responder is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        elif not length.isdecimal() or int(length) > QUESTION_BYTES_MAX:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            question = self.rfile.read(int(length))
            self._send("application/ocsp-response", self.server.responder(wanted[1], question))

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's signature
        """Say nothing: standard error belongs to the program that runs the server."""
