"""Which letter and whom a name means: nothing happens by guessing."""

from __future__ import annotations

import pytest

from client import naming
from client.errors import Ambiguous, NotFound, Usage
from client.mailbox import Mailbox
from client.state.home import Home
from client.state.people import People
from crypto_core.ids import LetterId, UserId, base32
from crypto_core.mailbox import EntryKind, EntryRouting
from tests.support import protocol
from tests.unit.client.conftest import PlayedRepository

ONE, TWO = LetterId(b"\x01" + bytes(15)), LetterId(b"\x01" + bytes(14) + b"\x80")
OTHER = LetterId(b"\xff" * 16)


def test_a_letter_is_found_by_its_beginning(own: Mailbox, repository: PlayedRepository):
    repository.add(ONE)
    repository.add(OTHER)
    assert naming.find_letter(own, base32(OTHER, 26)[:4]).letter == OTHER
    assert naming.find_letter(own, base32(ONE, 26).upper()).letter == ONE


def test_a_beginning_of_two_is_ambiguous(own: Mailbox, repository: PlayedRepository):
    repository.add(ONE)
    repository.add(TWO)
    with pytest.raises(Ambiguous) as raised:
        naming.find_letter(own, base32(ONE, 26)[:6])
    assert len(raised.value.candidates) == 2
    assert naming.find_letter(own, base32(TWO, 26)).letter == TWO


def test_a_repeated_id_is_told_apart_by_its_author(own: Mailbox, repository: PlayedRepository):
    repository.add(ONE)
    repository.add(ONE, routing=EntryRouting(ONE, protocol.BRUNO, (protocol.MARIA,)))
    with pytest.raises(Ambiguous) as raised:
        naming.find_letter(own, base32(ONE, 26))
    for candidate in raised.value.candidates:
        assert naming.find_letter(own, candidate).author.hex().startswith(candidate.partition("@")[2])


def test_a_letter_that_is_not_known_yet_is_asked_for(own: Mailbox, repository: PlayedRepository):
    assert own.synchronise().number == 0
    repository.add(ONE)
    assert naming.find_letter(own, base32(ONE, 26)[:5]).letter == ONE


def test_of_a_letter_to_oneself_the_wanted_entry_is_taken(own: Mailbox, repository: PlayedRepository):
    mine = EntryRouting(ONE, protocol.MARIA, (protocol.MARIA,))
    repository.add(ONE, EntryKind.SENT, routing=mine)
    repository.add(ONE, EntryKind.RECEIVED, routing=mine)
    assert naming.find_letter(own, base32(ONE, 26)).kind is EntryKind.RECEIVED
    assert naming.find_letter(own, base32(ONE, 26), (EntryKind.SENT,)).kind is EntryKind.SENT


def test_receipts_are_no_letters(own: Mailbox, repository: PlayedRepository):
    repository.add(ONE, EntryKind.RECEIPT)
    with pytest.raises(NotFound):
        naming.find_letter(own, base32(ONE, 26))


@pytest.mark.parametrize("text", ["", "abc", "k7d!", "k7d0", "../etc", "k7d2@", "k7d2@xyz", "a" * 27, "\x1b[2J"])
def test_what_names_no_letter_is_refused(text, own: Mailbox):
    with pytest.raises(Usage, match="does not name a letter"):
        naming.find_letter(own, text)


def test_names_are_as_short_as_is_unambiguous(own: Mailbox, repository: PlayedRepository):
    for letter in (ONE, TWO, OTHER):
        repository.add(letter)
    names = naming.short_names(own.synchronise().links)
    assert names[protocol.JOAO, OTHER] == base32(OTHER, 26)[:4]
    assert names[protocol.JOAO, ONE] != names[protocol.JOAO, TWO]
    for (_, letter), name in names.items():
        assert naming.find_letter(own, name).letter == letter


def confirmed(home: Home, name: str, user: UserId) -> People:
    people = People(home)
    people.note(user, name, 1, protocol.digest(name))
    people.confirm(user)
    return people


def test_a_name_is_used_only_for_the_confirmed(home: Home):
    people = People(home)
    people.note(protocol.JOAO, "João Sá", 1, protocol.digest("j"))
    with pytest.raises(NotFound, match="not confirmed"):
        naming.find_person(people, "João Sá")
    people.confirm(protocol.JOAO)
    assert naming.find_person(people, " joão   SÁ ") == protocol.JOAO
    assert naming.find_person(people, "Joa\u0303o Sa\u0301") == protocol.JOAO


def test_a_part_of_a_name_is_a_guess(home: Home):
    people = confirmed(home, "Maria Conceição Reis", protocol.MARIA)
    with pytest.raises(NotFound):
        naming.find_person(people, "Maria")


def test_two_of_one_name_are_ambiguous(home: Home):
    confirmed(home, "João Sá", protocol.JOAO)
    people = confirmed(home, "João Sá", protocol.BRUNO)
    with pytest.raises(Ambiguous) as raised:
        naming.find_person(people, "João Sá")
    assert set(raised.value.candidates) == {protocol.JOAO.hex(), protocol.BRUNO.hex()}


def test_a_namesake_that_was_never_confirmed_does_not_count(home: Home):
    people = confirmed(home, "João Sá", protocol.JOAO)
    people.note(protocol.BRUNO, "João Sá", 1, protocol.digest("b"))
    assert naming.find_person(people, "João Sá") == protocol.JOAO


def test_an_exact_id_needs_no_confirming(home: Home):
    assert naming.find_person(People(home), protocol.BRUNO.hex().upper()) == protocol.BRUNO
    with pytest.raises(Usage, match="not a user id"):
        naming.parse_user("João")
