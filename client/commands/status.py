"""status: STATUS. The own copy and every receipt, each opened and judged; what has none is "not confirmed"."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from client import mailbox, naming, opening, session
from client.context import Context
from client.errors import Check, CheckFailed
from client.identity import Registry, VerifiedPerson
from client.mailbox import Mailbox
from client.naming import letter_name
from client.opening import JudgedHead, Judgement
from client.state import letters as kept
from client.state.chain import Link
from client.state.session import LiveSession
from crypto_core import choice, commands, documents, receipt, sealed
from crypto_core.choice import Choice, Reason
from crypto_core.commands import BoxEntry, StatusResult
from crypto_core.documents import Acceptance, MailboxPosition, Refusal, SignedDocument, Slip
from crypto_core.errors import BindingMismatch, Malformed, ProtocolError
from crypto_core.evidence import Evidence
from crypto_core.ids import Digest, UserId
from crypto_core.letter import OpenedHead
from crypto_core.mailbox import EntryKind
from crypto_core.moments import to_datetime
from crypto_core.receipt import OpenedReceipt

#: What the sender's mailbox records of each choice.
_CHOICES: Final = {
    EntryKind.ACCEPTANCE: Choice.ACCEPTED,
    EntryKind.REFUSAL: Choice.REFUSED,
    EntryKind.EXPIRY: Choice.EXPIRED,
}
_NOT_A_CHOICE = "It does not prove that the letter was accepted or refused. Do not rely on it."
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


class Signing(enum.Enum):
    """What can be said of one recipient who has to sign for a letter before it opens."""

    ACCEPTED = "accepted"  #: signed for: the acceptance is verified
    REFUSED = "refused"  #: the refusal is verified
    EXPIRED = "expired"  #: neither in time, as the repository records
    WAITING = "waiting"  #: nothing yet
    FAILED = "failed"  #: something that claims to be one of these and is not


@dataclass(frozen=True, slots=True)
class OpenedChoice:
    """An acceptance or a refusal about the right letter, with its reason where it gives one that could be opened."""

    document: Acceptance | Refusal
    signed: SignedDocument
    evidence: Evidence | None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class ChoiceStatus:
    """What one recipient chose. `signed_at` is the time in a verified document, `recorded_at` the repository's."""

    reader: UserId
    reader_name: str
    verdict: Signing
    signed_at: datetime | None
    recorded_at: datetime | None
    reason: str
    checks: tuple[Check, ...]
    opened: OpenedChoice | None = None  #: of a verified acceptance or refusal


@dataclass(frozen=True, slots=True)
class LetterStatus:
    """An own letter, every check of the copy passed. `choices` and `expires_at`: where it has to be signed for."""

    letter_id: str
    subject: str
    to: tuple[UserId, ...]
    sent_at: datetime
    accepted_at: datetime
    number: int
    checks: tuple[Check, ...]
    receipts: tuple[ReceiptStatus, ...]
    entry: Digest  #: the hash of the entry, which the repository signed
    expires_at: datetime | None = None
    choices: tuple[ChoiceStatus, ...] = ()


def status(context: Context, text: str) -> LetterStatus:
    """What became of an own letter. Raises NotFound for others', CheckFailed when the own copy is not good."""
    live = session.require(context)
    own = mailbox.own_mailbox(context, live)
    link = naming.find_letter(own, text, (EntryKind.SENT,))
    known = own.synchronise()
    result = _ask(context, live, own, link)
    own.require_all(
        result.receipts, known.number, lambda each: each.kind is EntryKind.RECEIPT and each.letter == link.letter
    )
    own.require_all(result.choices, known.number, lambda each: _is_choice(own, each) and each.letter == link.letter)
    registry = Registry(context, live)
    with context.settings.waiting("the revocation lists"):
        judged = opening.judge_head(context, live, registry, result.letter)
        head, _ = judged.require()
        delivered = _delivered(context, own, head, result)
        receipts = _receipts(context, live, registry, head, delivered, result.receipts)
        chosen = _choices(context, live, registry, judged, delivered, result.choices)
    return LetterStatus(
        letter_id=letter_name(link.letter),
        subject=head.subject,
        to=head.letter.to,
        sent_at=to_datetime(head.letter.time),
        accepted_at=to_datetime(result.letter.entry.time),
        number=result.letter.entry.number,
        checks=judged.checks,
        receipts=receipts,
        entry=own.chain().hash_at(result.letter.entry.number),
        expires_at=to_datetime(judged.slip.expires) if judged.slip else None,
        choices=chosen,
    )


def own_copy(context: Context, live: LiveSession, own: Mailbox, link: Link) -> JudgedHead:
    """The head of an own letter, which its author can open also when the copy was deleted."""
    result = _ask(context, live, own, link)
    with context.settings.waiting("the revocation lists"):
        return opening.judge_head(context, live, Registry(context, live), result.letter)


def _ask(context: Context, live: LiveSession, own: Mailbox, link: Link) -> StatusResult:
    """STATUS of an own letter, everything in it as it was recorded. Raises CheckFailed, MailboxAlarm."""
    result: StatusResult = context.call(live, commands.Status(link.letter))
    routing = result.letter.entry.routing
    if result.letter.entry.kind is not EntryKind.SENT or (routing.author, routing.letter) != (own.owner, link.letter):
        raise CheckFailed("The repository answered about another letter than the one asked for.", "It was not used.")
    own.require([result.letter, *result.receipts, *result.choices])
    return result


