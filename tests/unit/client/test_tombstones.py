"""Tombstones that a repository shows: the owner's own are taken, whoever signed others, and all others are alarms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from client.errors import MailboxAlarm, NotFound
from client.mailbox import Mailbox
from client.state.home import Home
from crypto_core.deletion import SignedDeletion
from crypto_core.documents import SignedDocument
from crypto_core.ids import Digest, LetterId
from crypto_core.mailbox import Entry, EntryKind, EntryRouting
from pki.test_ca import TestCa
from pki.tokens.profiles import CardKeyUse
from tests.support import protocol
from tests.support.wire import Citizen
from tests.unit.client.conftest import PlayedContext, PlayedRepository, live_session

FIRST, SECOND = LetterId(b"letter-id-000001"), LetterId(b"letter-id-000002")


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> TestCa:
    return TestCa.create(tmp_path_factory.mktemp("ca"), "http://127.0.0.1:1", "only for tests")


@pytest.fixture(scope="module")
def maria(ca: TestCa) -> Citizen:
    return Citizen.issued(ca, "Maria Conceição Reis")


@pytest.fixture(scope="module")
def bruno(ca: TestCa) -> Citizen:
    return Citizen.issued(ca, "Bruno Antunes")


@pytest.fixture
def repository(maria: Citizen) -> PlayedRepository:
    """Two letters of João's to Maria."""
    made = PlayedRepository(maria.user)
    made.add(FIRST)
    made.add(SECOND)
    return made


@pytest.fixture
def own(home: Home, repository: PlayedRepository, maria: Citizen) -> Mailbox:
    found = Mailbox(PlayedContext(home, repository), live_session(user=maria.user), maria.user)  # type: ignore[arg-type]
    found.synchronise()
    return found


def card(citizen: Citizen) -> Callable[[bytes], SignedDocument]:
    return lambda document: citizen.signed(document, CardKeyUse.AUTHENTICATION)


def delete(own: Mailbox, by: Citizen, number: int = 1, app: str = "another installation", **changes) -> SignedDeletion:
    """Of one of João's letters, by whoever's card."""
    placed = protocol.entry(
        number,
        routing=EntryRouting(own.chain().links[number - 1].letter, protocol.JOAO, (own.owner,)),
    )
    return protocol.make_deletion(placed, own.chain().hash_at(number), own.owner, card(by), app, **changes)


def bury(repository: PlayedRepository, deletion: SignedDeletion | None, letter: LetterId = FIRST, **changes) -> Entry:
    """The repository writes a tombstone."""
    routing = EntryRouting(letter, protocol.JOAO, (repository.owner,))
    recorded = deletion.object_hash if deletion else protocol.digest("nothing")
    entry = repository.add(letter, EntryKind.TOMBSTONE, **{"routing": routing, "object": recorded, **changes})
    if deletion is not None:
        repository.deletions[entry.number] = deletion
    return entry


def test_that_of_another_installation_is_taken(own: Mailbox, repository: PlayedRepository, maria: Citizen):
    bury(repository, delete(own, maria))
    chain = own.synchronise()
    assert chain.deleted(protocol.JOAO, FIRST) == repository.entries[2].time
    assert chain.deleted(protocol.JOAO, SECOND) is None
    assert chain.tombstones == {(protocol.JOAO, FIRST)}
    with pytest.raises(NotFound, match="You deleted letter"):
        own.require_kept(chain.links[0])
    own.require_kept(chain.links[1])


def test_one_that_comes_in_the_page_of_its_letter_is_taken(
    home: Home, repository: PlayedRepository, maria: Citizen, own: Mailbox, tmp_path
):
    bury(repository, delete(own, maria))
    fresh = Mailbox(PlayedContext(Home(tmp_path / "new"), repository), live_session(), maria.user)  # type: ignore[arg-type]
    assert fresh.synchronise().number == 3


def is_alarm(own: Mailbox) -> str:
    with pytest.raises(MailboxAlarm, match="and you did not") as caught:
        own.synchronise()
    assert own.chain().tombstones == set()
    return str(caught.value)


class TestInvented:
    def test_without_a_word(self, own, repository):
        bury(repository, None)
        is_alarm(own)

    def test_signed_with_anothers_card(self, own, repository, bruno):
        bury(repository, delete(own, bruno))
        assert "another card" in is_alarm(own)

    def test_with_a_login_that_nobody_signed(self, own, repository, maria):
        made = delete(own, maria)
        signature = replace(made.login, signature=protocol.flip(made.login.signature, 8 * 200))
        bury(repository, replace(made, login=signature))
        is_alarm(own)

    def test_by_an_app_key_that_the_login_does_not_name(self, own, repository, maria):
        made = delete(own, maria)
        stranger = delete(own, maria, app="the repository")
        bury(repository, replace(made, statement=stranger.statement))
        is_alarm(own)

    def test_recorded_otherwise_than_it_is_shown(self, own, repository, maria):
        bury(repository, delete(own, maria), object=protocol.digest("another"))
        is_alarm(own)


class TestReplayed:
    def test_for_another_letter(self, own, repository, maria):
        bury(repository, delete(own, maria), SECOND)
        assert "another letter" in is_alarm(own)

    def test_for_another_entry_of_the_chain(self, own, repository, maria):
        bury(repository, delete(own, maria, letter=SECOND), SECOND)
        assert "does not have" in is_alarm(own)

    @pytest.mark.parametrize("number", [2, 3, 99])
    def test_with_a_number_that_is_not_the_letters(self, own, repository, maria, number):
        letter = protocol.entry(number, routing=EntryRouting(FIRST, protocol.JOAO, (own.owner,)))
        bury(repository, protocol.make_deletion(letter, own.chain().hash_at(1), own.owner, card(maria)))
        assert "does not have" in is_alarm(own)

    def test_twice(self, own, repository, maria):
        made = delete(own, maria)
        bury(repository, made)
        own.synchronise()
        bury(repository, made)
        with pytest.raises(MailboxAlarm, match="twice"):
            own.synchronise()

    def test_in_another_mailbox(self, own, repository, maria):
        bury(repository, delete(own, maria, mailbox=protocol.BRUNO))
        is_alarm(own)

    def test_of_a_former_letter_under_this_place(self, own, repository, maria):
        bury(repository, delete(own, maria, entry=Digest(bytes(32))))
        assert "does not have" in is_alarm(own)
