"""The first engine: OpenSSL's X.509 verification, through pyOpenSSL.

It finds the path, and judges it without revocation, always. Whether it can judge revocation is said by `cannot_judge`,
from the inputs alone: it takes no policy inputs, no OCSP answers, and refuses lists that are indirect although they are
good.

Two times. `moment` is when the certificate was used, `now` is when we ask. Revocation is looked up in lists that are
current now (they know most), and an entry counts when its date is not after `moment`. Such a list is younger than
`moment`, and OpenSSL, set to `moment`, would call it "not yet valid": therefore revocation is checked without OpenSSL's
clock; the certificates' validity is judged before, and the lists' own window by `authentic`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtensionOID
from OpenSSL import crypto

from pki.authentic import Crl, Evidence, Path, is_indirect
from pki.identity import display_name
from pki.policy import ValidationPolicy
from pki.revocation_entries import entry_for
from pki.verdict import Judgement, Verdict

NAME: Final = "OpenSSL"

# Flags of X509_VERIFY_PARAM that pyOpenSSL passes on and does not name (openssl/x509_vfy.h).
_EXTENDED_CRL_SUPPORT: Final = 0x1000  #: X509_V_FLAG_EXTENDED_CRL_SUPPORT: lists split by reason, or signed apart
_USE_DELTAS: Final = 0x2000  #: X509_V_FLAG_USE_DELTAS: without it a certificate revoked in a delta CRL passes
_NO_CHECK_TIME: Final = 0x200000  #: X509_V_FLAG_NO_CHECK_TIME
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
_MALFORMED: Final = frozenset({13, 14, 41, 42, 43})

_POLICY_EXTENSIONS: Final = (
    ExtensionOID.POLICY_CONSTRAINTS,
    ExtensionOID.POLICY_MAPPINGS,
    ExtensionOID.INHIBIT_ANY_POLICY,
)


def find_path(
    certificate: x509.Certificate,
    anchors: Iterable[x509.Certificate],
    helpers: Iterable[x509.Certificate],
    moment: datetime,
) -> tuple[Judgement, Path]:
    """A path to an anchor, good at `moment`, policies and revocation aside; leaf first, empty unless VALID."""
    store = _store(anchors, _STRICT)
    store.set_time(moment)
    try:
        return Judgement(Verdict.VALID), _verify(store, certificate, helpers)
    except crypto.X509StoreContextError as error:
        return _refused(error), ()
    except crypto.Error:
        return Judgement(Verdict.MALFORMED, f"{NAME} cannot read it"), ()


def cannot_judge(path: Path, evidence: Evidence, policy: ValidationPolicy) -> str:
    """Why this engine must not be asked about policies and revocation of this path, "" when it can be."""
    if policy.inputs.set_by_user:
        return "it takes no policy inputs"
    if any(_has(certificate, oid) for certificate in path[:-1] for oid in _POLICY_EXTENSIONS):
        return "a certificate constrains or maps policies"
    if evidence.answers:
        return "it reads no OCSP answers"
    if any(is_indirect(crl) for crl in evidence.crls) or any(names_other_crl_issuer(c) for c in path[:-1]):
        return "a revocation list is indirect"
    return ""


def check_revocation(path: Path, evidence: Evidence, moment: datetime) -> Judgement:
    """Was a certificate of the path revoked at `moment`?

    OpenSSL stops at the first revoked certificate, leaf first. One that was revoked after the moment is passed over,
    and the path above it is checked again from there.
    """
    for depth in range(len(path) - 1):
        store = _store(path[-1:], _WITH_CRLS)
        for crl in evidence.crls:
            store.add_crl(crl)
        try:
            _verify(store, path[depth], [*path[depth + 1 :], *evidence.side_signers])
        except crypto.X509StoreContextError as error:
            judged = _judge(error, evidence.crls, moment)
            if judged is not None:
                return judged
        except crypto.Error:
            return Judgement(Verdict.COULD_NOT_TELL, f"{NAME} cannot read a revocation list")
        else:
            return Judgement(Verdict.VALID)
    return Judgement(Verdict.VALID)


def names_other_crl_issuer(certificate: x509.Certificate) -> bool:
    """Does a distribution point name a cRLIssuer (RFC 5280 section 4.2.1.13)? True when that is unreadable."""
    try:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return False
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return True
    return any(point.crl_issuer for point in points)


def _has(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> bool:
    try:
        certificate.extensions.get_extension_for_oid(oid)
    except x509.ExtensionNotFound:
        return False
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return True
    return True


def _judge(error: crypto.X509StoreContextError, crls: Sequence[Crl], moment: datetime) -> Judgement | None:
    """The verdict on a refusal with lists; None when it concerns a certificate revoked after the moment."""
    culprit = error.certificate.to_cryptography()
    name = display_name(culprit.subject)
    if int(error.errors[0]) != _REVOKED:
        return Judgement(Verdict.COULD_NOT_TELL, f"{name}: {error.errors[2]}")
    entry = entry_for(culprit, crls)
    if entry is None:
        return Judgement(Verdict.REVOKED, f"{name} is in a revocation list")
    return entry.judgement(culprit) if entry.since <= moment else None


def _store(roots: Iterable[x509.Certificate], flags: int) -> crypto.X509Store:
    store = crypto.X509Store()
    for root in roots:
        store.add_cert(crypto.X509.from_cryptography(root))
    store.set_flags(flags)
    return store


def _verify(
    store: crypto.X509Store, certificate: x509.Certificate, untrusted: Iterable[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    helpers = [helper for each in untrusted if (helper := _helper(each)) is not None]
    context = crypto.X509StoreContext(store, crypto.X509.from_cryptography(certificate), helpers)
    return tuple(c.to_cryptography() for c in context.get_verified_chain())


def _helper(certificate: x509.Certificate) -> crypto.X509 | None:
    """None for one that OpenSSL cannot read: whoever sends such a one along must not spoil the others."""
    try:
        return crypto.X509.from_cryptography(certificate)
    except crypto.Error:
        return None


def _refused(error: crypto.X509StoreContextError) -> Judgement:
    code = int(error.errors[0])
    if code == _HAS_EXPIRED:
        verdict = Verdict.EXPIRED
    elif code == _NOT_YET_VALID:
        verdict = Verdict.NOT_YET_VALID
    elif code in _MALFORMED:
        verdict = Verdict.MALFORMED
    else:
        verdict = Verdict.UNTRUSTED
    culprit = display_name(error.certificate.to_cryptography().subject)
    return Judgement(verdict, f"{culprit}: {error.errors[2]}")
