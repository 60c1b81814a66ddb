"""read: RECV. Opens a letter and gives it out only if every check passed; saves its attachments where that is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from client import downloads, mailbox, naming, opening, session
from client.commands import choose, slip_proof
from client.commands.choose import SignatureRequest
from client.context import Context
from client.errors import Check, CheckFailed, MailboxAlarm, NotAllowed
from client.identity import Registry
from client.mailbox import Mailbox
from client.naming import letter_name
from client.opening import Judgement
from client.state import letters as kept
from client.state.chain import Link
from client.state.letters import OpenedLetter
from client.state.session import LiveSession
from crypto_core import commands, letter
from crypto_core.commands import RecvResult
from crypto_core.documents import MailboxPosition
from crypto_core.ids import Milliseconds, UserId
from crypto_core.letter import OpenedHead
from crypto_core.mailbox import Entry, EntryKind
from crypto_core.moments import to_datetime
from crypto_core.sign_for import SignedSlip


@dataclass(frozen=True, slots=True)
class AttachedFile:
    """An attachment as its author calls it (shown through `pki.display` only), and where it was saved, if it was."""

    name: str
    media_type: str
    size: int
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class ReadLetter:
    """A letter of which every check passed. `receipt_possible` is false for an own copy."""

    letter_id: str
    author: UserId
    author_name: str
    civil_number: str
    card_valid_until: datetime
    to: tuple[UserId, ...]
    to_names: tuple[str, ...]  #: as verified here before; empty for somebody never looked up
    owner: UserId  #: whose mailbox it is in
    mine: bool  #: an own copy
    subject: str
    media_type: str
    body: bytes
    claimed_at: datetime
    received_at: datetime
    number: int
    checks: tuple[Check, ...]
    receipt_possible: bool
    receipt_sent: bool
    attachments: tuple[AttachedFile, ...] = ()

    @property
    def full_name(self) -> str:
        """What names exactly this letter, wherever the library asks for one."""
        return naming.full_name(self.letter_id, self.author)


@dataclass(frozen=True, slots=True)
class Opened:
    """A letter that was fetched, opened and judged good, with what a receipt and an export need."""

    head: OpenedHead
    entry: Entry
    position: MailboxPosition
    shown: ReadLetter
    slip: SignedSlip | None = None  #: of a letter that opens against a signature


def read(
    context: Context,
    text: str,
    attachments: Path | None = None,
    sign: Callable[[SignatureRequest], bool] = lambda _: False,
) -> ReadLetter:
    """The letter that `text` names, its attachments saved in the folder `attachments`.

    Raises CheckFailed with all checks, and then nothing of it is given out. Interrupted while attachments are saved,
    the same call goes on where it was. Of a letter that opens against a signature, `sign` is asked once everything
    that can be known before is checked.
    """
    live = session.require(context)
    own = mailbox.own_mailbox(context, live)
    opened = fetch(context, live, own, naming.find_letter(own, text), sign)
    if attachments is None:
        return opened.shown
    head, saved = opened.head, []
    source = downloads.Source(head.letter.from_.user, head.letter.id)
    for shown, each in zip(opened.shown.attachments, head.attachments, strict=True):
        saved.append(replace(shown, path=downloads.save(context, live, source, each, attachments)))
    return replace(opened.shown, attachments=tuple(saved))


def fetch(
    context: Context,
    live: LiveSession,
    own: Mailbox,
    link: Link,
    sign: Callable[[SignatureRequest], bool] = lambda _: False,
) -> Opened:
    """Fetches, opens and judges one letter of the own mailbox, and notes that it was opened here.

    Raises NotFound for one that was deleted.
    """
    own.require_kept(link)
    result = _receive(context, live, own, link)
    if result.body is None:
        _sign_for(context, live, own, result, sign)
        result = _receive(context, live, own, link)
    return _open(context, live, own, link, result)


def _receive(context: Context, live: LiveSession, own: Mailbox, link: Link) -> RecvResult:
    result: RecvResult = context.call(live, commands.Recv(link.author, link.letter))
    box = result.entry
    found = (box.entry.routing.author, box.entry.routing.letter)
    if found != (link.author, link.letter) or box.entry.kind not in (EntryKind.RECEIVED, EntryKind.SENT):
        raise CheckFailed("The repository gave another letter than the one asked for.", "It was not opened.")
    _require_in_place(own, result)
    return result


def _sign_for(
    context: Context,
    live: LiveSession,
    own: Mailbox,
    result: RecvResult,
    sign: Callable[[SignatureRequest], bool],
) -> None:
    """Asks for the signature that a letter waits for, and gives it. Raises NotAllowed when it is not given."""
    with context.settings.waiting("the revocation lists"):
        judged = opening.judge_head(context, live, Registry(context, live), result.entry)
    choose.require_open(context, own, judged)
    if not sign(choose.request(judged)):
        raise NotAllowed(
            f"Letter {letter_name(result.entry.entry.routing.letter)} opens when you sign for it; you did not.",
            "The sender gets your signature before you can read it.",
            "Sign for it: smr read LETTER --accept. Or refuse it: smr refuse LETTER.",
        )
    choose.accept(context, live, own, judged)


def _open(context: Context, live: LiveSession, own: Mailbox, link: Link, result: RecvResult) -> Opened:
    box, sealed_body = result.entry, result.body
    if sealed_body is None:
        raise CheckFailed(
            "The repository has your signature for this letter and withholds the letter.",
            "It gave neither its text nor the share.",
            "Try again; if it goes on, ask the sender to send it in another way, and tell the operator.",
        )
    with context.settings.waiting("the revocation lists"):
        judged = opening.judge_head(context, live, Registry(context, live), box)
    judgement = Judgement()
    judgement.checks += judged.checks
    body = None
    if judged.opened is not None:
        head = judged.opened
        judgement.attempt(
            "content", "content as it was signed", opening.CHANGED, lambda: letter.open_body(head, sealed_body)
        )
        body = letter.open_body(head, sealed_body) if judgement.good else None
    if judged.slip is not None and judged.broken is not None:
        path = slip_proof.keep(context, Registry(context, live), judged.slip, judged.broken, own.owner)
        raise CheckFailed(
            "The sender had you sign for a letter that opens to nobody.",
            "Both parts of its key are those that the sender signed for, and they open nothing.",
            f"The proof of it is kept in {path}: show it to whoever relies on your signature.",
            checks=tuple(judgement.checks),
        )
    opening.require_passed("This letter is not what it seems.", tuple(judgement.checks))
    head, sender = judged.require()
    if body is None:
        raise CheckFailed("This letter was not opened.", opening.CHANGED)
    position = MailboxPosition(box.entry.number, own.chain().hash_at(box.entry.number))
    received = box.entry.kind is EntryKind.RECEIVED
    if received:
        _note(context, head, position)
    noted = kept.load_opened(context.home, link.author, link.letter)
    known = context.people.all()
    shown = ReadLetter(
        letter_id=letter_name(head.letter.id),
        author=sender.user,
        author_name=sender.name,
        civil_number=sender.civil_number,
        card_valid_until=sender.signing.not_valid_after_utc,
        to=head.letter.to,
        to_names=tuple(known[user].name if user in known else "" for user in head.letter.to),
        owner=own.owner,
        mine=sender.user == own.owner,
        subject=head.subject,
        media_type=head.letter.body.media_type,
        body=body,
        claimed_at=to_datetime(head.letter.time),
        received_at=to_datetime(box.entry.time),
        number=box.entry.number,
        checks=tuple(judgement.checks),
        receipt_possible=received and context.former is None,  # that card signs nothing any more
        receipt_sent=noted is not None and noted.receipt_sent,
        attachments=tuple(
            AttachedFile(each.secrets.name, each.part.media_type, each.part.size) for each in head.attachments
        ),
    )
    return Opened(head, box.entry, position, shown, judged.asked)


def _require_in_place(own: Mailbox, result: RecvResult) -> None:
    try:
        own.require([result.entry])
    except MailboxAlarm as alarm:
        failed = Check(
            "complete", passed=False, meaning="It is not the letter that the mailbox records.", reason=alarm.what
        )
        alarm.checks = (failed,)
        raise


def _note(context: Context, head: OpenedHead, position: MailboxPosition) -> None:
    now = Milliseconds(context.now())
    author = head.letter.from_.user
    kept.save_opened(
        context.home, OpenedLetter(head.letter.id, author, head.signed.digest, position, now, receipt_sent=False)
    )
