"""What SEND, RECV, STATUS, ACCEPT and REFUSE share about letters that open against a signature.

The repository checks a slip, and the second shares against it, before it takes a letter; it checks an acceptance or a
refusal before it stores one, and gives a share out only when a stored acceptance of that reader stands. Whether the
time of a slip is over, its own clock says.
"""

from __future__ import annotations

from dataclasses import dataclass

from crypto_core import choice as choices
from crypto_core import documents, limits, moments, records, sign_for
from crypto_core.choice import Choice, SignedChoice
from crypto_core.commands import ChoiceResult, ErrorCode, Person, ToSign
from crypto_core.documents import Acceptance, Party, Refusal, SignedDocument, Slip
from crypto_core.errors import BindingMismatch, Malformed, OutOfTime
from crypto_core.ids import LetterId, Milliseconds, UserId
from crypto_core.mailbox import EntryKind
from crypto_core.sealed import SealedObject
from pki.policy import Purpose
from repository_worker import effects
from repository_worker.effects import Expire, Outcome, Placed, StoreChoice
from repository_worker.errors import Refused, StorageError
from repository_worker.handlers.boxes import deleted, release
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.identities import read_certificate
from repository_worker.storage.interface import ReadView, StoredEntry, StoredSlip, StoredStatus

# ------------------------------------------------------------------------------------------------------------- SEND


def take(asked: ToSign, letter: SealedObject, view: ReadView, context: Context) -> effects.ToSign:
    """The slip and the second shares of a letter, all checked. Raises Refused."""
    slip = _read_slip(asked, letter, context)
    author = letter.routing.author
    _require_signed(asked.slip.signed, slip.from_, view, context, now=view.status(author, slip.letter) is None)
    # A letter that was accepted before is the same letter when it is sent again, however late.
    if view.status(author, slip.letter) is None:
        _require_time(slip.time, "the slip", context)
        if context.now >= slip.expires:
            raise Refused(ErrorCode.NOT_ALLOWED, "Nothing was sent: the time to sign for this letter is over already.")
    shares = tuple(
        (line.recipient, records.seal_share(context.share_secret, slip.letter, author, line.recipient, share))
        for line, share in zip(slip.lines, asked.shares, strict=True)
    )
    return effects.ToSign(asked.slip, slip.expires, shares)


def _read_slip(asked: ToSign, letter: SealedObject, context: Context) -> Slip:
    routing = letter.routing
    try:
        slip = documents.decode(Slip, asked.slip.document, context.repository)
        sign_for.require_slip(
            slip, letter.object_hash, routing.commitment, routing.letter, routing.author, letter.recipients
        )
        sign_for.require_shares(slip, asked.shares)
    except BindingMismatch as error:
        raise Refused(ErrorCode.NOT_ALLOWED, f"Nothing was sent: {error}.") from error
    except Malformed as error:
        raise Refused(ErrorCode.MALFORMED, f"The slip cannot be read: {error}.") from error
    return slip


# ---------------------------------------------------------------------------------------------------- RECV and STATUS


def waits(stored: StoredEntry, reader: UserId) -> bool:
    """Whether a letter does not open for `reader`, who has not signed for it."""
    return stored.slip is not None and reader != stored.about and stored.slip.choice is not Choice.ACCEPTED


def ended(found: StoredStatus, context: Context) -> Expire | None:
    """The end of the slip for those recipients who have not chosen in time, if there are any."""
    sent = found.sent
    if sent.slip is None or context.now < sent.slip.expires:
        return None
    chosen = {each.entry.routing.author for each in found.choices}
    missing = tuple(user for user in sent.entry.routing.recipients if user not in chosen)
    letter = sent.entry.routing.letter
    return Expire(sent.about, letter, sent.slip.slip.digest, missing, context.now) if missing else None


# ---------------------------------------------------------------------------------------------------- ACCEPT, REFUSE


