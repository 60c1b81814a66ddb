"""The rules of the eight commands: whose box, whose letter, read first, and what a login is needed for."""

from __future__ import annotations

import time

import pytest

from crypto_core import commands, ids, letter, limits, mailbox, receipt, sealed
from crypto_core.commands import ErrorCode
from crypto_core.errors import BindingMismatch, ProtocolError
from crypto_core.ids import Digest
from repository_worker.storage.memory import NEWS_SECONDS
from tests.support.wire import keys_of


@pytest.fixture
def people(world, maria, joao, bruno):
    """Three citizens, logged in, each with a connection of their own."""
    with world.logged_in(maria, joao, bruno) as wires:
        yield wires


LOGIN_NEEDED = {
    "NEW": commands.New(0),
    "ALL": commands.All(0, True),
    "STATUS": commands.Status(bytes(16)),
    "RECV": commands.Recv(bytes(28), bytes(16)),
    "LIST of everybody": commands.List(None, None, False, None),
    "LIST by name": commands.List(None, "maria", False, None),
}


class TestLoginIsNeeded:
    @pytest.mark.parametrize("command", LOGIN_NEEDED.values(), ids=LOGIN_NEEDED.keys())
    def test_without_a_citizen(self, wire, command):
        wire.anonymous()
        assert wire.refused(command) is ErrorCode.LOGIN_NEEDED

    def test_a_letter_without_a_citizen(self, wire, maria):
        wire.register(maria)
        wire.login(maria)
        made = wire.letter(maria, [maria], b"text")
        wire.anonymous()
        assert wire.refused(commands.Send(made.head, made.body)) is ErrorCode.LOGIN_NEEDED

    def test_one_exact_id_may_be_looked_up(self, wire, maria):
        wire.register(maria)
        found = wire.ask(commands.List(maria.user, None, False, None), commands.ListResult)
        assert [each.user for each in found.people] == [maria.user]

    def test_a_closed_session_is_over(self, wire, maria):
        """For what it would change at once, for questions after a named time, in which all workers hear of it."""
        wire.register(maria)
        wire.login(maria)
        wire.ask(commands.Close(), commands.CloseResult)
        assert wire.silent(wire.sealed(commands.Block(maria.user, True), bytes(32)))
        ended = time.monotonic() + 2 * NEWS_SECONDS
        while time.monotonic() < ended:
            wire.connection.sleep(0.02)
        assert wire.silent(*(wire.sealed(commands.New(0), bytes(32)) for _ in range(4)))


def placed(wire, sent):
    return mailbox.read_placement(sent.placement, wire.descriptor.verify_key, wire.descriptor.repository).places


class TestOneLetter:
    def test_it_goes_from_box_to_box_and_its_receipt_comes_back(self, people, maria, joao):
        first, second, _ = people
        sent = first.send(maria, [joao], "Olá João".encode(), subject="Ata")
        places = placed(first, sent)
        assert [(place.mailbox, place.number) for place in places] == [(maria.user, 1), (joao.user, 1)]

        new = second.ask(commands.New(0), commands.BoxResult)
        assert [each.read for each in new.entries] == [False]
        found, head, body = second.read(joao, maria, sent.letter)
        assert body == "Olá João".encode()
        assert (
            found.entry.entry.hash(
                second.descriptor.repository, joao.user, mailbox.genesis(second.descriptor.repository, joao.user)
            )
            == places[1].entry
        )
        assert not second.ask(commands.New(0), commands.BoxResult).entries

        second.ask(second.receipt(joao, maria, head), commands.ReceiptResult)
        status = first.ask(commands.Status(sent.letter), commands.StatusResult)
        (answer,) = status.receipts
        keys = {maria.sealing.public.key_id: maria.sealing}
        opened = receipt.open_receipt(answer.view, first.descriptor.repository, maria.user, keys)
        own = letter.open_head(status.letter.view, first.descriptor.repository, maria.user, keys)
        receipt.require_answers(opened, own)
        kinds = [each.entry.kind.value for each in first.ask(commands.All(0, False), commands.BoxResult).entries]
        assert kinds == ["sent", "receipt"]

    def test_several_recipients_get_one_object(self, people, maria, joao, bruno):
        first, second, third = people
        sent = first.send(maria, [joao, bruno], b"to both")
        assert len(placed(first, sent)) == 3
        objects = {wire.ask(commands.All(0, True), commands.BoxResult).entries[0].entry.object for wire in people}
        assert len(objects) == 1
        assert second.read(joao, maria, sent.letter)[2] == third.read(bruno, maria, sent.letter)[2] == b"to both"

    def test_the_senders_copy_is_read_by_the_sender_and_marks_nothing(self, people, maria, joao):
        first, second, _ = people
        sent = first.send(maria, [joao], b"my copy")
        assert first.read(maria, maria, sent.letter)[2] == b"my copy"
        assert len(second.ask(commands.New(0), commands.BoxResult).entries) == 1

    def test_nobody_opens_what_is_wrapped_for_another(self, people, maria, joao, bruno):
        first, second, _ = people
        sent = first.send(maria, [joao], b"for Joao")
        view = second.ask(commands.New(0), commands.BoxResult).entries[0].view
        keys = {bruno.sealing.public.key_id: bruno.sealing}
        for reader in (bruno.user, joao.user):
            with pytest.raises(ProtocolError):
                view.open(sealed.LETTER, first.descriptor.repository, reader, keys)
        assert sent.letter

    def test_the_listing_does_not_mark_as_read(self, people, maria, joao):
        first, second, _ = people
        first.send(maria, [joao], b"text")
        for _ in range(3):
            second.ask(commands.All(0, True), commands.BoxResult)
        assert len(second.ask(commands.New(0), commands.BoxResult).entries) == 1


