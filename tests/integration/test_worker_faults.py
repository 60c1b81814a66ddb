"""What breaks around the workers, and what comes at them: every command has its effect once and gets its reply."""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Callable

import pika
import pika.exceptions
import pytest

from broker_config import names
from broker_config.connection import connect as connect_broker
from crypto_core import commands, envelope, session, suite
from crypto_core.commands import ErrorCode
from crypto_core.ids import new_nonce
from repository_worker.stack import PrivateStack
from tests.support.wire import Citizen, Wire, now_ms

PATIENCE_SECONDS = 30.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with PrivateStack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture(autouse=True)
def two_workers(stack):
    """Whatever a test did, the next one finds two workers."""
    yield
    for worker in stack.workers:
        worker.resume() if worker.running else worker.restart()


@pytest.fixture
def open_wire(stack):
    opened = []

    def make(app_key=None) -> Wire:
        wire = Wire(stack.client_settings(), stack.descriptor, app_key).__enter__()
        opened.append(wire)
        return wire

    yield make
    for each in opened:
        each.__exit__()


@pytest.fixture
def maria(stack, open_wire):
    return registered(stack, open_wire, "Maria Conceição Reis")


@pytest.fixture
def joao(stack, open_wire):
    return registered(stack, open_wire, "João Sá")


def registered(stack, open_wire, name) -> tuple[Citizen, Wire]:
    citizen, wire = Citizen.issued(stack.ca, name), open_wire()
    wire.register(citizen)
    wire.login(citizen)
    return citizen, wire


