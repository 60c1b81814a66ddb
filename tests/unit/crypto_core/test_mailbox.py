"""Mailbox chains: what a repository could try with a mailbox, and why its owner notices."""

from __future__ import annotations

import dataclasses

import pytest

from crypto_core import cbor, cose, labels, limits, mailbox, schema
from crypto_core.errors import BindingMismatch, ChainBroken, LimitExceeded, Malformed, SignatureInvalid
from crypto_core.ids import LetterId, UserId
from crypto_core.mailbox import NUMBER_MAX, EntryKind, EntryRouting, Head
from tests.support.protocol import (
    BRUNO,
    JOAO,
    MARIA,
    NOW,
    OTHER_REPOSITORY,
    REPOSITORY,
    digest,
    entry,
    resigned,
    signing_key,
)

ENTRIES = tuple(entry(number) for number in range(1, 7))
GENESIS = mailbox.genesis(REPOSITORY, JOAO)
KEY = signing_key("repository")


def extend(entries, number=0, previous=GENESIS, **more):
    return mailbox.extend(REPOSITORY, JOAO, number, previous, entries, **more)


CHAIN = extend(ENTRIES)


def test_the_chain_is_the_one_of_the_protocol():
    previous = GENESIS
    assert previous == mailbox.suite.labelled_hash(labels.MAILBOX, REPOSITORY, JOAO)
    for made, hashed in zip(ENTRIES, CHAIN, strict=True):
        routing = mailbox.suite.labelled_hash(
            labels.MAILBOX_ROUTING, made.routing.letter, made.routing.author, list(made.routing.recipients)
        )
        previous = mailbox.suite.labelled_hash(
            labels.MAILBOX_ENTRY, REPOSITORY, JOAO, made.number, made.time, "received", routing, made.object, previous
        )
        assert hashed == previous


def test_it_is_the_same_in_pages():
    assert extend(ENTRIES[3:], 3, CHAIN[2], time=ENTRIES[2].time) == CHAIN[3:]
    assert extend([]) == []


@pytest.mark.parametrize(
    "entries",
    [
        ENTRIES[1:],
        ENTRIES[:2] + ENTRIES[3:],
        ENTRIES[:2] + ENTRIES[1:],
        ENTRIES[:1] + ENTRIES[:1],
        (ENTRIES[1], ENTRIES[0], *ENTRIES[2:]),
        (entry(2**53 - 1),),
    ],
    ids=["first dropped", "one dropped", "one repeated", "first repeated", "reordered", "far ahead"],
)
def test_numbers_must_be_dense(entries):
    with pytest.raises(ChainBroken):
        extend(entries)


def test_a_page_that_starts_elsewhere_is_refused():
    for number in (2, 4):
        with pytest.raises(ChainBroken):
            extend(ENTRIES[3:], number, CHAIN[2])


def test_time_never_goes_back():
    with pytest.raises(ChainBroken, match="dated before"):
        extend((*ENTRIES[:3], dataclasses.replace(ENTRIES[3], time=ENTRIES[2].time - 1)))
    with pytest.raises(ChainBroken, match="dated before"):
        extend(ENTRIES[:1], time=ENTRIES[0].time + 1)
    assert extend((*ENTRIES[:3], dataclasses.replace(ENTRIES[3], time=ENTRIES[2].time)))


REPLACEMENTS = {
    "time": {"time": NOW + 3},
    "kind": {"kind": EntryKind.SENT},
    "object": {"object": digest("another object")},
    "letter": {"routing": EntryRouting(LetterId(b"letter-id-000002"), MARIA, (JOAO,))},
    "author": {"routing": dataclasses.replace(ENTRIES[3].routing, author=BRUNO)},
    "recipients": {"routing": dataclasses.replace(ENTRIES[3].routing, recipients=(BRUNO, JOAO))},
    "number": {"number": 5},
}


@pytest.mark.parametrize("name", REPLACEMENTS)
def test_a_replaced_entry_changes_its_hash_and_all_that_follow(name):
    replaced = dataclasses.replace(ENTRIES[3], **REPLACEMENTS[name])
    assert replaced.hash(REPOSITORY, JOAO, CHAIN[2]) != CHAIN[3]
    if name != "number":
        changed = extend((*ENTRIES[:3], replaced, *ENTRIES[4:]))
        assert changed[:3] == CHAIN[:3]
        assert not set(changed[3:]) & set(CHAIN[3:])


