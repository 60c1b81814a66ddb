"""Deterministic CBOR: what the profile allows, and every way to be refused. Published figures: `tests/vectors`."""

from __future__ import annotations

import cbor2
import pytest

from crypto_core import cbor, limits
from crypto_core.errors import LimitExceeded, Malformed

REFUSED_VALUES = {
    "float": 1.5,
    "null": None,
    "set": {1, 2},
    "integer over 64 bits": 2**64,
    "integer under -64 bits": -(2**64) - 1,
    "integer over 64 bits in a list": [b"x", 2**64],
    "integer under -64 bits in a map": {1: -(2**64) - 1},
    "map key of bytes": {b"k": 1},
    "map key of bool": {True: 1},
    "map key that is a tuple": {(1, 2): 1},
    "a tag of others": cbor2.CBORTag(0, "2013-03-21T20:04:00Z"),
    "a tag in a list": [cbor2.CBORTag(1, 7)],
    "undefined": cbor2.undefined,
    "simple value": cbor2.CBORSimpleValue(99),
    "lone surrogate": "\ud800",
    "lone surrogate in a key": {"\udfff": 1},
    "bytearray": bytearray(b"x"),
    "object": object(),
}

REFUSED_BYTES = {
    "nothing": "",
    "bytes after the end": "0000",
    "duplicate key": "a201000100",
    "duplicate key with another value": "a201000101",
    "keys out of order": "a202000100",
    "integer in two bytes": "1800",
    "indefinite array": "9fff",
    "float": "f93c00",
    "null": "f6",
    "undefined": "f7",
    "text that is no UTF-8": "61ff",
    "text with a surrogate": "63eda080",
    "map key of bytes": "a1414100",
    "map key of a map": "a1a000",
    "map key of an array": "a18000",
    "map key of bool": "a1f500",
    "COSE_Sign tag": "d862" + "80",
    "COSE_Mac0 tag": "d1" + "80",
    "self-described": "d9d9f7" + "00",
    "bignum": "c240",
    "regular expression": "d823" + "6128",
    "set": "d90102" + "80",
    "shared value": "d81c" + "81d81d00",
    "string reference": "d90100" + "80",
    "IPv4 address": "d834" + "44c0000201",
    "date as days": "d864" + "00",
    "rational": "d81e" + "820102",
    "tag that nobody knows": "da0001869f" + "00",
}


@pytest.mark.parametrize("name", REFUSED_VALUES)
def test_encode_refuses(name):
    with pytest.raises(Malformed):
        cbor.encode(REFUSED_VALUES[name])


@pytest.mark.parametrize("name", REFUSED_BYTES)
def test_decode_refuses(name):
    with pytest.raises(Malformed):
        cbor.decode(bytes.fromhex(REFUSED_BYTES[name]))


def test_true_is_not_one():
    assert cbor.encode(True) != cbor.encode(1)
    assert cbor.decode(b"\xf5") is True


@pytest.mark.parametrize("tag", [16, 18, 96])
def test_cose_tags_are_kept(tag):
    value = cbor.decode(cbor.encode(cbor2.CBORTag(tag, [b"a", {1: 2}])))
    assert (type(value), value.tag, value.value) == (cbor2.CBORTag, tag, [b"a", {1: 2}])


def test_containers_inside_of_tags_are_plain():
    # The library hands out immutable ones there; type checks of the layers above rely on plain ones.
    value = cbor.decode(cbor.encode(cbor2.CBORTag(18, [{1: {2: [3]}}, [[4]]]))).value
    assert [type(value), type(value[0]), type(value[0][1]), type(value[0][1][2]), type(value[1][0])] == [
        list,
        dict,
        dict,
        list,
        list,
    ]


def test_size_limit():
    assert cbor.decode(b"\x43abc", max_bytes=4) == b"abc"
    with pytest.raises(LimitExceeded):
        cbor.decode(b"\x43abc", max_bytes=3)
    with pytest.raises(LimitExceeded):
        cbor.decode(bytes(limits.ENVELOPE_BYTES + 1))


def test_a_huge_announced_length_allocates_nothing():
    for head in ("5b7fffffffffffffff", "7b7fffffffffffffff", "9b7fffffffffffffff", "bb7fffffffffffffff"):
        with pytest.raises(Malformed):
            cbor.decode(bytes.fromhex(head))


def test_depth_limit_counts_arrays_maps_and_tags():
    nested = value = []
    for _ in range(limits.CBOR_DEPTH - 1):
        value.append([])
        value = value[0]
    assert cbor.decode(cbor.encode(nested)) == nested
    with pytest.raises(LimitExceeded):
        cbor.encode([nested])
    with pytest.raises(LimitExceeded):
        cbor.encode({1: nested})


def test_encoding_does_not_change_its_input():
    value = {"b": 1, "a": [{"z": 1, "y": 2}]}
    cbor.encode(value)
    assert list(value) == ["b", "a"]
    assert list(value["a"][0]) == ["z", "y"]


def names_kept() -> int:
    """Bytes of all names that are remembered with their order."""
    return sum(len(str(key)) for keys in cbor._ORDERS for key in keys)


def test_long_names_of_strangers_are_not_remembered():
    """A map in an unsigned envelope can have names of megabytes; what is kept of them must not grow with them."""
    before = names_kept()
    for number in range(600):
        cbor.decode(cbor.encode({f"{number:04}" + "x" * 4096: 1}))
    assert names_kept() == before


def test_what_is_remembered_has_an_end():
    for number in range(2 * cbor._REMEMBERED):
        cbor.decode(cbor.encode({f"name {number}": 1}))
    assert len(cbor._ORDERS) <= cbor._REMEMBERED


@pytest.mark.parametrize(
    "keys", [(1, 2), (2, 1), (1, 3, 2), ("a", "b", "aa"), ("aa", "b"), (-1, 24), (24, -1)], ids=str
)
def test_an_order_that_was_seen_is_judged_as_at_first(keys):
    cbor._ORDERS.clear()
    for _ in range(2):
        encoded = cbor.encode(dict.fromkeys(keys, 0))
        assert list(cbor.decode(encoded)) == sorted(keys, key=cbor2.dumps)
        as_given = cbor2.dumps(dict.fromkeys(keys, 0))
        if as_given != encoded:
            with pytest.raises(Malformed):
                cbor.decode(as_given)


def test_a_remembered_order_is_of_integers_not_of_booleans():
    cbor.encode({1: b"x"})
    with pytest.raises(Malformed, match="key"):
        cbor.encode({True: b"x"})
