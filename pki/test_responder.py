"""The OCSP responder of the test CA (RFC 6960), for development stacks and tests.

    with CrlServer(ca.crl_folder) as server:
        server.answer_questions(TestResponder(ca).answer)

Rules: each authority appoints a responder with a key of its own, as the state does: the key lives in memory, the
certificate a day, for OCSPSigning alone and without a revocation check of its own. What the CA's book says at the
moment of the question is answered. A nonce is repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pki.test_ca import IssuedCertificate, TestCa

ANSWER_LIFE: Final = timedelta(hours=1)
RESPONDER_LIFE: Final = timedelta(days=1)
_BACKDATED: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Appointed:
    """Who answers for an authority."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class TestResponder:
    """Answers for every authority of a test CA. Thread-safe."""

    __test__: ClassVar[bool] = False  # the name begins like a test's: pytest must not collect it

    def __init__(self, ca: TestCa, *, clock: Callable[[], datetime] | None = None) -> None:
        self._ca = ca
        self._clock = clock or _now
        self._appointed: dict[str, Appointed] = {}

    def answer(self, authority: str, question: bytes) -> bytes:
        """The answer to a request about a certificate of `root`, `card`, `authentication` or `signature`, in DER."""
        try:
            request = ocsp.load_der_ocsp_request(question)
            line = self._ca.status(authority, request.serial_number)
        except (ValueError, TypeError, KeyError, UnsupportedAlgorithm):
            malformed = ocsp.OCSPResponseStatus.MALFORMED_REQUEST
            return ocsp.OCSPResponseBuilder.build_unsuccessful(malformed).public_bytes(Encoding.DER)
        if line is None:
            unknown = ocsp.OCSPResponseStatus.UNAUTHORIZED
            return ocsp.OCSPResponseBuilder.build_unsuccessful(unknown).public_bytes(Encoding.DER)
        return self._signed(self._responder(authority), request, line)

    def _signed(self, responder: Appointed, request: ocsp.OCSPRequest, line: IssuedCertificate) -> bytes:
        now = self._clock()
        revoked = None if line.revoked_at is None else datetime.fromisoformat(line.revoked_at)
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response_by_hash(
                issuer_name_hash=request.issuer_name_hash,
                issuer_key_hash=request.issuer_key_hash,
                serial_number=request.serial_number,
                algorithm=request.hash_algorithm,
                cert_status=ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD,
                this_update=now,
                next_update=now + ANSWER_LIFE,
                revocation_time=revoked,
                revocation_reason=x509.ReasonFlags(line.reason) if revoked and line.reason else None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, responder.certificate)
            .certificates([responder.certificate])
        )
        for extension in request.extensions:
            if isinstance(extension.value, x509.OCSPNonce):
                builder = builder.add_extension(extension.value, critical=False)
        return builder.sign(responder.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def _responder(self, authority: str) -> Appointed:
        found = self._appointed.get(authority)
        if found is None or found.certificate.not_valid_after_utc < self._clock() + ANSWER_LIFE:
            found = self._appointed[authority] = appoint(*self._ca.authority(authority), self._clock())
        return found


def appoint(
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    *,
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.OCSP_SIGNING,
    nocheck: bool = True,
) -> Appointed:
    """A new responder of an authority. `usage` and `nocheck` can be set otherwise to make one that must be refused."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "OCSP TEST")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + RESPONDER_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(_SIGNS, critical=True)
    )
    if nocheck:
        builder = builder.add_extension(x509.OCSPNoCheck(), critical=False)
    return Appointed(builder.sign(issuer_key, hashes.SHA256()), key)


_SIGNS: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def _now() -> datetime:
    return datetime.now(UTC)
