"""Letters, receipts, choices and tombstones into the database: as many as come together, in one insertion.

    what is remembered ───────┬── number and hash ── insert in order ──▶ done
    or, after a meeting, what │                           │
    was stored last, or what a look                       │
    finds of newer entries and used counters              │
             ▲                                            │
             └── somebody else took a number ◀────────────┘ what stands before that stays; the rest again

One insertion is one journalled write of a majority, however many letters it holds. The database itself keeps the rules,
by its unique indexes, whoever else writes at the same moment:

- The insertion is ordered and ends at the first document that is refused. So after a conflict at a number nothing
  further is written, and no number of a mailbox stands without those before it.
- Numbers follow entries that a majority holds. A change of primary can therefore not take away what an entry follows.
- What is there already (the same object, or its counter) is looked at by itself, and the others go on.
- A look finds nothing that these rules do not hold by themselves, but for sessions that were closed: of these a worker
  hears within `memory.NEWS_SECONDS`. So it is left out as long as insertions meet nobody without it.
- Full batches of workers that share a home are stored in turn, and whoever has the turn knows what the others made.
  That spares meetings and decides nothing: who gets no turn in time goes on without.
- When the end of an insertion is not known, everything in it may be brought again: it finds what it left.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

import pymongo
from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError

from crypto_core import moments, suite
from crypto_core.choice import Choice
from crypto_core.ids import Digest, RepositoryId, UserId
from crypto_core.limits import MIB
from crypto_core.sealed import Routing
from repository_worker.effects import (
    Change,
    CounterRecord,
    MarkRead,
    Outcome,
    Placed,
    StoreChoice,
    StoreLetter,
    StoreTombstone,
)
from repository_worker.errors import Conflict, CounterUsed, MailboxFull, SessionClosed, StorageError, StorageUnavailable
from repository_worker.luck import Luck
from repository_worker.storage import collections as names
from repository_worker.storage import documents
from repository_worker.storage.chains import Numbering, Placing, Quota, Tip, placing
from repository_worker.storage.deletions import Deletions
from repository_worker.storage.driver import DUPLICATE_KEY, PASSING, Document, wrapped
from repository_worker.storage.heads import Heads, Heard
from repository_worker.storage.uploads import Uploads

#: How often one batch may meet others at the same mailboxes before its rest is given back.
MEETINGS: Final = 40
#: Meetings after which a pause is made, so that two workers do not meet for ever.
MEETINGS_AT_ONCE: Final = 3
PAUSE_SECONDS_MAX: Final = 0.02
#: Batches of so many changes meet others as seldom as a lone one does.
SMALL_BATCH: Final = 3
#: What goes into one insertion; bytes. The driver would divide more than 48 MB, and the second part would not wait for
#: a majority to hold the first.
INSERTION_BYTES: Final = 16 * MIB


class Turns(Protocol):
    """How workers that would meet store one after the other."""

    def take(self) -> Sequence[Heard] | None:
        """Waits for the turn, not for long; what others have made since the last one. None: there is no turn."""

    def give(self, made: Mapping[UserId, Tip]) -> None:
        """After `take`: ends the turn, and tells others what was made in it."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A change that is to be stored, with its place in the batch."""

    place: int
    change: Change
    placing: Placing

    @property
    def what(self) -> str:
        return "letter" if isinstance(self.change.effect, StoreLetter) else "receipt"

    @property
    def choice(self) -> Choice | None:
        """What it chooses, if it does."""
        effect = self.change.effect
        return effect.choice.choice if isinstance(effect, StoreChoice) else None

    @property
    def first_stands(self) -> bool:
        """Whether what came first stands, whatever it is, and is an answer to this one too."""
        return isinstance(self.change.effect, StoreChoice | StoreTombstone)


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A change with the entries that it would make, and the ends of the chains after them."""

    waiting: _Waiting
    placed: tuple[Placed, ...]
    tips: dict[UserId, Tip]
    document: Document


@dataclass(frozen=True, slots=True)
class _Refused:
    """Why an insertion ended early: at which of its documents, and the database's word about it."""

    number: int
    code: int
    key: tuple[str, ...]
    cause: BulkWriteError

    @property
    def there(self) -> bool:
        """Something that must be there once is there already."""
        return self.code == DUPLICATE_KEY

    @property
    def meeting(self) -> bool:
        """Somebody else took the number."""
        return self.there and "entries.number" in self.key


