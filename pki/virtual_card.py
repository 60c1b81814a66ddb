"""Virtual Citizen Cards: a SoftHSM token with the real card's labels, certified by the test CA.

Everything above PKCS#11 runs the same code for a virtual card and a real one. A folder holds one card: `softhsm2.conf`,
`tokens/` (written by SoftHSM) and `card.json` (public: holder, serial numbers, module).

    card = create_virtual_card(ca, folder, "Maria Conceição Reis", key_kind="P-256", pin=pin)
    with Card.open(card.settings, pin=lambda use: pin) as opened: ...
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from pki.errors import NoModule, TestCaError
from pki.files import private_folder, write_atomically
from pki.signers import CardSettings
from pki.test_ca import CardCertificates, Holder, TestCa
from pki.tokens.child import PROVISION_TIMEOUT_SECONDS, TokenChild
from pki.tokens.profiles import CITIZEN_CARD, SOFTHSM_MODULES, CardKeyUse, first_module
from pki.tokens.wire import Message

KEY_KINDS: Final = ("RSA-3072", "P-256", "RSA-2048")
PIN_DIGITS_MIN: Final = 4
PIN_DIGITS_MAX: Final = 8
PROVISIONING_PROCESS: Final = "pki.provisioning_process"
_LABEL_CHARACTERS_MAX: Final = 32
_RSA_EXPONENT: Final = 65537
_CARD_FILE: Final = "card.json"
_CONFIGURATION_FILE: Final = "softhsm2.conf"


@dataclass(frozen=True, slots=True)
class VirtualCard:
    """A virtual card on disk."""

    folder: Path
    module: Path
    label: str
    holder: str
    civil_number: str
    key_kind: str
    serials: dict[CardKeyUse, int]  #: of its certificates, for a revocation

    @property
    def softhsm_conf(self) -> Path:
        """The configuration file that SoftHSM needs in SOFTHSM2_CONF."""
        return self.folder / _CONFIGURATION_FILE

    @property
    def settings(self) -> CardSettings:
        """How to open it."""
        return CardSettings(self.module, self.label, {"SOFTHSM2_CONF": str(self.softhsm_conf)})


def create_virtual_card(
    ca: TestCa,
    folder: Path,
    holder: str | Holder,
    *,
    key_kind: str,
    pin: str,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    signature_active: bool = True,
) -> VirtualCard:
    """Make a token in `folder`, generate both keys in it, have them certified and store the certificates.

    RSA cards hold the CA certificates too; P-256 cards do not, as the real ones of that generation. With
    `signature_active` false the card has no signature certificate. Raises TestCaError, NoModule, CardError.
    """
    folder = folder.resolve()
    _check_arguments(folder, key_kind, pin)
    person = Holder.named(holder) if isinstance(holder, str) else holder
    module = first_module(SOFTHSM_MODULES)
    if module is None:
        raise NoModule("SoftHSM is not installed.", "Virtual cards live in it.", "Install the package softhsm2.")
    _write_configuration(folder)
    label = _label(person)
    child = TokenChild(PROVISIONING_PROCESS, {"SOFTHSM2_CONF": str(folder / _CONFIGURATION_FILE)})
    try:
        request = {"module": str(module), "label": label, "pin": pin}
        made = child.request({"op": "create", "key_kind": key_kind, **request}, PROVISION_TIMEOUT_SECONDS)
        authentication, signature = (_public_key(made["keys"][use.value]) for use in CardKeyUse)
        certificates = ca.issue_card_certificates(
            person, authentication, signature, not_before=not_before, not_after=not_after
        )
        uses = list(CardKeyUse) if signature_active else [CardKeyUse.AUTHENTICATION]
        stored = _to_store(ca, certificates, uses, key_kind)
        child.request({"op": "store", **request, **stored}, PROVISION_TIMEOUT_SECONDS)
    finally:
        child.close()
    serials = {use: certificates.of(use).serial_number for use in uses}
    card = VirtualCard(folder, module, label, person.name, person.civil_number, key_kind, serials)
    write_atomically(folder / _CARD_FILE, json.dumps(_to_json(card), ensure_ascii=False, indent=2).encode())
    return card


def open_virtual_card(folder: Path) -> VirtualCard:
    """Read what a folder says of its card. Raises TestCaError."""
    folder = folder.resolve()
    try:
        data = json.loads((folder / _CARD_FILE).read_text(encoding="utf-8"))
        return VirtualCard(
            folder=folder,
            module=Path(data["module"]),
            label=data["label"],
            holder=data["holder"],
            civil_number=data["civil_number"],
            key_kind=data["key_kind"],
            serials={CardKeyUse(use): int(serial, 16) for use, serial in data["serials"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TestCaError(
            f"{folder} holds no virtual card.",
            "Its certificates and its token are described there.",
            "Name the folder in which the card was made.",
        ) from error


def list_virtual_cards(folder: Path) -> list[VirtualCard]:
    """The cards in the folders directly below `folder`."""
    return [open_virtual_card(path.parent) for path in sorted(folder.glob(f"*/{_CARD_FILE}"))]


def folder_name(holder: str) -> str:
    """A file name for a person's card: ASCII, lower case, dashes."""
    ascii_only = unicodedata.normalize("NFKD", holder).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_only.lower()).strip("-") or "card"


