"""key: backup, restore, rotate and passphrase. Old sealing keys stay for ever: they open old letters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from client.commands import register
from client.commands.register import Registered
from client.context import Context
from client.errors import NotFound, Usage
from client.state import keystore
from client.state.keystore import Keys


@dataclass(frozen=True, slots=True)
class KeySummary:
    """How many sealing keys there are, and how many of them came with this step."""

    sealing_keys: int
    added: int
    current: str


def backup(context: Context, target: Path) -> KeySummary:
    """Writes the keystore, under a passphrase of its own, to a file that must not exist yet."""
    keys = context.unlock()
    if target.exists():
        raise Usage(f"{target} exists already.", "A backup never replaces another one.", "Choose another name.")
    keystore.save(target, keys, context.settings.passphrase("new backup"))
    return _summary(keys, 0)


def restore(context: Context, source: Path) -> KeySummary:
    """Adds the sealing keys of a backup to this keystore; its current key becomes current, the app key stays."""
    if not source.exists():
        raise NotFound(f"There is no file {source}.", action="Name the backup file.")
    other = keystore.load(source, context.settings.passphrase("backup"))
    before = len(context.unlock().sealing)
    passphrase = context.settings.passphrase("keystore")
    with context.home.lock("keystore"):
        keys = keystore.load(context.home.keystore, passphrase).merged(other)
        keystore.save(context.home.keystore, keys, passphrase)
    _forget_session(context)
    return _summary(keys, len(keys.sealing) - before)


def rotate(context: Context) -> Registered:
    """A new sealing key and a registration that names it. Letters sealed to the old one still open.

    The new key is in the keystore before the registration is sent. After an interruption `smr key rotate` makes
    another one; nothing is lost by a key that was never registered.
    """
    passphrase = context.settings.passphrase("keystore")
    with context.home.lock("keystore"):
        keys = keystore.load(context.home.keystore, passphrase).with_new_key(context.now())
        keystore.save(context.home.keystore, keys, passphrase)
    context.relock()
    return register.replace_registration(context, keys)


def change_passphrase(context: Context) -> KeySummary:
    """Writes the same keys under another passphrase."""
    passphrase = context.settings.passphrase("keystore")
    with context.home.lock("keystore"):
        keys = keystore.load(context.home.keystore, passphrase)
        keystore.save(context.home.keystore, keys, context.settings.passphrase("new keystore"))
    context.relock()
    return _summary(keys, 0)


def _forget_session(context: Context) -> None:
    """The kept session holds a copy of the keys: the next command makes one with all of them."""
    context.relock()
    context.sessions.remove()


def _summary(keys: Keys, added: int) -> KeySummary:
    return KeySummary(len(keys.sealing), added, keys.current.hex())
