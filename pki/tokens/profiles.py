"""What cards look like from PKCS#11: labels, modules and mechanisms. Data only, no PKCS#11 library is loaded here.

Objects are found by label and class: their ids differ in size between drivers.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Final


class CardKeyUse(enum.Enum):
    """Which of a card's two keys."""

    AUTHENTICATION = "authentication"  #: logins and registrations; its certificate gives the user id
    SIGNATURE = "signature"  #: the qualified one, for letters and receipts


@dataclass(frozen=True, slots=True)
class CardProfile:
    """The object labels of one kind of card."""

    name: str
    certificate_labels: dict[CardKeyUse, str]
    key_labels: dict[CardKeyUse, str]
    issuer_labels: tuple[str, ...]  #: CA certificates that the card may also hold


CITIZEN_CARD: Final = CardProfile(
    name="Cartão de Cidadão",
    certificate_labels={
        CardKeyUse.AUTHENTICATION: "CITIZEN AUTHENTICATION CERTIFICATE",
        CardKeyUse.SIGNATURE: "CITIZEN SIGNATURE CERTIFICATE",
    },
    key_labels={
        CardKeyUse.AUTHENTICATION: "CITIZEN AUTHENTICATION KEY",
        CardKeyUse.SIGNATURE: "CITIZEN SIGNATURE KEY",
    },
    issuer_labels=("AUTHENTICATION SUB CA", "SIGNATURE SUB CA", "ROOT CA"),
)

#: Where the PKCS#11 modules stand, first found first used: the card's own middleware, then SoftHSM for virtual cards.
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


def first_module(candidates: tuple[Path, ...]) -> Path | None:
    """The first of the modules that is installed."""
    return next((path for path in candidates if path.is_file()), None)
