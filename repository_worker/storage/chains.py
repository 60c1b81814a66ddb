"""Entries into mailbox chains: which ones an object makes, and how chains are extended in memory.

    effect ── placing ──▶ Placing ── Numbering.place ──▶ entries with numbers and hashes, and the document to store

Nothing here speaks to the database. What an effect needs whatever its numbers are (hashes, sizes, the greater part of
its document) is made once, by `placing`; numbers and hashes may have to be made again when somebody else was faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from crypto_core import sign_for
from crypto_core.choice import Choice
from crypto_core.ids import DIGEST_BYTES, Digest, Milliseconds, RepositoryId, UserId
from crypto_core.limits import MIB
from crypto_core.mailbox import Entry, EntryKind, EntryRouting
from crypto_core.sealed import SealedObject
from repository_worker.effects import Change, Placed, StoreChoice, StoreLetter, StoreReceipt, StoreTombstone
from repository_worker.errors import MailboxFull, StorageError
from repository_worker.storage import documents
from repository_worker.storage.documents import Document

#: What one mailbox may hold unless the operator says otherwise: entries, and bytes of sealed objects and bodies.
MAILBOX_ENTRIES: Final = 1_000_000
MAILBOX_BYTES: Final = 10 * 1024 * MIB
#: Bytes of attachments that one citizen may have waiting for letters, unless the operator says otherwise.
UPLOAD_BYTES: Final = 8 * 1024 * MIB
#: About what an entry takes in its object's document; bytes.
ENTRY_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Quota:
    """How much one mailbox may hold, and how much may wait for the letters of one citizen."""

    entries: int = MAILBOX_ENTRIES
    bytes: int = MAILBOX_BYTES
    upload_bytes: int = UPLOAD_BYTES


DEFAULT_QUOTA: Final = Quota()


@dataclass(frozen=True, slots=True)
class Tip:
    """The end of a mailbox's chain: its newest entry (number 0: none yet), and the bytes of all its entries."""

    number: int
    hash: Digest
    time: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Planned:
    """An entry to be made. `bytes`: what its owner would fetch, less what a tombstone frees."""

    mailbox: UserId
    kind: EntryKind
    bytes: int


@dataclass(frozen=True, slots=True)
class Placing:
    """Where an object goes: the entries to be made, all with one routing, and the document without them.

    `size`: about what the document takes; bytes.
    """

    routing: EntryRouting
    object: Digest
    now: Milliseconds
    entries: tuple[Planned, ...]
    size: int
    document: Document = field(repr=False)

    @property
    def owners(self) -> set[UserId]:
        return {each.mailbox for each in self.entries}


def placing(change: Change) -> Placing:
    """Where the letter, the receipt, the choice or the tombstone of this change goes."""
    match change.effect:
        case StoreLetter() as effect:
            return _of_letter(effect, change)
        case StoreReceipt() as effect:
            return _of_receipt(effect, change)
        case StoreChoice() as effect:
            return _of_choice(effect, change)
        case StoreTombstone() as effect:
            return _of_tombstone(effect, change)
        case _:
            raise StorageError("an effect that makes no entry")


def _of_letter(effect: StoreLetter, change: Change) -> Placing:
    """`sent` for its author, `received` for each recipient."""
    sealed = effect.letter
    letter, author, recipients = sealed.routing.letter, sealed.routing.author, sealed.recipients
    who = [(author, EntryKind.SENT), *((user, EntryKind.RECEIVED) for user in recipients)]
    document = {"_id": documents.letter_key(author, letter), **documents.body_fields(effect.body)}
    routing = EntryRouting(letter, author, recipients)
    beside = len(effect.body)
    if effect.to_sign is not None:
        document.update(documents.slip_fields(effect.to_sign))
        beside += effect.to_sign.slip.size
    found = _placing(change, sealed, routing, author, effect.now, who, document, beside)
    if effect.to_sign is None:
        return found
    recorded = sign_for.object_hash(found.object, effect.to_sign.slip.digest)
    return replace(found, object=recorded, document={**found.document, "object": recorded})


def _of_receipt(effect: StoreReceipt, change: Change) -> Placing:
    """`receipt-sent` for its reader, `receipt` for the author of the letter."""
    sealed, author = effect.receipt, effect.letter_author
    letter, reader = sealed.routing.letter, sealed.routing.author
    who = [(reader, EntryKind.RECEIPT_SENT), (author, EntryKind.RECEIPT)]
    document: Document = {"_id": documents.receipt_key(author, letter, reader)}
    return _placing(change, sealed, EntryRouting(letter, reader, (author,)), author, effect.now, who, document, 0)


#: The reader's entry, and the author's.
_CHOICE_KINDS: Final = {
    Choice.ACCEPTED: (EntryKind.ACCEPTANCE_SENT, EntryKind.ACCEPTANCE),
    Choice.REFUSED: (EntryKind.REFUSAL_SENT, EntryKind.REFUSAL),
    Choice.EXPIRED: (EntryKind.EXPIRY, EntryKind.EXPIRY),
}


