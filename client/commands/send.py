"""send: SEND. Looks every recipient up and verifies them now; the card signs; sealed once; kept until accepted.

Attachments are uploaded first, so that the letter is signed when it is sent, and can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from client import identity, mailbox, naming, renewals, session, uploads
from client.context import Context
from client.errors import CheckFailed, LetterKept, LocalState, Stopped, TooLarge, Unreachable, Usage, refusal
from client.identity import VerifiedPerson
from client.naming import letter_name
from client.state import letters as kept
from client.state.letters import SentLetter
from client.state.session import LiveSession, OwnRegistration
from crypto_core import commands, ids, letter, limits, sealed, sign_for
from crypto_core.commands import RefusedByRepository, SendResult
from crypto_core.documents import MailboxPosition, Party
from crypto_core.errors import BindingMismatch, ProtocolError
from crypto_core.ids import Digest, Milliseconds, UserId
from crypto_core.keys import SealingPublicKey
from crypto_core.letter import Draft
from crypto_core.mailbox import Entry, EntryKind, EntryRouting
from crypto_core.moments import to_datetime
from crypto_core.sealed import SealedObject
from crypto_core.sign_for import SignedSlip
from pki.signers import CardKeyUse

TEXT = letter.SUBJECT_MEDIA_TYPE
BYTES = "application/octet-stream"
#: How long a letter waits for a signature unless its sender says otherwise, and at most; days.
SIGN_FOR_DAYS: Final = 30
SIGN_FOR_DAYS_MAX: Final = limits.SIGN_FOR_MS // limits.DAY_MS


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
    expires_at: datetime | None = None  #: where its recipients have to sign for it


def send(
    context: Context,
    to: Sequence[str],
    body: bytes,
    subject: str = "",
    attachments: Sequence[Path] = (),
    *,
    references: Sequence[Digest] = (),
    sign_for_days: int | None = None,
) -> Sent:
    """Sends `body` (bytes; text when it is UTF-8) and files to people, by id or confirmed name.

    `references`: the digests of the letter documents that it answers, the answered one last. With `sign_for_days` it
    opens for each recipient against a signature, within so many days. Interrupted before its end, the same call goes on
    with the attachments where it was. Raises NotFound, Ambiguous, TooLarge before anything is signed; LetterKept when
    it is kept but not accepted yet.
    """
    if not to:
        raise Usage("A letter needs a recipient.", action="Name one: smr send --to WHO.")
    users = {naming.find_person(context.people, each) for each in to}
    live = session.require(context)
    me, own = mailbox.require_login(live), live.own
    if own is None:
        raise LocalState("The kept session is not of this version.", action="Close it: smr session close.")
    _require_limits(live, users, body)
    _require_days(sign_for_days, users, me)
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
        sent = _sign_and_send(context, live, draft, people, sign_for_days)
        beside.end()
    found = _sent(context, live, sent, people, own.signs_with_signature_key, len(attachments))
    if sign_for_days is None:
        return found
    return replace(found, expires_at=to_datetime(draft.letter.time + sign_for_days * limits.DAY_MS))


def _sign_and_send(
    context: Context,
    live: LiveSession,
    draft: Draft,
    people: Sequence[VerifiedPerson],
    sign_for_days: int | None,
) -> SentLetter:
    me, own, own_key = mailbox.require_login(live), live.own, live.own_sealing_key()
    if own is None or own_key is None:
        raise LocalState("The kept session is not of this version.", action="Close it: smr session close.")
    readers: dict[UserId, SealingPublicKey] = {person.user: person.sealing for person in people}
    readers[me] = own_key
    readers = {user: key for user, key in readers.items() if user == me or user in draft.letter.to}
    command = _seal(context, live, draft, readers, own, sign_for_days)
    floor = mailbox.own_mailbox(context, live).floor()
    try:
        return context.call_kept(
            live, command, me, draft.letter.id, lambda result: accepted(context, live, command, result, floor)
        )
    except RefusedByRepository as error:
        name = letter_name(draft.letter.id)
        raise refusal(error, f"The letter {name} was not sent; smr history {name[:8]} tells this again.") from error
    except (Unreachable, Stopped) as error:
        raise LetterKept(
            error.what,
            f"The letter {letter_name(draft.letter.id)} is signed, sealed and kept here.",
            "Do not write it again: the next command sends it again, as soon as the repository answers.",
        ) from error


def _seal(
    context: Context,
    live: LiveSession,
    draft: Draft,
    readers: dict[UserId, SealingPublicKey],
    own: OwnRegistration,
    sign_for_days: int | None,
) -> commands.Send:
    """The card signs the letter and, where the recipients have to sign for it, the slip; sealed once."""
    use = CardKeyUse.SIGNATURE if own.signs_with_signature_key else CardKeyUse.AUTHENTICATION
    with context.own_card(live) as card:
        signature = card.sign(draft.document, use).signature
        evidence = identity.evidence_about(context, card, signs_with_signature_key=own.signs_with_signature_key)
        if sign_for_days is None:
            parts = letter.seal(draft, signature, readers, evidence)
            return commands.Send(parts.head, parts.body)
        expires = Milliseconds(draft.letter.time + sign_for_days * limits.DAY_MS)
        prepared = sign_for.seal(draft, signature, readers, expires, evidence)
        slip = SignedSlip(prepared.slip, card.sign(prepared.slip, use).signature, evidence)
    to_sign = commands.ToSign(slip, prepared.shares)
    return commands.Send(prepared.letter.head, prepared.letter.body, to_sign)


def _reader(context: Context, live: LiveSession, user: UserId, me: UserId) -> VerifiedPerson:
    """Somebody to write to: whose card was not renewed since."""
    return identity.look_up(context, live, user) if user == me else renewals.require_current(context, live, user)


def accepted(
    context: Context, live: LiveSession, command: commands.Send, result: SendResult, floor: int = 0
) -> SentLetter:
    """Checks an acceptance and keeps it. `floor`: the highest entry known when it was first sent, 0 for a repeat.

    Raises CheckFailed, MailboxAlarm.

    The first place is in the sender's own mailbox, whose entry must record exactly this letter. The others are in each
    recipient's, and are what a receipt is compared with later.
    """
    own = mailbox.own_mailbox(context, live)
    stored = sealed.read(sealed.LETTER if command.to_sign is None else sealed.SIGN_FOR, command.head)
    recipients = stored.recipients
    owners = (own.owner, *recipients)
    if result.letter != stored.routing.letter:
        raise _wrong("it is for another letter")
    try:
        own.places_of(result.placement, owners)
    except BindingMismatch as error:
        raise _wrong("it is not for all recipients, or for others") from error
    except ProtocolError as error:
        raise _wrong(str(error)) from error
    first, *others = own.connect_placement(result.placement, owners, floor)
    recorded = stored.object_hash
    if command.to_sign is not None:
        recorded = sign_for.object_hash(recorded, command.to_sign.slip.digest)
    _require_recorded(own, stored, recorded, first.number)
    positions = tuple(MailboxPosition(place.number, place.entry) for place in others)
    sent = SentLetter(stored.routing.letter, recipients, recorded, result.accepted, positions, result.placement)
    kept.save_sent(context.home, sent)
    return sent


def _require_recorded(own: mailbox.Mailbox, stored: SealedObject, recorded: Digest, number: int) -> None:
    """Raises CheckFailed unless entry `number` records exactly this sealed letter as sent, with its slip, if any."""
    chain = own.chain()
    routing = EntryRouting(stored.routing.letter, stored.routing.author, stored.recipients)
    link = chain.links[number - 1]
    entry = Entry(number, ids.Milliseconds(link.time), EntryKind.SENT, routing, recorded)
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
        number=own.places_of(sent.placement, (own.owner, *sent.to))[0].number,
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


def _require_days(days: int | None, users: set[UserId], me: UserId) -> None:
    if days is None:
        return
    if not 1 <= days <= SIGN_FOR_DAYS_MAX:
        raise Usage(
            f"A letter can wait for a signature from 1 to {SIGN_FOR_DAYS_MAX} days, not {days}.",
            action="Give another number of days: --expires DAYS.",
        )
    if users == {me}:
        raise Usage("A letter to yourself waits for nobody's signature.", action="Send it without --sign-for.")


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
