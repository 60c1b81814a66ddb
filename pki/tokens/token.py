"""One token over PKCS#11: what is on it, and signing with it. Runs in the signing process only.

Rules: objects are found by label and class; every value that comes out of the library becomes `bytes`; the mechanism is
chosen from what the token offers and the key is, never tried out; one PKCS#11 session, used by one thread.

Signatures leave here in the form that CMS wants: RSA as it is, ECDSA as DER (RFC 3279 section 2.2.3), while
PKCS#11 gives the two numbers r and s one after the other (PKCS#11 v3.0 section 2.3.1).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import PyKCS11
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from pki.tokens import mechanisms
from pki.tokens.mechanisms import Mechanism
from pki.tokens.serve import TokenFailure

PSS_SALT_BYTES: Final = 32  #: as long as the digest, which is what verifiers expect (RFC 4055 section 3.1)

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
_CODES: Final = {
    **dict.fromkeys(_REMOVED, "CARD_REMOVED"),
    **dict.fromkeys(_WRONG_PIN, "WRONG_PIN"),
    PyKCS11.CKR_PIN_LOCKED: "PIN_LOCKED",
    PyKCS11.CKR_PIN_EXPIRED: "PIN_NOT_SET",
    PyKCS11.CKR_USER_PIN_NOT_INITIALIZED: "PIN_NOT_SET",
    PyKCS11.CKR_FUNCTION_CANCELED: "PIN_CANCELLED",
    PyKCS11.CKR_CANCEL: "PIN_CANCELLED",
    PyKCS11.CKR_FUNCTION_REJECTED: "PIN_CANCELLED",
    PyKCS11.CKR_USER_NOT_LOGGED_IN: "NOT_LOGGED_IN",
    PyKCS11.CKR_MECHANISM_INVALID: "NO_MECHANISM",
    PyKCS11.CKR_MECHANISM_PARAM_INVALID: "NO_MECHANISM",
}


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token as it introduces itself, and how it wants its PIN."""

    slot: int
    reader: str
    label: str
    serial: str
    login_required: bool
    protected_path: bool  #: the reader or the driver asks for the PIN itself
    pin_locked: bool
    final_try: bool  #: one more wrong PIN locks it


def load(module: str) -> PyKCS11.PyKCS11Lib:
    """Load a PKCS#11 module. Raises TokenFailure NO_MODULE."""
    library = PyKCS11.PyKCS11Lib()
    try:
        library.load(module)
    except PyKCS11.PyKCS11Error as error:
        raise TokenFailure("NO_MODULE", module) from error
    return library


def readers(library: PyKCS11.PyKCS11Lib) -> list[str]:
    """The names of all readers, with and without a card."""
    try:
        slots = library.getSlotList(tokenPresent=False)
        return [_text(library.getSlotInfo(slot).slotDescription) for slot in slots]
    except PyKCS11.PyKCS11Error as error:
        raise failure(error) from error


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
        pin_locked=bool(info.flags & PyKCS11.CKF_USER_PIN_LOCKED),
        final_try=bool(info.flags & PyKCS11.CKF_USER_PIN_FINAL_TRY),
    )


def failure(error: PyKCS11.PyKCS11Error, final_try: bool = False) -> TokenFailure:
    """A PKCS#11 return value as one of the codes that the parent knows."""
    code = _CODES.get(error.value)
    if code is None:
        return TokenFailure("FAILED", str(error))
    return TokenFailure("WRONG_PIN_FINAL_TRY" if code == "WRONG_PIN" and final_try else code)