def _check_arguments(folder: Path, key_kind: str, pin: str) -> None:
    if key_kind not in KEY_KINDS:
        raise TestCaError(f"There are no cards with {key_kind} keys.", "", f"Use one of: {', '.join(KEY_KINDS)}.")
    if not (pin.isascii() and pin.isdigit() and PIN_DIGITS_MIN <= len(pin) <= PIN_DIGITS_MAX):
        raise TestCaError(f"A card's PIN has {PIN_DIGITS_MIN} to {PIN_DIGITS_MAX} digits.", "", "Choose another PIN.")
    if (folder / _CONFIGURATION_FILE).exists():
        raise TestCaError(f"{folder} holds a card already.", "Its keys would be lost.", "Choose another folder.")


def _write_configuration(folder: Path) -> None:
    try:
        tokens = private_folder(private_folder(folder) / "tokens")
        text = f"directories.tokendir = {tokens.resolve()}\nobjectstore.backend = file\nlog.level = ERROR\n"
        write_atomically(folder / _CONFIGURATION_FILE, text.encode())
    except OSError as error:
        raise TestCaError(f"{folder} cannot be written.", "The card lives there.", "Check its permissions.") from error


def _label(holder: Holder) -> str:
    # Token labels are 32 bytes: ASCII, so that bytes are characters.
    return f"CC {folder_name(holder.name)}"[:_LABEL_CHARACTERS_MAX].rstrip("-")


def _public_key(made: Message) -> CertificatePublicKeyTypes:
    if "point" in made:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes(made["point"]))
    return rsa.RSAPublicNumbers(_RSA_EXPONENT, int.from_bytes(made["modulus"], "big")).public_key()


def _to_store(ca: TestCa, certificates: CardCertificates, uses: list[CardKeyUse], key_kind: str) -> Message:
    authorities = [ca.authority(name)[0] for name in ("authentication", "signature", "root")]
    labelled = zip(CITIZEN_CARD.issuer_labels, authorities, strict=True) if key_kind != "P-256" else ()
    return {
        "certificates": [[use.value, *_der(certificates.of(use))] for use in uses],
        "issuers": [[label, *_der(certificate)] for label, certificate in labelled],
    }


def _der(certificate: x509.Certificate) -> tuple[bytes, bytes]:
    return certificate.public_bytes(Encoding.DER), certificate.subject.public_bytes()


def _to_json(card: VirtualCard) -> dict[str, Any]:
    return {
        "holder": card.holder,
        "civil_number": card.civil_number,
        "key_kind": card.key_kind,
        "label": card.label,
        "module": str(card.module),
        "serials": {use.value: f"{serial:x}" for use, serial in card.serials.items()},
    }
