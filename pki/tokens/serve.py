"""The loop of a card process: one request, one answer, until the pipe closes.

Rules: a failure becomes an answer with an error code, never a traceback on a pipe; standard output is taken away from
the PKCS#11 module, which may print there, before the module is loaded; no core file is ever written, since a PIN has
been in this memory.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Mapping

from pki.tokens.wire import Message, WireClosed, read_frame, write_frame


class TokenFailure(Exception):
    """What the parent turns into its own error: a code that both sides know, and a detail for people."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


Handler = Callable[[Message], Message]


def serve(handlers: Mapping[str, Handler]) -> None:
    """Answer requests from standard input with the handler that `op` names, until the parent closes the pipe."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, 0)
    os.dup2(silence, 1)
    os.close(silence)
    try:
        while True:
            write_frame(answers, _answer(handlers, read_frame(requests)))
    except WireClosed:
        return


def _answer(handlers: Mapping[str, Handler], request: Message) -> Message:
    try:
        return {"ok": handlers[request["op"]](request)}
    except TokenFailure as failure:
        return {"error": failure.code, "detail": failure.detail}
    except Exception as error:  # noqa: BLE001 - the boundary of the process: every fault must become an answer
        return {"error": "FAILED", "detail": type(error).__name__}
