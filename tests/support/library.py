"""Citizens of the client library: a virtual card, a home and settings that ask nobody."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from client.api import Repository
from client.context import Context
from client.settings import Settings
from client.state import files
from pki.trust_store import TrustStore
from pki.virtual_card import VirtualCard, create_virtual_card
from repository_worker.stack import PrivateStack

PASSPHRASE, PIN = "uma frase bem longa", "1234"


@dataclasses.dataclass(frozen=True)
class Citizen:
    """Somebody with a card and a home."""

    name: str
    card: VirtualCard
    settings: Settings

    def open(self, **changes: object) -> Repository:
        return Repository(dataclasses.replace(self.settings, **changes))  # type: ignore[arg-type]

    def context(self) -> Context:
        return Context(self.settings)


def make_citizen(stack: PrivateStack, folder: Path, name: str, kind: str = "P-256", card: VirtualCard | None = None):
    made = card or create_virtual_card(stack.ca, folder / "card", name, key_kind=kind, pin=PIN)
    home = folder / "home"
    TrustStore.open(home / "trust").import_certificates(stack.ca_certificates, root_fingerprints={stack.ca_fingerprint})
    settings = Settings(
        home=home,
        card=made.settings,
        passphrase=lambda _: PASSPHRASE,
        pin=lambda _: PIN,
        memory=files.private_folder(folder / "memory"),
        allow_private_crl_hosts=True,
        reply_seconds=20.0,
    )
    return Citizen(name, made, settings)


def enrol(stack: PrivateStack, citizen: Citizen) -> str:
    with citizen.open() as repository:
        repository.init(stack.descriptor_path.read_bytes(), root_fingerprint=stack.root_fingerprint)
        return repository.register().user.hex()


def user_id(citizen: Citizen) -> str:
    owner = Context(citizen.settings).home.owner()
    assert owner is not None
    return owner.hex()
