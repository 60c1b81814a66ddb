"""What workers tell each other about chains: whoever has not the key says nothing."""

from __future__ import annotations

import hmac

import pytest

from crypto_core import cbor, ends, labels
from crypto_core.ends import End
from crypto_core.errors import Malformed, SignatureInvalid
from crypto_core.ids import Digest, Milliseconds, RepositoryId
from tests.support.protocol import JOAO, MARIA, REPOSITORY

KEY = b"k" * 32
TOLD = Milliseconds(1_790_000_000_000)
ENDS = (End(MARIA, 3, Digest(b"h" * 32), 1_789_999_999_000, 4_096), End(JOAO, 1, Digest(b"i" * 32), 7, 0))
ONE = [MARIA, 3, b"h" * 32, 5, 9]


def of_body(*body: object, key: bytes = KEY) -> bytes:
    data = cbor.encode(list(body))
    return hmac.digest(key, data, "sha256") + data


def test_round_trip():
    assert ends.read(KEY, REPOSITORY, ends.seal(KEY, REPOSITORY, TOLD, ENDS)) == (TOLD, ENDS)


def test_every_changed_bit_is_refused():
    message = ends.seal(KEY, REPOSITORY, TOLD, ENDS)
    for place in range(len(message)):
        for bit in range(8):
            changed = bytearray(message)
            changed[place] ^= 1 << bit
            with pytest.raises(SignatureInvalid):
                ends.read(KEY, REPOSITORY, bytes(changed))


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 60])
def test_what_is_cut_short_is_refused(length):
    with pytest.raises(SignatureInvalid):
        ends.read(KEY, REPOSITORY, ends.seal(KEY, REPOSITORY, TOLD, ENDS)[:length])


def test_of_another_key():
    with pytest.raises(SignatureInvalid):
        ends.read(KEY, REPOSITORY, ends.seal(b"K" * 32, REPOSITORY, TOLD, ENDS))


def test_of_another_repository_with_the_same_key():
    with pytest.raises(Malformed):
        ends.read(KEY, REPOSITORY, ends.seal(KEY, RepositoryId("f" * len(REPOSITORY)), TOLD, ENDS))


def test_too_large_is_refused_before_its_mac_is_made(monkeypatch):
    monkeypatch.setattr(hmac, "digest", None)
    with pytest.raises(Malformed):
        ends.read(KEY, REPOSITORY, bytes(ends.ENDS_BYTES + 1))


@pytest.mark.parametrize(
    "body",
    [
        [],
        [labels.CHAIN_ENDS, REPOSITORY, TOLD],
        [labels.MAILBOX_HEAD, REPOSITORY, TOLD, [ONE]],
        [labels.CHAIN_ENDS, REPOSITORY, True, [ONE]],
        [labels.CHAIN_ENDS, REPOSITORY, -1, [ONE]],
        [labels.CHAIN_ENDS, REPOSITORY, TOLD, ONE],
        [labels.CHAIN_ENDS, REPOSITORY, TOLD, [ONE[:4]]],
        [labels.CHAIN_ENDS, REPOSITORY, TOLD, [[*ONE, 1]]],
        [labels.CHAIN_ENDS, REPOSITORY, TOLD, [[MARIA[:-1], *ONE[1:]]]],
        [labels.CHAIN_ENDS, REPOSITORY, TOLD, [[MARIA, 3, b"h" * 31, 5, 9]]],
        [labels.CHAIN_ENDS, REPOSITORY, TOLD, [[MARIA, -3, b"h" * 32, 5, 9]]],
        [labels.CHAIN_ENDS, REPOSITORY, TOLD, [[MARIA, 3, b"h" * 32, "5", 9]]],
        [labels.CHAIN_ENDS, REPOSITORY, TOLD, [[MARIA, 3, b"h" * 32, 5, True]]],
        [labels.CHAIN_ENDS, REPOSITORY, TOLD, [ONE], 1],
    ],
)
def test_another_form_is_refused(body):
    with pytest.raises(Malformed):
        ends.read(KEY, REPOSITORY, of_body(*body))
    assert ends.read(KEY, REPOSITORY, of_body(labels.CHAIN_ENDS, REPOSITORY, TOLD, [ONE]))[1] == (End(*ONE),)
