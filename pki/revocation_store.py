"""The folder in which fetched revocation data is kept, shared by threads and processes.

Rules: nothing in it is believed: who reads an item checks its signature again, so a changed file counts for nothing. A
file is written beside and renamed. Who fetches an item holds its lock, so that of many that want it one fetches and the
others find it. When its fetching
began is the file's modification time. The folder has a limit in bytes and items; the
items fetched longest ago go first.

    <digest>.crl, <digest>.ocsp   an item, as it came        <digest>.failed   why it could not be had last time
    <digest>.json                 where from, for whom       lock-<number>     locks
"""

from __future__ import annotations

import base64
import contextlib
import enum
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.errors import CertificateError, RevocationUnavailable
from pki.fetchers import CRL_BYTES_MAX, OCSP_BYTES_MAX
from pki.files import write_atomically
from pki.identity import load_certificate

STORE_BYTES_MAX: Final = 256 * 1024 * 1024  #: all items together
STORE_ITEMS_MAX: Final = 4096
_NOTE_BYTES_MAX: Final = 32 * 1024
_REASON_BYTES_MAX: Final = 1024
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LOCKS: Final = 64  #: a fixed number of lock files, so that none has to be cleared away


class Kind(enum.Enum):
    """What an item is; the value is the ending of its file."""

    CRL = "crl"
    OCSP = "ocsp"


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that can be fetched: a list at an address, or a responder's answer about one certificate."""

    kind: Kind
    url: str
    issuer: x509.Certificate  #: who signs it, or appoints who does
    certificate: x509.Certificate | None = None  #: whom an OCSP answer is about

    @property
    def digest(self) -> str:
        """The name of its files."""
        about = "" if self.certificate is None else f"|{self.issuer.subject.rfc4514_string()}"
        serial = "" if self.certificate is None else f"|{self.certificate.serial_number:x}"
        return hashlib.sha256(f"{self.url}{about}{serial}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Kept:
    """An item on disk: bytes that are not believed yet, and when their fetching began."""

    data: bytes
    fetched_at: datetime


class RevocationStore:
    """The folder. Thread-safe."""

    def __init__(self, folder: Path, *, max_bytes: int = STORE_BYTES_MAX, max_items: int = STORE_ITEMS_MAX) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._max_items = max_items

    @contextlib.contextmanager
    def fetching(self, item: Item) -> Iterator[None]:
        """Hold the item's lock; who waits for it waits as long as one fetch may take. Raises RevocationUnavailable."""
        path = self.folder / f"lock-{int(item.digest[:8], 16) % _LOCKS:02}"
        try:
            lock = path.open("ab")
        except OSError as error:
            raise self._unusable(item) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def load(self, item: Item) -> Kept | None:
        """What is kept of an item, unverified; None where there is nothing."""
        limit = CRL_BYTES_MAX if item.kind is Kind.CRL else OCSP_BYTES_MAX
        try:
            with self._file(item).open("rb") as file:
                data = file.read(limit + 1)
                fetched = _moment(os.fstat(file.fileno()))
        except (OSError, ValueError, OverflowError):
            return None
        return Kept(data, fetched) if len(data) <= limit else None

    def keep(self, item: Item, data: bytes, now: datetime) -> None:
        """Keep what was verified; `now`: when fetching began. Raises RevocationUnavailable for an unwritable folder."""
        path = self._file(item)
        try:
            kept = self.load(item)
            if kept is None or kept.data != data:
                write_atomically(path, data)
                write_atomically(path.with_suffix(".json"), _note(item))
            _stamp(path, now)
            path.with_suffix(".failed").unlink(missing_ok=True)
            self._prune(path)
        except OSError as error:
            raise self._unusable(item) from error

    def failed(self, item: Item, reason: str, now: datetime) -> None:
        """Note that an item could not be had, for other threads and processes. A note that fails is not missed."""
        path = self._file(item).with_suffix(".failed")
        with contextlib.suppress(OSError):
            write_atomically(path, reason.encode()[:_REASON_BYTES_MAX])
            _stamp(path, now)
            notes = sorted(self.folder.glob("*.failed"), key=_age)
            for old in notes[: -self._max_items]:
                old.unlink(missing_ok=True)

    def last_failure(self, item: Item) -> tuple[datetime, str] | None:
        """When and why an item could not be had, if that came after what is kept."""
        path = self._file(item).with_suffix(".failed")
        try:
            with path.open("rb") as file:
                reason = file.read(_REASON_BYTES_MAX).decode("utf-8", "replace")
                return _moment(os.fstat(file.fileno())), reason
        except (OSError, ValueError, OverflowError):
            return None

    def items(self) -> list[Item]:
        """Every item that is kept, from the notes beside them; unreadable ones are passed over."""
        read = (_read_note(path) for path in sorted(self.folder.glob("*.json"))[: self._max_items])
        return [item for item in read if item is not None]

    def _prune(self, newest: Path) -> None:
        found = [
            (stat.st_mtime, stat.st_size, path)
            for path in self.folder.iterdir()
            if path.suffix in {f".{kind.value}" for kind in Kind} and (stat := _stat(path)) is not None
        ]
        found.sort(reverse=True)
        total = 0
        for index, (_, size, path) in enumerate(found):
            total += size
            if path != newest and (total > self._max_bytes or index >= self._max_items):
                for suffix in (path.suffix, ".json", ".failed"):
                    path.with_suffix(suffix).unlink(missing_ok=True)

    def _file(self, item: Item) -> Path:
        return self.folder / f"{item.digest}.{item.kind.value}"

    def _unusable(self, item: Item) -> RevocationUnavailable:
        return RevocationUnavailable(
            f"What {item.url!r} says could not be kept in {self.folder}.",
            "It would have to be fetched for every check.",
            "Check the folder's permissions and space.",
        )


def _stamp(path: Path, moment: datetime) -> None:
    """Set a file's times, to the microsecond."""
    nanoseconds = (moment - _EPOCH) // timedelta(microseconds=1) * 1000
    os.utime(path, ns=(nanoseconds, nanoseconds))


def _moment(stat: os.stat_result) -> datetime:
    return _EPOCH + timedelta(microseconds=stat.st_mtime_ns // 1000)


def _age(path: Path) -> int:
    stat = _stat(path)
    return 0 if stat is None else stat.st_mtime_ns


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None  # another process was faster


def _note(item: Item) -> bytes:
    note = {"url": item.url, "kind": item.kind.value, "issuer": _text(item.issuer)}
    if item.certificate is not None:
        note["certificate"] = _text(item.certificate)
    return json.dumps(note).encode()


def _read_note(path: Path) -> Item | None:
    """A note is a convenience: without it an item is found again through the next certificate that names it."""
    try:
        with path.open("rb") as file:
            note = json.loads(file.read(_NOTE_BYTES_MAX).decode("utf-8"))
        about = note.get("certificate")
        return Item(
            Kind(note["kind"]),
            str(note["url"]),
            _certificate(note["issuer"]),
            None if about is None else _certificate(about),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, CertificateError):
        return None


def _text(certificate: x509.Certificate) -> str:
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()


def _certificate(text: str) -> x509.Certificate:
    return load_certificate(base64.b64decode(text, validate=True))
