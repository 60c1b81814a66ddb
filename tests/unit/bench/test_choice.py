"""Which rows a run takes, and how its figures are written."""

from __future__ import annotations

import pytest

from bench.__main__ import choose
from bench.report import line, number
from bench.rows import ROWS
from tests.unit.bench.test_figures import measure


def test_all_rows_without_a_choice():
    assert list(choose("")) == list(ROWS)


def test_names_and_beginnings_of_names_choose():
    assert list(choose("send_throughput")) == ["send_throughput"]
    assert list(choose(" new , send_latency,")) == ["send_latency", "new_throughput", "new_latency"]


def test_a_name_that_is_none_chooses_nothing():
    assert choose("spend") == {}


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.01234, "0.0123"), (2.5, "2.50"), (99.94, "99.94"), (2900.4, "2,900")]
)
def test_figures_are_written_as_far_as_they_mean_something(value, text):
    assert number(value) == text


def test_a_line_shows_the_floor_beside_the_value():
    text = line(measure([85.0]))
    assert text.split() == ["✓", "send_throughput:", "85.00", "1/s;", "floor", "100,", "ratio", "0.85"]
    assert "floor" not in line(measure([85.0], ()))
