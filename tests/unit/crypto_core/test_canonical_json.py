"""Canonical JSON: one spelling only. Published figures: `tests/vectors`."""

from __future__ import annotations

import pytest

from crypto_core import canonical_json, limits
from crypto_core.errors import LimitExceeded, Malformed

REFUSED_BYTES = {
    "nothing": b"",
    "white space before": b' {"a":1}',
    "white space after": b'{"a":1}\n',
    "white space inside": b'{"a": 1}',
    "byte order mark": b'\xef\xbb\xbf{"a":1}',
    "members out of order": b'{"b":1,"a":2}',
    "duplicate member": b'{"a":1,"a":1}',
    "duplicate member, escaped": b'{"a":1,"\\u0061":1}',
    "escape that is not needed": b'{"\\u0061":1}',
    "escaped solidus": b'"\\/"',
    "upper-case escape": b'"\\u000F"',
    "raw control character": b'"\x01"',
    "not escaped in the short form": b'"\\u000a"',
    "lone surrogate": b'"\\ud800"',
    "lone surrogate in a name": b'{"\\ud800":1}',
    "bytes that are no UTF-8": b'"\xff"',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "fraction": b"1.5",
    "fraction that is whole": b"1.0",
    "exponent": b"1e2",
    "minus zero": b"-0",
    "leading zero": b"01",
    "plus": b"+1",
    "over 53 bits": b"9007199254740992",
    "thousands of digits": b"9" * 5000,
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "-Infinity": b"-Infinity",
    "single quotes": b"{'a':1}",
    "trailing comma": b'{"a":1,}',
    "comment": b'{"a":1}//',
    "two values": b"1 2",
    "nested beyond the limit": b"[" * 9 + b"]" * 9,
    "nested beyond the stack": b"[" * 30_000 + b"]" * 30_000,
}

REFUSED_VALUES = {
    "float": 1.0,
    "integer over 53 bits": 2**53,
    "bytes": b"a",
    "tuple": (1, 2),
    "member name that is a number": {1: 2},
    "member name that is null": {None: 2},
    "lone surrogate": "\ud800",
    "lone surrogate in a name": {"\ud800": 1},
    "nested beyond the limit": [[[[[[[[[]]]]]]]]],
    "object": object(),
}


@pytest.mark.parametrize("name", REFUSED_BYTES)
def test_decode_refuses(name):
    with pytest.raises(Malformed):
        canonical_json.decode(REFUSED_BYTES[name])


@pytest.mark.parametrize("name", REFUSED_VALUES)
def test_encode_refuses(name):
    with pytest.raises(Malformed):
        canonical_json.encode(REFUSED_VALUES[name])


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ({"b": [True, None, "é"], "a": -1}, '{"a":-1,"b":[true,null,"é"]}'),
        ('\x00\t\n\r"\\/\x7f', '"\\u0000\\t\\n\\r\\"\\\\/\x7f"'),
        ({"João Sá": "Conceição"}, '{"João Sá":"Conceição"}'),
    ],
)
def test_one_spelling(value, encoded):
    assert canonical_json.encode(value) == encoded.encode()
    assert canonical_json.decode(encoded.encode()) == value


def test_size_limit():
    data = b'"' + b"a" * 10 + b'"'
    assert canonical_json.decode(data, max_bytes=12) == "a" * 10
    with pytest.raises(LimitExceeded):
        canonical_json.decode(data, max_bytes=11)
    with pytest.raises(LimitExceeded):
        canonical_json.decode(b" " * (limits.DOCUMENT_BYTES + 1))
