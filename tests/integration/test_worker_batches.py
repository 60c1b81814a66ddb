"""A pipeline that is handed batches: each message has its own end, and what takes long or fails holds up no other."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
from pymongo.collection import Collection

from broker_config import names, topology
from broker_config.connection import connect
from broker_config.permissions import worker_permissions
from crypto_core import commands, envelope, limits, mailbox, session, suite
from crypto_core.commands import ErrorCode
from crypto_core.deletion import SignedDeletion
from crypto_core.documents import SignedDocument
from crypto_core.errors import ProtocolError
from crypto_core.ids import Digest, new_attachment_id, new_letter_id, new_nonce
from crypto_core.stream import Shape
from repository_worker import worker
from repository_worker.ends import Ends, Letterbox
from repository_worker.errors import StorageUnavailable
from repository_worker.keys import Home
from repository_worker.metrics import Metrics
from repository_worker.pipeline import Handled, Message, Verdict
from repository_worker.settings import Settings
from repository_worker.stack import PrivateStack
from repository_worker.storage.chains import Quota, Tip
from repository_worker.transport import gathering
from repository_worker.transport.consumer import LARGE_BATCH_BYTES, LARGE_BYTES, Consumer, ConsumerSettings, _Link
from tests.support.protocol import JOAO, REPOSITORY
from tests.support.wire import Citizen, Wire, now_ms

PATIENCE_SECONDS = 30.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory, servers):
    with PrivateStack(tmp_path_factory.mktemp("stack"), workers=1, servers=servers) as running:
        yield running


@pytest.fixture(scope="module")
def pipeline(stack):
    """A pipeline of this process beside the worker: the batches are made by the tests."""
    kept = dict(os.environ)
    os.environ.update(stack.environment())
    settings = Settings()
    os.environ.clear()
    os.environ.update(kept)
    home = Home(settings.home)
    opened = home.keystore(stack.ca_passphrase_file.read_text(encoding="utf-8"))
    storage = worker.open_storage(settings, opened)
    yield worker.build_pipeline(settings, opened, storage, home.ring(opened), Metrics())
    storage.close()


@pytest.fixture(scope="module")
def people(stack):
    """Maria and João, with a session each: (citizen, wire) pairs."""
    pairs = []
    for name in ("Maria Conceição Reis", "João Sá"):
        citizen, wire = Citizen.issued(stack.ca, name), Wire(stack.client_settings(), stack.descriptor).__enter__()
        wire.register(citizen)
        wire.login(citizen)
        pairs.append((citizen, wire))
    yield pairs
    for _, wire in pairs:
        wire.__exit__()


def asked(wire: Wire, command: commands.Command, counter: int | None = None) -> tuple[Message, bytes, bytes]:
    """A message with this command, its envelope and its nonce."""
    nonce = new_nonce()
    data = wire.sealed(command, nonce, counter)
    return Message(data, wire.reply_queue), data, nonce


def send(people, size: int = 10) -> commands.Send:
    (maria, wire), (joao, _) = people
    made = wire.letter(maria, [joao], b"x" * size)
    return commands.Send(made.head, made.body)


def test_each_message_of_a_batch_has_its_own_end(pipeline, people):
    (_, wire), (_, other) = people
    used = wire.sealed(commands.New(0), new_nonce())
    good = [asked(wire, send(people)) for _ in range(3)]
    assert pipeline.handle(good[0][0]).verdict is Verdict.DONE
    forged = Message(used[:-1] + bytes([used[-1] ^ 1]), wire.reply_queue)
    again = asked(wire, send(people), counter=envelope.read_command(good[1][1]).counter)  # of one in the same batch
    unknown = asked(other, commands.Status(b"x" * 16))
    elsewhere = Message(asked(wire, commands.New(0))[1], other.reply_queue)
    junk = Message(b"junk", wire.reply_queue)
    batch = [good[1][0], forged, junk, again[0], good[0][0], unknown[0], elsewhere, good[2][0]]
    ends = pipeline.handle_batch(batch)
    dead = Handled(Verdict.DEAD_LETTER)
    assert [ends[place] for place in (1, 2, 6)] == [dead] * 3
    letters = [
        wire.opened(ends[place].reply.body, data, nonce, commands.SendResult).letter
        for place, (_, data, nonce) in zip((4, 0, 7), good, strict=True)
    ]
    assert len(set(letters)) == 3
    for place, (_, data, nonce), who, code in (
        (3, again, wire, ErrorCode.COUNTER_USED),
        (5, unknown, other, ErrorCode.NOT_FOUND),
    ):
        with pytest.raises(commands.RefusedByRepository) as refusal:
            who.opened(ends[place].reply.body, data, nonce, commands.SendResult)
        assert refusal.value.code is code
    numbers = [each.entry.number for each in other.ask(commands.All(0, heads=False), commands.BoxResult).entries]
    assert numbers == [1, 2, 3]


def test_a_full_mailbox_is_refused_and_nothing_is_stored(pipeline, people, monkeypatch):
    (maria, wire), (joao, other) = people
    made = other.letter(joao, [joao], b"text")
    assert other.ask(commands.Send(made.head, made.body), commands.SendResult).letter  # two entries more than Maria has
    counts = [len(who.ask(commands.All(0, heads=False), commands.BoxResult).entries) for who in (wire, other)]
    assert counts[1] > counts[0]
    monkeypatch.setattr(pipeline._storage._commits, "_quota", Quota(entries=counts[0] + 1))
    made = other.letter(joao, [maria], b"text")
    own = asked(other, commands.Send(made.head, made.body))
    another = asked(wire, send(people))
    ends = pipeline.handle_batch([own[0], another[0]])
    for (_, data, nonce), end, who, said in (
        (own, ends[0], other, "your own mailbox is full"),
        (another, ends[1], wire, f"the mailbox of {joao.user.hex()} is full"),
    ):
        with pytest.raises(commands.RefusedByRepository) as refusal:
            who.opened(end.reply.body, data, nonce, commands.SendResult)
        assert refusal.value.code is ErrorCode.TOO_LARGE
        assert said in str(refusal.value)
    after = [len(who.ask(commands.All(0, heads=False), commands.BoxResult).entries) for who in (wire, other)]
    assert after == counts


def test_what_takes_long_leaves_the_batch(pipeline, people, stack):
    (maria, wire), _ = people
    sent = session.hello(stack.descriptor, wire.app_key, now_ms())
    hello = Message(sent.hello, wire.reply_queue)
    (answer,) = pipeline.handle_batch([hello])
    confirm = Message(sent.answered(answer.reply.body).confirm(None, now_ms()).confirm, wire.reply_queue)
    directory, _, _ = asked(wire, commands.List(None, "maria", False, None))
    registration, _, _ = asked(wire, maria.create(maria.registration(stack.descriptor.repository)))
    upload, _, _ = asked(wire, commands.Upload(new_letter_id(), new_attachment_id(), 100))
    signed, _, _ = asked(wire, commands.Delete(SignedDeletion(b"junk", SignedDocument(b"login", b"signature"))))
    quick, _, _ = asked(wire, commands.New(0))
    batch = [hello, confirm, directory, quick, registration, upload, signed]
    ends = pipeline.handle_batch(batch)
    assert [end is None for end in ends] == [False, True, True, False, True, True, True]
    assert all(pipeline.handle(message).verdict is Verdict.DONE for message in batch)


def test_chunks_of_a_batch_share_its_round_trips_and_each_has_its_own_end(pipeline, people, stack, monkeypatch):
    (_, wire), (joao, _) = people
    letter, attachment = new_letter_id(), new_attachment_id()
    size = Shape(3 * limits.CHUNK_BYTES).sealed_size
    wire.ask(commands.Upload(letter, attachment, size), commands.UploadResult)

    def chunk(position: int, of: bytes = attachment, **options):
        data = bytes([position]) * (limits.CHUNK_BYTES + suite.TAG_BYTES)
        return asked(options.pop("by", wire), commands.PutChunk(letter, of, position, data), **options)

    good = [chunk(position) for position in range(3)]
    used = asked(wire, send(people))
    assert pipeline.handle_batch([used[0]])[0].verdict is Verdict.DONE
    again = chunk(0, counter=envelope.read_command(used[1]).counter)
    unknown = chunk(0, new_attachment_id())
    with Wire(stack.client_settings(), stack.descriptor) as closed:
        closed.login(joao)
        assert pipeline.handle_batch([asked(closed, commands.New(0))[0]])[0].verdict is Verdict.DONE
        closed.ask(commands.Close(), commands.CloseResult)
        late = chunk(0, by=closed)
    noted = []
    storage, insert = pipeline._storage, Collection.insert_many
    monkeypatch.setattr(
        Collection, "insert_many", lambda self, *args, **more: noted.append(self.name) or insert(self, *args, **more)
    )
    counters, uploads = storage.counters, storage._uploads._find
    monkeypatch.setattr(storage, "counters", lambda wanted: noted.append(len(wanted)) or counters(wanted))
    monkeypatch.setattr(storage._uploads, "_find", lambda key: noted.append("upload") or uploads(key))
    ends = pipeline.handle_batch([good[0][0], again[0], unknown[0], late[0], good[1][0], good[2][0]])
    # Of the session that was closed this worker may have heard already.
    looks = [sorted(["upload", "upload", "upload", count, "chunks"]) for count in ("5", "6")]
    assert sorted(map(str, noted)) in looks
    for place, (_, data, nonce) in zip((0, 4, 5), good, strict=True):
        assert wire.opened(ends[place].reply.body, data, nonce, commands.PutChunkResult)
    for end, (_, data, nonce), code in (
        (ends[1], again, ErrorCode.COUNTER_USED),
        (ends[2], unknown, ErrorCode.NOT_FOUND),
    ):
        with pytest.raises(commands.RefusedByRepository) as refusal:
            wire.opened(end.reply.body, data, nonce, commands.PutChunkResult)
        assert refusal.value.code is code
    assert ends[3] == Handled(Verdict.DEAD_LETTER)
    assert wire.ask(commands.Upload(letter, attachment, size), commands.UploadResult).there == b"\x07"


def test_a_session_that_was_closed_elsewhere_ends_in_the_batch(pipeline, people, stack):
    _, (joao, _) = people
    with Wire(stack.client_settings(), stack.descriptor) as wire:
        wire.login(joao)
        message, _, _ = asked(wire, commands.New(0))
        assert pipeline.handle_batch([message])[0].verdict is Verdict.DONE  # its record is in memory now
        wire.ask(commands.Close(), commands.CloseResult)
        change, _, _ = asked(wire, commands.Block(joao.user, True))
        refused, _, _ = asked(wire, commands.Status(new_letter_id()))
        dead = Handled(Verdict.DEAD_LETTER)
        assert pipeline.handle_batch([change, refused]) == [dead] * 2  # at once, whoever hears of it when
        question, _, _ = asked(wire, commands.New(0))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while pipeline.handle_batch([question, question]) != [dead] * 2:
            assert time.monotonic() < deadline, "a closed session is answered for ever"


def test_a_letter_in_a_session_that_was_closed_elsewhere_is_refused_after_a_second(pipeline, people, stack):
    """Until then it may be stored without a look, and then it stands as every other."""
    (maria, _), (_, other) = people
    with Wire(stack.client_settings(), stack.descriptor) as wire:
        wire.login(maria)
        first = asked(wire, send(people))
        assert pipeline.handle_batch([first[0]])[0].verdict is Verdict.DONE
        wire.ask(commands.Close(), commands.CloseResult)
        accepted, deadline = [], time.monotonic() + PATIENCE_SECONDS
        while True:
            late, begun = send(people), time.monotonic()
            message, data, nonce = asked(wire, late)
            (end,) = pipeline.handle_batch([message])
            if end == Handled(Verdict.DEAD_LETTER):
                break
            accepted.append(wire.opened(end.reply.body, data, nonce, commands.SendResult).letter)
            assert begun < deadline, "a closed session stores letters for ever"
        for _ in range(2):
            late = asked(wire, send(people))
            assert pipeline.handle_batch([late[0]]) == [Handled(Verdict.DEAD_LETTER)]
    entries = other.ask(commands.New(0), commands.BoxResult).entries
    assert set(accepted) <= {each.entry.routing.letter for each in entries}


def test_letters_are_read_under_no_used_counter_and_in_no_closed_session(pipeline, people, stack):
    (maria, wire), (joao, other) = people
    sent = [wire.send(maria, [joao], b"text").letter for _ in range(3)]
    reading = [commands.Recv(maria.user, letter) for letter in sent]
    question = asked(other, commands.All(0, heads=False))
    used = asked(other, reading[0])
    again = asked(other, reading[1], counter=envelope.read_command(used[1]).counter)
    assert pipeline.handle_batch([used[0]])[0].verdict is Verdict.DONE
    with Wire(stack.client_settings(), stack.descriptor) as closed:
        closed.login(joao)
        assert pipeline.handle_batch([asked(closed, commands.New(0))[0]])[0].verdict is Verdict.DONE
        closed.ask(commands.Close(), commands.CloseResult)
        late = asked(closed, reading[1])
    good = asked(other, reading[2])
    ends = pipeline.handle_batch([again[0], late[0], good[0], used[0], question[0]])
    assert ends[1] == Handled(Verdict.DEAD_LETTER)
    with pytest.raises(commands.RefusedByRepository) as refusal:
        other.opened(ends[0].reply.body, again[1], again[2], commands.RecvResult)
    assert refusal.value.code is ErrorCode.COUNTER_USED
    for end, (_, data, nonce), letter in ((ends[2], good, sent[2]), (ends[3], used, sent[0])):
        found = other.opened(end.reply.body, data, nonce, commands.RecvResult)
        assert found.entry.read
        assert found.entry.entry.routing.letter == letter
    unread = other.ask(commands.New(0), commands.BoxResult).entries
    assert [each.entry.routing.letter for each in unread if each.entry.routing.letter in sent] == [sent[1]]


def test_a_batch_that_reads_letters_is_one_query_and_one_update(pipeline, people, monkeypatch):
    (maria, wire), (joao, other) = people
    sent = [wire.send(maria, [joao], b"text").letter for _ in range(4)]
    made = [asked(other, commands.Recv(maria.user, letter)) for letter in sent]
    pipeline.handle_batch([asked(other, commands.New(0))[0]])  # its session is in memory now
    looked, find = [], Collection.find

    def watched(collection, *arguments, **options):
        looked.append(collection.name)
        return find(collection, *arguments, **options)

    monkeypatch.setattr(Collection, "find", watched)
    ends = pipeline.handle_batch([message for message, _, _ in made])
    assert [name for name in looked if name != "news"] == ["accepted"]
    for end, (_, data, nonce) in zip(ends, made, strict=True):
        assert other.opened(end.reply.body, data, nonce, commands.RecvResult).body is not None


def test_what_was_read_before_something_was_stored_is_forgotten_then(pipeline, people, monkeypatch):
    (_, wire), _ = people
    noted = []
    reading, commit_all = pipeline._storage.reading, pipeline._storage.commit_all

    def watched(questions):
        view = reading(questions)
        monkeypatch.setattr(view, "forget", lambda: noted.append("forgotten"))
        return view

    monkeypatch.setattr(pipeline._storage, "reading", watched)
    monkeypatch.setattr(pipeline._storage, "commit_all", lambda changes: noted.append("stored") or commit_all(changes))
    assert pipeline.handle_batch([asked(wire, send(people))[0]])[0].verdict is Verdict.DONE
    assert noted == ["stored", "forgotten"]


def test_a_question_that_is_answered_looks_nothing_up(pipeline, people, monkeypatch):
    (_, wire), _ = people
    monkeypatch.setattr(pipeline._storage, "counters", None)
    message, data, nonce = asked(wire, commands.New(0))
    (end,) = pipeline.handle_batch([message])
    wire.opened(end.reply.body, data, nonce, commands.BoxResult)


def test_the_ends_of_all_mailboxes_that_a_batch_asks_for_are_one_query(pipeline, people, monkeypatch):
    looked = []
    look = pipeline._storage._heads.look
    monkeypatch.setattr(pipeline._storage._heads, "look", lambda *args: looked.append(args) or look(*args))
    wires = [wire for _, wire in people]
    made = [asked(wire, commands.New(0)) for wire in (*wires, *wires)]
    ends = pipeline.handle_batch([message for message, _, _ in made])
    assert len(looked) == 1
    for wire, (citizen, _), (_, data, nonce), end in zip((*wires, *wires), (*people, *people), made, ends, strict=True):
        found = wire.opened(end.reply.body, data, nonce, commands.BoxResult)
        descriptor = wire.descriptor
        mailbox.read_head(found.head, descriptor.verify_key, descriptor.repository, citizen.user)


def test_two_pipelines_answer_one_batch_alike(pipeline, people):
    (_, wire), _ = people
    made = [asked(wire, send(people)) for _ in range(6)]
    results = {}

    def handle(name):
        results[name] = pipeline.handle_batch([message for message, _, _ in made])

    threads = [threading.Thread(target=handle, args=(name,)) for name in ("first", "second")]
    for each in threads:
        each.start()
    deadline = time.monotonic() + PATIENCE_SECONDS
    for each in threads:
        each.join(deadline - time.monotonic())
    for place, (message, data, nonce) in enumerate(made):
        ends = [results[name][place] or pipeline.handle(message) for name in ("first", "second")]
        first, second = (wire.opened(end.reply.body, data, nonce, commands.SendResult) for end in ends)
        assert (first.letter, first.accepted) == (second.letter, second.accepted)
        with pytest.raises(ProtocolError):
            wire.opened(ends[0].reply.body, made[place - 1][1], nonce, commands.SendResult)


def test_messages_that_are_done_out_of_order_are_acknowledged_and_no_others(vhost):
    consumer = Consumer(vhost.worker(), None, lambda: None, Metrics())
    with connect(vhost.client()) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for number in range(6):
            channel.basic_publish(names.COMMANDS_EXCHANGE, names.COMMANDS_ROUTING_KEY, b"%d" % number, mandatory=True)
    with connect(vhost.worker()) as connection:
        channel = connection.channel()
        link = _Link(connection, channel)
        channel.basic_consume(names.COMMANDS_QUEUE, partial(consumer._take, link))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(link.held) < 6 and time.monotonic() < deadline:
            connection.process_data_events(time_limit=0.1)
        taken = {delivery.message.body: delivery for delivery in link.taken}
        done, dead = Handled(Verdict.DONE), Handled(Verdict.DEAD_LETTER)
        consumer._finish(link, [(taken[b"1"], done), (taken[b"4"], done), (taken[b"3"], dead)])
        assert len(link.held) == 3
        consumer._finish(link, [(taken[b"0"], done), (taken[b"0"], done)])
        assert len(link.held) == 2
    with connect(vhost.administrator()) as connection:
        channel = connection.channel()
        left = []
        for _, _, body in channel.consume(names.COMMANDS_QUEUE, inactivity_timeout=2.0):
            if body is None:
                break
            left.append(body)
    assert sorted(left) == [b"2", b"5"]


class Watched:
    """Notes which thread handles what; refuses for as long as `down`."""

    def __init__(self):
        self.down = False
        self.handled = []
        self.refused = 0

    def handle_batch(self, messages):
        if self.down:
            self.refused += 1
            raise StorageUnavailable("down")
        bodies = [each.body for each in messages]
        self.handled.append((threading.current_thread().name, bodies))
        return [None if body == b"long" else Handled(Verdict.DONE) for body in bodies]

    def handle(self, message):
        self.handled.append((threading.current_thread().name, [message.body]))
        return Handled(Verdict.DONE)

    def probe(self):
        if self.down:
            raise StorageUnavailable("down")

    def wait_until(self, check):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not check():
            assert time.monotonic() < deadline, self.handled
            time.sleep(0.01)

    def threads(self):
        return {thread.split("-")[0] for thread, _ in self.handled}


class Holding(Watched):
    """Holds up the first message, which begins with H, until it is told."""

    def __init__(self):
        super().__init__()
        self.held, self.released = threading.Event(), threading.Event()

    def handle_batch(self, messages):
        if messages[0].body[:1] == b"H":
            self.held.set()
            assert self.released.wait(PATIENCE_SECONDS)
        return super().handle_batch(messages)


@contextmanager
def consuming(vhost, watched, settings, metrics=None):
    """A consumer in a thread named broker, and what publishes bodies to it, each confirmed."""
    consumer = Consumer(vhost.worker(), watched, watched.probe, metrics or Metrics(), settings)
    running = threading.Thread(target=consumer.run, name="broker")
    running.start()
    try:
        with connect(vhost.client()) as connection:
            channel = connection.channel()
            channel.confirm_delivery()

            def publish(*bodies):
                for body in bodies:
                    channel.basic_publish(names.COMMANDS_EXCHANGE, names.COMMANDS_ROUTING_KEY, body, mandatory=True)

            yield consumer, publish
    finally:
        consumer.stop()
        running.join(PATIENCE_SECONDS)


def test_who_handles_what(vhost):
    watched = Watched()
    metrics = Metrics()
    with consuming(vhost, watched, ConsumerSettings(prefetch=4), metrics) as (consumer, publish):
        publish(b"1", b"2", b"long")
        watched.wait_until(lambda: watched.threads() == {"broker", "aside"})
        assert all(thread == "broker" for thread, bodies in watched.handled if bodies != [b"long"])
        # While the database is down the messages wait behind, and the broker's thread goes on serving it.
        watched.down = True
        publish(*(b"%d" % number for number in range(6)))
        watched.wait_until(lambda: watched.refused >= 2)
        watched.wait_until(lambda: metrics.registry.get_sample_value("smr_messages_held") == 4.0)
        watched.handled.clear()
        watched.down = False
        watched.wait_until(lambda: sum(len(bodies) for _, bodies in watched.handled) == 6)
        assert "behind" in watched.threads()
        # Afterwards it handles them itself again.
        watched.wait_until(lambda: not consumer._waiting.is_set())
        watched.handled.clear()
        publish(b"last")
        watched.wait_until(lambda: watched.handled == [("broker", [b"last"])])
    with connect(vhost.administrator()) as connection:
        assert connection.channel().queue_declare(names.COMMANDS_QUEUE, passive=True).method.message_count == 0


def test_among_many_a_full_batch_is_awaited(vhost, monkeypatch):
    for name in ("CROWDED_SECONDS", "AWAIT_SECONDS", "SILENCE_SECONDS"):
        monkeypatch.setattr(gathering, name, 2 * PATIENCE_SECONDS)
    watched, full = Holding(), 3 * gathering.CROWD
    with consuming(vhost, watched, ConsumerSettings(prefetch=full)) as (_, publish):
        publish(b"H")
        assert watched.held.wait(PATIENCE_SECONDS)
        publish(*[b"crowd"] * (full - 1))
        time.sleep(0.5)  # until all of it lies at the worker
        watched.released.set()
        watched.wait_until(lambda: len(watched.handled) == 2)
        assert [len(bodies) for _, bodies in watched.handled] == [1, full - 1]
        watched.handled.clear()
        publish(*[b"half"] * (full // 2))
        time.sleep(0.2)
        assert watched.handled == []
        publish(*[b"rest"] * (full - full // 2))
        watched.wait_until(lambda: watched.handled != [])
        assert [len(bodies) for _, bodies in watched.handled] == [full]


def test_what_is_large_is_handled_in_bounded_batches_of_its_own(vhost):
    watched = Holding()
    third = LARGE_BATCH_BYTES // 3 + 1
    large = [b"%d" % number + bytes(third) for number in range(5)]
    first = b"H" + bytes(LARGE_BYTES)
    with consuming(vhost, watched, ConsumerSettings(threads=1)) as (consumer, publish):
        try:
            publish(first, *large, b"small", bytes(LARGE_BYTES))
            assert watched.held.wait(PATIENCE_SECONDS)
            # Whatever large messages take, small ones go on.
            watched.wait_until(lambda: sum(len(bodies) for _, bodies in watched.handled) == 2)
            assert {thread for thread, _ in watched.handled} == {"broker"}
            watched.wait_until(lambda: consumer._large.qsize() == 5)
            watched.handled.clear()
        finally:
            watched.released.set()
        watched.wait_until(lambda: sum(len(bodies) for _, bodies in watched.handled) == 6)
        assert watched.handled == [("large-0", each) for each in ([first], large[:3], large[3:])]
    with connect(vhost.administrator()) as connection:
        assert connection.channel().queue_declare(names.COMMANDS_QUEUE, passive=True).method.message_count == 0


class Told:
    """What a storage knows of other workers: here all queues, and an end for each message that a worker handles."""

    def __init__(self, queues: list[names.QueueName]) -> None:
        self.queues = queues
        self.made, self.heard = {}, {}

    def ends_made(self):
        made, self.made = self.made, {}
        return made

    def ends_heard(self, tips, told) -> None:
        self.heard.update(tips)

    def listeners(self):
        return tuple(self.queues)

    def note_listener(self, queue, seconds) -> None:
        if queue not in self.queues:
            self.queues.append(queue)


class Making(Watched):
    """Extends a mailbox with each message."""

    def __init__(self, told: Told) -> None:
        super().__init__()
        self.told = told

    def handle_batch(self, messages):
        self.told.made = {JOAO: Tip(len(self.handled) + 1, Digest(b"h" * 32), 1, 1)}
        return super().handle_batch(messages)


def test_a_worker_tells_another_and_one_that_may_not_goes_on_without(vhost, broker):
    queues, key = [], b"k" * 32
    told, consumers, running = [], [], []

    def start() -> None:
        told.append(Told(queues))
        ends = Ends(Letterbox(REPOSITORY, key, Metrics()), told[-1])
        making = Making(told[-1])
        consumers.append(
            (Consumer(vhost.worker(), making, making.probe, Metrics(), ends=ends), ends, making, threading.Event())
        )
        running.append(threading.Thread(target=consumers[-1][0].run, args=(consumers[-1][3].set,)))
        running[-1].start()
        assert consumers[-1][3].wait(PATIENCE_SECONDS)

    def publish(body: bytes) -> None:
        with connect(vhost.client()) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish(names.COMMANDS_EXCHANGE, names.COMMANDS_ROUTING_KEY, body, mandatory=True)

    administration = broker.administration()
    try:
        start()
        start()
        with consumers[0][1], consumers[1][1]:
            consumers[0][2].wait_until(lambda: len(queues) == 2)
        publish(b"1")
        consumers[0][2].wait_until(lambda: [sorted(each.heard) for each in told] in ([[JOAO], []], [[], [JOAO]]))
        administration.permit("smr-worker", vhost.vhost, replace(worker_permissions(), configure="^$"))
        start()
        consumers[2][2].wait_until(lambda: publish(b"2") or consumers[2][2].handled)
        assert told[2].heard == {}
    finally:
        administration.permit("smr-worker", vhost.vhost, worker_permissions())
        for consumer, *_ in consumers:
            consumer.stop()
        for each in running:
            each.join(PATIENCE_SECONDS)


@pytest.mark.parametrize("ended", ["consumer", "channel"])
def test_a_worker_that_the_broker_gives_nothing_more_comes_again(vhost, monkeypatch, ended):
    watched = Watched()
    take = Consumer._take

    def acknowledging_what_is_not_there(self, link, channel, method, properties, body):
        if body == b"wrong":
            channel.basic_ack(method.delivery_tag + 1000)
        take(self, link, channel, method, properties, body)

    def publish(body):
        with connect(vhost.client()) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish(names.COMMANDS_EXCHANGE, names.COMMANDS_ROUTING_KEY, body, mandatory=True)

    monkeypatch.setattr(Consumer, "_take", acknowledging_what_is_not_there)
    metrics = Metrics()
    consumer = Consumer(vhost.worker(), watched, watched.probe, metrics)
    running = threading.Thread(target=consumer.run)
    running.start()
    try:
        publish(b"before")
        watched.wait_until(lambda: any(b"before" in bodies for _, bodies in watched.handled))
        if ended == "consumer":
            with connect(vhost.administrator()) as connection:
                connection.channel().queue_delete(names.COMMANDS_QUEUE)
                watched.wait_until(metrics.reconnects)
                topology.declare(connection.channel())
        else:
            publish(b"wrong")
            watched.wait_until(lambda: any(b"wrong" in bodies for _, bodies in watched.handled))
        publish(b"after")
        watched.wait_until(lambda: any(b"after" in bodies for _, bodies in watched.handled))
    finally:
        consumer.stop()
        running.join(PATIENCE_SECONDS)
