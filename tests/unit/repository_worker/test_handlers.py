"""The rules of the commands, each with the case in which it refuses. No server is needed for a rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crypto_core import commands, delivery, letter, limits, sealed
from crypto_core.commands import ErrorCode
from crypto_core.ids import AttachmentId, LetterId
from crypto_core.mailbox import EntryKind
from crypto_core.session import SessionLimits
from pki import operator
from pki.evidence import EvidenceSigner
from repository_worker.effects import (
    CloseSession,
    MarkRead,
    Outcome,
    Placed,
    SetBlock,
    SetWatch,
    StoreLetter,
    StoreReceipt,
)
from repository_worker.errors import Refused
from repository_worker.handlers import decide
from tests.support.protocol import (
    BODY,
    BRUNO,
    JOAO,
    LETTER,
    MARIA,
    NOW,
    REPOSITORY,
    digest,
    entry,
    make_deletion,
    make_letter,
    public_of,
    ring,
    sealed_letter,
    sealed_receipt,
    signed,
)
from tests.unit.repository_worker.conftest import caller, places, read_head

LETTER_HEAD = sealed.read(sealed.LETTER, sealed_letter().head)
RECEIPT = sealed.read(sealed.RECEIPT, sealed_receipt())


def send(made=None) -> commands.Send:
    made = made or sealed_letter()
    return commands.Send(made.head, made.body)


@pytest.fixture
def refusal(shelf, context):
    """Asks, and gives the code of the refusal."""

    def ask(command, user) -> ErrorCode:
        with pytest.raises(Refused) as caught:
            decide(command, caller(user), shelf, context)
        assert caught.value.message
        return caught.value.code

    return ask


@pytest.fixture
def answer(shelf, context):
    """Asks a command without an effect, and gives its result."""

    def ask(command, user):
        decision = decide(command, caller(user), shelf, context)
        assert decision.effect is None
        return decision.reply(Outcome())

    return ask


WITHOUT_LOGIN_REFUSED = [
    commands.New(0),
    commands.All(0, heads=True),
    send(),
    commands.Recv(MARIA, LETTER),
    commands.Receipt(sealed_receipt()),
    commands.Delete(make_deletion(entry(1), digest("entry 1"))),
    commands.Status(LETTER),
    commands.Block(MARIA, blocked=True),
    commands.Blocked(),
    commands.Upload(LETTER, AttachmentId(bytes(16)), 16),
    commands.PutChunk(LETTER, AttachmentId(bytes(16)), 0, bytes(16)),
    commands.GetChunk(MARIA, LETTER, AttachmentId(bytes(16)), 0),
    commands.List(None, None, history=False, after=None),
    commands.List(None, "maria", history=False, after=None),
]


class TestLogin:
    @pytest.mark.parametrize("command", WITHOUT_LOGIN_REFUSED, ids=commands.name_of)
    def test_everything_else_needs_a_citizen(self, refusal, command):
        assert refusal(command, None) is ErrorCode.LOGIN_NEEDED

    def test_a_session_without_a_citizen_can_be_closed(self, shelf, context):
        decision = decide(commands.Close(), caller(None), shelf, context)
        assert decision.effect == CloseSession(caller(None).session)
        assert decision.reply(Outcome()) == commands.CloseResult(closed=True)


class TestSend:
    @pytest.fixture(autouse=True)
    def all_registered(self, shelf):
        shelf.registered |= {MARIA, JOAO, BRUNO}

    def test_the_effect_is_the_letter_and_the_reply_what_stands(self, shelf, context):
        decision = decide(send(), caller(MARIA), shelf, context)
        assert decision.effect == StoreLetter(LETTER_HEAD, sealed_letter().body, context.now)
        placed = [shelf.put(owner, EntryKind.SENT, LETTER_HEAD, MARIA) for owner in (MARIA, BRUNO, JOAO)]
        outcome = Outcome(
            entries=tuple(Placed(o, e.entry, e.hash) for o, e in zip((MARIA, BRUNO, JOAO), placed, strict=True))
        )
        result = decision.reply(outcome)
        assert [(place.mailbox, place.entry) for place in places(result.placement)] == [
            (owner, each.hash) for owner, each in zip((MARIA, BRUNO, JOAO), placed, strict=True)
        ]

    def test_as_somebody_else(self, refusal):
        assert refusal(send(), JOAO) is ErrorCode.NOT_ALLOWED

    def test_another_body(self, refusal):
        assert refusal(replace(send(), body=b"another body"), MARIA) is ErrorCode.MALFORMED

    def test_a_head_that_is_none(self, refusal):
        assert refusal(replace(send(), head=b"\x00"), MARIA) is ErrorCode.MALFORMED

    def test_to_somebody_who_is_not_registered(self, shelf, context):
        shelf.registered.remove(BRUNO)
        with pytest.raises(Refused, match=BRUNO.hex()) as caught:
            decide(send(), caller(MARIA), shelf, context)
        assert caught.value.code is ErrorCode.NOT_FOUND

    def test_from_somebody_who_is_not_registered(self, shelf, refusal):
        shelf.registered.remove(MARIA)
        assert refusal(send(), MARIA) is ErrorCode.NOT_FOUND

    def test_limits_of_this_repository(self, shelf, context):
        small = replace(context, limits=SessionLimits(10, limits.BODY_BYTES, recipients=1))
        with pytest.raises(Refused) as caught:
            decide(send(), caller(MARIA), shelf, small)
        assert caught.value.code is ErrorCode.TOO_LARGE
        short = replace(context, limits=SessionLimits(10, body_bytes=1, recipients=64))
        long_body = replace(send(), body=bytes(5000))
        with pytest.raises(Refused):
            decide(long_body, caller(MARIA), shelf, short)

    def test_to_somebody_who_blocks_the_author(self, shelf, context):
        shelf.blocks |= {(JOAO, MARIA), (BRUNO, JOAO)}
        with pytest.raises(Refused, match=JOAO.hex()) as caught:
            decide(send(), caller(MARIA), shelf, context)
        assert caught.value.code is ErrorCode.NOT_ALLOWED
        assert BRUNO.hex() not in caught.value.message

    def test_the_author_who_blocks_a_reader_may_still_write_to_them(self, shelf, context):
        shelf.blocks |= {(MARIA, JOAO)}
        assert decide(send(), caller(MARIA), shelf, context).effect is not None

    def test_a_letter_that_was_accepted_before_the_block_is_accepted_again(self, shelf, context):
        shelf.put(MARIA, EntryKind.SENT, LETTER_HEAD, MARIA)
        shelf.blocks |= {(JOAO, MARIA)}
        assert decide(send(), caller(MARIA), shelf, context).effect is not None


class TestBlock:
    @pytest.fixture(autouse=True)
    def all_registered(self, shelf):
        shelf.registered |= {MARIA, JOAO}

    @pytest.mark.parametrize("blocked", [True, False])
    def test_the_effect_is_the_callers_own(self, shelf, context, blocked):
        decision = decide(commands.Block(JOAO, blocked), caller(MARIA), shelf, context)
        assert decision.effect == SetBlock(MARIA, JOAO, blocked)
        assert decision.reply(Outcome()) == commands.BlockResult(JOAO, blocked)

    def test_nobody_blocks_themselves(self, refusal):
        assert refusal(commands.Block(MARIA, blocked=True), MARIA) is ErrorCode.NOT_ALLOWED

    def test_nobody_who_is_not_registered_can_be_blocked(self, shelf, context, refusal):
        assert refusal(commands.Block(BRUNO, blocked=True), MARIA) is ErrorCode.NOT_FOUND
        assert decide(commands.Block(BRUNO, blocked=False), caller(MARIA), shelf, context).effect is not None

    def test_the_number_of_the_blocked_is_limited(self, shelf, context, refusal):
        shelf.blocks |= {(MARIA, number.to_bytes(28, "big")) for number in range(limits.BLOCKED)}
        assert refusal(commands.Block(JOAO, blocked=True), MARIA) is ErrorCode.TOO_LARGE
        shelf.blocks ^= {(MARIA, bytes(28)), (MARIA, bytes(JOAO))}
        assert decide(commands.Block(JOAO, blocked=True), caller(MARIA), shelf, context).effect is not None

    def test_everybody_sees_their_own_list_alone(self, shelf, answer):
        shelf.blocks |= {(MARIA, bytes(JOAO)), (JOAO, bytes(BRUNO))}
        assert answer(commands.Blocked(), MARIA) == commands.BlockedResult((JOAO,))
        assert answer(commands.Blocked(), BRUNO) == commands.BlockedResult(())


class TestRecv:
    def test_the_first_time_marks_a_received_letter(self, shelf, context):
        shelf.put(JOAO, EntryKind.RECEIVED, LETTER_HEAD, MARIA, unread=True)
        shelf.bodies[MARIA, LETTER] = b"sealed"
        decision = decide(commands.Recv(MARIA, LETTER), caller(JOAO), shelf, context)
        assert decision.effect == MarkRead(JOAO, MARIA, LETTER)
        result = decision.reply(Outcome())
        assert result.body == b"sealed"
        assert result.entry.read
        assert result.entry.view == LETTER_HEAD.view(JOAO)

    def test_afterwards_nothing_changes(self, shelf, answer):
        shelf.put(JOAO, EntryKind.RECEIVED, LETTER_HEAD, MARIA)
        shelf.bodies[MARIA, LETTER] = b"sealed"
        assert answer(commands.Recv(MARIA, LETTER), JOAO).entry.read

    def test_an_own_copy_is_never_marked(self, shelf, answer):
        shelf.put(MARIA, EntryKind.SENT, LETTER_HEAD, MARIA)
        shelf.bodies[MARIA, LETTER] = b"sealed"
        assert answer(commands.Recv(MARIA, LETTER), MARIA).entry.entry.kind is EntryKind.SENT

    def test_a_letter_of_somebody_elses_box(self, shelf, refusal):
        shelf.put(JOAO, EntryKind.RECEIVED, LETTER_HEAD, MARIA, unread=True)
        shelf.bodies[MARIA, LETTER] = b"sealed"
        assert refusal(commands.Recv(MARIA, LETTER), BRUNO) is ErrorCode.NOT_FOUND

    def test_the_sender_is_part_of_the_name(self, shelf, refusal):
        shelf.put(JOAO, EntryKind.RECEIVED, LETTER_HEAD, MARIA, unread=True)
        assert refusal(commands.Recv(BRUNO, LETTER), JOAO) is ErrorCode.NOT_FOUND


class TestReceipt:
    @pytest.fixture(autouse=True)
    def received(self, shelf):
        shelf.put(JOAO, EntryKind.RECEIVED, LETTER_HEAD, MARIA, unread=True)

    def test_for_a_letter_that_was_read(self, shelf, context):
        shelf.mark_read(JOAO)
        decision = decide(commands.Receipt(sealed_receipt()), caller(JOAO), shelf, context)
        assert decision.effect == StoreReceipt(RECEIPT, MARIA, context.now)

    def test_before_reading(self, refusal):
        assert refusal(commands.Receipt(sealed_receipt()), JOAO) is ErrorCode.NOT_ALLOWED

    def test_by_somebody_else(self, shelf, refusal):
        shelf.mark_read(JOAO)
        assert refusal(commands.Receipt(sealed_receipt()), BRUNO) is ErrorCode.NOT_ALLOWED

    def test_for_a_letter_that_was_not_received(self, shelf, refusal):
        shelf.entries_.clear()
        assert refusal(commands.Receipt(sealed_receipt()), JOAO) is ErrorCode.NOT_FOUND

    def test_a_copy_of_ones_own_is_no_received_letter(self, shelf, refusal):
        shelf.entries_.clear()
        shelf.put(JOAO, EntryKind.SENT, LETTER_HEAD, MARIA)
        assert refusal(commands.Receipt(sealed_receipt()), JOAO) is ErrorCode.NOT_FOUND

    def test_for_further_readers(self, shelf, refusal):
        shelf.mark_read(JOAO)
        readers = public_of(MARIA, JOAO, BRUNO)
        secret = sealed.ContentSecret.generate()
        made = sealed.seal(sealed.RECEIPT, REPOSITORY, LETTER, JOAO, readers, secret, b"a receipt", signed(b"{}"))
        assert refusal(commands.Receipt(made), JOAO) is ErrorCode.NOT_ALLOWED

    def test_a_letter_is_no_receipt(self, refusal):
        assert refusal(commands.Receipt(sealed_letter().head), MARIA) is ErrorCode.MALFORMED


class TestEvidence:
    @pytest.fixture
    def context(self, context):
        credential = operator.issue_evidence_signer(operator.create_operator_root("Organização Exemplo"))
        return replace(context, evidence=EvidenceSigner(credential))

    @pytest.fixture
    def decided(self, shelf, context):
        def ask(who, author=MARIA):
            decision = decide(commands.Evidence(author, LETTER), caller(who), shelf, context)
            assert decision.effect is None
            return decision.reply(Outcome())

        return ask

    @pytest.fixture(autouse=True)
    def laid(self, shelf):
        shelf.put(MARIA, EntryKind.SENT, LETTER_HEAD, MARIA)
        shelf.put(JOAO, EntryKind.RECEIVED, LETTER_HEAD, MARIA)
        shelf.put(BRUNO, EntryKind.RECEIVED, LETTER_HEAD, MARIA)
        receipt = sealed.read(sealed.RECEIPT, sealed_receipt())
        shelf.put(JOAO, EntryKind.RECEIPT_SENT, receipt, MARIA)
        shelf.put(MARIA, EntryKind.RECEIPT, receipt, MARIA)

    @pytest.mark.parametrize(
        ("who", "kinds"),
        [
            (MARIA, ["sent", "receipt", "received", "received"]),
            (JOAO, ["received", "receipt-sent"]),
            (BRUNO, ["received"]),
        ],
    )
    def test_each_is_shown_what_they_may_know(self, decided, shelf, who, kinds):
        result = decided(who)
        found = delivery.decode(result.document, REPOSITORY)
        assert (found.author, found.letter, found.time) == (MARIA, LETTER, NOW)
        assert [each.kind.value for each in found.entries] == kinds
        assert who == MARIA or {each.mailbox for each in found.entries} == {who}
        for each in found.entries:
            assert each.entry == shelf.entries_[each.mailbox][each.number - 1].hash

    def test_it_names_the_signed_documents(self, decided):
        opened = letter.open_head(LETTER_HEAD.view(MARIA), REPOSITORY, MARIA, ring(MARIA))
        sent = delivery.decode(decided(MARIA).document, REPOSITORY).entries[0]
        assert (sent.document, sent.signature) == (opened.signed.digest, opened.signed.signature_digest)

    def test_a_stranger_does_not_learn_that_it_exists(self, decided):
        with pytest.raises(Refused) as refused:
            decided(JOAO, author=JOAO)
        assert refused.value.code is ErrorCode.NOT_FOUND

    def test_without_a_key_it_says_who_can_make_one(self, decided, context, shelf):
        with pytest.raises(Refused, match="evidence --renew") as refused:
            decide(commands.Evidence(MARIA, LETTER), caller(MARIA), shelf, replace(context, evidence=None))
        assert refused.value.code is ErrorCode.UNAVAILABLE


class TestStatus:
    def test_the_letter_its_acceptance_and_its_receipts(self, shelf, answer):
        sent = shelf.put(MARIA, EntryKind.SENT, LETTER_HEAD, MARIA)
        shelf.put(MARIA, EntryKind.RECEIPT, RECEIPT, MARIA)
        result = answer(commands.Status(LETTER), MARIA)
        assert result.letter.entry == sent.entry
        assert [each.entry.routing.author for each in result.receipts] == [JOAO]
        assert result.receipts[0].view == RECEIPT.view(MARIA)

    def test_nobody_but_the_author_learns_that_it_exists(self, shelf, refusal):
        shelf.put(MARIA, EntryKind.SENT, LETTER_HEAD, MARIA)
        shelf.put(JOAO, EntryKind.RECEIVED, LETTER_HEAD, MARIA)
        assert refusal(commands.Status(LETTER), JOAO) is ErrorCode.NOT_FOUND
        assert refusal(commands.Status(LetterId(bytes(16))), MARIA) is ErrorCode.NOT_FOUND


class TestPages:
    def fill(self, shelf, count, size=0):
        for number in range(count):
            shelf.put(JOAO, EntryKind.RECEIVED, LETTER_HEAD, MARIA, unread=number % 2 == 0, size=size)

    def test_new_gives_the_unread_ones_only(self, shelf, answer):
        self.fill(shelf, 5)
        result = answer(commands.New(0), JOAO)
        assert [each.entry.number for each in result.entries] == [1, 3, 5]
        assert not any(each.read for each in result.entries)
        assert result.next is None
        assert read_head(result.head, JOAO).number == 5

    def test_only_from_the_callers_own_box(self, shelf, answer):
        self.fill(shelf, 5)
        result = answer(commands.All(0, heads=True), BRUNO)
        assert result.entries == ()
        assert read_head(result.head, BRUNO).number == 0

    def test_pages_are_limited_in_count(self, shelf, answer):
        self.fill(shelf, limits.MAILBOX_PAGE + 1)
        first = answer(commands.All(0, heads=True), JOAO)
        assert len(first.entries) == first.next == limits.MAILBOX_PAGE
        rest = answer(commands.All(first.next, heads=True), JOAO)
        assert [each.entry.number for each in rest.entries] == [limits.MAILBOX_PAGE + 1]
        assert rest.next is None

    def test_pages_are_limited_in_bytes(self, shelf, answer):
        self.fill(shelf, 5, size=limits.PAGE_BYTES // 2)
        first = answer(commands.All(0, heads=True), JOAO)
        assert (len(first.entries), first.next) == (1, 1)

    def test_without_heads_views_do_not_count(self, shelf, answer):
        self.fill(shelf, 5, size=limits.PAGE_BYTES)
        result = answer(commands.All(2, heads=False), JOAO)
        assert [(each.entry.number, each.view) for each in result.entries] == [(3, None), (4, None), (5, None)]


def person(user, revision=1, extra=0) -> commands.Person:
    return commands.Person(user, revision, signed(b"{}" + bytes(extra)), b"certificate", None, (), NOW)


class TestList:
    def test_one_exact_id_needs_no_login(self, shelf, answer):
        shelf.people_ += [person(MARIA), person(JOAO)]
        assert [each.user for each in answer(commands.List(JOAO, None, False, None), None).people] == [JOAO]

    def test_history_is_ascending(self, shelf, answer):
        shelf.people_ += [person(MARIA, revision) for revision in (2, 1, 3)]
        result = answer(commands.List(MARIA, None, True, None), None)
        assert [each.revision for each in result.people] == [1, 2, 3]

    def test_an_unknown_id(self, refusal):
        assert refusal(commands.List(MARIA, None, False, None), None) is ErrorCode.NOT_FOUND

    @pytest.mark.parametrize(
        "command",
        [
            commands.List(MARIA, "maria", False, None),
            commands.List(MARIA, None, False, MARIA),
            commands.List(None, None, True, None),
        ],
        ids=["id and query", "id and page", "history of all"],
    )
    def test_questions_that_mix_two(self, refusal, command):
        assert refusal(command, MARIA) is ErrorCode.MALFORMED

    def test_pages_are_limited_in_bytes(self, shelf, answer):
        shelf.people_ += [person(user, extra=limits.PAGE_BYTES) for user in (MARIA, JOAO, BRUNO)]
        first = answer(commands.List(None, "", False, None), MARIA)
        assert len(first.people) == 1
        assert first.next == first.people[0].user == min(MARIA, JOAO, BRUNO)

    def test_not_too_fast(self, shelf, refusal, answer):
        answer(commands.List(None, None, False, None), MARIA)
        shelf.asked = limits.LIST_PAGES_A_MINUTE
        assert refusal(commands.List(None, None, False, None), MARIA) is ErrorCode.TOO_MANY


class TestLetterToOneself:
    def test_recv_prefers_what_was_received(self, shelf, context):
        made = sealed.read(sealed.LETTER, make_letter(MARIA).head)
        shelf.put(MARIA, EntryKind.SENT, made, MARIA)
        shelf.put(MARIA, EntryKind.RECEIVED, made, MARIA, unread=True)
        shelf.bodies[MARIA, LETTER] = BODY
        assert decide(commands.Recv(MARIA, LETTER), caller(MARIA), shelf, context).effect is not None


def test_a_watch_is_of_the_caller_and_of_the_queue_that_the_reply_goes_to(shelf, context):
    asking = caller(MARIA)
    decision = decide(commands.Watch(), replace(asking, reply_queue="smr.reply.x"), shelf, context)
    until = NOW + limits.WATCH_MS
    assert decision.effect == SetWatch(MARIA, asking.session, "smr.reply.x", until)
    assert decision.reply(Outcome()) == commands.WatchResult(until)


def test_without_a_login_nothing_is_watched(shelf, context):
    with pytest.raises(Refused, match="no citizen"):
        decide(commands.Watch(), caller(None), shelf, context)
