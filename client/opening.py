"""Opening letters and judging them: every check by name, in the order in which they are made.

    complete      it stands in the mailbox where the repository recorded it; nothing before it is missing
    sealed        it opens under the reader's key, and all of its parts belong together
    sender        the registration that it names is a verified one
    signature     signed with that registration's key
    certificate   the signer's certificates were valid and not revoked when the repository accepted the letter
    time          the time that it claims is the time at which it was accepted, within a named skew

A letter that opens against a signature has more, before `sealed` (the last three once it was signed for):

    slip          what it asks a signature for is exactly this letter, for exactly these people
    own share     the share that came with it is the one that its sender signed for: before anybody signs anything
    released      so is the share that the repository released
    key           both shares lead to the key that the sender signed for; if not, slip and shares prove who cheated

A letter of which one fails is never shown as a letter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from client import identity
from client.context import Context
from client.errors import Check, CheckFailed, NotFound
from client.identity import Registry, VerifiedPerson
from client.mailbox import require_login
from client.state import letters as signed_for
from client.state.session import LiveSession
from crypto_core import documents, limits, moments, sealed, sign_for
from crypto_core import letter as letters
from crypto_core.choice import Choice
from crypto_core.commands import BoxEntry, RefusedByRepository, SlipView
from crypto_core.documents import Party, SignedDocument, Slip
from crypto_core.errors import BindingMismatch, DecryptionFailed, Malformed, ProtocolError
from crypto_core.evidence import Evidence
from crypto_core.ids import Milliseconds
from crypto_core.letter import OpenedHead
from crypto_core.mailbox import Entry
from crypto_core.sealed import SealedView
from crypto_core.sign_for import SignedSlip
from pki.errors import PkiError

T = TypeVar("T")

CHANGED = "It was changed after it was signed, or put together from several. Do not trust it."
_GOOD_THEN = "card valid and not revoked when it was accepted"
_NOT_GOOD_THEN = "The signer's card was not good at that time, or it cannot be told. Do not rely on it."
_ASK = "Do not act on it; ask the sender in another way, and tell the operator of the repository."


@dataclass(frozen=True, slots=True)
class JudgedHead:
    """A letter's head with every check that was made. `opened` and `sender` are there as far as the checks went.

    `slip` is there for a letter that opens against a signature; while it `waits` for one, `opened` is not.
    """

    entry: Entry
    read: bool
    opened: OpenedHead | None
    sender: VerifiedPerson | None
    checks: tuple[Check, ...]
    slip: Slip | None = None
    asked: SignedSlip | None = None
    choice: Choice | None = None
    waits: bool = False
    broken: BrokenSlip | None = None

    @property
    def good(self) -> bool:
        return all(check.passed for check in self.checks)

    def require(self) -> tuple[OpenedHead, VerifiedPerson]:
        """The opened head and its sender. Raises CheckFailed, with all checks, unless every one of them passed."""
        require_passed("This letter is not what it seems.", self.checks)
        if self.opened is None or self.sender is None:
            raise CheckFailed("This letter was not fully checked.", CHANGED, _ASK, checks=self.checks)
        return self.opened, self.sender


@dataclass(frozen=True, slots=True)
class BrokenSlip:
    """A slip whose two shares are as they were signed for and open nothing: proof against its signer."""

    slip: SignedSlip
    share_1: bytes = field(repr=False)
    share_2: bytes = field(repr=False)


class Judgement:
    """Makes checks one after the other; what depends on a failed one is not tried."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    @property
    def good(self) -> bool:
        return all(check.passed for check in self.checks)

    def attempt(self, name: str, holds: str | Callable[[T], str], fails: str, act: Callable[[], T]) -> T | None:
        """The value of `act`, on which `holds` may depend; None if it refused.

        Refusals of the repository and lost connections pass through.
        """
        try:
            value = act()
        except RefusedByRepository:
            raise
        except (ProtocolError, PkiError, CheckFailed, NotFound) as error:
            meaning = _other_key(error) or fails
            self.checks.append(Check(name, passed=False, meaning=meaning, reason=str(error)))
            return None
        self.checks.append(Check(name, passed=True, meaning=holds if isinstance(holds, str) else holds(value)))
        return value


