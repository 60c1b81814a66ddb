"""Evidence of delivery: what the repository says about one letter, in a form that people and courts can check.

A canonical JSON document that lists mailbox entries about the letter, as far as who asks may know them. Each names the
citizen's signed document that it records, and its signature, by their SHA-256: `sha256sum` tells whether they are the
ones at hand. The repository signs it with a key that serves for nothing else (see `pki.evidence`); no card ever signs
this type, and the repository signs no other.

    sent           submission accepted: the letter is in its author's mailbox
    received       content consigned: it is in a recipient's mailbox
    receipt        content handed over: the reader's receipt is in the author's mailbox
    receipt-sent   the same, in the reader's own mailbox
    acceptance, refusal, expiry, …-sent
                   what a recipient chose about a letter that opens against a signature
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from crypto_core import canonical_json, limits, schema
from crypto_core.documents import VERSION
from crypto_core.errors import BindingMismatch
from crypto_core.ids import (
    DigestField,
    LetterIdField,
    MomentField,
    RepositoryId,
    RepositoryIdField,
    UserIdField,
)
from crypto_core.mailbox import NUMBER_MAX, EntryKind
from crypto_core.schema import Range, Size


@dataclass(frozen=True, slots=True)
class RecordedEntry:
    """One entry of one mailbox: its place and hash in the chain, and which signed document by whom it records.

    `slip` (SHA-256 of its document) belongs to letters that open against a signature, and to choices about them. An
    expiry records no document.
    """

    mailbox: UserIdField
    number: Annotated[int, Range(1, NUMBER_MAX)]
    entry: DigestField
    kind: EntryKind
    time: MomentField
    author: UserIdField
    document: DigestField | None
    signature: DigestField | None
    slip: DigestField | None = None


@dataclass(frozen=True, slots=True)
class DeliveryEvidence:
    """What the repository has recorded about the letter `letter` by `author`. `time`: when it says so."""

    TYPE: ClassVar[str] = "delivery-evidence"

    repository: RepositoryIdField
    author: UserIdField
    letter: LetterIdField
    entries: Annotated[tuple[RecordedEntry, ...], Size(1, limits.DELIVERY_ENTRIES)]
    time: MomentField


@dataclass(frozen=True, slots=True)
class StampedEntry:
    """A leaf of a tree whose root is stamped: one recorded entry, and which letter of which repository it concerns."""

    TYPE: ClassVar[str] = "stamped-entry"

    repository: RepositoryIdField
    author: UserIdField
    letter: LetterIdField
    entry: RecordedEntry


@dataclass(frozen=True, slots=True)
class EntryStamp:
    """The stamp of entry `entry` (from 0) of evidence: the place of its leaf in a tree, the proof, and the token.

    The token (RFC 3161, DER) is about the root of the tree.
    """

    entry: Annotated[int, Range(0, limits.DELIVERY_ENTRIES - 1)]
    index: Annotated[int, Range(0, limits.STAMP_LEAVES - 1)]
    size: Annotated[int, Range(1, limits.STAMP_LEAVES)]
    path: Annotated[tuple[DigestField, ...], Size(0, limits.STAMP_PATH)]
    token: Annotated[bytes, Size(1, limits.STAMP_TOKEN_BYTES)]


def leaf_of(evidence: DeliveryEvidence, entry: RecordedEntry) -> StampedEntry:
    """The leaf that stands for an entry of evidence."""
    return StampedEntry(evidence.repository, evidence.author, evidence.letter, entry)


def encode_leaf(leaf: StampedEntry) -> bytes:
    """The canonical bytes whose leaf hash (`merkle`) stands in a tree."""
    return canonical_json.encode({**schema.to_document(leaf), "type": leaf.TYPE, "version": VERSION})


def encode(evidence: DeliveryEvidence) -> bytes:
    """The canonical bytes that are signed. Raises Malformed or LimitExceeded."""
    members = {**schema.to_document(evidence), "type": evidence.TYPE, "version": VERSION}
    return canonical_json.encode(members)


def decode(data: bytes, repository: RepositoryId) -> DeliveryEvidence:
    """The evidence of this repository. Raises Malformed, or BindingMismatch for anything else that is a document."""
    members = canonical_json.decode(data, limits.DELIVERY_EVIDENCE_BYTES)
    if type(members) is not dict:
        raise BindingMismatch("evidence of delivery is a JSON object")
    found = (members.pop("type", None), members.pop("version", None), members.get("repository"))
    if found != (DeliveryEvidence.TYPE, VERSION, repository) or type(found[1]) is not int:
        raise BindingMismatch(f"not evidence of delivery of version {VERSION} by the repository {repository}")
    return schema.from_document(DeliveryEvidence, members)
