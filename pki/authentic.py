"""Which revocation data counts: signed by whom it claims, current, and about this path.

Revocation data comes from strangers: servers, caches that others can write, letters. Before any engine sees it, this
module leaves out

  * a list that no certificate with cRLSign signed whose own signatures lead to an anchor of the path;
  * an OCSP answer that neither an issuer of the path signed, nor a responder that this issuer certified for it (RFC
    6960 section 4.2.2.2), or that brings along any certificate which is not accounted for;
  * whatever is signed with a weak digest, is not current at `now`, or is older than another list of the same scope.

Why not leave that to the engines: pyhanko-certvalidator takes a certificate in an OCSP answer for the issuer's when
issuer, serial number and *signature bytes* agree, so that one with another key in it passes; and it takes a list's word
about the list's own signer before it checks the list's signature. Neither can happen with what is left here.

Whether a list's signer may speak for a certificate (its scope, indirect lists) is for the engines to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki.authenticity import is_about, signed_by
from pki.identity import display_name
from pki.policy import SIGNATURE_DIGESTS, ValidationPolicy
from pki.revocation_data import RevocationData

LISTS_MAX: Final = 64  #: lists, and as many OCSP answers, that are looked at for one path
_EXPIRED_CERTS_ON_CRL: Final = x509.ObjectIdentifier("2.5.29.60")  #: X.509 section 9.5.2.8
#: What reading a malformed certificate, list or answer raises; parts are read late, when they are first touched.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

Crl = x509.CertificateRevocationList
Path = Sequence[x509.Certificate]


@dataclass(frozen=True, slots=True)
class Answer:
    """An OCSP answer that counts."""

    response: ocsp.OCSPResponse
    certificate: x509.Certificate  #: whom it is about


@dataclass(frozen=True, slots=True)
class Evidence:
    """What counts for one path at one time."""

    crls: tuple[Crl, ...]
    answers: tuple[Answer, ...]
    side_signers: tuple[x509.Certificate, ...]  #: who signed lists without standing in the path; authentic
    set_aside: tuple[str, ...]  #: for people: what was left out, and why


def sift(
    data: RevocationData, path: Path, helpers: Iterable[x509.Certificate], policy: ValidationPolicy, now: datetime
) -> Evidence:
    """Keep what counts. `path` is leaf first and its signatures hold; `helpers` are certificates from anywhere."""
    signers = _Signers(path, helpers)
    set_aside: list[str] = []
    crls: list[Crl] = []
    for der in data.crls[:LISTS_MAX]:
        crl = _read_crl(der)
        problem = "a revocation list cannot be read" if crl is None else _crl_problem(crl, signers, policy, now)
        if problem or crl is None:
            set_aside.append(problem)
        else:
            crls.append(crl)
    answers: list[Answer] = []
    for der in data.ocsp[:LISTS_MAX]:
        answer = _read_answer(der, path, signers, policy, now)
        if isinstance(answer, Answer):
            answers.append(answer)
        else:
            set_aside.append(answer)
    return Evidence(_newest(crls, path), tuple(answers), tuple(signers.side), tuple(dict.fromkeys(set_aside)))


def digest_accepted(signed: x509.Certificate | Crl | ocsp.OCSPResponse) -> bool:
    """Is this signed with a digest that is accepted, the one inside a PSS mask included? False when unreadable."""
    try:
        digest = signed.signature_hash_algorithm
        parameters = None if isinstance(signed, ocsp.OCSPResponse) else signed.signature_algorithm_parameters
    except UNREADABLE:
        return False
    if isinstance(parameters, padding.PSS) and parameters.mgf._algorithm.name not in SIGNATURE_DIGESTS:  # noqa: SLF001 - it has no public name
        return False
    return digest is not None and digest.name in SIGNATURE_DIGESTS


def is_indirect(crl: Crl) -> bool:
    """May this list speak for certificates of other issuers (RFC 5280 section 5.2.5)? True when that is unreadable."""
    scope = _crl_extension(crl, x509.IssuingDistributionPoint)
    return isinstance(scope, x509.IssuingDistributionPoint) and scope.indirect_crl


def is_delta(crl: Crl) -> bool:
    """Does this list only tell the difference to another one (RFC 5280 section 5.2.4)?"""
    return _crl_extension(crl, x509.DeltaCRLIndicator) is not None


def names_delta(crl: Crl) -> bool:
    """Does this complete list say that there are delta lists beside it (RFC 5280 section 5.2.6)?"""
    return _crl_extension(crl, x509.FreshestCRL) is not None


def keeps_expired(crl: Crl) -> bool:
    """Does this list go on listing certificates that have expired?"""
    try:
        crl.extensions.get_extension_for_oid(_EXPIRED_CERTS_ON_CRL)
    except (x509.ExtensionNotFound, *UNREADABLE):
        return False
    return True


def scope_of(crl: Crl) -> tuple[bytes, bytes, bytes]:
    """What a list is about: issuer, key and distribution point. A delta list has the scope of its complete one."""
    scope = _crl_extension(crl, x509.IssuingDistributionPoint)
    key = _crl_extension(crl, x509.AuthorityKeyIdentifier)
    return (
        crl.issuer.public_bytes(),
        key.key_identifier or b"" if isinstance(key, x509.AuthorityKeyIdentifier) else b"",
        scope.public_bytes() if scope is not None else b"",
    )


# --- lists ----------------------------------------------------------------------------------------------------------


def _read_crl(der: bytes) -> Crl | None:
    try:
        crl = x509.load_der_x509_crl(der)
        crl.issuer, crl.last_update_utc, crl.next_update_utc, list(crl.extensions)  # unreadable parts show up here
        return crl
    except UNREADABLE:
        return None


def _crl_extension(crl: Crl, kind: type[x509.ExtensionType]) -> x509.ExtensionType | None:
    try:
        return crl.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _crl_problem(crl: Crl, signers: _Signers, policy: ValidationPolicy, now: datetime) -> str:
    """Why a list does not count, "" when it does."""
    name = display_name(crl.issuer)
    end = crl.next_update_utc
    if end is None:  # RFC 5280 section 5.1.2.5 demands it
        return f"a revocation list of {name} does not say how long it holds"
    if crl.last_update_utc > now + policy.clock_skew:
        return f"the revocation list of {name} begins only on {crl.last_update_utc:%Y-%m-%d %H:%M} UTC"
    if now - policy.max_crl_staleness > end:  # an end may be the last day of the calendar
        return f"the revocation list of {name} is stale: it ended on {end:%Y-%m-%d %H:%M} UTC"
    if not digest_accepted(crl):
        return f"the revocation list of {name} is signed with a weak algorithm"
    if not signers.signed(crl):
        return f"a revocation list in the name of {name} is not signed by anybody who may"
    return ""


def _newest(crls: Sequence[Crl], path: Path) -> tuple[Crl, ...]:
    """Without the complete lists that a newer one of the same scope replaces.

    Where a certificate of the path had ended before the newer list, that one may have dropped it: then both stay.
    """
    latest: dict[tuple[bytes, bytes, bytes], Crl] = {}
    for crl in crls:
        if not is_delta(crl):
            newest = latest.setdefault(scope_of(crl), crl)
            if crl.last_update_utc > newest.last_update_utc:
                latest[scope_of(crl)] = crl

    def replaced(crl: Crl) -> bool:
        newest = latest[scope_of(crl)]
        about = [c for c in path if same_name(c.issuer, crl.issuer)]
        dropped = any(c.not_valid_after_utc < newest.last_update_utc for c in about)
        return crl.last_update_utc < newest.last_update_utc and not dropped

    return tuple(crl for crl in crls if is_delta(crl) or not replaced(crl))


class _Signers:
    """Who may have signed a list: the path's own certificates first, then helpers whose signatures lead to it."""

    def __init__(self, path: Path, helpers: Iterable[x509.Certificate]) -> None:
        self._path = tuple(path)
        self._helpers = tuple(helpers)
        self._by_name: dict[tuple[tuple[str, str], ...], list[x509.Certificate]] | None = None
        self.side: list[x509.Certificate] = []

    def signed(self, crl: Crl) -> bool:
        """Did somebody authentic, with the right to sign lists, sign this one?"""
        own = [c for c in self._path[1:] if same_name(c.subject, crl.issuer)]
        if any(_may_sign_lists(c) and _crl_holds(crl, c) for c in own):
            return True
        for candidate in self._named(crl.issuer):
            if _may_sign_lists(candidate) and _crl_holds(crl, candidate) and self.authentic(candidate):
                if candidate not in self.side:
                    self.side.append(candidate)
                return True
        return False

    def authentic(self, certificate: x509.Certificate) -> bool:
        """Do the certificate's signatures lead to a certificate of the path?"""
        waiting, seen = [certificate], {certificate}
        while waiting:
            each = waiting.pop()
            if each in self._path:
                return True
            if not digest_accepted(each):
                continue
            issuers = {*self._path[1:], *self._named(each.issuer)} - seen
            found = [issuer for issuer in issuers if _signed_by_ca(each, issuer)]
            waiting.extend(found)
            seen.update(found)
        return False

    def _named(self, name: x509.Name) -> list[x509.Certificate]:
        if self._by_name is None:
            self._by_name = {}
            for helper in self._helpers:
                try:
                    self._by_name.setdefault(_loosely(helper.subject), []).append(helper)
                except UNREADABLE:
                    continue  # whoever sends such a one along must not spoil the others
        return self._by_name.get(_loosely(name), [])


