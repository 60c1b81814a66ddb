"""SEND: a sealed letter, into the author's mailbox and those of all its recipients at once, or into none."""

from __future__ import annotations

from collections.abc import Sequence

from crypto_core import sealed, suite
from crypto_core.commands import ErrorCode, Send, SendResult
from crypto_core.errors import LimitExceeded, Malformed
from crypto_core.ids import UserId
from crypto_core.limits import KIB
from crypto_core.sealed import SealedObject
from repository_worker.effects import Outcome, StoreLetter
from repository_worker.errors import Refused, StorageError
from repository_worker.handlers import renewals, signing
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.storage.interface import ReadView

#: What sealing adds to a body, at most; bytes.
SEALING_BYTES = 4 * KIB


def handle(command: Send, caller: Caller, view: ReadView, context: Context) -> Decision:
    """Takes a letter whose author is the caller and whose readers are all registered and do not block the author."""
    author = caller.citizen()
    letter = _read(command)
    if letter.routing.author != author:
        raise Refused(ErrorCode.NOT_ALLOWED, "The letter names another author than the citizen of this session.")
    if suite.sha256(command.body) != letter.routing.body_hash:
        raise Refused(ErrorCode.MALFORMED, "The body is not the one that the letter's head names; send both again.")
    _require_limits(letter, command, context)
    missing = view.unregistered(letter.readers)
    if missing:
        raise Refused(
            ErrorCode.NOT_FOUND, f"Nothing was sent: not registered here: {_shown(missing)}. Check the recipients."
        )
    _require_wanted(letter, view)
    _require_current(letter, view)
    _require_attachments(letter, view)
    to_sign = signing.take(command.to_sign, letter, view, context) if command.to_sign else None
    effect = StoreLetter(letter, command.body, context.now, to_sign)
    return Decision(effect, lambda outcome: _result(letter, outcome, context))


def _read(command: Send) -> SealedObject:
    try:
        return sealed.read(sealed.LETTER if command.to_sign is None else sealed.SIGN_FOR, command.head)
    except LimitExceeded as error:
        raise Refused(ErrorCode.TOO_LARGE, f"The letter's head passes a limit: {error}.") from error
    except Malformed as error:
        raise Refused(ErrorCode.MALFORMED, f"The letter's head cannot be read: {error}.") from error


def _require_limits(letter: SealedObject, command: Send, context: Context) -> None:
    if len(letter.recipients) > context.limits.recipients:
        raise Refused(
            ErrorCode.TOO_LARGE,
            f"{len(letter.recipients)} recipients, over the limit of {context.limits.recipients}; send several.",
        )
    if len(command.body) > context.limits.body_bytes + SEALING_BYTES:
        raise Refused(
            ErrorCode.TOO_LARGE,
            f"A body of {len(command.body)} bytes, over the limit of {context.limits.body_bytes}; send less.",
        )


def _require_wanted(letter: SealedObject, view: ReadView) -> None:
    refusing = view.refusing(letter.recipients, letter.routing.author)
    # A letter that was accepted before its reader began to block is the same letter when it is sent again.
    if refusing and view.status(letter.routing.author, letter.routing.letter) is None:
        raise Refused(
            ErrorCode.NOT_ALLOWED,
            f"Nothing was sent: no letter of yours can go to {_shown(refusing)}. To write to others, leave them out.",
        )


def _require_current(letter: SealedObject, view: ReadView) -> None:
    author = letter.routing.author
    renewed = view.superseded(sorted({author, *letter.recipients}))
    # A letter that was accepted before the renewal is the same letter when it is sent again.
    if renewed and view.status(author, letter.routing.letter) is None:
        raise renewals.refused(author, renewed)


def _require_attachments(letter: SealedObject, view: ReadView) -> None:
    routing = letter.routing
    if not routing.attachments:
        return
    missing = view.incomplete(routing.author, routing.letter, routing.attachments)
    # A letter that was accepted is the same letter when it is sent again, whatever was removed since.
    if missing and view.status(routing.author, routing.letter) is None:
        raise Refused(
            ErrorCode.NOT_FOUND,
            f"Nothing was sent: {len(missing)} of {len(routing.attachments)} attachments are not all here. Upload what "
            "is missing, then send the letter again.",
        )


def _shown(users: Sequence[UserId]) -> str:
    # Ids, not names: the repository tells nobody more than they asked with.
    return ", ".join(user.hex() for user in users[:3]) + (", …" if len(users) > 3 else "")


def _result(letter: SealedObject, outcome: Outcome, context: Context) -> SendResult:
    if not outcome.entries:
        raise StorageError("a letter was stored without its entries")
    accepted = outcome.entries[0].entry.time
    return SendResult(letter.routing.letter, accepted, context.sign_placement(outcome.entries))
