"""Cards as the rest of the project sees them: certificates without a PIN, signatures with one.

Rules: the work is done in a process of its own (see `tokens.child`); the PIN is asked for once per open card, handed
to that process and forgotten here; a wrong PIN is asked for again only when the caller signs again.

    with Card.open(CardSettings(), pin=lambda use: getpass.getpass("PIN: ")) as card:
        card.certificate(CardKeyUse.AUTHENTICATION)
        card.sign(CardKeyUse.AUTHENTICATION, b"...")
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509

from pki.errors import CertificateMissing, NoModule, PinRequired, SigningFailed
from pki.identity import load_certificate
from pki.tokens.child import OPEN_TIMEOUT_SECONDS, SIGN_TIMEOUT_SECONDS, TokenChild
from pki.tokens.profiles import (
    CITIZEN_CARD,
    MIDDLEWARE_MODULES,
    SOFTHSM_MODULES,
    CardKeyUse,
    first_module,
)
from pki.tokens.wire import Message

__all__ = ["Card", "CardInfo", "CardKeyUse", "CardSettings", "PinCallback", "list_cards"]

SIGNING_PROCESS = "pki.signing_process"
PinCallback = Callable[[CardKeyUse], str]


@dataclass(frozen=True, slots=True)
class CardSettings:
    """Which card, through which module. None means: the first installed module, the only card."""

    module: Path | None = None
    token_label: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)  #: for the signing process, e.g. SOFTHSM2_CONF
    sign_timeout_seconds: float = SIGN_TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True)
class CardInfo:
    """A card as it introduces itself."""

    reader: str
    label: str
    serial: str
    asks_pin_itself: bool  #: the reader, or the card's own dialog, asks for the PIN; no callback is used


class Card:
    """An open card and its signing process. Thread-safe; a context manager."""

    def __init__(self, child: TokenChild, opened: Message, settings: CardSettings, pin: PinCallback | None) -> None:
        self._child = child
        self._settings = settings
        self._pin = pin
        self._login_lock = threading.Lock()
        self._login_required = bool(opened["login_required"])
        self._protected_path = bool(opened["protected_path"])
        self._logged_in = False
        self.summary = _card_info(opened)
        self._certificates = self._read_certificates()

    @classmethod
    def open(cls, settings: CardSettings, pin: PinCallback | None = None) -> Self:
        """Open the card that the settings name. `pin` is called at most once, before the first signature.

        Raises NoModule, NoCard, CardRemoved, SigningFailed; CertificateError for an unreadable certificate on it.
        """
        child = TokenChild(SIGNING_PROCESS, settings.environment)
        try:
            request = {"op": "open", "module": str(find_module(settings)), "label": settings.token_label}
            return cls(child, child.request(request, OPEN_TIMEOUT_SECONDS), settings, pin)
        except BaseException:
            child.close()
            raise

    @property
    def process_id(self) -> int:
        """The id of the signing process."""
        return self._child.pid

    def certificate(self, use: CardKeyUse) -> x509.Certificate | None:
        """The citizen's certificate for that use, or None where the card has none (not activated). No PIN needed."""
        label = CITIZEN_CARD.certificate_labels[use]
        found = [certificate for name, certificate in self._certificates if name == label]
        if len(found) > 1:
            raise CertificateMissing(
                f"The card holds {len(found)} certificates called {label}.",
                "It is unclear which one is yours.",
                "Use another card.",
            )
        return found[0] if found else None

    def certificates(self) -> list[x509.Certificate]:
        """Every certificate on the card, CA certificates too (newer cards hold none)."""
        return [certificate for _, certificate in self._certificates]

    def sign(self, use: CardKeyUse, data: bytes) -> bytes:
        """Sign SHA-256 of `data`: RSA PKCS#1 v1.5, or ECDSA in DER, as the key is.

        Raises WrongPin, PinLocked, PinRequired, CardRemoved, CertificateMissing, SigningFailed.
        """
        if self.certificate(use) is None:
            raise CertificateMissing(
                f"The card has no {use.value} certificate.",
                "Without it nobody could check the signature.",
                "Activate the card's signature, or use another card.",
            )
        self._login(use)
        request: Message = {"op": "sign", "use": use.value, "data": data}
        answer = self._child.request(request, self._settings.sign_timeout_seconds)
        signature = answer.get("signature")
        if not isinstance(signature, bytes) or not signature:
            raise SigningFailed("The card gave no signature.", "Nothing was signed.", "Try again.")
        return signature

    def _login(self, use: CardKeyUse) -> None:
        # A card that does not require a login opens its own dialog when it signs: nothing is asked here.
        with self._login_lock:
            if self._logged_in or not self._login_required:
                return
            pin = None if self._protected_path else self._ask_pin(use)
            self._child.request({"op": "login", "pin": pin}, self._settings.sign_timeout_seconds)
            self._logged_in = True

    def _ask_pin(self, use: CardKeyUse) -> str:
        pin = "" if self._pin is None else self._pin(use)
        if not pin:
            raise PinRequired(
                "The card needs its PIN.",
                "It signs nothing without it.",
                "Enter the PIN when asked, or name a file that holds it.",
            )
        return pin

    def _read_certificates(self) -> list[tuple[str, x509.Certificate]]:
        answer = self._child.request({"op": "certificates"}, OPEN_TIMEOUT_SECONDS)
        return [(str(label), load_certificate(bytes(der))) for label, der in answer["certificates"]]

    def close(self) -> None:
        """End the signing process; the card forgets the login. Safe to call twice."""
        self._child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def list_cards(settings: CardSettings) -> list[CardInfo]:
    """Every card in every reader, without a PIN. Raises NoModule, SigningFailed."""
    child = TokenChild(SIGNING_PROCESS, settings.environment)
    try:
        answer = child.request({"op": "list", "module": str(find_module(settings))}, OPEN_TIMEOUT_SECONDS)
    finally:
        child.close()
    cards = [_card_info(token) for token in answer["tokens"]]
    return [card for card in cards if settings.token_label in (None, card.label)]


def find_module(settings: CardSettings) -> Path:
    """The PKCS#11 module of the settings, else the first that is installed. Raises NoModule."""
    candidates = (settings.module,) if settings.module else (*MIDDLEWARE_MODULES, *SOFTHSM_MODULES)
    module = first_module(candidates)
    if module is None:
        named = f" at {settings.module}" if settings.module else ""
        raise NoModule(
            f"There is no PKCS#11 module{named}.",
            "Without it no card can be read.",
            "Install the Citizen Card middleware (or softhsm2 for virtual cards), or name the module's file.",
        )
    return module


def _card_info(token: Message) -> CardInfo:
    return CardInfo(
        reader=str(token["reader"]),
        label=str(token["label"]),
        serial=str(token["serial"]),
        asks_pin_itself=bool(token["protected_path"]) or not token["login_required"],
    )
