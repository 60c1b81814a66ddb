"""What says that an author's certificates were not revoked, sent along inside of a letter or a receipt.

The issuer's servers may be gone when a letter is read again. So its author encloses, sealed with it, the revocation
lists and OCSP answers that were current when it was signed. They are signed by the issuers, and nothing of them is
believed here: the reader verifies them like data from a stranger, and prefers newer data where there is some.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from crypto_core import limits
from crypto_core.errors import LimitExceeded
from crypto_core.schema import Range, Size


@dataclass(frozen=True, slots=True)
class Evidence:
    """Lists and answers in DER. `left_out`: of how many certificates there was none, or none that fitted.

    Raises LimitExceeded over EVIDENCE_BYTES in all.
    """

    crls: Annotated[tuple[Annotated[bytes, Size(1, limits.EVIDENCE_BYTES)], ...], Size(0, limits.EVIDENCE_ITEMS)]
    ocsp: Annotated[tuple[Annotated[bytes, Size(1, limits.EVIDENCE_BYTES)], ...], Size(0, limits.EVIDENCE_ITEMS)]
    left_out: Annotated[int, Range(0, limits.EVIDENCE_ITEMS)]

    def __post_init__(self) -> None:
        size = sum(map(len, (*self.crls, *self.ocsp)))
        if size > limits.EVIDENCE_BYTES:
            raise LimitExceeded(f"the evidence has {size} bytes; the limit is {limits.EVIDENCE_BYTES}")
