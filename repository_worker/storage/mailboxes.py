"""Reading mailboxes, letters and receipts: one query for each question, with everything that its answer shows.

What the commands of one batch ask is asked together, and costs no query more than one question does.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from pymongo.database import Database

from crypto_core import limits, sealed
from crypto_core import mailbox as chain
from crypto_core.ids import LetterId, RepositoryId, SessionId, UserId
from crypto_core.mailbox import EntryKind
from repository_worker.errors import StorageError, StorageUnavailable
from repository_worker.storage import collections as names
from repository_worker.storage import documents, heads
from repository_worker.storage.asked import Asked
from repository_worker.storage.chains import Tip
from repository_worker.storage.driver import Document
from repository_worker.storage.heads import Heads
from repository_worker.storage.interface import (
    CounterState,
    Held,
    MailboxState,
    Page,
    Questions,
    StoredAttachments,
    StoredEntry,
    StoredLetter,
    StoredStatus,
)

#: How often a page is read anew that was changing while it was read.
ATTEMPTS: Final = 3
#: Objects up to which a lone NEW is one query, which reads them whole.
AT_ONCE: Final = 32
#: What a letter's own entries need, without what they show.
_OWN_FIELDS: Final = {**documents.ENTRY_FIELDS, "deleted": 1}
#: What a reading needs.
_LETTER_FIELDS: Final = {**documents.WHOLE_FIELDS, "body": 1, "body_hash": 1, "swept": 1}

Counter = tuple[SessionId, int]
#: A letter as `reader` asks for it: reader, author, letter.
_Named = tuple[UserId, UserId, LetterId]
#: A letter of its author.
_Own = tuple[UserId, LetterId]


@dataclass(frozen=True, slots=True)
class _Unread:
    """A page of what is unread."""

    mailbox: UserId
    after: int
    limit: int
    views: bool


class Mailboxes:
    """What `interface.ReadView` says of mailboxes. Thread-safe without questions. Methods raise PyMongoError."""

    def __init__(self, database: Database[Document], repository: RepositoryId, heads: Heads) -> None:
        self._accepted = database[names.ACCEPTED]
        self._bodies = database[names.BODIES]
        self._repository = repository
        self._heads = heads
        self._ask(Questions())

    def asked(self, questions: Questions) -> Mailboxes:
        """The same mailboxes for one batch, whose commands ask these questions."""
        # A copy: to name a collection anew for each batch takes the driver a twentieth of a find.
        view = copy.copy(self)
        view._ask(questions)  # noqa: SLF001 - our own
        return view

    def _ask(self, questions: Questions) -> None:
        self._readings = questions.letters
        self._states: dict[Counter, CounterState] = {}
        pages = (_Unread(owner, after, limits.MAILBOX_PAGE + 1, views=True) for owner, after in questions.new)
        self._new = Asked(pages, self._unread_pages)
        self._letters = Asked(((each.reader, each.author, each.letter) for each in questions.letters), self._read)
        self._own = Asked(questions.own, self._followed)

    def forget(self) -> None:
        """Something was stored: everything is asked anew."""
        self._states = {}
        for each in (self._new, self._letters, self._own):
            each.forget()

    def counter(self, session: SessionId, number: int) -> CounterState | None:
        """What came of this counter with the letters of a batch; None when it was not looked for."""
        return self._states.get((session, number))

    def page(self, mailbox: UserId, after: int, limit: int, *, unread_only: bool, views: bool) -> Page:
        """Raises StorageUnavailable for a mailbox that does not stand still."""
        if unread_only:
            return self._new.get(_Unread(mailbox, after, limit, views))
        begin = self._heads.known([mailbox]).get(mailbox)
        if begin is None:
            return self._empty(mailbox)
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

    def _empty(self, mailbox: UserId) -> Page:
        return Page(MailboxState(0, chain.genesis(self._repository, mailbox)), ())

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

    def _unread_pages(self, wanted: Sequence[_Unread]) -> dict[_Unread, Page]:
        tips = self._heads.known([each.mailbox for each in wanted])
        pages = {each: self._empty(each.mailbox) for each in wanted if each.mailbox not in tips}
        there = [each for each in wanted if each.mailbox in tips]
        if len(there) == 1:
            page = self._unread_at_once(there[0], tips[there[0].mailbox])
            return {**pages, there[0]: page or self._unread(there)[there[0]]}
        return {**pages, **self._unread(there)}

    def _unread_at_once(self, wanted: _Unread, begin: Tip) -> Page | None:
        """In one query, with what is newer than is known; None where there is much of either, or it moved meanwhile.

        Each of its ranges costs the database as much as a query does: of several mailboxes it would take more.
        """
        mailbox, tips = wanted.mailbox, {wanted.mailbox: begin}
        query = {"$or": [heads.newer(tips), _unread_of([mailbox], wanted.after)]}
        fields = documents.WHOLE_FIELDS if wanted.views else _OWN_FIELDS
        most = min(wanted.limit, AT_ONCE)
        objects = list(self._accepted.find(query, fields, limit=most, batch_size=most))
        for found in objects:
            heads.advance(tips, found)
        # A query is no snapshot: only without a gap nothing newer was passed over.
        numbers = [each["number"] for found in objects for each in found["entries"] if each["mailbox"] == mailbox]
        newer = sum(number > begin.number for number in numbers)
        if len(objects) == most or newer != tips[mailbox].number - begin.number:
            return None
        self._heads.learn(tips)
        return self._unread_page(wanted, tips[mailbox], objects)

    def _unread(self, wanted: Sequence[_Unread]) -> dict[_Unread, Page]:
        """The ends are read first, and no entry beyond them is shown."""
        if not wanted:
            return {}
        owners = sorted({each.mailbox for each in wanted})
        least, limit = min(each.after for each in wanted), wanted[0].limit
        tips = self._heads.ends(owners)
        fields = documents.fields_for(*owners, views=wanted[0].views)
        # The index gives them in the order of their numbers; a sort would read all of them before the first is shown.
        most = limit * len(wanted)
        found = list(self._accepted.find(_unread_of(owners, least), fields, hint="unread", limit=most, batch_size=most))
        if len(found) == most and len(wanted) > 1:
            return {each: self._unread([each])[each] for each in wanted}
        if len(wanted) == 1 and not _ascending(owners[0], found):
            raise StorageError("unread entries came in another order than that of their index")
        return {each: self._unread_page(each, tips[each.mailbox], found) for each in wanted}

    def _unread_page(self, wanted: _Unread, tip: Tip, objects: Sequence[Document]) -> Page:
        """What of these objects waits in this mailbox, up to `tip`."""
        own = [found for found in objects if _waits_in(wanted.mailbox, found)]
        entries = [each for each in self._entries(own, wanted.mailbox) if each.unread]
        shown = sorted(
            (each for each in entries if wanted.after < each.entry.number <= tip.number),
            key=lambda each: each.entry.number,
        )
        return Page(MailboxState(tip.number, tip.hash), tuple(shown[: wanted.limit]))

    def received(self, mailbox: UserId, author: UserId, letter: LetterId) -> StoredEntry | None:
        found = self._find_one(author, letter, mailbox, _OWN_FIELDS)
        return _of_kind(found[1], EntryKind.RECEIVED) if found else None

    def letter(self, reader: UserId, author: UserId, letter: LetterId) -> StoredLetter | None:
        document = self._letters.get((reader, author, letter))
        if document is None:
            return None
        own = _sent_or_received(self._entries([document], reader))
        return StoredLetter(own, None if own.deleted is not None else self._body(author, letter, document))

    def _read(self, wanted: Sequence[_Named]) -> dict[_Named, Document | None]:
        """Letters with their bodies, and the counters by which a batch asks for them."""
        asked = set(wanted)
        counters = [
            (each.session, each.counter) for each in self._readings if (each.reader, each.author, each.letter) in asked
        ]
        return self._find(wanted, _LETTER_FIELDS, counters)

    def attached(self, reader: UserId, author: UserId, letter: LetterId) -> StoredAttachments | None:
        found = self._find_one(author, letter, reader, {**documents.WHOLE_FIELDS, "swept": 1})
        if found is None:
            return None
        document, entries = found
        listed = sealed.listed_in(document["protected"])
        own = _sent_or_received(entries)
        return StoredAttachments(listed, own.unread, "swept" in document, own.deleted)

    def held(self, owner: UserId, author: UserId, letter: LetterId) -> Held | None:
        found = self._find_one(author, letter, owner, documents.WHOLE_FIELDS)
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
        found = self._own.get((author, letter))
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

    def _followed(self, wanted: Sequence[_Own]) -> dict[_Own, list[Document]]:
        """Letters of their authors, each with its receipts behind it."""
        fields = documents.AUTHOR_FIELDS
        if len(wanted) == 1:
            return {wanted[0]: list(self._accepted.find(documents.with_receipts(*wanted[0]), fields))}
        # A range costs the database several times what a key does. Who has not read a letter has not confirmed it.
        letters = self._by_key([documents.letter_key(*each) for each in wanted], fields)
        followed: dict[_Own, list[Document]] = {each: [] for each in wanted}
        receipts: dict[bytes, _Own] = {}
        for each in wanted:
            letter = letters.get(documents.letter_key(*each))
            if letter is not None:
                followed[each].append(letter)
                unread = {owner["mailbox"] for owner in letter.get("unread", ())}
                readers = (UserId(reader) for reader in letter["recipients"] if reader not in unread)
                receipts |= {documents.receipt_key(*each, reader): each for reader in readers}
        for key, receipt in self._by_key(list(receipts), fields).items():
            followed[receipts[key]].append(receipt)
        return followed

    def _by_key(self, keys: Sequence[bytes], fields: Document) -> dict[bytes, Document]:
        if not keys:
            return {}
        return {bytes(each["_id"]): each for each in self._accepted.find({"_id": {"$in": keys}}, fields)}

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

    def _find_one(
        self, author: UserId, letter: LetterId, owner: UserId, fields: Document
    ) -> tuple[Document, Sequence[StoredEntry]] | None:
        """A letter, if it has an entry in the mailbox of `owner`, with these entries."""
        wanted = (owner, author, letter)
        document = self._find([wanted], fields, ())[wanted]
        return None if document is None else (document, self._entries([document], owner))

    def _find(
        self, wanted: Sequence[_Named], fields: Document, counters: Sequence[Counter]
    ) -> dict[_Named, Document | None]:
        """Letters that have an entry in the mailbox of whom they are asked for; of others None.

        With them the tombstones, which count also while a letter is not marked yet (`deletions`), and in the same query
        what is known of `counters`.
        """
        keys = {documents.letter_key(author, letter) for _, author, letter in wanted}
        keys |= {documents.tombstone_key(author, letter, owner) for owner, author, letter in wanted}
        query: Document = {"_id": {"$in": sorted(keys)}}
        if counters:
            query = {"$or": [query, documents.used_by(counters)]}
            fields = {**fields, **documents.COUNTER_FIELDS}
        found = {each["_id"]: each for each in self._accepted.find(query, fields)}
        if counters:
            self._states.update(zip(counters, documents.counter_states(list(found.values()), counters), strict=True))
        return {each: _own_letter(found, *each) for each in wanted}

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


def _own_letter(found: Mapping[bytes, Document], owner: UserId, author: UserId, letter: LetterId) -> Document | None:
    document = found.get(documents.letter_key(author, letter))
    if document is None or not any(each["mailbox"] == owner for each in document["entries"]):
        return None
    tombstone = found.get(documents.tombstone_key(author, letter, owner))
    if tombstone is None:
        return document
    return {**document, "deleted": [{"mailbox": owner, "time": tombstone["time"]}]}


def _unread_of(owners: Sequence[UserId], after: int) -> Document:
    mailbox = owners[0] if len(owners) == 1 else {"$in": owners}
    return {"unread": {"$elemMatch": {"mailbox": mailbox, "number": {"$gt": after}}}}


def _ascending(mailbox: UserId, objects: Sequence[Document]) -> bool:
    numbers = [each["number"] for found in objects for each in found["unread"] if each["mailbox"] == mailbox]
    return all(a < b for a, b in pairwise(numbers))


def _waits_in(mailbox: UserId, found: Document) -> bool:
    return any(each["mailbox"] == mailbox for each in found.get("unread") or ())
