"""ACCEPT: the caller's signature for a letter. It is stored for good before the second share goes out."""

from __future__ import annotations

from crypto_core import choice as choices
from crypto_core.choice import Choice, SignedChoice
from crypto_core.commands import Accept, ErrorCode
from crypto_core.errors import BindingMismatch, Malformed
from repository_worker.errors import Refused
from repository_worker.handlers import signing
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.storage.interface import ReadView


def handle(command: Accept, caller: Caller, view: ReadView, context: Context) -> Decision:
    """Stores the acceptance if nothing was chosen yet, and answers with what stands."""
    try:
        document = choices.read_accepted(command.acceptance, context.repository)
    except BindingMismatch as error:
        raise Refused(ErrorCode.NOT_ALLOWED, f"Not an acceptance for this repository: {error}.") from error
    except Malformed as error:
        raise Refused(ErrorCode.MALFORMED, f"The acceptance cannot be read: {error}.") from error
    signed = command.acceptance
    chosen = SignedChoice(Choice.ACCEPTED, document.slip, signed.document, signed.signature, command.evidence)
    return signing.choose(document, chosen, None, caller, view, context)