class _Batch:
    """The changes that are stored together: those that wait, in their order, and the ends of the others."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self._ends: list[Outcome | StorageError] = [StorageError("a change without an end")] * len(changes)
        self.waiting: list[_Waiting] = []
        self.in_turn = False
        self.made: dict[UserId, Tip] = {}  #: ends of chains that it has extended
        for place, change in enumerate(changes):
            try:
                self.waiting.append(_Waiting(place, change, placing(change)))
            except StorageError as error:
                self._ends[place] = error

    def end(self, waiting: _Waiting, end: Outcome | StorageError) -> None:
        """One change has its end."""
        self._ends[waiting.place] = end
        self.waiting.remove(waiting)

    @property
    def owners(self) -> set[UserId]:
        """Into whose mailboxes they go."""
        return {owner for each in self.waiting for owner in each.placing.owners}

    def give_back(self) -> None:
        """Those that still wait are to be brought again."""
        for each in list(self.waiting):
            self.end(each, StorageUnavailable("the database is too busy with changes of one mailbox"))

    def ends(self) -> list[Outcome | StorageError]:
        return self._ends


class Commits:
    """Stores batches. Thread-safe; batches of one process take turns, since two of them would only meet."""

    def __init__(
        self,
        client: pymongo.MongoClient[Document],
        database: Database[Document],
        repository: RepositoryId,
        heads: Heads,
        uploads: Uploads,
        quota: Quota,
        turns: Turns | None = None,
    ) -> None:
        self._client = client
        self._accepted = database[names.ACCEPTED]
        self._bodies = database[names.BODIES]
        self._repository = repository
        self._heads = heads
        self._uploads = uploads
        self._deletions = Deletions(database)
        self._quota = quota
        self._lock = threading.Lock()
        self._turns = turns
        self._followed = 0
        self._small, self._large, self._in_turn, self._newest = Luck(), Luck(), Luck(), Luck()

    def mark_read(self, marks: Sequence[tuple[MarkRead, CounterRecord]]) -> list[Outcome | StorageError]:
        """Marks letters as read, each with the envelope that read it; gives each one's end, in their order.

        Raises StorageUnavailable.
        """
        ends: list[Outcome | StorageError] = [Outcome()] * len(marks)
        if not marks:
            return ends
        with wrapped():
            try:
                self._accepted.bulk_write([_mark_read(*each) for each in marks], ordered=False)
            except BulkWriteError as error:
                found = error.details or {}
                failures = found.get("writeErrors") or []
                if found.get("writeConcernErrors") or any(each["code"] != DUPLICATE_KEY for each in failures):
                    raise
                for each in failures:
                    ends[int(each["index"])] = CounterUsed("another envelope was accepted under this counter")
        return ends

    def store(self, changes: Sequence[Change]) -> list[Outcome | StorageError]:
        """Stores letters, receipts, choices and tombstones; gives each one's end, in their order.

        Raises StorageUnavailable.
        """
        batch = _Batch(changes)
        with wrapped():
            self._store_bodies(batch.waiting)
            self._keep_uploads(batch)
            # One session: whoever met somebody waits, at the next look, until a majority holds what it met.
            with self._lock, self._client.start_session(causal_consistency=True) as session, self._turn(batch):
                self._work(batch, session)
            self._end_waiting(changes, batch.ends())
            self._delete(changes, batch.ends())
        ends = batch.ends()
        self._mark_sent([change for change, end in zip(changes, ends, strict=True) if isinstance(end, Outcome)])
        return ends

    def _end_waiting(self, changes: Sequence[Change], ends: Sequence[Outcome | StorageError]) -> None:
        """A letter that was refused, or has expired, waits for its reader no more, and the second share goes for good.

        Nothing rests on this: the choice stands already. Whoever brings the same again finds what is left to do.
        """
        updates = [
            UpdateOne(
                {"_id": documents.letter_key(each.author, each.letter)},
                {"$pull": {"unread": {"mailbox": each.reader}, "shares": {"user": each.reader}}},
            )
            for each, end in ((change.effect, end) for change, end in zip(changes, ends, strict=True))
            if isinstance(each, StoreChoice)
            and isinstance(end, Outcome)
            and end.choice in (Choice.REFUSED, Choice.EXPIRED)
        ]
        if updates:
            self._accepted.bulk_write(updates, ordered=False)

    def _delete(self, changes: Sequence[Change], ends: Sequence[Outcome | StorageError]) -> None:
        for each, end in zip(changes, ends, strict=True):
            if isinstance(each.effect, StoreTombstone) and isinstance(end, Outcome):
                self._deletions.follow(each.effect, end.entries[0])

    def _store_bodies(self, waiting: Sequence[_Waiting]) -> None:
        """Large bodies, before anything refers to them; what is never referred to is swept some day."""
        now = datetime.now(UTC)
        updates = [
            UpdateOne({"_id": key}, {"$setOnInsert": {"body": body}, "$set": {"stored": now}}, upsert=True)
            for key, body in (_large_body(each) for each in waiting if "body_hash" in each.placing.document)
        ]
        if updates:
            self._bodies.bulk_write(updates, ordered=False)

    def _keep_uploads(self, batch: _Batch) -> None:
        """Attachments, before anything refers to them. Ends letters whose uploads were swept since the decision."""
        for each in list(batch.waiting):
            routing, now = _attached(each.change), moments.to_datetime(each.placing.now)
            if routing and not self._uploads.keep(routing.author, routing.letter, routing.attachments, now):
                with self._client.start_session(causal_consistency=True) as session:
                    again = self._again(each, session)
                batch.end(each, again or Conflict("the attachments of this letter were removed; upload them again"))

    def _mark_sent(self, stored: Sequence[Change]) -> None:
        for each in stored:
            routing = _attached(each)
            if routing:
                with contextlib.suppress(PyMongoError):
                    self._uploads.mark_sent(routing.author, routing.letter)

    @contextlib.contextmanager
    def _turn(self, batch: _Batch) -> Iterator[None]:
        """Has other workers wait meanwhile, if they can be asked to: a few letters seldom meet anybody."""
        heard = self._turns.take() if self._turns and len(batch.waiting) > SMALL_BATCH else None
        if self._turns is None or heard is None:
            yield
            return
        try:
            self._followed = self._heads.follow(heard, self._followed)
            batch.in_turn = True
            yield
        finally:
            self._turns.give(batch.made)

    def _try(self, batch: _Batch, session: ClientSession) -> None:
        """Stores behind what is remembered, as far as nobody was faster. Whatever else happens, a look tells why."""
        luck = self._in_turn if batch.in_turn else self._small if len(batch.waiting) <= SMALL_BATCH else self._large
        from_memory = luck.holds()
        if not from_memory and not self._catches_up(batch, session):
            return
        tips = self._heads.remembered(batch.owners)
        if tips is None:
            return
        numbering = Numbering(self._repository, tips, self._quota)
        try:
            numbered = [_Numbered(each, *numbering.place(each.placing)) for each in batch.waiting]
        except StorageError:
            return  # such as a mailbox that was full
        if sum(each.waiting.placing.size for each in numbered) > INSERTION_BYTES:
            return
        refused = self._insert(numbered, session)
        if from_memory:
            luck.note(failed=refused is not None and refused.meeting)
        self._end_stored(batch, numbered[: refused.number] if refused else numbered)

    def _catches_up(self, batch: _Batch, session: ClientSession) -> bool:
        """Whether what was stored last tells where the chains end; for a few of them a look is cheaper."""
        if len(batch.waiting) <= SMALL_BATCH or not self._newest.holds():
            return False
        joined = self._heads.read_newest(session)
        self._newest.note(failed=not joined)
        return joined

    def _end_stored(self, batch: _Batch, stored: Sequence[_Numbered]) -> None:
        for each in stored:
            batch.end(each.waiting, Outcome(entries=each.placed, choice=each.waiting.choice))
        made = {owner: tip for each in stored for owner, tip in each.tips.items()}
        batch.made.update(made)
        self._heads.made(made)

    def _work(self, batch: _Batch, session: ClientSession) -> None:
        self._try(batch, session)
        if not batch.waiting:
            return
        meetings = 0
        tips = self._look(batch, session)
        while batch.waiting:
            numbered = self._number(batch, tips, session)
            refused = self._insert(numbered, session)
            self._end_stored(batch, numbered[: refused.number] if refused else numbered)
            if refused is not None and not refused.meeting:
                waiting = numbered[refused.number].waiting
                batch.end(waiting, self._settle(refused, waiting, session))
            elif refused is not None:
                meetings += 1
                if meetings == MEETINGS:
                    batch.give_back()
                elif meetings > MEETINGS_AT_ONCE:
                    time.sleep(random.uniform(0, PAUSE_SECONDS_MAX))  # noqa: S311 - spreads retries, decides nothing
            if batch.waiting:
                tips = self._heads.ends(batch.owners, session)

    def _look(self, batch: _Batch, session: ClientSession) -> dict[UserId, Tip]:
        """Where the chains end. Ends those whose session is closed, or whose counter was used."""
        wanted = [(each.change.counter.session, each.change.counter.counter) for each in batch.waiting]
        beside = [documents.used_by(wanted)] if wanted else ()
        tips, found = self._heads.look(batch.owners, beside, session)
        for each, state in zip(list(batch.waiting), documents.counter_states(found, wanted), strict=True):
            if state.closed:
                batch.end(each, SessionClosed("this session was closed"))
            elif state.request_hash is not None:
                end = self._again(each, session)
                if end is not None:
                    batch.end(each, end)
        return tips

    def _number(self, batch: _Batch, tips: Mapping[UserId, Tip], session: ClientSession) -> list[_Numbered]:
        """As many of those that wait as fit into one insertion, in their order, behind `tips`."""
        numbering = Numbering(self._repository, tips, self._quota)
        numbered: list[_Numbered] = []
        size = 0
        for each in list(batch.waiting):
            size += each.placing.size
            if numbered and size > INSERTION_BYTES:
                break
            try:
                numbered.append(_Numbered(each, *numbering.place(each.placing)))
            except MailboxFull as error:
                # What was stored while there was room is accepted again, as ever.
                batch.end(each, self._again(each, session) or error)
            except StorageError as error:
                batch.end(each, error)
        return numbered

    def _insert(self, numbered: Sequence[_Numbered], session: ClientSession) -> _Refused | None:
        """Inserts in order; at the first document that is refused, says which and why. Raises PyMongoError."""
        if not numbered:
            return None
        try:
            self._accepted.insert_many([each.document for each in numbered], ordered=True, session=session)
        except BulkWriteError as error:
            found = error.details or {}
            failures = found.get("writeErrors") or []
            if found.get("writeConcernErrors") or not failures or failures[0]["code"] in PASSING:
                self._heads.forget()
                raise StorageUnavailable("the database did not confirm an insertion") from error
            first = failures[0]
            return _Refused(int(first["index"]), int(first["code"]), tuple(first.get("keyPattern", ())), error)
        except PyMongoError:
            self._heads.forget()
            raise
        return None

    def _settle(self, refused: _Refused, waiting: _Waiting, session: ClientSession) -> Outcome | StorageError:
        """The end of the one that was refused for its own sake."""
        if not refused.there:
            error = StorageError(f"the database refused a document (code {refused.code})")
            error.__cause__ = refused.cause
            return error
        found = self._again(waiting, session)
        return found or StorageError("the database refused a document for another that it does not show")

    def _again(self, waiting: _Waiting, session: ClientSession) -> Outcome | StorageError | None:
        """The end of what may be stored already; None when it is not."""
        counter, document = waiting.change.counter, waiting.placing.document
        taken = self._request_under(counter, session)
        if taken is not None and not suite.equal(taken, counter.request_hash):
            return CounterUsed("another envelope was accepted under this counter")
        found = self._accepted.find_one({"_id": document["_id"]}, documents.CHOICE_FIELDS, session=session)
        if found is None:
            return None
        if not waiting.first_stands and found["object"] != document["object"]:
            return Conflict(f"another {waiting.what} is stored under this id")
        if taken is None and not self._claim(counter, session):
            return CounterUsed("another envelope was accepted under this counter")
        # Of two choices the one that came first stands: its reader is told which.
        choice = documents.kind_of_choice(found) if waiting.choice else None
        return Outcome(entries=documents.placed(found), choice=choice)

    def _request_under(self, counter: CounterRecord, session: ClientSession) -> Digest | None:
        """The envelope that used this counter."""
        wanted = [(counter.session, counter.counter)]
        found = list(self._accepted.find(documents.used_by(wanted), documents.USED_FIELDS, session=session))
        return documents.counter_states(found, wanted)[0].request_hash

    def _claim(self, counter: CounterRecord, session: ClientSession) -> bool:
        """Takes the counter for something that stands already; whether it is this envelope's then."""
        try:
            self._accepted.insert_one(documents.mark(counter, "again"), session=session)
        except DuplicateKeyError:
            taken = self._request_under(counter, session)
            return taken is not None and suite.equal(taken, counter.request_hash)
        return True


def _attached(change: Change) -> Routing | None:
    """What the header of a letter with attachments says; None for everything else."""
    effect = change.effect
    return effect.letter.routing if isinstance(effect, StoreLetter) and effect.letter.routing.attachments else None


def _large_body(waiting: _Waiting) -> tuple[bytes, bytes]:
    """A body that lies by itself: its `_id`, and what it is."""
    effect = waiting.change.effect
    if not isinstance(effect, StoreLetter):
        raise StorageError("a body of what is no letter")
    routing = effect.letter.routing
    return documents.body_key(routing.author, routing.letter, waiting.placing.document["body_hash"]), effect.body


def _mark_read(effect: MarkRead, counter: CounterRecord) -> UpdateOne:
    # By `_id` alone: with a condition on `unread` the database would plan each mark anew. Whoever found it unread at
    # the same moment is noted too, and the same envelope again changes nothing.
    return UpdateOne(
        {"_id": documents.letter_key(effect.author, effect.letter)},
        {
            "$pull": {"unread": {"mailbox": effect.mailbox}},
            "$addToSet": documents.reading(effect.mailbox, counter),
        },
    )
