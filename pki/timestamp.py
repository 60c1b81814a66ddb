"""Time stamps (RFC 3161): asking an authority for one, and verifying it.

A token is a CMS SignedData over a TSTInfo. It counts when all of this holds:

  1. one signer, whose certificate is inside, is named by signing-certificate(-v2), and signed the TSTInfo
  2. that certificate is for time stamping alone (critical extended key usage), and leads to a chosen root at that time
  3. the imprint is SHA-256 of what was asked about; the nonce is the one that was sent, where one was; the policy the
     one that was asked for, where one was

Revocation of the authority's certificate is not looked at: the operator who chose its root takes another one then.

    question = ask(digest, nonce)
    token = read_answer(answer, digest, nonce, trust)
    verify_token(token, digest, trust).time
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki.asn1 import algos, cms, core, parser, tsp
from pki.errors import CertificateError, SignatureInvalid
from pki.identity import load_certificate
from pki.path import find_path
from pki.policy import ValidationPolicy

TOKEN_BYTES_MAX: Final = 16 * 1024  #: with a chain of three RSA-4096 certificates it needs about 7 KiB
ANSWER_BYTES_MAX: Final = TOKEN_BYTES_MAX + 1024
NONCE_BYTES: Final = 16
CERTIFICATES_MAX: Final = 8
_DIGESTS: Final = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
_GRANTED: Final = ("granted", "granted_with_mods")
_CONTENT_TYPE: Final = "tst_info"


class _Response(core.Sequence):  # type: ignore[misc]
    """TimeStampResp; a refusal has no token, which the library's own class does not know."""

    _fields: ClassVar[list[Any]] = [
        ("status", tsp.PKIStatusInfo),
        ("time_stamp_token", cms.ContentInfo, {"optional": True}),
    ]


@dataclass(frozen=True, slots=True)
class StampTrust:
    """Roots of time-stamp authorities that were chosen, and the policy (dotted OID) that is asked for, if any."""

    anchors: tuple[x509.Certificate, ...]
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class VerifiedStamp:
    """What an authority says: that it saw the digest at `time`."""

    time: datetime
    certificate: x509.Certificate


def ask(digest: bytes, nonce: bytes, policy: str | None = None) -> bytes:
    """A TimeStampReq in DER for a SHA-256 (32 bytes) with a nonce (16 bytes), that wants the certificates inside."""
    question: dict[str, Any] = {
        "version": "v1",
        "message_imprint": {"hash_algorithm": {"algorithm": "sha256"}, "hashed_message": digest},
        "nonce": int.from_bytes(nonce, "big"),
        "cert_req": True,
    }
    if policy is not None:
        question["req_policy"] = policy
    return bytes(tsp.TimeStampReq(question).dump())


def read_answer(answer: bytes, digest: bytes, nonce: bytes, trust: StampTrust) -> bytes:
    """The verified token in a TimeStampResp. Raises SignatureInvalid or PathInvalid."""
    if len(answer) > ANSWER_BYTES_MAX:
        raise _invalid(f"the answer has {len(answer)} bytes, over the limit of {ANSWER_BYTES_MAX}")
    with _malformed_is_invalid():
        response = _Response.load(answer, strict=True)
        status = response["status"]["status"].native
        if status not in _GRANTED:
            raise _invalid(f"the authority gave none: {status}")
        token = bytes(response["time_stamp_token"].dump())
    verify_token(token, digest, trust, nonce)
    return token


def verify_token(token: bytes, digest: bytes, trust: StampTrust, nonce: bytes | None = None) -> VerifiedStamp:
    """What a token says about this SHA-256 (32 bytes). Raises SignatureInvalid or PathInvalid."""
    if len(token) > TOKEN_BYTES_MAX:
        raise _invalid(f"it has {len(token)} bytes, over the limit of {TOKEN_BYTES_MAX}")
    with _malformed_is_invalid():
        if parser.peek(token) != len(token):
            raise _invalid("bytes follow after its end")
        signed = _signed_data(token)
        info, signer_info = _info(signed), signed["signer_infos"][0]
        certificates = _certificates(signed)
        signer = _signer(signer_info, certificates)
        _check_attributes(signer_info, signed, signer)
        _check_signature(signer_info, signer)
        _check_purpose(signer)
        time = _check_info(info, digest, trust.policy, nonce)
    policy = ValidationPolicy(require_revocation=False)
    helpers = [each for each in certificates if each != signer]
    find_path(signer, anchors=trust.anchors, intermediates=helpers, moment=time, policy=policy).require_valid()
    return VerifiedStamp(time, signer)


def _signed_data(token: bytes) -> cms.SignedData:
    info = cms.ContentInfo.load(token, strict=True)
    if info["content_type"].native != "signed_data":
        raise _invalid("it is no SignedData")
    signed = info["content"]
    if signed["encap_content_info"]["content_type"].native != _CONTENT_TYPE:
        raise _invalid("what it signs is no TSTInfo")
    if len(signed["signer_infos"]) != 1:
        raise _invalid("it has not exactly one signer")
    return signed