class TestReceipts:
    def opened(self, wire, reader, author, letter_id):
        """The head, from NEW alone: without RECV the letter counts as unread."""
        entry = next(
            each
            for each in wire.ask(commands.New(0), commands.BoxResult).entries
            if each.entry.routing.letter == letter_id
        )
        keys = {reader.sealing.public.key_id: reader.sealing}
        return letter.open_head(entry.view, wire.descriptor.repository, reader.user, keys)

    def test_none_for_a_letter_that_was_not_read(self, people, maria, joao):
        first, second, _ = people
        sent = first.send(maria, [joao], b"unread")
        head = self.opened(second, joao, maria, sent.letter)
        assert second.refused(second.receipt(joao, maria, head)) is ErrorCode.NOT_ALLOWED
        assert not first.ask(commands.Status(sent.letter), commands.StatusResult).receipts

    def test_none_by_somebody_who_did_not_get_the_letter(self, people, maria, joao, bruno):
        first, second, third = people
        sent = first.send(maria, [joao], b"for Joao")
        _, head, _ = second.read(joao, maria, sent.letter)
        code = third.refused(third.receipt(bruno, maria, head))
        assert code in {ErrorCode.NOT_ALLOWED, ErrorCode.NOT_FOUND}

    def test_none_in_somebody_elses_name(self, people, maria, joao):
        first, second, third = people
        sent = first.send(maria, [joao], b"for Joao")
        _, head, _ = second.read(joao, maria, sent.letter)
        made = second.receipt(joao, maria, head)
        assert third.refused(made) is ErrorCode.NOT_ALLOWED
        assert not first.ask(commands.Status(sent.letter), commands.StatusResult).receipts

    def test_the_same_one_again_is_accepted_again_and_another_is_a_conflict(self, people, maria, joao):
        first, second, _ = people
        sent = first.send(maria, [joao], b"text")
        _, head, _ = second.read(joao, maria, sent.letter)
        made = second.receipt(joao, maria, head)
        times = {second.ask(made, commands.ReceiptResult).accepted for _ in range(2)}
        assert len(times) == 1
        assert second.refused(second.receipt(joao, maria, head)) is ErrorCode.CONFLICT
        assert len(first.ask(commands.Status(sent.letter), commands.StatusResult).receipts) == 1

    def test_one_sealed_for_others_is_refused(self, people, maria, joao, bruno):
        first, second, _ = people
        sent = first.send(maria, [joao], b"text")
        _, head, _ = second.read(joao, maria, sent.letter)
        author = head.letter.from_
        with pytest.raises(BindingMismatch):
            receipt.seal(
                receipt.draft(head, second.party(joao), receipt.MailboxPosition(1, Digest(bytes(32))), sent.accepted),
                b"x",
                second.descriptor.repository,
                keys_of([joao, bruno]),
            )
        assert author.user == maria.user

    def test_one_moved_to_another_letter_does_not_hold(self, people, maria, joao):
        first, second, _ = people
        one, two = first.send(maria, [joao], b"one"), first.send(maria, [joao], b"two")
        _, head_one, _ = second.read(joao, maria, one.letter)
        second.ask(second.receipt(joao, maria, head_one), commands.ReceiptResult)
        keys = {maria.sealing.public.key_id: maria.sealing}
        repository = first.descriptor.repository
        answer = first.ask(commands.Status(one.letter), commands.StatusResult).receipts[0]
        other = first.ask(commands.Status(two.letter), commands.StatusResult).letter
        opened = receipt.open_receipt(answer.view, repository, maria.user, keys)
        with pytest.raises(BindingMismatch):
            receipt.require_answers(opened, letter.open_head(other.view, repository, maria.user, keys))

    def test_only_the_letters_author_asks_for_its_status(self, people, maria, joao):
        first, second, third = people
        sent = first.send(maria, [joao], b"text")
        assert second.refused(commands.Status(sent.letter)) is ErrorCode.NOT_FOUND
        assert third.refused(commands.Status(sent.letter)) is ErrorCode.NOT_FOUND