def test_a_swap_of_two_objects_is_noticed():
    swapped = list(ENTRIES)
    swapped[1] = dataclasses.replace(ENTRIES[1], object=ENTRIES[2].object)
    swapped[2] = dataclasses.replace(ENTRIES[2], object=ENTRIES[1].object)
    assert extend(swapped)[-1] != CHAIN[-1]


def test_repository_mailbox_and_past_go_into_every_entry():
    one = ENTRIES[0]
    hashes = {
        one.hash(REPOSITORY, JOAO, GENESIS),
        one.hash(OTHER_REPOSITORY, JOAO, GENESIS),
        one.hash(REPOSITORY, BRUNO, GENESIS),
        one.hash(REPOSITORY, JOAO, CHAIN[0]),
    }
    assert len(hashes) == 4
    assert (
        len({mailbox.genesis(*pair) for pair in ((REPOSITORY, JOAO), (OTHER_REPOSITORY, JOAO), (REPOSITORY, BRUNO))})
        == 3
    )


def test_kinds_are_told_apart():
    hashes = {dataclasses.replace(ENTRIES[0], kind=kind).hash(REPOSITORY, JOAO, GENESIS) for kind in EntryKind}
    assert len(hashes) == len(EntryKind)


# ---------------------------------------------------------------------------------------------------------------- heads

HEAD = Head(REPOSITORY, JOAO, 6, CHAIN[-1], NOW)
SIGNED = mailbox.sign_head(KEY, HEAD)


def read_head(data, key=KEY, repository=REPOSITORY, owner=JOAO):
    return mailbox.read_head(data, key.public, repository, owner)


def test_head_round_trip():
    assert read_head(SIGNED) == HEAD
    empty = Head(REPOSITORY, JOAO, 0, GENESIS, NOW)
    assert read_head(mailbox.sign_head(KEY, empty)) == empty


def test_a_rolled_back_mailbox_contradicts_the_head_that_was_seen():
    # The chain up to the seen number has another hash than the seen head: the two signed heads are the proof.
    forked = extend((*ENTRIES[:5], dataclasses.replace(ENTRIES[5], object=digest("another object"))))
    shown = read_head(mailbox.sign_head(KEY, Head(REPOSITORY, JOAO, 6, forked[-1], NOW)))
    assert (shown.number, shown.entry != HEAD.entry) == (HEAD.number, True)
    error = ChainBroken("two heads", seen=SIGNED, shown=b"the other")
    assert (error.seen, error.shown) == (SIGNED, b"the other")


@pytest.mark.parametrize(
    "where",
    [{"repository": OTHER_REPOSITORY}, {"owner": MARIA}],
    ids=lambda where: next(iter(where)),
)
def test_a_head_of_another_mailbox_is_refused(where):
    with pytest.raises(BindingMismatch):
        read_head(SIGNED, **where)


def test_a_head_by_another_key_is_refused():
    with pytest.raises(SignatureInvalid):
        read_head(SIGNED, signing_key("somebody"))


@pytest.mark.parametrize("changes", [{"number": 5}, {"entry": CHAIN[4]}, {"time": NOW + 1}], ids=repr)
def test_a_changed_head_is_refused(changes):
    found = cbor.decode(SIGNED)
    found.value[2] = cbor.encode(schema.to_map(dataclasses.replace(HEAD, **changes)))
    with pytest.raises(SignatureInvalid):
        read_head(cbor.encode(found))


@pytest.mark.parametrize("label", [labels.REPLY, labels.ANSWER, labels.DESCRIPTOR_ANSWER, labels.MAILBOX])
def test_another_object_of_the_repository_is_no_head(label):
    with pytest.raises(Malformed):
        read_head(resigned(SIGNED, KEY, {cose.LABEL: label}))
    with pytest.raises(Malformed):
        read_head(resigned(SIGNED, KEY, {cose.SALT: bytes(32)}))


def test_a_head_over_its_limit_is_refused():
    with pytest.raises(LimitExceeded):
        read_head(bytes(limits.KIB + 1))


