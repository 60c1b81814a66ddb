"""Topology, limits, permissions and TLS on a real node: each rule of `broker_config` is seen to hold, and to refuse."""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
import time

import pika
import pika.exceptions
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pika.adapters.utils.io_services_utils import _AsyncTransportBase

from broker_config import limits, names, topology
from broker_config.administration import Administration
from broker_config.connection import ConnectionSettings, connect
from broker_config.errors import BrokerNotReady, BrokerRefused, NameRefused
from broker_config.local_broker import LocalBroker, ServerTls

LIMIT_SECONDS = 30


def new_installation():
    return names.installation_of(secrets.token_bytes(32))


def new_queue(installation):
    return names.reply_queue(installation, secrets.token_bytes(16))


def get_within_limit(channel, queue):
    """The next message of a queue, probed for until the limit."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        method, properties, body = channel.basic_get(queue)
        if method:
            return method, properties, body
        assert time.monotonic() < deadline, f"nothing arrives in {queue}"
        time.sleep(0.05)


# ---------------------------------------------------------------- topology


def test_setting_up_twice_changes_nothing(vhost):
    with connect(vhost.administrator()) as connection:
        topology.declare(connection.channel())


def test_what_rabbitmq_imports_is_what_the_code_declares(broker):
    administration = broker.administration()
    administration.delete_vhost(names.VHOST)
    administration.import_definitions(topology.definitions())
    administration.create_vhost(names.VHOST)  # the administrator's rights
    with connect(broker.settings()) as connection:
        topology.declare(connection.channel())


def test_a_queue_with_other_settings_is_not_taken_for_ours(broker):
    name = f"test-{secrets.token_hex(8)}"
    broker.administration().create_vhost(name)
    try:
        with connect(broker.settings(vhost=name)) as connection:
            connection.channel().queue_declare(names.COMMANDS_QUEUE, durable=True)
            with pytest.raises(BrokerNotReady, match="other settings"):
                topology.declare(connection.channel())
    finally:
        broker.administration().delete_vhost(name)


def test_a_client_sees_whether_there_is_a_repository(vhost, broker):
    with connect(vhost.client()) as connection:
        topology.check(connection.channel())
    with connect(vhost.administrator()) as connection:
        connection.channel().exchange_delete(names.COMMANDS_EXCHANGE)
        with pytest.raises(BrokerNotReady, match="no repository"):
            topology.check(connection.channel())


def test_a_message_that_kills_workers_becomes_a_dead_letter(vhost):
    with connect(vhost.administrator()) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(names.COMMANDS_EXCHANGE, names.COMMANDS_ROUTING_KEY, b"poison")
        for _ in range(limits.DELIVERY_LIMIT + 1):
            method, _, _ = get_within_limit(channel, names.COMMANDS_QUEUE)
            channel.basic_reject(method.delivery_tag, requeue=True)
        _, properties, body = get_within_limit(channel, names.DEAD_LETTER_QUEUE)
        assert body == b"poison"
        assert properties.headers["x-first-death-reason"] == "delivery_limit"


def test_a_refused_message_becomes_a_dead_letter(vhost):
    with connect(vhost.client()) as client, connect(vhost.worker()) as worker:
        sending, working = client.channel(), worker.channel()
        sending.confirm_delivery()
        sending.basic_publish(names.COMMANDS_EXCHANGE, names.COMMANDS_ROUTING_KEY, b"garbage")
        method, _, _ = get_within_limit(working, names.COMMANDS_QUEUE)
        working.basic_reject(method.delivery_tag, requeue=False)
        with connect(vhost.administrator()) as connection:
            assert get_within_limit(connection.channel(), names.DEAD_LETTER_QUEUE)[2] == b"garbage"


def test_the_largest_envelope_passes_and_one_byte_more_does_not(vhost):
    with connect(vhost.client()) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(names.COMMANDS_EXCHANGE, names.COMMANDS_ROUTING_KEY, bytes(limits.ENVELOPE_BYTES))
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="larger than"):
            channel.basic_publish(names.COMMANDS_EXCHANGE, names.COMMANDS_ROUTING_KEY, bytes(limits.ENVELOPE_BYTES + 1))


def test_a_large_message_is_read_in_large_pieces(vhost, monkeypatch):
    asked = []
    read = _AsyncTransportBase._sigint_safe_recv
    monkeypatch.setattr(
        _AsyncTransportBase, "_sigint_safe_recv", lambda _, sock, most: asked.append(most) or read(sock, most)
    )
    with connect(vhost.client()) as client, connect(vhost.worker()) as worker:
        client.channel().basic_publish(names.COMMANDS_EXCHANGE, names.COMMANDS_ROUTING_KEY, bytes(limits.MIB))
        assert len(get_within_limit(worker.channel(), names.COMMANDS_QUEUE)[2]) == limits.MIB
    assert set(asked) == {limits.READ_BYTES}


# ---------------------------------------------------------------- permissions


def test_a_client_sends_a_command_and_reads_its_reply(vhost):
    installation = new_installation()
    settings, queue = vhost.client(installation), new_queue(installation)
    with connect(settings) as client, connect(vhost.worker()) as worker:
        asking, working = client.channel(), worker.channel()
        topology.declare_reply_queue(asking, queue)
        asking.confirm_delivery()
        properties = pika.BasicProperties(reply_to=queue, user_id=settings.user)
        asking.basic_publish(names.COMMANDS_EXCHANGE, names.COMMANDS_ROUTING_KEY, b"command", properties)
        method, received, _ = get_within_limit(working, names.COMMANDS_QUEUE)
        assert (
            names.parse_client_account(received.user_id) == names.parse_reply_queue(received.reply_to) == installation
        )
        working.confirm_delivery()
        working.basic_publish("", received.reply_to, b"reply", mandatory=True)
        working.basic_ack(method.delivery_tag)
        assert get_within_limit(asking, queue)[2] == b"reply"


def client_tries(vhost, attempt):
    """Runs `attempt(channel, own installation)` as a new client and returns why the broker closed the channel."""
    installation = new_installation()
    with connect(vhost.client(installation)) as connection:
        channel = connection.channel()
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
            attempt(channel, installation)
    return closed.value.reply_code


def publish(exchange, routing_key, **properties):
    def attempt(channel, _installation):
        channel.confirm_delivery()
        channel.basic_publish(exchange, routing_key, b"forged", pika.BasicProperties(**properties))

    return attempt


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param(publish("", names.COMMANDS_QUEUE), id="publish past the exchange"),
        pytest.param(publish("", names.DEAD_LETTER_QUEUE), id="publish a dead letter"),
        pytest.param(publish("amq.fanout", ""), id="publish to a broadcast"),
        pytest.param(lambda c, _: c.basic_get(names.COMMANDS_QUEUE), id="read commands"),
        pytest.param(lambda c, _: c.basic_consume(names.COMMANDS_QUEUE, print), id="consume commands"),
        pytest.param(lambda c, _: c.basic_get(names.DEAD_LETTER_QUEUE), id="read dead letters"),
        pytest.param(lambda c, _: c.queue_purge(names.COMMANDS_QUEUE), id="purge commands"),
        pytest.param(lambda c, _: c.queue_delete(names.COMMANDS_QUEUE), id="delete the command queue"),
        pytest.param(lambda c, _: c.exchange_delete(names.COMMANDS_EXCHANGE), id="delete the exchange"),
        pytest.param(lambda c, _: c.queue_declare("mine"), id="declare a queue of another form"),
        pytest.param(lambda c, _: c.queue_declare(""), id="declare a queue that the broker names"),
        pytest.param(lambda c, _: c.exchange_declare("mine"), id="declare an exchange"),
        pytest.param(
            lambda c, i: (
                c.queue_declare(new_queue(i), exclusive=True),
                c.queue_bind(names.COMMANDS_QUEUE, "amq.fanout"),
            ),
            id="bind the command queue elsewhere",
        ),
    ],
)
def test_a_client_may_nothing_else(vhost, attempt):
    assert client_tries(vhost, attempt) == topology.ACCESS_REFUSED


def test_nobody_can_listen_in_on_commands_with_a_queue_of_their_own(vhost):
    def bind(channel, installation):
        queue = new_queue(installation)
        topology.declare_reply_queue(channel, queue)
        channel.queue_bind(queue, names.COMMANDS_EXCHANGE, routing_key=names.COMMANDS_ROUTING_KEY)

    assert client_tries(vhost, bind) == topology.ACCESS_REFUSED


def test_a_reply_queue_is_read_by_its_own_connection_alone(vhost):
    installation = new_installation()
    settings, queue = vhost.client(installation), new_queue(installation)
    with connect(settings) as owner, connect(settings) as same_account, connect(vhost.client()) as stranger:
        topology.declare_reply_queue(owner.channel(), queue)
        for other in (same_account, stranger):
            with pytest.raises(pika.exceptions.ChannelClosedByBroker):
                other.channel().basic_get(queue)
    with connect(settings) as later, pytest.raises(pika.exceptions.ChannelClosedByBroker):
        later.channel().queue_declare(queue, passive=True)


def test_a_reply_queue_of_another_installation_cannot_be_made(vhost):
    with connect(vhost.client()) as connection:
        with pytest.raises(BrokerRefused):
            topology.declare_reply_queue(connection.channel(), new_queue(new_installation()))
        with pytest.raises(NameRefused):
            topology.declare_reply_queue(connection.channel(), names.COMMANDS_QUEUE)


def test_nobody_speaks_under_another_account(vhost):
    with connect(vhost.client()) as connection:
        channel = connection.channel()
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="user_id"):
            publish(names.COMMANDS_EXCHANGE, names.COMMANDS_ROUTING_KEY, user_id="smr-worker")(channel, None)


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param(topology.declare, id="set up"),
        pytest.param(lambda c: topology.declare_reply_queue(c, new_queue(new_installation())), id="make a reply queue"),
    ],
)
def test_a_worker_declares_nothing(vhost, attempt):
    with connect(vhost.worker()) as connection, pytest.raises(BrokerRefused):
        attempt(connection.channel())


# ---------------------------------------------------------------- who gets in


def test_a_wrong_password_is_refused_at_once(broker, vhost):
    with pytest.raises(BrokerRefused, match="password") as refused:
        connect(broker.settings(password="very wrong", vhost=vhost.vhost))
    assert "very wrong" not in str(refused.value)


def test_a_removed_account_stays_outside(broker, vhost):
    settings = vhost.client()
    broker.administration().delete_account(settings.user)
    broker.administration().delete_account(settings.user)  # gone already: no error
    with pytest.raises(BrokerRefused):
        connect(settings)


def test_an_unknown_virtual_host_is_refused(broker, vhost):
    settings = vhost.client()
    for elsewhere in ("nowhere", names.VHOST):
        with pytest.raises(BrokerRefused):
            connect(ConnectionSettings(settings.host, settings.port, settings.user, settings.password, elsewhere))


def test_a_client_is_no_administrator(broker, vhost):
    client = vhost.client()
    with pytest.raises(BrokerRefused, match="administrator"):
        Administration(broker.administration().url, client.user, client.password).accounts()
    assert client.user in broker.administration().accounts()


# ---------------------------------------------------------------- TLS


def certificate(folder, name, issuer=None, host=None):
    """A short-lived P-256 certificate in `folder`; returns (certificate, key)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer, signing_key = issuer or (None, key)
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
    )
    if host:
        names_of_host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
        builder = builder.add_extension(names_of_host, critical=False)
    made = builder.sign(signing_key, hashes.SHA256())
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made, key