def same_name(one: x509.Name, other: x509.Name) -> bool:
    """Are these one name but for case, white space and string type (RFC 5280 section 7.1)?"""
    return one == other or _loosely(one) == _loosely(other)


def _loosely(name: x509.Name) -> tuple[tuple[str, str], ...]:
    return tuple((part.oid.dotted_string, " ".join(str(part.value).casefold().split())) for part in name)


def _may_sign_lists(certificate: x509.Certificate) -> bool:
    """Key usage with cRLSign, or a CA without key usage (RFC 5280 section 6.3.3, f)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return is_ca(certificate)
    except UNREADABLE:
        return False


def is_ca(certificate: x509.Certificate) -> bool:
    """Do the basic constraints say so (RFC 5280 section 4.2.1.9)?"""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, *UNREADABLE):
        return False


def _crl_holds(crl: Crl, signer: x509.Certificate) -> bool:
    try:
        key = signer.public_key()
        return isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) and crl.is_signature_valid(key)
    except UNREADABLE:
        return False


def _signed_by_ca(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Is this a CA's certificate whose key signed the other one? Names are not compared: engines do that."""
    try:
        digest = certificate.signature_hash_algorithm
        scheme = certificate.signature_algorithm_parameters
        return is_ca(issuer) and signed_by(
            issuer, certificate.signature, certificate.tbs_certificate_bytes, digest, scheme
        )
    except UNREADABLE:
        return False


