"""Revocation lists: where a certificate says that they are, and whether one that came is the right one.

Rules, in the words of RFC 5280:

  - a list counts when the certificate above signed it; lists that another issuer signs (indirect) are not used (5.2.5)
  - its scope has to cover the certificate: the distribution point, user or CA certificates, reasons (6.3.3 step b)
  - it has a nextUpdate (5.1.2.5) and no critical extension that is not known here (5.2)
  - a delta belongs to a complete list of the same issuer and scope that is not older than its base (5.2.4)

Addresses of several kinds may stand in a certificate. Only http and https are followed; what is left out is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pki.errors import RevocationUnavailable
from pki.fetchers import CRL_BYTES_MAX
from pki.identity import display_name

Crl = x509.CertificateRevocationList

POINTS_MAX: Final = 8  #: distribution points of one certificate that are looked at
ADDRESSES_MAX: Final = 4  #: of one distribution point that are tried
_SHOWN_MAX: Final = 120  #: characters of an address in a message
_CRITICAL_KNOWN: Final = (x509.IssuingDistributionPoint, x509.DeltaCRLIndicator, x509.AuthorityKeyIdentifier)
_E = TypeVar("_E", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class Point:
    """One distribution point: `urls` are ways to the same list, `left_out` says which addresses are not followed."""

    names: tuple[x509.GeneralName, ...]
    relative_name: x509.RelativeDistinguishedName | None
    urls: tuple[str, ...]
    left_out: tuple[str, ...]
    indirect: bool


def points(certificate: x509.Certificate) -> list[Point]:
    """Where a certificate says that complete lists are (section 4.2.1.13)."""
    return _points(_extension(certificate, x509.CRLDistributionPoints))


def delta_points(holder: x509.Certificate | Crl) -> list[Point]:
    """Where a certificate or a complete list says that deltas are (sections 4.2.1.15 and 5.2.6)."""
    return _points(_extension(holder, x509.FreshestCRL))


def _points(found: Iterable[x509.DistributionPoint] | None) -> list[Point]:
    return [_point(each) for each in list(found or ())[:POINTS_MAX]]


def _point(point: x509.DistributionPoint) -> Point:
    names = tuple(point.full_name or ())
    texts = list(dict.fromkeys(n.value for n in names if isinstance(n, x509.UniformResourceIdentifier)))
    urls = [text for text in texts if text.lower().startswith(("http://", "https://"))]
    left_out = [f"{text[:_SHOWN_MAX]!r} is not followed: only http and https are" for text in texts if text not in urls]
    return Point(names, point.relative_name, tuple(urls[:ADDRESSES_MAX]), tuple(left_out), bool(point.crl_issuer))


def read_crl(data: bytes) -> Crl:
    """A CRL from its DER form. Raises RevocationUnavailable."""
    if len(data) > CRL_BYTES_MAX:
        raise refused("it is larger than the limit")
    try:
        crl = x509.load_der_x509_crl(data)
        readable = crl.next_update_utc is not None and crl.signature_hash_algorithm is not None
        unknown = [e for e in crl.extensions if e.critical and not isinstance(e.value, _CRITICAL_KNOWN)]
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension) as error:
        raise refused("it is not a CRL in DER form") from error
    if not readable:
        raise refused("it has no nextUpdate")
    if unknown:
        raise refused(f"its critical extension {unknown[0].oid.dotted_string} is not known here")
    return crl


def check_signature(crl: Crl, issuer: x509.Certificate) -> None:
    """Refuse a list that this issuer did not sign. Raises RevocationUnavailable."""
    key = issuer.public_key()
    if crl.issuer != issuer.subject:
        raise refused(f"it is a list of {display_name(crl.issuer)}, not of {display_name(issuer.subject)}")
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise refused("its issuer's key is neither RSA nor on an elliptic curve")
    try:
        good = crl.is_signature_valid(key)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise refused("its signature cannot be read") from error
    if not good:
        raise refused(f"{display_name(issuer.subject)} did not sign it")


def check_scope(crl: Crl, certificate: x509.Certificate, point: Point) -> None:
    """Refuse a list that does not speak about this certificate (section 6.3.3 step b). Raises RevocationUnavailable."""
    scope = scope_of(crl)
    if scope is None:
        return
    ca = is_ca(certificate)
    if scope.indirect_crl or scope.only_contains_attribute_certs:
        raise refused("it is an indirect list, or one of attribute certificates")
    if scope.only_contains_user_certs and ca:
        raise refused("it speaks about citizens' certificates only, and this is a CA's")
    if scope.only_contains_ca_certs and not ca:
        raise refused("it speaks about CAs' certificates only")
    named = scope.full_name is not None or scope.relative_name is not None
    same = not set(scope.full_name or ()).isdisjoint(point.names)
    if named and not same and (scope.relative_name is None or scope.relative_name != point.relative_name):
        raise refused("it is the list of another distribution point")


def covers_all_reasons(crls: Sequence[Crl]) -> bool:
    """Do these complete lists together tell every reason for a revocation (section 6.3.3 steps d and e)?"""
    told: set[x509.ReasonFlags] = set()
    for crl in crls:
        scope = scope_of(crl)
        if scope is None or scope.only_some_reasons is None:
            return True
        told |= scope.only_some_reasons
    # The two values that are not reasons for a revocation cannot stand in a scope.
    return told >= set(x509.ReasonFlags) - {x509.ReasonFlags.unspecified, x509.ReasonFlags.remove_from_crl}


def check_complete(crl: Crl) -> None:
    """Refuse a delta where a complete list should be. Raises RevocationUnavailable."""
    if _extension(crl, x509.DeltaCRLIndicator) is not None:
        raise refused("it is a delta where a complete list should be")


def check_delta(delta: Crl, complete: Sequence[Crl]) -> None:
    """Refuse a delta that can be joined to none of these complete lists (section 5.2.4). Raises RevocationUnavailable.

    Without any complete list there is nothing that it could make newer.
    """
    base = _extension(delta, x509.DeltaCRLIndicator)
    if base is None:
        raise refused("it is not a delta")
    same = [each for each in complete if each.issuer == delta.issuer and scope_of(each) == scope_of(delta)]
    if not same:
        raise refused("it is a delta of a list that is not at hand")
    numbers = [number.crl_number for each in same if (number := _extension(each, x509.CRLNumber)) is not None]
    if not any(number >= base.crl_number for number in numbers):
        raise refused("it is a delta of a newer list than the one that is at hand")


def scope_of(crl: Crl) -> x509.IssuingDistributionPoint | None:
    """The scope that a list says it has; None for one of everything that its issuer issued."""
    return _extension(crl, x509.IssuingDistributionPoint)


def is_ca(certificate: x509.Certificate) -> bool:
    """Is it an issuer's certificate?"""
    found = _extension(certificate, x509.BasicConstraints)
    return found is not None and found.ca


def _extension(holder: x509.Certificate | Crl, kind: type[_E]) -> _E | None:
    """One extension; None where it is absent or cannot be read: who needs it then finds nothing, and refuses."""
    try:
        return holder.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError, TypeError):
        return None


def refused(reason: str) -> RevocationUnavailable:
    """The refusal of a list."""
    return RevocationUnavailable(
        f"A revocation list was refused: {reason}.",
        "A card that was revoked could not be told from a good one.",
        "Check the address in the certificate and the network between.",
    )
