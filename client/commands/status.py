"""status: STATUS. The own copy and every receipt, each opened and judged; what has none is "not confirmed"."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from client import mailbox, naming, opening, session
from client.context import Context
from client.errors import Check, CheckFailed
from client.identity import Registry, VerifiedPerson
from client.mailbox import Mailbox
from client.naming import letter_name
from client.opening import Judgement
from client.state import letters as kept
from client.state.session import LiveSession
from crypto_core import commands, receipt, sealed
from crypto_core.commands import BoxEntry, StatusResult
from crypto_core.documents import MailboxPosition
from crypto_core.errors import BindingMismatch, Malformed, ProtocolError
from crypto_core.ids import UserId
from crypto_core.letter import OpenedHead
from crypto_core.mailbox import EntryKind
from crypto_core.moments import to_datetime
from crypto_core.receipt import OpenedReceipt

_NOT_A_RECEIPT = "It does not prove that the letter was read. Do not rely on it."


class Verdict(enum.Enum):
    """What can be said of one recipient."""

    VERIFIED = "verified"  #: a receipt of theirs for exactly this letter, every check passed
    FAILED = "failed"  #: something that claims to be a receipt and is not
    NOT_CONFIRMED = "not confirmed"  #: no receipt; it may have been read all the same


@dataclass(frozen=True, slots=True)
class ReceiptStatus:
    """One recipient. `read_at` is the time in a verified receipt."""

    reader: UserId
    reader_name: str
    verdict: Verdict
    read_at: datetime | None
    accepted_at: datetime | None
    delivered_as: int  #: the entry in the reader's mailbox that the repository signed
    checks: tuple[Check, ...]
    opened: OpenedReceipt | None = None  #: of a verified receipt


@dataclass(frozen=True, slots=True)
class LetterStatus:
    """An own letter, every check of the copy passed."""

    letter_id: str
    subject: str
    to: tuple[UserId, ...]
    sent_at: datetime
    accepted_at: datetime
    number: int
    checks: tuple[Check, ...]
    receipts: tuple[ReceiptStatus, ...]


def status(context: Context, text: str) -> LetterStatus:
    """What became of an own letter. Raises NotFound for others', CheckFailed when the own copy is not good."""
    live = session.require(context)
    own = mailbox.own_mailbox(context, live)
    link = naming.find_letter(own, text, (EntryKind.SENT,))
    known = own.synchronise()
    result: StatusResult = context.call(live, commands.Status(link.letter))
    routing = result.letter.entry.routing
    if result.letter.entry.kind is not EntryKind.SENT or (routing.author, routing.letter) != (own.owner, link.letter):
        raise CheckFailed("The repository answered about another letter than the one asked for.", "It was not used.")
    own.require([result.letter, *result.receipts])
    own.require_all(
        result.receipts, known.number, lambda each: each.kind is EntryKind.RECEIPT and each.letter == link.letter
    )
    registry = Registry(context, live)
    with context.settings.waiting("the revocation lists"):
        judged = opening.judge_head(context, live, registry, result.letter)
        head, _ = judged.require()
        delivered = _delivered(context, own, head, result)
        receipts = _receipts(context, live, registry, head, delivered, result.receipts)
    return LetterStatus(
        letter_id=letter_name(link.letter),
        subject=head.subject,
        to=head.letter.to,
        sent_at=to_datetime(head.letter.time),
        accepted_at=to_datetime(result.letter.entry.time),
        number=result.letter.entry.number,
        checks=judged.checks,
        receipts=receipts,
    )


def _delivered(context: Context, own: Mailbox, head: OpenedHead, result: StatusResult) -> dict[UserId, MailboxPosition]:
    """Where the letter lies in each recipient's mailbox, as the acceptance pinned it: what was kept here counts."""
    shown = _read_heads(own, head.letter.to, result.heads)
    noted = kept.load_sent(context.home, head.letter.id)
    if noted is not None and dict(zip(noted.to, noted.positions, strict=True)) != shown:
        raise CheckFailed(
            "The repository shows another acceptance of this letter than the one that it signed when it took it.",
            "A mailbox of a recipient was changed afterwards.",
            "Do not rely on the receipts; tell the recipients and the operator.",
        )
    return shown


def _read_heads(own: Mailbox, to: Sequence[UserId], heads: Sequence[bytes]) -> dict[UserId, MailboxPosition]:
    if len(heads) != len(to) + 1:
        raise CheckFailed("The repository's acceptance is not for all recipients.", "It was not used.")
    try:
        found = {user: own.head_of(data, user) for user, data in zip(to, heads[1:], strict=True)}
        return {user: MailboxPosition(head.number, head.entry) for user, head in found.items()}
    except ProtocolError as error:
        raise CheckFailed("The repository's acceptance is not signed as it should be.", f"{error}.") from error


def _receipts(
    context: Context,
    live: LiveSession,
    registry: Registry,
    head: OpenedHead,
    delivered: dict[UserId, MailboxPosition],
    boxes: Sequence[BoxEntry],
) -> tuple[ReceiptStatus, ...]:
    found = [_judge(context, live, registry, head, delivered, box) for box in boxes]
    confirmed = {each.reader for each in found}
    missing = [
        ReceiptStatus(user, _name(context, user), Verdict.NOT_CONFIRMED, None, None, delivered[user].number, ())
        for user in head.letter.to
        if user not in confirmed
    ]
    return (*found, *missing)


def _judge(
    context: Context,
    live: LiveSession,
    registry: Registry,
    head: OpenedHead,
    delivered: dict[UserId, MailboxPosition],
    box: BoxEntry,
) -> ReceiptStatus:
    judgement = Judgement()
    opened = judgement.attempt(
        "answers",
        "for exactly this letter",
        _NOT_A_RECEIPT,
        lambda: _open(live, head, delivered, box),
    )
    reader: VerifiedPerson | None = None
    if opened is not None:
        reader = opening.judge_signer(
            context,
            registry,
            judgement,
            opened.receipt.reader,
            opened.signed,
            opened.receipt.time,
            box.entry.time,
            opened.evidence,
        )
    user = box.entry.routing.author
    verified = judgement.good and opened is not None and reader is not None
    return ReceiptStatus(
        reader=user,
        reader_name=reader.name if reader else _name(context, user),
        verdict=Verdict.VERIFIED if verified else Verdict.FAILED,
        read_at=to_datetime(opened.receipt.time) if verified and opened else None,
        accepted_at=to_datetime(box.entry.time),
        delivered_as=delivered[user].number if user in delivered else 0,
        checks=tuple(judgement.checks),
        opened=opened if verified else None,
    )


def _open(
    live: LiveSession, head: OpenedHead, delivered: dict[UserId, MailboxPosition], box: BoxEntry
) -> OpenedReceipt:
    """The receipt in an entry, if it answers this letter and stands where the letter was delivered."""
    if box.view is None or box.entry.kind is not EntryKind.RECEIPT:
        raise Malformed("the entry holds no receipt")
    routing, entry = box.view.routing(sealed.RECEIPT), box.entry.routing
    if (routing.letter, routing.author) != (entry.letter, entry.author):
        raise BindingMismatch("the mailbox entry is of another receipt than the one that came with it")
    opened = receipt.open_receipt(box.view, live.repository, mailbox.require_login(live), live.sealing_keys())
    receipt.require_answers(opened, head)
    if opened.receipt.position != delivered.get(opened.receipt.reader.user):
        raise BindingMismatch("the reader saw the letter at another place than where the repository said it lies")
    return opened


def _name(context: Context, user: UserId) -> str:
    known = context.people.all().get(user)
    return known.name if known else ""
