"""history: what became of a letter, as a timeline of events named as in ETSI EN 319 522-1 (section 6).

Of an own letter every event was verified now, as `status` verifies it; of a received one the entries of the own mailbox
tell, whose chain the repository signed. Times are the repository's; what a card signed says so.

    SubmissionAcceptance        A.1  the repository took the letter
    SubmissionRejection         A.2  … or did not, and said why in a signed reply
    NotificationForAcceptance   C.1  a recipient was asked for a signature
    ConsignmentAcceptance       C.3  … and signed
    ConsignmentRejection        C.4  … and refused
    AcceptanceRejectionExpiry   C.5  … and did neither in time
    ContentConsignment          D.1  the letter lay in the recipient's mailbox, and could be opened
    ContentHandover             E.1  the recipient opened it, and signed a receipt

Consignment cannot fail after submission was accepted: a letter comes into all of its mailboxes at once, or into none.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from client import mailbox, naming, session
from client.commands import status
from client.commands.status import ChoiceStatus, LetterStatus, ReceiptStatus, Signing, Verdict
from client.context import Context
from client.errors import NotFound
from client.mailbox import Mailbox
from client.naming import letter_name
from client.state import letters
from client.state.chain import Link
from client.state.letters import RefusedLetter
from crypto_core import commands
from crypto_core.ids import UserId
from crypto_core.mailbox import EntryKind
from crypto_core.moments import to_datetime


class Event(enum.Enum):
    """ETSI EN 319 522-1, section 6."""

    SUBMISSION_ACCEPTANCE = "SubmissionAcceptance"
    SUBMISSION_REJECTION = "SubmissionRejection"
    NOTIFICATION_FOR_ACCEPTANCE = "NotificationForAcceptance"
    CONSIGNMENT_ACCEPTANCE = "ConsignmentAcceptance"
    CONSIGNMENT_REJECTION = "ConsignmentRejection"
    ACCEPTANCE_REJECTION_EXPIRY = "AcceptanceRejectionExpiry"
    CONTENT_CONSIGNMENT = "ContentConsignment"
    CONTENT_HANDOVER = "ContentHandover"


class By(enum.Enum):
    """Who stands for an event."""

    REPOSITORY = "repository"  #: its signed heads pin the entry
    CARD = "card"  #: a document that the person's card signed


@dataclass(frozen=True, slots=True)
class Moment:
    """One event. `good` is false where something claims it and fails a check: `detail` says which."""

    event: Event
    at: datetime
    who: UserId
    who_name: str
    by: By
    good: bool
    detail: str


@dataclass(frozen=True, slots=True)
class LetterHistory:
    """The events of a letter in their order. `waiting`: who can still sign, until `expires_at`."""

    letter_id: str
    mine: bool
    subject: str  #: of an own letter
    moments: tuple[Moment, ...]
    waiting: tuple[UserId, ...] = ()
    expires_at: datetime | None = None
    deleted_at: datetime | None = None  #: when the citizen deleted it; no event of the delivery


def history(context: Context, text: str) -> LetterHistory:
    """The timeline of a letter that was sent, received or refused. Raises NotFound, and what `status` raises."""
    live = session.require(context)
    own = mailbox.own_mailbox(context, live)
    try:
        link = naming.find_letter(own, text)
    except NotFound:
        refused = [each for each in letters.all_refused(context.home) if naming.is_called(each.letter, text)]
        if len(refused) != 1:
            raise
        return _rejected(own, refused[0])
    if link.author == own.owner:
        found = _sent(own, status.status(context, f"{letter_name(link.letter)}@{link.author.hex()}"))
    else:
        found = _received(own, link)
    gone = own.chain().deleted(link.author, link.letter)
    return replace(found, deleted_at=to_datetime(gone)) if gone is not None else found


# ---------------------------------------------------------------------------------------------------------- own letters

_CHOSEN: Final = {
    Signing.ACCEPTED: Event.CONSIGNMENT_ACCEPTANCE,
    Signing.REFUSED: Event.CONSIGNMENT_REJECTION,
    Signing.EXPIRED: Event.ACCEPTANCE_REJECTION_EXPIRY,
}


def _sent(own: Mailbox, found: LetterStatus) -> LetterHistory:
    detail = f"entry {found.number} of your mailbox, {found.entry.hex()}"
    first = Moment(
        Event.SUBMISSION_ACCEPTANCE, found.accepted_at, own.owner, "", By.REPOSITORY, good=True, detail=detail
    )
    moments = [first, *_delivered(found)]
    for choice in found.choices:
        moments += _chosen(choice)
    moments += [each for receipt in found.receipts for each in _read(receipt)]
    moments.sort(key=lambda each: each.at)
    waiting = tuple(each.reader for each in found.choices if each.verdict is Signing.WAITING)
    return LetterHistory(
        found.letter_id, True, found.subject, tuple(moments), waiting, found.expires_at if waiting else None
    )


def _delivered(found: LetterStatus) -> Iterator[Moment]:
    """Each recipient's mailbox has the letter, as the acceptance pins it."""
    event = Event.CONTENT_CONSIGNMENT if found.expires_at is None else Event.NOTIFICATION_FOR_ACCEPTANCE
    for each in found.receipts:
        detail = f"entry {each.delivered_as} of their mailbox"
        yield Moment(event, found.accepted_at, each.reader, each.reader_name, By.REPOSITORY, good=True, detail=detail)


