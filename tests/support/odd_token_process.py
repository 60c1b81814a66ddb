"""Makes SoftHSM tokens that are no Citizen Card: other labels, keys that want their PIN for every signature.

    made = make_token(pki, folder, [OddKey(…), …])

The first half runs in a process of its own, as everything that loads a PKCS#11 module.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import PyKCS11
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from pki.signers import CardSettings
from pki.test_ca import Holder
from pki.tokens import token
from pki.tokens.child import PROVISION_TIMEOUT_SECONDS, TokenChild
from pki.tokens.profiles import SOFTHSM_MODULES, CardKeyUse, first_module
from pki.tokens.serve import serve
from pki.tokens.wire import Message
from tests.support.pki_fixtures import PIN, TestPki

MODULE = "tests.support.odd_token_process"
_P256 = bytes.fromhex("06082a8648ce3d030107")


@dataclass(frozen=True, slots=True)
class OddKey:
    """A key with its certificate: labels, CKA_ID, and whether it wants its PIN for every signature."""

    use: str
    certificate_label: str
    key_label: str
    object_id: int
    always_authenticate: bool = False


def make_token(pki: TestPki, folder: Path, holder: str, label: str, keys: list[OddKey]) -> CardSettings:
    """A P-256 token with these keys, certified for the holder, in a folder that may hold several tokens."""
    (folder / "tokens").mkdir(parents=True, exist_ok=True)
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n", encoding="utf-8")
    module = first_module(SOFTHSM_MODULES)
    assert module is not None
    settings = CardSettings(module, label, {"SOFTHSM2_CONF": str(configuration)})
    child = TokenChild(MODULE, settings.environment)
    try:
        request = {"op": "make", "module": str(module), "label": label, "keys": [asdict(key) for key in keys]}
        points = child.request(request, PROVISION_TIMEOUT_SECONDS)["points"]
        certificates = _certify(pki, holder, [key.use for key in keys], points)
        child.request({"op": "store", "certificates": certificates}, PROVISION_TIMEOUT_SECONDS)
    finally:
        child.close()
    return settings


def _certify(pki: TestPki, holder: str, uses: list[str], points: list[bytes]) -> list[list[bytes]]:
    made = []
    for use, point in zip(uses, points, strict=True):
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        certificate = pki.ca.issue_card_certificates(Holder.named(holder), key, key).of(CardKeyUse(use))
        made.append([certificate.public_bytes(Encoding.DER), certificate.subject.public_bytes()])
    return made


class _Process:
    def __init__(self) -> None:
        self._session: Any = None
        self._keys: list[dict[str, Any]] = []

    def make(self, request: Message) -> Message:
        library = token.load(request["module"])
        slot = library.getSlotList(tokenPresent=True)[-1]
        so_pin = secrets.token_hex(8)
        library.initToken(slot, so_pin, request["label"].ljust(32))
        slot = next(info.slot for info in token.tokens(library) if info.label == request["label"])
        self._session = library.openSession(slot, PyKCS11.CKF_SERIAL_SESSION | PyKCS11.CKF_RW_SESSION)
        self._session.login(so_pin, PyKCS11.CKU_SO)
        self._session.initPin(PIN)
        self._session.logout()
        self._session.login(PIN)
        self._keys = request["keys"]
        return {"points": [self._generate(key) for key in self._keys]}

    def _generate(self, key: dict[str, Any]) -> bytes:
        both = [(PyKCS11.CKA_TOKEN, True), (PyKCS11.CKA_ID, (key["object_id"],))]
        public = [*both, (PyKCS11.CKA_VERIFY, True), (PyKCS11.CKA_EC_PARAMS, tuple(_P256))]
        private = [
            *both,
            (PyKCS11.CKA_PRIVATE, True),
            (PyKCS11.CKA_SIGN, True),
            (PyKCS11.CKA_LABEL, key["key_label"]),
            (PyKCS11.CKA_ALWAYS_AUTHENTICATE, key["always_authenticate"]),
        ]
        mechanism = PyKCS11.Mechanism(PyKCS11.CKM_EC_KEY_PAIR_GEN)
        handle, _ = self._session.generateKeyPair(public, private, mechanism)
        return bytes(self._session.getAttributeValue(handle, [PyKCS11.CKA_EC_POINT])[0])[2:]

    def store(self, request: Message) -> Message:
        for key, (der, subject) in zip(self._keys, request["certificates"], strict=True):
            self._session.createObject(
                [
                    (PyKCS11.CKA_CLASS, PyKCS11.CKO_CERTIFICATE),
                    (PyKCS11.CKA_CERTIFICATE_TYPE, PyKCS11.CKC_X_509),
                    (PyKCS11.CKA_TOKEN, True),
                    (PyKCS11.CKA_PRIVATE, False),
                    (PyKCS11.CKA_LABEL, key["certificate_label"]),
                    (PyKCS11.CKA_ID, (key["object_id"],)),
                    (PyKCS11.CKA_SUBJECT, tuple(subject)),
                    (PyKCS11.CKA_VALUE, tuple(der)),
                ]
            )
        return {}


if __name__ == "__main__":
    process = _Process()
    serve({"make": process.make, "store": process.store})
