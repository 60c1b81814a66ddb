"""STATUS: the caller's own letter with its acceptance and every receipt. Nobody else learns that it exists."""

from __future__ import annotations

from crypto_core.commands import ErrorCode, Status, StatusResult
from crypto_core.mailbox import EntryKind
from repository_worker.errors import Refused
from repository_worker.handlers.boxes import acceptance_heads, box_entries
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.storage.interface import ReadView


def handle(command: Status, caller: Caller, view: ReadView, context: Context) -> Decision:
    """Answers the author alone: the letter is looked for among the caller's own sent entries."""
    author = caller.citizen()
    stored = view.entry(author, EntryKind.SENT, author, command.letter)
    if stored is None:
        raise Refused(ErrorCode.NOT_FOUND, "You sent no such letter; list your letters and choose one of your own.")
    (letter,) = box_entries(author, [stored], view)
    receipts = box_entries(author, view.receipts(author, command.letter), view)
    heads = acceptance_heads(view.acceptance(author, command.letter), context)
    return Decision.answer(StatusResult(letter, receipts, heads))
