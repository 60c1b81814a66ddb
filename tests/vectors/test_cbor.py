"""Deterministic CBOR against RFC 8949: the examples of Appendix A, the key order of section 4.2.1, the ill-formed of F.

The examples are transcribed from the RFC. Those that our profile knows encode and decode exactly; the others are
refused, whatever a general decoder would make of them.
"""

from __future__ import annotations

import pytest

from crypto_core import cbor
from crypto_core.errors import LimitExceeded, Malformed

OURS = [
    (0, "00"),
    (1, "01"),
    (10, "0a"),
    (23, "17"),
    (24, "1818"),
    (25, "1819"),
    (100, "1864"),
    (1000, "1903e8"),
    (1000000, "1a000f4240"),
    (1000000000000, "1b000000e8d4a51000"),
    (18446744073709551615, "1bffffffffffffffff"),
    (-18446744073709551616, "3bffffffffffffffff"),
    (-1, "20"),
    (-10, "29"),
    (-100, "3863"),
    (-1000, "3903e7"),
    (False, "f4"),
    (True, "f5"),
    (b"", "40"),
    (b"\x01\x02\x03\x04", "4401020304"),
    ("", "60"),
    ("a", "6161"),
    ("IETF", "6449455446"),
    ('"\\', "62225c"),
    ("ü", "62c3bc"),
    ("水", "63e6b0b4"),
    ("𐅑", "64f0908591"),
    ([], "80"),
    ([1, 2, 3], "83010203"),
    ([1, [2, 3], [4, 5]], "8301820203820405"),
    (list(range(1, 26)), "98190102030405060708090a0b0c0d0e0f101112131415161718181819"),
    ({}, "a0"),
    ({1: 2, 3: 4}, "a201020304"),
    ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
    (["a", {"b": "c"}], "826161a161626163"),
    ({"a": "A", "b": "B", "c": "C", "d": "D", "e": "E"}, "a56161614161626142616361436164614461656145"),
]

# What the RFC can say and this protocol never does
FOREIGN = {
    "bignum 2^64": "c249010000000000000000",
    "bignum -2^64-1": "c349010000000000000000",
    "0.0": "f90000",
    "-0.0": "f98000",
    "1.0": "f93c00",
    "1.1": "fb3ff199999999999a",
    "1.5": "f93e00",
    "65504.0": "f97bff",
    "100000.0": "fa47c35000",
    "3.4028234663852886e+38": "fa7f7fffff",
    "1.0e+300": "fb7e37e43c8800759c",
    "5.960464477539063e-8": "f90001",
    "0.00006103515625": "f90400",
    "-4.0": "f9c400",
    "-4.1": "fbc010666666666666",
    "Infinity": "f97c00",
    "NaN": "f97e00",
    "-Infinity": "f9fc00",
    "Infinity, 32 bits": "fa7f800000",
    "NaN, 32 bits": "fa7fc00000",
    "-Infinity, 32 bits": "faff800000",
    "Infinity, 64 bits": "fb7ff0000000000000",
    "NaN, 64 bits": "fb7ff8000000000000",
    "-Infinity, 64 bits": "fbfff0000000000000",
    "null": "f6",
    "undefined": "f7",
    "simple(16)": "f0",
    "simple(255)": "f8ff",
    "date in text": "c074323031332d30332d32315432303a30343a30305a",
    "date in seconds": "c11a514b67b0",
    "date in fractions": "c1fb41d452d9ec200000",
    "tag 23": "d74401020304",
    "tag 24": "d818456449455446",
    "tag 32": "d82076687474703a2f2f7777772e6578616d706c652e636f6d",
    "streamed bytes": "5f42010243030405ff",
    "streamed text": "7f657374726561646d696e67ff",
    "streamed array": "9fff",
    "streamed arrays": "9f018202039f0405ffff",
    "streamed outside": "9f01820203820405ff",
    "streamed last": "83018202039f0405ff",
    "streamed middle": "83019f0203ff820405",
    "streamed 1..25": "9f0102030405060708090a0b0c0d0e0f101112131415161718181819ff",
    "streamed map": "bf61610161629f0203ffff",
    "streamed map in array": "826161bf61626163ff",
    "streamed map Fun, Amt": "bf6346756ef563416d7421ff",
}