def _chosen(found: ChoiceStatus) -> Iterator[Moment]:
    at = found.recorded_at
    if at is None:
        return
    if found.verdict is Signing.FAILED:
        reasons = "; ".join(f"{each.name}: {each.reason}" for each in found.checks if not each.passed)
        event = Event.CONSIGNMENT_ACCEPTANCE
        yield Moment(event, at, found.reader, found.reader_name, By.CARD, good=False, detail=reasons)
        return
    by = By.REPOSITORY if found.verdict is Signing.EXPIRED else By.CARD
    yield Moment(_CHOSEN[found.verdict], at, found.reader, found.reader_name, by, good=True, detail=found.reason)
    if found.verdict is Signing.ACCEPTED:
        event = Event.CONTENT_CONSIGNMENT
        yield Moment(event, at, found.reader, found.reader_name, By.REPOSITORY, good=True, detail="")


def _read(found: ReceiptStatus) -> Iterator[Moment]:
    if found.accepted_at is None:
        return
    good = found.verdict is Verdict.VERIFIED
    reasons = "; ".join(f"{each.name}: {each.reason}" for each in found.checks if not each.passed)
    event = Event.CONTENT_HANDOVER
    yield Moment(event, found.accepted_at, found.reader, found.reader_name, By.CARD, good=good, detail=reasons)


def _rejected(own: Mailbox, refused: RefusedLetter) -> LetterHistory:
    """A letter that never came into any mailbox: the reply said so, and was verified then."""
    detail = f"{refused.code.value}: {refused.message}"
    at = to_datetime(refused.refused)
    event = Moment(Event.SUBMISSION_REJECTION, at, own.owner, "", By.REPOSITORY, good=True, detail=detail)
    return LetterHistory(letter_name(refused.letter), True, "", (event,))


# ----------------------------------------------------------------------------------------------------- received letters

_OWN: Final = {
    EntryKind.ACCEPTANCE_SENT: (Event.CONSIGNMENT_ACCEPTANCE, By.CARD),
    EntryKind.REFUSAL_SENT: (Event.CONSIGNMENT_REJECTION, By.CARD),
    EntryKind.EXPIRY: (Event.ACCEPTANCE_REJECTION_EXPIRY, By.REPOSITORY),
    EntryKind.RECEIPT_SENT: (Event.CONTENT_HANDOVER, By.CARD),
}


def _received(own: Mailbox, link: Link) -> LetterHistory:
    moments: list[Moment] = []
    slip = False
    for number, each in enumerate(own.synchronise().links, 1):
        if each.letter != link.letter:
            continue
        detail = f"entry {number} of your mailbox, {each.hash.hex()}"
        if each.kind is EntryKind.RECEIVED and each.author == link.author:
            slip = _asks(own, number)
        for event, by in _of(own, link, each, slip=slip):
            moments.append(Moment(event, to_datetime(each.time), own.owner, "", by, good=True, detail=detail))
    return LetterHistory(letter_name(link.letter), False, "", tuple(moments))


def _asks(own: Mailbox, number: int) -> bool:
    """Whether the letter at this entry opens against a signature; nothing is marked."""
    (box, *_) = own.box(commands.All(after=number - 1, heads=True)).entries
    return box.entry.number == number and box.slip is not None


def _of(own: Mailbox, letter: Link, entry: Link, *, slip: bool) -> Iterator[tuple[Event, By]]:
    """What an entry of the own mailbox says about a letter that was received."""
    if entry.kind is EntryKind.RECEIVED and entry.author == letter.author:
        yield Event.NOTIFICATION_FOR_ACCEPTANCE if slip else Event.CONTENT_CONSIGNMENT, By.REPOSITORY
    elif entry.author == own.owner and entry.kind in _OWN:
        yield _OWN[entry.kind]
        if entry.kind is EntryKind.ACCEPTANCE_SENT:
            yield Event.CONTENT_CONSIGNMENT, By.REPOSITORY
