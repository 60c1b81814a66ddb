"""Deleting what is not one's own, deleting twice, and what is left of a letter that is gone."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from crypto_core import commands, deletion, documents, mailbox, suite
from crypto_core import letter as letters
from crypto_core.commands import BoxResult, DeleteResult, ErrorCode, RecvResult
from crypto_core.deletion import Deletion, SignedDeletion
from crypto_core.documents import Login
from crypto_core.ids import Digest, new_nonce
from crypto_core.mailbox import EntryKind
from pki.tokens.profiles import CardKeyUse
from tests.support.wire import now_ms

BODY = b"Apaga isto depois de ler."
WAIT_SECONDS = 60.0


@pytest.fixture
def sent(people, maria, joao):
    """A letter of Maria's to João."""
    return people[0].send(maria, [joao], BODY).letter


def entries(wire):
    return wire.ask(commands.All(0, heads=True), BoxResult).entries


def received(wire, letter):
    """The entry of a letter in the own box, with its hash as the chain gives it."""
    owner = wire.live.user
    repository = wire.descriptor.repository
    found = [each.entry for each in entries(wire)]
    hashes = mailbox.extend(repository, owner, 0, mailbox.genesis(repository, owner), found)
    for entry, entry_hash in zip(found, hashes, strict=True):
        if entry.routing.letter == letter and entry.kind in (EntryKind.RECEIVED, EntryKind.SENT):
            return entry, entry_hash
    raise AssertionError("no such letter")


def word(wire, citizen, letter, /, *, card=None, **changes) -> SignedDeletion:
    """The citizen's deletion of a letter of the own box; `changes` replace members before the app key signs."""
    entry, entry_hash = received(wire, letter)
    made = Deletion(
        wire.descriptor.repository,
        citizen.user,
        entry.routing.author,
        letter,
        entry.number,
        entry_hash,
        wire.live.keys.session,
        wire.app_key.public.raw,
        now_ms(),
    )
    login = Login(
        wire.descriptor.repository,
        citizen.user,
        wire.live.keys.session,
        suite.sha256(b"transcript"),
        wire.app_key.public.raw,
        made.time,
    )
    signed = (card or citizen).signed(documents.encode(login), CardKeyUse.AUTHENTICATION)
    return SignedDeletion(deletion.sign(wire.app_key, replace(made, **changes)), signed)


def tombstones(wire, letter):
    return [
        each for each in entries(wire) if (each.entry.kind, each.entry.routing.letter) == (EntryKind.TOMBSTONE, letter)
    ]


class TestWhatIsNotOnesOwn:
    def test_the_letter_of_somebody_else(self, people, joao, bruno, sent):
        _, his, theirs = people
        entry, entry_hash = received(his, sent)
        forged = word(
            theirs,
            bruno,
            theirs.send(bruno, [bruno], BODY).letter,
            letter=sent,
            author=entry.routing.author,
            number=entry.number,
            entry=entry_hash,
        )
        assert theirs.refused(commands.Delete(forged)) is ErrorCode.NOT_FOUND
        assert tombstones(his, sent) == []

    def test_with_the_owners_own_word(self, people, joao, sent):
        _, his, theirs = people
        assert theirs.refused(commands.Delete(word(his, joao, sent))) is ErrorCode.NOT_ALLOWED

    def test_by_whoever_has_the_session_but_not_the_card(self, people, joao, bruno, sent):
        _, his, _ = people
        assert his.refused(commands.Delete(word(his, joao, sent, card=bruno))) is ErrorCode.SIGNATURE

    def test_a_sender_cannot_take_a_letter_back(self, people, maria, joao, sent):
        hers, his, _ = people
        hers.ask(commands.Delete(word(hers, maria, sent)), DeleteResult)
        assert his.ask(commands.Recv(maria.user, sent), RecvResult).body

    def test_the_word_about_one_letter_for_another(self, people, maria, joao, sent):
        hers, his, _ = people
        other = hers.send(maria, [joao], BODY).letter
        assert his.refused(commands.Delete(word(his, joao, sent, letter=other))) is ErrorCode.CONFLICT
        wrong = word(his, joao, sent, entry=Digest(bytes(32)))
        assert his.refused(commands.Delete(wrong)) is ErrorCode.CONFLICT
        assert tombstones(his, sent) == tombstones(his, other) == []


