"""UPLOAD: begins an attachment of a letter that is to be sent, or tells which of its chunks are there already."""

from __future__ import annotations

from crypto_core.commands import ErrorCode, Upload, UploadResult
from crypto_core.errors import Malformed
from crypto_core.stream import Shape
from repository_worker.effects import OpenUpload
from repository_worker.errors import Refused
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.storage.interface import ReadView


def handle(command: Upload, caller: Caller, view: ReadView, context: Context) -> Decision:
    """Takes what can be an attachment, for a letter that the caller has not sent yet."""
    author = caller.citizen()
    try:
        Shape.of_sealed(command.size)
    except Malformed as error:
        raise Refused(ErrorCode.MALFORMED, f"No attachment has this size: {error}.") from error
    if view.status(author, command.letter) is not None:
        raise Refused(ErrorCode.CONFLICT, "This letter was sent already; nothing can be added to it. Write another.")
    effect = OpenUpload(author, command.letter, command.attachment, command.size, context.now)
    return Decision(effect, lambda outcome: UploadResult(outcome.there))
