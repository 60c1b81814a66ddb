"""The operator's root, and the certificates under it that sign descriptors and evidence.

An operator has a hierarchy of its own, apart from the state's: a root (P-256) that carries the operator's name and
whose SHA-256 fingerprint people pin, and below it signers, each allowed for one thing by an extended key usage made for
this project alone. A certificate of a web site, or of a citizen, can therefore never sign a descriptor.

Rules: the root is chosen by fingerprint only; the chain travels leaf first, root last, and has no certificate to spare;
everything that a verifier needs is in the chain.

    root = create_operator_root("Organização Exemplo")
    signer = issue_descriptor_signer(root, now)
    verify_descriptor_signer(signer.chain, root_fingerprint=root.fingerprint, moment=now)
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from pki.errors import OperatorError, TrustStoreError
from pki.identity import fingerprint, load_certificate
from pki.trust_store import normal_fingerprint

#: Extended key usages of this project: 2.25 and a UUID drawn for it (ITU-T X.667 section 7).
DESCRIPTOR_SIGNER: Final = x509.ObjectIdentifier("2.25.279534370157938390740390738292432219932")
EVIDENCE_SIGNER: Final = x509.ObjectIdentifier("2.25.27859467228951724735412562613178077733")

ROOT_LIFE: Final = timedelta(days=10 * 365)
SIGNER_LIFE: Final = timedelta(days=2 * 365)
BACKDATED: Final = timedelta(hours=1)  #: clocks need not agree exactly
CHAIN_MAX: Final = 4  #: leaf, two intermediates, root
ORGANISATION_CHARACTERS_MAX: Final = 64  #: RFC 5280 appendix A.1, ub-organization-name


@dataclass(frozen=True, slots=True)
class Credential:
    """A key and its certificates, leaf first, root last."""

    chain: tuple[x509.Certificate, ...]
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate of the key."""
        return self.chain[0]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the root, which people pin."""
        return fingerprint(self.chain[-1])

    def key_pem(self, passphrase: bytes) -> bytes:
        """The key as encrypted PKCS#8, for a file."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))

    def chain_pem(self) -> bytes:
        """The certificates, leaf first."""
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.chain)

    @classmethod
    def from_der(cls, chain: Sequence[bytes], key_der: bytes) -> Credential:
        """Read certificates and a key (PKCS#8, not encrypted) back. Raises OperatorError, CertificateError."""
        try:
            key = load_der_private_key(key_der, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _unreadable() from error
        return cls._checked(tuple(load_certificate(each) for each in chain), key)

    @classmethod
    def from_pem(cls, chain_pem: bytes, key_pem: bytes, passphrase: bytes) -> Credential:
        """Read both files back. Raises OperatorError, also for a wrong passphrase."""
        try:
            chain = tuple(x509.load_pem_x509_certificates(chain_pem))
            key = load_pem_private_key(key_pem, passphrase)
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
            raise _unreadable() from error
        return cls._checked(chain, key)

    @classmethod
    def _checked(cls, chain: tuple[x509.Certificate, ...], key: object) -> Credential:
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not chain or chain[0].public_key() != key.public_key():
            raise _unreadable()
        return cls(chain, key)


def create_operator_root(organisation: str, *, now: datetime | None = None) -> Credential:
    """A new operator root. Raises OperatorError for a name that a certificate cannot hold."""
    if not organisation.strip() or len(organisation) > ORGANISATION_CHARACTERS_MAX or not organisation.isprintable():
        raise OperatorError(
            f"The organisation's name must have 1 to {ORGANISATION_CHARACTERS_MAX} printable characters.",
            "People decide by it whether to trust this repository.",
            "Choose another form of the name.",
        )
    key = ec.generate_private_key(ec.SECP256R1())
    name = subject_name(organisation, "Repository Root")
    builder = certificate_builder(name, name, key, key, now or _now(), ROOT_LIFE)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(key_usage(ca=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Credential((certificate,), key)


def issue_descriptor_signer(root: Credential, now: datetime | None = None) -> Credential:
    """A certificate under the root that may sign descriptors, and nothing else."""
    return _issue(root, "Descriptor Signer", DESCRIPTOR_SIGNER, now or _now())


def issue_evidence_signer(root: Credential, now: datetime | None = None) -> Credential:
    """A certificate under the root that may sign evidence in CMS, and nothing else."""
    return _issue(root, "Evidence Signer", EVIDENCE_SIGNER, now or _now())


def verify_descriptor_signer(
    chain: Sequence[x509.Certificate], *, root_fingerprint: str, moment: datetime
) -> x509.Certificate:
    """Check a chain (leaf first, root last) down from the pinned root; gives the leaf. Raises OperatorError."""
    return _verify(chain, root_fingerprint, moment, DESCRIPTOR_SIGNER)


def verify_evidence_signer(
    chain: Sequence[x509.Certificate], *, root_fingerprint: str, moment: datetime
) -> x509.Certificate:
    """The same for a signer of evidence. Raises OperatorError."""
    return _verify(chain, root_fingerprint, moment, EVIDENCE_SIGNER)


def organisation(certificate: x509.Certificate) -> str:
    """The operator's name in a certificate. Raises OperatorError unless there is exactly one, printable."""
    names = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    if len(names) != 1 or not str(names[0].value).strip() or not str(names[0].value).isprintable():
        raise _refused("its certificate does not name one organisation")
    return str(names[0].value)


def _verify(
    chain: Sequence[x509.Certificate], root_fingerprint: str, moment: datetime, usage: x509.ObjectIdentifier
) -> x509.Certificate:
    if not 2 <= len(chain) <= CHAIN_MAX:
        raise _refused(f"a chain has 2 to {CHAIN_MAX} certificates, this one has {len(chain)}")
    _check_root(chain[-1], root_fingerprint)
    try:
        for depth, (certificate, issuer) in enumerate(pairwise([*chain, chain[-1]])):
            _check_link(certificate, issuer, moment)
            if depth:
                _check_ca(certificate, below=depth - 1)
        _check_leaf(chain[0], usage)
    # cryptography parses extensions when they are touched, and says "malformed" with any of these.
    except (ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension, UnsupportedAlgorithm) as error:
        raise _refused("an extension that it needs is missing or unreadable") from error
    if organisation(chain[0]) != organisation(chain[-1]):
        raise _refused("it names another organisation than its root")
    return chain[0]


def _check_root(root: x509.Certificate, pinned: str) -> None:
    try:
        same = hmac.compare_digest(fingerprint(root), normal_fingerprint(pinned))
    except TrustStoreError as error:
        raise _refused("the pinned value is not a SHA-256 fingerprint") from error
    if not same:
        raise OperatorError(
            "The chain ends in another root than the one that was pinned.",
            "Somebody else than the operator you chose is speaking.",
            "Ask the operator whether the root has changed, and compare the fingerprint before you accept it.",
        )


def _check_link(certificate: x509.Certificate, issuer: x509.Certificate, moment: datetime) -> None:
    """Signature, names and validity of one certificate; the root stands as its own issuer."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise _refused("a certificate in its chain was not issued by the next one") from error
    if not certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc:
        raise _refused("a certificate in its chain was not valid at that time")


def _check_ca(certificate: x509.Certificate, below: int) -> None:
    """A certificate above the leaf, with `below` CAs between it and the leaf (RFC 5280 section 4.2.1.9)."""
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    if not constraints.ca or not usage.key_cert_sign:
        raise _refused("a certificate in its chain may not issue others")
    if constraints.path_length is not None and below > constraints.path_length:
        raise _refused("its chain is longer than its root allows")


def _check_leaf(certificate: x509.Certificate, usage: x509.ObjectIdentifier) -> None:
    extensions = certificate.extensions
    if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
        raise _refused("a CA certificate does not sign such things itself")
    if not extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature:
        raise _refused("its key may not sign")
    if list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) != [usage]:
        raise _refused("its certificate is not meant for this")
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != ec.SECP256R1.name:
        raise _refused("its key is not P-256")


def _issue(root: Credential, role: str, usage: x509.ObjectIdentifier, now: datetime) -> Credential:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = subject_name(organisation(root.certificate), role)
    builder = certificate_builder(subject, root.certificate.subject, key, root.key, now, SIGNER_LIFE)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        .sign(root.key, hashes.SHA256())
    )
    return Credential((certificate, *root.chain), key)


def certificate_builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    """What every certificate of an operator has; whoever issues one adds what it is for, and signs."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def subject_name(organisation_name: str, role: str) -> x509.Name:
    """How an operator's certificates are called."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation_name),
            x509.NameAttribute(NameOID.COMMON_NAME, role),
        ]
    )


def key_usage(*, ca: bool) -> x509.KeyUsage:
    """Of a CA, or of one that signs (RFC 5280 section 4.2.1.3)."""
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _unreadable() -> OperatorError:
    return OperatorError(
        "The operator's key could not be read.",
        "Nothing can be signed for the repository without it.",
        "Check the passphrase and the files.",
    )


def _refused(reason: str) -> OperatorError:
    return OperatorError(
        f"The operator's signer was refused: {reason}.",
        "What it signed may not come from the operator that you chose.",
        "Get the descriptor again from the operator.",
    )
