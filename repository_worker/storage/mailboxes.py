"""Reading mailboxes, letters and receipts: one query for each question, with everything that its answer shows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from pymongo.database import Database

from crypto_core import mailbox as chain
from crypto_core import sealed
from crypto_core.ids import LetterId, RepositoryId, UserId
from crypto_core.mailbox import EntryKind
from repository_worker.errors import StorageError, StorageUnavailable
from repository_worker.storage import collections as names
from repository_worker.storage import documents, heads
from repository_worker.storage.chains import Tip
from repository_worker.storage.driver import Document
from repository_worker.storage.heads import Heads
from repository_worker.storage.interface import (
    Held,
    MailboxState,
    Page,
    StoredAttachments,
    StoredEntry,
    StoredLetter,
    StoredStatus,
)

#: How often a page is read anew that was changing while it was read.
ATTEMPTS: Final = 3


class Mailboxes:
    """What `interface.ReadView` says of mailboxes. Thread-safe. Methods raise PyMongoError."""

    def __init__(
        self, database: Database[Document], repository: RepositoryId, heads: Heads, together: Sequence[UserId] = ()
    ) -> None:
        """`together`: mailboxes that are read by commands of one batch, so that their ends are asked for at once."""
        self._together = together
        self._ends: dict[UserId, Tip] = {}
        self._accepted = database[names.ACCEPTED]
        self._bodies = database[names.BODIES]
        self._repository = repository
        self._heads = heads

    def page(self, mailbox: UserId, after: int, limit: int, *, unread_only: bool, views: bool) -> Page:
        """Raises StorageUnavailable for a mailbox that does not stand still."""
        begin = self._heads.known([mailbox]).get(mailbox)
        if begin is None:
            return Page(MailboxState(0, chain.genesis(self._repository, mailbox)), ())
        if unread_only:
            return self._unread(mailbox, after, limit, views=views)
        for _ in range(ATTEMPTS):
            page = self._everything(mailbox, begin, after, limit, views=views)
            if page is None:
                begin = self._heads.ends([mailbox])[mailbox]
                continue
            # A query is no snapshot: entries that come while it runs may show later ones without earlier ones.
            numbers = [after, *(each.entry.number for each in page.entries)]
            whole = min(after + limit, page.state.number) - after
            if len(page.entries) == max(0, whole) and all(b == a + 1 for a, b in pairwise(numbers)):
                return page
        raise StorageUnavailable("a mailbox changed all the time while it was read")

    def _everything(self, mailbox: UserId, begin: Tip, after: int, limit: int, *, views: bool) -> Page | None:
        """Numbers are dense: a page is a range of them, and what is newer than is known tells the end.

        None when `begin` is too far from the end.
        """
        shown = {"entries": {"$elemMatch": {"mailbox": mailbox, "number": {"$gt": after, "$lte": after + limit}}}}
        tips = {mailbox: begin}
        stored: dict[int, StoredEntry] = {}
        query, fields = {"$or": [shown, heads.newer(tips)]}, documents.fields_for(mailbox, views=views)
        most = limit + heads.NEWER
        objects = list(self._accepted.find(query, fields, limit=most, batch_size=most))
        if len(objects) == most:
            return None
        for found in objects:
            heads.advance(tips, found)
        self._heads.learn(tips)
        stored.update((each.entry.number, each) for each in self._entries(objects, mailbox))
        tip = tips[mailbox]
        numbers = sorted(number for number in stored if after < number <= min(after + limit, tip.number))
        return Page(MailboxState(tip.number, tip.hash), tuple(stored[number] for number in numbers))

    def _unread(self, mailbox: UserId, after: int, limit: int, *, views: bool) -> Page:
        """The end is read first, and no entry beyond it is shown."""
        tip = self._end(mailbox)
        wanted = {"unread": {"$elemMatch": {"mailbox": mailbox, "number": {"$gt": after, "$lte": tip.number}}}}
        # The index gives them in the order of their numbers; a sort would read all of them before the first is shown.
        found = self._accepted.find(wanted, documents.fields_for(mailbox, views=views), hint="unread").limit(limit)
        entries = [each for each in self._entries(list(found), mailbox) if each.unread]
        if any(a.entry.number >= b.entry.number for a, b in pairwise(entries)):
            raise StorageError("unread entries came in another order than that of their index")
        return Page(MailboxState(tip.number, tip.hash), tuple(entries))

    def _end(self, mailbox: UserId) -> Tip:
        """Where it ends: now, or when the first command of its batch asked."""
        if mailbox not in self._together:
            return self._heads.ends([mailbox])[mailbox]
        if not self._ends:
            self._ends = self._heads.ends(self._together)
        return self._ends[mailbox]

    def received(self, mailbox: UserId, author: UserId, letter: LetterId) -> StoredEntry | None:
        found = self._find(author, letter, mailbox, documents.fields_for(mailbox, views=False))
        return _of_kind(found[1], EntryKind.RECEIVED) if found else None

    def letter(self, reader: UserId, author: UserId, letter: LetterId) -> StoredLetter | None:
        fields = {**documents.fields_for(reader, views=True), "body": 1, "body_hash": 1, "swept": 1}
        found = self._find(author, letter, reader, fields)
        if found is None:
            return None
        document, entries = found
        own = _sent_or_received(entries)
        return StoredLetter(own, None if own.deleted is not None else self._body(author, letter, document))

    def attached(self, reader: UserId, author: UserId, letter: LetterId) -> StoredAttachments | None:
        found = self._find(author, letter, reader, {**documents.fields_for(reader, views=True), "swept": 1})
        if found is None:
            return None
        document, entries = found
        listed = sealed.listed_in(document["protected"])
        own = _sent_or_received(entries)
        return StoredAttachments(listed, own.unread, "swept" in document, own.deleted)

    def held(self, owner: UserId, author: UserId, letter: LetterId) -> Held | None:
        found = self._find(author, letter, owner, documents.fields_for(owner, views=True))
        if found is None:
            return None
        own = _sent_or_received(found[1])
        tombstone = self._accepted.find_one({"_id": documents.tombstone_key(author, letter, owner)})
        numbers = [each.entry.number for each in found[1]]
        before, last = self._total(owner, min(numbers) - 1), self._total(owner, max(numbers))
        return Held(own, last - before, documents.placed(tombstone)[0] if tombstone else None)

    def _total(self, owner: UserId, number: int) -> int:
        """The bytes in this mailbox up to and with the entry `number`."""
        if number == 0:
            return 0
        wanted = {"entries": {"$elemMatch": {"mailbox": owner, "number": number}}}
        found = self._accepted.find_one(wanted, {"entries.$": 1})
        if found is None:
            raise StorageError("a mailbox without one of its entries")
        return int(found["entries"][0]["bytes"])

    def status(self, author: UserId, letter: LetterId) -> StoredStatus | None:
        found = list(self._accepted.find(documents.with_receipts(author, letter), documents.fields_for_author(author)))
        if not found or found[0]["_id"] != documents.letter_key(author, letter):
            return None
        sent = _of_kind(documents.stored_entries(found[0], author), EntryKind.SENT)
        if sent is None:
            raise StorageError("a letter that its author did not send")
        receipts = [
            each
            for receipt in found[1:]
            for each in documents.stored_entries(receipt, author)
            if each.entry.kind is EntryKind.RECEIPT
        ]
        receipts.sort(key=lambda each: each.entry.number)
        choices = self._choices(author, letter) if sent.slip else ()
        return StoredStatus(sent, tuple(receipts), documents.placed(found[0]), choices)

    def _choices(self, author: UserId, letter: LetterId) -> tuple[StoredEntry, ...]:
        found = self._accepted.find(documents.choices_of(author, letter), documents.fields_for(author, views=True))
        entries = [each for one in found for each in documents.stored_entries(one, author)]
        return tuple(sorted(entries, key=lambda each: each.entry.number))

    def _entries(self, objects: Sequence[Document], owner: UserId) -> list[StoredEntry]:
        """The entries of `owner`; of letters to be signed for, with what `owner` chose."""
        chosen = self._chosen(objects, owner)
        return [
            each
            for found in objects
            for each in documents.stored_entries(found, owner, chosen.get(bytes(found["_id"])))
        ]

    def _chosen(self, objects: Sequence[Document], owner: UserId) -> dict[bytes, Document]:
        """What `owner` chose about those of these letters that are to be signed for, by the letters' `_id`."""
        letters = {
            documents.choice_key(UserId(each["author"]), LetterId(each["letter"]), owner): bytes(each["_id"])
            for each in objects
            if "slip" in each
        }
        if not letters:
            return {}
        found = self._accepted.find({"_id": {"$in": list(letters)}}, documents.CHOICE_FIELDS)
        return {letters[bytes(each["_id"])]: each for each in found}

    def concerning(self, owner: UserId, author: UserId, letter: LetterId) -> tuple[StoredEntry, ...]:
        about = [documents.with_receipts(author, letter), documents.choices_of(author, letter)]
        wanted = {"$or": about, "entries.mailbox": owner}
        found = self._accepted.find(wanted, documents.fields_for(owner, views=True)).sort("_id", 1)
        return tuple(self._entries(list(found), owner))

    def _find(
        self, author: UserId, letter: LetterId, owner: UserId, fields: Document
    ) -> tuple[Document, Sequence[StoredEntry]] | None:
        """A letter, if it has an entry in the mailbox of `owner`.

        With it the tombstone, which counts also while the letter is not marked yet (`deletions`).
        """
        letter_key, tombstone_key = documents.letter_key(author, letter), documents.tombstone_key(author, letter, owner)
        wanted = {"_id": {"$in": [letter_key, tombstone_key]}, "entries.mailbox": owner}
        found = {bytes(each["_id"]): each for each in self._accepted.find(wanted, fields)}
        if letter_key not in found:
            return None
        document, tombstone = found[letter_key], found.get(tombstone_key)
        if tombstone is not None:
            document["deleted"] = [{"mailbox": owner, "time": tombstone["time"]}]
        return document, self._entries([document], owner)

    def _body(self, author: UserId, letter: LetterId, document: Document) -> bytes | None:
        if "body" in document or "swept" in document:
            return document.get("body")
        key = documents.body_key(author, letter, document["body_hash"])
        found = self._bodies.find_one({"_id": key}, {"body": 1})
        if found is None:
            raise StorageError("a letter without its body")
        return bytes(found["body"])


def _sent_or_received(entries: Sequence[StoredEntry]) -> StoredEntry:
    entry = _of_kind(entries, EntryKind.RECEIVED) or _of_kind(entries, EntryKind.SENT)
    if entry is None:
        raise StorageError("a letter with an entry that is neither sent nor received")
    return entry


def _of_kind(entries: Sequence[StoredEntry], kind: EntryKind) -> StoredEntry | None:
    return next((each for each in entries if each.entry.kind is kind), None)
