"""What is asked of a certificate, as one frozen value. Changing the policy is building another value."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

RSA_BITS_MIN: Final = 2048
RSA_BITS_MAX: Final = 8192  #: larger keys cost a verifier much and protect nobody more
CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")


class Purpose(enum.Enum):
    """What the certificate's key must be meant for (key usage, RFC 5280 section 4.2.1.3)."""

    ANY = "any"  #: digitalSignature or contentCommitment
    AUTHENTICATION = "authentication"  #: digitalSignature
    SIGNATURE = "signature"  #: contentCommitment (nonRepudiation)


@dataclass(frozen=True, slots=True)
class ValidationPolicy:
    """The rules of one validation."""

    require_revocation: bool = True  #: no answer about revocation means COULD_NOT_TELL, never VALID
    max_crl_staleness: timedelta = timedelta(hours=6)  #: how long after its nextUpdate a CRL is still used
    clock_skew: timedelta = timedelta(minutes=5)  #: how far in the future a CRL's thisUpdate may lie
    rsa_bits_min: int = RSA_BITS_MIN
    rsa_bits_max: int = RSA_BITS_MAX
    curves: tuple[str, ...] = CURVES
    path_length_max: int = 8  #: certificates in a path, the root included
    purpose: Purpose = Purpose.ANY
