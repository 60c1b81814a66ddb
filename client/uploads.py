"""Attachments on their way to the repository: read, sealed and published chunk by chunk, several under way at a time.

Before anything leaves, `state.uploads` notes what an interrupted upload needs. Repeated, the same command asks what is
there, seals everything again to have its hashes, and sends what is missing. A file that has changed meanwhile starts
anew under another key.
"""

from __future__ import annotations

import mimetypes
import os
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from client.context import Context
from client.errors import CheckFailed, LocalState, NotFound, TooLarge, Usage
from client.settings import Transfer
from client.state import uploads as journals
from client.state.session import LiveSession
from client.state.uploads import Journal, Planned
from crypto_core import commands, ids, limits, suite
from crypto_core.commands import ErrorCode, RefusedByRepository, UploadResult
from crypto_core.documents import MEDIA_TYPE_BYTES, Part
from crypto_core.ids import LetterId
from crypto_core.letter import Attachment
from crypto_core.sealed import Listed
from crypto_core.stream import AttachmentStream, Shape

#: Chunks under way at a time: the network, the broker and the workers have something to do while the next is sealed.
IN_FLIGHT: Final = 8
#: Chunks whose hashes are written to the disk together.
RECORDED_TOGETHER: Final = 8
#: How often a file that changes while it is read is begun anew.
ATTEMPTS: Final = 3
UNKNOWN_MEDIA_TYPE: Final = "application/octet-stream"


class _Changed(Exception):
    """The file is not what was sealed of it before, or not as long as it was."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Attachments that are all with the repository, for the letter with this id."""

    letter: LetterId
    attachments: tuple[Attachment, ...]
    journal: Journal | None

    def end(self) -> None:
        """The letter was accepted: nothing is to be gone on with."""
        if self.journal is not None:
            self.journal.remove()


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of this machine that can be attached as it is now. `name` is what its readers will see."""

    path: Path
    name: str
    size: int  #: bytes


def attachable(paths: Sequence[Path]) -> tuple[LocalFile, ...]:
    """These files as `uploaded` would take them. Raises NotFound, Usage, TooLarge as it does; sends nothing."""
    return tuple(LocalFile(each.file, each.secrets.name, each.size) for each in _planned(paths))


@contextmanager
def uploaded(context: Context, live: LiveSession, paths: Sequence[Path]) -> Iterator[Uploaded]:
    """Uploads these files, or goes on where an earlier try ended. The caller sends the letter, then calls `end`.

    Raises NotFound, Usage, TooLarge before anything is sent; Unreachable when the same command is to be repeated.
    """
    if not paths:
        yield Uploaded(ids.new_letter_id(), (), None)
        return
    wanted = _planned(paths)
    keys = live.sealing_keys()
    own = live.own_sealing_key()
    if own is None or own.key_id not in keys:
        raise LocalState("The kept session is not of this version.", action="Close it: smr session close.")
    with journals.held(context.home, keys, keys[own.key_id], wanted) as journal:
        attachments = tuple(_upload(context, live, journal, number) for number in range(len(journal.files)))
        yield Uploaded(journal.letter, attachments, journal)


def _planned(paths: Sequence[Path]) -> list[Planned]:
    if len(paths) > limits.ATTACHMENTS:
        raise TooLarge(
            f"{len(paths)} attachments; a letter has {limits.ATTACHMENTS} at most.",
            "Nothing was signed or sent.",
            "Send several letters, or put the files into an archive.",
        )
    return [_plan(path) for path in paths]


def _plan(path: Path) -> Planned:
    try:
        found = path.stat()
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}.", "Nothing was sent.", "Check its name.") from error
    if not stat.S_ISREG(found.st_mode):
        raise Usage(f"{path} is not a file.", "Only files can be attached.", "Put a folder into an archive first.")
    if found.st_size > limits.ATTACHMENT_BYTES:
        raise TooLarge(
            f"{path} has {found.st_size} bytes; an attachment has {limits.ATTACHMENT_BYTES} at most.",
            "Nothing was signed or sent.",
            "Divide it first.",
        )
    return Planned.fresh(path.absolute(), found.st_size, _name(path))


def _name(path: Path) -> str:
    """The file's name as text that every system can write, within its limit."""
    text = os.fsencode(path.name).decode("utf-8", "replace")
    data = unicodedata.normalize("NFC", text).encode("utf-8")
    return data[: limits.ATTACHMENT_NAME_BYTES].decode("utf-8", "ignore")


