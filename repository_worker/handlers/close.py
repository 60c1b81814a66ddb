"""CLOSE: the session ends now, for all workers."""

from __future__ import annotations

from crypto_core.commands import Close, CloseResult
from repository_worker.effects import CloseSession
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.storage.interface import ReadView


def handle(command: Close, caller: Caller, view: ReadView, context: Context) -> Decision:  # noqa: ARG001 - one form
    """Deletes the session's record."""
    return Decision(CloseSession(caller.session), lambda _: CloseResult(closed=True))