def _of_choice(effect: StoreChoice, change: Change) -> Placing:
    """One entry for the reader, one for the author of the letter."""
    author, letter, reader, reason = effect.author, effect.letter, effect.reader, effect.reason
    routing = EntryRouting(letter, reader, (author,))
    document = {
        "_id": documents.choice_key(author, letter, reader),
        **documents.routing_fields(routing, author),
        **documents.claim(change.counter),
        **documents.choice_field(effect.choice),
    }
    size = effect.choice.size
    if reason is not None:
        document.update(documents.sealed_fields(reason, reason.view(reader)))
        size += len(reason.protected) + len(reason.ciphertext) + sum(len(wrap) for _, wrap in reason.wraps)
    recorded = effect.choice.object_hash(reader, reason.object_hash if reason else None)
    entries = tuple(
        Planned(user, kind, size)
        for user, kind in zip((reader, author), _CHOICE_KINDS[effect.choice.choice], strict=True)
    )
    total = size + ENTRY_BYTES * len(entries)
    return Placing(routing, recorded, effect.now, entries, total, {**document, "object": recorded})


def _of_tombstone(effect: StoreTombstone, change: Change) -> Placing:
    """One entry for the owner of the mailbox."""
    deletion, size = effect.deletion, effect.deletion.size
    routing = EntryRouting(effect.letter, effect.author, (effect.owner,))
    document = {
        "_id": documents.tombstone_key(effect.author, effect.letter, effect.owner),
        **documents.routing_fields(routing, effect.author),
        **documents.claim(change.counter),
        **documents.deletion_field(deletion),
        "object": deletion.object_hash,
    }
    entries = (Planned(effect.owner, EntryKind.TOMBSTONE, size - effect.freed),)
    return Placing(routing, deletion.object_hash, effect.now, entries, size + ENTRY_BYTES, document)


def _placing(
    change: Change,
    sealed: SealedObject,
    routing: EntryRouting,
    about: UserId,
    now: Milliseconds,
    who: list[tuple[UserId, EntryKind]],
    document: Document,
    body_bytes: int,
) -> Placing:
    view = sealed.view(routing.author)
    wraps = dict(sealed.wraps)
    shared = len(sealed.protected) + len(sealed.ciphertext) + DIGEST_BYTES * len(wraps) + body_bytes
    attached = sum(each.size for each in sealed.routing.attachments)
    try:
        entries = tuple(Planned(user, kind, shared + attached + len(wraps[user])) for user, kind in who)
    except KeyError as error:
        raise StorageError("an object for somebody for whom it is not sealed") from error
    document.update(documents.routing_fields(routing, about), **documents.sealed_fields(sealed, view))
    document.update(documents.claim(change.counter))
    size = shared + sum(map(len, wraps.values())) + ENTRY_BYTES * len(entries)
    return Placing(routing, document["object"], now, entries, size, document)


class Numbering:
    """The chains of some mailboxes, extended in memory from where they were found to end."""

    def __init__(self, repository: RepositoryId, tips: Mapping[UserId, Tip], quota: Quota) -> None:
        self._repository = repository
        self._tips = dict(tips)
        self._quota = quota

    def place(self, placing: Placing) -> tuple[tuple[Placed, ...], dict[UserId, Tip], Document]:
        """Puts one object into all of its mailboxes: its entries, the new ends of these chains, and its document.

        All of its entries bear one time, later than nothing before it. Raises StorageError for somebody who has no
        mailbox, MailboxFull; then nothing is changed.
        """
        tips = self._own(placing)
        moment = Milliseconds(max(placing.now, *(tip.time for tip in tips.values())))
        placed: list[Placed] = []
        totals: list[int] = []
        for each in placing.entries:
            tip = tips[each.mailbox]
            entry = Entry(tip.number + 1, moment, each.kind, placing.routing, placing.object)
            digest = entry.hash(self._repository, each.mailbox, tip.hash)
            total = tip.bytes + each.bytes
            # There is one tombstone for a letter at most, and who makes room must not be told that there is none.
            full = entry.number > self._quota.entries or total > self._quota.bytes
            if full and each.kind is not EntryKind.TOMBSTONE:
                raise MailboxFull(each.mailbox)
            tips[each.mailbox] = Tip(entry.number, digest, moment, total)
            placed.append(Placed(each.mailbox, entry, digest))
            totals.append(total)
        self._tips.update(tips)
        return tuple(placed), tips, {**placing.document, **documents.entry_fields(placed, totals)}

    def _own(self, placing: Placing) -> dict[UserId, Tip]:
        try:
            return {owner: self._tips[owner] for owner in placing.owners}
        except KeyError as error:
            raise StorageError("an entry for somebody who has no mailbox") from error
