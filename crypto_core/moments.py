"""Moments: milliseconds since the Unix epoch on the wire, RFC 3339 text in UTC in documents. Reads no clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from crypto_core.errors import Malformed, OutOfTime

#: 9999-12-31T23:59:59.999Z: beyond it the text form has no four-digit year
MOMENT_MAX: Final = 253_402_300_799_999

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FORM: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z", re.ASCII)


def to_datetime(moment: int) -> datetime:
    """The aware datetime (UTC) of a moment in milliseconds."""
    return _EPOCH + timedelta(milliseconds=moment)


def from_datetime(value: datetime) -> int:
    """Milliseconds since the Unix epoch of an aware datetime, rounded down."""
    return (value - _EPOCH) // timedelta(milliseconds=1)


def to_text(moment: int) -> str:
    """`2026-11-22T14:01:57.123Z`: always three decimals and Z, so that there is one form."""
    value = to_datetime(moment)
    return f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03d}Z".rjust(24, "0")


def from_text(text: str) -> int:
    """The moment of its one text form. Raises Malformed for any other."""
    if not _FORM.fullmatch(text):
        raise Malformed("a moment is written like 2026-11-22T14:01:57.123Z")
    try:
        moment = from_datetime(datetime.fromisoformat(text))
    except ValueError as error:
        raise Malformed("a moment that is not in the calendar") from error
    if moment < 0 or to_text(moment) != text:
        raise Malformed("a moment that is not in the calendar, or before 1970")
    return moment


def require_within(moment: int, now: int, skew: int, what: str) -> None:
    """Raises OutOfTime unless `moment` lies within `skew` milliseconds of `now`."""
    if abs(now - moment) > skew:
        raise OutOfTime(
            f"{what} is dated {to_text(moment)}, {abs(now - moment) // 1000} s away from the clock here "
            f"({to_text(now)}); set the clock"
        )
