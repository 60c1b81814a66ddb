"""The answer of path validation: one verdict, the reason, the path taken.

Rules: only VALID is good news, and every other verdict is a refusal. They are apart because a person does something
else after each of them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509

from pki.errors import PathInvalid
from pki.identity import display_name


class Verdict(enum.Enum):
    """The answers. "Revoked", "expired" and "could not tell" are different things to a person."""

    VALID = "valid"
    REVOKED = "revoked"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    UNTRUSTED = "untrusted"
    MALFORMED = "malformed"
    COULD_NOT_TELL = "could not tell"


_MEANING: Final = {
    Verdict.REVOKED: "Whoever holds the card, or its key, may not be its owner any more.",
    Verdict.EXPIRED: "The state answers for a card only while it is valid.",
    Verdict.NOT_YET_VALID: "The state answers for a card only from its first day on.",
    Verdict.UNTRUSTED: "No root that you trust says whose certificate this is.",
    Verdict.MALFORMED: "It is not an identity that can be relied on.",
    Verdict.COULD_NOT_TELL: "The card may have been revoked, and we would not know.",
}
_ACTION: Final = {
    Verdict.REVOKED: "Do not rely on it; ask the person in another way.",
    Verdict.EXPIRED: "Use a renewed card.",
    Verdict.NOT_YET_VALID: "Check this machine's clock, or wait.",
    Verdict.UNTRUSTED: "Import the state's root by its published fingerprint, or do not rely on this certificate.",
    Verdict.MALFORMED: "Use a Citizen Card's certificate.",
    Verdict.COULD_NOT_TELL: "Check the network, refresh the CRLs and try again.",
}


#: The gravest first: what is told when two engines refuse for different reasons.
GRAVITY: Final = (
    Verdict.REVOKED,
    Verdict.MALFORMED,
    Verdict.UNTRUSTED,
    Verdict.EXPIRED,
    Verdict.NOT_YET_VALID,
    Verdict.COULD_NOT_TELL,
    Verdict.VALID,
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one engine says."""

    verdict: Verdict
    detail: str = ""  #: the technical reason, one sentence; empty when VALID
    revoked_at: datetime | None = None
    revocation_reason: str | None = None


@dataclass(frozen=True, slots=True)
class PathResult:
    """The whole answer about one certificate at one moment."""

    verdict: Verdict
    certificate: x509.Certificate
    moment: datetime
    path: tuple[x509.Certificate, ...] = ()  #: leaf first, root last; empty when none was found
    detail: str = ""  #: the technical reason, one sentence
    revoked_at: datetime | None = None
    revocation_reason: str | None = None
    by_enclosed: bool = False  #: valid by data that was sent along with what was signed, not by what is known today

    @property
    def valid(self) -> bool:
        """True for VALID and nothing else."""
        return self.verdict is Verdict.VALID

    def require_valid(self) -> PathResult:
        """Give the result back when it is VALID, else raise PathInvalid."""
        if self.verdict is Verdict.VALID:
            return self
        name = display_name(self.certificate.subject)
        what = f"The certificate of {name} was refused: {self.verdict.value} ({self.detail})."
        raise PathInvalid(self, what, _MEANING[self.verdict], _ACTION[self.verdict])
