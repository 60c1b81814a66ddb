"""NEW: the letters of the caller's own box that were not read yet."""

from __future__ import annotations

from crypto_core.commands import New
from repository_worker.handlers.boxes import page
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.storage.interface import ReadView


def handle(command: New, caller: Caller, view: ReadView, context: Context) -> Decision:
    """A page of unread letters with their sealed heads; nothing is marked."""
    owner = caller.citizen()
    return Decision.answer(page(owner, command.after, view, context, heads=True, unread_only=True))
