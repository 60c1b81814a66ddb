"""Opening letters and judging them: every check by name, in the order in which they are made.

    complete      it stands in the mailbox where the repository recorded it; nothing before it is missing
    sealed        it opens under the reader's key, and all of its parts belong together
    sender        the registration that it names is a verified one
    signature     signed with that registration's key
    certificate   the signer's certificates were valid and not revoked when the repository accepted the letter
    time          the time that it claims is the time at which it was accepted, within a named skew

A letter of which one fails is never shown as a letter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from client import identity
from client.context import Context
from client.errors import Check, CheckFailed, NotFound
from client.identity import Registry, VerifiedPerson
from client.mailbox import require_login
from client.state.session import LiveSession
from crypto_core import letter as letters
from crypto_core import limits, moments, sealed
from crypto_core.commands import BoxEntry, RefusedByRepository
from crypto_core.documents import Party, SignedDocument
from crypto_core.errors import BindingMismatch, DecryptionFailed, Malformed, ProtocolError
from crypto_core.evidence import Evidence
from crypto_core.ids import Milliseconds
from crypto_core.letter import OpenedHead
from crypto_core.mailbox import Entry
from pki.errors import PkiError

T = TypeVar("T")

CHANGED = "It was changed after it was signed, or put together from several. Do not trust it."
_GOOD_THEN = "card valid and not revoked when it was accepted"
_NOT_GOOD_THEN = "The signer's card was not good at that time, or it cannot be told. Do not rely on it."
_ASK = "Do not act on it; ask the sender in another way, and tell the operator of the repository."


@dataclass(frozen=True, slots=True)
class JudgedHead:
    """A letter's head with every check that was made. `opened` and `sender` are there as far as the checks went."""

    entry: Entry
    read: bool
    opened: OpenedHead | None
    sender: VerifiedPerson | None
    checks: tuple[Check, ...]

    @property
    def good(self) -> bool:
        return all(check.passed for check in self.checks)

    def require(self) -> tuple[OpenedHead, VerifiedPerson]:
        """The opened head and its sender. Raises CheckFailed, with all checks, unless every one of them passed."""
        require_passed("This letter is not what it seems.", self.checks)
        if self.opened is None or self.sender is None:
            raise CheckFailed("This letter was not fully checked.", CHANGED, _ASK, checks=self.checks)
        return self.opened, self.sender


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
    """Opens a head whose place in the mailbox was checked already (`Mailbox.require`), and judges it."""
    judgement = Judgement()
    judgement.checks.append(Check("complete", passed=True, meaning="nothing missing before it"))
    opened = judgement.attempt("sealed", "sealed for you", CHANGED, lambda: _open(session, box))
    sender = None
    if opened is not None:
        sender = judge_signer(
            context,
            registry,
            judgement,
            opened.letter.from_,
            opened.signed,
            opened.letter.time,
            box.entry.time,
            opened.evidence,
        )
    return JudgedHead(box.entry, box.read, opened, sender, tuple(judgement.checks))


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


def _open(session: LiveSession, box: BoxEntry) -> OpenedHead:
    if box.view is None:
        raise Malformed("the repository gave the entry without its letter")
    routing = box.view.routing(sealed.LETTER)
    if (routing.letter, routing.author) != (box.entry.routing.letter, box.entry.routing.author):
        raise BindingMismatch("the mailbox entry is of another letter than the one that came with it")
    me = require_login(session)
    opened = letters.open_head(box.view, session.repository, me, session.sealing_keys())
    if opened.letter.to != box.entry.routing.recipients:
        raise BindingMismatch("the letter names other recipients than those it was delivered to")
    return opened


def _other_key(error: BaseException) -> str:
    if isinstance(error, DecryptionFailed) and "not in this keystore" in str(error):
        return "It is sealed for a key of yours that is not on this machine. Restore the backup that has it."
    return ""
