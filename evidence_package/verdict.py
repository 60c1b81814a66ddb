"""The verdict on a package, in the words of ETSI EN 319 102-1 (clauses 5.1.3 and 5.1.4), and the checks behind it.

    TOTAL-PASSED    every check passed
    TOTAL-FAILED    something is not what it should be, whatever else will ever be known
    INDETERMINATE   it may be good, and what is at hand does not show it

A check that did not pass names its sub-indication; the verdict is that of the gravest.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from crypto_core.errors import BindingMismatch, OutOfTime, ProtocolError
from evidence_package.errors import PackageRefused
from pki.errors import CertificateError, OperatorError, PathInvalid, PkiError, SignatureInvalid
from pki.path import Verdict


class Indication(enum.Enum):
    """The three answers."""

    TOTAL_PASSED = "TOTAL-PASSED"
    TOTAL_FAILED = "TOTAL-FAILED"
    INDETERMINATE = "INDETERMINATE"


class SubIndication(enum.Enum):
    """Why it did not pass (tables 4 to 6)."""

    FORMAT_FAILURE = "FORMAT_FAILURE"
    HASH_FAILURE = "HASH_FAILURE"
    SIG_CRYPTO_FAILURE = "SIG_CRYPTO_FAILURE"
    REVOKED = "REVOKED"
    EXPIRED = "EXPIRED"
    NOT_YET_VALID = "NOT_YET_VALID"
    SIG_CONSTRAINTS_FAILURE = "SIG_CONSTRAINTS_FAILURE"
    CHAIN_CONSTRAINTS_FAILURE = "CHAIN_CONSTRAINTS_FAILURE"
    NO_SIGNING_CERTIFICATE_FOUND = "NO_SIGNING_CERTIFICATE_FOUND"
    NO_CERTIFICATE_CHAIN_FOUND = "NO_CERTIFICATE_CHAIN_FOUND"
    NO_POE = "NO_POE"
    TIMESTAMP_ORDER_FAILURE = "TIMESTAMP_ORDER_FAILURE"
    TRY_LATER = "TRY_LATER"

    @property
    def indication(self) -> Indication:
        """What follows from it."""
        return Indication.TOTAL_FAILED if self in _FAILED else Indication.INDETERMINATE


_FAILED: Final = frozenset(
    {
        SubIndication.FORMAT_FAILURE,
        SubIndication.HASH_FAILURE,
        SubIndication.SIG_CRYPTO_FAILURE,
        SubIndication.REVOKED,
        SubIndication.EXPIRED,
        SubIndication.NOT_YET_VALID,
    }
)
_OF_PATH: Final = {
    Verdict.REVOKED: SubIndication.REVOKED,
    Verdict.EXPIRED: SubIndication.EXPIRED,
    Verdict.NOT_YET_VALID: SubIndication.NOT_YET_VALID,
    Verdict.UNTRUSTED: SubIndication.NO_CERTIFICATE_CHAIN_FOUND,
    Verdict.MALFORMED: SubIndication.CHAIN_CONSTRAINTS_FAILURE,
    Verdict.COULD_NOT_TELL: SubIndication.TRY_LATER,
}


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `about` names the part; `meaning` is for people, `reason` technical, empty where it passed."""

    about: str
    name: str
    passed: bool
    meaning: str
    reason: str = ""
    sub_indication: SubIndication | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict with everything behind it. `facts`: what the package proves if it passed; `left_out`: what not."""

    indication: Indication
    sub_indication: SubIndication | None
    checks: tuple[Check, ...]
    facts: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """True for TOTAL-PASSED and nothing else."""
        return self.indication is Indication.TOTAL_PASSED


def weigh(checks: tuple[Check, ...]) -> tuple[Indication, SubIndication | None]:
    """The verdict that follows from the checks: the first failure, or else the first doubt."""
    found = [check.sub_indication for check in checks if not check.passed and check.sub_indication is not None]
    for sub in found:
        if sub.indication is Indication.TOTAL_FAILED:
            return Indication.TOTAL_FAILED, sub
    if found or any(not check.passed for check in checks):
        return Indication.INDETERMINATE, found[0] if found else None
    return Indication.TOTAL_PASSED, None


def sub_indication_of(error: Exception) -> SubIndication:
    """What a refusal means for the verdict."""
    match error:
        case PathInvalid():
            return _OF_PATH[error.result.verdict]
        case SignatureInvalid():
            return SubIndication.SIG_CRYPTO_FAILURE
        case OutOfTime():
            return SubIndication.SIG_CONSTRAINTS_FAILURE
        case BindingMismatch():
            return SubIndication.HASH_FAILURE
        case OperatorError() | CertificateError() | PkiError():
            return SubIndication.CHAIN_CONSTRAINTS_FAILURE
        case PackageRefused() | ProtocolError():
            return SubIndication.FORMAT_FAILURE
    raise TypeError(f"{type(error).__name__} is no refusal") from error
