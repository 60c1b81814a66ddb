"""The storage on MongoDB: put together here, with what is neither a mailbox nor a letter.

Rules: writes wait for a majority and its journals; reads see only what a majority holds. Letters and receipts are one
document each (`commits`), and so is a session. What touches several documents (a registration, the end of a session) is
rare, and one transaction with a snapshot; one that met another, or whose end is not known, is run again from its start:
that is safe because every effect is idempotent.
"""

from __future__ import annotations

import copy
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

import pymongo
import structlog
from pymongo.client_session import ClientSession
from pymongo.errors import CollectionInvalid, DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from broker_config.names import QueueName
from crypto_core import mailbox as chain
from crypto_core import moments, suite
from crypto_core.commands import Person
from crypto_core.ids import AttachmentId, Digest, LetterId, Milliseconds, RepositoryId, SessionId, UserId
from crypto_core.limits import MINUTE_MS
from crypto_core.sealed import Listed
from repository_worker.effects import (
    CHECKED_WHEN_STORED,
    Change,
    CloseSession,
    CounterRecord,
    Expire,
    MarkRead,
    OpenSession,
    OpenUpload,
    Outcome,
    SetBlock,
    SetWatch,
    StoreChoice,
    StoreChunk,
    StoreLetter,
    StoreReceipt,
    StoreRegistration,
    StoreTombstone,
)
from repository_worker.errors import Conflict, CounterUsed, StorageError, StorageUnavailable
from repository_worker.stamper import StoredStamp
from repository_worker.storage import collections as names
from repository_worker.storage import documents
from repository_worker.storage.asked import Asked
from repository_worker.storage.blocks import Blocks
from repository_worker.storage.chains import DEFAULT_QUOTA, Quota, Tip
from repository_worker.storage.commits import Commits, Turns
from repository_worker.storage.driver import (
    DURABLE,
    LABELS_TO_RETRY,
    Document,
    is_down,
    open_database,
    translated,
    wrapped,
)
from repository_worker.storage.heads import Heads
from repository_worker.storage.interface import (
    BatchView,
    Closed,
    CounterState,
    Held,
    Page,
    Questions,
    StoredAttachments,
    StoredEntry,
    StoredLetter,
    StoredStatus,
)
from repository_worker.storage.mailboxes import Mailboxes
from repository_worker.storage.memory import Memory, News
from repository_worker.storage.stamps import Stamps
from repository_worker.storage.uploads import Uploads
from repository_worker.storage.watches import Watches

T = TypeVar("T")
Session = ClientSession
Rare = StoreRegistration | SetBlock | CloseSession

TRANSACTION_ATTEMPTS: Final = 40
#: How long a transaction may be open; ours take milliseconds.
TRANSACTION_SECONDS: Final = 5
#: Pauses between attempts grow from the first to the second, drawn at random so that two workers do not meet again;
#: seconds.
PAUSE_SECONDS_MIN: Final = 0.001
PAUSE_SECONDS_MAX: Final = 0.1
_NAMESPACE_EXISTS: Final = 48
_UNAUTHORIZED: Final = 13


