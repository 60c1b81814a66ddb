"""What tests commit to storages on a real database, and how they look at what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymongo.database import Database

from crypto_core import limits, mailbox
from crypto_core.commands import Person
from crypto_core.ids import Milliseconds, UserId
from repository_worker.effects import Change, CounterRecord, StoreRegistration
from repository_worker.local_mongo import LocalMongo
from repository_worker.storage.driver import connect
from repository_worker.storage.interface import StoredEntry
from repository_worker.storage.mongo import MongoStorage
from tests.support.protocol import BRUNO, JOAO, MARIA, NOW, REPOSITORY, SESSION, digest, signed

EXPIRES = Milliseconds(NOW + limits.SESSION_MS)

OpenStorage = Callable[..., MongoStorage]


def person(user: UserId, revision: int = 1, text: bytes = b"{}") -> Person:
    """A registration of this citizen."""
    return Person(user, revision, signed(text), b"certificate", None, (b"ca",), NOW)


def counter(number: int, request: str | None = None) -> CounterRecord:
    """Of the one session of these tests; `request` names the envelope that uses it."""
    return CounterRecord(SESSION, number, digest(request or f"request {number}"), EXPIRES)


def chain(storage: Any, owner: UserId) -> tuple[StoredEntry, ...]:
    """The whole chain of a mailbox, verified down to its head."""
    page = storage.page(owner, 0, 10_000, unread_only=False, views=True)
    state, entries = page.state, page.entries
    hashes = mailbox.extend(REPOSITORY, owner, 0, mailbox.genesis(REPOSITORY, owner), [e.entry for e in entries])
    assert hashes == [each.hash for each in entries]
    assert hashes[-1:] == [state.hash][: len(hashes)]
    return tuple(entries)


@pytest.fixture
def open_storage(mongo: LocalMongo, database: Database[dict[str, Any]]) -> Iterator[OpenStorage]:
    """Opens storages on one database, as so many workers would."""
    opened: list[MongoStorage] = []

    def open_(*quota: Any, listeners: Any = ()) -> MongoStorage:
        opened.append(MongoStorage(connect(mongo.uri, listeners), database.name, REPOSITORY, *quota))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


@pytest.fixture
def storage(open_storage: OpenStorage) -> MongoStorage:
    """One with Maria, João and Bruno registered."""
    made = open_storage()
    made.prepare()
    for number, user in enumerate((MARIA, JOAO, BRUNO), 1):
        made.commit(Change(StoreRegistration(person(user), "somebody"), counter(number)))
    return made
