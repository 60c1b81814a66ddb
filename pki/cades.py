"""Detached CAdES signatures: the form in which a card signs a document, for people and courts.

A CMS SignedData (RFC 5652) with exactly one signer, no content inside, and the signed attributes of CAdES-B-B (ETSI
EN 319 122-1 section 6.3): content-type, message-digest, signing-certificate-v2 (RFC 5035) and signing-time.
`openssl cms -verify -binary -purpose any -inform DER -content DOCUMENT` accepts it without this software.

Rules of verification: one form only. Each part is checked and refused for its own reason; then what was read is put
together again and must give the same bytes, so that BER, unknown fields and anything overlooked is refused too. The
signing time is a claim of the signer: it is made always, may be absent where another maker left it out, and nothing
rests on it. Not covered by the signature are the accompanying certificates: they are hints for building the path,
nothing more. An ECDSA signature has a second valid form (s and n - s): whoever needs a unique object hashes it, and
does not take two signatures for two acts.

This module does not say whether the certificate may be believed; that is `validator`.

    signature = sign_document(document, card, CardKeyUse.SIGNATURE, chain=intermediates)
    signer = verify_document(document, signature).certificate
"""

from __future__ import annotations

import enum
import functools
import hashlib
import hmac
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pki.asn1 import algos, cms, core, parser, tsp
from pki.asn1 import x509 as asn1_x509
from pki.errors import CertificateError, SignatureInvalid
from pki.identity import fingerprint, load_certificate
from pki.policy import RSA_BITS_MAX, RSA_BITS_MIN
from pki.tokens.profiles import CardKeyUse

SIGNATURE_BYTES_MAX: Final = 64 * 1024  #: a whole CMS object; with RSA-4096 and a chain of four it needs about 10 KiB
CERTIFICATES_MAX: Final = 8  #: the signer's and those that accompany it
_PSS_SALT_BYTES: Final = 32
_CURVES: Final = ("secp256r1", "secp384r1")
_MANDATORY: Final = ("content_type", "message_digest", "signing_certificate_v2")
_OPTIONAL: Final = ("signing_time",)


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
        raise _invalid(f"the card has no {use.value} certificate")
    attributes = _attributes(document, certificate, signing_time or datetime.now(UTC))
    accompanying = [c for c in chain if fingerprint(c) != fingerprint(certificate)]
    signature = card.sign(use, attributes.dump())
    parts = _Parts(
        certificates=tuple(_asn1(c) for c in (certificate, *accompanying)),
        sid=_signer_identifier(_asn1(certificate)),
        attributes=attributes,
        digest_algorithm=algos.DigestAlgorithm({"algorithm": "sha256"}),
        signature_algorithm=_algorithm_of(certificate, attributes.dump(), signature),
        signature=signature,
    )
    signed = parts.assemble()
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
        raise _invalid(f"it has {len(cms_der)} bytes, over the limit of {SIGNATURE_BYTES_MAX}")
    with _malformed_is_invalid():
        parts = _parse(cms_der)
        certificates = [_readable(c.dump()) for c in parts.certificates]
        signer = _find_signer(parts, certificates)
        if certificate is not None and signer != certificate:
            raise _invalid("it was made by another certificate than the one expected")
        claimed_time = _check_attributes(parts.attributes, document, signer)
        algorithm = _check_signature(parts, signer)
    others = tuple(c for c in certificates if c != signer)
    return VerifiedSignature(signer, others, algorithm, claimed_time)


@dataclass(frozen=True, slots=True)
class _Parts:
    """All that may differ between two signatures; everything else in the structure is fixed."""

    certificates: tuple[asn1_x509.Certificate, ...]
    sid: cms.SignerIdentifier
    attributes: cms.CMSAttributes
    digest_algorithm: algos.DigestAlgorithm
    signature_algorithm: algos.SignedDigestAlgorithm
    signature: bytes

    def assemble(self) -> bytes:
        """The one DER form (RFC 5652 section 5.1: version 1, since there are only X.509 certificates and id-data)."""
        signer_info = {
            "version": "v1",
            "sid": self.sid,
            "digest_algorithm": self.digest_algorithm,
            "signed_attrs": self.attributes,
            "signature_algorithm": self.signature_algorithm,
            "signature": self.signature,
        }
        content = {
            "version": "v1",
            "digest_algorithms": [self.digest_algorithm],
            "encap_content_info": {"content_type": "data"},
            "certificates": [cms.CertificateChoices("certificate", c) for c in self.certificates],
            "signer_infos": [signer_info],
        }
        info = cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(content)})
        return bytes(info.dump())


# --- making ---------------------------------------------------------------------------------------------------------


