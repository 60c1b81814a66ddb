"""Properties of mailbox chains: pages make no difference, and no edit of the past keeps the hash of the present."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crypto_core import mailbox
from crypto_core.errors import ChainBroken
from crypto_core.ids import new_letter_id
from crypto_core.mailbox import EntryKind
from repository_worker.storage import chains
from tests.support.protocol import JOAO, MARIA, NOW, REPOSITORY, digest, entry

LENGTH = st.integers(1, 12)
#: Sizes of letters in bytes, and after each whether, and which of those before, is deleted.
MAILBOX = st.lists(st.tuples(st.integers(300, 10_000), st.none() | st.integers(0, 11)), min_size=1, max_size=12)
TOMBSTONE_BYTES = 100
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


def put(tip, kind, size):
    """The end of João's chain with one entry more, and the entry."""
    routing = mailbox.EntryRouting(new_letter_id(), MARIA, (JOAO,))
    placing = chains.Placing(routing, digest("object"), NOW, (chains.Planned(JOAO, kind, size),), 0, {})
    (placed,), tips, _ = chains.Numbering(REPOSITORY, {JOAO: tip}, chains.Quota()).place(placing)
    return tips[JOAO], placed.entry


@settings(max_examples=100)
@given(MAILBOX)
def test_a_mailbox_with_tombstones_is_dense_and_counts_what_is_left(changes):
    tip, entries, held, tombstones = chains.Tip(0, GENESIS, 0, 0), [], [], 0
    for size, gone in changes:
        tip, made = put(tip, EntryKind.RECEIVED, size)
        entries.append(made)
        held.append(size)
        if gone is not None and gone < len(held) and held[gone]:
            tip, made = put(tip, EntryKind.TOMBSTONE, TOMBSTONE_BYTES - held[gone])
            entries.append(made)
            held[gone], tombstones = 0, tombstones + 1
    assert chain(entries)[-1] == tip.hash
    assert tip.bytes == sum(held) + tombstones * TOMBSTONE_BYTES
    assert tip.number == len(changes) + tombstones
