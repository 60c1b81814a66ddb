"""The database as its operator sees it: which version its documents have, whether it is set up, how much is in it.

The schema's version stands in the database. A release migrates what is older to its own version `SCHEMA`, step by step
under a lock, and serves its own version and the next one: so workers of two neighbouring releases share one queue while
a release is rolled out, the newer ones having migrated already. Every migration must therefore leave documents that the
release before can still read and add to; what it no longer needs goes one release later. Anything newer is refused.

    schema   {_id: "version", version: n}, and {_id: "lock", …} while somebody migrates
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pymongo
import structlog
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from crypto_core import moments
from crypto_core.ids import Milliseconds
from repository_worker.errors import SchemaRefused, StorageError, StorageUnavailable
from repository_worker.storage import collections as names

#: The version of the documents that this release writes; a database without a stamp has version 0.
SCHEMA: Final = 1
#: Releases that stand side by side: this one and the next.
NEIGHBOURS: Final = 1
STAMPS: Final = "schema"
#: A migration that is not done by then is given up for dead, and another worker repeats its step; seconds.
LOCK_SECONDS: Final = 600
#: How long others wait for the one that migrates; seconds.
WAIT_SECONDS: Final = 660.0
_PAUSE_SECONDS: Final = 0.1
_INDEX_OPTIONS: Final = ("unique", "partialFilterExpression", "expireAfterSeconds")

Document = dict[str, Any]
Migration = Callable[[], None]


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the server says of itself. `transaction_seconds` is None where this account may not ask."""

    version: str
    replica_set: str | None
    writable: bool
    time: datetime
    transaction_seconds: int | None


class Operations:
    """One database. Every method raises StorageError or StorageUnavailable."""

    def __init__(self, client: pymongo.MongoClient[Document], database: str) -> None:
        self._client = client
        self._database = client.get_database(
            database, read_concern=ReadConcern("majority"), write_concern=WriteConcern("majority", j=True)
        )

    def close(self) -> None:
        """Gives the connections back."""
        self._client.close()

    # --- the schema's version -----------------------------------------------------------------------------------------

    def version(self) -> int:
        """The stamp; 0 when there is none."""
        with _wrapped():
            found = self._database[STAMPS].find_one({"_id": "version"})
        return int(found["version"]) if found else 0

    def require_served(self, schema: int = SCHEMA) -> int:
        """The stamp, if a release of version `schema` may serve it. Raises SchemaRefused."""
        stamp = self.version()
        if not schema <= stamp <= schema + NEIGHBOURS:
            age = "older" if stamp < schema else "newer"
            raise SchemaRefused(
                f"The database has schema {stamp} and this release serves {schema} to {schema + NEIGHBOURS}: it is too "
                f"{age}. Nothing was touched; run {'`smr-repository init`' if stamp < schema else 'a newer release'}."
            )
        return stamp

    def migrate(self, migrations: Mapping[int, Migration], schema: int = SCHEMA) -> int:
        """Brings an older database to `schema`; gives the stamp afterwards. Raises SchemaRefused for a newer one.

        `migrations[n]` takes version n to n + 1; each may be repeated, and runs in one process at a time.
        """
        if self.version() < schema:
            with self._exclusive():
                while (stamp := self.version()) < schema:
                    migrations[stamp]()
                    self._stamp(stamp + 1)
                    structlog.get_logger("schema").info("migrated", version=stamp + 1)
        return self.require_served(schema)

    def _stamp(self, version: int) -> None:
        with _wrapped():
            self._database[STAMPS].update_one({"_id": "version"}, {"$set": {"version": version}}, upsert=True)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        owner = secrets.token_hex(16)
        deadline = time.monotonic() + WAIT_SECONDS
        while not self._lock(owner):
            if time.monotonic() >= deadline:
                raise StorageUnavailable("another process migrates the database and does not come to an end")
            time.sleep(_PAUSE_SECONDS)
        try:
            yield
        finally:
            with _wrapped():
                self._database[STAMPS].delete_one({"_id": "lock", "owner": owner})

    def _lock(self, owner: str) -> bool:
        """Takes the lock if it is free, or if its owner has been gone for too long by the server's clock."""
        now = self.server().time
        fresh = {"owner": owner, "until": now + timedelta(seconds=LOCK_SECONDS)}
        try:
            with _wrapped():
                self._database[STAMPS].update_one({"_id": "lock", "until": {"$lt": now}}, {"$set": fresh}, upsert=True)
        except StorageError as error:
            if isinstance(error.__cause__, DuplicateKeyError):
                return False
            raise
        return True

    # --- what is there ------------------------------------------------------------------------------------------------

    def open_sessions(self, now: Milliseconds) -> int:
        """How many sessions are open."""
        with _wrapped():
            return self._database[names.SESSIONS].count_documents({"expires": {"$gt": moments.to_datetime(now)}})

    def server(self) -> ServerFacts:
        """What the server says of itself."""
        with _wrapped():
            hello = self._client.admin.command("hello")
            version = str(self._client.server_info()["version"])
            found = hello["localTime"]
        return ServerFacts(
            version,
            hello.get("setName"),
            bool(hello.get("isWritablePrimary")),
            found.replace(tzinfo=found.tzinfo or UTC),
            self._transaction_seconds(),
        )

    def missing(self) -> list[str]:
        """What a repository needs and this database has not, or has otherwise: collections, indexes, validators."""
        with _wrapped():
            present = {each["name"]: each for each in self._database.list_collections()}
            problems: list[str] = []
            for wanted in names.COLLECTIONS:
                found = present.get(wanted.name)
                if found is None:
                    problems.append(f"collection {wanted.name}")
                    continue
                if found.get("options", {}).get("validator") != wanted.validator:
                    problems.append(f"validator of {wanted.name}")
                problems += [f"index {name} of {wanted.name}" for name in self._missing_indexes(wanted)]
        return problems

    def _missing_indexes(self, wanted: names.Collection) -> list[str]:
        present = self._database[wanted.name].index_information()
        return [
            index.document["name"]
            for index in wanted.indexes
            if _index_facts(index.document, index.document["key"].items())
            != _index_facts(present.get(index.document["name"], {}), present.get(index.document["name"], {}).get("key"))
        ]

    def _transaction_seconds(self) -> int | None:
        try:
            with _wrapped():
                found = self._client.admin.command("getParameter", 1, transactionLifetimeLimitSeconds=1)
        except StorageError as error:
            if isinstance(error.__cause__, OperationFailure):
                return None
            raise
        return int(found["transactionLifetimeLimitSeconds"])


def _index_facts(index: Mapping[str, Any], key: Any) -> tuple[Any, ...]:
    return ([(field, int(way)) for field, way in key or ()], *(index.get(option) for option in _INDEX_OPTIONS))


@contextmanager
def _wrapped() -> Iterator[None]:
    try:
        yield
    except (DuplicateKeyError, OperationFailure) as error:
        # The driver's own text may hold documents and addresses: it stays in the cause, out of the message.
        raise StorageError(f"the database refused an operation ({type(error).__name__}, code {error.code})") from error
    except PyMongoError as error:
        raise StorageUnavailable(f"the database does not answer now ({type(error).__name__})") from error
