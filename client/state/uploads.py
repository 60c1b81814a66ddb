"""Journals of uploads: what is needed to go on with attachments after a lost connection, a crash or Ctrl-C.

    uploads/<letter>/journal          the files, and what each is sealed under, encrypted for the citizen alone
    uploads/<letter>/<attachment>     32 bytes for each chunk that was sealed: the SHA-256 of it, as it leaves
    uploads/<letter>/lock             held while somebody uploads

Nobody may ever see two plaintexts under one nonce. So the hash of a sealed chunk is on the disk before the chunk leaves
this machine, and what was sealed again leaves only when its hash is the recorded one; an attachment whose file has
changed gets another id, salt and secret. The hashes are of what everybody on the way sees: they tell nothing more.

The journal is encrypted under a key that comes from the citizen's sealing key, so that every later session opens it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

from client.errors import LocalState
from client.state import files
from client.state.home import Home
from crypto_core import cbor, cose, ids, labels, limits, schema, suite
from crypto_core.errors import DecryptionFailed, ProtocolError
from crypto_core.ids import DIGEST_BYTES, SALT_BYTES, AttachmentIdField, LetterId, LetterIdField
from crypto_core.keys import KEY_ID_BYTES, SealingKey
from crypto_core.letter import AttachmentSecrets
from crypto_core.schema import Range, Size
from crypto_core.suite import ContentKey

_JOURNAL: Final = "journal"
_LOCK: Final = "lock"
_PATH_BYTES: Final = 4096
_JOURNAL_BYTES: Final = limits.MIB


@dataclass(frozen=True, slots=True)
class Planned:
    """One file on its way. `path` is as the system names it (absolute), `size` as it was when it was begun."""

    path: Annotated[bytes, Size(1, _PATH_BYTES)]
    size: Annotated[int, Range(0, limits.ATTACHMENT_BYTES)]
    attachment: AttachmentIdField
    secrets: AttachmentSecrets

    @classmethod
    def fresh(cls, path: Path, size: int, name: str) -> Planned:
        """Under another id, salt and secret than anything before."""
        kept = AttachmentSecrets(name, secrets.token_bytes(SALT_BYTES), secrets.token_bytes(suite.SECRET_BYTES))
        return cls(os.fsencode(path), size, ids.new_attachment_id(), kept)

    @property
    def file(self) -> Path:
        return Path(os.fsdecode(self.path))


@dataclass(frozen=True, slots=True)
class _JournalFile:
    letter: LetterIdField
    files: Annotated[tuple[Planned, ...], Size(1, limits.ATTACHMENTS)]


@dataclass(slots=True)
class Journal:
    """The upload of one letter's attachments, held by this process."""

    letter: LetterId
    files: tuple[Planned, ...]
    _folder: Path
    _key: SealingKey = field(repr=False)

    def save(self) -> None:
        """On the disk when this returns. Raises OSError."""
        data = cbor.encode(schema.to_map(_JournalFile(self.letter, self.files)))
        salt = secrets.token_bytes(SALT_BYTES)
        headers = {
            cose.ALG: cose.ALG_A256GCM,
            cose.LABEL: labels.UPLOAD_JOURNAL,
            cose.KID: self._key.public.key_id,
            cose.SALT: salt,
        }
        files.write(self._folder / _JOURNAL, cose.encrypt0(_content_key(self._key, salt), headers, data))

    def restart(self, number: int, planned: Planned) -> None:
        """Puts another attempt in the place of a file that has changed. Raises OSError."""
        before = self.files[number]
        self.files = (*self.files[:number], planned, *self.files[number + 1 :])
        self.save()
        files.remove(self._record(before))

    def recorded(self, planned: Planned) -> list[bytes]:
        """The hashes of the chunks that were sealed, from the first on. Raises OSError."""
        data = files.read(self._record(planned)) or b""
        # What was being written in a crash was not waited for, so that its chunk has not left either.
        return [data[at : at + DIGEST_BYTES] for at in range(0, len(data) - DIGEST_BYTES + 1, DIGEST_BYTES)]

    def record(self, planned: Planned, position: int, hashes: Sequence[bytes]) -> None:
        """Adds the hashes of the chunks from `position` on: on the disk when this returns. Raises OSError."""
        descriptor = os.open(self._record(planned), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, files.PRIVATE_FILE)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            file.seek(position * DIGEST_BYTES)
            file.write(b"".join(hashes))
            file.truncate()
            os.fsync(file.fileno())
        if position == 0:
            files.sync_folder(self._folder)

    def remove(self) -> None:
        """When its letter was accepted, or is not wanted any more."""
        _discard(self._folder)

    def _record(self, planned: Planned) -> Path:
        return self._folder / planned.attachment.hex()


