"""The schema's version on the real database: neighbours work side by side, everything further apart is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from crypto_core import moments
from repository_worker.errors import SchemaRefused, StorageUnavailable
from repository_worker.storage import operations as operations_
from repository_worker.storage.driver import connect
from repository_worker.storage.mongo import MongoStorage
from repository_worker.storage.operations import Operations
from tests.support.protocol import NOW, REPOSITORY


@pytest.fixture
def operations(mongo, database):
    made = Operations(connect(mongo.uri), database.name)
    yield made
    made.close()


@pytest.fixture
def storage(mongo, database):
    made = MongoStorage(connect(mongo.uri), database.name, REPOSITORY)
    yield made
    made.close()


def steps(done, upto):
    return {version: lambda version=version: done.append(version) for version in range(upto)}


def test_an_older_database_is_migrated_step_by_step_once(operations):
    done = []
    assert operations.migrate(steps(done, 3), schema=3) == 3
    assert operations.migrate(steps(done, 3), schema=3) == 3
    assert done == [0, 1, 2]


def test_several_workers_migrate_once(operations):
    done = []
    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(lambda _: operations.migrate(steps(done, 2), schema=2), range(4)))
    assert ends == [2] * 4
    assert done == [0, 1]


def test_a_release_serves_its_own_version_and_the_next(operations):
    operations.migrate(steps([], 2), schema=2)
    assert operations.migrate({}, schema=2) == 2
    assert operations.migrate({}, schema=1) == 2


def test_a_version_that_is_too_new_is_refused_and_left_alone(operations):
    operations.migrate(steps([], 3), schema=3)
    with pytest.raises(SchemaRefused, match="newer"):
        operations.migrate({}, schema=1)
    assert operations.version() == 3


def test_a_version_that_is_too_old_is_not_served(operations):
    with pytest.raises(SchemaRefused, match="init"):
        operations.require_served(schema=1)


def test_a_step_that_fails_is_repeated_by_the_next_worker(operations):
    def fail():
        raise StorageUnavailable("down")

    with pytest.raises(StorageUnavailable):
        operations.migrate({0: fail}, schema=1)
    assert operations.version() == 0
    assert operations.migrate(steps([], 1), schema=1) == 1


def test_the_lock_of_a_worker_that_died_ends(operations, database, monkeypatch):
    until = datetime.now(UTC) + timedelta(hours=1)
    database[operations_.STAMPS].insert_one({"_id": "lock", "owner": "gone", "until": until})
    monkeypatch.setattr(operations_, "WAIT_SECONDS", 0.3)
    with pytest.raises(StorageUnavailable, match="another process"):
        operations.migrate(steps([], 1), schema=1)
    database[operations_.STAMPS].update_one({"_id": "lock"}, {"$set": {"until": until - timedelta(hours=2)}})
    assert operations.migrate(steps([], 1), schema=1) == 1


def test_what_is_missing_is_named(operations, storage, database):
    assert "collection accepted" in operations.missing()
    storage.prepare()
    assert operations.missing() == []
    database.accepted.drop_index("unread")
    database.command("collMod", "mailboxes", validator={})
    assert operations.missing() == ["index unread of accepted", "validator of mailboxes"]


def test_open_sessions_are_counted(operations, storage, database):
    storage.prepare()
    for number, hours in enumerate((1, 2, -1)):
        expires = moments.to_datetime(NOW) + timedelta(hours=hours)
        database.sessions.insert_one({"session": bytes([number]) * 16, "record": b"r", "kek": b"k", "expires": expires})
    assert operations.open_sessions(NOW) == 2


def test_what_the_server_says(operations):
    facts = operations.server()
    assert facts.replica_set
    assert facts.writable
    assert abs((facts.time - datetime.now(UTC)).total_seconds()) < 60