# --- OCSP answers (RFC 6960) ----------------------------------------------------------------------------------------


def _read_answer(der: bytes, path: Path, signers: _Signers, policy: ValidationPolicy, now: datetime) -> Answer | str:
    """The answer when it counts, else why not."""
    try:
        response = ocsp.load_der_ocsp_response(der)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return f"an OCSP responder did not answer ({response.response_status.name.lower()})"
        if len(list(response.responses)) != 1:
            return "an OCSP answer is not about exactly one certificate"
        return _judged_answer(response, path, signers, policy, now)
    except UNREADABLE:
        return "an OCSP answer cannot be read"


def _judged_answer(
    response: ocsp.OCSPResponse, path: Path, signers: _Signers, policy: ValidationPolicy, now: datetime
) -> Answer | str:
    found = next((pair for pair in pairwise(path) if is_about(response, *pair)), None)
    if found is None:
        return "an OCSP answer is about another certificate"
    certificate, issuer = found
    name = display_name(certificate.subject)
    if not digest_accepted(response):
        return f"the OCSP answer about {name} is signed with a weak algorithm"
    untimely = _untimely(response, policy, now)
    if untimely:
        return f"the OCSP answer about {name} {untimely}"
    if response.this_update_utc > certificate.not_valid_after_utc and not _archives(response, certificate):
        return f"the OCSP answer about {name} was made after it had expired, when the responder may have forgotten it"
    if not _answer_holds(response, issuer, signers, now):
        return f"an OCSP answer about {name} is not signed by anybody who may"
    return Answer(response, certificate)


def _untimely(response: ocsp.OCSPResponse, policy: ValidationPolicy, now: datetime) -> str:
    begin = response.this_update_utc
    end = response.next_update_utc or begin + policy.ocsp_life
    if begin > now + policy.clock_skew:
        return f"begins only on {begin:%Y-%m-%d %H:%M} UTC"
    if now - policy.max_crl_staleness > end:  # an end may be the last day of the calendar
        return f"is stale: it ended on {end:%Y-%m-%d %H:%M} UTC"
    return ""


def _archives(response: ocsp.OCSPResponse, certificate: x509.Certificate) -> bool:
    """Does the responder say that it keeps what it knew about certificates of that time (RFC 6960 section 4.4.4)?"""
    for extension in response.single_extensions:
        if extension.oid.dotted_string == "1.3.6.1.5.5.7.48.1.6" and isinstance(
            extension.value, x509.UnrecognizedExtension
        ):
            text = extension.value.value[2:].decode("ascii")
            cutoff = datetime.strptime(text, "%Y%m%d%H%M%SZ")  # noqa: DTZ007 - compared naive, both are UTC
            return cutoff <= certificate.not_valid_after_utc.replace(tzinfo=None)
    return False


def _answer_holds(response: ocsp.OCSPResponse, issuer: x509.Certificate, signers: _Signers, now: datetime) -> bool:
    brought = [c for c in response.certificates if c != issuer]
    delegates = [c for c in brought if _is_delegate(c, issuer, now)]
    if any(c not in delegates and not signers.authentic(c) for c in brought):
        return False
    return any(
        signed_by(signer, response.signature, response.tbs_response_bytes, response.signature_hash_algorithm)
        for signer in (issuer, *delegates)
    )


def _is_delegate(certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> bool:
    """A responder that the issuer itself certified for OCSP, good now."""
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        return False
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return (
        ExtendedKeyUsageOID.OCSP_SIGNING in uses
        and certificate.issuer == issuer.subject
        and digest_accepted(certificate)
        and _signed_by_ca(certificate, issuer)
    )
