"""send: SEND. Looks every recipient up and verifies them now; the card signs; sealed once; kept until accepted.

Attachments are uploaded first, so that the letter is signed when it is sent, and can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from client import identity, mailbox, naming, renewals, session, uploads
from client.context import Context
from client.errors import CheckFailed, LocalState, TooLarge, Unreachable, Usage
from client.identity import VerifiedPerson
from client.naming import letter_name
from client.state import letters as kept
from client.state.letters import SentLetter
from client.state.session import LiveSession
from crypto_core import commands, ids, letter, sealed
from crypto_core.commands import SendResult
from crypto_core.documents import MailboxPosition, Party
from crypto_core.errors import ProtocolError
from crypto_core.ids import Digest, UserId
from crypto_core.keys import SealingPublicKey
from crypto_core.mailbox import Entry, EntryKind, EntryRouting
from crypto_core.moments import to_datetime
from crypto_core.sealed import SealedObject
from pki.signers import CardKeyUse

TEXT = letter.SUBJECT_MEDIA_TYPE
BYTES = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a letter was sealed for, as their certificate says."""

    user: UserId
    name: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A letter that the repository accepted. `number` is its entry in the sender's own mailbox."""

    letter_id: str
    name: str
    to: tuple[Recipient, ...]
    accepted_at: datetime
    number: int
    signed_with_signature_key: bool
    attachments: int = 0


def send(
    context: Context,
    to: Sequence[str],
    body: bytes,
    subject: str = "",
    attachments: Sequence[Path] = (),
    *,
    references: Sequence[Digest] = (),
) -> Sent:
    """Sends `body` (bytes; text when it is UTF-8) and files to people, by id or confirmed name.

    `references`: the digests of the letter documents that it answers, the answered one last. Interrupted before its
    end, the same call goes on with the attachments where it was. Raises NotFound, Ambiguous, TooLarge before anything
    is signed; Unreachable when it is kept but not accepted yet.
    """
    if not to:
        raise Usage("A letter needs a recipient.", action="Name one: smr send --to WHO.")
    users = {naming.find_person(context.people, each) for each in to}
    live = session.require(context)
    me, own = mailbox.require_login(live), live.own
    if own is None:
        raise LocalState("The kept session is not of this version.", action="Close it: smr session close.")
    _require_limits(live, users, body)
    people = [_reader(context, live, user, me) for user in sorted(users)]
    with uploads.uploaded(context, live, attachments) as beside:
        draft = letter.draft(
            live.repository,
            beside.letter,
            Party(me, own.document),
            users,
            context.now(),
            subject,
            body,
            _media(body),
            beside.attachments,
            references,
        )
        sent = _sign_and_send(context, live, draft, people)
        beside.end()
    return _sent(context, live, sent, people, own.signs_with_signature_key, len(attachments))


def _sign_and_send(
    context: Context, live: LiveSession, draft: letter.Draft, people: Sequence[VerifiedPerson]
) -> SentLetter:
    me, own, own_key = mailbox.require_login(live), live.own, live.own_sealing_key()
    if own is None or own_key is None:
        raise LocalState("The kept session is not of this version.", action="Close it: smr session close.")
    use = CardKeyUse.SIGNATURE if own.signs_with_signature_key else CardKeyUse.AUTHENTICATION
    with context.own_card(live) as card:
        signed = card.sign(draft.document, use)
        evidence = identity.evidence_about(context, card, signs_with_signature_key=own.signs_with_signature_key)
    readers: dict[UserId, SealingPublicKey] = {person.user: person.sealing for person in people}
    readers[me] = own_key
    readers = {user: key for user, key in readers.items() if user == me or user in draft.letter.to}
    parts = letter.seal(draft, signed.signature, readers, evidence)
    command = commands.Send(parts.head, parts.body)
    floor = mailbox.own_mailbox(context, live).floor()
    try:
        return context.call_kept(
            live, command, me, draft.letter.id, lambda result: accepted(context, live, command, result, floor)
        )
    except Unreachable as error:
        raise Unreachable(
            error.what,
            f"The letter {letter_name(draft.letter.id)} is signed, sealed and kept here.",
            "Do not write it again: the next command sends it again, as soon as the repository answers.",
        ) from error


