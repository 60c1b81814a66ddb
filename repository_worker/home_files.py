"""Files of the repository's home: read within limits, changed by one process at a time, small ones sealed.

A sealed file is under the wrapping secret, which the keystore holds under its passphrase: whoever opened the keystore
once reads what is written later, without asking for the passphrase again.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from crypto_core import cbor, cose, limits, schema
from crypto_core.errors import ProtocolError
from crypto_core.ids import SALT_BYTES
from crypto_core.suite import ContentKey
from pki.files import PRIVATE_FILE, private_folder
from repository_worker.errors import HomeError

#: A sealed file: one key, or one pair of seeds. Bytes.
SEALED_FILE_BYTES: Final = limits.KIB

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wrapping:
    """Seals values under the wrapping secret, for one purpose."""

    label: str
    _secret: bytes = field(repr=False)

    def seal(self, value: object) -> bytes:
        """The content of a file that holds `value`, a dataclass."""
        salt = secrets.token_bytes(SALT_BYTES)
        headers = {cose.ALG: cose.ALG_A256GCM, cose.LABEL: self.label, cose.SALT: salt}
        return cose.encrypt0(self._key(salt), headers, cbor.encode(schema.to_map(value)))

    def open(self, kind: type[T], path: Path) -> T:
        """What a file holds. Raises ProtocolError, OSError or HomeError: see `files`."""
        message = cose.read_encrypt0(read_limited(path, SEALED_FILE_BYTES), SEALED_FILE_BYTES)
        wanted = (cose.SALT, bytes, SALT_BYTES, SALT_BYTES)
        found = cose.expect(message.headers, cose.ALG_A256GCM, self.label, salt=wanted)
        return schema.from_map(kind, cbor.decode(message.decrypt(self._key(found["salt"])), SEALED_FILE_BYTES))

    def _key(self, salt: bytes) -> ContentKey:
        return ContentKey.derive(self._secret, self.label, salt)


def read_limited(path: Path, most: int) -> bytes:
    """A file of at most this many bytes. Raises HomeError for a larger one, OSError as `open` does."""
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise HomeError(f"{path.name} is larger than it can be; restore it from a backup.")
    return data


@contextmanager
def files(folder: Path) -> Iterator[None]:
    """Turns what reading and writing raises into HomeError."""
    try:
        yield
    except FileNotFoundError as error:
        raise HomeError(
            f"{folder} holds no repository, or a file of it is missing; run `smr-repository init` or restore a backup."
        ) from error
    except OSError as error:
        raise HomeError(f"{folder} cannot be read or written ({error.strerror}); check who owns it.") from error
    except ProtocolError as error:
        raise HomeError(f"A file in {folder} cannot be used: {error}.") from error


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """One at a time, over all processes that share the folder. Raises HomeError."""
    with files(folder):
        private_folder(folder)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