@pytest.mark.parametrize("changes", [{"number": -1}, {"number": 2**53}, {"entry": bytes(31)}, {"more": 1}], ids=repr)
def test_fields_of_a_head_are_checked(changes):
    payload = cbor.encode({**schema.to_map(HEAD), **changes})
    with pytest.raises(Malformed):
        read_head(resigned(SIGNED, KEY, payload=payload))


def test_entries_travel_as_maps():
    for made in (ENTRIES[0], dataclasses.replace(ENTRIES[1], kind=EntryKind.TOMBSTONE)):
        assert schema.from_map(mailbox.Entry, cbor.decode(cbor.encode(schema.to_map(made)))) == made
    with pytest.raises(Malformed):
        schema.from_map(mailbox.Entry, {**schema.to_map(ENTRIES[0]), "kind": "lost"})
    with pytest.raises(LimitExceeded):
        schema.to_map(dataclasses.replace(ENTRIES[0], number=0))


# ----------------------------------------------------------------------------------------------------------- placements

PLACES = (mailbox.Place(MARIA, 3, digest("third")), mailbox.Place(JOAO, 6, CHAIN[-1]))
PLACEMENT = mailbox.Placement(REPOSITORY, PLACES, NOW)
PLACED = mailbox.sign_placement(KEY, PLACEMENT)


def read_placement(data, key=KEY, repository=REPOSITORY):
    return mailbox.read_placement(data, key.public, repository)


def test_placement_round_trip():
    assert read_placement(PLACED) == PLACEMENT
    twice = dataclasses.replace(PLACEMENT, places=(PLACES[1], dataclasses.replace(PLACES[1], number=7)))
    assert read_placement(mailbox.sign_placement(KEY, twice)) == twice  # a letter to oneself


def test_the_largest_placement_is_within_its_limit():
    places = tuple(
        mailbox.Place(UserId(number.to_bytes(28, "big")), NUMBER_MAX, digest(str(number)))
        for number in range(limits.RECIPIENTS + 1)
    )
    signed = mailbox.sign_placement(KEY, dataclasses.replace(PLACEMENT, places=places))
    assert len(signed) <= limits.PLACEMENT_BYTES
    assert read_placement(signed).places == places


@pytest.mark.parametrize("count", [0, limits.RECIPIENTS + 2])
def test_a_placement_in_none_or_too_many_mailboxes_is_refused(count):
    payload = schema.to_map(PLACEMENT) | {"places": [schema.to_map(PLACES[0])] * count}
    with pytest.raises((Malformed, LimitExceeded)):
        read_placement(resigned(PLACED, KEY, payload=cbor.encode(payload)))


def test_a_placement_of_another_repository_or_by_another_key_is_refused():
    with pytest.raises(BindingMismatch):
        read_placement(PLACED, repository=OTHER_REPOSITORY)
    with pytest.raises(SignatureInvalid):
        read_placement(PLACED, signing_key("somebody"))


@pytest.mark.parametrize(
    "changes",
    [{"time": NOW + 1}, {"places": PLACES[:1]}, {"places": PLACES[::-1]}, {"repository": OTHER_REPOSITORY}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_changed_placement_is_refused(changes):
    found = cbor.decode(PLACED)
    found.value[2] = cbor.encode(schema.to_map(dataclasses.replace(PLACEMENT, **changes)))
    with pytest.raises(SignatureInvalid):
        read_placement(cbor.encode(found))


def test_entry_zero_is_in_no_placement():
    places = [schema.to_map(PLACES[0]) | {"number": 0}]
    with pytest.raises(Malformed):
        read_placement(resigned(PLACED, KEY, payload=cbor.encode(schema.to_map(PLACEMENT) | {"places": places})))


def test_heads_and_placements_are_told_apart():
    assert mailbox.is_placement(PLACED)
    assert not mailbox.is_placement(SIGNED)
    with pytest.raises(Malformed):
        read_head(PLACED, owner=MARIA)
    with pytest.raises(Malformed):
        read_placement(SIGNED)
    with pytest.raises(Malformed):
        read_placement(resigned(PLACED, KEY, {cose.LABEL: labels.MAILBOX_HEAD}))


def test_a_placement_over_its_limit_is_not_read():
    with pytest.raises(LimitExceeded):
        read_placement(bytes(limits.PLACEMENT_BYTES + 1))
