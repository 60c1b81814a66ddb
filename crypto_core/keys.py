"""Typed keys: a signing key cannot be handed to a function that wants a sealing key. None shows its secret."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mlkem, x25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from crypto_core import labels, suite
from crypto_core.errors import DecryptionFailed, Malformed, SignatureInvalid

ED25519_BYTES: Final = 32
MLKEM_SEED_BYTES: Final = 64
MLKEM_PUBLIC_BYTES: Final = 1184
MLKEM_CIPHERTEXT_BYTES: Final = 1088
X25519_BYTES: Final = 32
SEALING_PUBLIC_BYTES: Final = MLKEM_PUBLIC_BYTES + X25519_BYTES
SEALING_SEED_BYTES: Final = MLKEM_SEED_BYTES + X25519_BYTES
ENCAPSULATED_KEY_BYTES: Final = MLKEM_CIPHERTEXT_BYTES + X25519_BYTES
KEY_ID_BYTES: Final = 16

#: The encodings of the eight points of small order, with their non-canonical forms: under such a key one signature fits
#: many messages, so that its owner could deny what was signed (RFC 8032 leaves the check to the protocol).
_SMALL_ORDER: Final = frozenset(
    bytes.fromhex(low) + bytes([high | sign])
    for low, high in (
        ("01" + "00" * 30, 0x00),
        ("00" * 31, 0x00),
        ("ec" + "ff" * 30, 0x7F),
        ("ed" + "ff" * 30, 0x7F),
        ("ee" + "ff" * 30, 0x7F),
        ("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc", 0x05),
        ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03", 0x7A),
    )
    for sign in (0x00, 0x80)
)

_SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.SHAKE256, AEAD.AES_256_GCM)


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """An Ed25519 public key: an installation's app key, or a repository's signing key."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != ED25519_BYTES:
            raise Malformed("an Ed25519 public key has 32 bytes")
        if self.raw in _SMALL_ORDER:
            raise Malformed("an Ed25519 public key of small order, under which signatures bind nobody")

    def verify(self, signature: bytes, data: bytes) -> None:
        """Raises SignatureInvalid."""
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, data)
        except (InvalidSignature, ValueError) as error:
            raise SignatureInvalid("the signature does not verify") from error


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 private key, kept as its 32-byte seed."""

    seed: bytes = field(repr=False)
    # Loading costs as much as a signature, and a worker signs several times for each command.
    _loaded: ed25519.Ed25519PrivateKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.seed) != ED25519_BYTES:
            raise Malformed("an Ed25519 seed has 32 bytes")
        object.__setattr__(self, "_loaded", ed25519.Ed25519PrivateKey.from_private_bytes(self.seed))

    @classmethod
    def generate(cls) -> SigningKey:
        return cls(secrets.token_bytes(ED25519_BYTES))

    @property
    def public(self) -> VerifyKey:
        return VerifyKey(self._loaded.public_key().public_bytes_raw())

    def sign(self, data: bytes) -> bytes:
        return self._loaded.sign(data)


@dataclass(frozen=True, slots=True)
class EcdsaVerifyKey:
    """An ECDSA P-256 public key with SHA-256, signatures as r and s of 32 bytes each (RFC 9053 section 2.1)."""

    key: ec.EllipticCurvePublicKey

    def __post_init__(self) -> None:
        if not isinstance(self.key.curve, ec.SECP256R1):
            raise Malformed("a descriptor is signed with a P-256 key")

    def verify(self, signature: bytes, data: bytes) -> None:
        """Raises SignatureInvalid."""
        if len(signature) != 64:
            raise SignatureInvalid("an ES256 signature has 64 bytes")
        r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
        try:
            self.key.verify(encode_dss_signature(r, s), data, ec.ECDSA(SHA256()))
        except (InvalidSignature, ValueError) as error:
            raise SignatureInvalid("the signature does not verify") from error


@dataclass(frozen=True, slots=True)
class EcdsaSigningKey:
    """An ECDSA P-256 private key with SHA-256, for descriptors."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.key.curve, ec.SECP256R1):
            raise Malformed("a descriptor is signed with a P-256 key")

    def sign(self, data: bytes) -> bytes:
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@dataclass(frozen=True, slots=True)
class SealingPublicKey:
    """An HPKE public key of KEM 0x647A: ML-KEM-768 encapsulation key (1184 bytes), then X25519 key (32 bytes)."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != SEALING_PUBLIC_BYTES:
            raise Malformed(f"a sealing public key has {SEALING_PUBLIC_BYTES} bytes")

    @property
    def key_id(self) -> bytes:
        """The first 16 bytes of the labelled hash of the key: lets a reader with several keys find the right one."""
        return suite.labelled_hash(labels.SEALING_KEY_ID, self.raw)[:KEY_ID_BYTES]

    def seal(self, plaintext: bytes, info: bytes) -> tuple[bytes, bytes]:
        """HPKE SealBase (RFC 9180 section 6.1) with empty AAD: (encapsulated key, ciphertext)."""
        try:
            key = MLKEM768X25519PublicKey(
                mlkem.MLKEM768PublicKey.from_public_bytes(self.raw[:MLKEM_PUBLIC_BYTES]),
                x25519.X25519PublicKey.from_public_bytes(self.raw[MLKEM_PUBLIC_BYTES:]),
            )
            sealed = _SUITE.encrypt(plaintext, key, info=info)
        except (ValueError, InvalidTag) as error:
            raise Malformed("not a usable ML-KEM-768 + X25519 public key") from error
        return sealed[:ENCAPSULATED_KEY_BYTES], sealed[ENCAPSULATED_KEY_BYTES:]


@dataclass(frozen=True, slots=True)
class SealingKey:
    """An HPKE private key of KEM 0x647A, kept as two seeds: ML-KEM-768 (64 bytes), then X25519 (32 bytes)."""

    seed: bytes = field(repr=False)
    # Loading the seeds takes as long as opening, and every hello asks for the public key's id too.
    _loaded: MLKEM768X25519PrivateKey = field(init=False, repr=False, compare=False)
    _public: SealingPublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.seed) != SEALING_SEED_BYTES:
            raise Malformed(f"a sealing key has {SEALING_SEED_BYTES} bytes")
        kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(self.seed[:MLKEM_SEED_BYTES])
        dh = x25519.X25519PrivateKey.from_private_bytes(self.seed[MLKEM_SEED_BYTES:])
        public = SealingPublicKey(kem.public_key().public_bytes_raw() + dh.public_key().public_bytes_raw())
        object.__setattr__(self, "_loaded", MLKEM768X25519PrivateKey(kem, dh))
        object.__setattr__(self, "_public", public)

    @classmethod
    def generate(cls) -> SealingKey:
        return cls(secrets.token_bytes(SEALING_SEED_BYTES))

    @property
    def public(self) -> SealingPublicKey:
        return self._public

    def open(self, encapsulated_key: bytes, ciphertext: bytes, info: bytes) -> bytes:
        """HPKE OpenBase (RFC 9180 section 6.1) with empty AAD. Raises DecryptionFailed."""
        if len(encapsulated_key) != ENCAPSULATED_KEY_BYTES:
            raise DecryptionFailed("an encapsulated key of the wrong size")
        try:
            return _SUITE.decrypt(encapsulated_key + ciphertext, self._loaded, info=info)
        except (InvalidTag, ValueError) as error:
            raise DecryptionFailed("does not open: sealed for another key or another use, or changed") from error