def _attributes(document: bytes, certificate: x509.Certificate, signing_time: datetime) -> cms.CMSAttributes:
    attributes = [
        _attribute("content_type", "data"),
        _attribute("message_digest", hashlib.sha256(document).digest()),
        _attribute("signing_certificate_v2", _signing_certificate(certificate)),
        _attribute("signing_time", _time(signing_time)),
    ]
    # Sorted here, as DER wants (X.690 section 11.6): asn1crypto keeps the order in which a set is given.
    return cms.CMSAttributes(sorted(attributes, key=lambda attribute: attribute.dump()))


def _attribute(kind: str, value: Any) -> cms.CMSAttribute:
    return cms.CMSAttribute({"type": kind, "values": [value]})


def _time(moment: datetime) -> cms.Time:
    """UTCTime until 2049, GeneralizedTime after it (RFC 5652 section 11.3), whole seconds."""
    whole = moment.astimezone(UTC).replace(microsecond=0)
    if whole.year < 2050:
        return cms.Time("utc_time", core.UTCTime(whole))
    return cms.Time("generalized_time", core.GeneralizedTime(whole))


def _signing_certificate(certificate: x509.Certificate, *, named: bool = True) -> tsp.SigningCertificateV2:
    """RFC 5035 section 4: the hash of the signer's certificate and, when `named`, its issuer and serial number.

    The hash algorithm is left out: SHA-256 is the default, and DER leaves defaults out.
    """
    parsed = _asn1(certificate)
    identifier: dict[str, Any] = {"cert_hash": hashlib.sha256(parsed.dump()).digest()}
    if named:
        issuer = asn1_x509.GeneralName("directory_name", parsed.issuer)
        identifier["issuer_serial"] = {"issuer": [issuer], "serial_number": parsed.serial_number}
    return tsp.SigningCertificateV2({"certs": [tsp.ESSCertIDv2(identifier)]})


def _algorithm_of(certificate: x509.Certificate, signed: bytes, signature: bytes) -> algos.SignedDigestAlgorithm:
    """What the card has signed with. An RSA card chooses PKCS#1 v1.5 or PSS by what it can do: the signature tells."""
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return algos.SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"})
    if not isinstance(key, rsa.RSAPublicKey):
        raise _invalid("the certificate's key is neither RSA nor ECDSA")
    try:
        key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return algos.SignedDigestAlgorithm.load(_PSS_FORM)  # if it is not that either, the check at the end says so
    return algos.SignedDigestAlgorithm({"algorithm": "sha256_rsa"})


def _signer_identifier(certificate: asn1_x509.Certificate) -> cms.SignerIdentifier:
    issuer_serial = {"issuer": certificate.issuer, "serial_number": certificate.serial_number}
    return cms.SignerIdentifier("issuer_and_serial_number", cms.IssuerAndSerialNumber(issuer_serial))


def _asn1(certificate: x509.Certificate) -> asn1_x509.Certificate:
    return asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))


# --- checking -------------------------------------------------------------------------------------------------------


@contextmanager
def _malformed_is_invalid() -> Iterator[None]:
    """asn1crypto parses a field when it is touched, and says "malformed" with any of these."""
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise _invalid("it is not a CMS signature of the form that is used here") from error


def _parse(cms_der: bytes) -> _Parts:
    """Take the structure apart, and refuse it unless the parts give the same bytes again."""
    if parser.peek(cms_der) != len(cms_der):
        raise _invalid("bytes follow after its end")
    parts = _take_apart(cms_der)
    if parts.assemble() != cms_der:
        raise _invalid("its encoding is not the one canonical form (DER, nothing added)")
    return parts


def _take_apart(cms_der: bytes) -> _Parts:
    info = cms.ContentInfo.load(cms_der)
    if info["content_type"].native != "signed_data":
        raise _invalid("it is CMS, but not SignedData")
    content = info["content"]
    _check_content(content)
    signer_info = content["signer_infos"][0]
    _check_signer_info(signer_info)
    digest_algorithm = _digest_algorithm(signer_info["digest_algorithm"])
    if content["digest_algorithms"][0].dump() != digest_algorithm.dump():
        raise _invalid("it announces another digest than the signer used")
    return _Parts(
        certificates=tuple(_x509_choice(choice) for choice in content["certificates"]),
        sid=signer_info["sid"],
        attributes=_rebuilt_attributes(signer_info["signed_attrs"]),
        digest_algorithm=digest_algorithm,
        signature_algorithm=_signature_algorithm(signer_info["signature_algorithm"]),
        signature=bytes(signer_info["signature"].native),
    )