def judge_head(context: Context, session: LiveSession, registry: Registry, box: BoxEntry) -> JudgedHead:
    """Opens a head whose place in the mailbox was checked already (`Mailbox.require`), and judges it.

    A letter that waits for a signature of the reader is judged by its slip, as far as that goes.
    """
    judgement = Judgement()
    judgement.checks.append(Check("complete", passed=True, meaning="nothing missing before it"))
    if box.slip is not None:
        return _judge_slip(context, session, registry, judgement, box, box.slip)
    opened = judgement.attempt("sealed", "sealed for you", CHANGED, lambda: _open(session, box))
    sender = _judge_sender(context, registry, judgement, opened, box)
    return JudgedHead(box.entry, box.read, opened, sender, tuple(judgement.checks))


def _judge_sender(
    context: Context, registry: Registry, judgement: Judgement, opened: OpenedHead | None, box: BoxEntry
) -> VerifiedPerson | None:
    if opened is None:
        return None
    document = opened.letter
    return judge_signer(
        context,
        registry,
        judgement,
        document.from_,
        opened.signed,
        document.time,
        box.entry.time,
        opened.evidence,
    )


# ------------------------------------------------------------------------------ letters that open against a signature


def _judge_slip(
    context: Context,
    session: LiveSession,
    registry: Registry,
    judgement: Judgement,
    box: BoxEntry,
    shown: SlipView,
) -> JudgedHead:
    slip = judgement.attempt(
        "slip",
        "opens against a signature",
        "What it asks a signature for is not this letter. Do not sign.",
        lambda: _slip(session, box, shown),
    )
    opened: OpenedHead | None = None
    broken: BrokenSlip | None = None
    mine = box.entry.routing.author == require_login(session)
    release = shown.release or _kept_release(context, box)
    if slip is not None and mine:
        opened = judgement.attempt("sealed", "sealed for you", CHANGED, lambda: _open_copy(session, box))
    elif slip is not None:
        opened, broken = _open_signed(context, session, judgement, box, slip, shown, release)
    waits = not mine and shown.choice is not Choice.ACCEPTED
    sender = None
    if slip is not None and judgement.good:
        sender = judge_signer(
            context,
            registry,
            judgement,
            slip.from_,
            shown.slip.signed,
            slip.time,
            box.entry.time,
            shown.slip.evidence,
        )
    if opened is not None and sender is not None and judgement.good:
        letter, signer = opened, sender
        judgement.attempt("letter", "the letter itself is signed too", CHANGED, lambda: _require_same(letter, signer))
    return JudgedHead(
        box.entry, box.read, opened, sender, tuple(judgement.checks), slip, shown.slip, shown.choice, waits, broken
    )


def _open_signed(
    context: Context,
    session: LiveSession,
    judgement: Judgement,
    box: BoxEntry,
    slip: Slip,
    shown: SlipView,
    release: bytes | None,
) -> tuple[OpenedHead | None, BrokenSlip | None]:
    """Opens what was signed for, step by step; without a release, as far as the own share."""
    me = require_login(session)
    view = shown_view(box)
    first = judgement.attempt(
        "own share",
        "your part of its key is the one that was signed for",
        "It would not open after your signature. Do not sign; refuse it: smr refuse LETTER.",
        lambda: sign_for.first_share(view, slip, me, session.sealing_keys()),
    )
    if first is None or release is None:
        return None, None
    key = context.current(session).verify_key
    second = judgement.attempt(
        "released",
        "the repository released the other part",
        "The repository gave another share than the sender signed for. Keep this; tell the sender and the operator.",
        lambda: sign_for.require_released(sign_for.read_release(release, key, slip, shown.slip.digest, me), slip),
    )
    if second is None:
        return None, None
    secret = judgement.attempt(
        "key",
        "both parts open it",
        "The sender signed for a key that opens nothing: slip and shares prove it to anybody.",
        lambda: sign_for.open_line(slip, me, first, second),
    )
    if secret is None:
        return None, BrokenSlip(shown.slip, first, second)
    opened = judgement.attempt(
        "sealed",
        "sealed for you",
        CHANGED,
        lambda: _as_delivered(letters.open_with(sealed.SIGN_FOR, view, slip.repository, me, secret), box),
    )
    return opened, None


def _slip(session: LiveSession, box: BoxEntry, shown: SlipView) -> Slip:
    """The slip, if it is of exactly the letter that came with it and of the entry."""
    view, routing = shown_view(box), box.entry.routing
    slip = documents.decode(Slip, shown.slip.document, session.repository)
    head = view.routing(sealed.SIGN_FOR)
    if (head.letter, head.author) != (routing.letter, routing.author):
        raise BindingMismatch("the mailbox entry is of another letter than the one that came with it")
    sign_for.require_slip(slip, view.object_hash, head.commitment, routing.letter, routing.author, routing.recipients)
    return slip


