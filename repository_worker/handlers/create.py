"""CREATE: a citizen registers, or replaces their registration by the next revision.

Nothing is stored before every check has passed:

  1. the document is a registration for this repository, for the session's citizen where there is one
  2. the user id is the authentication certificate's, and the document names exactly the certificates sent
  3. it is the first revision, or the one after the newest, and names that one's hash
  4. it is dated now
  5. the card's signature, by the authentication certificate
  6. chain and revocation of both certificates, now; both are the same citizen's
  7. no other card renews this one; and where it renews one itself, everything that `pki.renewal` asks for, of the last
     registration of that card, which no other card renews
"""

from __future__ import annotations

from dataclasses import replace

from cryptography import x509

from crypto_core import documents, limits, moments, suite
from crypto_core.commands import Create, CreateResult, ErrorCode, Person
from crypto_core.documents import Registration
from crypto_core.errors import BindingMismatch, Malformed, OutOfTime
from crypto_core.ids import UserId
from pki import identity
from pki.errors import CertificateError
from pki.policy import Purpose
from repository_worker.effects import Outcome, StoreRegistration
from repository_worker.errors import Refused, StorageError
from repository_worker.handlers import renewals
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.identities import fold, read_certificate
from repository_worker.storage.interface import ReadView


def handle(command: Create, caller: Caller, view: ReadView, context: Context) -> Decision:
    """Decides on a registration."""
    document = _read(command, context)
    if caller.user is not None and caller.user != document.user:
        raise Refused(ErrorCode.NOT_ALLOWED, "You can only register yourself; open a session with that citizen's card.")
    newest = view.registration(document.user)
    if newest is not None and _same(newest, command):
        return Decision.answer(_result(newest))
    authentication = read_certificate(command.authentication_certificate)
    _require_named(document, command, authentication)
    _require_next(document, newest)
    _require_not_renewed(document.user, view)
    _require_now(document, context)
    context.identities.require_signature(command.registration, authentication)
    _require_citizen(command, authentication, context)
    person = Person(
        user=document.user,
        revision=document.revision,
        registration=command.registration,
        authentication_certificate=command.authentication_certificate,
        signature_certificate=command.signature_certificate,
        intermediates=command.intermediates,
        accepted=context.now,
    )
    name = fold(identity.holder_name(authentication))
    renewal, renews = renewals.decide(command.renewal, newest, person, view, context)
    return Decision(StoreRegistration(replace(person, renewal=renewal), name, renews), _reply)


def _read(command: Create, context: Context) -> Registration:
    try:
        return documents.decode(Registration, command.registration.document, context.repository)
    except BindingMismatch as error:
        raise Refused(ErrorCode.NOT_ALLOWED, f"Not a registration for this repository: {error}.") from error
    except Malformed as error:
        raise Refused(ErrorCode.MALFORMED, f"The registration cannot be read: {error}.") from error


def _same(newest: Person, command: Create) -> bool:
    """The newest revision again: accepted already, with an equivalent reply."""
    return newest.registration.digest == command.registration.digest


def _require_named(document: Registration, command: Create, authentication: x509.Certificate) -> None:
    if identity.user_id(authentication) != document.user:
        raise Refused(ErrorCode.NOT_ALLOWED, "The user id is not the authentication certificate's; use your own card.")
    signature = command.signature_certificate
    named = (document.authentication_certificate, document.signature_certificate)
    sent = (suite.sha256(command.authentication_certificate), suite.sha256(signature) if signature else None)
    if named != sent:
        raise Refused(ErrorCode.CERTIFICATE, "The registration names other certificates than those that came with it.")


def _require_next(document: Registration, newest: Person | None) -> None:
    expected = (newest.revision + 1, newest.registration.digest) if newest else (1, None)
    if (document.revision, document.previous) != expected:
        raise Refused(
            ErrorCode.CONFLICT,
            f"Revision {expected[0]} of this registration is expected, naming the hash of the one before. "
            "Look up your own registration and register again.",
        )


def _require_not_renewed(user: UserId, view: ReadView) -> None:
    successor = view.renewed([user]).get(user)
    if successor is not None:
        raise Refused(ErrorCode.NOT_ALLOWED, f"This card was renewed by {successor.hex()}; register with that card.")


def _require_now(document: Registration, context: Context) -> None:
    try:
        moments.require_within(document.time, context.now, limits.CLOCK_SKEW_MS, "the registration")
    except OutOfTime as error:
        raise Refused(ErrorCode.CLOCK, f"{error}.") from error


def _require_citizen(command: Create, authentication: x509.Certificate, context: Context) -> None:
    intermediates = [read_certificate(each) for each in command.intermediates]
    identities = context.identities
    path = identities.require_valid(authentication, intermediates, Purpose.AUTHENTICATION)
    try:
        identity.summary(authentication)
        if command.signature_certificate is None:
            return
        signature = read_certificate(command.signature_certificate)
        signature_path = identities.require_valid(signature, intermediates, Purpose.SIGNATURE)
        identity.same_citizen(authentication, signature, (path, signature_path))
    except CertificateError as error:
        raise Refused(ErrorCode.CERTIFICATE, str(error)) from error


def _reply(outcome: Outcome) -> CreateResult:
    if outcome.person is None:
        raise StorageError("a registration was stored and none stands")
    return _result(outcome.person)


def _result(person: Person) -> CreateResult:
    return CreateResult(person.user, person.revision, person.accepted)
