"""receipt: RECEIPT. The reader's card signs that this very letter was opened; only its sender can open that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from client import identity, mailbox, naming, session
from client.commands import read
from client.context import Context
from client.errors import CheckFailed, LocalState, NotAllowed
from client.naming import letter_name
from client.state import letters as kept
from client.state.session import LiveSession
from crypto_core import commands, receipt, sealed
from crypto_core.commands import ErrorCode, ReceiptResult, RefusedByRepository
from crypto_core.documents import Party
from crypto_core.ids import LetterId, UserId
from crypto_core.mailbox import EntryKind
from crypto_core.moments import to_datetime
from pki.signers import CardKeyUse


@dataclass(frozen=True, slots=True)
class ReceiptSent:
    """A receipt that the repository has. `accepted_at` is None when it had one before."""

    letter_id: str
    to: UserId
    accepted_at: datetime | None


def send_receipt(context: Context, text: str) -> ReceiptSent:
    """Confirms a letter that was opened on this installation before. Raises NotAllowed for any other."""
    live = session.require(context)
    own = mailbox.own_mailbox(context, live)
    link = naming.find_letter(own, text, (EntryKind.RECEIVED,))
    noted = kept.load_opened(context.home, link.author, link.letter)
    if noted is None:
        raise NotAllowed(
            f"The letter {text} was not opened here.",
            "A receipt says that it was.",
            f"Read it first: smr read {text}.",
        )
    if noted.receipt_sent:
        return ReceiptSent(letter_name(link.letter), link.author, None)
    opened = read.fetch(context, live, own, link)
    if opened.head.signed.digest != noted.document:
        raise CheckFailed(
            "The repository shows another letter now than the one that was opened.", "Nothing was signed."
        )
    return _send(context, live, opened)


def _send(context: Context, live: LiveSession, opened: read.Opened) -> ReceiptSent:
    me, own, own_key = mailbox.require_login(live), live.own, live.own_sealing_key()
    if own is None or own_key is None:
        raise LocalState("The kept session is not of this version.", action="Close it: smr session close.")
    sender = opened.head.letter.from_.user
    readers = {sender: identity.look_up(context, live, sender).sealing, me: own_key}
    document = receipt.draft(opened.head, Party(me, own.document), opened.position, context.now())
    use = CardKeyUse.SIGNATURE if own.signs_with_signature_key else CardKeyUse.AUTHENTICATION
    with context.own_card(live) as card:
        signed = card.sign(document, use)
        evidence = identity.evidence_about(context, card, signs_with_signature_key=own.signs_with_signature_key)
    command = commands.Receipt(receipt.seal(document, signed.signature, live.repository, readers, evidence))
    floor = mailbox.own_mailbox(context, live).floor()
    letter_id = opened.head.letter.id
    try:
        result = context.call_kept(
            live, command, me, letter_id, lambda found: accepted(context, live, command, found, floor)
        )
    except RefusedByRepository as error:
        if error.code is not ErrorCode.CONFLICT:
            raise
        # It has another receipt of ours for this letter, from an installation whose state is not here.
        _mark(context, sender, letter_id)
        return ReceiptSent(letter_name(letter_id), sender, None)
    return ReceiptSent(letter_name(letter_id), sender, to_datetime(result.accepted))


def accepted(
    context: Context, live: LiveSession, command: commands.Receipt, result: ReceiptResult, floor: int = 0
) -> ReceiptResult:
    """Checks the acceptance of a receipt and notes it. Raises MailboxAlarm."""
    own = mailbox.own_mailbox(context, live)
    stored = sealed.read(sealed.RECEIPT, command.receipt)
    own.connect_placement(result.placement, (own.owner,), floor)
    _mark(context, stored.recipients[0], stored.routing.letter)
    return result


def _mark(context: Context, author: UserId, letter: LetterId) -> None:
    noted = kept.load_opened(context.home, author, letter)
    if noted is not None:
        kept.save_opened(context.home, replace(noted, receipt_sent=True))
