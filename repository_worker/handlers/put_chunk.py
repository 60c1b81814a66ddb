"""PUT_CHUNK: one sealed chunk of an upload that the caller has begun."""

from __future__ import annotations

from crypto_core.commands import ErrorCode, PutChunk, PutChunkResult
from crypto_core.errors import Malformed
from crypto_core.stream import Shape
from repository_worker.effects import StoreChunk
from repository_worker.errors import Refused
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.storage.interface import ReadView


def handle(command: PutChunk, caller: Caller, view: ReadView, context: Context) -> Decision:  # noqa: ARG001 - one form
    """Takes a chunk that is exactly as long as it must be: so no upload grows beyond what was begun."""
    author = caller.citizen()
    size = view.upload(author, command.letter, command.attachment)
    if size is None:
        raise Refused(ErrorCode.NOT_FOUND, "This upload was not begun, or was removed meanwhile; begin it again.")
    try:
        wanted = Shape.of_sealed(size).sealed_bytes(command.position)
    except Malformed as error:
        raise Refused(ErrorCode.MALFORMED, f"Not a chunk of this upload: {error}.") from error
    if len(command.chunk) != wanted:
        raise Refused(ErrorCode.MALFORMED, f"The chunk has {len(command.chunk)} bytes; here it must have {wanted}.")
    effect = StoreChunk(author, command.letter, command.attachment, command.position, command.chunk)
    return Decision(effect, lambda _: PutChunkResult(command.position))
