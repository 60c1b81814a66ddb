"""Canonical JSON against RFC 8785: its sorting example, its sample, and samples of its author's public test data.

Transcribed from the RFC and from the repository cyberphone/json-canonicalization (Apache License 2.0). The fractions
of the RFC's sample have no place in our documents and are refused.
"""

from __future__ import annotations

import json

import pytest

from crypto_core import canonical_json
from crypto_core.errors import Malformed

# RFC 8785 section 3.2.3
UNSORTED = (
    '{"\\u20ac": "Euro Sign", "\\r": "Carriage Return", "\\ufb33": "Hebrew Letter Dalet With Dagesh", "1": "One",'
    ' "\\ud83d\\ude00": "Emoji: Grinning Face", "\\u0080": "Control", "\\u00f6": "Latin Small Letter O With Diaeresis"}'
)
SORTED_VALUES = [
    "Carriage Return",
    "One",
    "Control",
    "Latin Small Letter O With Diaeresis",
    "Euro Sign",
    "Emoji: Grinning Face",
    "Hebrew Letter Dalet With Dagesh",
]

WEIRD = """{
  "\\u20ac": "Euro Sign",
  "1": "One",
  "\\u0080": "Control\\u007f",
  "\\ud83d\\ude02": "Smiley",
  "\\u00f6": "Latin Small Letter O With Diaeresis",
  "\\ufb33": "Hebrew Letter Dalet With Dagesh",
  "</script>": "Browser Challenge"
}"""
WEIRD_SORTED = (
    '{"1":"One","</script>":"Browser Challenge","\x80":"Control\x7f","ö":"Latin Small Letter O With Diaeresis",'
    '"€":"Euro Sign","😂":"Smiley","\ufb33":"Hebrew Letter Dalet With Dagesh"}'
)

SAMPLES = {
    "structures": (
        '{"1": {"f": {"f": "hi","F": 5} ,"\\n": 56}, "10": { }, "": "empty", "a": { }, "111": [ { } ], "A": { }}',
        '{"":"empty","1":{"\\n":56,"f":{"F":5,"f":"hi"}},"10":{},"111":[{}],"A":{},"a":{}}',
    ),
    "weird": (WEIRD, WEIRD_SORTED),
    # RFC 8785 section 3.2.2 without its fractions: strings are escaped minimally, in lower case
    "strings and literals": (
        '{"string": "\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/", "literals": [null, true, false]}',
        '{"literals":[null,true,false],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    ),
}


def test_members_are_sorted_by_utf_16_code_units():
    encoded = canonical_json.encode(json.loads(UNSORTED))
    assert list(json.loads(encoded).values()) == SORTED_VALUES
    # By code points or by UTF-8 bytes the emoji would stand last.
    assert encoded.index("😀".encode()) < encoded.index("\ufb33".encode())
    assert canonical_json.decode(encoded) == json.loads(UNSORTED)


def test_members_sorted_by_code_point_are_refused():
    with pytest.raises(Malformed, match="canonical"):
        canonical_json.decode('{"\ufb33":1,"😀":2}'.encode())
    assert canonical_json.decode('{"😀":2,"\ufb33":1}'.encode()) == {"😀": 2, "\ufb33": 1}


@pytest.mark.parametrize("name", SAMPLES)
def test_published_samples(name):
    given, expected = SAMPLES[name]
    assert canonical_json.encode(json.loads(given)) == expected.encode()
    assert canonical_json.decode(expected.encode()) == json.loads(given)
    with pytest.raises(Malformed, match="canonical"):
        canonical_json.decode(given.encode())


def test_numbers_of_the_rfc_sample_are_refused():
    # RFC 8785 section 3.2.2; also where their canonical form is given, since fractions are no part of our documents
    given = b'{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001]}'
    canonical = b'{"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27]}'
    for data in (given, canonical):
        with pytest.raises(Malformed):
            canonical_json.decode(data)


@pytest.mark.parametrize(
    ("value", "encoded"),
    # RFC 8785 Appendix B, those that are integers within 53 bits
    [(0, b"0"), (9007199254740991, b"9007199254740991"), (-9007199254740991, b"-9007199254740991")],
)
def test_integers_of_appendix_b(value, encoded):
    assert canonical_json.encode(value) == encoded
    assert canonical_json.decode(encoded) == value


@pytest.mark.parametrize("encoded", [b"-0", b"9007199254740992", b"-9007199254740992", b"1.7976931348623157e+308"])
def test_other_numbers_of_appendix_b_are_refused(encoded):
    with pytest.raises(Malformed):
        canonical_json.decode(encoded)