@pytest.fixture(scope="module")
def tls_broker(tmp_path_factory, broker):
    """A second node, which also listens for TLS; when it has ended the first one is as it was."""
    folder = tmp_path_factory.mktemp("tls")
    ca = certificate(folder, "ca")
    certificate(folder, "broker", ca, "127.0.0.1")
    certificate(folder, "other-ca")
    tls = ServerTls(folder / "ca.pem", folder / "broker.pem", folder / "broker.key")
    with LocalBroker(folder / "rabbitmq", tls=tls) as running:
        yield running, folder
    with connect(broker.settings()) as connection:
        assert connection.is_open


def test_two_nodes_live_side_by_side(broker, tls_broker):
    second, folder = tls_broker
    ours, its = broker._ports, second._ports
    assert not {ours.amqp, ours.management, ours.epmd} & {its.amqp, its.amqps, its.management, its.epmd}
    with connect(broker.settings()), connect(second.settings()), connect(second.tls_settings(folder / "ca.pem")):
        pass


def test_a_connection_with_tls(tls_broker):
    broker, folder = tls_broker
    with connect(broker.tls_settings(folder / "ca.pem")) as connection:
        assert connection.is_open


def test_a_broker_of_another_ca_is_not_trusted(tls_broker):
    broker, folder = tls_broker
    with pytest.raises(BrokerRefused, match="not to be trusted"):
        connect(broker.tls_settings(folder / "other-ca.pem"))


def test_a_broker_of_another_name_is_not_trusted(tls_broker):
    broker, folder = tls_broker
    right = broker.tls_settings(folder / "ca.pem")
    with pytest.raises(BrokerRefused, match="not to be trusted"):
        connect(ConnectionSettings("localhost", right.port, right.user, right.password, tls=right.tls))
