"""Registrations: which certificates a citizen has registered, as the citizen's own card signed it.

A registration counts when all of this holds, in this order:

  1. the document is a registration for this repository
  2. both certificates are the ones that it names, and the user id is that of the authentication certificate
  3. the document is signed with the authentication key
  4. both certificates are of one citizen

Whether the certificates may be believed is another question: that is `validator`.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

from crypto_core import documents
from crypto_core.documents import Registration, SignedDocument
from crypto_core.errors import BindingMismatch
from crypto_core.ids import RepositoryId
from crypto_core.suite import sha256
from pki import cades, identity
from pki.policy import Purpose


@dataclass(frozen=True, slots=True)
class Registered:
    """A registration of which all this holds, with its certificates."""

    signed: SignedDocument
    registration: Registration
    authentication: x509.Certificate
    signature: x509.Certificate | None

    @property
    def signing(self) -> x509.Certificate:
        """The certificate whose key signs letters and receipts."""
        return self.signature or self.authentication

    @property
    def certificates(self) -> list[tuple[x509.Certificate, Purpose]]:
        """Every registered certificate, with what it must be meant for."""
        found = [(self.authentication, Purpose.AUTHENTICATION)]
        if self.signature is not None:
            found.append((self.signature, Purpose.SIGNATURE))
        return found


def verify_registration(
    signed: SignedDocument, authentication_der: bytes, signature_der: bytes | None, repository: RepositoryId
) -> Registered:
    """Steps 1 to 4. Raises ProtocolError or PkiError."""
    registration = documents.decode(Registration, signed.document, repository)
    authentication = identity.load_certificate(authentication_der)
    signature = identity.load_certificate(signature_der) if signature_der else None
    if identity.user_id(authentication) != registration.user:
        raise BindingMismatch("the registration is of another citizen than its authentication certificate")
    if registration.authentication_certificate != sha256(authentication_der):
        raise BindingMismatch("the registration names another authentication certificate")
    if registration.signature_certificate != (sha256(signature_der) if signature_der else None):
        raise BindingMismatch("the registration names another signature certificate")
    cades.verify_document(signed.document, signed.signature, certificate=authentication)
    if signature is not None:
        identity.same_citizen(authentication, signature)
    return Registered(signed, registration, authentication, signature)
