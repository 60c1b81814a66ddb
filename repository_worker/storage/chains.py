"""Entries into mailbox chains: which ones an object makes, and how several chains are extended in one transaction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database

from crypto_core.ids import Digest, Milliseconds, RepositoryId, UserId
from crypto_core.mailbox import Entry, EntryKind, EntryRouting
from crypto_core.sealed import SealedObject
from repository_worker.effects import Placed, StoreLetter, StoreReceipt
from repository_worker.errors import StorageError
from repository_worker.storage import collections as names
from repository_worker.storage import documents
from repository_worker.storage.documents import Document


@dataclass(frozen=True, slots=True)
class Planned:
    """An entry to be made; `about` is the author of the letter that it concerns."""

    mailbox: UserId
    kind: EntryKind
    about: UserId


@dataclass(frozen=True, slots=True)
class Placing:
    """Where an object goes: the entries to be made, all with one routing."""

    routing: EntryRouting
    entries: tuple[Planned, ...]

    @property
    def owners(self) -> set[UserId]:
        return {each.mailbox for each in self.entries}


def placing_of_letter(effect: StoreLetter) -> Placing:
    """`sent` for its author, `received` for each recipient."""
    letter, author, recipients = effect.letter.routing.letter, effect.letter.routing.author, effect.letter.recipients
    received = (Planned(user, EntryKind.RECEIVED, author) for user in recipients)
    return Placing(EntryRouting(letter, author, recipients), (Planned(author, EntryKind.SENT, author), *received))


def placing_of_receipt(effect: StoreReceipt) -> Placing:
    """`receipt-sent` for its reader, `receipt` for the author of the letter."""
    reader, author = effect.receipt.routing.author, effect.letter_author
    entries = (Planned(reader, EntryKind.RECEIPT_SENT, author), Planned(author, EntryKind.RECEIPT, author))
    return Placing(EntryRouting(effect.receipt.routing.letter, reader, (author,)), entries)


@dataclass(frozen=True, slots=True)
class _Tip:
    """The newest entry of a mailbox."""

    number: int
    hash: Digest
    time: int


class Chains:
    """The chains of some mailboxes within one transaction: read once, extended in memory, stored once."""

    def __init__(
        self, database: Database[Document], repository: RepositoryId, owners: Iterable[UserId], session: ClientSession
    ) -> None:
        """Reads them. Raises StorageError for somebody who has no mailbox."""
        self._database = database
        self._repository = repository
        self._session = session
        wanted = sorted(set(owners))
        found = database[names.MAILBOXES].find({"mailbox": {"$in": wanted}}, session=session)
        self._before = {
            UserId(each["mailbox"]): _Tip(int(each["number"]), Digest(each["hash"]), int(each["time"]))
            for each in found
        }
        if len(self._before) != len(wanted):
            raise StorageError("an entry for somebody who has no mailbox")
        self._tips = dict(self._before)
        self._entries: list[Document] = []

    def append(self, sealed: SealedObject, placing: Placing, now: Milliseconds) -> tuple[Placed, ...]:
        """Puts one object into several mailboxes. All of its entries bear one time, later than nothing before it."""
        moment = Milliseconds(max(now, *(self._tips[owner].time for owner in placing.owners)))
        object_hash = sealed.object_hash
        placed: list[Placed] = []
        for each in placing.entries:
            tip = self._tips[each.mailbox]
            entry = Entry(tip.number + 1, moment, each.kind, placing.routing, object_hash)
            digest = entry.hash(self._repository, each.mailbox, tip.hash)
            self._tips[each.mailbox] = _Tip(entry.number, digest, moment)
            placed.append(Placed(each.mailbox, entry, digest))
        self._entries += documents.entry_documents(placed, [each.about for each in placing.entries], sealed)
        return tuple(placed)

    def store(self) -> None:
        """Stores what was appended; the mailboxes first, since that is where two transactions meet."""
        # The old number in the filter: after a conflict nothing of this mailbox is written.
        updates = [
            UpdateOne(
                {"mailbox": owner, "number": self._before[owner].number},
                {"$set": {"number": tip.number, "hash": tip.hash, "time": tip.time}},
            )
            for owner, tip in sorted(self._tips.items())
            if tip is not self._before[owner]
        ]
        if not updates:
            return
        if self._database[names.MAILBOXES].bulk_write(updates, session=self._session).matched_count != len(updates):
            raise StorageError("a mailbox changed within a transaction")
        self._database[names.ENTRIES].insert_many(self._entries, session=self._session)
