"""GET_CHUNK: one sealed chunk of an attachment, for those who sent or have read its letter."""

from __future__ import annotations

from crypto_core.commands import ErrorCode, GetChunk, GetChunkResult
from crypto_core.sealed import Listed
from repository_worker.errors import Refused, StorageError
from repository_worker.handlers.boxes import deleted
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.storage.interface import ReadView


def handle(command: GetChunk, caller: Caller, view: ReadView, context: Context) -> Decision:  # noqa: ARG001 - one form
    """Gives out what the letter lists. A received letter is read first: nobody gets a part of one unseen."""
    found = view.attached(caller.citizen(), command.author, command.letter)
    if found is None:
        raise Refused(ErrorCode.NOT_FOUND, "There is no such letter in your box; list your letters and choose one.")
    if found.deleted is not None:
        raise deleted(found.deleted)
    if found.unread:
        raise Refused(ErrorCode.NOT_ALLOWED, "You have not read this letter yet; read it first, then its attachments.")
    listed = _listed(command, found.listed)
    chunk = view.chunk(command.author, command.letter, listed.id, command.position)
    if chunk is None and found.swept:
        raise Refused(
            ErrorCode.NOT_FOUND,
            "The attachments of this letter were removed: this repository keeps them for a limited time. Ask its "
            "sender for them.",
        )
    if chunk is None:
        raise StorageError("a letter without a chunk of its attachment")
    return Decision.answer(GetChunkResult(chunk))


def _listed(command: GetChunk, attachments: tuple[Listed, ...]) -> Listed:
    for each in attachments:
        if each.id == command.attachment and command.position < each.shape.chunks:
            return each
    raise Refused(ErrorCode.NOT_FOUND, "This letter has no such attachment, or it has no such part.")
