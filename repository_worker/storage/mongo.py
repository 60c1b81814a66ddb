"""The storage on MongoDB.

Rules: writes wait for a majority and its journals; reads see only what a majority holds; what belongs together is one
transaction with a snapshot. A transaction that met another one, or whose end is not known, is run again from its
start: that is safe because every effect is idempotent.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar

import pymongo
import structlog
from pymongo import ReadPreference
from pymongo.client_session import ClientSession
from pymongo.errors import (
    CollectionInvalid,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)
from pymongo.monitoring import CommandListener
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from crypto_core import mailbox as chain
from crypto_core import moments
from crypto_core.commands import Person
from crypto_core.ids import Digest, LetterId, Milliseconds, RepositoryId, SessionId, UserId
from crypto_core.limits import MINUTE_MS
from crypto_core.mailbox import EntryKind
from crypto_core.sealed import SealedObject, SealedView
from repository_worker.effects import (
    Change,
    CloseSession,
    CounterRecord,
    MarkRead,
    OpenSession,
    Outcome,
    Placed,
    SetBlock,
    StoreLetter,
    StoreReceipt,
    StoreRegistration,
)
from repository_worker.errors import Conflict, CounterUsed, StorageError, StorageUnavailable
from repository_worker.storage import chains, documents, group
from repository_worker.storage import collections as names
from repository_worker.storage.blocks import Blocks
from repository_worker.storage.documents import Document
from repository_worker.storage.interface import CounterState, MailboxState, StoredEntry

T = TypeVar("T")
Session = ClientSession

#: One operation with all of its retries; milliseconds. Longer than an election, shorter than a client's patience.
OPERATION_MS: Final = 8_000
#: How long a server is looked for; milliseconds.
SELECTION_MS: Final = 2_000
TRANSACTION_ATTEMPTS: Final = 40
#: How long a transaction may be open; ours take milliseconds.
TRANSACTION_SECONDS: Final = 5
#: Pauses between attempts grow from the first to the second, drawn at random so that two workers do not meet again;
#: seconds.
PAUSE_SECONDS_MIN: Final = 0.001
PAUSE_SECONDS_MAX: Final = 0.1
#: Attempts at the transaction of a whole batch, before its changes are tried one by one. As many as at a single one:
#: sixteen transactions would meet another worker's more often than one does.
GROUP_ATTEMPTS: Final = TRANSACTION_ATTEMPTS
#: The longest pause between them; seconds. An attempt that meets another worker's ends at its first write: it is cheap.
GROUP_PAUSE_SECONDS_MAX: Final = 0.02
#: People whose registration one worker remembers; 28 bytes each, about 100 with Python's own.
REGISTERED_REMEMBERED: Final = 100_000
#: Stands for "closed" among the counters of a session; no envelope can have it.
_CLOSED: Final = -1
_LABELS_TO_RETRY: Final = ("TransientTransactionError", "UnknownTransactionCommitResult")
_NAMESPACE_EXISTS: Final = 48


def connect(url: str, listeners: Sequence[CommandListener] = ()) -> pymongo.MongoClient[Document]:
    """A client with the durability that the storage needs. Connects when it is first used.

    `listeners` are told of every command that is sent, for measurements.
    Raises StorageError for an address that cannot be one, without repeating it.
    """
    try:
        return pymongo.MongoClient(
            url,
            appname="smr-repository",
            serverSelectionTimeoutMS=SELECTION_MS,
            timeoutMS=OPERATION_MS,
            tz_aware=True,
            event_listeners=list(listeners),
        )
    except (PyMongoError, ValueError) as error:
        raise StorageError(
            "The database's address cannot be used; mongodb://host/?replicaSet=name is expected."
        ) from error


class MongoStorage:
    """`interface.Storage` in one database. Thread-safe."""

    def __init__(self, client: pymongo.MongoClient[Document], database: str, repository: RepositoryId) -> None:
        self._client = client
        self._repository = repository
        #: Who was seen to be registered. Nobody ever ceases to be, so nothing can be wrong here but missing.
        self._registered: set[bytes] = set()
        #: Batches of one process take turns: two of them at once would only meet in the same mailboxes.
        self._turn = threading.Lock()
        self._database = client.get_database(
            database,
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern("majority"),
            write_concern=WriteConcern("majority", j=True),
        )
        self._blocks = Blocks(self._database)

    # --- setting up ----------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Makes collections, validators and indexes where they are missing; repeating it changes nothing."""
        with _wrapped():
            existing = set(self._database.list_collection_names())
            for collection in names.COLLECTIONS:
                if collection.name not in existing:
                    self._create(collection.name)
                self._database.command("collMod", collection.name, validator=collection.validator)
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
        with _wrapped():
            self._database.command("ping")
        self.limit_transactions()

    def limit_transactions(self) -> None:
        """Has the server end transactions whose worker is gone after `TRANSACTION_SECONDS`.

        A worker that dies in the middle of a transaction leaves it open, and until the server ends it (after a minute,
        if nobody says otherwise) nothing can be appended to the mailboxes that it touched. The setting is the server's
        and is gone when it restarts; where this account may not set it, the operator sets it in the server's own
        configuration (transactionLifetimeLimitSeconds).
        """
        try:
            self._client.admin.command("setParameter", 1, transactionLifetimeLimitSeconds=TRANSACTION_SECONDS)
        except OperationFailure as error:
            structlog.get_logger("storage").warning("transaction lifetime not set", code=error.code)
        except PyMongoError as error:
            raise _translated(error) from error

    def close(self) -> None:
        """Gives the connections back."""
        self._client.close()

    # --- sessions and counters -----------------------------------------------------------------------------------

    def session(self, session: SessionId) -> bytes | None:
        with _wrapped():
            found = self._database[names.SESSIONS].find_one({"session": session}, {"record": 1})
        return bytes(found["record"]) if found else None

    def counters(self, wanted: Sequence[tuple[SessionId, int]]) -> tuple[CounterState, ...]:
        by_session: dict[SessionId, list[int]] = {}
        for session, counter in wanted:
            by_session.setdefault(session, [_CLOSED]).append(counter)
        keys = [{"session": session, "counter": {"$in": numbers}} for session, numbers in by_session.items()]
        with _wrapped():
            found = list(self._database[names.COUNTERS].find({"$or": keys} if len(keys) > 1 else keys[0]))
        hashes = {(bytes(each["session"]), int(each["counter"])): Digest(each["request"]) for each in found}
        return tuple(
            CounterState(hashes.get((session, counter)), (session, _CLOSED) in hashes) for session, counter in wanted
        )

    def keks_in_use(self, now: Milliseconds) -> frozenset[bytes]:
        with _wrapped():
            found = self._database[names.SESSIONS].distinct("kek", {"expires": {"$gt": moments.to_datetime(now)}})
        return frozenset(bytes(each) for each in found)

    def count(self, what: str, user: UserId, now: Milliseconds) -> int:
        minute = now // MINUTE_MS
        with _wrapped():
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

    # --- people --------------------------------------------------------------------------------------------------

    def registration(self, user: UserId) -> Person | None:
        with _wrapped():
            found = self._database[names.REGISTRATIONS].find_one({"user": user, "latest": True})
        return documents.person(found) if found else None

    def registrations(self, user: UserId, limit: int) -> tuple[Person, ...]:
        with _wrapped():
            newest = self._database[names.REGISTRATIONS].find({"user": user}).sort("revision", -1).limit(limit)
            return tuple(documents.person(each) for each in reversed(list(newest)))

    def people(self, name_part: str, after: UserId | None, limit: int) -> tuple[Person, ...]:
        wanted: Document = {"latest": True}
        if name_part:
            wanted["name"] = {"$regex": re.escape(name_part)}
        if after is not None:
            wanted["user"] = {"$gt": after}
        with _wrapped():
            found = self._database[names.REGISTRATIONS].find(wanted).sort("user", 1).limit(limit)
            return tuple(documents.person(each) for each in found)

    def unregistered(self, users: Sequence[UserId]) -> tuple[UserId, ...]:
        unknown = [user for user in users if user not in self._registered]
        if not unknown:
            return ()
        with _wrapped():
            found = self._database[names.MAILBOXES].find({"mailbox": {"$in": unknown}}, {"mailbox": 1})
            known = {bytes(each["mailbox"]) for each in found}
        if len(self._registered) + len(known) > REGISTERED_REMEMBERED:
            self._registered = set()
        self._registered |= known
        return tuple(user for user in unknown if user not in known)

    # --- mailboxes -----------------------------------------------------------------------------------------------

    def mailbox(self, mailbox: UserId) -> MailboxState:
        with _wrapped():
            found = self._database[names.MAILBOXES].find_one({"mailbox": mailbox})
        if found is None:
            return MailboxState(0, chain.genesis(self._repository, mailbox))
        return MailboxState(int(found["number"]), Digest(found["hash"]))

    def entries(
        self, mailbox: UserId, after: int, up_to: int, limit: int, *, unread_only: bool
    ) -> tuple[StoredEntry, ...]:
        wanted: Document = {"mailbox": mailbox, "number": {"$gt": after, "$lte": up_to}}
        if unread_only:
            wanted["unread"] = True
        with _wrapped():
            found = self._database[names.ENTRIES].find(wanted).sort("number", 1).limit(limit)
            return tuple(documents.stored_entry(each) for each in found)

    def entry(self, mailbox: UserId, kind: EntryKind, about: UserId, letter: LetterId) -> StoredEntry | None:
        with _wrapped():
            found = self._database[names.ENTRIES].find_one(
                {"mailbox": mailbox, "letter": letter, "about": about, "kind": kind.value}
            )
        return documents.stored_entry(found) if found else None

    def receipts(self, mailbox: UserId, letter: LetterId) -> tuple[StoredEntry, ...]:
        wanted = {"mailbox": mailbox, "letter": letter, "about": mailbox, "kind": EntryKind.RECEIPT.value}
        with _wrapped():
            found = self._database[names.ENTRIES].find(wanted).sort("number", 1)
            return tuple(documents.stored_entry(each) for each in found)

    def acceptance(self, author: UserId, letter: LetterId) -> tuple[Placed, ...]:
        with _wrapped():
            return self._letter_entries(author, letter, None)

    def views(self, reader: UserId, entries: Sequence[StoredEntry]) -> tuple[SealedView, ...]:
        with _wrapped():
            found = {**self._letter_views(reader, entries), **self._receipt_views(reader, entries)}
        try:
            return tuple(found[documents.view_key(each)] for each in entries)
        except KeyError as error:
            raise StorageError("a mailbox entry whose object is not stored") from error

    def _letter_views(self, reader: UserId, entries: Sequence[StoredEntry]) -> dict[Any, SealedView]:
        keys = [
            {"mailbox": each.about, "letter": each.entry.routing.letter}
            for each in entries
            if not documents.is_receipt(each)
        ]
        if not keys:
            return {}
        found = self._database[names.LETTERS].find({"$or": keys}, documents.view_fields(reader))
        return {(each["mailbox"], each["letter"], None): documents.view(each) for each in found}

    def _receipt_views(self, reader: UserId, entries: Sequence[StoredEntry]) -> dict[Any, SealedView]:
        keys = [
            {"mailbox": each.about, "letter": each.entry.routing.letter, "reader": each.entry.routing.author}
            for each in entries
            if documents.is_receipt(each)
        ]
        if not keys:
            return {}
        found = self._database[names.RECEIPTS].find({"$or": keys}, {**documents.view_fields(reader), "reader": 1})
        return {(each["mailbox"], each["letter"], each["reader"]): documents.view(each) for each in found}

    def body(self, author: UserId, letter: LetterId) -> bytes | None:
        with _wrapped():
            found = self._database[names.BODIES].find_one({"mailbox": author, "letter": letter}, {"body": 1})
        return bytes(found["body"]) if found else None

    def refusing(self, readers: Sequence[UserId], author: UserId) -> tuple[UserId, ...]:
        with _wrapped():
            return self._blocks.refusing(readers, author)

    def blocked(self, owner: UserId) -> tuple[UserId, ...]:
        with _wrapped():
            return self._blocks.of(owner)

    # --- changes -------------------------------------------------------------------------------------------------

    def commit(self, change: Change) -> Outcome:
        return self._transaction(lambda session: self._apply(change, session))

    def commit_all(self, changes: Sequence[Change]) -> tuple[Outcome | StorageError, ...]:
        fits = [isinstance(change.effect, group.GROUPED) and not change.repeated for change in changes]
        stored = iter(self._commit_group([change for change, fit in zip(changes, fits, strict=True) if fit]) or ())
        grouped = [next(stored, None) if fit else None for fit in fits]
        return tuple(
            self._commit_alone(change) if outcome is None else outcome
            for change, outcome in zip(changes, grouped, strict=True)
        )

    def _commit_alone(self, change: Change) -> Outcome | StorageError:
        try:
            return self.commit(change)
        except StorageError as error:
            return error

    def _commit_group(self, changes: Sequence[Change]) -> list[Outcome] | None:
        """All of them in one transaction, or None when they do not go together. Raises StorageUnavailable.

        Nothing is looked for beforehand: whatever is there already meets a unique index, and the changes are then
        applied one by one, where each finds what stands. So this is as safe as they are, and for new ones cheaper.
        """
        if not changes:
            return None
        pause = PAUSE_SECONDS_MIN
        with self._turn:
            for _ in range(GROUP_ATTEMPTS):
                try:
                    return self._attempt(partial(group.apply, changes, self._database, self._repository))
                except StorageError:
                    return None
                except PyMongoError as error:
                    if _is_down(error):
                        raise _translated(error) from error
                    if not any(map(error.has_error_label, _LABELS_TO_RETRY)):
                        return None
                time.sleep(random.uniform(0, pause))  # noqa: S311 - spreads retries, decides nothing
                pause = min(2 * pause, GROUP_PAUSE_SECONDS_MAX)
        return None

    def _apply(self, change: Change, session: Session) -> Outcome:
        effect, repeated = change.effect, self._use_counter(change.counter, session)
        match effect:
            case StoreRegistration():
                return self._store_registration(effect, session)
            case StoreLetter():
                return self._store_letter(effect, session)
            case StoreReceipt():
                return self._store_receipt(effect, session)
            case MarkRead():
                return self._mark_read(effect, session)
            case SetBlock():
                return self._blocks.apply(effect, session, repeated=repeated)
            case OpenSession():
                return self._open_session(effect, session, repeated=repeated)
            case CloseSession():
                return self._close_session(effect, change.counter, session)

    def _use_counter(self, used: CounterRecord, session: Session) -> bool:
        """Takes the counter for this envelope. True when it was this envelope's already."""
        key = {"session": used.session, "counter": used.counter}
        counters = self._database[names.COUNTERS]
        found = counters.find_one(key, session=session)
        if found is None:
            counters.insert_one(documents.counter_document(used), session=session)
            return False
        if found["request"] != used.request_hash:
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
        registrations.insert_one(documents.person_document(person, effect.searchable_name), session=session)
        if person.revision == 1:
            genesis = chain.genesis(self._repository, person.user)
            self._database[names.MAILBOXES].insert_one(
                {"mailbox": person.user, "number": 0, "hash": genesis, "time": 0}, session=session
            )
        return Outcome(person=person)

    def _store_letter(self, effect: StoreLetter, session: Session) -> Outcome:
        sealed, routing = effect.letter, effect.letter.routing
        key = documents.letter_key(effect)
        found = self._database[names.LETTERS].find_one(key, {"object": 1}, session=session)
        if found is not None:
            if found["object"] != sealed.object_hash:
                raise Conflict("another letter is stored under this id")
            return Outcome(entries=self._letter_entries(routing.author, routing.letter, session))
        self._database[names.LETTERS].insert_one({**key, **documents.sealed_document(sealed)}, session=session)
        self._database[names.BODIES].insert_one({**key, "body": effect.body}, session=session)
        return Outcome(entries=self._append(sealed, chains.placing_of_letter(effect), effect.now, session))

    def _store_receipt(self, effect: StoreReceipt, session: Session) -> Outcome:
        sealed = effect.receipt
        key = documents.receipt_key(effect)
        found = self._database[names.RECEIPTS].find_one(key, {"object": 1}, session=session)
        if found is not None:
            if found["object"] != sealed.object_hash:
                raise Conflict("another receipt of this reader is stored for this letter")
            return Outcome(entries=self._receipt_entries(effect, session))
        self._database[names.RECEIPTS].insert_one({**key, **documents.sealed_document(sealed)}, session=session)
        return Outcome(entries=self._append(sealed, chains.placing_of_receipt(effect), effect.now, session))

    def _mark_read(self, effect: MarkRead, session: Session) -> Outcome:
        self._database[names.ENTRIES].update_one(documents.received_key(effect), documents.READ, session=session)
        return Outcome()

    def _open_session(self, effect: OpenSession, session: Session, *, repeated: bool) -> Outcome:
        sessions = self._database[names.SESSIONS]
        if repeated:
            # The counter stands longer than the record: a session that was closed is not opened again by a replay.
            if sessions.find_one({"session": effect.session}, {"_id": 1}, session=session) is None:
                raise CounterUsed("this session was closed")
            return Outcome()
        sessions.insert_one(
            {
                "session": effect.session,
                "record": effect.record,
                "kek": effect.kek,
                "expires": moments.to_datetime(effect.expires),
            },
            session=session,
        )
        return Outcome()

    def _close_session(self, effect: CloseSession, used: CounterRecord, session: Session) -> Outcome:
        self._database[names.SESSIONS].delete_one({"session": effect.session}, session=session)
        # Other workers may still hold the record in memory: they find this mark when they look at the counter.
        self._database[names.COUNTERS].update_one(
            {"session": effect.session, "counter": _CLOSED},
            {"$setOnInsert": {"request": used.request_hash, "expires": moments.to_datetime(used.expires)}},
            upsert=True,
            session=session,
        )
        return Outcome()

    # --- the chains ----------------------------------------------------------------------------------------------

    def _append(
        self, sealed: SealedObject, placing: chains.Placing, now: Milliseconds, session: Session
    ) -> tuple[Placed, ...]:
        """Puts one object into several mailboxes."""
        boxes = chains.Chains(self._database, self._repository, placing.owners, session)
        placed = boxes.append(sealed, placing, now)
        boxes.store()
        return placed

    def _letter_entries(self, author: UserId, letter: LetterId, session: Session | None) -> tuple[Placed, ...]:
        own = self._database[names.ENTRIES].find_one(
            {"mailbox": author, "letter": letter, "about": author, "kind": EntryKind.SENT.value}, session=session
        )
        if own is None:
            return ()
        received = self._database[names.ENTRIES].find(
            {
                "mailbox": {"$in": own["recipients"]},
                "letter": letter,
                "about": author,
                "kind": EntryKind.RECEIVED.value,
            },
            session=session,
        )
        others = sorted((documents.placed(each) for each in received), key=lambda each: each.mailbox)
        return (documents.placed(own), *others)

    def _receipt_entries(self, effect: StoreReceipt, session: Session) -> tuple[Placed, ...]:
        routing = effect.receipt.routing
        key = {"letter": routing.letter, "about": effect.letter_author, "author": routing.author}
        wanted = (
            {"mailbox": routing.author, "kind": EntryKind.RECEIPT_SENT.value},
            {"mailbox": effect.letter_author, "kind": EntryKind.RECEIPT.value},
        )
        found = [self._database[names.ENTRIES].find_one({**key, **each}, session=session) for each in wanted]
        return tuple(documents.placed(each) for each in found if each is not None)

    # --- transactions --------------------------------------------------------------------------------------------

    def _transaction(self, work: Callable[[Session], T]) -> T:
        pause = PAUSE_SECONDS_MIN
        for attempt in range(1, TRANSACTION_ATTEMPTS + 1):
            try:
                return self._attempt(work)
            except PyMongoError as error:
                again = isinstance(error, DuplicateKeyError) or any(map(error.has_error_label, _LABELS_TO_RETRY))
                if not again or _is_down(error):
                    raise _translated(error) from error
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
                write_concern=WriteConcern("majority", j=True),
                read_preference=ReadPreference.PRIMARY,
            ),
        ):
            return work(session)


# --- errors -----------------------------------------------------------------------------------------------------


@contextmanager
def _wrapped() -> Iterator[None]:
    try:
        yield
    except PyMongoError as error:
        raise _translated(error) from error


def _is_down(error: PyMongoError) -> bool:
    return error.timeout or isinstance(error, ConnectionFailure | ExecutionTimeout | WTimeoutError)


def _translated(error: PyMongoError) -> StorageError:
    # The driver's own text may hold documents and addresses: it stays in the cause, out of the message.
    if _is_down(error) or any(map(error.has_error_label, _LABELS_TO_RETRY)):
        return StorageUnavailable(f"the database does not answer now ({type(error).__name__})")
    return StorageError(f"the database refused an operation ({type(error).__name__})")
