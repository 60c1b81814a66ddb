"""Attachments on their way from the repository into a folder: opened chunk by chunk, complete only when all is checked.

A download goes into a hidden file beside its place, which belongs to this user alone. When every chunk was opened at
its position, the last one as the last, and ciphertext, size, name and content are those of the letter, the file gets
its name: one that the sender cannot lead out of the folder, and never that of a file that is there. Interrupted, the
same command goes on after the chunks that are there, which are compared like all others.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from client import file_names
from client.context import Context
from client.errors import CheckFailed, ClientError, LocalState
from client.settings import Transfer
from client.state import files
from client.state.session import LiveSession
from crypto_core import commands, limits
from crypto_core.commands import RefusedByRepository
from crypto_core.errors import ProtocolError
from crypto_core.ids import LetterId, UserId
from crypto_core.letter import Attachment
from crypto_core.stream import AttachmentStream

#: Chunks under way at a time.
IN_FLIGHT: Final = 8
#: How many files of one name are looked at for a free one.
NUMBERS: Final = 10_000
_NO_LINKS: Final = frozenset((errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK))


@dataclass(frozen=True, slots=True)
class Source:
    """Of whose letter an attachment is."""

    author: UserId
    letter: LetterId


def save(context: Context, live: LiveSession, source: Source, attachment: Attachment, folder: Path) -> Path:
    """Where the attachment is now. `folder` is made when it is missing.

    Raises CheckFailed when it is not what was signed: then nothing of it stays. LocalState, Unreachable.
    """
    folder = _folder(folder)
    there = _already(source, attachment, folder)
    if there is not None:
        return there
    with _part(folder, attachment) as (path, file):
        _fetch(context, live, source, attachment, path, file)
        os.fsync(file.fileno())
        found = _name(path, folder, attachment)
    files.sync_folder(folder)
    return found


def _fetch(
    context: Context, live: LiveSession, source: Source, attachment: Attachment, path: Path, file: BinaryIO
) -> None:
    """All of it into `file`, checked."""
    download = _Download(context, live, source, attachment, file)
    resumed = download.resume()
    try:
        try:
            download.fetch()
        except RefusedByRepository:
            raise
        except ProtocolError:
            if not resumed:
                raise
            # What was there already may have been changed here: from the start, and then it counts.
            download.restart()
            download.fetch()
    except RefusedByRepository:
        raise
    except ProtocolError as error:
        path.unlink(missing_ok=True)
        raise CheckFailed(
            "An attachment is not what its author signed, and was not kept. Do not trust it.",
            f"{error}.",
            "Ask the sender to send it again, and tell the operator of the repository.",
        ) from error


class _Download:
    def __init__(
        self, context: Context, live: LiveSession, source: Source, attachment: Attachment, file: BinaryIO
    ) -> None:
        self._context = context
        self._live = live
        self._source = source
        self._attachment = attachment
        self._file = file
        self._stream: AttachmentStream = attachment.stream(source.letter)

    def resume(self) -> bool:
        """Takes the whole chunks that are there, but never the last; whether there were any."""
        size = self._file.seek(0, os.SEEK_END)
        count = min(size // limits.CHUNK_BYTES, self._stream.shape.chunks - 1)
        self._file.truncate(count * limits.CHUNK_BYTES)
        self._file.seek(0)
        for _ in range(count):
            # Sealed again it has the hash of what came: this ciphertext leaves nowhere.
            self._stream.seal(self._file.read(limits.CHUNK_BYTES))
        return count > 0

    def restart(self) -> None:
        self._stream = self._attachment.stream(self._source.letter)
        self._file.seek(0)
        self._file.truncate()

    def fetch(self) -> None:
        """The rest. Raises ProtocolError unless all is what was signed and listed."""
        self._tell()
        with contextlib.closing(self._context.call_all(self._live, self._gets(), IN_FLIGHT)) as results:
            for result in results:
                self._file.write(self._stream.open(result.chunk))
                self._tell()
        self._attachment.require(self._stream)
        self._file.flush()

    def _gets(self) -> Iterator[commands.GetChunk]:
        source, attachment = self._source, self._attachment.listed.id
        for position in range(self._stream.position, self._stream.shape.chunks):
            yield commands.GetChunk(source.author, source.letter, attachment, position)

    def _tell(self) -> None:
        size = self._attachment.part.size
        done = min(self._stream.position * limits.CHUNK_BYTES, size)
        self._context.settings.progress(Transfer(self._attachment.secrets.name, False, done, size))


def _folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=files.PRIVATE_FOLDER)
    except OSError as error:
        raise LocalState(
            f"{folder} is no folder that can be used: {error.strerror}.", action="Name another."
        ) from error
    return folder


def _already(source: Source, attachment: Attachment, folder: Path) -> Path | None:
    """The file of that name, if it is this very attachment: an earlier run has saved it."""
    path = folder / file_names.harmless(attachment.secrets.name)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size != attachment.part.size:
            return None
        stream = attachment.stream(source.letter)
        try:
            for position in range(stream.shape.chunks):
                stream.seal(file.read(stream.shape.chunk_bytes(position)))
            attachment.require(stream)
        except ProtocolError:
            return None
    return path


@contextlib.contextmanager
def _part(folder: Path, attachment: Attachment) -> Iterator[tuple[Path, BinaryIO]]:
    """The hidden file of a download, held by this process alone."""
    path = folder / f".smr-{attachment.listed.id.hex()}.part"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, files.PRIVATE_FILE)
    except OSError as error:
        raise LocalState(
            f"{path} cannot be written: {error.strerror}.", "Nothing was saved.", "Name another folder."
        ) from error
    with os.fdopen(descriptor, "r+b") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise LocalState(f"{path} is no file.", "Nothing was saved.", "Remove it, or name another folder.")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LocalState(
                "Another process is saving this attachment to this folder.",
                "Both at once would spoil it.",
                "Wait until it has ended.",
            ) from error
        yield path, file


def _name(part: Path, folder: Path, attachment: Attachment) -> Path:
    """Gives the complete file its name, or the first free one like it. Nothing is ever written over."""
    name = file_names.harmless(attachment.secrets.name)
    for number in range(1, NUMBERS):
        path = folder / (name if number == 1 else file_names.numbered(name, number))
        try:
            _move(part, path)
        except FileExistsError:
            continue
        return path
    raise ClientError(
        f"There are too many files called {name} in this folder.", "Nothing was saved.", "Name another folder."
    )


def _move(part: Path, path: Path) -> None:
    """Raises FileExistsError when there is anything of that name."""
    try:
        os.link(part, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Without hard links (FAT): the name is taken first, by an empty file that is ours.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, files.PRIVATE_FILE))
        part.replace(path)
    else:
        part.unlink()
