"""ACCEPT and REFUSE: the reader's card signs, once, that a letter is taken or not; what stands then is kept.

Nothing is signed before `opening` has judged the slip and the reader's own share good: nobody signs for junk. The
signed command lies in the outbox before it is sent: who is interrupted after signing goes on with the same command.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from client import identity, mailbox, naming, opening, session
from client.context import Context
from client.errors import Check, CheckFailed, LocalState, NotAllowed
from client.identity import Registry
from client.mailbox import Mailbox
from client.naming import letter_name
from client.opening import JudgedHead
from client.state import letters as kept
from client.state.letters import SignedFor
from client.state.session import LiveSession, OwnRegistration
from crypto_core import choice as choices
from crypto_core import commands, documents
from crypto_core.choice import Choice
from crypto_core.commands import ChoiceResult, RecvResult
from crypto_core.documents import Acceptance, MailboxPosition, Party, Refusal, SignedDocument, Slip
from crypto_core.evidence import Evidence
from crypto_core.ids import Digest, LetterId, UserId
from crypto_core.keys import SealingPublicKey
from crypto_core.mailbox import EntryKind
from crypto_core.moments import to_datetime
from pki.signers import CardKeyUse

_ASK_AGAIN = "Ask its sender to send it again."
#: What the reader's mailbox records of each choice.
RECORDED = {
    Choice.ACCEPTED: EntryKind.ACCEPTANCE_SENT,
    Choice.REFUSED: EntryKind.REFUSAL_SENT,
    Choice.EXPIRED: EntryKind.EXPIRY,
}


@dataclass(frozen=True, slots=True)
class SignatureRequest:
    """Who asks for a signature for what: every check of it passed. The subject shows only when the letter opens."""

    letter_id: str
    author: UserId
    author_name: str
    civil_number: str
    card_valid_until: datetime
    to: tuple[UserId, ...]
    sent_at: datetime
    received_at: datetime
    expires_at: datetime
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal that the repository has, and that the sender gets."""

    letter_id: str
    to: UserId
    to_name: str
    refused_at: datetime
    reason: str


def request(judged: JudgedHead) -> SignatureRequest:
    """What a person is asked. Raises CheckFailed unless every check passed."""
    opening.require_passed("This letter asks for your signature, and is not what it seems.", judged.checks)
    slip, sender = judged.slip, judged.sender
    if slip is None or sender is None:
        raise CheckFailed("This letter was not fully checked.", opening.CHANGED, checks=judged.checks)
    return SignatureRequest(
        letter_id=letter_name(slip.letter),
        author=sender.user,
        author_name=sender.name,
        civil_number=sender.civil_number,
        card_valid_until=sender.signing.not_valid_after_utc,
        to=slip.recipients,
        sent_at=to_datetime(slip.time),
        received_at=to_datetime(judged.entry.time),
        expires_at=to_datetime(slip.expires),
        checks=judged.checks,
    )


def require_open(context: Context, own: Mailbox, judged: JudgedHead) -> None:
    """Raises NotAllowed when there is nothing to choose any more, CheckFailed when the letter is withheld."""
    routing = judged.entry.routing
    name = letter_name(routing.letter)
    if not judged.waits:
        raise NotAllowed(f"You have signed for letter {name} already.", "That stands.", "Read it: smr read LETTER.")
    if any(each.kind is EntryKind.ACCEPTANCE_SENT and each.letter == routing.letter for each in own.chain().links):
        raise CheckFailed(
            f"The repository has your signature for letter {name} and withholds the letter.",
            "Your mailbox records the acceptance, and it gives no share for it.",
            "Ask the sender to send it in another way; smr history shows what was signed. Tell the operator.",
        )
    if judged.choice is Choice.REFUSED:
        raise NotAllowed(
            f"You refused letter {name}.", "That cannot be undone: the part of its key for you is gone.", _ASK_AGAIN
        )
    if judged.choice is Choice.EXPIRED or (judged.slip is not None and context.now() >= judged.slip.expires):
        raise NotAllowed(f"The time to sign for letter {name} is over.", "Nobody can open it any more.", _ASK_AGAIN)


def accept(context: Context, live: LiveSession, own: Mailbox, judged: JudgedHead) -> None:
    """Signs for a letter whose every check passed. Raises NotAllowed when another choice stands already."""
    slip, digest = _asked(judged)
    me = Party(own.owner, _own(live)[0].document)
    document = choices.accept(slip, digest, me, _position(own, judged), context.now())
    signed, evidence = _sign(context, live, document)
    _give(context, live, own, slip, commands.Accept(signed, evidence), Choice.ACCEPTED)


