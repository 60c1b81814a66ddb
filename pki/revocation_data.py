"""Revocation data as it travels: bytes that were fetched, kept or sent along, and are not believed yet.

Who fetches (`pki.revocation`) makes it; who validates (`pki.path`) reads it. Nothing in it is trusted for where it came
from: every signature, issuer and date is checked where a path is validated. Bounds on sizes belong to who takes it in.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RevocationData:
    """What says whether certificates were revoked, each item in DER."""

    crls: tuple[bytes, ...] = ()  #: CertificateList (RFC 5280 section 5): complete, delta, partitioned or indirect
    ocsp: tuple[bytes, ...] = ()  #: OCSPResponse (RFC 6960 section 4.2.1)

    @property
    def size(self) -> int:
        """Bytes of all items together."""
        return sum(map(len, (*self.crls, *self.ocsp)))

    def __add__(self, other: RevocationData) -> RevocationData:
        """Both together, each item once, in the order of their first appearance."""
        return RevocationData(
            tuple(dict.fromkeys([*self.crls, *other.crls])), tuple(dict.fromkeys([*self.ocsp, *other.ocsp]))
        )


@dataclass(frozen=True, slots=True)
class Collected:
    """Revocation data for a path, and why some is not there."""

    data: RevocationData = RevocationData()
    problems: tuple[str, ...] = ()  #: for people: which datum, where from, what went wrong


@dataclass(frozen=True, slots=True)
class Enclosure:
    """Revocation data to be sent along. `left_out`: certificates about which none was to be had, or none fitted."""

    data: RevocationData
    left_out: int
