"""Path validation: may this certificate be believed, at that moment? (RFC 5280 section 6, RFC 9618.)

The steps, each of which can end with a verdict:

  1. The certificate itself: readable key of an accepted kind, usage fit for the purpose     → MALFORMED
  2. A path to a chosen anchor, good at `moment`: signatures, validity, constraints, usage   → UNTRUSTED, EXPIRED,
     (OpenSSL, strict), and every key and digest in it strong enough                           NOT_YET_VALID
  3. Revocation data that counts: signed by whom it claims, current at `now` (`authentic`)   → COULD_NOT_TELL
  4. Policies and revocation of that path: OpenSSL where it can judge, certvalidator where   → any
     it can, both where both can
  5. Nobody in the path is named as revoked in the data of step 3, whatever step 4 says      → REVOKED

Who can judge is computed from the inputs before, never from an engine's answer. Where two judge and one refuses, the
answer is refusal, with both reasons. Where nobody can, it is COULD_NOT_TELL.

Two times. `moment` is when the certificate was used, `now` is when we ask. A certificate that was revoked *after* it
was used was good when it was used; so revocation is looked up in data that is current **now** (it knows most), and an
entry counts when its date is not after `moment`. To rely on data of the past, because nothing else is left, give its
time as `now`.

A CRL may drop a certificate once it has expired (RFC 5280 section 3.3). A CRL issued after a certificate's end says
nothing about it, unless it carries expiredCertsOnCRL: COULD_NOT_TELL, rather than VALID. A list that announces delta
lists does not count without one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pki import openssl_engine
from pki.authentic import (
    UNREADABLE,
    Crl,
    Evidence,
    Path,
    digest_accepted,
    is_delta,
    is_indirect,
    keeps_expired,
    names_delta,
    same_name,
    scope_of,
    sift,
)
from pki.identity import display_name
from pki.openssl_engine import names_other_crl_issuer
from pki.policy import Purpose, ValidationPolicy
from pki.revocation_data import RevocationData
from pki.revocation_entries import first_revoked
from pki.verdict import GRAVITY, Judgement, PathResult, Verdict

__all__ = ["PathResult", "Verdict", "find_path", "validate_path"]


def find_path(
    certificate: x509.Certificate,
    *,
    anchors: Sequence[x509.Certificate],
    intermediates: Iterable[x509.Certificate],
    moment: datetime,
    policy: ValidationPolicy,
) -> PathResult:
    """A path from a certificate to an anchor, good at `moment`, policies and revocation aside: to collect data for.

    VALID here says nothing about revocation. Never raises for a bad certificate: the answer says so.
    """
    result = PathResult(Verdict.VALID, certificate, moment.astimezone(UTC))
    flaw = _flaw(certificate, policy)
    if flaw:
        return replace(result, verdict=Verdict.MALFORMED, detail=flaw)
    helpers = [each for each in intermediates if _is_readable(each)]
    judgement, path = openssl_engine.find_path(certificate, anchors, helpers, result.moment)
    if judgement.verdict is not Verdict.VALID:
        return _with(result, judgement)
    result = replace(result, path=tuple(path))
    weakness = _weakness(path, policy)
    return replace(result, verdict=Verdict.UNTRUSTED, detail=weakness) if weakness else result


def validate_path(
    certificate: x509.Certificate,
    *,
    anchors: Sequence[x509.Certificate],
    intermediates: Iterable[x509.Certificate],
    revocation: RevocationData,
    moment: datetime,
    policy: ValidationPolicy,
    now: datetime | None = None,
) -> PathResult:
    """Validate a certificate as it was at `moment`, with what is known at `now` (the same when None).

    `moment` and `now` are aware datetimes. Fetches nothing. Never raises for a bad certificate: the answer says so.
    """
    helpers = [each for each in intermediates if _is_readable(each)]
    result = find_path(certificate, anchors=anchors, intermediates=helpers, moment=moment, policy=policy)
    if not result.valid:
        return result
    try:
        return _judged(result, helpers, revocation, result.moment if now is None else now.astimezone(UTC), policy)
    except UNREADABLE:  # something in the path that OpenSSL reads and another library does not
        return replace(result, verdict=Verdict.MALFORMED, detail="a certificate of its path cannot be read")


def _judged(
    result: PathResult,
    helpers: Sequence[x509.Certificate],
    revocation: RevocationData,
    now: datetime,
    policy: ValidationPolicy,
) -> PathResult:
    """Steps 3 to 5, for a path that was found."""
    evidence = sift(revocation, result.path, helpers, policy, now)
    if policy.require_revocation:
        missing = _missing(result.path, evidence)
        if missing:
            return _with(result, _untold(missing, evidence))
    judgement = judge(result.path, evidence, result.moment, now, policy)
    if judgement.verdict is Verdict.VALID and policy.require_revocation:
        judgement = first_revoked(result.path, evidence, result.moment) or judgement
    if judgement.verdict is Verdict.COULD_NOT_TELL:
        judgement = _untold(judgement.detail, evidence)
    return _with(result, judgement)


def judge(path: Path, evidence: Evidence, moment: datetime, now: datetime, policy: ValidationPolicy) -> Judgement:
    """Let every engine that can judge these inputs do so, and weigh what they say."""
    from pki import certvalidator_engine  # takes as long to load as all the rest, and only a judgement needs it

    first_cannot = openssl_engine.cannot_judge(path, evidence, policy)
    said: list[tuple[str, Judgement]] = []
    if not first_cannot:
        found = Judgement(Verdict.VALID)
        if policy.require_revocation:
            found = openssl_engine.check_revocation(path, evidence, moment)
        said.append((openssl_engine.NAME, found))
    if first_cannot or certvalidator_engine.is_quick(evidence):
        found = certvalidator_engine.check(path, evidence, moment, now, policy)
        said.append((certvalidator_engine.NAME, found))
    return weigh(said)


def weigh(said: Sequence[tuple[str, Judgement]]) -> Judgement:
    """One judgement from those of all engines that were asked: the gravest, with everybody's reason if they differ."""
    if not said:
        return Judgement(Verdict.COULD_NOT_TELL, "no engine can judge this path")
    gravest = min((judgement for _, judgement in said), key=lambda judgement: GRAVITY.index(judgement.verdict))
    if len({judgement.verdict for _, judgement in said}) == 1:
        return gravest
    reasons = [
        f"{name} says {each.verdict.value}" + (f" ({each.detail})" if each.detail else "") for name, each in said
    ]
    return replace(gravest, detail="; ".join(reasons))


