"""The one CMS structure that a card's signature may be, taken apart and put together: SignedData (RFC 5652).

Rules: one signer, no content, attributes that are signed and no others, certificates and no revocation lists. Each part
is checked and refused for its own reason; then what was read is put together again and must give the same bytes, so
that BER, unknown fields and anything overlooked is refused too. What the parts mean, and whether the signature holds,
is in `cades`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki import der
from pki.errors import SignatureInvalid

CERTIFICATES_MAX: Final = 8  #: the signer's and those that accompany it

# Object identifiers, encoded.
ID_DATA: Final = bytes.fromhex("06092a864886f70d010701")
_ID_SIGNED_DATA: Final = bytes.fromhex("06092a864886f70d010702")
CONTENT_TYPE: Final = bytes.fromhex("06092a864886f70d010903")
MESSAGE_DIGEST: Final = bytes.fromhex("06092a864886f70d010904")
SIGNING_TIME: Final = bytes.fromhex("06092a864886f70d010905")
SIGNING_CERTIFICATE: Final = bytes.fromhex("060b2a864886f70d010910022f")  #: signing-certificate-v2 (RFC 5035)

MANDATORY: Final = {
    CONTENT_TYPE: "content-type",
    MESSAGE_DIGEST: "message-digest",
    SIGNING_CERTIFICATE: "signing-certificate-v2",
}
_KNOWN: Final = {**MANDATORY, SIGNING_TIME: "signing-time"}

#: CMSVersion (section 5.1): 1 where there are only X.509 certificates and id-data.
_VERSION: Final = der.element(der.INTEGER, b"\x01")
_CERTIFICATES: Final = der.context(0)
_LISTS: Final = der.context(1)
_SIGNED_ATTRIBUTES: Final = der.context(0)
_UNSIGNED_ATTRIBUTES: Final = der.context(1)


@dataclass(frozen=True, slots=True)
class Parts:
    """All that may differ between two signatures, in DER; everything else in the structure is fixed."""

    certificates: tuple[bytes, ...]
    signer: bytes  #: IssuerAndSerialNumber
    attributes: Mapping[bytes, bytes]  #: the one value of each signed attribute by its object identifier
    digest_algorithm: bytes
    signature_algorithm: bytes
    signature: bytes  #: itself, without tag and length

    def assemble(self) -> bytes:
        """The one DER form."""
        signer_info = der.sequence(
            _VERSION,
            self.signer,
            self.digest_algorithm,
            _attributes(self.attributes, _SIGNED_ATTRIBUTES),
            self.signature_algorithm,
            der.element(der.OCTET_STRING, self.signature),
        )
        content = der.sequence(
            _VERSION,
            der.set_of(self.digest_algorithm),
            der.sequence(ID_DATA),
            der.set_of(*self.certificates, tag=_CERTIFICATES),
            der.set_of(signer_info),
        )
        return der.sequence(_ID_SIGNED_DATA, der.element(der.context(0), content))


def to_be_signed(attributes: Mapping[bytes, bytes]) -> bytes:
    """What is signed: the SET OF, not the [0] that stands in the structure (RFC 5652 section 5.4)."""
    return _attributes(attributes, der.SET)


def _attributes(attributes: Mapping[bytes, bytes], tag: int) -> bytes:
    return der.set_of(*(der.sequence(kind, der.set_of(value)) for kind, value in attributes.items()), tag=tag)


def name_signer(certificate: x509.Certificate) -> bytes:
    """IssuerAndSerialNumber of a certificate (RFC 5652 section 10.2.4), with the bytes of its own issuer."""
    issuer, serial = issuer_and_serial(certificate)
    return der.sequence(issuer, serial)


def issuer_and_serial(certificate: x509.Certificate) -> tuple[bytes, bytes]:
    """The issuer and the serial number as they stand in a certificate (RFC 5280 section 4.1)."""
    fields = der.only(certificate.tbs_certificate_bytes, der.SEQUENCE).fields()
    fields.take_if(der.context(0))  # version
    serial = fields.take(der.INTEGER)
    fields.take(der.SEQUENCE)  # signature
    return fields.take(der.SEQUENCE).encoded, serial.encoded


def encoded(certificate: x509.Certificate) -> bytes:
    """A certificate in DER."""
    return certificate.public_bytes(Encoding.DER)


def read(data: bytes) -> Parts:
    """Takes a structure apart, and refuses it unless the parts give the same bytes again. Raises SignatureInvalid."""
    try:
        parts = _take_apart(data)
    except der.DerError as error:
        raise invalid(f"it is not a CMS signature of the form that is used here: {error}") from error
    if parts.assemble() != data:
        raise invalid("its encoding is not the one canonical form (DER, nothing added)")
    return parts


def invalid(reason: str) -> SignatureInvalid:
    """The refusal of a signature."""
    return SignatureInvalid(
        f"The signature was refused: {reason}.",
        "Nobody can be held to what it seems to sign.",
        "Do not trust the document; ask the sender for it again.",
    )


def _take_apart(data: bytes) -> Parts:
    info = der.only(data, der.SEQUENCE).fields()
    if info.take(der.OID).encoded != _ID_SIGNED_DATA:
        raise invalid("it is CMS, but not SignedData")
    wrapped = info.take(der.context(0))
    info.end()
    content = der.only(wrapped.content, der.SEQUENCE).fields()
    if content.take(der.INTEGER).encoded != _VERSION:
        raise invalid("its version is not 1")
    announced = _one(content.take(der.SET), "names", "digests")
    _check_detached(content.take(der.SEQUENCE).fields())
    certificates = _certificates(content.take_if(_CERTIFICATES))
    if content.next_tag == _LISTS:
        raise invalid("it brings revocation lists")
    signer = _one(content.take(der.SET), "has", "signers")
    content.end()
    return _signer_info(signer, announced, certificates)


def _one(set_of: der.Element, verb: str, what: str) -> der.Element:
    found = der.elements(set_of.content)
    if len(found) != 1:
        raise invalid(f"it {verb} {len(found)} {what}, not exactly one")
    return found[0]


def _check_detached(content: der.Fields) -> None:
    if content.take(der.OID).encoded != ID_DATA:
        raise invalid("what it signs is not of type id-data")
    if content.next_tag is not None:
        raise invalid("the document is inside of it: the signature must be detached")


def _certificates(brought: der.Element | None) -> tuple[bytes, ...]:
    found = der.elements(brought.content) if brought else []
    if not 1 <= len(found) <= CERTIFICATES_MAX:
        raise invalid(f"it brings {len(found)} certificates, not 1 to {CERTIFICATES_MAX}")
    return tuple(each.encoded for each in found)


def _signer_info(signer: der.Element, announced: der.Element, certificates: tuple[bytes, ...]) -> Parts:
    """RFC 5652 section 5.3: version 1, named by issuer and serial number, attributes signed and none unsigned."""
    fields = der.only(signer.encoded, der.SEQUENCE).fields()
    version = fields.take(der.INTEGER)
    named = fields.take_if(der.SEQUENCE)
    if named is None:
        raise invalid("its signer is not named by issuer and serial number")
    if version.encoded != _VERSION:
        raise invalid("the version of its signer is not 1")
    digest_algorithm = fields.take(der.SEQUENCE)
    attributes = fields.take_if(_SIGNED_ATTRIBUTES)
    if attributes is None:
        raise invalid("it has no signed attributes")
    signature_algorithm, signature = fields.take(der.SEQUENCE), fields.take(der.OCTET_STRING)
    if fields.next_tag == _UNSIGNED_ATTRIBUTES:
        raise invalid("it has attributes that are not signed")
    fields.end()
    if announced.encoded != digest_algorithm.encoded:
        raise invalid("it announces another digest than the signer used")
    return Parts(
        certificates=certificates,
        signer=named.encoded,
        attributes=_signed_attributes(attributes),
        digest_algorithm=digest_algorithm.encoded,
        signature_algorithm=signature_algorithm.encoded,
        signature=signature.content,
    )


def _signed_attributes(attributes: der.Element) -> dict[bytes, bytes]:
    """The signed attributes, each known, each once with one value, in DER order."""
    found: dict[bytes, bytes] = {}
    standing = der.elements(attributes.content)
    for each in standing:
        fields = der.only(each.encoded, der.SEQUENCE).fields()
        kind, values = fields.take(der.OID), der.elements(fields.take(der.SET).content)
        fields.end()
        if kind.encoded in found:
            raise invalid(f"the signed attribute {_shown(kind)} stands in it twice")
        if kind.encoded not in _KNOWN:
            raise invalid(f"the signed attribute {_shown(kind)} is not known here")
        if len(values) != 1:
            raise invalid(f"the signed attribute {_shown(kind)} has not exactly one value")
        found[kind.encoded] = values[0].encoded
    for wanted, name in MANDATORY.items():
        if wanted not in found:
            raise invalid(f"the signed attribute {name} is missing")
    if standing != sorted(standing, key=lambda each: each.encoded):
        raise invalid("its signed attributes are not in DER order")
    return found


def _shown(kind: der.Element) -> str:
    return _KNOWN.get(kind.encoded) or der.dotted(kind)
