"""What workers remember, in the real database: whom blocks are asked about, for how long, and the news of it."""

from __future__ import annotations

import pytest
from pymongo.errors import DuplicateKeyError

from repository_worker.effects import SetBlock
from repository_worker.storage import collections as names
from repository_worker.storage import memory
from repository_worker.storage.blocks import Blocks
from repository_worker.storage.interface import Closed
from repository_worker.storage.memory import CLOSED_SESSIONS, MEMORY_SECONDS, NEWS_SECONDS, News
from tests.support.clock import Clock
from tests.support.protocol import BRUNO, JOAO, MARIA


@pytest.fixture
def clock() -> Clock[float]:
    return Clock(1000.0)


@pytest.fixture
def collection(database):
    (declared,) = [each for each in names.COLLECTIONS if each.name == names.BLOCKS]
    database.create_collection(declared.name, validator=declared.validator)
    database[declared.name].create_indexes(list(declared.indexes))
    return database[declared.name]


@pytest.fixture
def blocks(collection, database, clock):
    return Blocks(database, News(database, clock), clock)


@pytest.fixture
def elsewhere(collection, database, clock):
    """The blocks as another worker knows them."""
    return Blocks(database, News(database, clock), clock)


def put(blocks, owner, user, *, blocked=True, repeated=False) -> None:
    client = blocks._collection.database.client
    with client.start_session() as session, session.start_transaction():
        blocks.apply(SetBlock(owner, user, blocked), session, repeated=repeated)


def test_those_who_block_the_author_are_found_among_the_readers(blocks):
    put(blocks, BRUNO, MARIA)
    put(blocks, JOAO, BRUNO)
    assert blocks.refusing([JOAO, BRUNO], MARIA) == (BRUNO,)
    assert blocks.refusing([JOAO], BRUNO) == (JOAO,)
    assert blocks.refusing([], MARIA) == ()


def test_an_answer_of_another_worker_counts_after_the_named_time(blocks, elsewhere, clock):
    assert blocks.refusing([JOAO], MARIA) == ()
    put(elsewhere, JOAO, MARIA)
    clock.now += NEWS_SECONDS - 0.01
    assert blocks.refusing([JOAO], MARIA) == ()
    clock.now += 0.02
    assert blocks.refusing([JOAO], MARIA) == (JOAO,)
    put(elsewhere, JOAO, MARIA, blocked=False)
    clock.now += NEWS_SECONDS
    assert blocks.refusing([JOAO], MARIA) == ()


def test_what_nobody_announced_counts_after_the_other_named_time(blocks, collection, clock):
    assert blocks.refusing([JOAO], MARIA) == ()
    collection.insert_one({"mailbox": JOAO, "author": MARIA})
    clock.now += MEMORY_SECONDS - 0.01
    assert blocks.refusing([JOAO], MARIA) == ()
    clock.now += 0.02
    assert blocks.refusing([JOAO], MARIA) == (JOAO,)


def test_what_was_asked_before_the_news_is_not_remembered_after_them(database, collection, clock):
    news = News(database, clock)
    remembered: memory.Memory[str, bool] = memory.Memory(news, clock)
    _, before = remembered.recall(["a"])
    with database.client.start_session() as session, session.start_transaction():
        news.announce(session)
    clock.now += NEWS_SECONDS
    remembered.recall(["b"])
    remembered.keep({"a": False}, before)
    assert remembered.recall(["a"])[0] == {}


def test_who_blocks_nobody_is_asked_about_once_for_all_senders(blocks, elsewhere, collection, clock):
    assert blocks.refusing([JOAO, BRUNO], MARIA) == ()
    collection.insert_one({"mailbox": JOAO, "author": BRUNO})
    assert blocks.refusing([JOAO], BRUNO) == ()  # remembered: João blocked nobody
    clock.now += MEMORY_SECONDS
    assert blocks.refusing([JOAO], BRUNO) == (JOAO,)
    assert blocks.refusing([JOAO, BRUNO], MARIA) == ()  # who blocks somebody is asked about each sender
    collection.insert_one({"mailbox": JOAO, "author": MARIA})
    assert blocks.refusing([JOAO, BRUNO], MARIA) == ()
    clock.now += MEMORY_SECONDS
    assert blocks.refusing([JOAO, BRUNO], MARIA) == (JOAO,)


def test_what_this_worker_changed_counts_at_once(blocks):
    assert blocks.refusing([JOAO], MARIA) == ()
    put(blocks, JOAO, MARIA)
    assert blocks.refusing([JOAO], MARIA) == (JOAO,)
    put(blocks, JOAO, MARIA, blocked=False)
    assert blocks.refusing([JOAO], MARIA) == ()


