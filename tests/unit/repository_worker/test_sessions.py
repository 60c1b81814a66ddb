"""Session records in a worker's memory: for a named time, in a bounded number, and none that a KEK does not open."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from crypto_core import records
from crypto_core.ids import SessionId
from repository_worker.keys import KekRing
from repository_worker.sessions import Sessions
from repository_worker.storage.interface import Closed
from tests.support.protocol import NOW, SESSION, digest, kek, signing_key


def record(session=SESSION) -> records.SessionRecord:
    return records.SessionRecord(
        session, signing_key("app").public.raw, None, 1, bytes(32), bytes(32), digest("confirm"), NOW
    )


@dataclass
class Stored:
    """The one part of a storage that sessions need."""

    records: dict[bytes, bytes] = field(default_factory=dict)
    asked: int = 0
    ended: list[bytes] = field(default_factory=list)
    named: int = 3

    def closed(self, since):
        more = len(self.ended) - since
        return Closed(len(self.ended), tuple(self.ended[since:]) if 0 <= more <= self.named else None)

    def session(self, session):
        self.asked += 1
        return self.records.get(session)


@pytest.fixture
def ring(tmp_path):
    return KekRing(tmp_path, bytes(32))


@pytest.fixture
def stored():
    return Stored()


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def sessions(stored, ring, clock):
    made = Sessions(stored, ring, seconds=60, entries=2, monotonic=lambda: clock[0])
    effect = made.seal(record(), NOW)
    stored.records[effect.session] = effect.record
    return made


def test_found_once_for_a_time(sessions, stored, clock):
    assert sessions.find(SESSION) == sessions.find(SESSION) == record()
    assert stored.asked == 1
    clock[0] = 60.0
    assert sessions.find(SESSION) == record()
    assert stored.asked == 2


def test_in_a_bounded_number(sessions, stored):
    for number in range(3):
        other = SessionId(bytes([number]) * 16)
        stored.records[other] = sessions.seal(record(other), NOW).record
        sessions.find(other)
    assert len(sessions._cache) == 2


def test_forgotten_when_closed(sessions, stored):
    sessions.find(SESSION)
    stored.records.clear()
    sessions.forget(SESSION)
    assert sessions.find(SESSION) is None


def test_forgotten_when_closed_by_another_worker(sessions, stored):
    other = SessionId(bytes(16))
    stored.records[other] = sessions.seal(record(other), NOW).record
    sessions.find(SESSION), sessions.find(other)
    stored.ended.append(SESSION)
    del stored.records[SESSION]
    assert sessions.find(SESSION) is None
    assert sessions.find(other) == record(other)
    assert stored.asked == 3  # the other one was still remembered


@pytest.mark.parametrize("count", [4, -1], ids=["more were closed than the news name", "the database was restored"])
def test_everything_is_forgotten_when_nobody_can_say_what_was_closed(count, sessions, stored):
    stored.ended = [bytes(16)]
    sessions.find(SESSION)
    stored.ended = [bytes(16)] * (1 + count)
    sessions.find(SESSION)
    assert stored.asked == 2


def test_what_was_read_before_a_session_was_closed_is_not_remembered_after(sessions, stored, monkeypatch):
    read = stored.session

    def closed_meanwhile(session):
        sealed = read(session)
        stored.ended.append(session)
        sessions._forget_closed()  # another thread hears of it first
        return sealed

    monkeypatch.setattr(stored, "session", closed_meanwhile)
    sessions.find(SESSION)
    monkeypatch.undo()
    del stored.records[SESSION]
    assert sessions.find(SESSION) is None


def test_an_unknown_one_is_asked_for_again(sessions, stored):
    assert sessions.find(SessionId(bytes(16))) is None
    assert sessions.find(SessionId(bytes(16))) is None
    assert stored.asked == 2


def test_a_record_moved_to_another_session_is_none(sessions, stored):
    other = SessionId(bytes(16))
    stored.records[other] = stored.records[SESSION]
    assert sessions.find(other) is None


def test_a_record_under_a_destroyed_key_is_none(sessions, stored):
    stored.records[SESSION] = records.seal_record(kek("destroyed"), record())
    assert sessions.find(SESSION) is None


def test_bytes_that_are_no_record(sessions, stored):
    stored.records[SESSION] = b"junk"
    assert sessions.find(SESSION) is None
