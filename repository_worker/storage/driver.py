"""The database driver as this room uses it: one way to connect, one translation of its errors, one word for "down".

Exceptions of the driver leave `storage` only as the cause of a StorageError.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

import pymongo
from pymongo import ReadPreference
from pymongo.database import Database
from pymongo.errors import ConnectionFailure, ExecutionTimeout, PyMongoError, WTimeoutError
from pymongo.monitoring import CommandListener
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from repository_worker.errors import StorageError, StorageUnavailable

Document = dict[str, Any]

#: One operation with all of its retries; milliseconds. Longer than an election, shorter than a client's patience.
OPERATION_MS: Final = 8_000
#: How long a server is looked for; milliseconds.
SELECTION_MS: Final = 2_000
#: What is stored is stored for good: a majority of the members has it in their journals.
DURABLE: Final = WriteConcern("majority", j=True)
#: What is read stays: nothing that a change of primary could take back.
COMMITTED: Final = ReadConcern("majority")
#: The server's error codes: something that must be there once is there already; …
DUPLICATE_KEY: Final = 11000
#: … a primary that is going away, or that could not do it in time: not the document's fault.
PASSING: Final = frozenset((6, 7, 24, 50, 89, 91, 112, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436))
#: Errors after which a transaction is run again from its start.
LABELS_TO_RETRY: Final = ("TransientTransactionError", "UnknownTransactionCommitResult")


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


def open_database(client: pymongo.MongoClient[Document], name: str) -> Database[Document]:
    """The database, with every write durable and every read committed unless somebody says otherwise."""
    return client.get_database(
        name, read_preference=ReadPreference.PRIMARY, read_concern=COMMITTED, write_concern=DURABLE
    )


class _Wrapped:
    """A class, since a generator would take longer than what some of its blocks do; without a state, and so one."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if isinstance(error, PyMongoError):
            raise translated(error) from error


_WRAPPED: Final = _Wrapped()


def wrapped() -> _Wrapped:
    """Translates what the driver raises in a block."""
    return _WRAPPED


def is_down(error: PyMongoError) -> bool:
    """Whether the database did not answer, or not in time: what was asked may have been done or not."""
    return error.timeout or isinstance(error, ConnectionFailure | ExecutionTimeout | WTimeoutError)


def translated(error: PyMongoError) -> StorageError:
    """The error of this room that says the same."""
    # The driver's own text may hold documents and addresses: it stays in the cause, out of the message.
    if is_down(error) or any(map(error.has_error_label, LABELS_TO_RETRY)):
        return StorageUnavailable(f"the database does not answer now ({type(error).__name__})")
    return StorageError(f"the database refused an operation ({type(error).__name__})")
