"""register: CREATE. Makes the citizen known to the repository, or replaces what it knows by the next revision.

A CREATE without a reply needs no place in the outbox: every registration begins with looking up what stands.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from client import identity, session
from client.cards import OpenCard
from client.context import Context
from client.errors import CheckFailed, NotFound
from client.identity import VerifiedPerson
from client.state import keystore
from client.state.keystore import Keys
from client.state.session import LiveSession
from crypto_core import commands, documents, limits
from crypto_core.documents import Registration
from crypto_core.ids import Milliseconds, UserId
from crypto_core.suite import sha256
from pki.identity import holder_name, same_citizen
from pki.policy import Purpose
from pki.signers import CardKeyUse


@dataclass(frozen=True, slots=True)
class Registered:
    """A registration that the repository accepted. `changed` is false when it stood already."""

    user: UserId
    name: str
    revision: int
    accepted: Milliseconds
    signs_with_signature_key: bool
    changed: bool


def register(context: Context) -> Registered:
    """Registers the citizen of the card in the reader with the keystore's current sealing key.

    Raises CardError, PathInvalid for a card that is not good now, CheckFailed, NotAllowed.
    """
    keys = context.unlock()
    with context.card() as card:
        _require_owner(context, card)
        chain = require_good(context, card)
        live = session.anonymous(context)
        known = known_as(context, live, card.user)
        if known is not None and _same(known, card, keys):
            adopt(context, known, keys)
            context.home.claim(card.user)
            return registered(known, changed=False)
        return registered(_create(context, live, card, chain, known, keys), changed=True)


def replace_registration(context: Context, keys: Keys) -> Registered:
    """The next revision with the current key of `keys`, in the citizen's own session."""
    live = session.require(context)
    with context.own_card(live) as card:
        chain = require_good(context, card)
        known = identity.look_up(context, live, card.user)
        person = _create(context, live, card, chain, known, keys)
    session.keep_own(context, live, session.own_registration(person), keys)
    return registered(person, changed=True)


def _create(
    context: Context,
    live: LiveSession,
    card: OpenCard,
    chain: tuple[x509.Certificate, ...],
    known: VerifiedPerson | None,
    keys: Keys,
) -> VerifiedPerson:
    command = prepare(context, card, chain, known, keys)
    context.home.claim(card.user)
    return submit(context, live, card.user, command)


def prepare(
    context: Context,
    card: OpenCard,
    chain: tuple[x509.Certificate, ...],
    known: VerifiedPerson | None,
    keys: Keys,
) -> commands.Create:
    """The next registration of the card's citizen, signed. `known` is the one that stands, None where there is none."""
    document = documents.encode(
        Registration(
            repository=context.repository,
            user=card.user,
            revision=known.registration.revision + 1 if known else 1,
            authentication_certificate=sha256(_der(card.authentication)),
            signature_certificate=sha256(_der(card.signature)) if card.signature else None,
            sealing_key=keys.current_key.public.raw,
            previous=known.document if known else None,
            time=context.now(),
        )
    )
    return commands.Create(
        registration=card.sign(document, CardKeyUse.AUTHENTICATION),
        authentication_certificate=_der(card.authentication),
        signature_certificate=_der(card.signature) if card.signature else None,
        intermediates=tuple(_der(each) for each in chain)[: limits.CERTIFICATES],
    )


def submit(context: Context, live: LiveSession, user: UserId, command: commands.Create) -> VerifiedPerson:
    """Has a registration accepted, and verifies that it is what the repository shows. Raises CheckFailed."""
    context.call(live, command)
    person = identity.look_up(context, live, user)
    if person.document != command.registration.digest:
        raise CheckFailed(
            "The repository shows another registration of you than the one that it has just accepted.",
            "Letters to you could be sealed for a key that is not yours.",
            "Do not use this repository before the operator has explained it.",
        )
    return person


def _require_owner(context: Context, card: OpenCard) -> None:
    if context.home.owner() is not None:
        context.home.claim(card.user)  # refuses another citizen's card


def require_good(context: Context, card: OpenCard) -> tuple[x509.Certificate, ...]:
    """That the card is good now: the intermediates of both paths. Raises PathInvalid, CertificateError."""
    validate = context.validator.validate
    with context.settings.waiting("the revocation lists"):
        extra = card.card.certificates()
        path = validate(card.authentication, extra, purpose=Purpose.AUTHENTICATION).require_valid().path
        found = list(path[1:-1])
        if card.signature is not None:
            other = validate(card.signature, extra, purpose=Purpose.SIGNATURE).require_valid().path
            same_citizen(card.authentication, card.signature, (path, other))
            found += [each for each in other[1:-1] if each not in found]
    return tuple(found)


def known_as(context: Context, live: LiveSession, user: UserId) -> VerifiedPerson | None:
    """The registration that stands, None where there is none. Raises CheckFailed for one that was there before."""
    try:
        return identity.look_up(context, live, user)
    except NotFound:
        if user in context.people.all():
            raise CheckFailed(
                "The repository says that you are not registered, and it has shown your registration before.",
                "It has lost or hidden what it accepted.",
                "Do not register again before the operator has explained it.",
            ) from None
        return None


def _same(known: VerifiedPerson, card: OpenCard, keys: Keys) -> bool:
    """Whether what stands is this card's, for a sealing key that is here."""
    same_signature = (known.signature and _der(known.signature)) == (card.signature and _der(card.signature))
    return same_signature and known.sealing.key_id in keys.by_id()


def adopt(context: Context, known: VerifiedPerson, keys: Keys) -> None:
    """Makes the registered sealing key the current one, after keys were restored."""
    if known.sealing.key_id != keys.current:
        passphrase = context.settings.passphrase("keystore")
        with context.home.lock("keystore"):
            stored = keystore.load(context.home.keystore, passphrase)
            keystore.save(context.home.keystore, replace(stored, current=known.sealing.key_id), passphrase)
        context.relock()


def registered(person: VerifiedPerson, *, changed: bool) -> Registered:
    """The result of registering. `changed` is false when it stood already."""
    return Registered(
        user=person.user,
        name=holder_name(person.authentication),
        revision=person.registration.revision,
        accepted=person.accepted,
        signs_with_signature_key=person.signature is not None,
        changed=changed,
    )


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
