"""Workers with one home store full batches in turn: nobody meets, and nothing depends on it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from unittest.mock import Mock

import pytest
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect

from crypto_core.ids import Milliseconds
from repository_worker import turns
from repository_worker.effects import Outcome
from repository_worker.ends import Letterbox
from repository_worker.errors import StorageUnavailable
from repository_worker.metrics import Metrics
from repository_worker.storage import heads
from repository_worker.storage.chains import DEFAULT_QUOTA
from repository_worker.storage.commits import SMALL_BATCH
from repository_worker.storage.heads import Heard
from repository_worker.storage.mongo import MongoStorage
from repository_worker.turns import Turns
from tests.integration.test_storage_commits import Watch, letters
from tests.support.protocol import BRUNO, JOAO, MARIA, REPOSITORY
from tests.support.storages import chain

KEY = b"k" * 32
PATIENCE_SECONDS = 30.0
FULL = SMALL_BATCH + 1


def own_turns(folder) -> Turns:
    return Turns(folder, Letterbox(REPOSITORY, KEY, Metrics()), Metrics())


@pytest.fixture
def neighbours(storage, open_storage, tmp_path) -> list[tuple[MongoStorage, Watch]]:
    """Two workers with one home, who have seen the three citizens' mailboxes."""
    made = []
    for _ in range(2):
        watch = Watch()
        worker = open_storage(DEFAULT_QUOTA, own_turns(tmp_path), listeners=[watch])
        worker.unregistered((MARIA, JOAO, BRUNO))
        worker._heads.known((MARIA, JOAO))
        watch.started_.clear()
        made.append((worker, watch))
    return made


def test_full_batches_of_two_workers_are_one_insertion_each(storage, neighbours):
    for number in range(6):
        ends = neighbours[number % 2][0].commit_all(letters(FULL, first=100 * number + 20))
        assert all(isinstance(each, Outcome) for each in ends)
    assert [watch.names for _, watch in neighbours] == [["insert"] * 3] * 2
    assert len(chain(storage, JOAO)) == 6 * FULL


def test_at_once_too(storage, neighbours, monkeypatch):
    monkeypatch.setattr(turns, "TURN_SECONDS", PATIENCE_SECONDS)
    together = threading.Barrier(2, timeout=PATIENCE_SECONDS)

    def work(own: int) -> None:
        for number in range(5):
            together.wait()
            neighbours[own][0].commit_all(letters(FULL, first=10_000 * own + 100 * number + 20))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    assert [watch.names for _, watch in neighbours] == [["insert"] * 5] * 2
    assert len(chain(storage, JOAO)) == 10 * FULL


def test_who_gets_no_turn_stores_all_the_same(storage, neighbours, tmp_path):
    holder = own_turns(tmp_path)
    assert holder.take() == []
    for number in range(4):
        neighbours[number % 2][0].commit_all(letters(FULL, first=100 * number + 20))
    holder.give({})
    assert len(chain(storage, JOAO)) == 4 * FULL


def test_who_meets_workers_of_another_home_asks_first_for_a_while(storage, neighbours):
    (worker, watch), _ = neighbours
    worker.commit_all(letters(FULL))
    storage.commit_all(letters(FULL, first=500))
    worker.commit_all(letters(FULL, first=100))
    watch.started_.clear()
    worker.commit_all(letters(FULL, first=200))
    assert watch.names[0] == "find"
    assert len(chain(storage, JOAO)) == 4 * FULL


def test_that_others_were_met_without_a_turn_is_not_held_against_it(neighbours):
    worker, watch = neighbours[0]
    worker._commits._large.note(failed=True)
    worker.commit_all(letters(FULL))
    assert watch.names == ["insert"]


def test_a_turn_ends_however_its_batch_does(storage, neighbours, tmp_path, monkeypatch):
    (first, _), (second, _) = neighbours
    with monkeypatch.context() as broken, pytest.raises(StorageUnavailable):
        broken.setattr(Collection, "insert_many", Mock(side_effect=AutoReconnect("gone")))
        first.commit_all(letters(FULL))
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.0)
    other = own_turns(tmp_path)
    assert other.take() == []
    other.give({})
    second.commit_all(letters(FULL, first=100))
    assert len(chain(storage, JOAO)) == FULL


def test_a_few_letters_wait_for_no_turn(storage, open_storage):
    asked = Mock(wraps=Mock(take=Mock(return_value=None)))
    worker = open_storage(DEFAULT_QUOTA, asked)
    worker.commit_all(letters(SMALL_BATCH))
    assert not asked.take.called
    worker.commit_all(letters(FULL, first=100))
    assert asked.take.called
    assert not asked.give.called
    assert len(chain(storage, JOAO)) == SMALL_BATCH + FULL


class TestWhatIsFollowed:
    @pytest.fixture
    def ahead(self, storage) -> Heard:
        """An end of João's mailbox that this storage has not seen."""
        tip = replace(storage._heads.known([JOAO])[JOAO], number=40)
        return Heard({JOAO: tip}, Milliseconds(storage._heads._clock()))

    def known(self, storage) -> int | None:
        tips = storage._heads.remembered([JOAO])
        return tips[JOAO].number if tips else None

    def test_what_another_has_made(self, storage, ahead):
        storage._heads.follow([ahead], 0)
        assert self.known(storage) == 40

    def test_nothing_from_before_the_database_was_away(self, storage, ahead):
        begun = storage._heads.follow([], 0)
        storage._heads.forget()
        begun = storage._heads.follow([ahead], begun)
        assert self.known(storage) is None
        storage._heads.follow([ahead], begun)
        assert self.known(storage) == 40

    @pytest.mark.parametrize("apart", [-heads.TOLD_SKEW_MS - 1_000, heads.TOLD_SKEW_MS + 1_000])
    def test_nothing_from_long_ago_nor_from_times_to_come(self, storage, ahead, apart):
        storage._heads.follow([ahead._replace(told=Milliseconds(ahead.told + apart))], 0)
        assert self.known(storage) == 0