def test_twice_is_once_and_a_repeated_command_changes_nothing(blocks, collection):
    put(blocks, JOAO, MARIA)
    put(blocks, JOAO, MARIA)
    assert collection.count_documents({}) == 1
    put(blocks, JOAO, MARIA, blocked=False, repeated=True)
    assert blocks.of(JOAO) == (MARIA,)
    with pytest.raises(DuplicateKeyError):
        collection.insert_one({"mailbox": JOAO, "author": MARIA})


def test_lists_are_ascending_and_apart(blocks):
    for user in (MARIA, BRUNO):
        put(blocks, JOAO, user)
    assert blocks.of(JOAO) == tuple(sorted([MARIA, BRUNO]))
    assert blocks.of(MARIA) == ()


def test_what_is_remembered_is_bounded(blocks, monkeypatch):
    monkeypatch.setattr(memory, "REMEMBERED", 10)
    for number in range(50):
        put(blocks, BRUNO, number.to_bytes(28, "big"))
        blocks.refusing([number.to_bytes(28, "big"), BRUNO], number.to_bytes(28, "big"))
    assert len(blocks._pairs._known) <= 10
    assert len(blocks._wary._known) <= 10


def test_the_look_uses_its_index_alone(blocks, collection):
    put(blocks, JOAO, MARIA)
    plan = collection.find({"mailbox": {"$in": [JOAO, BRUNO]}, "author": MARIA}).explain()["executionStats"]
    assert plan["totalDocsExamined"] <= 1
    assert plan["totalKeysExamined"] <= 4
    for number in range(20):
        put(blocks, JOAO, number.to_bytes(28, "big"))
    look = {"distinct": names.BLOCKS, "key": "mailbox", "query": {"mailbox": {"$in": [JOAO, BRUNO]}}}
    plan = collection.database.command("explain", look)["executionStats"]
    assert plan["totalDocsExamined"] == 0
    assert plan["totalKeysExamined"] <= 4


@pytest.fixture
def news(database, clock):
    (declared,) = [each for each in names.COLLECTIONS if each.name == names.NEWS]
    database.create_collection(declared.name, validator=declared.validator)
    return News(database, clock)


def close(database, *sessions: bytes) -> None:
    with database.client.start_session() as session, session.start_transaction():
        for each in sessions:
            News(database).announce_closed(each, session)


def test_closed_sessions_are_named_after_the_named_time(news, database, clock):
    assert news.closed(0) == Closed(0, ())
    close(database, b"a" * 16, b"b" * 16)
    clock.now += NEWS_SECONDS - 0.01
    assert news.closed(0) == Closed(0, ())
    clock.now += 0.02
    assert news.closed(0) == Closed(2, (b"a" * 16, b"b" * 16))
    assert news.closed(1) == Closed(2, (b"b" * 16,))
    assert news.closed(2) == Closed(2, ())
    assert news.count() == 0  # nothing else changed


@pytest.mark.parametrize("known", [0, CLOSED_SESSIONS + 7], ids=["too long ago", "of a database that was restored"])
def test_when_nobody_can_name_them_all_that_is_said(known, news, database):
    close(database, *(bytes([0, number % 256]) * 8 for number in range(CLOSED_SESSIONS + 1)))
    assert news.closed(known) == Closed(CLOSED_SESSIONS + 1, None)
    assert len(news.closed(1).sessions) == CLOSED_SESSIONS


class Questions:
    """A collection that counts what is asked of it, and does something meanwhile."""

    def __init__(self, collection, meanwhile=lambda: None) -> None:
        self._collection, self._meanwhile = collection, meanwhile
        self.count = 0

    def find(self):
        self.count += 1
        found = list(self._collection.find())
        self._meanwhile()
        return found


def test_nobody_waits_for_news_that_were_asked_for_ahead(news, clock):
    news._collection = asked = Questions(news._collection)
    news.refresh_ahead()
    assert asked.count == 0  # nobody has needed them yet
    for _ in range(5):
        news.count()
        clock.now += NEWS_SECONDS / 2
        news.refresh_ahead()
    assert asked.count == 5
    news.refresh_ahead()
    assert asked.count == 5
    clock.now += NEWS_SECONDS
    news.count()
    assert asked.count == 6  # whoever finds them too old asks


def test_of_two_that_ask_at_once_the_later_one_counts(news, database, clock):
    closed = Closed(1, (b"a" * 16,))

    def meanwhile() -> None:
        news._collection = database[names.NEWS]
        close(database, b"a" * 16)
        clock.now += 0.1
        assert news.closed(0) == closed

    news._collection = Questions(database[names.NEWS], meanwhile)
    assert news.closed(0) == closed