def _reader(context: Context, live: LiveSession, user: UserId, me: UserId) -> VerifiedPerson:
    """Somebody to write to: whose card was not renewed since."""
    return identity.look_up(context, live, user) if user == me else renewals.require_current(context, live, user)


def accepted(
    context: Context, live: LiveSession, command: commands.Send, result: SendResult, floor: int = 0
) -> SentLetter:
    """Checks an acceptance and keeps it. `floor`: the highest entry known when it was first sent, 0 for a repeat.

    Raises CheckFailed, MailboxAlarm.

    The first head is the sender's own: it must pin exactly this letter. The others pin it in each recipient's mailbox,
    and are what a receipt is compared with later.
    """
    own = mailbox.own_mailbox(context, live)
    stored = sealed.read(sealed.LETTER, command.head)
    recipients = stored.recipients
    if result.letter != stored.routing.letter or len(result.heads) != len(recipients) + 1:
        raise _wrong("it is for another letter, or not for all recipients")
    try:
        first, *others = [
            own.head_of(data, owner) for data, owner in zip(result.heads, (own.owner, *recipients), strict=True)
        ]
    except ProtocolError as error:
        raise _wrong(str(error)) from error
    if any(head.number < 1 for head in (first, *others)):
        raise _wrong("it names no entry")
    for data, owner in zip(result.heads, (own.owner, *recipients), strict=True):
        if owner == own.owner:  # a letter to oneself has two places here
            own.connect(data, floor)
    _require_recorded(own, stored, first.number)
    positions = tuple(MailboxPosition(head.number, head.entry) for head in others)
    sent = SentLetter(stored.routing.letter, recipients, stored.object_hash, result.accepted, positions, result.heads)
    kept.save_sent(context.home, sent)
    return sent


def _require_recorded(own: mailbox.Mailbox, stored: SealedObject, number: int) -> None:
    """Raises CheckFailed unless entry `number` records exactly this sealed letter as sent."""
    chain = own.chain()
    routing = EntryRouting(stored.routing.letter, stored.routing.author, stored.recipients)
    link = chain.links[number - 1]
    entry = Entry(number, ids.Milliseconds(link.time), EntryKind.SENT, routing, stored.object_hash)
    if entry.hash(chain.repository, chain.mailbox, chain.hash_at(number - 1)) != link.hash:
        raise _wrong(f"entry {number} of your mailbox records something else")


def _sent(
    context: Context,
    live: LiveSession,
    sent: SentLetter,
    people: Sequence[VerifiedPerson],
    with_signature_key: bool,
    attachments: int,
) -> Sent:
    own = mailbox.own_mailbox(context, live)
    names = naming.short_names(own.chain().links)
    by_user = {person.user: person.name for person in people}
    return Sent(
        letter_id=letter_name(sent.letter),
        name=names.get((own.owner, sent.letter), letter_name(sent.letter)),
        to=tuple(Recipient(user, by_user[user]) for user in sent.to),
        accepted_at=to_datetime(sent.accepted),
        number=own.head_of(sent.heads[0], own.owner).number,
        signed_with_signature_key=with_signature_key,
        attachments=attachments,
    )


def _require_limits(live: LiveSession, users: set[UserId], body: bytes) -> None:
    if len(body) > live.body_limit:
        raise TooLarge(
            f"The letter has {len(body)} bytes; this repository takes {live.body_limit}.",
            "Nothing was signed or sent.",
            "Send less at once.",
        )
    if len(users) > live.recipient_limit:
        raise TooLarge(
            f"The letter has {len(users)} recipients; this repository takes {live.recipient_limit}.",
            "Nothing was signed or sent.",
            "Send it in several letters.",
        )


def _media(body: bytes) -> str:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return BYTES
    return TEXT


def _wrong(reason: str) -> CheckFailed:
    return CheckFailed(
        "The repository's acceptance of the letter is not valid.",
        f"It cannot be relied on that the letter was delivered: {reason}.",
        "Look at smr status, and tell the operator of the repository.",
    )
