"""Everything that this room raises.

    WorkerError
    ├── Refused                a command is refused: a code and one line for a person, signed and sealed
    ├── Rejected               a message that gets no reply and becomes a dead letter; `reason` is the metric's label
    ├── StorageError           the database did what it must not, or holds what it must not
    │   ├── StorageUnavailable the database does not answer now: the same work is done again when it is back
    │   ├── SchemaRefused      its documents are of a version that this release does not serve
    │   ├── CounterUsed        another envelope was accepted under this counter
    │   ├── SessionClosed      the session was closed before its command was stored
    │   ├── Conflict           something else is stored under this id
    │   ├── MailboxFull        an entry would pass the quota of a mailbox
    │   └── UploadsFull        an upload would pass what one citizen may have waiting
    ├── HomeError              the repository's folder: missing, damaged, or not this repository's
    ├── DeadLetterError        the dead letters cannot be read or moved, or nobody knows which are meant
    └── ClientsError           an installation cannot be enrolled, blocked or let in again as was asked

Exceptions of the database driver never leave `storage`; they are the `__cause__`. No message holds a name, a key, a
passphrase or an address with a password.
"""

from __future__ import annotations

from crypto_core.commands import ErrorCode
from crypto_core.ids import UserId


class WorkerError(Exception):
    """Base of everything that this room raises."""


class Refused(WorkerError):
    """The command is refused. `message` says in one line what happened and what to do."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Rejected(WorkerError):
    """The message gets no reply: nobody can be shown to have sent it, or no reply can be bound to it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StorageError(WorkerError):
    """The database holds or does what it must not."""


class StorageUnavailable(StorageError):
    """The database does not answer now. Nothing was stored, or it is not known whether: repeating is safe."""


class SchemaRefused(StorageError):
    """The database is of a version that this release does not serve."""


class CounterUsed(StorageError):
    """Another envelope was accepted under this session and counter."""


class SessionClosed(StorageError):
    """The session was closed, perhaps at another worker. Nothing was stored."""


class Conflict(StorageError):
    """Something else is stored under this id."""


class MailboxFull(StorageError):
    """An entry would pass the quota of `mailbox`. Nothing was stored."""

    def __init__(self, mailbox: UserId) -> None:
        super().__init__("a mailbox is full")
        self.mailbox = mailbox


class UploadsFull(StorageError):
    """An upload would pass what its author may have waiting for letters. Nothing was stored."""


class HomeError(WorkerError):
    """The repository's home folder cannot be used."""


class DeadLetterError(WorkerError):
    """The dead letters cannot be used as was asked."""


class ClientsError(WorkerError):
    """An installation cannot be enrolled, blocked or let in again as was asked."""
