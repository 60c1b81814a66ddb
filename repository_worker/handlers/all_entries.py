"""ALL: every entry of the caller's own mailbox, received and sent, letters and receipts."""

from __future__ import annotations

from crypto_core.commands import All
from repository_worker.handlers.boxes import page
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.storage.interface import ReadView


def handle(command: All, caller: Caller, view: ReadView, context: Context) -> Decision:
    """A page of entries, with their sealed objects or (`heads` false) without, to check the chain."""
    owner = caller.citizen()
    return Decision.answer(page(owner, command.after, view, context, heads=command.heads, unread_only=False))
