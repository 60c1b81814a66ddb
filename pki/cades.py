"""Detached CAdES signatures: the form in which a card signs a document, for people and courts.

A CMS SignedData (RFC 5652) with exactly one signer, no content inside, and the signed attributes of CAdES-B-B (ETSI
EN 319 122-1 section 6.3): content-type, message-digest, signing-certificate-v2 (RFC 5035) and signing-time.
`openssl cms -verify -binary -purpose any -inform DER -content DOCUMENT` accepts it without this software.

Rules of verification: one form only, and DER only: how it is taken apart is `signed_data`. The signing time is a claim
of the signer: it is made always, may be absent where another maker left it out, and nothing rests on it. Not covered by
the signature are the accompanying certificates: they are hints for building the path, nothing more. An ECDSA signature
has a second valid form (s and n - s): whoever needs a unique object hashes it, and does not take two signatures for two
acts.

This module does not say whether the certificate may be believed; that is `validator`.

    signature = sign_document(document, card, CardKeyUse.SIGNATURE, chain=intermediates)
    signer = verify_document(document, signature).certificate
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from pki import der, signed_data
from pki.errors import CertificateError, SignatureInvalid
from pki.identity import fingerprint, load_certificate
from pki.policy import RSA_BITS_MAX, RSA_BITS_MIN
from pki.signed_data import Parts, encoded, invalid
from pki.tokens.profiles import CardKeyUse

SIGNATURE_BYTES_MAX: Final = 64 * 1024  #: a whole CMS object; with RSA-4096 and a chain of four it needs about 10 KiB
_PSS_SALT_BYTES: Final = 32
_CURVES: Final = ("secp256r1", "secp384r1")
_DIRECTORY_NAME: Final = der.context(4)  #: of a GeneralName (RFC 5280 section 4.2.1.6)


class SignatureAlgorithm(enum.Enum):
    """What a card's signature may be. The digest is always SHA-256."""

    RSA_PKCS1_SHA256 = "RSA PKCS#1 v1.5 with SHA-256"
    RSA_PSS_SHA256 = "RSA-PSS with SHA-256"
    ECDSA_SHA256 = "ECDSA with SHA-256"


class DocumentSigner(Protocol):
    """What signs: `signers.Card`, or anything else with a certificate and a key behind it."""

    def certificate(self, use: CardKeyUse) -> x509.Certificate | None:
        """The certificate for that use."""

    def sign(self, use: CardKeyUse, data: bytes) -> bytes:
        """A signature over SHA-256 of the data."""


@dataclass(frozen=True, slots=True)
class VerifiedSignature:
    """A signature that holds. Whether its certificate may be believed is another question."""

    certificate: x509.Certificate
    other_certificates: tuple[x509.Certificate, ...]  #: not covered by the signature
    algorithm: SignatureAlgorithm
    claimed_time: datetime | None  #: signing-time, which the signer is free to choose


def sign_document(
    document: bytes,
    card: DocumentSigner,
    use: CardKeyUse,
    *,
    chain: Sequence[x509.Certificate] = (),
    signing_time: datetime | None = None,
) -> bytes:
    """Sign a document with a card: a detached CMS SignedData in DER.

    `chain` are intermediates to send along (no root); `signing_time` is now when None. Raises what the card raises, and
    SignatureInvalid when the card's own signature does not hold.
    """
    certificate = card.certificate(use)
    if certificate is None:
        raise invalid(f"the card has no {use.value} certificate")
    attributes = _attributes(document, certificate, signing_time or datetime.now(UTC))
    to_be_signed = signed_data.to_be_signed(attributes)
    accompanying = [c for c in chain if fingerprint(c) != fingerprint(certificate)]
    signature = card.sign(use, to_be_signed)
    signed = Parts(
        certificates=tuple(encoded(c) for c in (certificate, *accompanying)),
        signer=signed_data.name_signer(certificate),
        attributes=attributes,
        digest_algorithm=_SHA256,
        signature_algorithm=_algorithm_of(certificate, to_be_signed, signature),
        signature=signature,
    ).assemble()
    # A card that signs wrongly, or a certificate that is not the key's, must not be found out by the recipient.
    verify_document(document, signed, certificate=certificate)
    return signed


