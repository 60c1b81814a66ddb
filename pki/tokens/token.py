"""One token over PKCS#11: what is on it, and signing with it. Runs in the signing process only.

Rules: objects are found by label and class; every value that comes out of the library becomes `bytes`; the mechanism is
chosen from what the token offers and the key is, never tried out; one PKCS#11 session, used by one thread.

Signatures leave here in the form that CMS wants: RSA as it is, ECDSA as DER (RFC 3279 section 2.2.3), while
PKCS#11 gives the two numbers r and s one after the other (PKCS#11 v3.0 section 2.3.1).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import PyKCS11
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from pki.tokens.profiles import CITIZEN_CARD, CardKeyUse
from pki.tokens.serve import TokenFailure

#: DigestInfo of a SHA-256 digest up to the digest itself (RFC 8017 section 9.2, note 1).
_SHA256_DIGEST_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")

_REMOVED: Final = frozenset(
    {
        PyKCS11.CKR_DEVICE_REMOVED,
        PyKCS11.CKR_TOKEN_NOT_PRESENT,
        PyKCS11.CKR_SESSION_HANDLE_INVALID,
        PyKCS11.CKR_SESSION_CLOSED,
        PyKCS11.CKR_TOKEN_NOT_RECOGNIZED,
    }
)
_WRONG_PIN: Final = frozenset({PyKCS11.CKR_PIN_INCORRECT, PyKCS11.CKR_PIN_INVALID, PyKCS11.CKR_PIN_LEN_RANGE})
_LOCKED: Final = frozenset({PyKCS11.CKR_PIN_LOCKED, PyKCS11.CKR_PIN_EXPIRED})


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token as it introduces itself, and how it wants its PIN."""

    slot: int
    reader: str
    label: str
    serial: str
    login_required: bool
    protected_path: bool  #: the reader or the driver asks for the PIN itself


def load(module: str) -> PyKCS11.PyKCS11Lib:
    """Load a PKCS#11 module. Raises TokenFailure NO_MODULE."""
    library = PyKCS11.PyKCS11Lib()
    try:
        library.load(module)
    except PyKCS11.PyKCS11Error as error:
        raise TokenFailure("NO_MODULE", module) from error
    return library


def tokens(library: PyKCS11.PyKCS11Lib) -> list[TokenInfo]:
    """Every initialised token in every reader."""
    try:
        found = [_token_info(library, slot) for slot in library.getSlotList(tokenPresent=True)]
    except PyKCS11.PyKCS11Error as error:
        raise failure(error) from error
    return [info for info in found if info is not None]


def _token_info(library: PyKCS11.PyKCS11Lib, slot: int) -> TokenInfo | None:
    try:
        info = library.getTokenInfo(slot)
        reader = library.getSlotInfo(slot).slotDescription
    except PyKCS11.PyKCS11Error as error:
        if error.value in _REMOVED:
            return None  # an unknown card in another reader must not hide the right one
        raise
    if not info.flags & PyKCS11.CKF_TOKEN_INITIALIZED:
        return None  # SoftHSM always shows one empty slot
    return TokenInfo(
        slot=slot,
        reader=_text(reader),
        label=_text(info.label),
        serial=_text(info.serialNumber),
        login_required=bool(info.flags & PyKCS11.CKF_LOGIN_REQUIRED),
        protected_path=bool(info.flags & PyKCS11.CKF_PROTECTED_AUTHENTICATION_PATH),
    )


def failure(error: PyKCS11.PyKCS11Error, final_try: bool = False) -> TokenFailure:
    """A PKCS#11 return value as one of the codes that the parent knows."""
    value = error.value
    if value in _REMOVED:
        return TokenFailure("CARD_REMOVED")
    if value in _WRONG_PIN:
        return TokenFailure("WRONG_PIN_FINAL_TRY" if final_try else "WRONG_PIN")
    if value in _LOCKED:
        return TokenFailure("PIN_LOCKED")
    return TokenFailure("FAILED", str(error))


