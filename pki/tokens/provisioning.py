"""Making a SoftHSM token with a citizen's keys. Runs in the provisioning process only.

`create` initialises the token and generates both key pairs inside it; `store` adds the certificates that were issued
for them. The private keys cannot be extracted, as on the real card. The security officer's PIN is drawn and forgotten:
a virtual card whose PIN is lost is made anew.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

import PyKCS11

from pki.tokens import token
from pki.tokens.profiles import CITIZEN_CARD, CardKeyUse
from pki.tokens.serve import TokenFailure
from pki.tokens.wire import Message

LABEL_BYTES_MAX: Final = 32  #: CK_TOKEN_INFO.label (PKCS#11 v3.0 section 3.2)
_P256_PARAMETERS: Final = bytes.fromhex("06082a8648ce3d030107")  #: OID prime256v1 (RFC 5480 section 2.1.1.1)
_RSA_EXPONENT: Final = (0x01, 0x00, 0x01)
_OBJECT_IDS: Final = {CardKeyUse.AUTHENTICATION: (0x45,), CardKeyUse.SIGNATURE: (0x46,)}
_ISSUER_IDS: Final = ((0x50,), (0x51,), (0x52,))
_DER_OCTET_STRING: Final = 0x04
_RSA_BITS: Final = {"RSA-2048": 2048, "RSA-3072": 3072}


def create(module: str, label: str, pin: str, key_kind: str) -> Message:
    """Make the token and both key pairs. Gives the public keys: modulus, or an uncompressed point."""
    library = token.load(module)
    try:
        slot = _free_slot(library)
        so_pin = secrets.token_hex(16)
        library.initToken(slot, so_pin, label.encode("utf-8").ljust(LABEL_BYTES_MAX).decode("utf-8"))
        session = _set_pin(library, _slot_of(library, label), so_pin, pin)
        return {"keys": {use.value: _generate(session, use, key_kind) for use in CardKeyUse}}
    except PyKCS11.PyKCS11Error as error:
        raise token.failure(error) from error


def store(module: str, label: str, pin: str, certificates: list[Any], issuers: list[Any]) -> Message:
    """Add certificates: (use, DER, DER of the subject) for the citizen, (label, DER, DER of the subject) for CAs."""
    library = token.load(module)
    flags = PyKCS11.CKF_SERIAL_SESSION | PyKCS11.CKF_RW_SESSION
    try:
        session = library.openSession(_slot_of(library, label), flags)
        session.login(pin)
        for use, der, subject in certificates:
            which = CardKeyUse(use)
            _store_one(session, CITIZEN_CARD.certificate_labels[which][0], _OBJECT_IDS[which], der, subject)
        for (issuer_label, der, subject), object_id in zip(issuers, _ISSUER_IDS, strict=False):
            _store_one(session, issuer_label, object_id, der, subject)
    except PyKCS11.PyKCS11Error as error:
        raise token.failure(error) from error
    return {}


def _free_slot(library: PyKCS11.PyKCS11Lib) -> int:
    for slot in library.getSlotList(tokenPresent=True):
        if not library.getTokenInfo(slot).flags & PyKCS11.CKF_TOKEN_INITIALIZED:
            return int(slot)
    raise TokenFailure("NO_CARD", "the module has no empty slot for a new token")


def _slot_of(library: PyKCS11.PyKCS11Lib, label: str) -> int:
    for info in token.tokens(library):
        if info.label == label:
            return info.slot
    raise TokenFailure("NO_CARD", f"no token is called {label}")


def _set_pin(library: PyKCS11.PyKCS11Lib, slot: int, so_pin: str, pin: str) -> Any:
    session = library.openSession(slot, PyKCS11.CKF_SERIAL_SESSION | PyKCS11.CKF_RW_SESSION)
    session.login(so_pin, PyKCS11.CKU_SO)
    session.initPin(pin)
    session.logout()
    session.login(pin)
    return session


def _generate(session: Any, use: CardKeyUse, key_kind: str) -> Message:
    label = CITIZEN_CARD.key_labels[use][0]
    both = [(PyKCS11.CKA_TOKEN, True), (PyKCS11.CKA_LABEL, label), (PyKCS11.CKA_ID, _OBJECT_IDS[use])]
    public = [*both, (PyKCS11.CKA_VERIFY, True)]
    private = [
        *both,
        (PyKCS11.CKA_PRIVATE, True),
        (PyKCS11.CKA_SENSITIVE, True),
        (PyKCS11.CKA_EXTRACTABLE, False),
        (PyKCS11.CKA_SIGN, True),
        (PyKCS11.CKA_DECRYPT, False),
    ]
    if key_kind == "P-256":
        public.append((PyKCS11.CKA_EC_PARAMS, tuple(_P256_PARAMETERS)))
        mechanism = PyKCS11.Mechanism(PyKCS11.CKM_EC_KEY_PAIR_GEN)
        handle, _ = session.generateKeyPair(public, private, mechanism)
        return {"point": _point(bytes(session.getAttributeValue(handle, [PyKCS11.CKA_EC_POINT])[0]))}
    public += [
        (PyKCS11.CKA_MODULUS_BITS, _RSA_BITS[key_kind]),
        (PyKCS11.CKA_PUBLIC_EXPONENT, _RSA_EXPONENT),
    ]
    handle, _ = session.generateKeyPair(public, private)
    return {"modulus": bytes(session.getAttributeValue(handle, [PyKCS11.CKA_MODULUS])[0])}


def _point(value: bytes) -> bytes:
    """The uncompressed point inside the DER octet string that CKA_EC_POINT is (PKCS#11 v3.0 section 2.3.3)."""
    if len(value) != 67 or value[0] != _DER_OCTET_STRING or value[1] != 65:
        raise TokenFailure("FAILED", "the token gave an elliptic curve point of an unknown form")
    return value[2:]


def _store_one(session: Any, label: str, object_id: tuple[int, ...], der: bytes, subject: bytes) -> None:
    session.createObject(
        [
            (PyKCS11.CKA_CLASS, PyKCS11.CKO_CERTIFICATE),
            (PyKCS11.CKA_CERTIFICATE_TYPE, PyKCS11.CKC_X_509),
            (PyKCS11.CKA_TOKEN, True),
            (PyKCS11.CKA_PRIVATE, False),
            (PyKCS11.CKA_LABEL, label),
            (PyKCS11.CKA_ID, object_id),
            (PyKCS11.CKA_SUBJECT, tuple(subject)),
            (PyKCS11.CKA_VALUE, tuple(der)),
        ]
    )
