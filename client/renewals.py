"""Renewed cards: who somebody was registered as before, verified here, step by step back to the first card.

The repository shows which card renews which. That is believed only for what the cards signed and the state certified
(`pki.renewal`): every registration in the line is looked up, and each renewal must name the last registration of the
card before. What was verified once is remembered, so that it cannot be hidden or replaced later.
"""

from __future__ import annotations

from dataclasses import dataclass

from client import identity
from client.context import Context
from client.errors import CheckFailed, NotAllowed
from client.identity import VerifiedPerson
from client.state.renewals import KnownRenewal
from client.state.session import LiveSession
from crypto_core import limits
from crypto_core.documents import SignedRenewal
from crypto_core.ids import Milliseconds, UserId
from crypto_core.moments import to_datetime
from pki import renewal
from pki.renewal import RegisteredCard


@dataclass(frozen=True, slots=True)
class VerifiedRenewal:
    """`current` is a later card of the citizen who was registered as `former`. `both_cards`: both have signed that."""

    former: VerifiedPerson
    current: VerifiedPerson
    both_cards: bool
    time: Milliseconds


def history(context: Context, session: LiveSession, person: VerifiedPerson) -> tuple[VerifiedRenewal, ...]:
    """The renewals behind a registration, the last one first; empty for a citizen's first card.

    Raises CheckFailed, ProtocolError, PkiError for a renewal that is not what it should be.
    """
    found: list[VerifiedRenewal] = []
    met = {person.user}
    while person.renewal is not None:
        if len(found) == limits.RENEWALS:
            raise _doubtful(person, f"more than {limits.RENEWALS} cards renew each other")
        step = _step(context, session, person, person.renewal)
        if step.former.user in met:
            raise _doubtful(person, "the cards renew each other in a circle")
        met.add(step.former.user)
        found.append(step)
        person = step.former
    for each in found:
        known = KnownRenewal(each.former.user, each.current.user, each.current.name, each.both_cards, each.time)
        context.renewals.note(known)
    return tuple(found)


def _step(context: Context, session: LiveSession, current: VerifiedPerson, signed: SignedRenewal) -> VerifiedRenewal:
    former = identity.look_up_former(context, session, identity.former_of(context, signed))
    verified = renewal.verify(signed, context.repository, card_of(former), card_of(current), context.validator)
    return VerifiedRenewal(former, current, signed.former_signature is not None, verified.time)


def card_of(person: VerifiedPerson) -> RegisteredCard:
    """A verified registration as a renewal sees it."""
    return RegisteredCard(person.party, person.authentication, person.intermediates, to_datetime(person.accepted))


def require_current(context: Context, session: LiveSession, user: UserId) -> VerifiedPerson:
    """The registration of somebody whose card was not renewed. Raises NotAllowed with the new card's id for another.

    What the repository says of a renewal is verified before it is told.
    """
    current = look_up_newest(context, session, user)
    if current.user == user:
        return current
    raise NotAllowed(
        f"The card {user.hex()[:12]}... was renewed; {current.name} has the id {current.user.hex()} now.",
        "Nothing is sent to a card that its owner has given up.",
        f"Look at the new one and confirm it once: smr confirm {current.user.hex()}.",
    )


def look_up_newest(context: Context, session: LiveSession, user: UserId) -> VerifiedPerson:
    """The registration of the last card in the line of this one, with every renewal between them verified."""
    shown = identity.record(context, session, context.renewals.newest(user))
    for _ in range(limits.RENEWALS):
        if shown.renewed_by is None:
            break
        shown = identity.record(context, session, shown.renewed_by)
    current = identity.verify_current(context, shown)
    if shown.user != user and user not in {each.former.user for each in history(context, session, current)}:
        raise _doubtful(current, "it is said to renew a card with which it has nothing to do")
    return current


def _doubtful(person: VerifiedPerson, reason: str) -> CheckFailed:
    return CheckFailed(
        f"The renewal of {person.name}'s card is not valid.",
        f"It may be somebody else's card: {reason}.",
        "Do not write to this person before they have told you the id of their card in another way.",
    )