def verify_document(
    document: bytes, cms_der: bytes, *, certificate: x509.Certificate | None = None
) -> VerifiedSignature:
    """Check a detached signature over a document. With `certificate` the signer must be exactly that one.

    Raises SignatureInvalid, whatever is wrong.
    """
    if len(cms_der) > SIGNATURE_BYTES_MAX:
        raise invalid(f"it has {len(cms_der)} bytes, over the limit of {SIGNATURE_BYTES_MAX}")
    parts = signed_data.read(cms_der)
    _check_algorithms(parts)
    certificates = [_readable(each) for each in parts.certificates]
    signer = _find_signer(parts, certificates)
    if certificate is not None and signer != certificate:
        raise invalid("it was made by another certificate than the one expected")
    claimed_time = _check_attributes(parts.attributes, document, signer)
    algorithm = _check_signature(parts, signer)
    others = tuple(c for c in certificates if c != signer)
    return VerifiedSignature(signer, others, algorithm, claimed_time)


# --- making ---------------------------------------------------------------------------------------------------------


def _attributes(document: bytes, certificate: x509.Certificate, signing_time: datetime) -> dict[bytes, bytes]:
    return {
        signed_data.CONTENT_TYPE: signed_data.ID_DATA,
        signed_data.MESSAGE_DIGEST: _message_digest(document),
        signed_data.SIGNING_CERTIFICATE: _signing_certificate(certificate),
        signed_data.SIGNING_TIME: der.time(signing_time),
    }


def _message_digest(document: bytes) -> bytes:
    return der.element(der.OCTET_STRING, hashlib.sha256(document).digest())


def _signing_certificate(certificate: x509.Certificate, *, named: bool = True) -> bytes:
    """RFC 5035 section 4: the hash of the signer's certificate and, when `named`, its issuer and serial number.

    The hash algorithm is left out: SHA-256 is the default, and DER leaves defaults out.
    """
    identifier = [der.element(der.OCTET_STRING, hashlib.sha256(encoded(certificate)).digest())]
    if named:
        issuer, serial = signed_data.issuer_and_serial(certificate)
        identifier.append(der.sequence(der.sequence(der.element(_DIRECTORY_NAME, issuer)), serial))
    return der.sequence(der.sequence(der.sequence(*identifier)))


def _algorithm_of(certificate: x509.Certificate, signed: bytes, signature: bytes) -> bytes:
    """What the card has signed with. An RSA card chooses PKCS#1 v1.5 or PSS by what it can do: the signature tells."""
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _ECDSA_FORM
    if not isinstance(key, rsa.RSAPublicKey):
        raise invalid("the certificate's key is neither RSA nor ECDSA")
    try:
        key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return _PSS_FORM  # if it is not that either, the check at the end says so
    return _RSA_FORM


# --- checking -------------------------------------------------------------------------------------------------------


def _check_algorithms(parts: Parts) -> None:
    """SHA-256, with the parameters absent or NULL (RFC 5754 section 2 accepts both), and a signature over it."""
    if parts.digest_algorithm not in _DIGEST_FORMS:
        raise invalid("its digest is not SHA-256")
    if parts.signature_algorithm not in _SIGNATURE_FORMS:
        raise invalid("its signature algorithm, or a parameter of it, is not one that is accepted here")


