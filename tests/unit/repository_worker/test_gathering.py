"""When a worker awaits more messages, and for how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repository_worker.luck import PAUSE_MIN
from repository_worker.transport.gathering import (
    AWAIT_SECONDS,
    CROWD,
    CROWDED_SECONDS,
    SILENCE_SECONDS,
    Gathering,
)

FULL = 32
MOMENT = SILENCE_SECONDS / 4


class Road:
    """A clock, and messages that come at known moments (seconds), one at each."""

    def __init__(self, *moments: float) -> None:
        self.now = 0.0
        self.coming = sorted(moments)
        self.taken: list[int] = []
        self.waited = 0.0

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        """As the broker's library: until the next message, or so long."""
        assert seconds > 0
        until = self.now + seconds
        if self.coming and self.coming[0] <= until:
            until = max(self.now, self.coming.pop(0))
            self.taken.append(0)
        self.waited += until - self.now
        self.now = until


def gathered(road: Road, *, before: int, has: int = 1, later: float = 0.0) -> int:
    """How many messages a worker begins with that has just handled `before`, and `later` found those it `has`."""
    gathering = Gathering(FULL, road.clock)
    gathering.handled(before)
    road.now += later
    road.taken = [0] * has
    gathering.gather(road.taken, road.wait)
    return len(road.taken)


def often(count: int, apart: float = MOMENT) -> list[float]:
    return [apart * number for number in range(1, count + 1)]


@pytest.mark.parametrize("before", [0, 1, CROWD - 1])
def test_nothing_is_awaited_by_who_handled_few(before):
    road = Road(*often(FULL))
    assert gathered(road, before=before) == 1
    assert road.waited == 0


def test_nothing_is_awaited_at_the_beginning():
    road = Road(*often(FULL))
    Gathering(FULL, road.clock).gather(road.taken, road.wait)
    assert road.waited == 0


def test_nothing_is_awaited_when_many_were_handled_long_ago():
    road = Road(*(CROWDED_SECONDS + each for each in often(FULL)))
    assert gathered(road, before=FULL, later=CROWDED_SECONDS) == 1
    assert road.waited == 0


def test_nothing_is_awaited_by_who_has_a_full_batch():
    road = Road(*often(FULL))
    assert gathered(road, before=FULL, has=FULL) == FULL
    assert road.waited == 0


def test_among_many_a_full_batch_is_awaited_and_not_more():
    road = Road(*often(2 * FULL, MOMENT / 10))
    assert gathered(road, before=CROWD, has=3) == FULL


def test_silence_ends_it():
    road = Road(*often(3), 1.0)
    assert gathered(road, before=FULL) == 4
    assert road.waited == pytest.approx(3 * MOMENT + SILENCE_SECONDS)


def test_a_trickle_does_not_go_on_for_ever():
    road = Road(*often(1_000, SILENCE_SECONDS * 0.9))
    assert gathered(road, before=FULL) < FULL
    assert road.waited == pytest.approx(AWAIT_SECONDS)


def test_where_nothing_comes_of_it_it_is_done_less_often():
    road = Road()
    gathering = Gathering(FULL, road.clock)
    waits = []
    for _ in range(3 * PAUSE_MIN + 3):
        road.waited = 0.0
        gathering.handled(CROWD)
        gathering.gather([0] * CROWD, road.wait)
        waits.append(road.waited > 0)
    assert waits == [True, *[False] * PAUSE_MIN, True, *[False] * 2 * PAUSE_MIN, True]


def test_what_was_worth_it_is_done_again():
    road = Road(*often(10 * FULL, MOMENT / 10))
    gathering = Gathering(FULL, road.clock)
    for _ in range(5):
        gathering.handled(FULL)
        taken = road.taken = [0]
        gathering.gather(taken, road.wait)
        assert len(taken) == FULL


@given(
    st.lists(st.floats(0, 1), max_size=2 * FULL),
    st.integers(0, FULL),
    st.integers(1, FULL + 5),
    st.floats(0, 2 * CROWDED_SECONDS),
)
def test_it_never_takes_longer_than_it_says_and_never_too_many(moments, before, has, later):
    road = Road(*moments)
    assert gathered(road, before=before, has=has, later=later) <= max(FULL, has)
    assert road.waited <= AWAIT_SECONDS * 1.001
    if before < CROWD or later >= CROWDED_SECONDS:
        assert road.waited == 0
