"""BLOCKED: whom the caller blocks. Nobody learns by whom they are blocked, but by a refused letter."""

from __future__ import annotations

from crypto_core import limits
from crypto_core.commands import Blocked, BlockedResult
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.storage.interface import ReadView


def handle(command: Blocked, caller: Caller, view: ReadView, context: Context) -> Decision:  # noqa: ARG001 - one form
    """The whole list: its length is limited."""
    return Decision.answer(BlockedResult(view.blocked(caller.citizen())[: limits.BLOCKED]))
