"""STATUS: the caller's own letter with its acceptance, every receipt, and what its recipients chose.

Nobody else learns that it exists.
"""

from __future__ import annotations

from crypto_core.commands import ErrorCode, Status, StatusResult
from repository_worker.errors import Refused, StorageError
from repository_worker.handlers import signing
from repository_worker.handlers.boxes import box_entry
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.storage.interface import ReadView, StoredStatus


def handle(command: Status, caller: Caller, view: ReadView, context: Context) -> Decision:
    """Answers the author alone: the letter is looked for among the caller's own sent entries."""
    author = caller.citizen()
    found = view.status(author, command.letter)
    if found is None:
        raise Refused(ErrorCode.NOT_FOUND, "You sent no such letter; list your letters and choose one of your own.")
    ended = signing.ended(found, context)
    if ended is None:
        return Decision.answer(_result(found, context))
    # The end of a slip is recorded when somebody asks after it: from then on nobody can sign any more.
    return Decision(ended, lambda _: _result(view.status(author, command.letter), context))


def _result(found: StoredStatus | None, context: Context) -> StatusResult:
    if found is None:
        raise StorageError("a letter that was there is gone")
    author = found.sent.about
    receipts, choices = (
        tuple(box_entry(each, author, context) for each in entries) for entries in (found.receipts, found.choices)
    )
    placement = context.sign_placement(found.acceptance)
    return StatusResult(box_entry(found.sent, author, context), receipts, placement, choices)