class Token:
    """An open token."""

    def __init__(self, library: PyKCS11.PyKCS11Lib, info: TokenInfo) -> None:
        self._library = library
        self.info = info
        try:
            self._session = library.openSession(info.slot, PyKCS11.CKF_SERIAL_SESSION)
        except PyKCS11.PyKCS11Error as error:
            raise failure(error) from error

    def certificates(self) -> list[tuple[str, bytes]]:
        """Label and DER form of every certificate on the token; no PIN is needed."""
        template = [(PyKCS11.CKA_CLASS, PyKCS11.CKO_CERTIFICATE)]
        wanted = [PyKCS11.CKA_LABEL, PyKCS11.CKA_VALUE]
        try:
            values = [self._session.getAttributeValue(found, wanted) for found in self._session.findObjects(template)]
        except PyKCS11.PyKCS11Error as error:
            raise failure(error) from error
        return [(_text(label), bytes(value)) for label, value in values if value]

    def login(self, pin: str | None) -> None:
        """Log in with a PIN, or with None where the reader asks for it itself. Login holds for the whole token."""
        try:
            self._session.login(pin)
        except PyKCS11.PyKCS11Error as error:
            if error.value == PyKCS11.CKR_USER_ALREADY_LOGGED_IN:
                return
            raise failure(error, self._final_try()) from error

    def _final_try(self) -> bool:
        try:
            flags = self._library.getTokenInfo(self.info.slot).flags
        except PyKCS11.PyKCS11Error:
            return False  # the card is gone: the error that is on its way says so
        return bool(flags & PyKCS11.CKF_USER_PIN_FINAL_TRY)

    def sign(self, use: CardKeyUse, data: bytes) -> bytes:
        """Sign SHA-256 of `data` with the key for that use; PKCS#1 v1.5 for RSA, DER for ECDSA."""
        key = self._key(CITIZEN_CARD.key_labels[use])
        try:
            kind = self._session.getAttributeValue(key, [PyKCS11.CKA_KEY_TYPE])[0]
            mechanisms = set(self._library.getMechanismList(self.info.slot))
            mechanism, message = choose_mechanism(kind, mechanisms, data)
            signature = bytes(self._session.sign(key, message, mechanism))
        except PyKCS11.PyKCS11Error as error:
            raise failure(error) from error
        return ecdsa_der(signature) if kind == PyKCS11.CKK_EC else signature

    def _key(self, label: str) -> Any:
        template = [(PyKCS11.CKA_CLASS, PyKCS11.CKO_PRIVATE_KEY), (PyKCS11.CKA_LABEL, label)]
        try:
            found = self._session.findObjects(template)
        except PyKCS11.PyKCS11Error as error:
            raise failure(error) from error
        if len(found) != 1:
            raise TokenFailure("KEY_MISSING", f"{len(found)} keys are called {label}")
        return found[0]


def choose_mechanism(kind: int, offered: set[str], data: bytes) -> tuple[PyKCS11.Mechanism, bytes]:
    """The mechanism for a key of that kind and what to hand to it. Raises TokenFailure where the token has none.

    A token that hashes gets the data; one that only signs gets the digest (with its DigestInfo for RSA). Old cards and
    SoftHSM (for ECDSA) do not hash.
    """
    digest = hashlib.sha256(data).digest()
    if kind == PyKCS11.CKK_RSA and "CKM_SHA256_RSA_PKCS" in offered:
        return PyKCS11.Mechanism(PyKCS11.CKM_SHA256_RSA_PKCS), data
    if kind == PyKCS11.CKK_RSA and "CKM_RSA_PKCS" in offered:
        return PyKCS11.Mechanism(PyKCS11.CKM_RSA_PKCS), _SHA256_DIGEST_INFO + digest
    if kind == PyKCS11.CKK_EC and "CKM_ECDSA" in offered:
        return PyKCS11.Mechanism(PyKCS11.CKM_ECDSA), digest
    raise TokenFailure("FAILED", "the card offers no way of signing with SHA-256 that is known here")


def ecdsa_der(signature: bytes) -> bytes:
    """r and s, each in one half of the bytes, as the DER form that X.509 and CMS use. Raises TokenFailure."""
    half, odd = divmod(len(signature), 2)
    if odd or not half:
        raise TokenFailure("FAILED", "the card gave an ECDSA signature of odd length")
    r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
    return encode_dss_signature(r, s)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")
    return text.rstrip("\x00 ")
