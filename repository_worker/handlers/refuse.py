"""REFUSE: the caller signs that they do not take a letter; from then on nobody gets their share."""

from __future__ import annotations

from crypto_core import choice as choices
from crypto_core import sealed
from crypto_core.choice import Choice, SignedChoice
from crypto_core.commands import ErrorCode, Refuse
from crypto_core.errors import BindingMismatch, Malformed
from repository_worker.errors import Refused
from repository_worker.handlers import signing
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.storage.interface import ReadView


def handle(command: Refuse, caller: Caller, view: ReadView, context: Context) -> Decision:
    """Stores the refusal if nothing was chosen yet, and answers with what stands."""
    try:
        reason = sealed.read(sealed.REASON, command.reason) if command.reason is not None else None
        document = choices.read_refused(command.refusal, reason, context.repository)
    except BindingMismatch as error:
        raise Refused(ErrorCode.NOT_ALLOWED, f"Not a refusal for this repository: {error}.") from error
    except Malformed as error:
        raise Refused(ErrorCode.MALFORMED, f"The refusal cannot be read: {error}.") from error
    signed = command.refusal
    chosen = SignedChoice(Choice.REFUSED, document.slip, signed.document, signed.signature, command.evidence)
    return signing.choose(document, chosen, reason, caller, view, context)
