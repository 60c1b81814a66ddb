"""A MongoDB replica set with a key file, from its first start to accounts that may do what they need and no more.

mongod lets somebody without an account in from its own machine alone, until the first account is there (the localhost
exception); this runs in the network of the first member and uses it. Everything can be repeated: what is there already
is left, and passwords become those of the file.

    first    the set of one member, and its administrator
    then     as that administrator: the accounts of operator and workers, and the other members one by one

Rules: TLS always; the administrator is used here and nowhere else; no message holds a password.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from repository_worker.compose_secrets import ADMINISTRATOR, OPERATOR, WORKER
from repository_worker.errors import StorageError, StorageUnavailable

FIRST: Final = "127.0.0.1"
PORT: Final = 27017
SECONDS: Final = 90.0  #: for the server to come, and for each change to be agreed on
PAUSE_SECONDS: Final = 0.3
SELECTION_MS: Final = 2_000
#: How long members wait for a primary that says nothing before they elect another one; MongoDB's own value is 10 s.
#: Twice the pause between two heartbeats: one of them may be lost. Then how long the new one waits to hear whether
#: somebody has more than it: by itself until all have answered, and the one that is gone does not. What was confirmed
#: to anybody is in a majority's journals, and of these the new one is elected: nothing of it depends on this wait.
SETTINGS: Final = {"electionTimeoutMillis": 4_000, "catchUpTimeoutMillis": 1_000}
_AUTHENTICATION_FAILED: Final = 18
_UNAUTHORIZED: Final = 13
_USER_NOT_FOUND: Final = 11

Client = pymongo.MongoClient[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Accounts:
    """The set's name, the database, and the passwords by account."""

    replica_set: str
    database: str
    passwords: Mapping[str, str] = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Accounts:
        """The file of that name that `compose_secrets` made. Raises StorageError."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            passwords = {name: str(found["accounts"][name]) for name in (ADMINISTRATOR, OPERATOR, WORKER)}
            return cls(str(found["replica_set"]), str(found["database"]), passwords)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{path} does not hold the database's accounts; check the file.") from error

    def roles(self) -> dict[str, list[dict[str, str]]]:
        """What each account may do: workers read and write; the operator makes collections, indexes, validators too."""
        return {
            WORKER: [{"role": "readWrite", "db": self.database}],
            OPERATOR: [
                {"role": "readWrite", "db": self.database},
                {"role": "dbAdmin", "db": self.database},
                {"role": "clusterMonitor", "db": "admin"},
            ],
        }


class DatabaseSetup:
    """One run. `members` are host:port as everybody reaches them, the first one being this machine's."""

    def __init__(self, members: Sequence[str], accounts: Accounts, ca_file: Path) -> None:
        self._members = members
        self._accounts = accounts
        self._ca_file = ca_file

    def run(self) -> None:
        """Does what is missing. Raises StorageError, or StorageUnavailable when the servers do not come in time."""
        with _wrapped():
            self._make_set()
            _until(self._make_administrator, "The first member of the replica set cannot be set up")
            with self._set() as client:
                for name, roles in self._accounts.roles().items():
                    self._put_account(client, name, roles)
                _put_settings(client)
                for number, host in enumerate(self._members):
                    _until(partial(_add_member, client, number, host), f"{host} does not join the replica set")

    def _here(self, **more: Any) -> Client:
        return pymongo.MongoClient(
            FIRST,
            PORT,
            directConnection=True,
            tls=True,
            tlsCAFile=str(self._ca_file),
            serverSelectionTimeoutMS=SELECTION_MS,
            **more,
        )

    def _set(self) -> Client:
        return pymongo.MongoClient(
            list(self._members),
            replicaSet=self._accounts.replica_set,
            tls=True,
            tlsCAFile=str(self._ca_file),
            username=ADMINISTRATOR,
            password=self._accounts.passwords[ADMINISTRATOR],
            serverSelectionTimeoutMS=int(SECONDS * 1000),
        )

    def _make_set(self) -> None:
        with self._here() as client:
            _until(lambda: bool(client.admin.command("ping")), "No mongod answers on this machine")
            if "setName" in client.admin.command("hello"):
                return
            members = [{"_id": 0, "host": self._members[0]}]
            config = {"_id": self._accounts.replica_set, "members": members, "settings": SETTINGS}
            client.admin.command("replSetInitiate", config)

    def _make_administrator(self) -> bool:
        """True when the administrator is there, made by us or before."""
        password = self._accounts.passwords[ADMINISTRATOR]
        with self._here(username=ADMINISTRATOR, password=password) as client:
            try:
                client.admin.command("ping")
                return True
            except OperationFailure as error:
                if error.code != _AUTHENTICATION_FAILED:
                    raise
        with self._here() as client:
            if not client.admin.command("hello").get("isWritablePrimary"):
                return False
            client.admin.command("createUser", ADMINISTRATOR, pwd=password, roles=["root"])
            return True

    def _put_account(self, client: Client, name: str, roles: list[dict[str, str]]) -> None:
        settings: dict[str, Any] = {"pwd": self._accounts.passwords[name], "roles": roles}
        try:
            client.admin.command("updateUser", name, **settings)
        except OperationFailure as error:
            if error.code != _USER_NOT_FOUND:
                raise
            client.admin.command("createUser", name, **settings)


def _put_settings(client: Client) -> None:
    config = client.admin.command("replSetGetConfig")["config"]
    if SETTINGS.items() <= config["settings"].items():
        return
    config["settings"].update(SETTINGS)
    config["version"] += 1
    client.admin.command("replSetReconfig", config)


def _add_member(client: Client, number: int, host: str) -> bool:
    """True when `host` is a member whose state the primary knows to be good. At most one is added at a time."""
    states = {each["name"]: each["stateStr"] for each in client.admin.command("replSetGetStatus")["members"]}
    if host in states:
        return states[host] in {"PRIMARY", "SECONDARY"}
    config = client.admin.command("replSetGetConfig")["config"]
    config["members"].append({"_id": number, "host": host})
    config["version"] += 1
    client.admin.command("replSetReconfig", config)
    return False


def _until(done: Callable[[], bool], otherwise: str) -> None:
    """Asks until it is done. A refusal of the account is final; anything else may pass."""
    deadline = time.monotonic() + SECONDS
    while True:
        last: PyMongoError | None = None
        try:
            if done():
                return
        except PyMongoError as error:
            if isinstance(error, OperationFailure) and error.code in {_UNAUTHORIZED, _AUTHENTICATION_FAILED}:
                raise
            last = error
        if time.monotonic() > deadline:
            reason = f" ({type(last).__name__})" if last else ""
            raise StorageUnavailable(f"{otherwise} within {SECONDS:.0f} s{reason}; see its log.") from last
        time.sleep(PAUSE_SECONDS)


@contextmanager
def _wrapped() -> Iterator[None]:
    try:
        yield
    except OperationFailure as error:
        raise StorageError(
            f"The database refused to be set up (code {error.code}). If its accounts were made from other secrets, "
            "give it those again; see mongod's log."
        ) from error
    except PyMongoError as error:
        raise StorageUnavailable(f"The database cannot be set up now ({type(error).__name__}); see its log.") from error
