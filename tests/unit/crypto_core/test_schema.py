"""Schemas: each field's type and bounds are kept in both directions and both encodings."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated

import pytest

from crypto_core import cbor, schema
from crypto_core.errors import LimitExceeded, Malformed
from crypto_core.ids import MomentField
from crypto_core.schema import Range, Size


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


@dataclass(frozen=True, slots=True)
class Inner:
    count: Annotated[int, Range(0, 9)]


@dataclass(frozen=True, slots=True)
class Sample:
    data: Annotated[bytes, Size(2, 4)]
    text: Annotated[str, Size(1, 4)]
    number: Annotated[int, Range(-1, 5)]
    flag: bool
    from_: Inner
    many: Annotated[tuple[Inner, ...], Size(0, 2)]
    colour: Colour
    moment: MomentField
    maybe: Annotated[bytes, Size(1, 2)] | None


VALUE = Sample(b"ab", "é", 0, True, Inner(1), (Inner(2), Inner(3)), Colour.RED, 1_795_356_117_123, b"m")
MAP = {
    "data": b"ab",
    "text": "é",
    "number": 0,
    "flag": True,
    "from": {"count": 1},
    "many": [{"count": 2}, {"count": 3}],
    "colour": "red",
    "moment": 1_795_356_117_123,
    "maybe": b"m",
}
DOCUMENT = {**MAP, "data": "6162", "moment": "2026-11-22T14:01:57.123Z", "maybe": "6d"}
ABSENT = object()

REFUSED_IN_BOTH = {
    "unknown field": {"other": 1},
    "field with the underscore of Python": {"from_": {"count": 1}},
    "missing": {"number": ABSENT},
    "null for what is needed": {"number": None},
    "text too short": {"text": ""},
    "text too long in bytes": {"text": "ééé"},
    "text of another type": {"text": 1},
    "text with a lone surrogate": {"text": "\ud800"},
    "number too low": {"number": -2},
    "number too high": {"number": 6},
    "number that is a bool": {"number": True},
    "number that is a text": {"number": "0"},
    "flag that is a number": {"flag": 1},
    "inner value that is no map": {"from": [1]},
    "inner field out of bounds": {"from": {"count": 10}},
    "inner unknown field": {"from": {"count": 1, "other": 1}},
    "too many items": {"many": [{"count": 1}] * 3},
    "list that is a map": {"many": {}},
    "item of another type": {"many": [1]},
    "unknown member of an enumeration": {"colour": "green"},
    "name of a member instead of its value": {"colour": "RED"},
    "enumeration of another type": {"colour": ["red"]},
    "enumeration that is a bool": {"colour": True},
}
REFUSED_IN_A_MAP = {
    "bytes too short": {"data": b"a"},
    "bytes too long": {"data": b"abcde"},
    "bytes that are a text": {"data": "6162"},
    "moment that is a text": {"moment": "2026-11-22T14:01:57.123Z"},
    "moment before 1970": {"moment": -1},
    "moment after 9999": {"moment": 253_402_300_800_000},
    "optional out of bounds": {"maybe": b""},
}
REFUSED_IN_A_DOCUMENT = {
    "upper-case hexadecimal": {"data": "ABCD"},
    "odd hexadecimal": {"data": "616"},
    "hexadecimal with spaces": {"data": "61 62"},
    "hexadecimal with other digits": {"data": "６１62"},
    "no hexadecimal": {"data": "zz"},
    "bytes too long": {"data": "6162636465"},
    "moment that is a number": {"moment": 1_795_356_117_123},
    "moment with an offset": {"moment": "2026-11-22T14:01:57.123+00:00"},
    "moment before 1970": {"moment": "1969-12-31T23:59:59.999Z"},
    "absent where null is written": {"maybe": ABSENT},
}


def edited(given, edit):
    return {name: value for name, value in {**given, **edit}.items() if value is not ABSENT}


def test_both_encodings_are_exact():
    assert schema.to_map(VALUE) == MAP
    assert schema.from_map(Sample, MAP) == VALUE
    assert schema.to_document(VALUE) == DOCUMENT
    assert schema.from_document(Sample, DOCUMENT) == VALUE


def test_an_absent_option_is_absent_in_a_map_and_null_in_a_document():
    value = Sample(b"ab", "a", 0, False, Inner(0), (), Colour.BLUE, 0, None)
    assert "maybe" not in schema.to_map(value)
    assert schema.to_document(value)["maybe"] is None
    assert schema.from_map(Sample, schema.to_map(value)) == value
    assert schema.from_document(Sample, schema.to_document(value)) == value


@pytest.mark.parametrize("name", [*REFUSED_IN_BOTH, *REFUSED_IN_A_MAP])
def test_from_map_refuses(name):
    edit = {**REFUSED_IN_BOTH, **REFUSED_IN_A_MAP}[name]
    with pytest.raises(Malformed):
        schema.from_map(Sample, edited(MAP, edit))


@pytest.mark.parametrize("name", [*REFUSED_IN_BOTH, *REFUSED_IN_A_DOCUMENT])
def test_from_document_refuses(name):
    edit = {**REFUSED_IN_BOTH, **REFUSED_IN_A_DOCUMENT}[name]
    with pytest.raises(Malformed):
        schema.from_document(Sample, edited(DOCUMENT, edit))


@pytest.mark.parametrize("value", [None, [], "text", 1, b"bytes", [("data", b"ab")]])
def test_what_is_no_map_is_refused(value):
    for read in (schema.from_map, schema.from_document):
        with pytest.raises(Malformed, match="not a map"):
            read(Sample, value)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"data": b"a"}, Malformed),
        ({"data": b"abcde"}, LimitExceeded),
        ({"text": "ééé"}, LimitExceeded),
        ({"text": "\ud800"}, Malformed),
        ({"number": 6}, LimitExceeded),
        ({"number": True}, Malformed),
        ({"flag": 1}, Malformed),
        ({"from_": 1}, Malformed),
        ({"from_": None}, Malformed),
        ({"many": (Inner(1),) * 3}, LimitExceeded),
        ({"many": (Inner(10),)}, LimitExceeded),
        ({"colour": "red"}, Malformed),
        ({"moment": -1}, LimitExceeded),
    ],
)
def test_writing_keeps_the_same_bounds(changes, error):
    values = {name: getattr(VALUE, name) for name in Sample.__dataclass_fields__} | changes
    for write in (schema.to_map, schema.to_document):
        with pytest.raises(error):
            write(Sample(**values))


def test_limits_are_told_from_other_faults():
    with pytest.raises(LimitExceeded):
        schema.from_map(Sample, {**MAP, "data": b"abcde"})
    with pytest.raises(Malformed) as caught:
        schema.from_map(Sample, {**MAP, "data": b"a"})
    assert not isinstance(caught.value, LimitExceeded)


def test_errors_name_the_field_and_not_its_value():
    with pytest.raises(Malformed, match=r"Sample\.data") as caught:
        schema.from_map(Sample, {**MAP, "data": b"s3cret"})
    assert "s3cret" not in str(caught.value)


def test_maps_come_in_the_order_of_their_encoding():
    found = schema.to_map(VALUE)
    assert list(found) == sorted(found, key=cbor.encode)
