"""Workers are told lies about where mailboxes end, by who can write into their queues: the chains stay whole."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import pymongo
import pytest

from crypto_core import ends as messages
from crypto_core.ends import End
from crypto_core.ids import Digest, Milliseconds, RepositoryId, new_letter_id
from repository_worker.effects import Change, Outcome, StoreRegistration
from repository_worker.ends import Ends, Letterbox
from repository_worker.metrics import Metrics
from repository_worker.storage import heads
from repository_worker.storage.driver import connect
from repository_worker.storage.mongo import MongoStorage
from tests.integration.test_storage_commits import letters
from tests.support.protocol import BRUNO, JOAO, MARIA, REPOSITORY
from tests.support.storages import chain, counter, person

KEY = b"k" * 32
PEOPLE = (MARIA, JOAO, BRUNO)
FORGED = End(JOAO, 40, Digest(b"f" * 32), 1, 1)


@dataclass
class Worker:
    """A worker's storage, with its mouth and its ear, at work for a minute."""

    storage: MongoStorage
    ends: Ends
    metrics: Metrics

    @classmethod
    def on(cls, mongo: str, database: str) -> Worker:
        storage, metrics = MongoStorage(connect(mongo), database, REPOSITORY), Metrics()
        storage._heads._since -= 60_000
        return cls(storage, Ends(Letterbox(REPOSITORY, KEY, metrics), storage), metrics)

    def now(self) -> Milliseconds:
        return Milliseconds(self.storage._heads._clock())

    def tell(self) -> bytes:
        """What it would tell others now."""
        made = self.storage.ends_made()
        found = [End(mailbox, tip.number, tip.hash, tip.time, tip.bytes) for mailbox, tip in made.items()]
        return messages.seal(KEY, REPOSITORY, self.now(), found)

    def refused(self) -> float:
        return self.metrics.registry.get_sample_value("smr_ends_heard_total", {"outcome": "refused"})

    def known(self):
        return self.storage._heads.remembered(PEOPLE)


@pytest.fixture
def workers(mongo):
    """Two workers on one database."""
    name = f"test-{new_letter_id().hex()}"
    first, second = (Worker.on(mongo.uri, name) for _ in range(2))
    first.storage.prepare()
    for number, user in enumerate(PEOPLE, 1):
        first.storage.commit(Change(StoreRegistration(person(user), "somebody"), counter(number)))
    for each in (first, second):
        each.storage.unregistered(PEOPLE)
    yield first, second
    for each in (first, second):
        each.storage.close()
    with pymongo.MongoClient(mongo.uri) as client:
        client.drop_database(name)


def store(worker: Worker, first: int, count: int = 1) -> None:
    assert all(isinstance(each, Outcome) for each in worker.storage.commit_all(letters(count, first=first)))


def test_what_is_forged_is_dropped(workers):
    first, second = workers
    store(first, 10)
    true, before, now = first.tell(), second.known(), second.now()
    lies = [
        messages.seal(b"K" * 32, REPOSITORY, now, [FORGED]),
        messages.seal(KEY, RepositoryId("f" * len(REPOSITORY)), now, [FORGED]),
        true[: messages.MAC_BYTES] + messages.seal(b"K" * 32, REPOSITORY, now, [FORGED])[messages.MAC_BYTES :],
        true[:-1],
        true + b"\0",
        b"",
        secrets.token_bytes(500),
        bytes(messages.ENDS_BYTES + 1),
    ]
    for each in lies:
        second.ends.hear(each)
    assert second.refused() == len(lies)
    assert second.known() == before
    store(second, 20)
    assert len(chain(second.storage, JOAO)) == 2


def test_a_flood_of_garbage_changes_nothing(workers):
    first, second = workers
    store(first, 10)
    true = first.tell()
    for _ in range(5_000):
        second.ends.hear(secrets.token_bytes(200))
    second.ends.hear(true)
    assert second.known() == first.known()
    store(second, 20, 3)
    assert len(chain(second.storage, JOAO)) == 4


def test_an_old_end_that_is_played_again_changes_nothing(workers):
    first, second = workers
    store(first, 10)
    old = first.tell()
    store(first, 11, 3)
    new = first.tell()
    for each in (new, old, old):
        second.ends.hear(each)
    assert second.known() == first.known()
    store(second, 20)
    assert [each.entry.number for each in chain(second.storage, JOAO)] == [1, 2, 3, 4, 5]


def test_an_old_end_at_a_worker_that_forgot_is_refused_by_the_database_and_looked_after(workers):
    first, second = workers
    store(first, 10)
    old = first.tell()
    store(first, 11, 3)
    second.storage._heads._known.clear()
    second.ends.hear(old)
    store(second, 20)
    assert [each.entry.number for each in chain(second.storage, JOAO)] == [1, 2, 3, 4, 5]


def test_what_was_told_of_entries_that_a_backup_does_not_have_is_passed_over(workers):
    """Recorded, and played to workers that began after a restore, or saw the database go: numbers would be left out."""
    first, second = workers
    store(first, 10)
    recorded = first.tell()
    accepted = second.storage._database.accepted
    accepted.delete_many({"entries": {"$exists": True}})  # as a backup from before has it
    second.storage._heads.forget()
    second.ends.hear(recorded)
    assert second.storage._heads.remembered((JOAO,)) is None
    store(second, 20)
    assert [each.entry.number for each in chain(second.storage, JOAO)] == [1]


@pytest.mark.parametrize("apart", [-2 * heads.TOLD_SKEW_MS, 2 * heads.TOLD_SKEW_MS])
def test_what_is_dated_long_ago_or_in_the_future_is_passed_over(workers, apart):
    first, second = workers
    store(first, 10)
    before = second.known()
    found = [End(mailbox, *vars_of(tip)) for mailbox, tip in first.storage.ends_made().items()]
    second.ends.hear(messages.seal(KEY, REPOSITORY, Milliseconds(second.now() + apart), found))
    assert second.known() == before
    second.ends.hear(messages.seal(KEY, REPOSITORY, second.now(), found))
    assert second.known() == first.known()


def vars_of(tip) -> tuple:
    return tip.number, tip.hash, tip.time, tip.bytes