#: The exact encodings of every algorithm identifier that is accepted: no parameter can be smuggled in.
_SHA256: Final = bytes.fromhex("300d06096086480165030402010500")  # id-sha256 with NULL
_DIGEST_FORMS: Final = frozenset({_SHA256, bytes.fromhex("300b0609608648016503040201")})  # and with nothing
_RSA_FORM: Final = bytes.fromhex("300d06092a864886f70d01010b0500")  # sha256WithRSAEncryption
_ECDSA_FORM: Final = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
_PSS_FORM: Final = bytes.fromhex(
    "304106092a864886f70d01010a3034a00f300d06096086480165030402010500"
    "a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120"
)
_SIGNATURE_FORMS: Final = {
    bytes.fromhex("300d06092a864886f70d0101010500"): SignatureAlgorithm.RSA_PKCS1_SHA256,  # rsaEncryption
    _RSA_FORM: SignatureAlgorithm.RSA_PKCS1_SHA256,
    _ECDSA_FORM: SignatureAlgorithm.ECDSA_SHA256,
    # RSASSA-PSS with SHA-256, MGF1 with SHA-256 and 32 bytes of salt (RFC 4055 section 3.1); the digest's parameters
    # NULL, then absent.
    _PSS_FORM: SignatureAlgorithm.RSA_PSS_SHA256,
    bytes.fromhex(
        "303d06092a864886f70d01010a3030a00d300b0609608648016503040201"
        "a11a301806092a864886f70d010108300b0609608648016503040201a203020120"
    ): SignatureAlgorithm.RSA_PSS_SHA256,
}


def _find_signer(parts: Parts, certificates: Sequence[x509.Certificate]) -> x509.Certificate:
    matching = [each for each in certificates if signed_data.name_signer(each) == parts.signer]
    if len(matching) != 1 or len(set(parts.certificates)) != len(certificates):
        raise invalid("it does not hold its signer's certificate exactly once")
    return matching[0]


def _check_attributes(attributes: Mapping[bytes, bytes], document: bytes, signer: x509.Certificate) -> datetime | None:
    """Gives the signing time. The attribute about the certificate must be the one that we make, named or not."""
    if attributes[signed_data.CONTENT_TYPE] != signed_data.ID_DATA:
        raise invalid("its content-type attribute is not id-data")
    if not hmac.compare_digest(attributes[signed_data.MESSAGE_DIGEST], _message_digest(document)):
        raise SignatureInvalid(
            "The document was changed after it was signed, or the signature belongs to another document.",
            "Nobody has signed what you see.",
            "Do not trust it; ask the sender for it again.",
        )
    accepted = (_signing_certificate(signer), _signing_certificate(signer, named=False))
    if attributes[signed_data.SIGNING_CERTIFICATE] not in accepted:
        raise invalid("its signing-certificate attribute names another certificate")
    claimed = attributes.get(signed_data.SIGNING_TIME)
    return None if claimed is None else _moment(claimed)


def _moment(claimed: bytes) -> datetime:
    """A moment has one form: UTC, whole seconds, GeneralizedTime from 2050 on (RFC 5652 section 11.3)."""
    try:
        found = der.moment(der.first(claimed, 0))
        if der.time(found) == claimed:
            return found
    except der.DerError as error:
        raise invalid(f"its signing time is not in the form that the standard asks for: {error}") from error
    raise invalid("its signing time is not in the form that the standard asks for")


def _check_signature(parts: Parts, signer: x509.Certificate) -> SignatureAlgorithm:
    algorithm = _SIGNATURE_FORMS[parts.signature_algorithm]
    signed = signed_data.to_be_signed(parts.attributes)
    try:
        key = signer.public_key()
        if isinstance(key, rsa.RSAPublicKey) and algorithm is not SignatureAlgorithm.ECDSA_SHA256:
            if not RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
                raise invalid(f"its RSA key has {key.key_size} bits, not {RSA_BITS_MIN} to {RSA_BITS_MAX}")
            key.verify(parts.signature, signed, _padding(algorithm), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm is SignatureAlgorithm.ECDSA_SHA256:
            if key.curve.name not in _CURVES:
                raise invalid("its elliptic curve is not one that is accepted here")
            key.verify(parts.signature, signed, ec.ECDSA(hashes.SHA256()))
        else:
            raise invalid("its algorithm does not fit the certificate's key")
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError) as error:
        raise invalid("the signature does not hold") from error
    return algorithm


def _padding(algorithm: SignatureAlgorithm) -> padding.AsymmetricPadding:
    if algorithm is SignatureAlgorithm.RSA_PSS_SHA256:
        return padding.PSS(padding.MGF1(hashes.SHA256()), _PSS_SALT_BYTES)
    return padding.PKCS1v15()


def _readable(data: bytes) -> x509.Certificate:
    try:
        return load_certificate(data)
    except CertificateError as error:
        raise invalid("a certificate in it cannot be read") from error
