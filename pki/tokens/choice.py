"""Which of a token's certificates is the citizen's, and which key belongs to it. Decided from data, without a token.

    kind, keys = choose(found)            # the profile, and what is there for each use

An answer with several candidates is never resolved by guessing: `Candidates.one` refuses it and says how to name one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509

from pki.errors import CertificateError, CertificateMissing
from pki.identity import fingerprint
from pki.tokens.profiles import GENERIC, PROFILES, CardKeyUse, CardProfile


@dataclass(frozen=True, slots=True)
class Found:
    """A certificate as it lies on a token. `certificate` is None where it cannot be read."""

    label: str
    object_id: bytes
    certificate: x509.Certificate | None


@dataclass(frozen=True, slots=True)
class Candidates:
    """The certificates that may be meant for one use, and the labels that their key may have."""

    use: CardKeyUse
    found: tuple[Found, ...]
    key_labels: tuple[str, ...]

    def one(self) -> Found | None:
        """The only candidate, None where there is none. Raises CertificateMissing, CertificateError."""
        if not self.found:
            return None
        if len(self.found) > 1:
            raise CertificateMissing(
                f"The card holds {len(self.found)} certificates for {self.use.value}.",
                "It is unclear which one is yours.",
                "Name it by the first digits of its SHA-256: smr --card-certificate, or SMR_CARD_CERTIFICATE; "
                "smr card shows them.",
            )
        if self.found[0].certificate is None:
            raise CertificateError(
                f"The card's {self.use.value} certificate cannot be read.",
                "It is damaged, or not a certificate of the form that RFC 5280 describes.",
                "Have the card looked at.",
            )
        return self.found[0]


Choice = tuple[CardProfile, dict[CardKeyUse, Candidates]]


def choose(found: Sequence[Found], named: str | None = None) -> Choice:
    """The card's profile and the candidates for each use.

    `named`: the beginning of the SHA-256 (hex) of the authentication certificate that somebody asked for.
    """
    profile = next((each for each in PROFILES if _fits(each, found)), GENERIC)
    candidates = {use: _candidates(profile, use, found) for use in CardKeyUse}
    if named is not None:
        use = CardKeyUse.AUTHENTICATION
        match = tuple(each for each in found if _is_named(each, named))
        candidates[use] = Candidates(use, match, profile.key_labels[use])
    return profile, candidates


def _fits(profile: CardProfile, found: Sequence[Found]) -> bool:
    labels = profile.certificate_labels[CardKeyUse.AUTHENTICATION]
    return any(each.label in labels for each in found)


def _candidates(profile: CardProfile, use: CardKeyUse, found: Sequence[Found]) -> Candidates:
    if profile is GENERIC:
        return Candidates(use, tuple(each for each in found if _is_for(each.certificate, use)), ())
    labels = profile.certificate_labels[use]
    return Candidates(use, tuple(each for each in found if each.label in labels), profile.key_labels[use])


def _is_named(found: Found, digits: str) -> bool:
    return found.certificate is not None and fingerprint(found.certificate).startswith(digits)


def _is_for(certificate: x509.Certificate | None, use: CardKeyUse) -> bool:
    """Is it a person's certificate whose key is for this use (RFC 5280 section 4.2.1.3)?"""
    if certificate is None:
        return False
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    if usage.key_cert_sign:
        return False
    if use is CardKeyUse.SIGNATURE:
        return usage.content_commitment
    return usage.digital_signature and not usage.content_commitment
