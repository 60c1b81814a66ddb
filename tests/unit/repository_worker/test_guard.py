"""How fast accounts publish, from figures that come in steps: who is told, when, and how often."""

from __future__ import annotations

import pytest

from repository_worker.guard import WINDOW_SECONDS, Rates
from tests.support.clock import Clock

LIMIT = 1000.0
FULL = int(LIMIT * WINDOW_SECONDS)  #: as many messages as a window may have


@pytest.fixture
def clock() -> Clock[float]:
    return Clock(100.0)


@pytest.fixture
def rates(clock: Clock[float]) -> Rates:
    return Rates(clock)


def test_who_has_sent_too_many_for_a_window_is_told_before_it_is_over_and_once(rates, clock):
    clock.now += 0.1
    rates.note({"1": ("maria", FULL + 1), "2": ("joao", FULL)})
    assert rates.beyond(LIMIT) == {"maria": pytest.approx(LIMIT, rel=0.001)}
    clock.now += 0.1
    assert rates.beyond(LIMIT) == {}


def test_what_an_account_publishes_on_several_channels_is_counted_together(rates):
    rates.note({"1": ("maria", FULL - 10), "2": ("maria", 11)})
    assert list(rates.beyond(LIMIT)) == ["maria"]


def test_what_was_counted_before_does_not_count_again(rates, clock):
    rates.note({"1": ("maria", FULL)})
    assert rates.beyond(LIMIT) == {}
    clock.now += WINDOW_SECONDS
    assert rates.beyond(LIMIT) == {}
    rates.note({"1": ("maria", 2 * FULL)})
    assert rates.beyond(LIMIT) == {}


def test_a_long_window_allows_more(rates, clock):
    clock.now += 2 * WINDOW_SECONDS
    rates.note({"1": ("maria", 2 * FULL), "2": ("joao", 2 * FULL + 10)})
    assert list(rates.beyond(LIMIT)) == ["joao"]


def test_a_channel_that_begins_anew_is_not_counted_below_nothing(rates):
    rates.note({"1": ("maria", FULL)})
    rates.note({"1": ("maria", 0)})
    rates.note({"1": ("maria", 1)})
    assert list(rates.beyond(LIMIT)) == ["maria"]