def _with(result: PathResult, judgement: Judgement) -> PathResult:
    return replace(
        result,
        verdict=judgement.verdict,
        detail=judgement.detail,
        revoked_at=judgement.revoked_at,
        revocation_reason=judgement.revocation_reason,
    )


def _untold(reason: str, evidence: Evidence) -> Judgement:
    return Judgement(Verdict.COULD_NOT_TELL, "; ".join([reason, *evidence.set_aside]))


# --- steps 1 and 2: keys, digests, usage ------------------------------------------------------------------------------


def _is_readable(certificate: x509.Certificate) -> bool:
    """Can what every step looks at be read? The library parses late, and OpenSSL accepts what it does not."""
    try:
        _ = certificate.subject, certificate.issuer, certificate.public_key()
        _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except UNREADABLE:
        return False
    return True


def _flaw(certificate: x509.Certificate, policy: ValidationPolicy) -> str | None:
    if not _is_readable(certificate):
        return "its names, dates or key cannot be read"
    try:
        return _key_flaw(certificate, policy) or _usage_flaw(certificate, policy.purpose)
    except UNREADABLE:
        return "an extension cannot be read"


def _key_flaw(certificate: x509.Certificate, policy: ValidationPolicy) -> str | None:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        fits = policy.rsa_bits_min <= key.key_size <= policy.rsa_bits_max
        return None if fits else f"an RSA key of {key.key_size} bits is not accepted"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return None if key.curve.name in policy.curves else f"a key on the curve {key.curve.name} is not accepted"
    return "its key is neither RSA nor on an accepted curve"


def _usage_flaw(certificate: x509.Certificate, purpose: Purpose) -> str | None:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return "it does not say what its key may be used for"
    fits = {
        Purpose.ANY: usage.digital_signature or usage.content_commitment,
        Purpose.AUTHENTICATION: usage.digital_signature,
        Purpose.SIGNATURE: usage.content_commitment,
    }[purpose]
    return None if fits else f"its key usage does not allow this purpose ({purpose.value})"


def _weakness(path: Path, policy: ValidationPolicy) -> str | None:
    """What in a path is below the policy; an anchor's signature over itself is not looked at."""
    if len(path) > policy.path_length_max:
        return f"its path has {len(path)} certificates, over the limit of {policy.path_length_max}"
    for certificate in path[:-1]:
        if not digest_accepted(certificate):
            return f"{display_name(certificate.subject)}: it is signed with a weak algorithm"
    for issuer in path[1:]:
        flaw = _key_flaw(issuer, policy)
        if flaw:
            return f"its issuer {display_name(issuer.subject)}: {flaw}"
    return None


# --- step 3: is there something to judge by? --------------------------------------------------------------------------


def _missing(path: Path, evidence: Evidence) -> str:
    """Which datum is missing before anybody can judge, "" when none is plainly missing."""
    for certificate in path[:-1]:
        if any(answer.certificate == certificate for answer in evidence.answers):
            continue
        reason = _silence(certificate, evidence.crls)
        if reason:
            return f"{display_name(certificate.subject)}: {reason}"
    return ""


def _silence(certificate: x509.Certificate, crls: Sequence[Crl]) -> str:
    """Why its issuer's CRLs say nothing about this certificate, "" when one of them may."""
    if names_other_crl_issuer(certificate) or any(is_indirect(crl) for crl in crls):
        return ""  # a list of somebody else may speak for it: the engines find out
    complete = [crl for crl in crls if same_name(crl.issuer, certificate.issuer) and not is_delta(crl)]
    if not complete and not any(same_name(crl.issuer, certificate.issuer) for crl in crls):
        return f"there is no revocation list of {display_name(certificate.issuer)}, nor an OCSP answer"
    deltas = {scope_of(crl) for crl in crls if is_delta(crl)}
    if any(names_delta(crl) and scope_of(crl) not in deltas for crl in complete):
        return f"the delta list that the revocation list of {display_name(certificate.issuer)} announces is missing"
    end = certificate.not_valid_after_utc
    if complete and not any(crl.last_update_utc <= end or keeps_expired(crl) for crl in complete):
        return "it has expired, and the revocation list may have dropped it since"
    return ""
