"""A state hierarchy with the shape of the Portuguese one, made for tests: twenty years, three generations of roots.

    generation 1 (2006)  RSA-4096, signs itself with SHA-1; below it an expired CA, one signed with SHA-1, a good one
    generation 2 (2018)  P-384, also cross-certified by generation 1; below it a CA whose name has exactly 64 bytes
    generation 3 (2023)  P-521, and the same name certified again under its next key

Keys are made once for a run: `hierarchy()` is cached.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, datetime

from asn1crypto import algos
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

NOW = datetime(2026, 11, 22, tzinfo=UTC)
LONG_NAME = "EC de Autenticação do Cartão de Cidadão do Estado Portug 016"  # 64 bytes in UTF-8


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Certificates by what they are in the story above."""

    root_1: x509.Certificate
    root_2: x509.Certificate
    root_3: x509.Certificate
    expired: x509.Certificate
    weak: x509.Certificate
    good_1: x509.Certificate
    cross: x509.Certificate  #: generation 2's key, certified by generation 1
    long_name: x509.Certificate
    handover: x509.Certificate  #: generation 3's name and next key, certified by its first key
    below_handover: x509.Certificate

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        return (self.root_1, self.root_2, self.root_3)

    @property
    def intermediates(self) -> tuple[x509.Certificate, ...]:
        return (
            self.expired,
            self.weak,
            self.good_1,
            self.cross,
            self.long_name,
            self.handover,
            self.below_handover,
        )

    @property
    def everything(self) -> tuple[x509.Certificate, ...]:
        return (*self.roots, *self.intermediates)


@functools.cache
def hierarchy() -> Hierarchy:
    """The whole hierarchy."""
    first = rsa.generate_private_key(65537, 4096)
    second, third = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP521R1())
    small = [ec.generate_private_key(ec.SECP256R1()) for _ in range(5)]
    names = ("ECRaizEstado 001", "ECRaizEstado 002", "ECRaizEstado 003")
    return Hierarchy(
        root_1=with_sha1(certificate(names[0], first, names[0], first, years=(2006, 2036)), first),
        root_2=certificate(names[1], second, names[1], second, years=(2018, 2042)),
        root_3=certificate(names[2], third, names[2], third, years=(2023, 2048)),
        expired=certificate("Cartão de Cidadão 001", small[0], names[0], first, years=(2007, 2019)),
        weak=with_sha1(certificate("Cartão de Cidadão 002", small[1], names[0], first, years=(2011, 2030)), first),
        good_1=certificate("Cartão de Cidadão 003", small[2], names[0], first, years=(2015, 2031)),
        cross=certificate(names[1], second, names[0], first, years=(2018, 2030)),
        long_name=certificate(LONG_NAME, small[3], names[1], second, years=(2020, 2034)),
        handover=certificate(names[2], small[4], names[2], third, years=(2025, 2048)),
        below_handover=certificate("Cartão de Cidadão 009", small[0], names[2], small[4], years=(2025, 2040)),
    )


def certificate(
    subject: str, key: Key, issuer: str, issuer_key: Key, *, years: tuple[int, int], ca: bool = True
) -> x509.Certificate:
    """A certificate from the first day of one year to that of another."""
    digest = {521: hashes.SHA512(), 384: hashes.SHA384()}.get(issuer_key.key_size, hashes.SHA256())
    public, issuing = key.public_key(), issuer_key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(years[0], 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(years[1], 1, 1, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(key_usage(ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing), critical=False)
        .sign(issuer_key, digest)
    )


def key_usage(ca: bool) -> x509.KeyUsage:
    """Of a CA to sign certificates and lists, of everybody else to sign."""
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


def name(common_name: str) -> x509.Name:
    """A name as the state's CAs have it."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "PT"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Estado de Exemplo"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def with_sha1(certificate: x509.Certificate, issuer_key: rsa.RSAPrivateKey) -> x509.Certificate:
    """The same certificate signed with SHA-1, as in 2006. Today's builders refuse to make one."""
    parsed = asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))
    algorithm = algos.SignedDigestAlgorithm({"algorithm": "sha1_rsa"})
    parsed["tbs_certificate"]["signature"] = algorithm
    parsed["signature_algorithm"] = algorithm
    parsed["signature_value"] = issuer_key.sign(
        parsed["tbs_certificate"].dump(force=True), padding.PKCS1v15(), hashes.SHA1()
    )
    return x509.load_der_x509_certificate(parsed.dump(force=True))
