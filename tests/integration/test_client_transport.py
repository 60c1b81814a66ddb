"""Requests over a real broker: what is in the reply queue and is no answer is neither believed nor ends the wait."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

import client.transport
from broker_config import names, topology
from broker_config.connection import ConnectionSettings, connect
from client.errors import NotAllowed, Stopped, TooLarge, Unreachable
from client.transport import Request, Transport
from crypto_core.commands import ErrorCode, RefusedByRepository
from crypto_core.errors import BindingMismatch, Malformed
from crypto_core.limits import ENVELOPE_BYTES
from crypto_core.suite import sha256
from tests.support.servers import BrokerCorner

INSTALLATION = names.installation_of(b"i" * 32)


@contextmanager
def answering(settings: ConnectionSettings, replies: Callable[[bytes], list[bytes]]) -> Iterator[list[bytes]]:
    """Takes each request and sends these replies to it, as a worker (or somebody worse) would."""
    seen: list[bytes] = []
    ready, stop = threading.Event(), threading.Event()

    def serve() -> None:
        with connect(settings) as connection:
            channel = connection.channel()

            def take(_channel, method, properties, body) -> None:
                seen.append(body)
                for reply in replies(body):
                    channel.basic_publish("", properties.reply_to, reply)
                channel.basic_ack(method.delivery_tag)

            channel.basic_consume(names.COMMANDS_QUEUE, take)
            ready.set()
            while not stop.is_set():
                connection.process_data_events(time_limit=0.1)

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(30)
    try:
        yield seen
    finally:
        stop.set()
        thread.join(30)


def only_good(data: bytes) -> bytes:
    if data == b"refused":
        raise RefusedByRepository(ErrorCode.NOT_FOUND, "no such letter")
    if not data.startswith(b"good"):
        raise BindingMismatch("the reply answers another request")
    return data


@pytest.fixture
def transport(vhost: BrokerCorner) -> Iterator[Transport]:
    made = Transport(vhost.client(INSTALLATION), INSTALLATION, reply_seconds=3.0)
    yield made
    made.close()


def test_forged_replies_are_ignored_and_the_answer_is_taken(vhost: BrokerCorner, transport: Transport):
    with answering(vhost.worker(), lambda _: [b"\x00", b"forged", b"\xff" * 1000, b"good"]) as seen:
        assert transport.exchange(b"a request", only_good) == b"good"
    assert seen == [b"a request"]
    assert transport.ignored == 3


def test_forged_replies_alone_end_with_the_deadline(vhost: BrokerCorner, transport: Transport):
    with (
        answering(vhost.worker(), lambda _: [b"forged"] * 5),
        pytest.raises(Unreachable, match=r"5 replies came that were not its answer \(the last: the reply answers"),
    ):
        transport.exchange(b"a request", only_good)


def test_who_stops_waits_no_longer(vhost: BrokerCorner):
    asked = threading.Event()
    patient = Transport(vhost.client(INSTALLATION), INSTALLATION, reply_seconds=100.0, stopped=asked.is_set)
    try:
        with answering(vhost.worker(), lambda _: asked.set() or []) as seen, pytest.raises(Stopped):
            patient.exchange(b"a request", only_good)
        assert seen == [b"a request"]
    finally:
        patient.close()


def test_a_refusal_is_an_answer(vhost: BrokerCorner, transport: Transport):
    with answering(vhost.worker(), lambda _: [b"forged", b"refused", b"good"]), pytest.raises(RefusedByRepository):
        transport.exchange(b"a request", only_good)


def test_replies_to_an_earlier_request_are_ignored(vhost: BrokerCorner, transport: Transport):
    with answering(vhost.worker(), lambda body: [b"good " + body, b"good " + body]):
        assert transport.exchange(b"one", only_good) == b"good one"

        def second(data: bytes) -> bytes:
            if data != b"good two":
                raise Malformed("of another request")
            return data

        assert transport.exchange(b"two", second) == b"good two"


def test_a_lost_connection_is_opened_again(vhost: BrokerCorner, transport: Transport):
    with answering(vhost.worker(), lambda body: [b"good " + body]) as seen:
        transport.exchange(b"one", only_good)
        assert transport._connection is not None
        transport._connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)  # nobody has noticed yet
        assert transport.exchange(b"two", only_good) == b"good two"
    assert seen[0] == b"one"
    assert set(seen[1:]) == {b"two"}


def test_without_a_queue_for_commands_nothing_is_waited_for(vhost: BrokerCorner, transport: Transport):
    with connect(vhost.administrator()) as connection:
        connection.channel().queue_delete(names.COMMANDS_QUEUE)
    with pytest.raises(Unreachable, match="no queue for the repository's commands"):
        transport.exchange(b"a request", only_good)


@pytest.mark.parametrize(
    "ask",
    [
        lambda transport: transport.exchange(b"a request", only_good),
        lambda transport: list(transport.exchange_all(many(b"one", b"two"), 2)),
    ],
    ids=["one", "many"],
)
def test_a_full_queue_says_busy(vhost: BrokerCorner, ask: Callable[[Transport], object]):
    with connect(vhost.administrator()) as connection:
        channel = connection.channel()
        channel.queue_delete(names.COMMANDS_QUEUE)
        full = {**topology.COMMANDS_ARGUMENTS, "x-max-length": 1}
        channel.queue_declare(names.COMMANDS_QUEUE, durable=True, arguments=full)
        channel.queue_bind(names.COMMANDS_QUEUE, names.COMMANDS_EXCHANGE, routing_key=names.COMMANDS_ROUTING_KEY)
    fast = Transport(vhost.client(INSTALLATION), INSTALLATION, reply_seconds=0.2)
    said = set()
    for _ in range(50):  # a quorum queue may take a few beyond its limit before it refuses
        with pytest.raises(Unreachable) as raised:
            ask(fast)
        said.add(raised.value.what)
        if "The repository is busy: its queue is full." in said:
            break
    fast.close()
    assert "The repository is busy: its queue is full." in said


def many(*envelopes: bytes) -> list[Request[bytes]]:
    return [Request(each, sha256(each), only(b"good " + each)) for each in envelopes]


def only(wanted: bytes) -> Callable[[bytes], bytes]:
    def take(data: bytes) -> bytes:
        if data != wanted:
            raise BindingMismatch("the reply answers another request")
        return data

    return take


def test_of_many_each_gets_its_own_reply_in_the_order_of_the_requests(vhost: BrokerCorner, transport: Transport):
    last: list[bytes] = []

    def backwards(body: bytes) -> list[bytes]:
        last.append(body)
        return [] if len(last) % 2 else [b"good " + last[-1], b"good " + last[-2]]

    with answering(vhost.worker(), backwards) as seen:
        found = list(transport.exchange_all(many(b"one", b"two", b"three", b"four"), 2))
    assert found == [b"good one", b"good two", b"good three", b"good four"]
    assert seen == [b"one", b"two", b"three", b"four"]


def test_of_many_none_waits_for_the_brokers_word(vhost: BrokerCorner, transport: Transport, monkeypatch):
    with answering(vhost.worker(), lambda body: [b"good " + body]):
        transport.exchange(b"good one", only(b"good good one"))
        assert transport._channel is not None
        monkeypatch.setattr(transport._channel, "basic_publish", None)  # the channel on which it does
        assert list(transport.exchange_all(many(b"two", b"three"), 2)) == [b"good two", b"good three"]


def test_on_a_slow_line_the_time_of_publishing_does_not_count(vhost: BrokerCorner, transport: Transport, monkeypatch):
    late = 0.0
    monkeypatch.setattr(client.transport, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + late))
    publish = transport._publish

    def slowly(flight, *, awaited: bool) -> None:
        nonlocal late
        publish(flight, awaited=awaited)
        late += 60.0

    monkeypatch.setattr(transport, "_publish", slowly)
    with answering(vhost.worker(), lambda body: [b"good " + body]) as seen:
        found = list(transport.exchange_all(many(b"one", b"two", b"three"), 2))
    assert found == [b"good one", b"good two", b"good three"]
    assert seen == [b"one", b"two", b"three"]


def test_many_go_on_after_a_lost_connection(vhost: BrokerCorner, transport: Transport):
    with answering(vhost.worker(), lambda body: [b"good " + body]):
        found = []
        for each in transport.exchange_all(many(b"one", b"two", b"three", b"four"), 2):
            if not found:
                assert transport._connection is not None
                transport._connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)
            found.append(each)
    assert found == [b"good one", b"good two", b"good three", b"good four"]


def test_many_without_a_queue_for_commands_do_not_wait_either(vhost: BrokerCorner):
    patient = Transport(vhost.client(INSTALLATION), INSTALLATION, reply_seconds=100.0)
    with connect(vhost.administrator()) as connection:
        connection.channel().queue_delete(names.COMMANDS_QUEUE)
    with pytest.raises(Unreachable, match="no queue for the repository's commands"):
        list(patient.exchange_all(many(b"one", b"two"), 2))
    patient.close()


def test_an_envelope_over_the_limit_is_not_sent(vhost: BrokerCorner, transport: Transport):
    with pytest.raises(TooLarge):
        transport.exchange(bytes(ENVELOPE_BYTES + 1), only_good)


def test_a_wrong_password_is_not_allowed(vhost: BrokerCorner):
    good = vhost.client(INSTALLATION)
    wrong = ConnectionSettings(good.host, good.port, good.user, "wrong", good.vhost)
    with pytest.raises(NotAllowed) as raised:
        Transport(wrong, INSTALLATION, 2.0).exchange(b"a request", only_good)
    assert "wrong" not in str(raised.value)


def test_nobody_there_is_unreachable():
    nobody = ConnectionSettings("127.0.0.1", 1, "smr-client-dev", "x")
    with pytest.raises(Unreachable):
        Transport(nobody, INSTALLATION, 1.0).exchange(b"a request", only_good)
