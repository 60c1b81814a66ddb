"""Stolen, hostile and flooding accounts at the real broker: what each may not do, tried with the broker's own verbs.

`tests/integration/test_broker.py` has what each may do, and the plainest refusals.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

import pika
import pika.exceptions
import pytest

from broker_config import names, permissions, topology
from broker_config.administration import Administration
from broker_config.connection import connect
from broker_config.errors import BrokerError, BrokerRefused
from broker_config.names import COMMANDS_EXCHANGE, COMMANDS_QUEUE, COMMANDS_ROUTING_KEY, DEAD_LETTER_QUEUE
from crypto_core import commands, ids, session
from crypto_core.ids import new_nonce
from crypto_core.keys import SigningKey
from repository_worker.clients import Clients
from repository_worker.errors import ClientsError
from tests.support.wire import now_ms

#: A blocked installation is cut off within this; seconds.
CUT_OFF_SECONDS = 10.0


@pytest.fixture(scope="module")
def corner(broker) -> Iterator[str]:
    """A virtual host of this file."""
    vhost = f"test-{secrets.token_hex(8)}"
    broker.set_up(vhost)
    yield vhost
    broker.administration().delete_vhost(vhost)


def installation() -> names.Installation:
    return names.installation_of(secrets.token_bytes(names.DIGEST_BYTES))


@pytest.fixture
def own() -> names.Installation:
    return installation()


@pytest.fixture
def client(broker, corner, own):
    """The channel of a new client, and its own reply queue, declared."""
    with connect(broker.enrol(own, corner)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        queue = new_queue(own)
        topology.declare_reply_queue(channel, queue)
        yield channel, queue


@pytest.fixture
def victim(broker, corner):
    """Another client's open channel with its reply queue."""
    other = installation()
    with connect(broker.enrol(other, corner)) as connection:
        channel = connection.channel()
        queue = new_queue(other)
        topology.declare_reply_queue(channel, queue)
        yield channel, queue


def new_queue(owner: names.Installation) -> names.QueueName:
    return names.reply_queue(owner, secrets.token_bytes(names.RANDOM_BYTES))


def refused(attempt, *arguments, **more) -> None:
    """Fails unless the broker closes the channel for want of rights."""
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        attempt(*arguments, **more)
    assert closed.value.reply_code == topology.ACCESS_REFUSED, closed.value