class TestOnce:
    def test_the_same_envelope_again(self, people, joao, sent):
        his = people[1]
        nonce = new_nonce()
        data = his.sealed(commands.Delete(word(his, joao, sent)), nonce)
        results = [his.opened(his.call(data), data, nonce, DeleteResult) for _ in range(2)]
        assert results[0].deleted == results[1].deleted
        assert len(tombstones(his, sent)) == 1

    def test_two_devices_at_once(self, world, people, joao, sent):
        his = people[1]
        ends = {}
        ready = threading.Barrier(2, timeout=WAIT_SECONDS)

        def device(number):
            with world.wire() as wire:
                wire.login(joao)
                command = commands.Delete(word(wire, joao, sent))
                ready.wait()
                ends[number] = wire.ask(command, DeleteResult).deleted

        threads = [threading.Thread(target=device, args=(number,)) for number in range(2)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(WAIT_SECONDS)
        assert len(ends) == 2
        assert len(set(ends.values())) == 1
        assert len(tombstones(his, sent)) == 1


class TestAfterwards:
    @pytest.fixture
    def gone(self, people, maria, joao, sent):
        """João has read the letter, and deleted it."""
        _, his, _ = people
        _, head, _ = his.read(joao, maria, sent)
        self.head = head
        his.ask(commands.Delete(word(his, joao, sent)), DeleteResult)
        return sent

    def test_nothing_gives_it_out(self, people, maria, gone):
        his = people[1]
        assert his.refused(commands.Recv(maria.user, gone)) is ErrorCode.NOT_FOUND
        assert all(each.view is None for each in entries(his) if each.entry.routing.letter == gone)
        new = his.ask(commands.New(0), BoxResult).entries
        assert gone not in {each.entry.routing.letter for each in new}

    def test_what_was_read_can_still_be_confirmed(self, people, maria, joao, gone):
        hers, his, _ = people
        his.ask(his.receipt(joao, maria, self.head), commands.ReceiptResult)
        assert len(hers.ask(commands.Status(gone), commands.StatusResult).receipts) == 1

    def test_its_second_share_is_not_released_again(self, people, maria, joao):
        hers, his, _ = people
        letter = hers.ask(hers.to_sign(maria, [joao], BODY), commands.SendResult).letter
        assert his.refused(commands.Delete(word(his, joao, letter))) is ErrorCode.NOT_ALLOWED
        accept = his.accept(joao, maria, letter)
        assert his.ask(accept, commands.ChoiceResult).release
        his.ask(commands.Delete(word(his, joao, letter)), DeleteResult)
        assert his.refused(accept) is ErrorCode.NOT_FOUND
        shown = [each for each in entries(his) if each.entry.routing.letter == letter and each.slip]
        assert [each.slip.release for each in shown] == [None]

    def test_the_evidence_stays(self, people, maria, gone):
        his = people[1]
        assert his.ask(commands.Evidence(maria.user, gone), commands.EvidenceResult).document


def test_a_letter_that_was_deleted_unread_cannot_be_confirmed(people, maria, joao, sent):
    _, his, _ = people
    (view,) = [each.view for each in entries(his) if each.entry.routing.letter == sent]
    head = letters.open_head(view, his.descriptor.repository, joao.user, {joao.sealing.public.key_id: joao.sealing})
    his.ask(commands.Delete(word(his, joao, sent)), DeleteResult)
    assert his.refused(his.receipt(joao, maria, head)) is ErrorCode.NOT_ALLOWED
