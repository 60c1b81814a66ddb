"""Cards as the rest of the project sees them: certificates without a PIN, signatures with one.

Rules: the work is done in a process of its own (see `tokens.child`); the PIN is asked for once per open card (for a key
that wants it, before every signature), handed to that process and forgotten here; a wrong PIN is asked for again only
when the caller signs again; what a card signed is checked under its certificate before anybody else gets it.

    with Card.open(CardSettings(), pin=lambda request: getpass.getpass("PIN: ")) as card:
        card.certificate(CardKeyUse.AUTHENTICATION)
        card.sign(CardKeyUse.AUTHENTICATION, b"...")
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from pki.errors import (
    CertificateError,
    CertificateMissing,
    KeyMismatch,
    NoCard,
    NoMechanism,
    NoModule,
    PinLocked,
    PinRequired,
    SigningFailed,
)
from pki.identity import key_kind, load_certificate
from pki.tokens import choice, mechanisms
from pki.tokens.child import OPEN_TIMEOUT_SECONDS, SIGN_TIMEOUT_SECONDS, TokenChild
from pki.tokens.choice import Found
from pki.tokens.mechanisms import Mechanism
from pki.tokens.profiles import (
    MIDDLEWARE_MODULES,
    OPENSC_MODULES,
    SOFTHSM_MODULES,
    CardKeyUse,
    CardProfile,
    first_module,
)
from pki.tokens.wire import Message

__all__ = ["Card", "CardInfo", "CardKeyUse", "CardSettings", "PinCallback", "PinRequest", "list_cards", "list_readers"]

SIGNING_PROCESS = "pki.signing_process"
FINGERPRINT_DIGITS_MIN: Final = 8  #: fewer digits could mean somebody else's certificate
_SCHEMES: Final = (padding.PKCS1v15(), padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size), None)


@dataclass(frozen=True, slots=True)
class PinRequest:
    """Why a PIN is needed. `final_try`: the card says that one more wrong PIN locks it."""

    use: CardKeyUse
    final_try: bool = False


PinCallback = Callable[[PinRequest], str]


@dataclass(frozen=True, slots=True)
class CardSettings:
    """Which card, through which module. None means: the first installed module, the only card.

    `certificate` is the beginning of the SHA-256 (hexadecimal) of the authentication certificate, where a token holds
    several.
    """

    module: Path | None = None
    token_label: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)  #: for the signing process, e.g. SOFTHSM2_CONF
    sign_timeout_seconds: float = SIGN_TIMEOUT_SECONDS
    slot: int | None = None
    certificate: str | None = None


@dataclass(frozen=True, slots=True)
class CardInfo:
    """A card as it introduces itself."""

    reader: str
    label: str
    serial: str
    asks_pin_itself: bool  #: the reader, or the card's own dialog, asks for the PIN; no callback is used
    slot: int
    pin_locked: bool
    final_try: bool


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
        self._found = self._read_certificates()
        self.profile: CardProfile
        self.profile, self._candidates = choice.choose(self._found, _named_certificate(settings))

    @classmethod
    def open(cls, settings: CardSettings, pin: PinCallback | None = None) -> Self:
        """Open the card that the settings name. `pin` is called before the first signature.

        Raises NoModule, NoCard, SeveralCards, CardRemoved, SigningFailed.
        """
        child = TokenChild(SIGNING_PROCESS, settings.environment)
        try:
            request = {
                "op": "open",
                "module": str(find_module(settings)),
                "label": settings.token_label,
                "slot": settings.slot,
            }
            return cls(child, child.request(request, OPEN_TIMEOUT_SECONDS), settings, pin)
        except BaseException:
            child.close()
            raise

    @property
    def process_id(self) -> int:
        """The id of the signing process."""
        return self._child.pid

    def certificate(self, use: CardKeyUse) -> x509.Certificate | None:
        """The citizen's certificate for that use, or None where the card has none (not activated). No PIN needed.

        Raises CertificateMissing where several may be meant, CertificateError for an unreadable one.
        """
        found = self._candidates[use].one()
        return found.certificate if found else None

    def certificates(self) -> list[x509.Certificate]:
        """Every certificate on the card that can be read, CA certificates too (newer cards hold none)."""
        return [each.certificate for each in self._found if each.certificate is not None]

    def mechanism(self, use: CardKeyUse) -> Mechanism | None:
        """How the card would sign for that use; None where it has no certificate for it. Raises NoMechanism."""
        certificate = self.certificate(use)
        if certificate is None:
            return None
        answer = self._child.request({"op": "mechanisms"}, OPEN_TIMEOUT_SECONDS)
        kind = key_kind(certificate)
        chosen = mechanisms.choose(mechanisms.for_key_kind(kind), [str(name) for name in answer["mechanisms"]])
        if chosen is None:
            raise NoMechanism(
                f"The card offers no way of signing with SHA-256 and a key of the kind {kind}.",
                "A signature that others refuse would help nobody.",
                "Use a newer card, or bring its driver up to date.",
            )
        return chosen

    def sign(self, use: CardKeyUse, data: bytes) -> bytes:
        """Sign SHA-256 of `data`: RSA PKCS#1 v1.5 (PSS where the card has nothing else), or ECDSA in DER.

        Raises WrongPin, PinLocked, PinRequired, PinCancelled, CardRemoved, CertificateMissing, NoMechanism,
        KeyMismatch, SigningFailed.
        """
        found = self._candidates[use].one()
        if found is None or found.certificate is None:
            raise CertificateMissing(
                f"The card has no {use.value} certificate.",
                "Without it nobody could check the signature.",
                "Activate the card's signature, or use another card.",
            )
        self._login(use)
        labels = list(self._candidates[use].key_labels)
        request: Message = {"op": "sign", "labels": labels, "id": found.object_id, "data": data, "pin": None}
        answer = self._child.request(request, self._settings.sign_timeout_seconds)
        if answer.get("pin_needed"):
            answer = self._child.request({**request, "pin": self._ask_pin(use)}, self._settings.sign_timeout_seconds)
        signature = answer.get("signature")
        if not isinstance(signature, bytes) or not signature:
            raise SigningFailed("The card gave no signature.", "Nothing was signed.", "Try again.")
        _require_holds(found.certificate, signature, data)
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
        seconds = min(OPEN_TIMEOUT_SECONDS, self._settings.sign_timeout_seconds)
        state = _card_info(self._child.request({"op": "state"}, seconds))
        if state.pin_locked:
            # Some drivers would take the PIN and say only afterwards that it helps nothing.
            raise PinLocked(
                "The card's PIN is locked.",
                "The card signs nothing until it is unblocked.",
                "Unblock it with its PUK or at a citizen service desk.",
            )
        pin = "" if self._pin is None else self._pin(PinRequest(use, state.final_try))
        if not pin:
            raise PinRequired(
                "The card needs its PIN.",
                "It signs nothing without it.",
                "Enter the PIN when asked, or name a file that holds it.",
            )
        return pin

    def _read_certificates(self) -> list[Found]:
        answer = self._child.request({"op": "certificates"}, OPEN_TIMEOUT_SECONDS)
        return [
            Found(str(label), bytes(object_id), _readable(bytes(der)))
            for label, object_id, der in answer["certificates"]
        ]

    def stop(self) -> None:
        """Ends the signing process, and with it a dialog that asks for the PIN; what waits for it gets a CardError."""
        self._child.stop()

    def close(self) -> None:
        """End the signing process; the card forgets the login. Safe to call twice."""
        self._child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Readers:
    """Every card in every reader, and the readers' names, those without a card too."""

    cards: tuple[CardInfo, ...]
    names: tuple[str, ...]