def choose(
    document: Acceptance | Refusal,
    chosen: SignedChoice,
    reason: SealedObject | None,
    caller: Caller,
    view: ReadView,
    context: Context,
) -> Decision:
    """The one choice of the caller about a letter: this one, if none stands yet and the slip has not ended.

    Raises Refused for a document about another slip or by somebody else, and for a signature that is not the caller's.
    """
    reader = caller.citizen()
    stored = _to_sign(reader, document.sender, document.letter, view)
    slip = stored.slip
    try:
        found = documents.decode(Slip, slip.slip.document, context.repository)
        choices.require_about(document, found, slip.slip.digest, reader)
    except BindingMismatch as error:
        raise Refused(ErrorCode.NOT_ALLOWED, f"Nothing was signed for: {error}.") from error
    free = slip.choice is None
    _require_signed(chosen.signed, document.reader, view, context, now=free)
    author, letter = document.sender, document.letter
    if slip.chosen is not None and slip.choice is not None:
        standing = Outcome(entries=(slip.chosen,), choice=slip.choice)
        return Decision.answer(_result(standing, reader, author, letter, view, context))
    if context.now >= slip.expires:
        ended = SignedChoice(Choice.EXPIRED, slip.slip.digest)
        effect = StoreChoice(author, letter, reader, ended, None, context.now)
    else:
        _require_time(document.time, "what you signed", context)
        if chosen.choice is Choice.ACCEPTED and not stored.whole:
            raise Refused(
                ErrorCode.NOT_FOUND,
                "The text of this letter was removed, so there is nothing to sign for any more; ask its sender for it.",
            )
        effect = StoreChoice(author, letter, reader, chosen, reason, context.now)
    return Decision(effect, lambda outcome: _result(outcome, reader, author, letter, view, context))


@dataclass(frozen=True, slots=True)
class _Received:
    """A letter that the caller can choose about. `whole`: its body is still there."""

    entry: StoredEntry
    slip: StoredSlip
    whole: bool


def _to_sign(reader: UserId, author: UserId, letter: LetterId, view: ReadView) -> _Received:
    found = view.letter(reader, author, letter)
    if found is None or found.entry.entry.kind is not EntryKind.RECEIVED:
        raise Refused(ErrorCode.NOT_FOUND, "You did not receive such a letter, so there is nothing to sign for.")
    if found.entry.slip is None:
        raise Refused(ErrorCode.NOT_ALLOWED, "This letter needs no signature of yours; read it.")
    if found.entry.deleted is not None:
        raise deleted(found.entry.deleted)
    return _Received(found.entry, found.entry.slip, found.body is not None)


def _result(
    outcome: Outcome, reader: UserId, author: UserId, letter: LetterId, view: ReadView, context: Context
) -> ChoiceResult:
    """What stands. The share goes out only after the acceptance was read back from what is stored."""
    own = _own_entry(outcome, reader)
    if outcome.choice is None:
        raise StorageError("a choice was stored and does not show")
    released = None
    if outcome.choice is Choice.ACCEPTED:
        stored = _to_sign(reader, author, letter, view)
        if stored.slip.choice is not Choice.ACCEPTED:
            raise StorageError("an acceptance was stored and does not show")
        released = release(stored.entry, reader, context)
    return ChoiceResult(outcome.choice, own.entry.time, context.sign_placement([own]), released)


def _own_entry(outcome: Outcome, reader: UserId) -> Placed:
    for each in outcome.entries:
        if each.mailbox == reader:
            return each
    raise StorageError("a choice was stored without its reader's entry")


# ---------------------------------------------------------------------------------------------------------- signatures


def _require_signed(signed: SignedDocument, party: Party, view: ReadView, context: Context, *, now: bool) -> None:
    """Raises Refused unless the key that the party registered for letters signed it, and (`now`) its card is good."""
    person = _registered(party, view)
    der, purpose = person.authentication_certificate, Purpose.AUTHENTICATION
    if person.signature_certificate is not None:
        der, purpose = person.signature_certificate, Purpose.SIGNATURE
    certificate = read_certificate(der)
    context.identities.require_signature(signed, certificate)
    if now:
        above = [read_certificate(each) for each in person.intermediates]
        context.identities.require_valid(certificate, above, purpose)


def _registered(party: Party, view: ReadView) -> Person:
    for person in reversed(view.registrations(party.user, limits.LIST_PAGE)):
        if person.registration.digest == party.registration:
            return person
    raise Refused(
        ErrorCode.CONFLICT, "What you signed names a registration that is not yours here; open another session."
    )


def _require_time(moment: Milliseconds, what: str, context: Context) -> None:
    try:
        moments.require_within(moment, context.now, limits.CLOCK_SKEW_MS, what)
    except OutOfTime as error:
        raise Refused(ErrorCode.CLOCK, f"{error}.") from error