class TestClient:
    """What an installation's account cannot do beside what `test_a_client_may_nothing_else` tries."""

    def test_commands_are_neither_consumed_nor_purged_nor_counted_on(self, client):
        channel, _ = client
        refused(channel.basic_consume, COMMANDS_QUEUE, print)
        for attempt in (channel.connection.channel().queue_purge, channel.connection.channel().basic_get):
            refused(attempt, COMMANDS_QUEUE)

    @pytest.mark.parametrize("queue", [COMMANDS_QUEUE, DEAD_LETTER_QUEUE])
    def test_no_queue_of_the_repository_is_unbound_or_bound(self, client, queue):
        channel, _ = client
        refused(channel.queue_unbind, queue, COMMANDS_EXCHANGE, COMMANDS_ROUTING_KEY)
        refused(channel.connection.channel().queue_bind, queue, COMMANDS_EXCHANGE, COMMANDS_ROUTING_KEY)

    def test_the_own_reply_queue_is_bound_to_nothing(self, client):
        channel, queue = client
        for exchange in (COMMANDS_EXCHANGE, "amq.direct", "amq.topic", "amq.fanout", "amq.rabbitmq.trace"):
            refused(channel.connection.channel().queue_bind, queue, exchange, "#")

    def test_exchanges_are_not_chained(self, client):
        channel, _ = client
        refused(channel.exchange_bind, "amq.fanout", COMMANDS_EXCHANGE, COMMANDS_ROUTING_KEY)
        refused(channel.connection.channel().exchange_bind, COMMANDS_EXCHANGE, "amq.fanout")

    def test_the_own_reply_queue_passes_nothing_on_by_dead_lettering(self, client, own):
        """Messages that die in a queue go where its owner says, with the broker's rights and not the owner's."""
        channel, _ = client
        more = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": COMMANDS_QUEUE}
        refused(channel.queue_declare, new_queue(own), exclusive=True, arguments=more)

    def test_a_reply_queue_of_another_is_not_written_to(self, client, victim):
        channel, _ = client
        _, queue = victim
        for exchange in ("", "amq.direct", "amq.topic", "amq.headers"):
            trying = channel.connection.channel()
            trying.confirm_delivery()
            refused(trying.basic_publish, exchange, queue, b"forged")

    def test_a_reply_queue_of_another_is_not_read_emptied_or_removed(self, client, victim):
        channel, _ = client
        victim_channel, queue = victim
        for attempt in ("basic_get", "queue_purge", "queue_delete"):
            with pytest.raises(pika.exceptions.ChannelClosedByBroker):
                getattr(channel.connection.channel(), attempt)(queue)
        with pytest.raises(pika.exceptions.ChannelClosedByBroker):
            channel.connection.channel().basic_consume(queue, print)
        assert victim_channel.queue_declare(queue, passive=True).method.consumer_count == 0

    def test_the_name_of_a_reply_queue_that_is_free_again_is_not_taken(self, client, victim):
        channel, _ = client
        victim_channel, queue = victim
        victim_channel.queue_delete(queue)
        refused(channel.queue_declare, queue, exclusive=True)

    def test_what_workers_tell_each_other_is_neither_heard_nor_said(self, client, broker, corner):
        channel, _ = client
        queue = names.ends_queue(secrets.token_bytes(names.RANDOM_BYTES))
        refused(channel.connection.channel().queue_declare, queue, exclusive=True)
        with connect(broker.settings("smr-worker", vhost=corner)) as connection:
            topology.declare_ends_queue(connection.channel(), queue)
            trying = channel.connection.channel()
            trying.confirm_delivery()
            refused(trying.basic_publish, "", queue, b"forged")
            for attempt in ("basic_get", "queue_purge", "queue_delete"):
                with pytest.raises(pika.exceptions.ChannelClosedByBroker):
                    getattr(channel.connection.channel(), attempt)(queue)

    def test_a_message_in_the_name_of_another_account_is_refused(self, client, broker, corner):
        channel, _ = client
        for other in (names.client_account(installation()), "smr-worker", "smr-admin"):
            trying = channel.connection.channel()
            trying.confirm_delivery()
            with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="user_id"):
                trying.basic_publish(COMMANDS_EXCHANGE, COMMANDS_ROUTING_KEY, b"x", pika.BasicProperties(user_id=other))

    def test_its_connections_are_few(self, broker, corner, own):
        clients = Clients(broker.administration(), corner)
        password = clients.enrol(own)
        settings = broker.settings(names.client_account(own), password, corner)
        open_ones = [connect(settings) for _ in range(8)]
        try:
            with pytest.raises(BrokerError):
                connect(settings, attempts=1)
        finally:
            for each in open_ones:
                each.close()


class TestManagement:
    """The management interface, asked by accounts that have no business there."""

    READS = ("overview", "queues", "connections", "users", "permissions", "definitions", "global-parameters")

    @pytest.mark.parametrize("kind", ["client", "worker"])
    def test_it_answers_neither_clients_nor_workers(self, broker, corner, own, kind):
        settings = broker.enrol(own, corner) if kind == "client" else broker.settings("smr-worker", vhost=corner)
        stranger = Administration(broker.administration().url, settings.user, settings.password)
        for path in self.READS:
            with pytest.raises(BrokerRefused):
                stranger._request("GET", path)
        attempts = (
            lambda: stranger.put_account("mallory", "secret", corner, permissions.Permissions(".*", ".*", ".*")),
            lambda: stranger.permit(settings.user, corner, permissions.Permissions(".*", ".*", ".*")),
            lambda: stranger.close_connections("smr-admin"),
            lambda: stranger.delete_vhost(corner),
            lambda: stranger.note("smr-client-x", {}),
            lambda: stranger._request("POST", f"exchanges/{corner}/amq.default/publish", {"payload": "x"}),
            lambda: stranger._request("DELETE", f"queues/{corner}/{COMMANDS_QUEUE}/contents"),
        )
        for attempt in attempts:
            with pytest.raises(BrokerRefused):
                attempt()
        assert "mallory" not in broker.administration().accounts()