def list_readers(settings: CardSettings) -> Readers:
    """What is there, without a PIN; of the cards those that the settings allow. Raises NoModule, SigningFailed."""
    child = TokenChild(SIGNING_PROCESS, settings.environment)
    try:
        answer = child.request({"op": "list", "module": str(find_module(settings))}, OPEN_TIMEOUT_SECONDS)
    finally:
        child.close()
    cards = [_card_info(token) for token in answer["tokens"]]
    allowed = tuple(
        card for card in cards if settings.token_label in (None, card.label) and settings.slot in (None, card.slot)
    )
    return Readers(allowed, tuple(str(name) for name in answer["readers"]))


def list_cards(settings: CardSettings) -> list[CardInfo]:
    """Every card that the settings allow, without a PIN. Raises NoModule, SigningFailed."""
    return list(list_readers(settings).cards)


def find_module(settings: CardSettings) -> Path:
    """The PKCS#11 module of the settings, else the first that is installed. Raises NoModule."""
    installed = (*MIDDLEWARE_MODULES, *SOFTHSM_MODULES, *OPENSC_MODULES)
    module = first_module((settings.module,) if settings.module else installed)
    if module is None:
        named = f" at {settings.module}" if settings.module else ""
        raise NoModule(
            f"There is no PKCS#11 module{named}.",
            "Without it no card can be read.",
            "Install the Citizen Card middleware (or softhsm2 for virtual cards), or name the module's file.",
        )
    return module


def _named_certificate(settings: CardSettings) -> str | None:
    if settings.certificate is None:
        return None
    digits = settings.certificate.replace(":", "").replace(" ", "").lower()
    if len(digits) < FINGERPRINT_DIGITS_MIN or not all(digit in "0123456789abcdef" for digit in digits):
        raise NoCard(
            f"{settings.certificate!r:.80} does not name a certificate.",
            "Nothing was done with a card that you did not mean.",
            f"Give the first {FINGERPRINT_DIGITS_MIN} or more digits of its SHA-256: smr card shows them.",
        )
    return digits


def _readable(der: bytes) -> x509.Certificate | None:
    try:
        return load_certificate(der)
    except CertificateError:
        return None  # `choice` refuses it only if it is the citizen's


def _require_holds(certificate: x509.Certificate, signature: bytes, data: bytes) -> None:
    """Raises KeyMismatch unless the signature is by the certificate's key."""
    if not any(_holds(certificate, signature, data, scheme) for scheme in _SCHEMES):
        raise KeyMismatch(
            "What the card signed does not hold under the certificate that it shows.",
            "Key and certificate do not belong together, so everybody would refuse the signature.",
            "Have the card looked at; where a token holds several certificates, name the right one.",
        )


def _holds(
    certificate: x509.Certificate, signature: bytes, data: bytes, scheme: padding.AsymmetricPadding | None
) -> bool:
    """Does it hold with this RSA padding, or with ECDSA for None?"""
    try:
        key = certificate.public_key()
        if isinstance(key, rsa.RSAPublicKey) and scheme is not None:
            key.verify(signature, data, scheme, hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey) and scheme is None:
            key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _card_info(token: Message) -> CardInfo:
    return CardInfo(
        reader=str(token["reader"]),
        label=str(token["label"]),
        serial=str(token["serial"]),
        asks_pin_itself=bool(token["protected_path"]) or not token["login_required"],
        slot=int(token["slot"]),
        pin_locked=bool(token["pin_locked"]),
        final_try=bool(token["final_try"]),
    )