def _check_content(content: cms.SignedData) -> None:
    """Everything in SignedData but its signer (RFC 5652 section 5.1)."""
    if content["version"].native != "v1":
        raise _invalid("its version is not 1")
    if len(content["signer_infos"]) != 1:
        raise _invalid(f"it has {len(content['signer_infos'])} signers, not exactly one")
    if len(content["digest_algorithms"]) != 1:
        raise _invalid(f"it names {len(content['digest_algorithms'])} digests, not exactly one")
    if content["encap_content_info"]["content_type"].native != "data":
        raise _invalid("what it signs is not of type id-data")
    if not isinstance(content["encap_content_info"]["content"], core.Void) and (
        content["encap_content_info"]["content"].native is not None
    ):
        raise _invalid("the document is inside of it: the signature must be detached")
    if not 1 <= len(content["certificates"]) <= CERTIFICATES_MAX:
        raise _invalid(f"it brings {len(content['certificates'])} certificates, not 1 to {CERTIFICATES_MAX}")
    if content["crls"].native is not None:
        raise _invalid("it brings revocation lists")


def _check_signer_info(signer_info: cms.SignerInfo) -> None:
    """RFC 5652 section 5.3: version 1, named by issuer and serial number, attributes signed and none unsigned."""
    if signer_info["sid"].name != "issuer_and_serial_number":
        raise _invalid("its signer is not named by issuer and serial number")
    if signer_info["version"].native != "v1":
        raise _invalid("the version of its signer is not 1")
    if signer_info["signed_attrs"].native is None:
        raise _invalid("it has no signed attributes")
    if signer_info["unsigned_attrs"].native is not None:
        raise _invalid("it has attributes that are not signed")


def _x509_choice(choice: cms.CertificateChoices) -> asn1_x509.Certificate:
    if choice.name != "certificate":
        raise _invalid("an accompanying certificate is not X.509")
    return choice.chosen


def _rebuilt_attributes(attributes: cms.CMSAttributes) -> cms.CMSAttributes:
    """The signed attributes, each known, each once with one value, in DER order and DER form."""
    kinds = [attribute["type"].native for attribute in attributes]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise _invalid(f"the signed attribute {_shown(kind)} stands in it twice")
        if kind not in _MANDATORY and kind not in _OPTIONAL:
            raise _invalid(f"the signed attribute {_shown(kind)} is not known here")
    for kind in _MANDATORY:
        if kind not in kinds:
            raise _invalid(f"the signed attribute {_shown(kind)} is missing")
    for attribute in attributes:
        if len(attribute["values"]) != 1 or attribute["values"][0].native is None:
            raise _invalid(f"the signed attribute {_shown(attribute['type'].native)} has not exactly one value")
        if attribute["type"].native == "signing_time":
            _check_time(attribute["values"][0])
    encoded = [attribute.dump(force=True) for attribute in attributes]
    if encoded != sorted(encoded):
        raise _invalid("its signed attributes are not in DER order")
    return cms.CMSAttributes([cms.CMSAttribute.load(der, strict=True) for der in encoded])


def _check_time(value: cms.Time) -> None:
    """A moment has one form: UTC, whole seconds, GeneralizedTime from 2050 on (RFC 5652 section 11.3)."""
    if bytes(value.dump()) != bytes(_time(value.native).dump()):
        raise _invalid("its signing time is not in the form that the standard asks for")


def _shown(kind: str) -> str:
    return kind.replace("_", "-")


def _digest_algorithm(algorithm: algos.DigestAlgorithm) -> algos.DigestAlgorithm:
    """SHA-256, with the parameters absent or NULL (RFC 5754 section 2 accepts both)."""
    if algorithm.dump() not in _DIGEST_FORMS:
        raise _invalid("its digest is not SHA-256")
    return algorithm


def _signature_algorithm(algorithm: algos.SignedDigestAlgorithm) -> algos.SignedDigestAlgorithm:
    if algorithm.dump() not in _SIGNATURE_FORMS:
        raise _invalid("its signature algorithm, or a parameter of it, is not one that is accepted here")
    return algorithm


