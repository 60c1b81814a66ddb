"""RECEIPT: a reading receipt, for a letter that the caller received and has read, to that letter's author alone."""

from __future__ import annotations

from crypto_core import sealed
from crypto_core.commands import ErrorCode, Receipt, ReceiptResult
from crypto_core.errors import LimitExceeded, Malformed
from crypto_core.ids import UserId
from crypto_core.sealed import SealedObject
from repository_worker.effects import Outcome, StoreReceipt
from repository_worker.errors import Refused, StorageError
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.storage.interface import ReadView


def handle(command: Receipt, caller: Caller, view: ReadView, context: Context) -> Decision:
    """Takes a receipt by the caller that only the letter's author and the caller can open."""
    reader = caller.citizen()
    receipt = _read(command)
    if receipt.routing.author != reader:
        raise Refused(ErrorCode.NOT_ALLOWED, "The receipt names another reader than the citizen of this session.")
    author = _letter_author(receipt)
    stored = view.received(reader, author, receipt.routing.letter)
    if stored is None:
        raise Refused(ErrorCode.NOT_FOUND, "You did not receive such a letter, so there is nothing to confirm.")
    if stored.unread:
        raise Refused(ErrorCode.NOT_ALLOWED, "You have not read this letter yet; read it first, then confirm it.")
    return Decision(StoreReceipt(receipt, author, context.now), lambda outcome: _result(outcome, context))


def _read(command: Receipt) -> SealedObject:
    try:
        return sealed.read(sealed.RECEIPT, command.receipt)
    except LimitExceeded as error:
        raise Refused(ErrorCode.TOO_LARGE, f"The receipt passes a limit: {error}.") from error
    except Malformed as error:
        raise Refused(ErrorCode.MALFORMED, f"The receipt cannot be read: {error}.") from error


def _letter_author(receipt: SealedObject) -> UserId:
    # Sealed for the reader and the letter's author: one person for a letter to oneself.
    if len(receipt.recipients) != 1:
        raise Refused(ErrorCode.NOT_ALLOWED, "A receipt is sealed for the letter's sender and its reader, nobody else.")
    return receipt.recipients[0]


def _result(outcome: Outcome, context: Context) -> ReceiptResult:
    if not outcome.entries:
        raise StorageError("a receipt was stored without its entries")
    own = outcome.entries[0]
    return ReceiptResult(own.entry.time, context.sign_placement([own]))