def _info(signed: cms.SignedData) -> tsp.TSTInfo:
    return tsp.TSTInfo.load(bytes(signed["encap_content_info"]["content"]), strict=True)


def _certificates(signed: cms.SignedData) -> list[x509.Certificate]:
    choices = signed["certificates"]
    if not 1 <= len(choices) <= CERTIFICATES_MAX:
        raise _invalid(f"it brings {len(choices)} certificates, not 1 to {CERTIFICATES_MAX}")
    return [load_certificate(choice.chosen.dump()) for choice in choices]


def _signer(signer_info: cms.SignerInfo, certificates: Sequence[x509.Certificate]) -> x509.Certificate:
    sid = signer_info["sid"]
    if sid.name != "issuer_and_serial_number":
        raise _invalid("its signer is not named by issuer and serial number")
    issuer, serial = sid.chosen["issuer"].dump(), sid.chosen["serial_number"].native
    for each in certificates:
        if (each.issuer.public_bytes(), each.serial_number) == (issuer, serial):
            return each
    raise _invalid("it does not hold its signer's certificate")


def _check_attributes(signer_info: cms.SignerInfo, signed: cms.SignedData, signer: x509.Certificate) -> None:
    kinds = [attribute["type"].native for attribute in signer_info["signed_attrs"]]
    if len(set(kinds)) != len(kinds) or any(len(each["values"]) != 1 for each in signer_info["signed_attrs"]):
        raise _invalid("a signed attribute stands in it twice, or has not exactly one value")
    values = {attribute["type"].native: attribute["values"][0] for attribute in signer_info["signed_attrs"]}
    if values["content_type"].native != _CONTENT_TYPE:
        raise _invalid("its content-type attribute is another one")
    content = bytes(signed["encap_content_info"]["content"])
    found = hashlib.new(_digest_name(signer_info["digest_algorithm"]), content).digest()
    if not hmac.compare_digest(bytes(values["message_digest"].native), found):
        raise _invalid("it was changed after it was signed")
    _check_signing_certificate(values, signer)


def _check_signing_certificate(values: dict[str, Any], signer: x509.Certificate) -> None:
    """RFC 5816: by SHA-256 or another digest, or in the older form of RFC 2634 by SHA-1, which finds and proves not."""
    if "signing_certificate_v2" in values:
        named = values["signing_certificate_v2"]["certs"][0]
        algorithm = _digest_name(named["hash_algorithm"])
    else:
        named, algorithm = values["signing_certificate"]["certs"][0], "sha1"
    if signer.fingerprint(hashes.SHA1() if algorithm == "sha1" else _DIGESTS[algorithm]) != named["cert_hash"].native:  # noqa: S303
        raise _invalid("its signing-certificate attribute names another certificate")


def _check_signature(signer_info: cms.SignerInfo, signer: x509.Certificate) -> None:
    digest = _DIGESTS[_digest_name(signer_info["digest_algorithm"])]
    signature, key = bytes(signer_info["signature"].native), signer.public_key()
    signed = signer_info["signed_attrs"].untag().dump()  # the SET OF (RFC 5652 section 5.4)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(digest))
        else:
            raise _invalid("its signer's key is neither RSA nor on an elliptic curve")
    except (InvalidSignature, UnsupportedAlgorithm) as error:
        raise _invalid("the signature does not hold") from error


def _check_purpose(signer: x509.Certificate) -> None:
    """RFC 3161 section 2.3: one extended key usage, critical."""
    try:
        usage = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound as error:
        raise _invalid("its signer's certificate is not for time stamping") from error
    if not usage.critical or list(usage.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        raise _invalid("its signer's certificate is not for time stamping alone")


def _check_info(info: tsp.TSTInfo, digest: bytes, policy: str | None, nonce: bytes | None) -> datetime:
    imprint = info["message_imprint"]
    if imprint["hash_algorithm"]["algorithm"].native != "sha256" or imprint["hashed_message"].native != digest:
        raise _invalid("it is about something else")
    if nonce is not None and info["nonce"].native != int.from_bytes(nonce, "big"):
        raise _invalid("it answers another question")
    if policy is not None and info["policy"].dotted != policy:
        raise _invalid(f"it was made under the policy {info['policy'].dotted}, not {policy}")
    time: datetime = info["gen_time"].native
    return time.astimezone(UTC)


def _digest_name(algorithm: algos.DigestAlgorithm) -> str:
    name = str(algorithm["algorithm"].native)
    if name not in _DIGESTS:
        raise _invalid(f"its digest {name} is not accepted")
    return name


@contextmanager
def _malformed_is_invalid() -> Iterator[None]:
    """asn1crypto parses a field when it is touched, and says "malformed" with any of these."""
    try:
        yield
    except CertificateError as error:
        raise _invalid("a certificate in it cannot be read") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise _invalid("it is not of the form of RFC 3161") from error


def _invalid(reason: str) -> SignatureInvalid:
    return SignatureInvalid(
        f"The time stamp was refused: {reason}.",
        "It does not show that anything existed at that time.",
        "Do not rely on it; ask the operator for another authority if it goes on.",
    )
