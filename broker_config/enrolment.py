"""The file by which an operator gives an installation its account at the broker, and the installation takes it.

    smr-repository clients enrol INSTALLATION --output FILE     →     smr init --enrolment FILE

A JSON object with the members `type` ("smr-enrolment"), `version` (1), `installation`, `password`, `ca` (PEM of the CAs
that the broker's certificate must come from, or null for those of the system) and `broker` (an address, or null for the
one in the descriptor; an account in it does not count). The account is `names.client_account(installation)`. The file
holds a password: whoever makes or keeps one does it for its owner's eyes alone.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from broker_config import names
from broker_config.connection import ConnectionSettings, TlsSettings, parse_amqp_url
from broker_config.errors import BrokerSettingsInvalid, NameRefused

TYPE: Final = "smr-enrolment"
VERSION: Final = 1
ENROLMENT_BYTES: Final = 64 * 1024
PASSWORD_CHARACTERS_MAX: Final = 128
BROKER_CHARACTERS_MAX: Final = 512
CA_CHARACTERS_MAX: Final = 32 * 1024
_PASSWORD_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the file says."""

    installation: names.Installation
    password: str = field(repr=False)
    ca: str | None = None
    broker: str | None = None


def draw_password() -> str:
    """A new password of an account: 256 random bits, in characters that no address has to escape."""
    return secrets.token_urlsafe(_PASSWORD_BYTES)


def write(enrolment: Enrolment) -> bytes:
    """The text of the file, UTF-8. Raises BrokerSettingsInvalid when `read` would not take it."""
    data = json.dumps({"type": TYPE, "version": VERSION, **asdict(enrolment)}, indent=2).encode() + b"\n"
    read(data)
    return data


def read(data: bytes) -> Enrolment:
    """Takes the file's bytes. Raises BrokerSettingsInvalid for everything that `write` does not give."""
    if len(data) > ENROLMENT_BYTES:
        raise _refused("it is too large")
    try:
        found = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as e:
        raise _refused("it is not JSON") from e
    if not isinstance(found, dict) or found.pop("type", None) != TYPE or found.pop("version", None) != VERSION:
        raise _refused("it is of another kind or version")
    if set(found) != {"installation", "password", "ca", "broker"}:
        raise _refused("its members are others")
    try:
        installation = names.parse_installation(_text(found["installation"], names.INSTALLATION_CHARACTERS))
    except NameRefused as e:
        raise _refused("it names no installation") from e
    password = _text(found["password"], PASSWORD_CHARACTERS_MAX)
    ca, broker = _optional(found["ca"], CA_CHARACTERS_MAX), _optional(found["broker"], BROKER_CHARACTERS_MAX)
    return Enrolment(installation, password, ca, broker)


def connection(
    installation: names.Installation, password: str, address: str, *, ca: str | None = None
) -> ConnectionSettings:
    """How an enrolled installation connects to `address`, whatever account that address names.

    `ca` (PEM) replaces what the address says about CAs. Raises BrokerSettingsInvalid.
    """
    found = parse_amqp_url(address, password=password)
    tls = TlsSettings(ca_pem=ca) if ca is not None and found.tls is not None else found.tls
    return replace(found, user=names.client_account(installation), password=password, tls=tls)


def _text(value: Any, most: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise _refused("a member is missing or of a wrong size")
    return value


def _optional(value: Any, most: int) -> str | None:
    return None if value is None else _text(value, most)


def _refused(why: str) -> BrokerSettingsInvalid:
    return BrokerSettingsInvalid(f"this is not the enrolment file of an operator: {why}; ask the operator for it again")
