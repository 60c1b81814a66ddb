"""Whom a worker tells where chains end, and whom it hears."""

from __future__ import annotations

import threading

import pytest

from broker_config import names
from crypto_core.ids import Digest, Milliseconds, RepositoryId
from repository_worker import ends
from repository_worker.ends import Ends, Letterbox
from repository_worker.errors import StorageUnavailable
from repository_worker.keys import RepositoryKeystore
from repository_worker.metrics import Metrics
from repository_worker.storage.chains import Tip
from tests.support.protocol import JOAO, MARIA, REPOSITORY

KEY = b"k" * 32
NOW = Milliseconds(1_790_000_000_000)
OWN, OTHER, THIRD = (names.ends_queue(bytes([number]) * 16) for number in range(3))
TIPS = {MARIA: Tip(3, Digest(b"h" * 32), 5, 9), JOAO: Tip(1, Digest(b"i" * 32), 7, 0)}
PATIENCE = 30.0


class Store:
    """What a storage knows of other workers, as a test says."""

    def __init__(self) -> None:
        self.made: dict = {}
        self.heard: list = []
        self.queues: tuple = ()
        self.noted: list = []
        self.down = False
        self.asked = threading.Semaphore(0)

    def ends_made(self):
        made, self.made = self.made, {}
        return made

    def ends_heard(self, tips, told) -> None:
        self.heard.append((tips, told))

    def listeners(self):
        return self.queues

    def note_listener(self, queue, seconds) -> None:
        self.noted.append((queue, seconds))
        self.asked.release()
        if self.down:
            raise StorageUnavailable("down")


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def own(store, metrics) -> Ends:
    made = Ends(Letterbox(REPOSITORY, KEY, metrics, clock=lambda: NOW), store)
    made.listen(OWN)
    return made


def heard(metrics: Metrics, outcome: str) -> float:
    return metrics.registry.get_sample_value("smr_ends_heard_total", {"outcome": outcome})


def test_every_other_worker_is_told_once_and_hears_the_same(own, store, metrics):
    store.made, store.queues = dict(TIPS), (OTHER, OWN, THIRD)
    first, second = own.due()
    assert [first[0], second[0]] == [OTHER, THIRD]
    assert own.due() == []
    own.hear(first[1])
    assert store.heard == [(TIPS, NOW)]
    assert (heard(metrics, "ok"), heard(metrics, "refused")) == (1, 0)


@pytest.mark.parametrize("queues", [(), (OWN,), tuple(names.ends_queue(bytes([n]) * 16) for n in range(1, 99))])
def test_alone_or_among_too_many_it_tells_nobody_and_keeps_nothing(own, store, queues):
    store.made, store.queues = dict(TIPS), queues
    assert own.due() == []
    store.queues = (OTHER,)
    assert own.due() == []


def test_as_many_as_are_told_are_told(own, store):
    store.made, store.queues = dict(TIPS), tuple(names.ends_queue(bytes([n]) * 16) for n in range(1, 9))
    assert len(own.due()) == ends.WORKERS_TOLD == 8


def test_what_no_worker_of_this_repository_made_is_counted_and_dropped(own, store, metrics):
    store.made, store.queues = dict(TIPS), (OTHER,)
    ((_, message),) = own.due()
    stranger = Ends(Letterbox(RepositoryId("f" * len(REPOSITORY)), KEY, metrics, clock=lambda: NOW), store)
    thief = Ends(Letterbox(REPOSITORY, b"K" * 32, metrics, clock=lambda: NOW), store)
    stranger.hear(message)
    thief.hear(message)
    own.hear(b"")
    assert store.heard == []
    assert (heard(metrics, "ok"), heard(metrics, "refused")) == (0, 3)


def test_it_is_noted_at_once_again_and_again_and_after_a_database_that_was_down(own, store, monkeypatch):
    monkeypatch.setattr(ends, "NOTE_SECONDS", 0.01)
    store.down = True
    with own:
        for _ in range(3):
            assert store.asked.acquire(timeout=PATIENCE)
    assert set(store.noted) == {(OWN, ends.NOTED_SECONDS)}


def test_who_never_listens_ends_too(store, metrics):
    with Ends(Letterbox(REPOSITORY, KEY, metrics), store):
        pass
    assert store.noted == []


def test_the_key_is_the_repositorys_and_no_other_of_its_keys():
    keystore = RepositoryKeystore(REPOSITORY, "Repositório", b"w" * 32)
    other = RepositoryKeystore(REPOSITORY, "Repositório", b"W" * 32)
    assert len({keystore.ends_key, other.ends_key, keystore.share_secret, keystore.wrapping_secret}) == 4