def _is_choice(own: Mailbox, link: Link) -> bool:
    """Whether an entry records what somebody chose about a letter of the citizen's own."""
    return link.kind in _CHOICES and link.author != own.owner


def _delivered(context: Context, own: Mailbox, head: OpenedHead, result: StatusResult) -> dict[UserId, MailboxPosition]:
    """Where the letter lies in each recipient's mailbox, as the acceptance pinned it: what was kept here counts."""
    shown = _positions(own, head.letter.to, result.placement)
    noted = kept.load_sent(context.home, head.letter.id)
    if noted is not None and dict(zip(noted.to, noted.positions, strict=True)) != shown:
        raise CheckFailed(
            "The repository shows another acceptance of this letter than the one that it signed when it took it.",
            "A mailbox of a recipient was changed afterwards.",
            "Do not rely on the receipts; tell the recipients and the operator.",
        )
    return shown


def _positions(own: Mailbox, to: Sequence[UserId], placement: bytes) -> dict[UserId, MailboxPosition]:
    try:
        _, *others = own.places_of(placement, (own.owner, *to))
    except BindingMismatch as error:
        raise CheckFailed("The repository's acceptance is not for all recipients.", "It was not used.") from error
    except ProtocolError as error:
        raise CheckFailed("The repository's acceptance is not signed as it should be.", f"{error}.") from error
    return {place.mailbox: MailboxPosition(place.number, place.entry) for place in others}


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


# ------------------------------------------------------------------------------ letters that open against a signature


def _choices(
    context: Context,
    live: LiveSession,
    registry: Registry,
    judged: JudgedHead,
    delivered: dict[UserId, MailboxPosition],
    boxes: Sequence[BoxEntry],
) -> tuple[ChoiceStatus, ...]:
    slip, asked = judged.slip, judged.asked
    if slip is None or asked is None:
        return ()
    found = [_judge_choice(context, live, registry, slip, asked.digest, delivered, box) for box in boxes]
    chosen = {each.reader for each in found}
    waiting = [
        ChoiceStatus(user, _name(context, user), Signing.WAITING, None, None, "", ())
        for user in slip.recipients
        if user not in chosen
    ]
    return (*found, *waiting)


def _judge_choice(
    context: Context,
    live: LiveSession,
    registry: Registry,
    slip: Slip,
    digest: Digest,
    delivered: dict[UserId, MailboxPosition],
    box: BoxEntry,
) -> ChoiceStatus:
    judgement = Judgement()
    user, recorded = box.entry.routing.author, to_datetime(box.entry.time)
    read = judgement.attempt(
        "choice",
        "about exactly this letter and slip",
        _NOT_A_CHOICE,
        lambda: _read_choice(live, slip, digest, delivered, box),
    )
    reader: VerifiedPerson | None = None
    opened = read.opened if read is not None else None
    if opened is not None:
        document, signed = opened.document, opened.signed
        reader = opening.judge_signer(
            context, registry, judgement, document.reader, signed, document.time, box.entry.time, opened.evidence
        )
    good = judgement.good and read is not None
    return ChoiceStatus(
        reader=user,
        reader_name=reader.name if reader else _name(context, user),
        verdict=Signing(read.choice.value) if good and read else Signing.FAILED,
        signed_at=to_datetime(opened.document.time) if good and opened else None,
        recorded_at=recorded,
        reason=opened.reason.text if good and opened and opened.reason else "",
        checks=tuple(judgement.checks),
        opened=opened if good else None,
    )


@dataclass(frozen=True, slots=True)
class _Read:
    """A choice that is about the right letter. An expiry has no document: it is the repository's word."""

    choice: Choice
    opened: OpenedChoice | None


def _read_choice(
    live: LiveSession, slip: Slip, digest: Digest, delivered: dict[UserId, MailboxPosition], box: BoxEntry
) -> _Read:
    shown, user = box.choice, box.entry.routing.author
    if shown is None or _CHOICES.get(box.entry.kind) is not shown.choice or user not in slip.recipients:
        raise Malformed("the entry holds no choice of a recipient, or another one than it records")
    if shown.choice is Choice.EXPIRED:
        if shown.slip != digest or box.entry.time < slip.expires:
            raise BindingMismatch("it ended before its time, or another slip did")
        return _Read(shown.choice, None)
    document: Acceptance | Refusal
    reason: Reason | None = None
    if shown.choice is Choice.ACCEPTED:
        document = choice.read_accepted(shown.signed, live.repository)
    else:
        document = documents.decode(Refusal, shown.signed.document, live.repository)
        if document.reason is not None and box.view is not None:
            me = mailbox.require_login(live)
            reason = choice.open_reason(box.view, shown.signed, live.repository, me, live.sealing_keys())
    choice.require_about(document, slip, digest, user)
    if document.position != delivered.get(user):
        raise BindingMismatch("it is about the letter at another place than where the repository said it lies")
    return _Read(shown.choice, OpenedChoice(document, shown.signed, shown.evidence, reason))


def _name(context: Context, user: UserId) -> str:
    known = context.people.all().get(user)
    return known.name if known else ""
