"""What workers count at every message, against the library that everything else is counted with."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from repository_worker.tallies import Tallies, Tally, Total, Totals

BOUNDS = (0.25, 1.0, 10.0)


def shown(*collectors):
    registry = CollectorRegistry()
    for each in collectors:
        registry.register(each)
    return generate_latest(registry).decode()


def without_birthdays(text):
    """The library also says when it began to count each series."""
    return [line for line in text.splitlines() if "_created" not in line]


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from([0.0, *BOUNDS, 0.3, 11.0]) | st.floats(0, 20)), max_size=20
    )
)
def test_the_library_shows_the_same(values):
    ours, theirs = (
        Tallies("x", "What.", BOUNDS, ["kind"]),
        Histogram("x", "What.", ["kind"], registry=None, buckets=BOUNDS),
    )
    totals, counters = Totals("y", "How many.", ["kind"]), Counter("y", "How many.", ["kind"], registry=None)
    for kind, value in sorted(values, key=lambda each: each[0]):
        ours.of(kind).observe(value)
        theirs.labels(kind).observe(value)
        totals.of(kind).add(value)
        counters.labels(kind).inc(value)
    assert without_birthdays(shown(ours, totals)) == without_birthdays(shown(theirs, counters))


def test_without_labels_nothing_counted_is_shown_too():
    ours, theirs = Tallies("x", "What.", BOUNDS), Histogram("x", "What.", registry=None, buckets=BOUNDS)
    assert without_birthdays(shown(ours)) == without_birthdays(shown(theirs))
    assert "y_total 0.0" in shown(Totals("y", "How many."))


def test_a_series_is_the_same_whenever_it_is_asked_for():
    family = Totals("y", "How many.", ["kind"])
    assert family.of("a") is family.of("a") is not family.of("b")


@pytest.mark.parametrize("series", [Tally(BOUNDS), Total()], ids=["tally", "total"])
def test_threads_lose_nothing(series):
    count = series.observe if isinstance(series, Tally) else series.add

    def many():
        for _ in range(5_000):
            count(1.0)

    threads = [threading.Thread(target=many) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert series.standing() == (([0, 40_000, 40_000, 40_000], 40_000.0) if isinstance(series, Tally) else 40_000.0)


def test_no_two_families_get_one_name():
    with pytest.raises(ValueError, match="Duplicated"):
        shown(Totals("y", "How many."), Totals("y", "How many."))