def refuse(context: Context, text: str, reason: str) -> Refused:
    """Signs that a letter is not taken. Raises NotAllowed when another choice stands already, or nothing was asked."""
    live = session.require(context)
    own = mailbox.own_mailbox(context, live)
    link = naming.find_letter(own, text, (EntryKind.RECEIVED,))
    own.require_kept(link)
    result: RecvResult = context.call(live, commands.Recv(link.author, link.letter))
    own.require([result.entry])
    if result.entry.slip is None:
        raise NotAllowed(f"Letter {text} asks for no signature.", "There is nothing to refuse.", f"smr read {text}")
    with context.settings.waiting("the revocation lists"):
        judged = opening.judge_head(context, live, Registry(context, live), result.entry)
    slip, digest = _asked(judged)
    require_open(context, own, judged)
    sender = identity.look_up(context, live, slip.from_.user)
    mine, key = _own(live)
    position = _position(own, judged)
    document, why = choices.refuse(slip, digest, Party(own.owner, mine.document), position, context.now(), reason)
    signed, evidence = _sign(context, live, document)
    readers = {sender.user: sender.sealing, own.owner: key}
    sealed = choices.seal_reason(slip, own.owner, why, signed, readers) if why is not None else None
    stands = _give(context, live, own, slip, commands.Refuse(signed, evidence, sealed), Choice.REFUSED)
    return Refused(letter_name(slip.letter), sender.user, sender.name, to_datetime(stands.accepted), reason)


def standing(
    context: Context,
    live: LiveSession,
    command: commands.Accept | commands.Refuse,
    result: ChoiceResult,
    floor: int = 0,
) -> SignedFor:
    """Checks what the repository says that stands, and keeps it. Raises CheckFailed, MailboxAlarm.

    `floor`: the highest entry known when it was first sent, 0 for a repeat.
    """
    own = mailbox.own_mailbox(context, live)
    author, letter = _about(context, command)
    (place,) = own.connect_placement(result.placement, (own.owner,), floor)
    number = place.number
    link = own.chain().links[number - 1]
    if (link.kind, link.author, link.letter) != (RECORDED[result.choice], own.owner, letter):
        raise CheckFailed(
            "The repository's answer to your signature is not valid.",
            f"Entry {number} of your mailbox records something else than {result.choice.value}.",
            "Look at smr history LETTER, and tell the operator of the repository.",
        )
    found = SignedFor(letter, author, result.choice, result.accepted, result.release)
    kept.save_signed_for(context.home, found)
    return found


def _give(
    context: Context,
    live: LiveSession,
    own: Mailbox,
    slip: Slip,
    command: commands.Accept | commands.Refuse,
    wanted: Choice,
) -> SignedFor:
    floor = own.floor()
    stands = context.call_kept(
        live, command, own.owner, slip.letter, lambda result: standing(context, live, command, result, floor)
    )
    if stands.choice is not wanted:
        raise NotAllowed(
            f"Letter {letter_name(slip.letter)} was {stands.choice.value} before, on {to_datetime(stands.accepted)}.",
            "A choice about a letter is made once; what you signed now was not stored.",
            "See what stands: smr history LETTER.",
        )
    return stands


def _about(context: Context, command: commands.Accept | commands.Refuse) -> tuple[UserId, LetterId]:
    document: Acceptance | Refusal
    if isinstance(command, commands.Accept):
        document = documents.decode(Acceptance, command.acceptance.document, context.repository)
    else:
        document = documents.decode(Refusal, command.refusal.document, context.repository)
    return document.sender, document.letter


def _asked(judged: JudgedHead) -> tuple[Slip, Digest]:
    if judged.slip is None or judged.asked is None:
        opening.require_passed("This letter asks for your signature, and is not what it seems.", judged.checks)
        raise CheckFailed("This letter was not fully checked.", opening.CHANGED, checks=judged.checks)
    return judged.slip, judged.asked.digest


def _position(own: Mailbox, judged: JudgedHead) -> MailboxPosition:
    return MailboxPosition(judged.entry.number, own.chain().hash_at(judged.entry.number))


def _own(live: LiveSession) -> tuple[OwnRegistration, SealingPublicKey]:
    own, key = live.own, live.own_sealing_key()
    if own is None or key is None:
        raise LocalState("The kept session is not of this version.", action="Close it: smr session close.")
    return own, key


def _sign(context: Context, live: LiveSession, document: bytes) -> tuple[SignedDocument, Evidence]:
    own, _ = _own(live)
    use = CardKeyUse.SIGNATURE if own.signs_with_signature_key else CardKeyUse.AUTHENTICATION
    with context.own_card(live) as card:
        signed = card.sign(document, use)
        evidence = identity.evidence_about(context, card, signs_with_signature_key=own.signs_with_signature_key)
    return SignedDocument(document, signed.signature), evidence
