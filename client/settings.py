"""What a program tells the library: where its home is, which card, and how to ask for secrets.

Secrets come through callbacks, so that they can be asked for when they are needed and never lie in a setting.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from client.errors import CardProblem, LocalState
from crypto_core.ids import Milliseconds
from pki.signers import CardSettings

REPLY_SECONDS: Final = 30.0  #: how long a reply is waited for, unless a program says otherwise
Waiting = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Transfer:
    """How far an attachment is. `upload`: on its way to the repository, else from it."""

    name: str
    upload: bool
    done: int  #: bytes
    size: int  #: bytes


def system_clock() -> Milliseconds:
    """Milliseconds since the Unix epoch."""
    return Milliseconds(time.time_ns() // 1_000_000)


def no_passphrase(_purpose: str) -> str:
    """For programs that must not need one."""
    raise LocalState(
        "A passphrase is needed and there is no way to ask for it.",
        "The keystore does not open without it.",
        "Run this on a terminal, or name a file that holds it: SMR_PASSPHRASE_FILE.",
    )


def no_pin(_purpose: str) -> str:
    """For programs that must not need one."""
    raise CardProblem(
        "The card's PIN is needed and there is no way to ask for it.",
        "The card signs nothing without it.",
        "Run this on a terminal, or name a file that holds it: SMR_PIN_FILE.",
    )


def never() -> bool:
    """For programs that nobody can answer."""
    return False


def untold(_transfer: Transfer) -> None:
    """For programs that show no progress."""


def silently(_what: str) -> AbstractContextManager[None]:
    """For programs that show no progress."""
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Front:
    """Who stands before a program: answers its questions, sees what it waits for, and can stop it.

    `secret` gives what was typed, None where nobody can be asked. The rest is as in Settings.
    """

    secret: Callable[[str], str | None]
    agree: Callable[[str], bool]
    waiting: Waiting = silently
    stopped: Callable[[], bool] = never
    progress: Callable[[Transfer], None] = untold


@dataclass(frozen=True, slots=True)
class Settings:
    """How one client is set up.

    `passphrase` and `pin` are called with the purpose, when a secret is needed; `risk_last_try` before the PIN when one
    more wrong one would lock the card; `waiting` with what is awaited, around every wait; `progress` whenever an
    attachment has come further. While the card signs or the repository is awaited, `stopped` is asked again and again,
    from any thread; true ends the wait with Stopped. `trust_store` is HOME/trust when None; `memory` is where the kept
    session's key goes (None: nowhere, so that every command asks again).
    """

    home: Path
    trust_store: Path | None = None
    card: CardSettings = field(default_factory=CardSettings)
    passphrase: Callable[[str], str] = no_passphrase
    pin: Callable[[str], str] = no_pin
    risk_last_try: Callable[[], bool] = never
    waiting: Waiting = silently
    progress: Callable[[Transfer], None] = untold
    stopped: Callable[[], bool] = never
    clock: Callable[[], Milliseconds] = system_clock
    memory: Path | None = None
    former: str | None = None  #: the beginning of the id of an earlier card, whose mailbox is to be read
    reply_seconds: float = REPLY_SECONDS  #: how long a reply is waited for
    allow_private_crl_hosts: bool = False  #: CRLs from loopback and private networks: for development only