#: The exact encodings of every algorithm identifier that is accepted: no parameter can be smuggled in.
_DIGEST_FORMS: Final = frozenset(
    {
        bytes.fromhex("300b0609608648016503040201"),  # id-sha256, parameters absent
        bytes.fromhex("300d06096086480165030402010500"),  # id-sha256, NULL
    }
)
_PSS_FORM: Final = bytes.fromhex(
    "304106092a864886f70d01010a3034a00f300d06096086480165030402010500"
    "a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120"
)
_SIGNATURE_FORMS: Final = {
    bytes.fromhex("300d06092a864886f70d0101010500"): SignatureAlgorithm.RSA_PKCS1_SHA256,  # rsaEncryption
    bytes.fromhex("300d06092a864886f70d01010b0500"): SignatureAlgorithm.RSA_PKCS1_SHA256,  # sha256WithRSAEncryption
    bytes.fromhex("300a06082a8648ce3d040302"): SignatureAlgorithm.ECDSA_SHA256,  # ecdsa-with-SHA256
    # RSASSA-PSS with SHA-256, MGF1 with SHA-256 and 32 bytes of salt (RFC 4055 section 3.1); the digest's parameters
    # NULL, then absent.
    _PSS_FORM: SignatureAlgorithm.RSA_PSS_SHA256,
    bytes.fromhex(
        "303d06092a864886f70d01010a3030a00d300b0609608648016503040201"
        "a11a301806092a864886f70d010108300b0609608648016503040201a203020120"
    ): SignatureAlgorithm.RSA_PSS_SHA256,
}


def _find_signer(parts: _Parts, certificates: Sequence[x509.Certificate]) -> x509.Certificate:
    matching = [
        certificate
        for certificate, parsed in zip(certificates, parts.certificates, strict=True)
        if parts.sid.dump() == _signer_identifier(parsed).dump()
    ]
    if len(matching) != 1 or len({fingerprint(c) for c in certificates}) != len(certificates):
        raise _invalid("it does not hold its signer's certificate exactly once")
    return matching[0]


def _check_attributes(attributes: cms.CMSAttributes, document: bytes, signer: x509.Certificate) -> datetime | None:
    values = {attribute["type"].native: attribute["values"][0] for attribute in attributes}
    if values["content_type"].native != "data":
        raise _invalid("its content-type attribute is not id-data")
    digest = hashlib.sha256(document).digest()
    if not hmac.compare_digest(bytes(values["message_digest"].native), digest):
        raise SignatureInvalid(
            "The document was changed after it was signed, or the signature belongs to another document.",
            "Nobody has signed what you see.",
            "Do not trust it; ask the sender for it again.",
        )
    _check_signing_certificate(values["signing_certificate_v2"], signer)
    claimed = values.get("signing_time")
    return None if claimed is None else claimed.native


def _check_signing_certificate(value: Any, signer: x509.Certificate) -> None:
    """The attribute must be the very one that we would make, with issuer and serial number or without them."""
    if bytes(value.dump()) not in _accepted_signing_certificates(signer):
        raise _invalid("its signing-certificate attribute names another certificate")


# Says the same of a certificate every time, and takes a third of a verification to make.
@functools.lru_cache(maxsize=1024)
def _accepted_signing_certificates(signer: x509.Certificate) -> tuple[bytes, ...]:
    return tuple(bytes(_signing_certificate(signer, named=named).dump()) for named in (True, False))


def _check_signature(parts: _Parts, signer: x509.Certificate) -> SignatureAlgorithm:
    algorithm = _SIGNATURE_FORMS[parts.signature_algorithm.dump()]
    signed = parts.attributes.dump()  # the SET OF, not the [0] that stands in the structure (RFC 5652 section 5.4)
    try:
        key = signer.public_key()
        if isinstance(key, rsa.RSAPublicKey) and algorithm is not SignatureAlgorithm.ECDSA_SHA256:
            if not RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
                raise _invalid(f"its RSA key has {key.key_size} bits, not {RSA_BITS_MIN} to {RSA_BITS_MAX}")
            key.verify(parts.signature, signed, _padding(algorithm), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm is SignatureAlgorithm.ECDSA_SHA256:
            if key.curve.name not in _CURVES:
                raise _invalid("its elliptic curve is not one that is accepted here")
            key.verify(parts.signature, signed, ec.ECDSA(hashes.SHA256()))
        else:
            raise _invalid("its algorithm does not fit the certificate's key")
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError) as error:
        raise _invalid("the signature does not hold") from error
    return algorithm


def _padding(algorithm: SignatureAlgorithm) -> padding.AsymmetricPadding:
    if algorithm is SignatureAlgorithm.RSA_PSS_SHA256:
        return padding.PSS(padding.MGF1(hashes.SHA256()), _PSS_SALT_BYTES)
    return padding.PKCS1v15()


def _readable(der: bytes) -> x509.Certificate:
    try:
        return load_certificate(der)
    except CertificateError as error:
        raise _invalid("a certificate in it cannot be read") from error


def _invalid(reason: str) -> SignatureInvalid:
    return SignatureInvalid(
        f"The signature was refused: {reason}.",
        "Nobody can be held to what it seems to sign.",
        "Do not trust the document; ask the sender for it again.",
    )
