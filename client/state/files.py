"""Files that survive crashes and other processes: atomic writes, private modes, locks.

A write goes to a new file in the same folder, is flushed to the disk, renamed over the old one, and the folder is
flushed. Locks are `flock`s on files of their own: they vanish with the process that holds them.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from client.errors import LocalState
from crypto_core import canonical_json, limits, schema
from crypto_core.errors import ProtocolError

T = TypeVar("T")

PRIVATE_FILE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700
STATE_FILE_BYTES: Final = 64 * limits.MIB  #: a larger state file is not one of ours
LOCK_SECONDS: Final = 60.0  #: how long another process is waited for
_LOCK_POLL_SECONDS: Final = 0.02


def private_folder(path: Path) -> Path:
    """Makes a folder that only its owner may enter; tightens one that is open to others. Raises OSError."""
    path.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(PRIVATE_FOLDER)
    return path


def write(path: Path, data: bytes) -> None:
    """Replaces a file as a whole, on the disk when this returns. Raises OSError."""
    private_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Removes a file, if it is there, and flushes its folder. Raises OSError."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Flushes a folder, so that a rename in it survives a crash. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path) -> bytes | None:
    """The whole file, None where there is none. Raises LocalState for one that is too large to be ours, OSError."""
    try:
        with path.open("rb") as file:
            data = file.read(STATE_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(data) > STATE_FILE_BYTES:
        raise unusable(path, "it is far too large")
    return data


def save_document(path: Path, value: Any) -> None:
    """Writes a schema value as canonical JSON, which people can read too."""
    write(path, canonical_json.encode(schema.to_document(value)))


def load_document(path: Path, kind: type[T]) -> T | None:
    """The schema value of a JSON file, None where there is none. Raises LocalState for a damaged file."""
    data = read(path)
    if data is None:
        return None
    try:
        return schema.from_document(kind, canonical_json.decode(data, STATE_FILE_BYTES))
    except ProtocolError as error:
        raise unusable(path, str(error)) from error


def unusable(path: Path, reason: str) -> LocalState:
    """The error for a state file that cannot be read."""
    return LocalState(
        f"The file {path} is damaged: {reason}.",
        "What this installation remembers there cannot be relied on.",
        "Restore it from a backup of the home folder, or set up a new home and restore the keys into it.",
    )


@contextmanager
def lock(path: Path, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Holds an exclusive lock on `path`, a file that holds nothing. Raises LocalState when it stays taken."""
    private_folder(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        _acquire(descriptor, path, time.monotonic() + seconds)
        yield
    finally:
        os.close(descriptor)  # which releases the lock


def _acquire(descriptor: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise LocalState(
                    f"Another process holds {path.name} of this home.",
                    "Both writing at once could lose what matters.",
                    "Wait until it has ended, then repeat the command.",
                ) from error
            time.sleep(_LOCK_POLL_SECONDS)
        else:
            return
