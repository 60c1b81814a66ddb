"""Small questions about certificates and OCSP answers, asked where data is fetched (`ocsp`) and where it is judged
(`authentic`): whose key made this signature, and whom is this answer about?

They read parts late, as the library does: what is malformed raises ValueError, TypeError or UnsupportedAlgorithm.
"""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp


def signed_by(
    signer: x509.Certificate,
    signature: bytes,
    signed: bytes,
    digest: hashes.HashAlgorithm | None,
    scheme: object = None,
) -> bool:
    """Did the key of `signer` make this signature? `scheme` is PSS with its parameters, or anything else for v1.5."""
    key = signer.public_key()
    if digest is None:
        return False
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, scheme if isinstance(scheme, padding.PSS) else padding.PKCS1v15(), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(digest))
        else:
            return False
    except InvalidSignature:
        return False
    return True


def is_about(
    answer: ocsp.OCSPResponse | ocsp.OCSPSingleResponse, certificate: x509.Certificate, issuer: x509.Certificate
) -> bool:
    """Does an OCSP answer name this certificate of this issuer (CertID, RFC 6960 section 4.1.1)?

    SHA-1 may stand here: the hashes only find the issuer, whose signature is what counts.
    """
    digest = answer.hash_algorithm
    if not isinstance(digest, hashes.SHA1 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512):
        return False
    return (
        answer.serial_number == certificate.serial_number
        and answer.issuer_name_hash == hashlib.new(digest.name, certificate.issuer.public_bytes()).digest()
        and answer.issuer_key_hash == hashlib.new(digest.name, key_bits(issuer)).digest()
    )


def key_bits(certificate: x509.Certificate) -> bytes:
    """The bits of a public key without algorithm, tag, length and count of unused bits (RFC 6960 section 4.1.1)."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    raise ValueError("neither RSA nor an elliptic curve")
