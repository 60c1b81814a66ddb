"""Mailboxes as hash chains, and what the repository signs about them: heads, and placements.

    entry_0 = H(label, repository, mailbox)
    entry_n = H(label, repository, mailbox, n, time, kind, H(routing), object, entry_(n-1))

A repository that drops, replaces, reorders or rolls back an entry cannot show a chain that connects to a head that the
owner has already seen. A head says where a chain ended when it was signed; a placement says of one object at which
places of which chains it lies, and nothing about their ends: it can be made at any time later.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from crypto_core import cbor, cose, labels, limits, schema, suite
from crypto_core.errors import BindingMismatch, ChainBroken
from crypto_core.ids import (
    Digest,
    DigestField,
    LetterIdField,
    MomentField,
    RepositoryId,
    RepositoryIdField,
    UserId,
    UserIdField,
)
from crypto_core.keys import SigningKey, VerifyKey
from crypto_core.schema import Range, Size

NUMBER_MAX = 2**53 - 1


class EntryKind(enum.Enum):
    """What an entry records for the mailbox's owner."""

    RECEIVED = "received"  #: a letter to the owner
    SENT = "sent"  #: a letter by the owner: the copy
    RECEIPT = "receipt"  #: a reading receipt for a letter of the owner
    RECEIPT_SENT = "receipt-sent"  #: a reading receipt by the owner
    ACCEPTANCE = "acceptance"  #: somebody signed for a letter of the owner
    ACCEPTANCE_SENT = "acceptance-sent"  #: the owner signed for a letter
    REFUSAL = "refusal"  #: somebody refused to sign for a letter of the owner
    REFUSAL_SENT = "refusal-sent"  #: the owner refused to sign for a letter
    EXPIRY = "expiry"  #: a letter that was to be signed for was not, in time; in both mailboxes
    TOMBSTONE = "tombstone"  #: the owner deleted a letter from the box


@dataclass(frozen=True, slots=True)
class EntryRouting:
    """Between whom: `author` of the letter or receipt, and its `recipients` in ascending order.

    A tombstone names the letter's author, and the owner of the mailbox as the one recipient.
    """

    letter: LetterIdField
    author: UserIdField
    recipients: Annotated[tuple[UserIdField, ...], Size(1, limits.RECIPIENTS)]

    @property
    def digest(self) -> Digest:
        return suite.labelled_hash(labels.MAILBOX_ROUTING, self.letter, self.author, list(self.recipients))


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: number from 1, the repository's time, kind, routing, and the hash of the stored object."""

    number: Annotated[int, Range(1, NUMBER_MAX)]
    time: MomentField
    kind: EntryKind
    routing: EntryRouting
    object: DigestField

    def hash(self, repository: RepositoryId, mailbox: UserId, previous: Digest) -> Digest:
        return suite.labelled_hash(
            labels.MAILBOX_ENTRY,
            repository,
            mailbox,
            self.number,
            self.time,
            self.kind.value,
            self.routing.digest,
            self.object,
            previous,
        )


@dataclass(frozen=True, slots=True)
class Head:
    """The state of a mailbox: the hash of entry `number` (0: empty), and when the repository signed this."""

    repository: RepositoryIdField
    mailbox: UserIdField
    number: Annotated[int, Range(0, NUMBER_MAX)]
    entry: DigestField
    time: MomentField


@dataclass(frozen=True, slots=True)
class Place:
    """One entry: in whose mailbox, its number, and its hash."""

    mailbox: UserIdField
    number: Annotated[int, Range(1, NUMBER_MAX)]
    entry: DigestField


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the entries lie that one object made, and when the repository signed this."""

    repository: RepositoryIdField
    places: Annotated[tuple[Place, ...], Size(1, limits.RECIPIENTS + 1)]
    time: MomentField


def genesis(repository: RepositoryId, mailbox: UserId) -> Digest:
    """The hash that stands before entry 1."""
    return suite.labelled_hash(labels.MAILBOX, repository, mailbox)


def extend(
    repository: RepositoryId,
    mailbox: UserId,
    number: int,
    previous: Digest,
    entries: Sequence[Entry],
    time: int = 0,
) -> list[Digest]:
    """The hashes of `entries`, which must follow entry `number` with hash `previous` and time `time` without a gap.

    Raises ChainBroken for a gap, a repeat, or a time that goes back.
    """
    hashes: list[Digest] = []
    for expected, entry in enumerate(entries, number + 1):
        if entry.number != expected:
            raise ChainBroken(f"mailbox entry {expected} is missing: entry {entry.number} came in its place")
        if entry.time < time:
            raise ChainBroken(f"mailbox entry {expected} is dated before the one that it follows")
        previous, time = entry.hash(repository, mailbox, previous), entry.time
        hashes.append(previous)
    return hashes


def sign_head(key: SigningKey, head: Head) -> bytes:
    """The head as a COSE_Sign1 of the repository."""
    return _sign(key, labels.MAILBOX_HEAD, head)


def read_head(data: bytes, key: VerifyKey, repository: RepositoryId, mailbox: UserId) -> Head:
    """A verified head of this mailbox. Raises ProtocolError."""
    head = schema.from_map(Head, _read(data, limits.KIB, key, labels.MAILBOX_HEAD))
    if head.repository != repository or head.mailbox != mailbox:
        raise BindingMismatch("a head of another mailbox")
    return head


def sign_placement(key: SigningKey, placement: Placement) -> bytes:
    """The placement as a COSE_Sign1 of the repository: one signature, however many mailboxes."""
    return _sign(key, labels.MAILBOX_PLACEMENT, placement)


def read_placement(data: bytes, key: VerifyKey, repository: RepositoryId) -> Placement:
    """A verified placement of this repository, in whatever mailboxes. Raises ProtocolError."""
    found = _read(data, limits.PLACEMENT_BYTES, key, labels.MAILBOX_PLACEMENT)
    placement = schema.from_map(Placement, found)
    if placement.repository != repository:
        raise BindingMismatch("a placement of another repository")
    return placement


def is_placement(data: bytes) -> bool:
    """Whether this says that it is a placement, and not a head. Raises ProtocolError. To be verified afterwards."""
    return cose.label_of(cose.read_sign1(data, limits.PLACEMENT_BYTES).headers) == labels.MAILBOX_PLACEMENT


def _sign(key: SigningKey, label: str, statement: Head | Placement) -> bytes:
    headers = {cose.ALG: cose.ALG_ED25519, cose.LABEL: label}
    return cose.sign1(key, headers, cbor.encode(schema.to_map(statement)))


def _read(data: bytes, most: int, key: VerifyKey, label: str) -> object:
    message = cose.read_sign1(data, most)
    payload = message.verify(key)
    cose.expect(message.headers, cose.ALG_ED25519, label)
    return cbor.decode(payload, most)