class Token:
    """An open token."""

    def __init__(self, library: PyKCS11.PyKCS11Lib, info: TokenInfo) -> None:
        self._library = library
        self.info = info
        try:
            self._session = library.openSession(info.slot, PyKCS11.CKF_SERIAL_SESSION)
        except PyKCS11.PyKCS11Error as error:
            raise failure(error) from error

    def certificates(self) -> list[tuple[str, bytes, bytes]]:
        """Label, id and DER form of every certificate on the token; no PIN is needed."""
        template = [(PyKCS11.CKA_CLASS, PyKCS11.CKO_CERTIFICATE)]
        wanted = [PyKCS11.CKA_LABEL, PyKCS11.CKA_ID, PyKCS11.CKA_VALUE]
        try:
            values = [self._session.getAttributeValue(found, wanted) for found in self._session.findObjects(template)]
        except PyKCS11.PyKCS11Error as error:
            raise failure(error) from error
        return [(_text(label), bytes(object_id or ()), bytes(value)) for label, object_id, value in values if value]

    def mechanisms(self) -> list[str]:
        """The names of the mechanisms that the token offers."""
        try:
            return [str(name) for name in self._library.getMechanismList(self.info.slot)]
        except PyKCS11.PyKCS11Error as error:
            raise failure(error) from error

    def state(self) -> TokenInfo:
        """The token as it is now: how many tries are left changes. Raises TokenFailure."""
        found = _token_info(self._library, self.info.slot)
        if found is None:
            raise TokenFailure("CARD_REMOVED")
        return found

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

    def sign(self, labels: Sequence[str], object_id: bytes, data: bytes, pin: str | None) -> bytes | None:
        """Sign SHA-256 of `data` with the key of one of these labels, or with this id: RSA as it is, ECDSA in DER.

        None when the key wants its PIN for every signature (CKA_ALWAYS_AUTHENTICATE) and none was given.
        """
        key = self._key(labels, object_id)
        try:
            kind = self._session.getAttributeValue(key, [PyKCS11.CKA_KEY_TYPE])[0]
            mechanism = choose_mechanism(kind, self.mechanisms())
            # A driver that asks for the PIN in its own dialog does so for these keys too, inside of C_Sign.
            own_login = self.info.login_required and self._always_authenticate(key)
            if own_login and pin is None and not self.info.protected_path:
                return None
            signature = self._sign(key, mechanism, data, pin, own_login=own_login)
        except PyKCS11.PyKCS11Error as error:
            raise failure(error, self._final_try()) from error
        return ecdsa_der(signature) if kind == PyKCS11.CKK_EC else signature

    def _sign(self, key: Any, mechanism: Mechanism, data: bytes, pin: str | None, *, own_login: bool) -> bytes:
        native, message = native_mechanism(mechanism), mechanism.message(data)
        if not own_login:
            return bytes(self._session.sign(key, message, native))
        # The context login stands between C_SignInit and C_Sign (PKCS#11 v3.0 section 5.6.8), which the library's own
        # `sign` calls at once.
        low, handle = self._session.lib, self._session.session
        signature = PyKCS11.ckbytelist()
        _require_ok(low.C_SignInit(handle, native.to_native(), key))
        try:
            self._session.login(pin, PyKCS11.CKU_CONTEXT_SPECIFIC)
        except PyKCS11.PyKCS11Error:
            # What was begun would stand in the way of the next signature. A session of its own for each would not do:
            # the last one that is closed logs the citizen out.
            self._begin_anew()
            raise
        for _ in ("the signature's size", "the signature"):
            _require_ok(low.C_Sign(handle, PyKCS11.ckbytelist(message), signature))
        return bytes(signature)

    def _begin_anew(self) -> None:
        """Another session in the place of the one whose operation was not ended."""
        former = self._session
        self._session = self._library.openSession(self.info.slot, PyKCS11.CKF_SERIAL_SESSION)
        former.closeSession()

    def _always_authenticate(self, key: Any) -> bool:
        try:
            return bool(self._session.getAttributeValue(key, [PyKCS11.CKA_ALWAYS_AUTHENTICATE])[0])
        except PyKCS11.PyKCS11Error as error:
            if error.value in _REMOVED:
                raise
            return False  # drivers older than PKCS#11 v2.20 do not know it

    def _key(self, labels: Sequence[str], object_id: bytes) -> Any:
        for label in labels:
            found = self._private_keys([(PyKCS11.CKA_LABEL, label)])
            if len(found) == 1:
                return found[0]
        found = self._private_keys([(PyKCS11.CKA_ID, tuple(object_id))]) if object_id else []
        if len(found) != 1:
            named = f"called {' or '.join(labels)}" if labels else f"with the id {object_id.hex()}"
            raise TokenFailure("KEY_MISSING", f"{len(found)} private keys {named}")
        return found[0]

    def _private_keys(self, template: list[tuple[int, Any]]) -> list[Any]:
        try:
            return list(self._session.findObjects([(PyKCS11.CKA_CLASS, PyKCS11.CKO_PRIVATE_KEY), *template]))
        except PyKCS11.PyKCS11Error as error:
            raise failure(error) from error


def choose_mechanism(kind: int, offered: Collection[str]) -> Mechanism:
    """The mechanism for a key of that CKA_KEY_TYPE. Raises TokenFailure where the token has none."""
    candidates = {PyKCS11.CKK_RSA: mechanisms.RSA, PyKCS11.CKK_EC: mechanisms.ELLIPTIC}.get(kind, ())
    chosen = mechanisms.choose(candidates, offered)
    if chosen is None:
        known = ", ".join(each.name for each in candidates) or "none for this kind of key"
        raise TokenFailure("NO_MECHANISM", f"usable here: {known}")
    return chosen


def native_mechanism(mechanism: Mechanism) -> PyKCS11.Mechanism | PyKCS11.RSA_PSS_Mechanism:
    """The mechanism with its parameters, as PyKCS11 wants it."""
    number = getattr(PyKCS11, mechanism.name)
    if mechanism.pss:
        return PyKCS11.RSA_PSS_Mechanism(number, PyKCS11.CKM_SHA256, PyKCS11.CKG_MGF1_SHA256, PSS_SALT_BYTES)
    return PyKCS11.Mechanism(number)


def _require_ok(value: int) -> None:
    if value != PyKCS11.CKR_OK:
        raise PyKCS11.PyKCS11Error(value)


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
