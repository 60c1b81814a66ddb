"""The token bucket: whom it lets through, and that one account cannot empty another's."""

from __future__ import annotations

from repository_worker.transport import shedding
from repository_worker.transport.shedding import Gate


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def admitted(gate: Gate, account: str | None, count: int) -> int:
    return sum(gate.admits(account) for _ in range(count))


def test_a_burst_passes_and_what_is_more_does_not():
    gate = Gate(10, 5, monotonic=Clock())
    assert admitted(gate, "maria", 20) == 5


def test_it_fills_again_at_its_rate_and_no_further_than_the_burst():
    clock = Clock()
    gate = Gate(10, 5, monotonic=clock)
    admitted(gate, "maria", 20)
    clock.now += 0.2
    assert admitted(gate, "maria", 20) == 2
    clock.now += 3600
    assert admitted(gate, "maria", 20) == 5


def test_each_account_has_its_own():
    gate = Gate(10, 5, monotonic=Clock())
    admitted(gate, "flood", 1000)
    assert admitted(gate, "maria", 5) == 5


def test_messages_without_an_account_share_one():
    gate = Gate(10, 5, monotonic=Clock())
    assert admitted(gate, None, 20) == 5
    assert not gate.admits(None)


def test_the_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(shedding, "ACCOUNTS_MAX", 3)
    gate = Gate(10, 1, monotonic=Clock())
    assert all(gate.admits(str(each)) for each in range(10))
    assert not gate.admits("9")
    assert len(gate._buckets) == 3