class MongoStorage:
    """`interface.Storage` in one database. Thread-safe."""

    def __init__(
        self,
        client: pymongo.MongoClient[Document],
        database: str,
        repository: RepositoryId,
        quota: Quota = DEFAULT_QUOTA,
        turns: Turns | None = None,
    ) -> None:
        """`turns`: with other workers that share something; without, batches of two workers may meet."""
        self._client = client
        self._may_limit = True
        self._repository = repository
        self._database = open_database(client, database)
        self._heads = Heads(self._database)
        self._mailboxes = Mailboxes(self._database, repository, self._heads)
        self._ask(Questions())
        self._uploads = Uploads(self._database, quota)
        self._watches = Watches(self._database)
        self._commits = Commits(client, self._database, repository, self._heads, self._uploads, quota, turns)
        self._news = News(self._database)
        self._stamps = Stamps(self._database)
        self._blocks = Blocks(self._database, self._news)
        self._successors: Memory[UserId, UserId | None] = Memory(self._news)

    # --- setting up ----------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Makes collections, validators and indexes where they are missing; repeating it changes nothing."""
        with wrapped():
            existing = set(self._database.list_collection_names())
            for collection in names.COLLECTIONS:
                if collection.name not in existing:
                    self._create(collection.name)
                self._database.command("collMod", collection.name, validator=collection.validator)
                if collection.indexes:
                    self._database[collection.name].create_indexes(list(collection.indexes))
        self.limit_transactions()

    def _create(self, name: str) -> None:
        try:
            self._database.create_collection(name)
        except CollectionInvalid:
            return  # another `init` was faster
        except OperationFailure as error:
            if error.code != _NAMESPACE_EXISTS:
                raise

    def probe(self) -> None:
        """Raises StorageUnavailable unless a primary answers."""
        with wrapped():
            self._database.command("ping")
        self.limit_transactions()

    def limit_transactions(self) -> None:
        """Has the server end transactions whose worker is gone after `TRANSACTION_SECONDS`.

        A worker that dies in the middle of a transaction leaves it open, and until the server ends it (after a minute,
        if nobody says otherwise) nothing can be appended to the mailboxes that it touched. The setting is the server's
        and is gone when it restarts; where this account may not set it, the operator sets it in the server's own
        configuration (transactionLifetimeLimitSeconds).
        """
        if not self._may_limit:
            return
        try:
            self._client.admin.command("setParameter", 1, transactionLifetimeLimitSeconds=TRANSACTION_SECONDS)
        except OperationFailure as error:
            # Told once: this is done at every probe.
            self._may_limit = error.code != _UNAUTHORIZED
            structlog.get_logger("storage").warning("transaction lifetime not set", code=error.code)
        except PyMongoError as error:
            raise translated(error) from error

    def close(self) -> None:
        """Gives the connections back."""
        self._client.close()

    # --- sessions and counters -----------------------------------------------------------------------------------

    def session(self, session: SessionId) -> bytes | None:
        with wrapped():
            found = self._database[names.SESSIONS].find_one({"session": session}, {"record": 1})
        return bytes(found["record"]) if found else None

    def closed(self, since: int) -> Closed:
        with wrapped():
            return self._news.closed(since)

    def counters(self, wanted: Sequence[tuple[SessionId, int]]) -> tuple[CounterState, ...]:
        states = {each: self._mailboxes.counter(*each) for each in wanted}
        unknown = [each for each, state in states.items() if state is None]
        if unknown:
            with wrapped():
                found = list(self._database[names.ACCEPTED].find(documents.used_by(unknown), documents.USED_FIELDS))
            states.update(zip(unknown, documents.counter_states(found, unknown), strict=True))
        return tuple(state for each in wanted if (state := states[each]) is not None)

    def keks_in_use(self, now: Milliseconds) -> frozenset[bytes]:
        with wrapped():
            found = self._database[names.SESSIONS].distinct("kek", {"expires": {"$gt": moments.to_datetime(now)}})
        return frozenset(bytes(each) for each in found)

    def count(self, what: str, user: UserId, now: Milliseconds) -> int:
        minute = now // MINUTE_MS
        with wrapped():
            found = self._database[names.RATES].find_one_and_update(
                {"what": what, "user": user, "minute": minute},
                {
                    "$inc": {"count": 1},
                    "$setOnInsert": {"expires": moments.to_datetime((minute + 1) * MINUTE_MS)},
                },
                upsert=True,
                return_document=pymongo.ReturnDocument.AFTER,
            )
        if found is None:
            raise StorageError("the database made a counter and did not show it")
        return int(found["count"])

    # --- what workers tell each other --------------------------------------------------------------------------------

    def ends_made(self) -> dict[UserId, Tip]:
        """As `ends.EndsStore` says, and so do the next three."""
        return self._heads.take_made()

    def ends_heard(self, tips: Mapping[UserId, Tip], told: Milliseconds) -> None:
        self._heads.hear(tips, told)

    def listeners(self) -> tuple[QueueName, ...]:
        return self._news.listeners

    def refresh_news(self) -> None:
        """Asks ahead for what changed of that which is remembered. Raises StorageUnavailable."""
        with wrapped():
            self._news.refresh_ahead()

    def note_listener(self, queue: QueueName, seconds: float) -> None:
        with wrapped():
            self._news.note_listener(queue, seconds)

    # --- people --------------------------------------------------------------------------------------------------

    def registration(self, user: UserId) -> Person | None:
        with wrapped():
            if user in self._people:
                found, _ = self._people.get(user)
            else:
                found = self._database[names.REGISTRATIONS].find_one({"user": user, "latest": True})
        return documents.person(found) if found else None

    def _newest(self, users: Sequence[UserId]) -> dict[UserId, tuple[Document | None, UserId | None]]:
        """The newest revision of each, and by whom their card was renewed."""
        wanted = [{field: {"$in": list(users)}, "latest": True} for field in ("user", "renews")]
        found = list(self._database[names.REGISTRATIONS].find({"$or": wanted}))
        own = {each["user"]: each for each in found}
        following = {each["renews"]: UserId(each["user"]) for each in found if "renews" in each}
        return {user: (own.get(user), following.get(user)) for user in users}

    def registrations(self, user: UserId, limit: int) -> tuple[Person, ...]:
        with wrapped():
            newest = self._database[names.REGISTRATIONS].find({"user": user}).sort("revision", -1).limit(limit)
            return tuple(documents.person(each) for each in reversed(list(newest)))

    def people(self, name_part: str, after: UserId | None, limit: int) -> tuple[Person, ...]:
        wanted: Document = {"latest": True}
        if name_part:
            wanted["name"] = {"$regex": re.escape(name_part)}
        if after is not None:
            wanted["user"] = {"$gt": after}
        with wrapped():
            found = self._database[names.REGISTRATIONS].find(wanted).sort("user", 1).limit(limit)
            return tuple(documents.person(each) for each in found)

    def renewed(self, users: Sequence[UserId]) -> dict[UserId, UserId]:
        if all(user in self._people for user in users):
            with wrapped():
                asked = {user: self._people.get(user)[1] for user in users}
            return {user: successor for user, successor in asked.items() if successor is not None}
        wanted = {"renews": {"$in": list(users)}, "latest": True}
        with wrapped():
            found = list(self._database[names.REGISTRATIONS].find(wanted, {"renews": 1, "user": 1}))
        return {UserId(each["renews"]): UserId(each["user"]) for each in found}

    def superseded(self, users: Sequence[UserId]) -> dict[UserId, UserId]:
        with wrapped():
            known, count = self._successors.recall(users)
        unknown = [user for user in users if user not in known]
        if unknown:
            found = self.renewed(unknown)
            answers = {user: found.get(user) for user in unknown}
            self._successors.keep(answers, count)
            known |= answers
        return {user: successor for user, successor in known.items() if successor is not None}

    def unregistered(self, users: Sequence[UserId]) -> tuple[UserId, ...]:
        with wrapped():
            known = self._heads.known(users)
        return tuple(user for user in users if user not in known)

    # --- mailboxes -----------------------------------------------------------------------------------------------

    def reading(self, questions: Questions) -> BatchView:
        view = copy.copy(self)
        view._ask(questions)  # noqa: SLF001 - our own
        return view

    def _ask(self, questions: Questions) -> None:
        self._mailboxes = self._mailboxes.asked(questions)
        self._people = Asked(questions.people, self._newest)

    def forget(self) -> None:
        """As `interface.BatchView` says."""
        self._mailboxes.forget()
        self._people.forget()

    def page(self, mailbox: UserId, after: int, limit: int, *, unread_only: bool, views: bool) -> Page:
        with wrapped():
            return self._mailboxes.page(mailbox, after, limit, unread_only=unread_only, views=views)

    def received(self, mailbox: UserId, author: UserId, letter: LetterId) -> StoredEntry | None:
        with wrapped():
            return self._mailboxes.received(mailbox, author, letter)

    def letter(self, reader: UserId, author: UserId, letter: LetterId) -> StoredLetter | None:
        with wrapped():
            return self._mailboxes.letter(reader, author, letter)

    def held(self, owner: UserId, author: UserId, letter: LetterId) -> Held | None:
        with wrapped():
            return self._mailboxes.held(owner, author, letter)

    def status(self, author: UserId, letter: LetterId) -> StoredStatus | None:
        with wrapped():
            return self._mailboxes.status(author, letter)

    def concerning(self, owner: UserId, author: UserId, letter: LetterId) -> tuple[StoredEntry, ...]:
        with wrapped():
            return self._mailboxes.concerning(owner, author, letter)

    def upload(self, author: UserId, letter: LetterId, attachment: AttachmentId) -> int | None:
        with wrapped():
            return self._uploads.size(author, letter, attachment)

    def incomplete(self, author: UserId, letter: LetterId, attachments: Sequence[Listed]) -> tuple[AttachmentId, ...]:
        with wrapped():
            return self._uploads.incomplete(author, letter, attachments)

    def attached(self, reader: UserId, author: UserId, letter: LetterId) -> StoredAttachments | None:
        with wrapped():
            return self._mailboxes.attached(reader, author, letter)

    def chunk(self, author: UserId, letter: LetterId, attachment: AttachmentId, position: int) -> bytes | None:
        with wrapped():
            return self._uploads.chunk(author, letter, attachment, position)

    def stamps(self, leaves: Sequence[Digest]) -> dict[Digest, StoredStamp]:
        with wrapped():
            return self._stamps.of(leaves)

    def keep_stamps(self, root: Digest, token: bytes, stamps: Sequence[StoredStamp]) -> None:
        """As `stamper.StampStore` says."""
        with wrapped():
            self._stamps.keep(root, token, stamps)

    def refusing(self, readers: Sequence[UserId], author: UserId) -> tuple[UserId, ...]:
        with wrapped():
            return self._blocks.refusing(readers, author)

    def blocked(self, owner: UserId) -> tuple[UserId, ...]:
        with wrapped():
            return self._blocks.of(owner)

    def watches(self, now: Milliseconds) -> dict[UserId, tuple[str, ...]]:
        with wrapped():
            return self._watches.all(now)

    # --- changes -------------------------------------------------------------------------------------------------

    def commit(self, change: Change) -> Outcome:
        (end,) = self.commit_all([change])
        if isinstance(end, StorageError):
            raise end
        return end

    def commit_all(self, changes: Sequence[Change]) -> tuple[Outcome | StorageError, ...]:
        objects = [each for each in changes if isinstance(each.effect, CHECKED_WHEN_STORED)]
        stored = iter(self._commits.store(objects)) if objects else iter(())
        marks = [(each.effect, each.counter) for each in changes if isinstance(each.effect, MarkRead)]
        marked = iter(self._commits.mark_read(marks))
        chunks = iter(self._store_chunks([each.effect for each in changes if isinstance(each.effect, StoreChunk)]))
        return tuple(self._end(change, stored, marked, chunks) for change in changes)

    def _end(
        self,
        change: Change,
        stored: Iterator[Outcome | StorageError],
        marked: Iterator[Outcome | StorageError],
        chunks: Iterator[Outcome | StorageError],
    ) -> Outcome | StorageError:
        match change.effect:
            case StoreLetter() | StoreReceipt() | StoreChoice() | StoreTombstone():
                return next(stored)
            case StoreChunk():
                return next(chunks)
            case Expire() as effect:
                return self._expire(effect)
            case MarkRead():
                return next(marked)
            case OpenUpload() | SetWatch() as effect:
                return self._commit_unmarked(effect)
            case OpenSession() as effect:
                return self._open_session(effect, change.counter)
            case effect:
                return self._commit_alone(effect, change.counter)

    def _store_chunks(self, effects: Sequence[StoreChunk]) -> Sequence[Outcome | StorageError]:
        if not effects:
            return ()
        with wrapped():
            return self._uploads.store(effects)

    def _commit_unmarked(self, effect: OpenUpload | SetWatch) -> Outcome | StorageError:
        try:
            with wrapped():
                match effect:
                    case OpenUpload():
                        return self._uploads.begin(effect)
                    case SetWatch():
                        return self._watches.set(effect)
        except StorageError as error:
            return error

    def _expire(self, effect: Expire) -> Outcome | StorageError:
        """A choice for each reader; where somebody was faster, theirs stands."""
        for end in self._commits.store([documents.expiry(effect, reader) for reader in effect.readers]):
            if isinstance(end, StorageError):
                return end
        return Outcome()

    def _commit_alone(self, effect: Rare, counter: CounterRecord) -> Outcome | StorageError:
        try:
            return self._transaction(lambda session: self._apply(effect, counter, session))
        except StorageError as error:
            return error

    def _apply(self, effect: Rare, counter: CounterRecord, session: Session) -> Outcome:
        repeated = self._use_counter(counter, type(effect).__name__, session)
        match effect:
            case StoreRegistration():
                return self._store_registration(effect, session)
            case SetBlock():
                return self._blocks.apply(effect, session, repeated=repeated)
            case CloseSession():
                return self._close_session(effect, counter, session)

    def _use_counter(self, counter: CounterRecord, what: str, session: Session) -> bool:
        """Takes the counter for this envelope. True when it was this envelope's already."""
        accepted, wanted = self._database[names.ACCEPTED], [(counter.session, counter.counter)]
        found = list(accepted.find(documents.used_by(wanted), documents.USED_FIELDS, session=session))
        taken = documents.counter_states(found, wanted)[0].request_hash
        if taken is None:
            accepted.insert_one(documents.mark(counter, what), session=session)
            return False
        if not suite.equal(taken, counter.request_hash):
            raise CounterUsed("another envelope was accepted under this counter")
        return True

    def _store_registration(self, effect: StoreRegistration, session: Session) -> Outcome:
        person = effect.person
        registrations = self._database[names.REGISTRATIONS]
        found = registrations.find_one({"user": person.user, "revision": person.revision}, session=session)
        if found is not None:
            if found["digest"] != person.registration.digest:
                raise Conflict("another registration is stored under this revision")
            return Outcome(person=documents.person(found))
        replaced = registrations.update_one(
            {"user": person.user, "revision": person.revision - 1, "latest": True},
            {"$set": {"latest": False}},
            session=session,
        )
        if (person.revision == 1) == bool(replaced.modified_count):
            raise Conflict("the registration does not follow the newest revision")
        if effect.renews is not None:
            other = {"renews": effect.renews, "latest": True, "user": {"$ne": person.user}}
            if registrations.find_one(other, {"_id": 1}, session=session) is not None:
                raise Conflict("another card renews that one")
            self._news.announce(session)
            self._successors.forget(effect.renews)
        document = documents.person_document(person, effect.searchable_name, effect.renews)
        registrations.insert_one(document, session=session)
        if person.revision == 1:
            genesis = chain.genesis(self._repository, person.user)
            self._database[names.MAILBOXES].insert_one(
                {"mailbox": person.user, "number": 0, "hash": genesis, "time": 0, "bytes": 0}, session=session
            )
        return Outcome(person=person)

    def _open_session(self, effect: OpenSession, counter: CounterRecord) -> Outcome | StorageError:
        """One insertion without a transaction: the record itself takes the counter of its confirm.

        Where a replay and the end of the session meet, a record may stay behind; the mark of the end outlives it, and
        whoever looks at the counters finds that first.
        """
        try:
            with wrapped():
                (state,) = self.counters([(counter.session, counter.counter)])
                if state.closed:
                    return CounterUsed("this session was closed")
                taken = self._insert_session(effect, counter) or state.request_hash
        except StorageError as error:
            return error
        if taken is not None and not suite.equal(taken, counter.request_hash):
            return CounterUsed("another envelope was accepted under this counter")
        return Outcome()

    def _insert_session(self, effect: OpenSession, counter: CounterRecord) -> Digest | None:
        """Inserts the record, or gives the envelope that opened the session that stands: None of an older release."""
        sessions = self._database[names.SESSIONS]
        document = {
            "session": effect.session,
            "record": effect.record,
            "kek": effect.kek,
            "expires": moments.to_datetime(effect.expires),
            "request": counter.request_hash,
        }
        try:
            sessions.insert_one(document)
        except DuplicateKeyError:
            found = sessions.find_one({"session": effect.session}, {"request": 1})
            if found is None:
                raise CounterUsed("this session was closed") from None
            return Digest(found["request"]) if "request" in found else None
        return None

    def _close_session(self, effect: CloseSession, counter: CounterRecord, session: Session) -> Outcome:
        self._database[names.SESSIONS].delete_one({"session": effect.session}, session=session)
        self._database[names.WATCHES].delete_many({"session": effect.session}, session=session)
        # Other workers may still hold the record in memory. They hear of it with the news, and whatever is to be
        # stored meets this mark before that.
        self._news.announce_closed(effect.session, session)
        mark = documents.closed_mark(counter)
        self._database[names.ACCEPTED].update_one(
            {"used": mark["used"]}, {"$setOnInsert": mark}, upsert=True, session=session
        )
        return Outcome()

    # --- transactions --------------------------------------------------------------------------------------------

    def _transaction(self, work: Callable[[Session], T]) -> T:
        pause = PAUSE_SECONDS_MIN
        for attempt in range(1, TRANSACTION_ATTEMPTS + 1):
            try:
                return self._attempt(work)
            except PyMongoError as error:
                again = isinstance(error, DuplicateKeyError) or any(map(error.has_error_label, LABELS_TO_RETRY))
                if not again or is_down(error):
                    raise translated(error) from error
                if attempt == TRANSACTION_ATTEMPTS:
                    raise StorageUnavailable("the database is too busy with changes of one mailbox") from error
            time.sleep(random.uniform(0, pause))  # noqa: S311 - spreads retries, decides nothing
            pause = min(2 * pause, PAUSE_SECONDS_MAX)
        raise StorageUnavailable("no attempt at a transaction was allowed")

    def _attempt(self, work: Callable[[Session], T]) -> T:
        with (
            self._client.start_session() as session,
            session.start_transaction(
                read_concern=ReadConcern("snapshot"),
                write_concern=DURABLE,
                read_preference=pymongo.ReadPreference.PRIMARY,
            ),
        ):
            return work(session)
