"""STATUS: the caller's own letter with its acceptance and every receipt. Nobody else learns that it exists."""

from __future__ import annotations

from crypto_core.commands import ErrorCode, Status, StatusResult
from repository_worker.errors import Refused
from repository_worker.handlers.boxes import acceptance_heads, box_entry
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.storage.interface import ReadView


def handle(command: Status, caller: Caller, view: ReadView, context: Context) -> Decision:
    """Answers the author alone: the letter is looked for among the caller's own sent entries."""
    author = caller.citizen()
    found = view.status(author, command.letter)
    if found is None:
        raise Refused(ErrorCode.NOT_FOUND, "You sent no such letter; list your letters and choose one of your own.")
    heads = acceptance_heads(found.acceptance, context)
    return Decision.answer(StatusResult(box_entry(found.sent), tuple(map(box_entry, found.receipts)), heads))
