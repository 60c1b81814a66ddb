"""OCSP: asking a responder about one certificate, and judging its answer (RFC 6960).

An answer counts when all of this holds, in this order:

  1. it says "successful", and carries exactly one answer to the question that was asked (4.2.2.3)
  2. it is signed by the issuer of the certificate, or by a responder whose certificate that issuer signed for
     OCSPSigning, that is valid now and that needs no revocation check itself (id-pkix-ocsp-nocheck; 4.2.2.2)
  3. the signature is with SHA-256 or better
  4. thisUpdate is not in the future, nextUpdate is not past; without nextUpdate it counts for OCSP_LIFE
  5. the nonce, if it brings one, is the one that was sent. Most responders sign their answers ahead and bring none:
     that is accepted unless the policy wants one, since rule 4 bounds how old an answer can be
  6. it says "good" or "revoked"; "unknown" is no answer

The certificate is named with SHA-1, which every responder knows (RFC 5019 section 2.1.1): that is a name for a
question whose answer is bound to the serial number and the issuer's key by a signature, no protection.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from pki.authenticity import is_about, key_bits, signed_by
from pki.errors import RevocationUnavailable
from pki.fetchers import OCSP_BYTES_MAX
from pki.identity import display_name
from pki.policy import OCSP_LIFE, SIGNATURE_DIGESTS
from pki.trust_store import issued_by

NONCE_BYTES: Final = 32  #: RFC 9654 section 2.1
RESPONDERS_MAX: Final = 2  #: addresses of one certificate that are asked
_CERTIFICATES_MAX: Final = 8  #: in one answer


@dataclass(frozen=True, slots=True)
class Question:
    """A request about one certificate, and what its answer must match."""

    der: bytes
    certificate: x509.Certificate
    issuer: x509.Certificate
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A verified answer. `until`: nextUpdate, or the end that rule 4 gives."""

    der: bytes
    revoked_at: datetime | None
    this_update: datetime
    until: datetime


def responders(certificate: x509.Certificate) -> list[str]:
    """The http and https addresses at which one may ask about a certificate (RFC 5280 section 4.2.2.1)."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return []
    places = [each.access_location for each in found if each.access_method == AuthorityInformationAccessOID.OCSP]
    urls = [place.value for place in places if isinstance(place, x509.UniformResourceIdentifier)]
    return [url for url in dict.fromkeys(urls) if url.lower().startswith(("http://", "https://"))][:RESPONDERS_MAX]


def question(certificate: x509.Certificate, issuer: x509.Certificate) -> Question:
    """A request with a fresh nonce."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA1())  # noqa: S303 - a name
    request = builder.add_extension(x509.OCSPNonce(nonce), critical=False).build()
    return Question(request.public_bytes(Encoding.DER), certificate, issuer, nonce)


def read_answer(
    data: bytes,
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    now: datetime,
    *,
    skew: timedelta,
    nonce: bytes | None = None,
    nonce_required: bool = False,
) -> Answer:
    """An answer about this certificate that counts at `now`. Raises RevocationUnavailable.

    `nonce`: the one that was sent; None for an answer that was kept or sent along, whose exchange is over.
    """
    if len(data) > OCSP_BYTES_MAX:
        raise refused("it is larger than the limit")
    try:
        response = ocsp.load_der_ocsp_response(data)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise refused(f"the responder says {response.response_status.name.lower().replace('_', ' ')}")
        single = _single(response, certificate, issuer)
        _check_signature(response, issuer, now)
        _check_nonce(response, nonce, required=nonce_required)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion) as error:
        raise refused("it cannot be read") from error
    return _judged(data, single, now, skew)


def _single(
    response: ocsp.OCSPResponse, certificate: x509.Certificate, issuer: x509.Certificate
) -> ocsp.OCSPSingleResponse:
    """The answer to the question (rule 1)."""
    answers = list(response.responses)
    if len(answers) != 1:
        raise refused("it answers more than one question")
    if not is_about(answers[0], certificate, issuer):
        raise refused(f"it is not about the certificate of {display_name(certificate.subject)}")
    return answers[0]


def _check_signature(response: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime) -> None:
    """Rules 2 and 3."""
    digest = response.signature_hash_algorithm
    if digest is None or digest.name not in SIGNATURE_DIGESTS:
        raise refused("its signature is with a weak hash")
    candidates = [issuer, *response.certificates[:_CERTIFICATES_MAX]]
    signer = next((each for each in candidates if _is_responder(response, each)), None)
    if signer is None:
        raise refused("the certificate of who signed it is not there")
    if signer != issuer:
        _check_delegate(signer, issuer, now)
    if not signed_by(signer, response.signature, response.tbs_response_bytes, digest):
        raise refused(f"{display_name(signer.subject)} did not sign it")


def _is_responder(response: ocsp.OCSPResponse, certificate: x509.Certificate) -> bool:
    if response.responder_name is not None:
        return bool(response.responder_name == certificate.subject)
    # ResponderID by key is SHA-1 by definition (section 4.2.1): it finds the key, the signature proves it.
    return response.responder_key_hash == hashlib.sha1(key_bits(certificate), usedforsecurity=False).digest()


def _check_delegate(signer: x509.Certificate, issuer: x509.Certificate, now: datetime) -> None:
    name = display_name(signer.subject)
    if signer.issuer != issuer.subject or not issued_by(signer, issuer):
        raise refused(f"{name} signed it, whom {display_name(issuer.subject)} did not appoint")
    if ExtendedKeyUsageOID.OCSP_SIGNING not in _usages(signer):
        raise refused(f"{name} signed it, whose certificate is not meant for that")
    if not _has_nocheck(signer):
        raise refused(f"{name} signed it, whose own revocation would have to be checked first")
    if not signer.not_valid_before_utc <= now <= signer.not_valid_after_utc:
        raise refused(f"{name} signed it, whose certificate is out of its time")


def _usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return []


def _has_nocheck(certificate: x509.Certificate) -> bool:
    try:
        certificate.extensions.get_extension_for_class(x509.OCSPNoCheck)
    except x509.ExtensionNotFound:
        return False
    return True


def _check_nonce(response: ocsp.OCSPResponse, sent: bytes | None, *, required: bool) -> None:
    """Rule 5."""
    if sent is None:
        return
    try:
        found = response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
    except x509.ExtensionNotFound:
        if required:
            raise refused("it brings no nonce: it may be an old answer") from None
        return
    if not hmac.compare_digest(found, sent):
        raise refused("its nonce is not the one that was sent: it answers another question")


def _judged(data: bytes, single: ocsp.OCSPSingleResponse, now: datetime, skew: timedelta) -> Answer:
    """Rules 4 and 6."""
    if single.certificate_status is ocsp.OCSPCertStatus.UNKNOWN:
        raise refused("the responder does not know the certificate")
    since = single.this_update_utc
    if since > now + skew:
        raise refused(f"it counts only from {since:%Y-%m-%d %H:%M:%S} UTC on")
    until = single.next_update_utc or since + OCSP_LIFE
    if until < now:
        raise refused(f"it counted only until {until:%Y-%m-%d %H:%M:%S} UTC")
    return Answer(data, single.revocation_time_utc, since, until)


def refused(reason: str) -> RevocationUnavailable:
    """The refusal of an answer."""
    return RevocationUnavailable(
        f"An OCSP answer was refused: {reason}.",
        "A card that was revoked could not be told from a good one.",
        "Ask again later; if it stays so, tell who runs the responder.",
    )
