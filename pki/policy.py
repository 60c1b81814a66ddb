"""What is asked of a certificate, as one frozen value. Changing the policy is building another value.

Algorithms below these limits are refused everywhere in a path, in revocation lists, in OCSP answers and in documents;
only an anchor's signature over itself is not looked at, because nothing rests on it: an anchor is trusted for its
fingerprint (RFC 5280 section 6.1 leaves it out too), and the oldest roots of states sign themselves with SHA-1.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

RSA_BITS_MIN: Final = 2048  #: 112 bits of security, the least that NIST SP 800-131A allows
RSA_BITS_MAX: Final = 8192  #: larger keys cost a verifier much and protect nobody more
CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
#: Names of digests as `cryptography` writes them. MD5 and SHA-1 are broken: two documents can share a digest.
SIGNATURE_DIGESTS: Final = frozenset({"sha256", "sha384", "sha512"})
OCSP_LIFE: Final = timedelta(minutes=30)


class Purpose(enum.Enum):
    """What the certificate's key must be meant for (key usage, RFC 5280 section 4.2.1.3)."""

    ANY = "any"  #: digitalSignature or contentCommitment
    AUTHENTICATION = "authentication"  #: digitalSignature
    SIGNATURE = "signature"  #: contentCommitment (nonRepudiation)


@dataclass(frozen=True, slots=True)
class PolicyInputs:
    """The policy inputs of path validation (RFC 5280 section 6.1.1, c and e to g)."""

    initial_policies: frozenset[str] = frozenset()  #: dotted OIDs, one of which must remain; empty: any policy
    require_explicit: bool = False  #: some policy must remain valid to the end of the path
    inhibit_mapping: bool = False
    inhibit_any: bool = False  #: anyPolicy in a certificate matches nothing

    @property
    def set_by_user(self) -> bool:
        """False when every input has the value that asks for nothing."""
        return self != PolicyInputs()


@dataclass(frozen=True, slots=True)
class ValidationPolicy:
    """The rules of one validation."""

    require_revocation: bool = True  #: no answer about revocation means COULD_NOT_TELL, never VALID
    max_crl_staleness: timedelta = timedelta(hours=6)  #: how long after its nextUpdate a CRL or OCSP answer is used
    max_enclosed_staleness: timedelta = timedelta(0)  #: the same for data of the past, at that time: see `validator`
    ocsp_life: timedelta = OCSP_LIFE  #: of an OCSP answer that names no nextUpdate
    clock_skew: timedelta = timedelta(minutes=5)  #: how far in the future a thisUpdate may lie
    rsa_bits_min: int = RSA_BITS_MIN
    rsa_bits_max: int = RSA_BITS_MAX
    curves: tuple[str, ...] = CURVES
    path_length_max: int = 8  #: certificates in a path, the root included
    purpose: Purpose = Purpose.ANY
    inputs: PolicyInputs = PolicyInputs()
