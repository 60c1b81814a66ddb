"""How a token signs: chosen from what it offers and what the key is, never by trying. Data only.

A token that hashes gets the data; one that only signs gets the SHA-256 digest, for RSA PKCS#1 v1.5 with its DigestInfo.
PKCS#1 v1.5 comes before PSS because every verifier knows it; a card that offers PSS alone signs with PSS.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

#: DigestInfo of a SHA-256 digest up to the digest itself (RFC 8017 section 9.2, note 1).
SHA256_DIGEST_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")


class Input(enum.Enum):
    """What is handed to the token."""

    DATA = "data"
    DIGEST = "digest"
    DIGEST_INFO = "digest info"


@dataclass(frozen=True, slots=True)
class Mechanism:
    """A PKCS#11 mechanism (v3.0 sections 2.1 and 2.3) and what it is handed."""

    name: str  #: CKM_…
    takes: Input
    pss: bool = False

    def message(self, data: bytes) -> bytes:
        """What the token is given in order to sign `data`."""
        if self.takes is Input.DATA:
            return data
        digest = hashlib.sha256(data).digest()
        return SHA256_DIGEST_INFO + digest if self.takes is Input.DIGEST_INFO else digest


RSA: Final = (
    Mechanism("CKM_SHA256_RSA_PKCS", Input.DATA),
    Mechanism("CKM_RSA_PKCS", Input.DIGEST_INFO),
    Mechanism("CKM_SHA256_RSA_PKCS_PSS", Input.DATA, pss=True),
    Mechanism("CKM_RSA_PKCS_PSS", Input.DIGEST, pss=True),
)
ELLIPTIC: Final = (
    Mechanism("CKM_ECDSA", Input.DIGEST),
    Mechanism("CKM_ECDSA_SHA256", Input.DATA),
)


def choose(candidates: tuple[Mechanism, ...], offered: Collection[str]) -> Mechanism | None:
    """The first of them that the token offers; None where it offers none."""
    return next((each for each in candidates if each.name in offered), None)


def for_key_kind(kind: str) -> tuple[Mechanism, ...]:
    """The mechanisms for a kind of key as `pki.identity.key_kind` writes it."""
    if kind.startswith("RSA-"):
        return RSA
    return ELLIPTIC if kind.startswith(("P-", "secp")) else ()
