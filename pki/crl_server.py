"""A small web server on loopback for the test CA's CRLs, for development stacks and tests.

    with CrlServer(ca.crl_folder) as server: ... server.url

Rules: loopback only; files directly in the folder with the endings that a CA publishes, nothing else; no listing.
"""

from __future__ import annotations

import re
import threading
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

LOOPBACK: Final = "127.0.0.1"
REQUEST_SECONDS_MAX: Final = 10.0
_POLL_SECONDS: Final = 0.05  #: how soon a server that is closed notices it
_FILE: Final = re.compile(r"/([a-z0-9][a-z0-9-]{0,63}\.(crl|cer))")
_TYPES: Final = {"crl": "application/pkix-crl", "cer": "application/pkix-cert"}


class CrlServer:
    """Serves a folder from its own threads until it is closed."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        """Listen at once, on any free port when `port` is 0. Raises OSError when the port is taken."""
        self._server = ThreadingHTTPServer((LOOPBACK, port), partial(_Handler, folder))
        self._server.daemon_threads = True
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


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_SECONDS_MAX

    def __init__(self, folder: Path, *arguments: Any) -> None:
        self._folder = folder  # before the base class, whose constructor handles the request
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer with one file."""
        wanted = _FILE.fullmatch(self.path)
        try:
            body = (self._folder / wanted[1]).read_bytes() if wanted else None
        except OSError:
            body = None
        if wanted is None or body is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", _TYPES[wanted[2]])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's signature
        """Say nothing: standard error belongs to the program that runs the server."""