def _open_copy(session: LiveSession, box: BoxEntry) -> OpenedHead:
    me = require_login(session)
    return _as_delivered(sign_for.open_copy(shown_view(box), session.repository, me, session.sealing_keys()), box)


def _require_same(opened: OpenedHead, sender: VerifiedPerson) -> None:
    """The letter inside is by the slip's signer, of the same time, with the same registration."""
    if opened.letter.from_ != sender.party:
        raise BindingMismatch("the slip and the letter inside name different senders")
    identity.require_signed(opened.signed, sender)


def _kept_release(context: Context, box: BoxEntry) -> bytes | None:
    routing = box.entry.routing
    kept = signed_for.load_signed_for(context.home, routing.author, routing.letter)
    return kept.release if kept else None


def judge_signer(
    context: Context,
    registry: Registry,
    judgement: Judgement,
    party: Party,
    signed: SignedDocument,
    claimed: Milliseconds,
    accepted: Milliseconds,
    evidence: Evidence | None,
) -> VerifiedPerson | None:
    """The checks `sender` to `time` of a letter or a receipt that is in the mailbox since `accepted`.

    `evidence` came with it, and is verified here like anything else.
    """
    signer = judgement.attempt(
        "sender",
        "from a registered citizen",
        "Who wrote it cannot be told. Do not trust it.",
        lambda: registry.named(party),
    )
    if signer is None:
        return None
    card_key = "Citizen Card (signature key)" if signer.signature else "Citizen Card (authentication key)"
    judgement.attempt(
        "signature",
        f"signed with {signer.name}'s {card_key}",
        "It was changed after it was signed, or somebody else signed it. Do not trust it.",
        lambda: identity.require_signed(signed, signer),
    )
    judgement.attempt(
        "certificate",
        lambda by_evidence: f"{_GOOD_THEN}, by evidence that came with it" if by_evidence else _GOOD_THEN,
        _NOT_GOOD_THEN + _left_out(evidence),
        lambda: identity.require_good_then(context, signer, accepted, evidence),
    )
    judgement.attempt(
        "time",
        "accepted when it says it was signed",
        "It claims another time than that at which the repository took it. Do not rely on it.",
        lambda: moments.require_within(claimed, accepted, limits.CLOCK_SKEW_MS, "the signed document"),
    )
    return signer


def _left_out(evidence: Evidence | None) -> str:
    """What to add where a card cannot be judged, and its owner could not send everything along."""
    if evidence is None:
        return " No evidence about revocation came with it."
    if evidence.left_out:
        return (
            f" The evidence that came with it leaves {evidence.left_out} certificates out, for want of it or of room."
        )
    return ""


def require_passed(what: str, checks: tuple[Check, ...]) -> None:
    """Raises CheckFailed for the first check that did not pass: what it means, then the technical reason."""
    for check in checks:
        if not check.passed:
            raise CheckFailed(f"{what} {check.meaning}", f"Check {check.name!r}: {check.reason}", _ASK, checks=checks)


def shown_view(box: BoxEntry) -> SealedView:
    """The sealed object of an entry. Raises Malformed where the repository gave none."""
    if box.view is None:
        raise Malformed("the repository gave the entry without its letter")
    return box.view


def _open(session: LiveSession, box: BoxEntry) -> OpenedHead:
    view = shown_view(box)
    routing = view.routing(sealed.LETTER)
    if (routing.letter, routing.author) != (box.entry.routing.letter, box.entry.routing.author):
        raise BindingMismatch("the mailbox entry is of another letter than the one that came with it")
    me = require_login(session)
    return _as_delivered(letters.open_head(view, session.repository, me, session.sealing_keys()), box)


def _as_delivered(opened: OpenedHead, box: BoxEntry) -> OpenedHead:
    if opened.letter.to != box.entry.routing.recipients:
        raise BindingMismatch("the letter names other recipients than those it was delivered to")
    return opened


def _other_key(error: BaseException) -> str:
    if isinstance(error, DecryptionFailed) and "not in this keystore" in str(error):
        return "It is sealed for a key of yours that is not on this machine. Restore the backup that has it."
    return ""
