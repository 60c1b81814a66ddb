"""The rules of DELETE, and what is said afterwards of a letter that is gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crypto_core import commands, limits, sealed, suite
from crypto_core.choice import Choice
from crypto_core.commands import ErrorCode, Person
from crypto_core.documents import SignedDocument
from crypto_core.ids import Digest, Milliseconds
from crypto_core.letter import seal
from crypto_core.mailbox import EntryKind
from crypto_core.sign_for import SignedSlip
from pki.test_ca import TestCa
from pki.tokens.profiles import CardKeyUse
from repository_worker.effects import Change, CounterRecord, Outcome, Placed, StoreTombstone
from repository_worker.errors import Refused
from repository_worker.handlers import decide
from repository_worker.storage import chains
from repository_worker.storage.interface import StoredAttachments, StoredSlip
from tests.support.protocol import (
    LETTER,
    MARIA,
    NOW,
    REPOSITORY,
    SESSION,
    make_deletion,
    make_draft,
    sealing_key,
    sign_for_letter,
)
from tests.support.wire import Citizen
from tests.unit.repository_worker.conftest import caller, places


@pytest.fixture(scope="module")
def ca(tmp_path_factory) -> TestCa:
    return TestCa.create(tmp_path_factory.mktemp("ca"), "http://127.0.0.1:1", "only for tests")


@pytest.fixture(scope="module")
def joao(ca) -> Citizen:
    return Citizen.issued(ca, "João Sá")


@pytest.fixture(scope="module")
def other(ca) -> Citizen:
    return Citizen.issued(ca, "Bruno Antunes")


@pytest.fixture(scope="module")
def letter(joao) -> sealed.SealedObject:
    written = make_draft(joao.user)
    keys = {joao.user: joao.sealing.public, MARIA: sealing_key("Maria").public}
    return sealed.read(sealed.LETTER, seal(written, b"a CMS signature", keys).head)


@pytest.fixture
def received(shelf, joao, letter):
    """Maria's letter in the box of João, who is registered."""
    shelf.people_.append(
        Person(
            joao.user,
            1,
            SignedDocument(b"{}", b"CMS"),
            joao.der(CardKeyUse.AUTHENTICATION) or b"",
            None,
            (),
            NOW,
        )
    )
    return shelf.put(joao.user, EntryKind.RECEIVED, letter, MARIA, unread=True)


def by(citizen):
    """Signs as the card of this citizen."""
    return lambda document: citizen.signed(document, CardKeyUse.AUTHENTICATION)


@pytest.fixture
def deletion(joao, received):
    return make_deletion(received.entry, received.hash, joao.user, by(joao))


@pytest.fixture
def refusal(shelf, context, joao):
    def ask(command) -> ErrorCode:
        with pytest.raises(Refused) as caught:
            decide(command, caller(joao.user), shelf, context)
        assert caught.value.message
        return caught.value.code

    return ask


class TestDelete:
    def test_the_effect_is_the_tombstone_and_the_reply_what_stands(self, shelf, context, joao, deletion):
        decision = decide(commands.Delete(deletion), caller(joao.user), shelf, context)
        assert decision.effect == StoreTombstone(joao.user, MARIA, LETTER, deletion, shelf.bytes, context.now)
        entry = replace(shelf.entries_[joao.user][0].entry, number=2, time=Milliseconds(NOW + 5))
        outcome = Outcome(entries=(Placed(joao.user, entry, Digest(bytes(32))),))
        result = decision.reply(outcome)
        assert result.deleted == NOW + 5
        assert [(place.mailbox, place.number) for place in places(result.placement)] == [(joao.user, 2)]

    def test_a_letter_that_is_not_in_the_box(self, shelf, refusal, joao, received, deletion):
        shelf.entries_[MARIA] = shelf.entries_.pop(joao.user)
        assert refusal(commands.Delete(deletion)) is ErrorCode.NOT_FOUND

    def test_another_place_in_the_mailbox(self, refusal, joao, received):
        for number, entry in ((2, received.hash), (1, Digest(bytes(32)))):
            made = make_deletion(received.entry, entry, joao.user, by(joao), number=number)
            assert refusal(commands.Delete(made)) is ErrorCode.CONFLICT

    def test_signed_for_somebody_elses_mailbox(self, refusal, other, received):
        made = make_deletion(received.entry, received.hash, other.user, by(other))
        assert refusal(commands.Delete(made)) is ErrorCode.NOT_ALLOWED

    def test_under_a_login_that_another_card_signed(self, refusal, joao, other, received):
        made = make_deletion(received.entry, received.hash, joao.user, by(other))
        assert refusal(commands.Delete(made)) is ErrorCode.SIGNATURE

    def test_by_another_app_key_than_that_of_the_login(self, refusal, joao, received, deletion):
        stranger = make_deletion(received.entry, received.hash, joao.user, by(joao), app="stranger")
        made = replace(deletion, statement=stranger.statement)
        assert refusal(commands.Delete(made)) is ErrorCode.SIGNATURE

    def test_what_is_no_deletion(self, refusal, deletion):
        assert refusal(commands.Delete(replace(deletion, statement=b"\x00"))) is ErrorCode.MALFORMED

    def test_from_the_future(self, shelf, context, joao, deletion):
        early = replace(context, now=Milliseconds(NOW - limits.CLOCK_SKEW_MS - 1))
        with pytest.raises(Refused) as caught:
            decide(commands.Delete(deletion), caller(joao.user), shelf, early)
        assert caught.value.code is ErrorCode.CLOCK