@contextlib.contextmanager
def held(home: Home, keys: Mapping[bytes, SealingKey], key: SealingKey, wanted: Sequence[Planned]) -> Iterator[Journal]:
    """The journal of exactly these files that is on disk and that nobody holds, else a new one of `wanted`.

    `key` encrypts it, and `keys` are all that may have encrypted it. Raises OSError.
    """
    for folder in sorted(home.uploads.glob("*")):
        with contextlib.ExitStack() as holding:
            found = _take_up(home, folder, keys, key, holding)
            if found is not None and [each.path for each in found.files] == [each.path for each in wanted]:
                yield found
                return
    with contextlib.ExitStack() as holding:
        yield _begin(home, key, wanted, holding)


def _take_up(
    home: Home, folder: Path, keys: Mapping[bytes, SealingKey], key: SealingKey, holding: contextlib.ExitStack
) -> Journal | None:
    """A journal that nobody holds. What cannot be gone on with is cleared away: its letter is sent, or it is old."""
    try:
        holding.enter_context(files.lock(folder / _LOCK, 0.0))
    except LocalState:
        return None
    try:
        data = files.read(folder / _JOURNAL)
        found = _open(data, keys) if data is not None else None
    except (ProtocolError, LocalState):
        found = None
    if found is None or (home.sent / f"{found.letter.hex()}.json").exists():
        _discard(folder)
        return None
    return Journal(found.letter, found.files, folder, key)


def _begin(home: Home, key: SealingKey, wanted: Sequence[Planned], holding: contextlib.ExitStack) -> Journal:
    letter = ids.new_letter_id()
    folder = files.private_folder(home.uploads / letter.hex())
    holding.enter_context(files.lock(folder / _LOCK))
    journal = Journal(letter, tuple(wanted), folder, key)
    journal.save()
    return journal


def _open(data: bytes, keys: Mapping[bytes, SealingKey]) -> _JournalFile:
    message = cose.read_encrypt0(data, _JOURNAL_BYTES)
    found = cose.expect(
        message.headers,
        cose.ALG_A256GCM,
        labels.UPLOAD_JOURNAL,
        kid=(cose.KID, bytes, KEY_ID_BYTES, KEY_ID_BYTES),
        salt=(cose.SALT, bytes, SALT_BYTES, SALT_BYTES),
    )
    if found["kid"] not in keys:
        raise DecryptionFailed("a journal for a key that is not in this keystore")
    plaintext = message.decrypt(_content_key(keys[found["kid"]], found["salt"]))
    return schema.from_map(_JournalFile, cbor.decode(plaintext, _JOURNAL_BYTES))


def _content_key(key: SealingKey, salt: bytes) -> ContentKey:
    return ContentKey.derive(key.seed, labels.UPLOAD_JOURNAL, salt)


def _discard(folder: Path) -> None:
    # The journal goes first: without it the rest means nothing.
    with contextlib.suppress(FileNotFoundError):
        files.remove(folder / _JOURNAL)
    shutil.rmtree(folder, ignore_errors=True)
