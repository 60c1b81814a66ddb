"""What a stranger may put into a message's headers, and pauses that end."""

from __future__ import annotations

import struct

import pika.data
import pytest

from repository_worker.transport import headers
from repository_worker.transport.consumer import PAUSE_SECONDS_MAX, PAUSE_SECONDS_MIN, _Pauses


def table(*items: bytes) -> bytes:
    content = b"".join(items)
    return struct.pack(">I", len(content)) + content


def nested(depth: int) -> bytes:
    inner = table()
    for _ in range(depth):
        inner = table(b"\x01a" + b"F" + inner)
    return inner


HOSTILE = {
    "a date beyond the calendar": table(b"\x01a" + b"T" + struct.pack(">Q", 2**63)),
    "not a number": table(b"\x01a" + b"f" + struct.pack(">f", float("nan"))),
    "an infinite number": table(b"\x01a" + b"d" + struct.pack(">d", float("inf"))),
    "an unknown kind": table(b"\x01a" + b"?" + b"1234"),
    "nested too deeply": nested(2000),
    "a length beyond its end": table(b"\x01a" + b"A" + struct.pack(">I", 2**31)),
}


@pytest.mark.parametrize("encoded", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_table_that_cannot_be_decoded_is_skipped(encoded):
    found, offset = headers.decode_table(b"before" + encoded + b"after", 6)
    assert type(found) is dict
    assert offset == 6 + len(encoded)


def test_a_good_table_is_what_it_was():
    pieces: list[bytes] = []
    size = pika.data.encode_table(pieces, {"x-delivery-count": 3, "name": "João"})
    assert headers.decode_table(b"".join(pieces), 0) == ({"x-delivery-count": 3, "name": "João"}, size)


def test_pauses_grow_to_their_bound_and_start_again():
    pauses = _Pauses()
    drawn = [pauses.next() for _ in range(20)]
    bounds = [min(PAUSE_SECONDS_MIN * 2**number, PAUSE_SECONDS_MAX) for number in range(20)]
    assert all(bound / 2 <= pause <= bound for pause, bound in zip(drawn, bounds, strict=True))
    assert len(set(drawn[10:])) > 1  # drawn at random, so that workers do not come all at once
    pauses.reset()
    assert pauses.next() <= PAUSE_SECONDS_MIN
