"""Citizens who use the system from outside of its containers, with the program `smr` and a virtual card each."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from broker_config.private_process import clean_environment
from pki.virtual_card import create_virtual_card
from tests.stack.system import PASSPHRASE, System, program

NAMES: Final = ("Maria Conceição Reis", "João Sá")
LETTER: Final = "Segue a ata da reunião de ontem.\n"
PIN: Final = "1234"


class Citizen:
    """Somebody with a card, and with an installation that has an account of its own at the broker."""

    def __init__(self, system: System, name: str) -> None:
        self.name = name
        self.folder = system.folder / name.split(maxsplit=1)[0].lower()
        self.folder.mkdir(mode=0o700)
        card = create_virtual_card(system.ca, self.folder / "card", name, key_kind="P-256", pin=PIN)
        self.environment = clean_environment(
            {
                "HOME": str(self.folder),
                "PYTHONIOENCODING": "utf-8",
                "XDG_RUNTIME_DIR": str(self.folder),
                "SMR_HOME": str(self.folder / "home"),
                "SMR_TRUST_STORE": str(self.folder / "trust"),
                "SMR_PASSPHRASE_FILE": self._private("passphrase", PASSPHRASE),
                "SMR_PIN_FILE": self._private("pin", PIN),
                "SMR_ALLOW_PRIVATE_CRL_HOSTS": "1",
                "SOFTHSM2_CONF": str(card.softhsm_conf),
            }
        )
        made = self.smr("init", "--descriptor", str(system.descriptor), "--root-fingerprint", system.repository_root)
        enrolment = self.folder / "enrolment.json"
        enrolment.touch(mode=0o600)
        enrolment.write_bytes(system.enrol(made["installation"]))
        self.smr("init", "--enrolment", str(enrolment))
        words = ("--root-fingerprint", system.root)
        program("smr-pki", "trust", "import", *map(str, system.certificates), *words, environment=self.environment)

    def smr(self, *words: str) -> Any:
        """The JSON document that `smr WORDS` printed. Raises AssertionError when it ends with an error."""
        return json.loads(program("smr", *words, "--json", environment=self.environment))

    def _private(self, name: str, text: str) -> str:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return str(path)


@dataclass(frozen=True, slots=True)
class People:
    """Two who know each other."""

    sender: Citizen
    reader: Citizen

    @classmethod
    def registered(cls, system: System) -> Self:
        """Both with an open session."""
        with ThreadPoolExecutor(len(NAMES)) as crew:
            maria, joao = made = list(crew.map(lambda name: Citizen(system, name), NAMES))
            list(crew.map(lambda each: each.smr("register"), made))
        (found,) = maria.smr("people", "joao")["people"]
        maria.smr("confirm", found["user_id"])
        for each in made:
            each.smr("session", "open")
        return cls(maria, joao)

    def send(self, folder: Path) -> str:
        """A letter from one to the other; gives its id."""
        path = folder / "ata.txt"
        path.write_text(LETTER, "utf-8")
        sent = self.sender.smr("send", "--to", self.reader.name, "--subject", "Ata", str(path))
        return str(sent["letter_id"])

    def read(self, letter: str) -> None:
        """The reader opens it and gives a receipt; the sender sees the receipt."""
        assert self.reader.smr("read", letter)["body"] == LETTER
        status = self.sender.smr("status", letter)
        assert [each["reader_name"] for each in status["receipts"]] == [self.reader.name]
