"""Who somebody is, by what the repository shows and this client verifies: nothing of it is taken on trust.

A registration counts when all of this holds, in this order:

  1-4. it holds together and is signed (see `pki.registration`), and is of the user and revision that it came with
  5. for a current registration: both have a valid path and are not revoked now

A past registration (history) is checked up to step 4: the certificate that signed a letter is judged when the letter
is, at the moment when the repository accepted it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509

from client.cards import OpenCard
from client.context import Context
from client.errors import CheckFailed, NotFound
from client.state.session import LiveSession
from crypto_core import commands, documents, limits
from crypto_core.commands import ErrorCode, Person, RefusedByRepository
from crypto_core.documents import Party, Registration, Renewal, SignedDocument, SignedRenewal
from crypto_core.errors import BindingMismatch
from crypto_core.evidence import Evidence
from crypto_core.ids import Digest, Milliseconds, UserId
from crypto_core.keys import SealingPublicKey
from crypto_core.moments import to_datetime
from pki import cades, identity
from pki.identity import CertificateSummary
from pki.policy import Purpose
from pki.registration import Registered, verify_registration
from pki.revocation_data import RevocationData


@dataclass(frozen=True, slots=True)
class VerifiedPerson:
    """A registration that was verified, with what was read from its certificates."""

    user: UserId
    name: str
    civil_number: str
    registered: Registered
    intermediates: tuple[x509.Certificate, ...]
    accepted: Milliseconds
    renewal: SignedRenewal | None = None  #: not verified yet: see `client.renewals`

    @property
    def registration(self) -> Registration:
        """What the citizen's card signed."""
        return self.registered.registration

    @property
    def document(self) -> Digest:
        """SHA-256 of the registration's document."""
        return self.registered.signed.digest

    @property
    def authentication(self) -> x509.Certificate:
        """The certificate that the user id comes from."""
        return self.registered.authentication

    @property
    def signature(self) -> x509.Certificate | None:
        """The certificate of the signature key, where that is registered."""
        return self.registered.signature

    @property
    def party(self) -> Party:
        return Party(self.user, self.document)

    @property
    def sealing(self) -> SealingPublicKey:
        return self.registration.sealing

    @property
    def signing(self) -> x509.Certificate:
        """The certificate whose key signs letters and receipts."""
        return self.registered.signing

    @property
    def signing_purpose(self) -> Purpose:
        return Purpose.SIGNATURE if self.signature else Purpose.AUTHENTICATION

    @property
    def summary(self) -> CertificateSummary:
        return identity.summary(self.authentication)


def verify_form(context: Context, person: Person) -> VerifiedPerson:
    """Steps 1 to 4. Raises ProtocolError or PkiError."""
    found = verify_registration(
        person.registration, person.authentication_certificate, person.signature_certificate, context.repository
    )
    registration = found.registration
    if (registration.user, registration.revision) != (person.user, person.revision):
        raise BindingMismatch("the registration is of another citizen, or of another revision, than it came with")
    return VerifiedPerson(
        user=registration.user,
        name=identity.holder_name(found.authentication),
        civil_number=identity.civil_number(found.authentication),
        registered=found,
        intermediates=tuple(identity.load_certificate(each) for each in person.intermediates),
        accepted=person.accepted,
        renewal=person.renewal,
    )


def verify_current(context: Context, person: Person) -> VerifiedPerson:
    """All steps, now, and that no later registration was seen. Raises ProtocolError, PkiError or CheckFailed."""
    verified = verify_form(context, person)
    paths = [
        context.validator.validate(certificate, verified.intermediates, purpose=purpose).require_valid().path
        for certificate, purpose in verified.registered.certificates
    ]
    if verified.signature is not None:
        identity.same_citizen(verified.authentication, verified.signature, (paths[0], paths[1]))
    context.people.note(verified.user, verified.name, verified.registration.revision, verified.document)
    return verified


def look_up(context: Context, session: LiveSession, user: UserId) -> VerifiedPerson:
    """The current registration of one exact id. Raises NotFound, or what `verify_current` raises."""
    return verify_current(context, record(context, session, user))


def look_up_former(context: Context, session: LiveSession, user: UserId) -> VerifiedPerson:
    """The last registration of a card that may have run out or been revoked: verified but for its validity now."""
    verified = verify_form(context, record(context, session, user))
    context.people.note(verified.user, verified.name, verified.registration.revision, verified.document)
    return verified


def former_of(context: Context, signed: SignedRenewal) -> UserId:
    """Whose card a renewal is said to renew: to be verified. Raises ProtocolError."""
    return documents.decode(Renewal, signed.document, context.repository).former.user