def _upload(context: Context, live: LiveSession, journal: Journal, number: int) -> Attachment:
    for _ in range(ATTEMPTS):
        planned = journal.files[number]
        try:
            return _Upload(context, live, journal, planned).run()
        except _Changed:
            journal.restart(number, _plan(planned.file))
        except RefusedByRepository as error:
            # Begun with another size, or just being removed there: another id is free.
            if error.code is not ErrorCode.CONFLICT:
                raise
            journal.restart(number, _plan(planned.file))
    raise CheckFailed(
        f"{journal.files[number].file} changes while it is read.",
        "What would be signed would be no state that it ever had.",
        "Wait until nothing writes to it, or attach a copy.",
    )


class _Upload:
    """One pass over one file."""

    def __init__(self, context: Context, live: LiveSession, journal: Journal, planned: Planned) -> None:
        self._context = context
        self._live = live
        self._journal = journal
        self._planned = planned
        # Chunks that were there already, as the thread that seals counts them, and those that were sent.
        self._found = 0
        self._sent = 0
        self._stream: AttachmentStream = planned.secrets.stream(journal.letter, planned.attachment, planned.size)

    def run(self) -> Attachment:
        """Raises _Changed, RefusedByRepository, Unreachable."""
        planned, shape = self._planned, self._stream.shape
        begin = commands.Upload(self._journal.letter, planned.attachment, shape.sealed_size)
        found: UploadResult = self._context.call(self._live, begin)
        self._tell()
        with (
            _opened(planned) as file,
            # Closed before the file and the journal are: until then another thread reads and seals.
            closing(self._context.call_all(self._live, self._puts(file, found.there), IN_FLIGHT)) as results,
        ):
            for _ in results:
                self._sent += 1
                self._tell()
        self._tell()
        finished = self._stream.finish()
        return Attachment(
            Listed(planned.attachment, shape.sealed_size, finished.hash),
            Part(_media_type(planned.secrets.name), planned.size, finished.digest),
            planned.secrets,
        )

    def _tell(self) -> None:
        done = min((self._found + self._sent) * limits.CHUNK_BYTES, self._planned.size)
        self._context.settings.progress(Transfer(self._planned.secrets.name, True, done, self._planned.size))

    def _puts(self, file: BinaryIO, there: bytes) -> Iterator[commands.PutChunk]:
        """The chunks that are missing there, some sealed at a time. None leaves before its hash is on the disk."""
        planned, shape = self._planned, self._stream.shape
        recorded = self._journal.recorded(planned)
        for first in range(0, shape.chunks, RECORDED_TOGETHER):
            positions = range(first, min(first + RECORDED_TOGETHER, shape.chunks))
            sealed: list[bytes] = []
            hashes: list[bytes] = []
            for position in positions:
                sealed.append(self._stream.seal(_read(file, shape, position)))
                hashes.append(self._stream.last_hash)
            self._record(first, hashes, recorded)
            for position, chunk in zip(positions, sealed, strict=True):
                if _is_there(there, position):
                    self._found += 1
                else:
                    yield commands.PutChunk(self._journal.letter, planned.attachment, position, chunk)
        if file.read(1):
            raise _Changed

    def _record(self, first: int, hashes: Sequence[bytes], recorded: Sequence[bytes]) -> None:
        """Notes what is about to leave. Raises _Changed when something else was sealed there before."""
        before = recorded[first : first + len(hashes)]
        if not all(suite.equal(each, known) for each, known in zip(hashes, before, strict=False)):
            raise _Changed
        if len(before) < len(hashes):
            self._journal.record(self._planned, first, hashes)


@contextmanager
def _opened(planned: Planned) -> Iterator[BinaryIO]:
    try:
        file = planned.file.open("rb")
    except OSError as error:
        raise NotFound(
            f"{planned.file} cannot be read: {error.strerror}.", "Nothing was signed or sent.", "Check its name."
        ) from error
    with file:
        yield file


def _read(file: BinaryIO, shape: Shape, position: int) -> bytes:
    piece = file.read(shape.chunk_bytes(position))
    if len(piece) != shape.chunk_bytes(position):
        raise _Changed
    return piece


def _is_there(there: bytes, position: int) -> bool:
    return position // 8 < len(there) and bool(there[position // 8] >> position % 8 & 1)


def _media_type(name: str) -> str:
    found = mimetypes.guess_type(name)[0]
    return found if found is not None and len(found.encode()) <= MEDIA_TYPE_BYTES else UNKNOWN_MEDIA_TYPE
