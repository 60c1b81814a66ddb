"""The citizen's own mailbox as far as it was verified: one record an entry, and the highest signed head.

    entries   records of 85 bytes: entry hash 32, time 8 (ms), kind 1, author 28, letter id 16
    head      the COSE_Sign1 of the repository over (number, entry hash) of the last record

Records are appended and flushed before the head is replaced, so that after a crash there may be records beyond the
head; they are dropped when the file is read next. Fewer records than the head says is damage, never believed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from client.state import files
from client.state.home import Home
from crypto_core import mailbox
from crypto_core.ids import (
    DIGEST_BYTES,
    LETTER_ID_BYTES,
    USER_ID_BYTES,
    Digest,
    LetterId,
    Milliseconds,
    RepositoryId,
    UserId,
)
from crypto_core.mailbox import Entry, EntryKind

_TIME_BYTES: Final = 8
_RECORD_BYTES: Final = DIGEST_BYTES + _TIME_BYTES + 1 + USER_ID_BYTES + LETTER_ID_BYTES
_KINDS: Final = (
    EntryKind.RECEIVED,
    EntryKind.SENT,
    EntryKind.RECEIPT,
    EntryKind.RECEIPT_SENT,
    EntryKind.TOMBSTONE,
    EntryKind.ACCEPTANCE,
    EntryKind.ACCEPTANCE_SENT,
    EntryKind.REFUSAL,
    EntryKind.REFUSAL_SENT,
    EntryKind.EXPIRY,
)
_HEAD_NUMBER_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Link:
    """One verified entry of the chain, in short."""

    hash: Digest
    time: int
    kind: EntryKind
    author: UserId
    letter: LetterId

    @classmethod
    def of(cls, entry: Entry, entry_hash: Digest) -> Link:
        return cls(entry_hash, entry.time, entry.kind, entry.routing.author, entry.routing.letter)

    def deletes(self, author: UserId, letter: LetterId) -> bool:
        """Whether this is the tombstone of the letter by `author`."""
        return (self.kind, self.author, self.letter) == (EntryKind.TOMBSTONE, author, letter)

    def encode(self) -> bytes:
        kind = bytes([_KINDS.index(self.kind)])
        return self.hash + self.time.to_bytes(_TIME_BYTES, "big") + kind + self.author + self.letter

    @classmethod
    def decode(cls, record: bytes) -> Link:
        at = DIGEST_BYTES + _TIME_BYTES
        author_at = at + 1
        letter_at = author_at + USER_ID_BYTES
        return cls(
            Digest(record[:DIGEST_BYTES]),
            int.from_bytes(record[DIGEST_BYTES:at], "big"),
            _KINDS[record[at]],
            UserId(record[author_at:letter_at]),
            LetterId(record[letter_at:]),
        )


@dataclass(frozen=True, slots=True)
class Chain:
    """A verified chain from entry 1 on. `head` is the signed head of its last entry, empty for a new mailbox."""

    repository: RepositoryId
    mailbox: UserId
    links: tuple[Link, ...]
    head: bytes

    @property
    def number(self) -> int:
        """The highest verified entry; 0 for an empty mailbox."""
        return len(self.links)

    @property
    def time(self) -> int:
        return self.links[-1].time if self.links else 0

    @property
    def tombstones(self) -> frozenset[tuple[UserId, LetterId]]:
        """Author and id of every letter that was deleted."""
        return frozenset((each.author, each.letter) for each in self.links if each.kind is EntryKind.TOMBSTONE)

    def deleted(self, author: UserId, letter: LetterId) -> Milliseconds | None:
        """When the letter by `author` was deleted; None while it was not."""
        return next((Milliseconds(each.time) for each in self.links if each.deletes(author, letter)), None)

    def hash_at(self, number: int) -> Digest:
        """The hash of entry `number`, which must not be beyond the highest; of number 0, what stands before entry 1."""
        return self.links[number - 1].hash if number else mailbox.genesis(self.repository, self.mailbox)


class ChainStore:
    """The chain of one citizen in one home."""

    def __init__(self, home: Home, repository: RepositoryId, owner: UserId) -> None:
        self._home = home
        self._repository = repository
        self._owner = owner
        self._folder = home.chain(owner)

    def load(self) -> Chain:
        """Raises LocalState when the files contradict each other."""
        with self._home.lock("chain"):
            return self._load()

    def append(self, number: int, links: Sequence[Link], head: bytes) -> Chain:
        """Adds verified `links` after entry `number`, up to the one that the verified signed `head` names.

        Another process may have added some of them meanwhile: those must be the same. Raises LocalState otherwise.
        """
        with self._home.lock("chain"):
            chain = self._load()
            known = min(chain.number - number, len(links))
            if known < 0 or chain.links[number : number + known] != tuple(links[:known]):
                raise files.unusable(self._folder, "two processes saw different mailboxes")
            fresh = tuple(links[known:])
            if not fresh:
                return chain
            self._write(fresh)
            result = Chain(self._repository, self._owner, chain.links + fresh, head)
            files.write(self._folder / "head", result.number.to_bytes(_HEAD_NUMBER_BYTES, "big") + head)
            return result

    def _load(self) -> Chain:
        head = files.read(self._folder / "head")
        records = files.read(self._folder / "entries") or b""
        if head is None:
            self._cut(0, len(records))
            return Chain(self._repository, self._owner, (), b"")
        number = int.from_bytes(head[:_HEAD_NUMBER_BYTES], "big")
        wanted = number * _RECORD_BYTES
        if len(head) <= _HEAD_NUMBER_BYTES or len(records) < wanted:
            raise files.unusable(self._folder, "there are fewer entries than its head says")
        self._cut(wanted, len(records))
        try:
            links = tuple(Link.decode(records[at : at + _RECORD_BYTES]) for at in range(0, wanted, _RECORD_BYTES))
        except IndexError as error:
            raise files.unusable(self._folder, "an entry of an unknown kind") from error
        return Chain(self._repository, self._owner, links, head[_HEAD_NUMBER_BYTES:])

    def _cut(self, wanted: int, found: int) -> None:
        """Drops what a crash left behind the head."""
        if found > wanted:
            with self._entries().open("r+b") as file:
                file.truncate(wanted)
                os.fsync(file.fileno())

    def _write(self, links: Sequence[Link]) -> None:
        files.private_folder(self._folder)
        descriptor = os.open(self._entries(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, files.PRIVATE_FILE)
        with os.fdopen(descriptor, "ab") as file:
            file.write(b"".join(link.encode() for link in links))
            file.flush()
            os.fsync(file.fileno())
        files.sync_folder(self._folder)

    def _entries(self) -> Path:
        return self._folder / "entries"