def eventually(check: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not check():
        assert time.monotonic() < deadline, f"{what} did not happen within {PATIENCE_SECONDS:.0f} s"
        time.sleep(0.05)


def numbers(wire: Wire) -> list[int]:
    """The numbers of all entries in the caller's box."""
    found = wire.ask(commands.All(0, heads=False), commands.BoxResult)
    return [each.entry.number for each in found.entries]


def reconnect(stack, wire: Wire) -> None:
    """A new connection and reply queue for the same installation and session."""
    with contextlib.suppress(pika.exceptions.AMQPError):
        wire.__exit__()
    wire.settings = stack.client_settings()
    wire.__enter__()


class TestExactlyOnce:
    def test_an_envelope_seen_again_has_one_effect_and_an_equivalent_reply(self, maria, joao):
        (sender, wire), (reader, other) = maria, joao
        made = wire.letter(sender, [reader], b"text")
        nonce = new_nonce()
        data = wire.sealed(commands.Send(made.head, made.body), nonce)
        results = [wire.opened(wire.call(data), data, nonce, commands.SendResult) for _ in range(4)]
        assert len({(each.letter, each.accepted) for each in results}) == 1
        assert numbers(wire) == numbers(other) == [1]

    def test_the_same_letter_in_another_session(self, maria, joao):
        (sender, wire), (reader, _) = maria, joao
        made = wire.letter(sender, [reader], b"text")
        first = wire.ask(commands.Send(made.head, made.body), commands.SendResult)
        wire.login(sender)
        again = wire.ask(commands.Send(made.head, made.body), commands.SendResult)
        assert (again.letter, again.accepted) == (first.letter, first.accepted)
        assert numbers(wire) == [1]

    def test_another_envelope_under_a_used_counter(self, maria, joao):
        (sender, wire), (reader, _) = maria, joao
        wire.send(sender, [reader], b"text")
        nonce = new_nonce()
        data = wire.sealed(commands.Block(reader.user, True), nonce, counter=wire.counter)
        with pytest.raises(commands.RefusedByRepository) as refusal:
            wire.opened(wire.call(data), data, nonce, commands.BlockResult)
        assert refusal.value.code is ErrorCode.COUNTER_USED

    def test_a_confirm_seen_again(self, maria):
        citizen, wire = maria
        sent = session.hello(wire.descriptor, wire.app_key, now_ms())
        answered = sent.answered(wire.call(sent.hello))
        confirm = answered.confirm(None, now_ms())
        first, second = (confirm.active(wire.call(confirm.confirm)) for _ in range(2))
        assert first == second
        another = answered.confirm(None, now_ms())
        with pytest.raises(commands.RefusedByRepository) as refusal:
            another.active(wire.call(another.confirm))
        assert refusal.value.code is ErrorCode.COUNTER_USED
        assert citizen.user

    def test_sessions_are_shared_by_all_workers(self, stack, maria):
        _, wire = maria
        for worker in stack.workers:
            assert worker.terminate() == 0
            assert numbers(wire) == []
            worker.restart()


class TestWorkersEnd:
    def test_killed_with_commands_in_hand(self, stack, maria, joao):
        (sender, wire), (reader, _) = maria, joao
        made = [wire.letter(sender, [reader], b"x" * 100_000) for _ in range(20)]
        pending = {}
        for each in made:
            nonce = new_nonce()
            data = wire.sealed(commands.Send(each.head, each.body), nonce)
            wire.publish(data)
            pending[suite.sha256(data)] = (data, nonce)
        stack.workers[0].kill()
        while pending:
            reply = wire.take(PATIENCE_SECONDS)
            assert reply is not None, f"{len(pending)} commands were lost"
            for digest, (data, nonce) in list(pending.items()):
                if digest in reply:
                    wire.opened(reply, data, nonce, commands.SendResult)
                    del pending[digest]
        assert numbers(wire) == list(range(1, 21))

    def test_told_to_end_it_hands_back_and_ends_well(self, stack, maria):
        _, wire = maria
        nonce = new_nonce()
        envelopes = [wire.sealed(commands.New(0), nonce) for _ in range(30)]
        for data in envelopes:
            wire.publish(data)
        assert stack.workers[0].terminate() == 0
        replies = [wire.take(PATIENCE_SECONDS) for _ in envelopes]
        assert None not in replies

    def test_a_suspended_one_holds_up_nobody_for_ever(self, stack, maria):
        _, wire = maria
        stack.workers[0].suspend()
        # What the suspended worker was given comes back when it is killed.
        nonce = new_nonce()
        envelopes = [wire.sealed(commands.New(0), nonce) for _ in range(6)]
        for data in envelopes:
            wire.publish(data)
        stack.workers[0].kill()
        assert None not in [wire.take(PATIENCE_SECONDS) for _ in envelopes]


class TestServersEnd:
    def test_the_database_goes_and_comes_back(self, stack, maria, joao):
        (sender, wire), (reader, _) = maria, joao
        made = wire.letter(sender, [reader], b"text")
        nonce = new_nonce()
        data = wire.sealed(commands.Send(made.head, made.body), nonce)
        dead = dead_letters(stack)
        stack.mongo.kill()
        wire.publish(data)
        assert wire.take(3.0) is None
        stack.mongo.start()
        reply = wire.take(PATIENCE_SECONDS)
        assert reply is not None
        assert wire.opened(reply, data, nonce, commands.SendResult).letter
        assert numbers(wire) == [1]
        assert dead_letters(stack) == dead
        assert all(worker.running for worker in stack.workers)

    def test_the_broker_goes_and_comes_back(self, stack, maria):
        _, wire = maria
        stack.broker.kill()
        stack.broker.start()
        reconnect(stack, wire)
        assert numbers(wire) == []
        assert all(worker.running for worker in stack.workers)


def dead_letters(stack: PrivateStack) -> int:
    with connect_broker(stack.broker.settings()) as connection:
        found = connection.channel().queue_declare(names.DEAD_LETTER_QUEUE, passive=True)
    return int(found.method.message_count)


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


class TestBadMessages:
    def test_each_gets_no_reply_and_becomes_a_dead_letter(self, stack, maria):
        _, wire = maria
        good = wire.sealed(commands.New(0), new_nonce())
        bad = [
            b"",
            b"\x00" * 1000,
            b"\xd2",
            b"\xd8\x60",
            good[:-1],
            good + b"\x00",
            flipped(good, len(good) - 1),
            flipped(good, len(good) // 2),
            flipped(good, 30),
            envelope.seal_command(wire.app_key, wire.live.keys, 7, b"\xa0"),
            b"\xd8\x60\x83",
            b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x81" * 5000,
        ]
        before = dead_letters(stack)
        for data in bad:
            wire.publish(data)
        eventually(lambda: dead_letters(stack) == before + len(bad), "that all bad messages became dead letters")
        assert wire.take(0.2) is None
        assert numbers(wire) == []

    @pytest.mark.parametrize("target", ["smr.commands", "smr.commands.dead", "amq.direct", "", "x" * 255])
    def test_replies_go_to_reply_queues_only(self, stack, maria, target):
        _, wire = maria
        before = dead_letters(stack)
        wire.publish(wire.sealed(commands.New(0), new_nonce()), reply_to=target)
        eventually(lambda: dead_letters(stack) == before + 1, "that it became a dead letter")

    def test_no_reply_goes_to_somebody_elses_queue_and_nothing_is_done(self, stack, maria, joao):
        (sender, wire), (reader, other) = maria, joao
        made = wire.letter(sender, [reader], b"text")
        before = dead_letters(stack)
        wire.publish(wire.sealed(commands.Send(made.head, made.body), new_nonce()), reply_to=other.reply_queue)
        eventually(lambda: dead_letters(stack) == before + 1, "that it became a dead letter")
        assert other.take(0.2) is None
        assert numbers(wire) == numbers(other) == []

    def test_another_queue_of_the_same_installation_is_fine(self, stack, maria, open_wire):
        _, wire = maria
        second = open_wire(wire.app_key)
        nonce = new_nonce()
        data = wire.sealed(commands.New(0), nonce)
        wire.publish(data, reply_to=second.reply_queue)
        reply = second.take()
        assert reply is not None
        assert wire.opened(reply, data, nonce, commands.BoxResult).entries == ()
        assert wire.take(0.2) is None

    def test_headers_that_cannot_be_decoded_end_nothing(self, stack, maria, monkeypatch):
        _, wire = maria
        pids = [worker.pid for worker in stack.workers]

        def encode(pieces, _table):
            # A date beyond the calendar, which the broker passes on and a decoder chokes on.
            content = b"\x01a" + b"T" + struct.pack(">Q", 2**62)
            pieces.append(struct.pack(">I", len(content)) + content)
            return 4 + len(content)

        with connect_broker(stack.client_settings()) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            with monkeypatch.context() as patched:
                patched.setattr(pika.data, "encode_table", encode)
                for _ in range(30):
                    properties = pika.BasicProperties(headers={"a": 1}, reply_to=wire.reply_queue)
                    channel.basic_publish(
                        names.COMMANDS_EXCHANGE, names.COMMANDS_ROUTING_KEY, b"junk", properties, mandatory=True
                    )
        logs = [worker.tail() for worker in stack.workers]
        assert numbers(wire) == []
        assert [worker.pid for worker in stack.workers] == pids
        assert not any("connection failed" in text for text in logs)

    def test_a_fault_of_the_repository_is_told_and_kept(self, stack, maria):
        citizen, wire = maria
        storage = stack.storage()
        registrations = storage._database["registrations"]
        found = registrations.find_one({"user": citizen.user})
        before = dead_letters(stack)
        registrations.update_one(
            {"_id": found["_id"]}, {"$set": {"intermediates": [b"x"] * 9}}
        )  # more than a reply may hold
        assert wire.refused(commands.List(citizen.user, None, False, None)) is ErrorCode.UNAVAILABLE
        assert dead_letters(stack) == before + 1
        registrations.replace_one({"_id": found["_id"]}, found)
        storage.close()
        assert wire.ask(commands.List(citizen.user, None, False, None), commands.ListResult).people