def record(context: Context, session: LiveSession, user: UserId) -> Person:
    """What the repository shows under one exact id, not verified yet. Raises NotFound, CheckFailed."""
    found = _people(context, session, commands.List(user=user, query=None, history=False, after=None))
    if not found:
        raise NotFound(
            f"Nobody with the id {user.hex()} is registered here.",
            "There is no key to seal a letter for.",
            "Check the id, or ask the person to register: smr register.",
        )
    if len(found) != 1 or found[0].user != user:
        raise CheckFailed(
            f"The repository answered with somebody else than {user.hex()}.",
            "A letter could go to the wrong person.",
            "Do not use this repository before the operator has explained it.",
        )
    return found[0]


class Registry:
    """All registrations of the people that one command meets, each asked for once."""

    def __init__(self, context: Context, session: LiveSession) -> None:
        self._context = context
        self._session = session
        self._histories: dict[UserId, dict[Digest, VerifiedPerson]] = {}

    def named(self, party: Party) -> VerifiedPerson:
        """The registration that a signed document names. Raises NotFound, CheckFailed, ProtocolError or PkiError."""
        history = self._histories.get(party.user)
        if history is None:
            history = self._histories[party.user] = self._fetch(party.user)
        if party.registration not in history:
            raise CheckFailed(
                f"The registration that {party.user.hex()} names is not among those that the repository shows.",
                "Whose key signed cannot be told.",
                "Ask the operator of the repository.",
            )
        return history[party.registration]

    def _fetch(self, user: UserId) -> dict[Digest, VerifiedPerson]:
        command = commands.List(user=user, query=None, history=True, after=None)
        people = _people(self._context, self._session, command)
        verified = [verify_form(self._context, person) for person in people if person.user == user]
        if not verified or len(verified) != len(people):
            raise NotFound(f"Nobody with the id {user.hex()} is registered here.", "Their signature cannot be checked.")
        require_history(verified)
        self._require_seen(verified)
        return {person.document: person for person in verified}

    def _require_seen(self, verified: Sequence[VerifiedPerson]) -> None:
        last = verified[-1]
        self._context.people.note(last.user, last.name, last.registration.revision, last.document)


def require_history(verified: Sequence[VerifiedPerson]) -> None:
    """Raises CheckFailed unless each revision follows the one before and names it.

    A very long history comes without its oldest revisions; what is shown must still hang together.
    """
    previous: VerifiedPerson | None = None
    for person in verified:
        found = person.registration
        if previous is None:
            follows = (found.revision == 1) == (found.previous is None)
        else:
            follows = (found.revision, found.previous) == (previous.registration.revision + 1, previous.document)
        if not follows:
            raise CheckFailed(
                f"The registrations of {person.name} do not follow each other.",
                "The repository hides one, or shows one that was never accepted.",
                "Do not rely on letters of this person before the operator has explained it.",
            )
        previous = person


def _people(context: Context, session: LiveSession, command: commands.List) -> tuple[Person, ...]:
    """What LIST answers, nobody where the repository says that there is nobody."""
    try:
        result: commands.ListResult = context.call(session, command)
    except RefusedByRepository as error:
        if error.code is ErrorCode.NOT_FOUND:
            return ()
        raise
    return result.people


def require_signed(signed: SignedDocument, signer: VerifiedPerson) -> None:
    """Raises SignatureInvalid unless the document is signed with the key that `signer` registered for letters."""
    cades.verify_document(signed.document, signed.signature, certificate=signer.signing)


def require_good_then(
    context: Context, signer: VerifiedPerson, moment: Milliseconds, evidence: Evidence | None = None
) -> bool:
    """Raises PathInvalid unless the signer's certificates were valid and not revoked at `moment`.

    Says whether that rests on the evidence that was sent along, because what can be asked today does not tell.
    """
    enclosed = RevocationData(evidence.crls, evidence.ocsp) if evidence else None
    results = [
        context.validator.validate(certificate, signer.intermediates, to_datetime(moment), purpose, enclosed)
        for certificate, purpose in signer.registered.certificates
    ]
    paths = [result.require_valid().path for result in results]
    if signer.signature is not None:
        identity.same_citizen(signer.authentication, signer.signature, (paths[0], paths[1]))
    return any(result.by_enclosed for result in results)


def evidence_about(context: Context, card: OpenCard, *, signs_with_signature_key: bool) -> Evidence:
    """What says today that the certificates of the own registration are not revoked, to be sealed with a document."""
    certificates = [(card.authentication, Purpose.AUTHENTICATION)]
    if signs_with_signature_key and card.signature is not None:
        certificates.append((card.signature, Purpose.SIGNATURE))
    with context.settings.waiting("the revocation lists"):
        found = context.validator.enclose(
            certificates, card.card.certificates(), limits.EVIDENCE_BYTES, limits.EVIDENCE_ITEMS
        )
    return Evidence(found.data.crls, found.data.ocsp, min(found.left_out, limits.EVIDENCE_ITEMS))
