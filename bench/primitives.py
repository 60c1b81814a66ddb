"""The bare primitives that a SEND cannot do without: calls of `cryptography` and `cbor2`, everything else prepared.

Nothing is checked, decided or built here. Knows no module of the project: a plain worker imports it too.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import cbor2
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand


@dataclass(frozen=True, slots=True)
class Sample:
    """A SEND as it travels: its envelope, the request inside, and head and body of the letter inside of that."""

    envelope: bytes
    request: bytes
    head: bytes
    body: bytes

    def as_text(self) -> dict[str, str]:
        """For another process."""
        return {name: getattr(self, name).hex() for name in self.__slots__}

    @classmethod
    def from_text(cls, told: dict[str, str]) -> Self:
        """What `as_text` gave."""
        return cls(**{name: bytes.fromhex(value) for name, value in told.items()})


class Bare:
    """The primitives alone, on bytes of the same lengths."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._key = ed25519.Ed25519PrivateKey.generate()
        self._public = self._key.public_key()
        self._signature = self._key.sign(sample.envelope)
        self._secret, self._aes, self._iv = secrets.token_bytes(32), AESGCM(secrets.token_bytes(32)), bytes(12)
        self._ciphertext = self._aes.encrypt(self._iv, sample.request, b"")
        self._placement, self._reply = bytes(300), bytes(550)

    def works(self) -> dict[str, Callable[[], object]]:
        """Each by the name of the stage that cannot do without it."""
        return {"decode": self.decode, "verify": self.verify, "open": self.open, "seal": self.seal}

    def decode(self) -> None:
        """Reads everything that a request consists of."""
        cbor2.loads(self._sample.envelope)
        hashlib.sha256(self._sample.envelope).digest()
        cbor2.loads(self._sample.request)
        cbor2.loads(self._sample.head)
        hashlib.sha256(self._sample.body).digest()

    def verify(self) -> None:
        """The app's signature."""
        self._public.verify(self._signature, self._sample.envelope)

    def open(self) -> None:
        """Key and plaintext."""
        HKDFExpand(SHA256(), 44, b"command").derive(self._secret)
        self._aes.decrypt(self._iv, self._ciphertext, b"")

    def seal(self) -> None:
        """The reply with its placement."""
        self._key.sign(self._placement)
        HKDFExpand(SHA256(), 44, b"reply").derive(self._secret)
        self._key.sign(self._aes.encrypt(self._iv, self._reply, b""))
