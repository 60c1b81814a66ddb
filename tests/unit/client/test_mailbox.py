"""What a repository can do to a mailbox, and that each of it is an alarm whose evidence is kept."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from client.errors import ExitCode, MailboxAlarm
from client.mailbox import Mailbox
from client.state.chain import ChainStore
from client.state.home import Home
from crypto_core import sealed
from crypto_core.commands import All, BoxEntry, New
from tests.support import protocol
from tests.unit.client.conftest import PlayedRepository, live_session


def test_a_new_mailbox_is_empty(own: Mailbox, repository: PlayedRepository):
    assert own.synchronise().number == 0


def test_entries_are_kept_as_they_come(own: Mailbox, repository: PlayedRepository):
    for number in range(5):
        repository.add(b"letter-id-00000" + str(number).encode())
    assert own.synchronise().number == 5
    repository.add(b"letter-id-00000x")
    assert own.synchronise().number == 6
    assert [link.letter[-1:] for link in own.chain().links] == [b"0", b"1", b"2", b"3", b"4", b"x"]


def test_many_entries_come_in_pages(own: Mailbox, repository: PlayedRepository):
    for _ in range(7):
        repository.add()
    repository.page = 2
    assert own.synchronise().number == 7


def test_entries_that_arrive_between_pages_are_taken(own: Mailbox, repository: PlayedRepository):
    for _ in range(4):
        repository.add()
    repository.page = 2
    repository.before_reply = lambda: repository.add() and None if len(repository.entries) < 6 else None
    own.synchronise()
    assert own.synchronise().number == 6


def letter_view() -> sealed.SealedView:
    return sealed.read(sealed.LETTER, protocol.sealed_letter().head).view(protocol.MARIA)


def see(own: Mailbox, repository: PlayedRepository, count: int = 4) -> None:
    for number in range(count):
        repository.add(b"letter-id-00000" + str(number).encode())
    own.synchronise()


def drop(repository: PlayedRepository) -> None:
    del repository.entries[1]
    repository.entries = [dataclasses.replace(each, number=at) for at, each in enumerate(repository.entries, 1)]
    repository.add(b"letter-id-000009")
    repository.add(b"letter-id-000010")


def replace(repository: PlayedRepository) -> None:
    repository.entries[1] = dataclasses.replace(repository.entries[1], object=protocol.digest("another letter"))
    repository.add(b"letter-id-000009")


def reorder(repository: PlayedRepository) -> None:
    second, third = repository.entries[1], repository.entries[2]
    repository.entries[1] = dataclasses.replace(third, number=2)
    repository.entries[2] = dataclasses.replace(second, number=3, time=third.time)
    repository.entries[1] = dataclasses.replace(repository.entries[1], time=second.time)
    repository.add(b"letter-id-000009")


def roll_back(repository: PlayedRepository) -> None:
    del repository.entries[-1]


def sign_again(repository: PlayedRepository) -> None:
    repository.entries[-1] = dataclasses.replace(repository.entries[-1], object=protocol.digest("another letter"))


def forget_all(repository: PlayedRepository) -> None:
    repository.entries.clear()


def other_key(repository: PlayedRepository) -> None:
    repository.key = protocol.signing_key("somebody else")


def time_goes_back(repository: PlayedRepository) -> None:
    repository.add(time=protocol.NOW - 1)


def skip_a_number(repository: PlayedRepository) -> None:
    repository.add(number=len(repository.entries) + 2)


@pytest.mark.parametrize(
    "lie",
    [
        drop,
        replace,
        reorder,
        roll_back,
        sign_again,
        forget_all,
        other_key,
        time_goes_back,
        skip_a_number,
    ],
)
def test_a_lie_about_the_past_is_an_alarm(lie, own: Mailbox, repository: PlayedRepository, home: Home):
    see(own, repository)
    seen = own.chain().head
    lie(repository)
    with pytest.raises(MailboxAlarm) as raised:
        own.synchronise()
    assert raised.value.exit_code is ExitCode.CHECK_FAILED
    evidence = json.loads(Path(raised.value.evidence).read_bytes())
    assert evidence["seen"] == seen.hex()
    assert evidence["shown"] != seen.hex()
    assert own.chain().number == 4  # what was verified stays as it was


def test_a_lower_head_is_no_alarm_if_it_was_not_known_when_asked(own: Mailbox, repository: PlayedRepository):
    see(own, repository)
    floor = own.floor()
    late_head = repository.head()
    repository.add(b"letter-id-000009")
    own.synchronise()  # another process of this home was faster
    assert own.connect(late_head, floor).number == 5


def test_a_head_lower_than_known_when_asked_is_an_alarm(own: Mailbox, repository: PlayedRepository):
    see(own, repository)
    with pytest.raises(MailboxAlarm, match="after entry 4 was seen"):
        own.connect(repository.head(3), own.floor())


def test_a_head_without_its_entries_is_an_alarm(own: Mailbox, repository: PlayedRepository):
    see(own, repository)
    repository.add()
    head = repository.head()
    del repository.entries[-1]
    with pytest.raises(MailboxAlarm, match="entry 5 is missing"):
        own.connect(head, 4)


ME = (protocol.MARIA,)


def test_the_chain_is_followed_up_to_a_placement(own: Mailbox, repository: PlayedRepository):
    see(own, repository)
    floor = own.floor()
    repository.add(b"letter-id-000009")
    repository.add(b"letter-id-000010")
    (place,) = own.connect_placement(repository.placement(5), ME, floor)
    assert (place.number, own.chain().number) == (5, 6)
    one, two = own.connect_placement(repository.placement(5, 6), ME * 2, floor)  # a letter to oneself
    assert (one.number, two.number) == (5, 6)


def test_what_was_just_sent_cannot_lie_before_what_was_seen(own: Mailbox, repository: PlayedRepository):
    see(own, repository)
    with pytest.raises(MailboxAlarm, match="places at entry 3 what was sent after entry 4 was seen"):
        own.connect_placement(repository.placement(3), ME, own.floor())
    assert own.connect_placement(repository.placement(3), ME, 0)[0].number == 3  # of a repeat nothing was expected


def test_a_placement_must_fit_to_the_entries(own: Mailbox, repository: PlayedRepository):
    see(own, repository)
    repository.entries[-1] = dataclasses.replace(repository.entries[-1], object=protocol.digest("another letter"))
    with pytest.raises(MailboxAlarm, match="entry 4 does not fit"):
        own.connect_placement(repository.placement(4), ME, 0)


def test_a_placement_without_its_entry_is_an_alarm(own: Mailbox, repository: PlayedRepository):
    see(own, repository)
    repository.add()
    placed = repository.placement(5)
    del repository.entries[-1]
    with pytest.raises(MailboxAlarm, match="entry 5 is missing"):
        own.connect_placement(placed, ME, 4)


@pytest.mark.parametrize(
    ("owners", "owner", "key"),
    [
        (ME, protocol.JOAO, "repository"),
        ((*ME, protocol.JOAO), protocol.MARIA, "repository"),
        ((protocol.JOAO,), protocol.MARIA, "repository"),
        (ME, protocol.MARIA, "somebody else"),
    ],
)
def test_a_placement_in_other_mailboxes_or_by_others_is_an_alarm(own: Mailbox, repository, owners, owner, key):
    see(own, repository)
    repository.key = protocol.signing_key(key)
    with pytest.raises(MailboxAlarm, match="signed placement is not valid"):
        own.connect_placement(repository.placement(4, owner=owner), owners, 0)
    with pytest.raises(MailboxAlarm, match="signed placement is not valid"):
        own.connect_placement(repository.head(), ME, 0)


def test_a_shown_entry_must_be_the_recorded_one(own: Mailbox, repository: PlayedRepository):
    see(own, repository)
    own.require([BoxEntry(repository.entries[2], None, True)])
    other = dataclasses.replace(repository.entries[2], object=protocol.digest("another letter"))
    with pytest.raises(MailboxAlarm, match="shown otherwise"):
        own.require([BoxEntry(other, None, True)])


def test_a_shown_letter_must_be_the_recorded_object(own: Mailbox, repository: PlayedRepository):
    entry = repository.add(object=letter_view().object_hash)
    own.require([BoxEntry(entry, letter_view(), True)])
    other = repository.add(b"letter-id-000002")
    with pytest.raises(MailboxAlarm, match="another letter"):
        own.require([BoxEntry(other, letter_view(), True)])


def test_new_and_all_are_checked_as_they_are_read(own: Mailbox, repository: PlayedRepository):
    see(own, repository)
    roll_back(repository)
    for command in (New(0), All(0, heads=True)):
        with pytest.raises(MailboxAlarm):
            own.box(command)


def test_another_mailbox_of_the_same_repository_does_not_count(own: Mailbox, home: Home):
    other = PlayedRepository(protocol.JOAO)
    other.add()
    with pytest.raises(MailboxAlarm, match="not valid"):
        own.connect(other.head(), 0)


def test_the_chain_is_the_owners(own: Mailbox, repository: PlayedRepository, home: Home):
    see(own, repository)
    assert ChainStore(home, live_session().repository, protocol.JOAO).load().number == 0
