"""The second engine: pyhanko-certvalidator, for what OpenSSL cannot judge, and as a second opinion on what it can.

It validates the path that the first engine found (RFC 5280, policies as in RFC 9618), with the revocation data that
`authentic` let through, and fetches nothing. Its clock stands at `moment`. Which data is current was decided before,
for both engines alike, so its own rule of freshness is set to accept all of it.

Where `now` is later than `moment`, the signers of today's lists and answers may be younger than the moment. Then it
runs twice: at the moment without revocation, and once more with revocation, lenient about validity by the time between,
which the first run and `authentic` have judged already.

Its functions are coroutines that wait for nothing when nothing is fetched: they are driven to their end here, without
an event loop, so that they run in any thread and inside of any loop.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko_certvalidator.authority import AuthorityWithCert, TrustAnchor
from pyhanko_certvalidator.context import ValidationContext
from pyhanko_certvalidator.errors import (
    ExpiredError,
    InsufficientRevinfoError,
    NotYetValidError,
    RevokedError,
    ValidationError,
)
from pyhanko_certvalidator.path import ValidationPath
from pyhanko_certvalidator.policy_decl import (
    NO_REVOCATION,
    REQUIRE_REVINFO,
    CertRevTrustPolicy,
    DisallowWeakAlgorithmsPolicy,
    FreshnessReqType,
    PKIXValidationParams,
    RevocationCheckingPolicy,
)
from pyhanko_certvalidator.validate import async_validate_path

from pki.asn1 import crl as asn1_crl
from pki.asn1 import ocsp as asn1_ocsp
from pki.asn1 import x509 as asn1_x509
from pki.authentic import Evidence, Path
from pki.policy import PolicyInputs, ValidationPolicy
from pki.verdict import Judgement, Verdict

NAME: Final = "certvalidator"
#: It walks through lists entry by entry, in Python. Beyond this size it is asked only when nobody else can judge.
SECOND_OPINION_BYTES_MAX: Final = 64 * 1024

_ANY_AGE: Final = timedelta(days=200 * 365)
_INSTANT: Final = timedelta(microseconds=1)  #: an entry counts for it when its date is *before* the clock

# Its warnings carry tracebacks about strangers' certificates; what matters of them is in the errors that it raises.
logging.getLogger("pyhanko_certvalidator").addHandler(logging.NullHandler())
logging.getLogger("pyhanko_certvalidator").propagate = False


def is_quick(evidence: Evidence) -> bool:
    """Is so little to be read that a second opinion costs milliseconds?"""
    return sum(len(crl.public_bytes(Encoding.DER)) for crl in evidence.crls) <= SECOND_OPINION_BYTES_MAX


def check(path: Path, evidence: Evidence, moment: datetime, now: datetime, policy: ValidationPolicy) -> Judgement:
    """Judge a path (leaf first, anchor last) with policies and, where the policy asks for it, revocation."""
    between = max(now - moment, timedelta(0))
    if not policy.require_revocation:
        return _run(path, evidence, moment, timedelta(0), policy.inputs, NO_REVOCATION)
    if between:
        judged = _run(path, evidence, moment, timedelta(0), policy.inputs, NO_REVOCATION)
        if judged.verdict is not Verdict.VALID:
            return judged
    return _run(path, evidence, moment, between, policy.inputs, REQUIRE_REVINFO)


def _run(
    path: Path,
    evidence: Evidence,
    moment: datetime,
    tolerance: timedelta,
    inputs: PolicyInputs,
    revocation: RevocationCheckingPolicy,
) -> Judgement:
    try:
        certificates = [_asn1(certificate) for certificate in path]
        anchor = TrustAnchor(AuthorityWithCert(certificates[-1]))
        context = ValidationContext(
            trust_roots=[anchor],
            other_certs=[*certificates[:-1], *map(_asn1, evidence.side_signers)],
            moment=moment + _INSTANT,
            time_tolerance=tolerance + _INSTANT,
            crls=[asn1_crl.CertificateList.load(crl.public_bytes(Encoding.DER)) for crl in evidence.crls],
            ocsps=[asn1_ocsp.OCSPResponse.load(a.response.public_bytes(Encoding.DER)) for a in evidence.answers],
            revinfo_policy=CertRevTrustPolicy(
                revocation,
                freshness=_ANY_AGE,
                freshness_req_type=FreshnessReqType.MAX_DIFF_REVOCATION_VALIDATION,
            ),
            algorithm_usage_policy=DisallowWeakAlgorithmsPolicy(),  # type: ignore[no-untyped-call]
        )
        chain = ValidationPath(anchor, certificates[-2:0:-1], certificates[0])
        _to_the_end(async_validate_path(context, chain, _parameters(inputs)))
    except RevokedError as error:
        return Judgement(Verdict.REVOKED, str(error.failure_msg), error.revocation_dt, _reason(error.reason.native))
    except ValidationError as error:
        return Judgement(_verdict(error), str(error.failure_msg))
    except (ValueError, TypeError, KeyError, NotImplementedError, LookupError, OverflowError, RecursionError) as error:
        # asn1crypto parses late: something malformed shows up wherever it is first touched.
        return Judgement(
            Verdict.MALFORMED, f"{NAME} cannot read a certificate, list or answer ({type(error).__name__})"
        )
    return Judgement(Verdict.VALID)


def _verdict(error: ValidationError) -> Verdict:
    if isinstance(error, InsufficientRevinfoError):
        return Verdict.COULD_NOT_TELL
    if isinstance(error, ExpiredError):
        return Verdict.EXPIRED
    if isinstance(error, NotYetValidError):
        return Verdict.NOT_YET_VALID
    return Verdict.UNTRUSTED


def _reason(name: str) -> str:
    """CRLReason in the words of RFC 5280 section 5.3.1."""
    return x509.ReasonFlags[name].value


def _parameters(inputs: PolicyInputs) -> PKIXValidationParams:
    return PKIXValidationParams(
        user_initial_policy_set=frozenset(inputs.initial_policies or {"any_policy"}),
        initial_policy_mapping_inhibit=inputs.inhibit_mapping,
        initial_explicit_policy=inputs.require_explicit,
        initial_any_policy_inhibit=inputs.inhibit_any,
    )


def _asn1(certificate: x509.Certificate) -> asn1_x509.Certificate:
    return asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))


def _to_the_end(coroutine: Coroutine[Any, Any, Any]) -> None:
    try:
        coroutine.send(None)
    except StopIteration:
        return
    finally:
        coroutine.close()
    raise ValueError("the engine waits for something, although it may not fetch")
