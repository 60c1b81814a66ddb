"""Properties of mailbox chains: pages make no difference, and no edit of the past keeps the hash of the present."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crypto_core import mailbox
from crypto_core.errors import ChainBroken
from tests.support.protocol import JOAO, REPOSITORY, digest, entry

LENGTH = st.integers(1, 12)
GENESIS = mailbox.genesis(REPOSITORY, JOAO)


def chain(entries, number=0, previous=GENESIS, time=0):
    return mailbox.extend(REPOSITORY, JOAO, number, previous, entries, time)


def entries_of(length):
    return [entry(number) for number in range(1, length + 1)]


@settings(max_examples=60)
@given(LENGTH, st.data())
def test_pages_make_no_difference(length, data):
    entries = entries_of(length)
    cut = data.draw(st.integers(0, length))
    first = chain(entries[:cut])
    previous = first[-1] if first else GENESIS
    time = entries[cut - 1].time if cut else 0
    assert first + chain(entries[cut:], cut, previous, time) == chain(entries)


@settings(max_examples=100)
@given(LENGTH, st.data())
def test_another_order_never_ends_in_the_same_head(length, data):
    entries = entries_of(length)
    shuffled = data.draw(st.permutations(entries))
    assume(shuffled != entries)
    try:
        hashes = chain(shuffled)
    except ChainBroken:
        # Renumbered, so that nothing is missing at first sight
        renumbered = [dataclasses.replace(each, number=n, time=n) for n, each in enumerate(shuffled, 1)]
        hashes = chain(renumbered)
    assert hashes[-1] != chain(entries)[-1]


@settings(max_examples=100)
@given(LENGTH, st.data())
def test_no_entry_can_be_left_out_or_replaced(length, data):
    entries = entries_of(length)
    position = data.draw(st.integers(0, length - 1))
    replaced = [*entries]
    replaced[position] = dataclasses.replace(entries[position], object=digest("another object"))
    assert chain(replaced)[-1] != chain(entries)[-1]
    dropped = entries[:position] + entries[position + 1 :]
    if position < length - 1:
        with pytest.raises(ChainBroken):
            chain(dropped)
    renumbered = [dataclasses.replace(each, number=n) for n, each in enumerate(dropped, 1)]
    assert chain(entries)[-1] not in chain(renumbered)