class TestToBeSignedFor:
    EXPIRES = NOW + 1000

    @pytest.fixture
    def choose(self, shelf, joao, received):
        """The letter opens against a signature, and this was chosen."""

        def put(choice, expires=self.EXPIRES):
            slip = StoredSlip(SignedSlip(sign_for_letter().slip, b"CMS", None), Milliseconds(expires), choice=choice)
            shelf.entries_[joao.user][0] = replace(received, slip=slip)

        return put

    def test_it_is_refused_first(self, refusal, deletion, choose):
        choose(None)
        assert refusal(commands.Delete(deletion)) is ErrorCode.NOT_ALLOWED

    @pytest.mark.parametrize("choice", [*Choice])
    def test_once_it_is_chosen(self, shelf, context, joao, deletion, choose, choice):
        choose(choice)
        assert decide(commands.Delete(deletion), caller(joao.user), shelf, context).effect is not None

    def test_once_its_time_is_over(self, shelf, context, joao, deletion, choose):
        choose(None, expires=NOW)
        assert decide(commands.Delete(deletion), caller(joao.user), shelf, context).effect is not None


class TestAfterwards:
    @pytest.fixture
    def gone(self, shelf, joao, received):
        """It was deleted unread."""
        shelf.entries_[joao.user][0] = replace(
            received, view=None, deleted=NOW, protected=received.view.protected, unread=True
        )
        shelf.bodies[MARIA, LETTER] = None

    def test_it_is_not_given_out(self, shelf, context, joao, gone):
        with pytest.raises(Refused, match="2026-11-22") as caught:
            decide(commands.Recv(MARIA, LETTER), caller(joao.user), shelf, context)
        assert caught.value.code is ErrorCode.NOT_FOUND

    def test_nor_are_its_attachments(self, shelf, context, joao, gone, monkeypatch):
        monkeypatch.setattr(shelf, "attached", lambda *_: StoredAttachments((), False, False, NOW))
        with pytest.raises(Refused, match="2026-11-22"):
            decide(commands.GetChunk(MARIA, LETTER, bytes(16), 0), caller(joao.user), shelf, context)

    def test_the_list_has_its_entry_alone(self, shelf, context, joao, gone):
        decision = decide(commands.All(0, heads=True), caller(joao.user), shelf, context)
        (shown,) = decision.reply(Outcome()).entries
        assert shown.view is None
        assert shown.entry.object == shelf.entries_[joao.user][0].entry.object


def test_a_tombstone_takes_its_size_and_frees_that_of_the_letter(joao, deletion):
    effect = StoreTombstone(joao.user, MARIA, LETTER, deletion, 10_000, NOW)
    change = Change(effect, CounterRecord(SESSION, 1, suite.sha256(b"envelope"), NOW))
    tip = chains.Tip(1, Digest(bytes(32)), 0, 10_100)
    full = chains.Quota(entries=1, bytes=1)
    _, tips, document = chains.Numbering(REPOSITORY, {joao.user: tip}, full).place(chains.placing(change))
    assert tips[joao.user].bytes == 100 + deletion.size
    assert document["object"] == deletion.object_hash