class TestWorker:
    """A worker that was broken into does its work and nothing else."""

    @pytest.fixture
    def worker(self, broker, corner):
        with connect(broker.settings("smr-worker", vhost=corner)) as connection:
            yield connection

    def test_it_neither_sends_commands_nor_empties_or_removes_a_queue(self, worker):
        sending = worker.channel()
        sending.confirm_delivery()
        refused(sending.basic_publish, COMMANDS_EXCHANGE, COMMANDS_ROUTING_KEY, b"forged")
        refused(worker.channel().queue_delete, COMMANDS_QUEUE)
        refused(worker.channel().exchange_delete, COMMANDS_EXCHANGE)
        refused(worker.channel().queue_declare, "smr.mine")
        refused(worker.channel().queue_declare, "smr.ends.mine")
        refused(worker.channel().queue_bind, COMMANDS_QUEUE, "amq.fanout")
        refused(worker.channel().basic_get, DEAD_LETTER_QUEUE)

    def test_it_reads_no_reply(self, worker, victim):
        _, queue = victim
        with pytest.raises(pika.exceptions.ChannelClosedByBroker):
            worker.channel().basic_get(queue)


class TestWhoseMessage:
    """Where each installation has an account of its own, a worker takes its messages from there alone."""

    def test_from_the_own_account_it_is_answered(self, wire):
        assert wire.anonymous() is not None

    def test_a_hello_from_the_account_of_another_is_not_answered(self, world, wire):
        """A stolen broker account serves nobody but the installation that it was made for."""
        other = SigningKey.generate()
        sent = session.hello(wire.descriptor, other, now_ms())
        reply_queue = new_queue(names.Installation(ids.installation_of(other.public.raw)))
        assert wire.silent(sent.hello, reply_to=reply_queue)

    def test_a_command_from_the_account_of_another_has_no_effect(self, world, wire, maria):
        wire.register(maria)
        wire.login(maria)
        made = wire.letter(maria, [maria], b"from a copied session")
        data = wire.sealed(commands.Send(made.head, made.body), new_nonce())
        with world.wire() as thief:
            assert thief.silent(data, reply_to=wire.reply_queue)
        assert wire.take(0.1) is None
        assert wire.ask(commands.All(0, False), commands.BoxResult).entries == ()

    def test_a_message_without_an_account_is_not_answered(self, wire):
        sent = session.hello(wire.descriptor, wire.app_key, now_ms())
        wire.user_id = None
        assert wire.silent(sent.hello)


class TestBlocked:
    """`clients block` cuts off at once."""

    @pytest.fixture
    def clients(self, broker, corner) -> Clients:
        return Clients(broker.administration(), corner)

    def test_its_connections_are_closed_and_none_is_let_in(self, broker, corner, clients, own):
        password = clients.enrol(own)
        settings = broker.settings(names.client_account(own), password, corner)
        with connect(broker.enrol(installation(), corner)) as bystander:
            connection = connect(settings)
            connection.channel()
            started = time.monotonic()
            assert clients.block(own, "a test") == 1
            with pytest.raises(pika.exceptions.ConnectionClosedByBroker):
                connection.process_data_events(CUT_OFF_SECONDS)
            assert time.monotonic() - started < CUT_OFF_SECONDS
            with pytest.raises(BrokerRefused):
                connect(settings)
            assert bystander.is_open
            bystander.process_data_events(0)
            assert bystander.is_open
        (shown,) = [each for each in clients.all() if each.installation == own]
        assert shown.connections == 0
        assert shown.blocked is not None
        assert shown.blocked.why == "a test"
        with pytest.raises(ClientsError, match="blocked"):
            clients.enrol(own)

    def test_unblocked_it_is_as_before_and_no_more(self, broker, corner, clients, own):
        settings = broker.settings(names.client_account(own), clients.enrol(own), corner)
        clients.block(own, "a test")
        clients.unblock(own)
        with connect(settings) as connection:
            topology.declare_reply_queue(connection.channel(), new_queue(own))
            refused(connection.channel().queue_purge, COMMANDS_QUEUE)

    def test_who_was_never_enrolled_is_not_let_in_by_unblocking(self, broker, clients):
        for attempt in (clients.unblock, lambda each: clients.block(each, "a test")):
            with pytest.raises(ClientsError, match="not enrolled"):
                attempt(installation())
