"""What every client process is told: the repository, the citizens and their keys. Test keys of one private run.

Written by the run as JSON into its private folder, read by the client processes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from crypto_core import descriptor as descriptors
from crypto_core.descriptor import Descriptor
from crypto_core.ids import UserId
from crypto_core.keys import EcdsaVerifyKey, SealingKey
from pki.tokens.profiles import CardKeyUse
from tests.support.wire import Citizen, now_ms

PASSPHRASE, PIN = "uma frase bem longa", "1234"


@dataclass(frozen=True, slots=True)
class Member:
    """A citizen of the run: with keys in software, or with a home of the client library (`home` is its folder)."""

    name: str
    user: str
    registration: str  #: SHA-256 of the registration document
    sealing_seed: str
    home: str = ""
    software: dict[str, Any] | None = None

    @property
    def sealing(self) -> SealingKey:
        return SealingKey(bytes.fromhex(self.sealing_seed))

    @classmethod
    def of(cls, citizen: Citizen, registration: str) -> Self:
        """Somebody whose card is in software."""
        keys = {
            use.value: key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
            for use, key in citizen.keys.items()
        }
        certificates = {use.value: _pem(each) for use, each in citizen.certificates.items()}
        software = {"keys": keys, "certificates": certificates, "ca": [_pem(each) for each in citizen.intermediates]}
        return cls(citizen.name, citizen.user.hex(), registration, citizen.sealing.seed.hex(), software=software)

    def citizen(self) -> Citizen:
        """The citizen, to sign as."""
        if self.software is None:
            raise ValueError("this citizen's keys are on a card")
        keys = {CardKeyUse(use): load_pem_private_key(pem.encode(), None) for use, pem in self.software["keys"].items()}
        certificates = {CardKeyUse(use): _certificate(pem) for use, pem in self.software["certificates"].items()}
        return Citizen(
            self.name,
            keys,
            certificates,
            tuple(map(_certificate, self.software["ca"])),
            self.sealing,  # type: ignore[arg-type]
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. `folder` holds the history, the clients' states and the file `stop`, at which clients come to an end."""

    folder: Path
    seed: int
    broker_url: str
    descriptor_path: Path
    members: tuple[Member, ...]

    @property
    def history(self) -> Path:
        return self.folder / "history"

    @property
    def stop(self) -> Path:
        return self.folder / "stop"

    def descriptor(self) -> Descriptor:
        """The repository's descriptor. Its chain is not checked here: the file is this run's own."""
        signed = descriptors.read(self.descriptor_path.read_bytes())
        signer = x509.load_der_x509_certificate(signed.chain[0])
        return signed.verify(EcdsaVerifyKey(signer.public_key()), now_ms())  # type: ignore[arg-type]

    def by_user(self) -> dict[UserId, Member]:
        return {UserId(bytes.fromhex(each.user)): each for each in self.members}

    def save(self) -> Path:
        """Writes it into its folder, for this user alone."""
        path = self.folder / "plan.json"
        path.touch(mode=0o600)
        members = [{name: getattr(each, name) for name in Member.__slots__} for each in self.members]
        path.write_text(
            json.dumps(
                {
                    "folder": str(self.folder),
                    "seed": self.seed,
                    "broker_url": self.broker_url,
                    "descriptor_path": str(self.descriptor_path),
                    "members": members,
                }
            )
        )
        return path

    @classmethod
    def load(cls, path: Path) -> Self:
        found = json.loads(path.read_text())
        return cls(
            Path(found["folder"]),
            found["seed"],
            found["broker_url"],
            Path(found["descriptor_path"]),
            tuple(Member(**each) for each in found["members"]),
        )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())
