"""What a worker says after a batch leaves in one write, in its order, and not at all when it cannot be said whole."""

from __future__ import annotations

import secrets

import pika
import pytest
from pika.adapters.utils.io_services_utils import _AsyncTransportBase

from broker_config import names, topology
from broker_config.connection import connect
from repository_worker.transport.joined import PIECE_BYTES, joined
from tests.integration.test_broker import get_within_limit

COUNT = 20


@pytest.fixture
def connection(vhost):
    with connect(vhost.administrator()) as opened:
        yield opened


@pytest.fixture
def reply_queue(connection):
    installation = names.installation_of(secrets.token_bytes(32))
    name = names.reply_queue(installation, secrets.token_bytes(names.RANDOM_BYTES))
    topology.declare_reply_queue(connection.channel(), name)
    return name


@pytest.fixture
def writes(monkeypatch):
    """The sizes of what is given to the system."""
    sizes: list[int] = []
    send = _AsyncTransportBase._sigint_safe_send

    def counted(sock, data: bytes) -> int:
        sizes.append(len(data))
        return send(sock, data)

    monkeypatch.setattr(_AsyncTransportBase, "_sigint_safe_send", staticmethod(counted))
    return sizes


def publish(channel, queue: str, *bodies: bytes) -> None:
    for each in bodies:
        channel.basic_publish("", queue, each, pika.BasicProperties(correlation_id="1"))


def test_a_batch_of_replies_and_what_it_acknowledges_are_one_write(connection, reply_queue, writes):
    channel = connection.channel()
    publish(channel, reply_queue, b"asked")
    method, _, _ = get_within_limit(channel, reply_queue)
    bodies = [b"reply %d" % number for number in range(COUNT)]
    writes.clear()
    with joined(connection):
        publish(channel, reply_queue, *bodies)
        channel.basic_ack(method.delivery_tag)
        assert not writes
    assert len(writes) == 1
    assert [get_within_limit(channel, reply_queue)[2] for _ in bodies] == bodies
    writes.clear()
    publish(channel, reply_queue, b"alone")  # from here on as ever
    assert len(writes) == 3


def test_what_is_large_leaves_in_pieces_and_whole(connection, reply_queue, writes):
    channel = connection.channel()
    bodies = [secrets.token_bytes(3 * PIECE_BYTES), *(secrets.token_bytes(PIECE_BYTES // 4) for _ in range(COUNT))]
    with joined(connection):
        publish(channel, reply_queue, *bodies)
    assert max(writes) < 4 * PIECE_BYTES
    assert [get_within_limit(channel, reply_queue)[2] for _ in bodies] == bodies


def test_what_could_not_be_said_whole_is_not_said(connection, reply_queue, writes):
    channel = connection.channel()
    writes.clear()
    with pytest.raises(ZeroDivisionError), joined(connection):
        publish(channel, reply_queue, b"half")
        raise ZeroDivisionError
    assert not writes
    publish(channel, reply_queue, b"later")
    assert get_within_limit(channel, reply_queue)[2] == b"later"


def test_another_version_of_the_library_is_noticed_at_once():
    class Changed:
        _impl = object()

    with pytest.raises(RuntimeError, match="_adapter_emit_data"), joined(Changed()):
        pass
