"""The arithmetic of the measurements. Nothing here takes a time."""

from __future__ import annotations

import pytest

from bench.figures import Better, Judgement, Measure, percentile, together


def measure(runs, floor_runs=(100.0, 100.0, 100.0), better=Better.HIGHER, aim=0.8, bound=0.6) -> Measure:
    return Measure("send_throughput", "1/s", tuple(runs), tuple(floor_runs), better, aim, bound, "plain RPC")


def test_value_floor_and_ratio_are_of_the_medians():
    made = measure([1.0, 90.0, 80.0, 85.0, 1000.0], [100.0, 1.0, 200.0])
    assert (made.value, made.floor, made.ratio) == (85.0, 100.0, 0.85)


@pytest.mark.parametrize(
    ("runs", "judgement"),
    [
        ([80.0], Judgement.AIM),
        ([79.9], Judgement.DONE),
        ([60.0], Judgement.DONE),
        ([59.9], Judgement.MISSED),
    ],
)
def test_a_throughput_is_judged_from_below(runs, judgement):
    assert measure(runs).judgement is judgement


@pytest.mark.parametrize(
    ("runs", "judgement"),
    [
        ([130.0], Judgement.AIM),
        ([130.1], Judgement.DONE),
        ([160.0], Judgement.DONE),
        ([160.1], Judgement.MISSED),
    ],
)
def test_a_latency_is_judged_from_above(runs, judgement):
    assert measure(runs, better=Better.LOWER, aim=1.3, bound=1.6).judgement is judgement


def test_without_a_floor_there_is_no_ratio_and_no_judgement():
    made = measure([5.0], ())
    assert (made.floor, made.ratio, made.judgement) == (None, None, Judgement.NONE)


def test_a_floor_of_nothing_gives_no_ratio():
    assert measure([5.0], (0.0,)).ratio is None


def test_the_json_holds_what_a_reader_needs():
    found = measure([90.0, 80.0, 85.0]).as_json()
    assert {key: found[key] for key in ("name", "unit", "value", "floor", "ratio", "runs")} == {
        "name": "send_throughput",
        "unit": "1/s",
        "value": 85.0,
        "floor": 100.0,
        "ratio": 0.85,
        "runs": [90.0, 80.0, 85.0],
    }


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([5.0], 50, 5.0),
        ([5.0], 99, 5.0),
        ([3.0, 1.0, 2.0, 4.0], 50, 2.0),
        ([float(n) for n in range(1, 101)], 99, 99.0),
        ([float(n) for n in range(1, 101)], 100, 100.0),
        ([float(n) for n in range(1, 201)], 99, 198.0),
    ],
)
def test_percentiles_are_values_that_occurred(values, percent, expected):
    assert percentile(values, percent) == expected


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], 0), ([1.0], 101)])
def test_percentiles_of_nothing_are_refused(values, percent):
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, percent)


def test_processes_count_together_from_the_first_message_to_the_last_reply():
    played = together(
        [
            {"began": 10.0, "ended": 12.0, "seconds": [0.1, 0.2], "reply_bytes": 100},
            {"began": 10.5, "ended": 14.0, "seconds": [0.3, 0.4], "reply_bytes": 200},
        ]
    )
    assert (played.messages, played.throughput, played.reply_bytes) == (4, 1.0, 150)
    assert played.seconds == (0.1, 0.2, 0.3, 0.4)
