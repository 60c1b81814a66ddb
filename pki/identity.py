"""Whose certificate is this? Ids, names and civil numbers, read from certificates.

Rules: nothing here says that a certificate may be believed; that is `path`. A certificate from which a name or number
cannot be read without doubt is refused, never guessed at.

    user_id(certificate).hex()          # 56 hex digits, the id of a citizen
    holder_name(certificate)            # "Maria Conceição Reis"
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

from pki.display import shown_name
from pki.errors import CertificateError

USER_ID_BYTES: Final = 28  #: SHA-224
CIVIL_NUMBER_PREFIX: Final = "BI"  #: how the Portuguese state begins a citizen's serialNumber
NAME_CHARACTERS_MAX: Final = 200  #: longer names are refused (RFC 5280 allows 64 for a common name, cards use more)


@dataclass(frozen=True, slots=True)
class CertificateSummary:
    """What a person needs to see of a certificate."""

    name: str
    civil_number: str
    issuer: str
    not_before: datetime
    not_after: datetime
    key_kind: str
    serial: int
    sha256: str  #: fingerprint of the DER form, lower-case hex


def load_certificate(der: bytes) -> x509.Certificate:
    """A certificate from its DER form. Raises CertificateError."""
    try:
        certificate = x509.load_der_x509_certificate(der)
    except (ValueError, TypeError, x509.InvalidVersion, CryptographyDeprecationWarning) as error:
        raise _unusable() from error
    if certificate.serial_number <= 0:  # RFC 5280 section 4.1.2.2; the library only warns of it
        raise _unusable()
    return certificate


def _unusable() -> CertificateError:
    return CertificateError(
        "A certificate cannot be read.",
        "It is damaged, or not a certificate of the form that RFC 5280 describes.",
        "Get it again from its source.",
    )


def user_id(certificate: x509.Certificate) -> bytes:
    """The id of the citizen whose authentication certificate this is: SHA-224 (28 bytes) of the certificate in PEM.

    The PEM is the strict form of RFC 7468 section 3: 64 columns, line feeds, one after the last line too, and nothing
    before or after the two boundary lines.
    """
    return hashlib.sha224(certificate.public_bytes(Encoding.PEM)).digest()


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER form, 64 lower-case hex digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def holder_name(certificate: x509.Certificate) -> str:
    """The common name. Raises CertificateError unless there is exactly one, printable."""
    return _one(certificate, NameOID.COMMON_NAME, "common name")


def civil_number(certificate: x509.Certificate) -> str:
    """The civil identification number as the state writes it, `BI` and digits. Raises CertificateError."""
    number = _one(certificate, NameOID.SERIAL_NUMBER, "civil number")
    digits = number.removeprefix(CIVIL_NUMBER_PREFIX)
    if digits == number or not (digits.isascii() and digits.isdigit()):
        raise CertificateError(
            "The certificate's serial number attribute is not a civil number.",
            "Without it nobody can tell whether two certificates are of one citizen.",
            "Use a Citizen Card's certificate.",
        )
    return number


def same_citizen(
    authentication: x509.Certificate,
    signature: x509.Certificate,
    paths: tuple[Sequence[x509.Certificate], Sequence[x509.Certificate]] | None = None,
) -> None:
    """Refuse unless both certificates name one citizen: civil number, country and, given the paths, one hierarchy.

    `paths` are the two validated paths, leaf first. They belong to one hierarchy when they end in the same root: civil
    numbers are unique under one state only. Raises CertificateError.
    """
    if civil_number(authentication) != civil_number(signature) or _country(authentication) != _country(signature):
        raise CertificateError(
            "The authentication and the signature certificate name different citizens.",
            "Somebody else's signature could pass as this citizen's.",
            "Use the two certificates of one card.",
        )
    if paths is not None and fingerprint(paths[0][-1]) != fingerprint(paths[1][-1]):
        raise CertificateError(
            "The authentication and the signature certificate come from different hierarchies.",
            "The same civil number under another root can be another person.",
            "Use the two certificates of one card.",
        )


def require_same_holder(former: x509.Certificate, current: x509.Certificate) -> None:
    """Refuse unless two authentication certificates name one citizen: civil number and country. CertificateError."""
    if civil_number(former) != civil_number(current) or _country(former) != _country(current):
        raise CertificateError(
            "The new card and the former one name different citizens.",
            "Somebody else could take over a registration.",
            "Use two cards of one citizen.",
        )


def summary(certificate: x509.Certificate) -> CertificateSummary:
    """The certificate for display. Raises CertificateError when it is not a citizen's."""
    return CertificateSummary(
        name=holder_name(certificate),
        civil_number=civil_number(certificate),
        issuer=issuer_name(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key_kind=key_kind(certificate),
        serial=certificate.serial_number,
        sha256=fingerprint(certificate),
    )


def issuer_name(certificate: x509.Certificate) -> str:
    """The issuer's common name, or its whole name where it has none."""
    return display_name(certificate.issuer)


def display_name(name: x509.Name) -> str:
    """A name's common name, or the whole of it (RFC 4514) where it has none, fit for a terminal."""
    try:
        names = name.get_attributes_for_oid(NameOID.COMMON_NAME)
        return shown_name(str(names[0].value) if names else name.rfc4514_string())
    except ValueError:
        return "(a name that cannot be read)"


def key_kind(certificate: x509.Certificate) -> str:
    """`RSA-3072`, `P-256`, or the bare type's name of a key that citizens do not use. Raises CertificateError."""
    try:
        key = certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(
            "The certificate's public key cannot be read.",
            "No signature can be checked with it.",
            "Use a certificate with an RSA or elliptic curve key.",
        ) from error
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return {"secp256r1": "P-256", "secp384r1": "P-384"}.get(key.curve.name, key.curve.name)
    return type(key).__name__


def _country(certificate: x509.Certificate) -> str:
    return _one(certificate, NameOID.COUNTRY_NAME, "country")


def _one(certificate: x509.Certificate, oid: x509.ObjectIdentifier, what: str) -> str:
    try:
        values = certificate.subject.get_attributes_for_oid(oid)
    except ValueError as error:
        raise _unreadable(what) from error
    if len(values) != 1 or not isinstance(values[0].value, str):
        raise _unreadable(what)
    value = values[0].value
    # Control characters and direction marks could make one name look like another on a terminal.
    if not value.strip() or len(value) > NAME_CHARACTERS_MAX or not value.isprintable():
        raise _unreadable(what)
    return value


def _unreadable(what: str) -> CertificateError:
    return CertificateError(
        f"The certificate does not hold exactly one readable {what}.",
        "It would be unclear whom it names.",
        "Use a Citizen Card's certificate.",
    )
