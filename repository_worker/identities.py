"""What the repository checks of a citizen: a card's signature, a certificate's path with revocation, now.

Rules: a refusal names the check that failed and what to do; what cannot be told now is UNAVAILABLE, never accepted.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cryptography import x509

from crypto_core.commands import ErrorCode
from crypto_core.documents import SignedDocument
from pki import cades
from pki.errors import CertificateError, PathInvalid, PkiError, SignatureInvalid
from pki.identity import load_certificate
from pki.path import PathResult, Verdict
from pki.policy import Purpose
from repository_worker.errors import Refused


class Validator(Protocol):
    """`pki.validator.IdentityValidator`, or anything else that judges certificates."""

    def validate(
        self,
        certificate: x509.Certificate,
        extra_intermediates: Iterable[x509.Certificate] = (),
        moment: datetime | None = None,
        purpose: Purpose | None = None,
    ) -> PathResult:
        """The answer about a certificate used at `moment` (None: now); never raises for a bad one."""

    def trace(
        self,
        certificate: x509.Certificate,
        extra_intermediates: Iterable[x509.Certificate],
        moment: datetime,
        purpose: Purpose,
    ) -> PathResult:
        """The path of a certificate at that moment, revocation aside."""


def read_certificate(der: bytes) -> x509.Certificate:
    """A certificate that somebody sent. Raises Refused."""
    try:
        return load_certificate(der)
    except CertificateError as error:
        raise Refused(ErrorCode.CERTIFICATE, str(error)) from error


def fold(name: str) -> str:
    """A name as it is searched for: without accents, without case, single spaces."""
    plain = "".join(each for each in unicodedata.normalize("NFKD", name) if not unicodedata.combining(each))
    return " ".join(plain.casefold().split())


@dataclass(frozen=True, slots=True)
class Identities:
    """The checks, over one validator."""

    validator: Validator

    def require_signature(self, signed: SignedDocument, certificate: x509.Certificate) -> None:
        """Raises Refused unless exactly this certificate's key signed the document."""
        try:
            cades.verify_document(signed.document, signed.signature, certificate=certificate)
        except SignatureInvalid as error:
            raise Refused(ErrorCode.SIGNATURE, str(error)) from error

    def require_valid(
        self,
        certificate: x509.Certificate,
        intermediates: Sequence[x509.Certificate],
        purpose: Purpose,
    ) -> tuple[x509.Certificate, ...]:
        """The certificate's path, leaf first. Raises Refused unless chain and revocation are good now."""
        try:
            result = self.validator.validate(certificate, intermediates, None, purpose)
            return result.require_valid().path
        except PathInvalid as error:
            untold = error.result.verdict is Verdict.COULD_NOT_TELL
            raise Refused(ErrorCode.UNAVAILABLE if untold else ErrorCode.CERTIFICATE, str(error)) from error
        except PkiError as error:
            raise Refused(ErrorCode.UNAVAILABLE, str(error)) from error
