"""What cards look like from PKCS#11: labels, generations and modules. Data only, no PKCS#11 library is loaded here.

A card is told by the labels of its objects. Where no label is known, its certificates are chosen by what they say that
their keys are for, and a key belongs to the certificate that has the same CKA_ID. Ids are never compared between two
drivers, which cut them differently.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final


class CardKeyUse(enum.Enum):
    """Which of a card's two keys."""

    AUTHENTICATION = "authentication"  #: logins and registrations; its certificate gives the user id
    SIGNATURE = "signature"  #: the qualified one, for letters and receipts


@dataclass(frozen=True, slots=True)
class Generation:
    """Cards of one kind that were made in the same years, told by the kind of their keys."""

    name: str
    key_kinds: tuple[str, ...]  #: as `pki.identity.key_kind` writes them
    holds_issuers: bool  #: whether the card returns CA certificates; without them they come from the trust store


@dataclass(frozen=True, slots=True)
class CardProfile:
    """The object labels of one kind of card; several where drivers name the same object differently."""

    name: str
    certificate_labels: Mapping[CardKeyUse, tuple[str, ...]]
    key_labels: Mapping[CardKeyUse, tuple[str, ...]]
    issuer_labels: tuple[str, ...] = ()  #: CA certificates that the card may also hold
    generations: tuple[Generation, ...] = ()


CITIZEN_CARD: Final = CardProfile(
    name="Cartão de Cidadão",
    certificate_labels={
        CardKeyUse.AUTHENTICATION: ("CITIZEN AUTHENTICATION CERTIFICATE",),
        CardKeyUse.SIGNATURE: ("CITIZEN SIGNATURE CERTIFICATE",),
    },
    key_labels={
        CardKeyUse.AUTHENTICATION: ("CITIZEN AUTHENTICATION KEY",),
        CardKeyUse.SIGNATURE: ("CITIZEN SIGNATURE KEY",),
    },
    issuer_labels=("AUTHENTICATION SUB CA", "SIGNATURE SUB CA", "ROOT CA"),
    generations=(
        Generation("first cards", ("RSA-1024", "RSA-2048"), holds_issuers=True),
        Generation("cards until June 2024", ("RSA-3072",), holds_issuers=True),
        Generation("cards from June 2024 on", ("P-256",), holds_issuers=False),
    ),
)

#: NIST SP 800-73-4: slot 9A authenticates, slot 9C signs. The first names are OpenSC's, the second Yubico's.
PIV: Final = CardProfile(
    name="PIV",
    certificate_labels={
        CardKeyUse.AUTHENTICATION: (
            "Certificate for PIV Authentication",
            "X.509 Certificate for PIV Authentication",
        ),
        CardKeyUse.SIGNATURE: (
            "Certificate for Digital Signature",
            "X.509 Certificate for Digital Signature",
        ),
    },
    key_labels={
        CardKeyUse.AUTHENTICATION: ("PIV AUTH key", "Private key for PIV Authentication"),
        CardKeyUse.SIGNATURE: ("SIGN key", "Private key for Digital Signature"),
    },
)

#: Any other eID: certificates by their key usage, keys by the id of their certificate.
GENERIC: Final = CardProfile(
    name="PKCS#11 token",
    certificate_labels={CardKeyUse.AUTHENTICATION: (), CardKeyUse.SIGNATURE: ()},
    key_labels={CardKeyUse.AUTHENTICATION: (), CardKeyUse.SIGNATURE: ()},
)

PROFILES: Final = (CITIZEN_CARD, PIV)  #: those that are told by their labels, first match first

#: Where the PKCS#11 modules stand, first found first used: the card's own middleware, SoftHSM for virtual cards, and
#: OpenSC, which speaks to most other cards.
MIDDLEWARE_MODULES: Final = (
    Path("/usr/local/lib/libpteidpkcs11.so"),
    Path("/usr/lib/libpteidpkcs11.so"),
    Path("/usr/lib/x86_64-linux-gnu/libpteidpkcs11.so"),
    Path("/usr/lib/aarch64-linux-gnu/libpteidpkcs11.so"),
)
SOFTHSM_MODULES: Final = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"),
    Path("/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/libsofthsm2.so"),
)
OPENSC_MODULES: Final = (
    Path("/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"),
    Path("/usr/lib/aarch64-linux-gnu/opensc-pkcs11.so"),
    Path("/usr/lib64/opensc-pkcs11.so"),
)


def first_module(candidates: tuple[Path, ...]) -> Path | None:
    """The first of the modules that is installed."""
    return next((path for path in candidates if path.is_file()), None)


def generation_of(profile: CardProfile, key_kind: str) -> Generation | None:
    """Which generation of that card has keys of this kind, where that is known."""
    return next((each for each in profile.generations if key_kind in each.key_kinds), None)