# RFC 8949 Appendix F: bytes that are no CBOR at all
ILL_FORMED = {
    "the head ends": "18 19 1a 1b 1901 1a0102 1b01020304050607 38 58 78 98 9a01ff00 b8 d8 f8 f900 fa0000 fb000000",
    "the string ends": "41 61 5affffffff00 5bffffffffffffffff010203 7affffffff00 7b7fffffffffffffff010203",
    "the container ends": "81 818181818181818181 8200 a1 a20102 a100 a2000000 c0",
    "no break": "5f4100 7f6100 9f 9f0102 bf bf01020102 819f 9f8000 9f9f9f9f9fffffffff 9f819f819f9fffffff",
    "reserved": "1c 1d 1e 3c 3d 3e 5c 5d 5e 7c 7d 7e 9c 9d 9e bc bd be dc dd de fc fd fe",
    "simple values under 32 in two bytes": "f800 f801 f818 f81f",
    "wrong chunks": "5f00ff 5f21ff 5f6100ff 5f80ff 5fa0ff 5fc000ff 5fe0ff 7f4100ff 5f5f4100ffff 7f7f6100ffff",
    "a break alone": "ff 81ff 8200ff a1ff a1ff00 a100ff a20000ff 9f81ff 9f829f819f9fffffffff bf00ff bf000000ff",
    "indefinite where there is no length": "1f 3f df",
}

# Section 4.2.1: the shortest form of an integer or a length is the only one
LONGER_FORMS = {
    "integers": "1817 190018 190100ff 1a00000019 1b0000000000000019 3817 3900ff",
    "lengths": "5801aa 590001aa 780161 79000161 98010a b8010000",
    "tags and simple values": "d81283 f814 f815",
}


@pytest.mark.parametrize(("value", "encoded"), OURS, ids=[encoded for _, encoded in OURS])
def test_appendix_a_values_of_our_profile(value, encoded):
    assert cbor.encode(value).hex() == encoded
    decoded = cbor.decode(bytes.fromhex(encoded))
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize("name", FOREIGN)
def test_appendix_a_values_outside_of_our_profile_are_refused(name):
    with pytest.raises(Malformed):
        cbor.decode(bytes.fromhex(FOREIGN[name]))


@pytest.mark.parametrize("name", ILL_FORMED)
def test_appendix_f_ill_formed_bytes_are_refused(name):
    for encoded in ILL_FORMED[name].split():
        with pytest.raises(Malformed):
            cbor.decode(bytes.fromhex(encoded))


def test_key_order_of_section_4_2_1():
    # The RFC's list is 10, 100, -1, "z", "aa", [100], [-1], false; the last three are no keys of this protocol.
    keys = [10, 100, -1, "z", "aa"]
    encoded = cbor.encode(dict.fromkeys(reversed(keys), 0))
    assert encoded.hex() == "a5" + "0a00" + "186400" + "2000" + "617a00" + "62616100"
    assert list(cbor.decode(encoded)) == keys


def test_length_first_order_of_rfc_7049_is_refused():
    # Section 4.2.3 (the older order): 10, -1, 100, "z", "aa"
    with pytest.raises(Malformed, match="deterministic"):
        cbor.decode(bytes.fromhex("a5" + "0a00" + "2000" + "186400" + "617a00" + "62616100"))


@pytest.mark.parametrize("key", ["8118640" + "0", "812000", "f400"], ids=["[100]", "[-1]", "false"])
def test_other_keys_of_section_4_2_1_are_refused(key):
    with pytest.raises(Malformed):
        cbor.decode(bytes.fromhex("a1" + key))


@pytest.mark.parametrize("name", LONGER_FORMS)
def test_longer_forms_than_the_shortest_are_refused(name):
    for encoded in LONGER_FORMS[name].split():
        with pytest.raises(Malformed):
            cbor.decode(bytes.fromhex(encoded))


def test_nesting_is_bounded():
    assert cbor.decode(b"\x81" * 15 + b"\x80")
    with pytest.raises(LimitExceeded):
        cbor.encode([[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]])
    for depth in (17, 1000, 100_000):
        with pytest.raises(Malformed):
            cbor.decode(b"\x81" * depth + b"\x00")
