"""Path validation: may this certificate be believed, at that moment? (RFC 5280 section 6, through OpenSSL.)

The steps, each of which can end with a verdict:

  1. The certificate itself: readable key of an accepted kind, usage fit for the purpose     → MALFORMED
  2. A path to a chosen root, good at `moment`: signatures, validity, constraints, usage     → UNTRUSTED, EXPIRED,
     (OpenSSL, strict, without CRLs, its clock set to `moment`)                                NOT_YET_VALID
  3. CRLs for every certificate below the root, good at `now`                                → COULD_NOT_TELL
  4. Revocation of the path found in step 2 (OpenSSL, CRLs of step 3, every certificate)     → REVOKED

Two times. `moment` is when the certificate was used, `now` is when we ask. A certificate that was revoked *after* it
was used was good when it was used; so revocation is looked up in CRLs that are current **now** (they know most), and an
entry counts when its date is not after `moment`. Such a CRL is younger than `moment`, and OpenSSL, set to `moment`,
would call it "not yet valid": therefore step 4 runs without OpenSSL's clock (step 2 has judged the certificates'
validity), and the CRLs' own window is checked in step 3 against `now`.

A CRL may drop a certificate once it has expired (RFC 5280 section 3.3). A CRL issued after a certificate's end says
nothing about it, unless it carries expiredCertsOnCRL (X.509 section 9.5.2.8): COULD_NOT_TELL, rather than VALID.

A certificate on hold counts as revoked. Where a CRL entry names an invalidity date (RFC 5280 section 5.3.2) earlier
than the revocation, that one counts: the key may have been in other hands since.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import crypto

from pki.errors import PathInvalid
from pki.identity import display_name
from pki.policy import Purpose, ValidationPolicy
from pki.revocation_data import RevocationData

# Flags of X509_VERIFY_PARAM that pyOpenSSL passes on and does not name (openssl/x509_vfy.h).
_EXTENDED_CRL_SUPPORT: Final = 0x1000  #: indirect CRLs and CRLs split by reason
_USE_DELTAS: Final = 0x2000  #: without it a certificate revoked in a delta CRL passes
_NO_CHECK_TIME: Final = 0x200000
_STRICT: Final = crypto.X509StoreFlags.X509_STRICT
_WITH_CRLS: Final = (
    crypto.X509StoreFlags.CRL_CHECK
    | crypto.X509StoreFlags.CRL_CHECK_ALL
    | _EXTENDED_CRL_SUPPORT
    | _USE_DELTAS
    | _NO_CHECK_TIME
)

# Results of X509_verify_cert (openssl/x509_vfy.h) that are not plainly "untrusted".
_NOT_YET_VALID: Final = 9
_HAS_EXPIRED: Final = 10
_REVOKED: Final = 23
_CRL_PROBLEMS: Final = frozenset({3, 5, 6, 8, 11, 12, 15, 16, 33, 35, 36, 44, 54})
_MALFORMED: Final = frozenset({13, 14, 41, 42, 43})

_EXPIRED_CERTS_ON_CRL: Final = x509.ObjectIdentifier("2.5.29.60")


class Verdict(enum.Enum):
    """The answers. "Revoked", "expired" and "could not tell" are different things to a person."""

    VALID = "valid"
    REVOKED = "revoked"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    UNTRUSTED = "untrusted"
    MALFORMED = "malformed"
    COULD_NOT_TELL = "could not tell"


PathVerdict = Verdict

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


def find_path(
    certificate: x509.Certificate,
    *,
    anchors: Sequence[x509.Certificate],
    intermediates: Iterable[x509.Certificate],
    moment: datetime,
    policy: ValidationPolicy,
) -> PathResult:
    """A path from a certificate to an anchor, good at `moment`, revocation aside: what to collect data for.

    VALID here says nothing about revocation. Never raises for a bad certificate: the answer says so.
    """
    result = PathResult(Verdict.VALID, certificate, moment.astimezone(UTC))
    flaw = _flaw(certificate, policy)
    if flaw:
        return replace(result, verdict=Verdict.MALFORMED, detail=flaw)
    return _find_path(result, [*intermediates], anchors, policy)


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
    result = find_path(certificate, anchors=anchors, intermediates=intermediates, moment=moment, policy=policy)
    if not result.valid or not policy.require_revocation:
        return result
    return _check_revocation(result, revocation, policy, result.moment if now is None else now.astimezone(UTC))


# --- step 1: the certificate --------------------------------------------------------------------------


def _flaw(certificate: x509.Certificate, policy: ValidationPolicy) -> str | None:
    try:
        return _key_flaw(certificate, policy) or _usage_flaw(certificate, policy.purpose)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return "its key or an extension cannot be read"


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


# --- step 2: a path at the moment of use --------------------------------------------------------------


def _find_path(
    result: PathResult,
    intermediates: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    policy: ValidationPolicy,
) -> PathResult:
    store = _store(roots, _STRICT)
    store.set_time(result.moment)
    try:
        path = _verify(store, result.certificate, intermediates)
    except crypto.X509StoreContextError as error:
        return _refused(result, error)
    except crypto.Error:
        return replace(result, verdict=Verdict.MALFORMED, detail="OpenSSL cannot read it")
    if len(path) > policy.path_length_max:
        detail = f"its path has {len(path)} certificates, over the limit of {policy.path_length_max}"
        return replace(result, verdict=Verdict.UNTRUSTED, detail=detail)
    for issuer in path[1:]:
        flaw = _key_flaw(issuer, policy)
        if flaw:
            return replace(result, verdict=Verdict.UNTRUSTED, path=path, detail=f"its issuer: {flaw}")
    return replace(result, path=path)


def _store(roots: Iterable[x509.Certificate], flags: int) -> crypto.X509Store:
    store = crypto.X509Store()
    for root in roots:
        store.add_cert(crypto.X509.from_cryptography(root))
    store.set_flags(flags)
    return store


def _verify(
    store: crypto.X509Store, certificate: x509.Certificate, untrusted: Iterable[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    helpers = [crypto.X509.from_cryptography(c) for c in untrusted]
    context = crypto.X509StoreContext(store, crypto.X509.from_cryptography(certificate), helpers)
    return tuple(c.to_cryptography() for c in context.get_verified_chain())


def _refused(result: PathResult, error: crypto.X509StoreContextError) -> PathResult:
    code = int(error.errors[0])
    if code == _HAS_EXPIRED:
        verdict = Verdict.EXPIRED
    elif code == _NOT_YET_VALID:
        verdict = Verdict.NOT_YET_VALID
    elif code in _MALFORMED:
        verdict = Verdict.MALFORMED
    elif code in _CRL_PROBLEMS:
        verdict = Verdict.COULD_NOT_TELL
    else:
        verdict = Verdict.UNTRUSTED
    culprit = display_name(error.certificate.to_cryptography().subject)
    return replace(result, verdict=verdict, detail=f"{culprit}: {error.errors[2]}")


# --- steps 3 and 4: revocation ------------------------------------------------------------------------


def _check_revocation(
    result: PathResult, revocation: RevocationData, policy: ValidationPolicy, now: datetime
) -> PathResult:
    crls = [crl for crl in map(_readable, revocation.crls) if crl is not None and _is_current(crl, now, policy)]
    for certificate in result.path[:-1]:
        silent = _silent_about(certificate, crls)
        if silent:
            return _untold(result, f"{display_name(certificate.subject)}: {silent}")
    # OpenSSL stops at the first revoked certificate, leaf first. One that was revoked after the moment is passed over,
    # and the path above it is checked again from there.
    for depth in range(len(result.path) - 1):
        store = _store(result.path[-1:], _WITH_CRLS)
        for crl in crls:
            store.add_crl(crl)
        try:
            _verify(store, result.path[depth], result.path[depth + 1 :])
        except crypto.X509StoreContextError as error:
            judged = _judge(result, error, crls)
            if judged is not None:
                return judged
        else:
            return result
    return result


def _judge(
    result: PathResult,
    error: crypto.X509StoreContextError,
    crls: Sequence[x509.CertificateRevocationList],
) -> PathResult | None:
    """The verdict on a refusal with CRLs; None when it concerns a certificate revoked after the moment."""
    culprit = error.certificate.to_cryptography()
    name = display_name(culprit.subject)
    if int(error.errors[0]) != _REVOKED:
        return _untold(result, f"{name}: {error.errors[2]}")
    entry = _entry(culprit, crls)
    if entry is None:
        return replace(result, verdict=Verdict.REVOKED, detail=f"{name} is in a revocation list")
    since, reason = entry
    if since > result.moment:
        return None  # what stands below the culprit is cleared; the loop goes on until it is above it
    detail = f"{name} was revoked on {since:%Y-%m-%d %H:%M:%S} UTC, {reason}"
    return replace(result, verdict=Verdict.REVOKED, detail=detail, revoked_at=since, revocation_reason=reason)


def _untold(result: PathResult, reason: str) -> PathResult:
    return replace(result, verdict=Verdict.COULD_NOT_TELL, detail=reason)


def _readable(der: bytes) -> x509.CertificateRevocationList | None:
    try:
        return x509.load_der_x509_crl(der)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        return None


def _is_current(crl: x509.CertificateRevocationList, now: datetime, policy: ValidationPolicy) -> bool:
    """Is this CRL good now? One without nextUpdate never is (RFC 5280 section 5.1.2.5 demands it)."""
    end = crl.next_update_utc
    return end is not None and crl.last_update_utc <= now + policy.clock_skew and now <= end + policy.max_crl_staleness


def _silent_about(certificate: x509.Certificate, crls: Sequence[x509.CertificateRevocationList]) -> str | None:
    """Why its issuer's CRLs say nothing about this certificate, None when one of them does."""
    issuers = [crl for crl in crls if crl.issuer == certificate.issuer]
    if not issuers:
        return None  # an indirect CRL may speak for it: OpenSSL decides, and refuses when there is none
    end = certificate.not_valid_after_utc
    if any(crl.last_update_utc <= end or _keeps_expired(crl) for crl in issuers):
        return None
    return "it has expired, and the revocation list may have dropped it since"


def _keeps_expired(crl: x509.CertificateRevocationList) -> bool:
    try:
        crl.extensions.get_extension_for_oid(_EXPIRED_CERTS_ON_CRL)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return True


def _entry(
    certificate: x509.Certificate, crls: Iterable[x509.CertificateRevocationList]
) -> tuple[datetime, str] | None:
    """Since when and why a certificate is revoked: the earliest entry of its issuer's CRLs."""
    found = []
    for crl in crls:
        if crl.issuer != certificate.issuer:
            continue
        revoked = crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
        if revoked is not None:
            found.append(_since(revoked))
    return min(found, default=None)


def _since(revoked: x509.RevokedCertificate) -> tuple[datetime, str]:
    since, reason = revoked.revocation_date_utc, x509.ReasonFlags.unspecified.value
    try:
        for extension in revoked.extensions:
            if isinstance(extension.value, x509.InvalidityDate):
                since = min(since, extension.value.invalidity_date_utc)
            elif isinstance(extension.value, x509.CRLReason):
                reason = extension.value.reason.value
    except ValueError:
        reason = "reason unreadable"  # the date stands in the entry itself: the certificate is revoked all the same
    return since, reason
