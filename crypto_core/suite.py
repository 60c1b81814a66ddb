"""The one suite of the protocol: which primitive serves which use. Versioned as a whole, never negotiated.

    sealing to a public key   HPKE base mode, ML-KEM-768 + X25519 (KEM 0x647A), SHAKE256, AES-256-GCM
    bulk                      AES-256-GCM, a fresh key and IV for every object
    derivation                HKDF-SHA256 (RFC 5869)
    hashing                   SHA-256
    signatures of software    Ed25519 (RFC 8032)

Everything that is hashed or goes into a derivation is a deterministic CBOR array that starts with its label, so that
no two uses can meet and no two lists of inputs read alike.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from crypto_core import cbor
from crypto_core.errors import DecryptionFailed
from crypto_core.ids import Digest

KEY_BYTES: Final = 32
IV_BYTES: Final = 12
TAG_BYTES: Final = 16
SECRET_BYTES: Final = 32


def sha256(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).digest())


def labelled_hash(label: str, *parts: Any) -> Digest:
    """SHA-256 of the CBOR array [label, *parts]."""
    return sha256(cbor.encode([label, *parts]))


def labelled_mac(key: bytes, label: str, *parts: Any) -> bytes:
    """HMAC-SHA256 (RFC 2104) of the CBOR array [label, *parts]: 32 bytes."""
    return hmac.digest(key, cbor.encode([label, *parts]), "sha256")


def equal(a: bytes, b: bytes) -> bool:
    """Comparison in constant time."""
    return hmac.compare_digest(a, b)


def extract(salt: bytes, label: str, *secrets: bytes) -> bytes:
    """HKDF-Extract (RFC 5869 section 2.2) of the CBOR array [label, *secrets]: a pseudorandom key of 32 bytes."""
    return HKDF.extract(SHA256(), salt, cbor.encode([label, *secrets]))


def expand(secret: bytes, length: int, label: str, *context: Any) -> bytes:
    """HKDF-Expand (RFC 5869 section 2.3) with the CBOR array [label, *context] as info: `length` bytes."""
    return HKDFExpand(SHA256(), length, cbor.encode([label, *context])).derive(secret)


@dataclass(frozen=True, slots=True)
class ContentKey:
    """An AES-256-GCM key with its IV, for exactly one object."""

    key: bytes = field(repr=False)
    iv: bytes = field(repr=False)

    @classmethod
    def derive(cls, secret: bytes, label: str, *context: Any) -> ContentKey:
        """Key and IV from a secret of 32 bytes.

        The IV is derived and never sent. That is safe because each context (a random salt, a counter, an id) is used
        for one object, so that no key ever meets two plaintexts.
        """
        material = expand(secret, KEY_BYTES + IV_BYTES, label, *context)
        return cls(material[:KEY_BYTES], material[KEY_BYTES:])

    def encrypt(self, plaintext: bytes, aad: bytes) -> bytes:
        return AESGCM(self.key).encrypt(self.iv, plaintext, aad)

    def decrypt(self, ciphertext: bytes, aad: bytes) -> bytes:
        """Raises DecryptionFailed if ciphertext, key or associated data are not the ones of encryption."""
        try:
            return AESGCM(self.key).decrypt(self.iv, ciphertext, aad)
        except InvalidTag as error:
            raise DecryptionFailed("a sealed part does not open: changed, or sealed for another use") from error
