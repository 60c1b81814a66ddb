"""Moments: one text form, and the window around the clock."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from crypto_core import moments
from crypto_core.errors import Malformed, OutOfTime


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1, "1970-01-01T00:00:00.001Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (1_795_356_117_123, "2026-11-22T14:01:57.123Z"),
        (moments.MOMENT_MAX, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_text_form(moment, text):
    assert moments.to_text(moment) == text
    assert moments.from_text(text) == moment
    assert moments.from_datetime(moments.to_datetime(moment)) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-22",
        "2026-11-22T14:01:57Z",
        "2026-11-22T14:01:57.12Z",
        "2026-11-22T14:01:57.1234Z",
        "2026-11-22T14:01:57.123",
        "2026-11-22T14:01:57.123z",
        "2026-11-22t14:01:57.123Z",
        "2026-11-22 14:01:57.123Z",
        "2026-11-22T14:01:57,123Z",
        "2026-11-22T14:01:57.123+00:00",
        "2026-11-22T14:01:57.123Z\n",
        " 2026-11-22T14:01:57.123Z",
        "12026-11-22T14:01:57.123Z",
        "２０２６-11-22T14:01:57.123Z",
        "2026-W47-7T14:01:57.123Z",
        "2026-02-29T00:00:00.000Z",
        "2026-13-01T00:00:00.000Z",
        "2026-00-10T00:00:00.000Z",
        "2026-11-22T24:00:00.000Z",
        "2026-11-22T23:60:00.000Z",
        "2026-11-22T23:59:60.000Z",
        "0000-01-01T00:00:00.000Z",
    ],
)
def test_other_texts_are_refused(text):
    with pytest.raises(Malformed):
        moments.from_text(text)


def test_fractions_of_a_millisecond_are_dropped():
    assert moments.from_datetime(datetime(1970, 1, 1, 0, 0, 1, 1999, tzinfo=UTC)) == 1001


@pytest.mark.parametrize("difference", [-1000, -1, 0, 1, 1000])
def test_within_the_window(difference):
    moments.require_within(10_000 + difference, 10_000, 1000, "the hello")


@pytest.mark.parametrize("difference", [-1001, 1001, 10**9])
def test_outside_of_the_window(difference):
    with pytest.raises(OutOfTime, match="the hello is dated"):
        moments.require_within(10_000 + difference, 10_000, 1000, "the hello")
