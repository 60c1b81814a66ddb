"""renew: CREATE with a renewal. Binds the registration of a renewed card to that of the card before it.

Both cards sign where both are at hand. Where the former one is gone, the new one signs alone, and what binds the two is
that the state named the same citizen in both, under the same root. From then on the former mailbox is read with the new
card, and nothing new comes into it. Cut off anywhere, the same command goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from client import cards, identity, naming, renewals, session
from client.commands import register
from client.commands.register import Registered
from client.context import Context
from client.errors import CardProblem, Usage
from client.identity import VerifiedPerson
from client.state.session import LiveSession
from crypto_core import documents
from crypto_core.documents import Renewal, SignedRenewal
from crypto_core.ids import UserId
from pki.signers import CardKeyUse

FormerCard = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Renewed:
    """A renewal that the repository accepted and this client verified. `changed` is false when it stood already."""

    registered: Registered
    former: UserId
    former_name: str
    both_cards: bool
    changed: bool


def renew(context: Context, former: str | None, former_card: FormerCard) -> Renewed:
    """Registers the new card in the reader as a renewal of `former` (None: the card that this home belongs to).

    `former_card` is called when the former card is in no reader: it answers whether it is now, after asking for it.
    Raises CardError, CardProblem, Usage, NotFound, CheckFailed, NotAllowed.
    """
    old_user = _former(context, former)
    slot = cards.slot_of_another(context.settings.card, old_user)
    keys = context.unlock()
    live = session.anonymous(context)
    with context.card_in(slot, "new card") as card:
        chain = register.require_good(context, card)
        known = register.known_as(context, live, card.user)
        if known is not None and known.renewal is not None:
            return _renewed(context, live, known, old_user, changed=False)
        old = identity.look_up_former(context, live, old_user)
        document = documents.encode(Renewal(context.repository, card.user, old.party, context.now()))
        signature = card.sign(document, CardKeyUse.AUTHENTICATION).signature
        command = register.prepare(context, card, chain, known, keys)
        user = card.user
    former_signature = _signed_by_former(context, old_user, document, former_card)
    signed = SignedRenewal(document, signature, former_signature)
    person = register.submit(context, live, user, replace(command, renewal=signed))
    return _renewed(context, live, person, old_user, changed=True)


def _former(context: Context, text: str | None) -> UserId:
    owner = context.home.owner()
    if text is not None:
        return naming.parse_user(text)
    if owner is None:
        raise Usage(
            "It is not known which card was renewed.",
            "This home was not used with a card yet.",
            "Give its id: smr renew --former ID.",
        )
    return owner


def _signed_by_former(context: Context, former: UserId, document: bytes, former_card: FormerCard) -> bytes | None:
    """The former card's signature, None where that card is gone."""
    slot = cards.slot_of(context.settings.card, former)
    if slot is None:
        if not former_card():
            return None
        slot = cards.slot_of(context.settings.card, former)
    if slot is None:
        raise CardProblem(
            "The former card is in no reader.",
            "Nothing was renewed yet.",
            "Repeat the command with it, or say no when asked for it: then the new card signs alone.",
        )
    with context.card_in(slot, "former card") as card:
        return card.sign(document, CardKeyUse.AUTHENTICATION).signature


def _renewed(context: Context, live: LiveSession, person: VerifiedPerson, former: UserId, *, changed: bool) -> Renewed:
    line = renewals.history(context, live, person)
    if not line or line[0].former.user != former:
        raise Usage(
            "This card renews another card already.",
            "It cannot renew two.",
            "See which: smr card, and smr history with its id.",
        )
    context.home.pass_on(former, person.user)
    context.sessions.remove()
    return Renewed(
        register.registered(person, changed=changed), former, line[0].former.name, line[0].both_cards, changed
    )
