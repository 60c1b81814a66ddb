"""Passphrases and PINs: from the files that the environment names, else from the terminal. Never from an argument.

SMR_PASSPHRASE_FILE          the keystore's passphrase
SMR_NEW_PASSPHRASE_FILE      the next one, for `smr key passphrase`
SMR_BACKUP_PASSPHRASE_FILE   a backup's, else the keystore's file
SMR_PIN_FILE                 the card's PIN
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from client.errors import ClientError, Usage
from client.settings import no_passphrase, no_pin

AskSecret = Callable[[str], str | None]  #: a question; what was typed, None where nobody can be asked

SECRET_BYTES: Final = 4096
_FILES: Final = {
    "keystore": ("SMR_PASSPHRASE_FILE",),
    "first keystore": ("SMR_PASSPHRASE_FILE",),
    "new keystore": ("SMR_NEW_PASSPHRASE_FILE",),
    "backup": ("SMR_BACKUP_PASSPHRASE_FILE", "SMR_PASSPHRASE_FILE"),
    "new backup": ("SMR_BACKUP_PASSPHRASE_FILE", "SMR_PASSPHRASE_FILE"),
}
_QUESTIONS: Final = {
    "keystore": "Passphrase of your keystore",
    "first keystore": "Choose a passphrase for your keystore",
    "new keystore": "Choose the new passphrase",
    "backup": "Passphrase of the backup",
    "new backup": "Choose a passphrase for the backup",
}


class Secrets:
    """Asks for each passphrase once in a run. `ask` puts a question, and answers None where nobody can be asked."""

    def __init__(self, ask: AskSecret) -> None:
        self._put = ask
        self._known: dict[str, str] = {}

    def passphrase(self, purpose: str) -> str:
        """The passphrase for this purpose; a new one is asked for twice."""
        if purpose not in self._known:
            found = next((_from_file(name) for name in _FILES[purpose] if os.environ.get(name)), None)
            if found is None:
                found = self._ask(_QUESTIONS[purpose], lambda: no_passphrase(purpose))
                if purpose in ("first keystore", "new keystore", "new backup"):
                    self._require_same(found)
            self._known[purpose] = found
        return self._known[purpose]

    def pin(self, use: str) -> str:
        """The card's PIN, never kept here."""
        if os.environ.get("SMR_PIN_FILE"):
            return _from_file("SMR_PIN_FILE")
        return self._ask(f"PIN of your card ({use} key)", lambda: no_pin(use))

    def _require_same(self, first: str) -> None:
        if self._ask("The same once more", lambda: no_passphrase("again")) != first:
            raise Usage("The two passphrases differ.", "Nothing was written.", "Repeat the command.")

    def _ask(self, question: str, impossible: Callable[[], str]) -> str:
        answer = self._put(question)
        return impossible() if answer is None else answer


def from_terminal(question: str) -> str | None:
    """What is typed at the terminal itself: getpass would fall back to standard input, which may be the letter."""
    try:
        with Path("/dev/tty").open("r+b", buffering=0):
            pass
    except OSError:
        return None
    return getpass.getpass(f"{question}: ")


def _from_file(variable: str) -> str:
    path = Path(os.environ[variable])
    try:
        with path.open("rb") as file:
            data = file.read(SECRET_BYTES + 1)
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ClientError(
            f"The file that {variable} names cannot be read.",
            "The secret in it is needed.",
            f"Check {path} and its permissions.",
        ) from error
    if len(data) > SECRET_BYTES:
        raise Usage(f"The file that {variable} names is too large for a secret.", action="Name the right file.")
    return text.rstrip("\r\n")