class TestBlocking:
    @staticmethod
    def block(wire, user, *, blocked=True):
        return wire.ask(commands.Block(user, blocked), commands.BlockResult)

    @staticmethod
    def until_refused(wire, sender, to):
        """Sends until it is refused, which both workers must know after a named time; gives the refusal."""
        deadline = time.monotonic() + 10 * NEWS_SECONDS
        while True:
            try:
                wire.send(sender, to, b"text")
            except commands.RefusedByRepository as refusal:
                return refusal
            assert time.monotonic() < deadline, "a block does not count"

    def test_no_letter_of_the_blocked_arrives_for_anybody(self, people, maria, joao, bruno):
        first, second, third = people
        assert self.block(second, maria.user) == commands.BlockResult(maria.user, blocked=True)
        refusal = self.until_refused(first, maria, [joao, bruno])
        assert refusal.code is ErrorCode.NOT_ALLOWED
        assert joao.user.hex() in str(refusal)
        assert bruno.user.hex() not in str(refusal)
        arrived = [len(wire.ask(commands.New(0), commands.BoxResult).entries) for wire in (second, third)]
        assert arrived[0] == arrived[1]  # all or nothing
        assert first.send(maria, [bruno], b"to him alone").letter
        assert second.send(joao, [maria], b"the other way").letter

    def test_receipts_of_the_blocked_come_in_any_case(self, people, maria, joao):
        first, second, _ = people
        sent = first.send(maria, [joao], b"text")
        self.block(first, joao.user)
        _, head, _ = second.read(joao, maria, sent.letter)
        assert second.ask(second.receipt(joao, maria, head), commands.ReceiptResult).placement
        assert first.ask(commands.Status(sent.letter), commands.StatusResult).receipts

    def test_an_old_command_does_not_block_again(self, people, maria, joao):
        _, second, _ = people
        nonce = ids.new_nonce()
        data = second.sealed(commands.Block(maria.user, blocked=True), nonce)
        before = second.opened(second.call(data), data, nonce, commands.BlockResult)
        self.block(second, maria.user, blocked=False)
        assert second.opened(second.call(data), data, nonce, commands.BlockResult) == before
        assert second.ask(commands.Blocked(), commands.BlockedResult).users == ()

    def test_a_letter_that_was_accepted_before_is_accepted_again(self, people, maria, joao):
        first, second, _ = people
        made = first.letter(maria, [joao], b"text")
        before = first.ask(commands.Send(made.head, made.body), commands.SendResult)
        self.block(second, maria.user)
        self.until_refused(first, maria, [joao])
        again = first.ask(commands.Send(made.head, made.body), commands.SendResult)
        assert (again.letter, again.accepted) == (before.letter, before.accepted)

    def test_the_list_is_the_callers_own(self, people, maria, joao, bruno):
        first, second, _ = people
        self.block(second, maria.user)
        self.block(second, bruno.user)
        self.block(second, bruno.user)
        assert second.ask(commands.Blocked(), commands.BlockedResult).users == tuple(sorted([maria.user, bruno.user]))
        assert first.ask(commands.Blocked(), commands.BlockedResult).users == ()


class TestPeople:
    def test_a_name_is_found_whatever_its_case_and_accents(self, people, joao):
        first, _, _ = people
        for query in ("joao", "JOÃO", "sá"):
            found = first.ask(commands.List(None, query, False, None), commands.ListResult).people
            assert joao.user in {each.user for each in found}

    def test_pages_come_in_a_bounded_number(self, people):
        first, _, _ = people
        # A minute may end in between, and another begin: then it takes more than the limit and some.
        asked, refused = 0, None
        while refused is None and asked < 10 * limits.LIST_PAGES_A_MINUTE:
            try:
                first.ask(commands.List(None, "nobody", False, None), commands.ListResult)
                asked += 1
            except commands.RefusedByRepository as refusal:
                refused = refusal.code
        assert refused is ErrorCode.TOO_MANY
