"""Dead letters on the real broker: looking changes nothing, giving back loses nothing, workers may do neither."""

from __future__ import annotations

import json
import time

import pika
import pytest

from broker_config import names
from broker_config.connection import connect as connect_broker
from crypto_core import suite
from repository_worker.dead_letters import DeadLetters
from repository_worker.errors import DeadLetterError

PATIENCE_SECONDS = 20.0
BODIES = (b"first", b"second", b"third")


def count(vhost, queue) -> int:
    with connect_broker(vhost.administrator()) as connection:
        return connection.channel().queue_declare(queue, passive=True).method.message_count


def eventually(check, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not check():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.05)


@pytest.fixture
def dead(vhost):
    """Three messages that a worker rejected."""
    with connect_broker(vhost.administrator()) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for body in BODIES:
            properties = pika.BasicProperties(delivery_mode=2, correlation_id="hint")
            channel.basic_publish(names.COMMANDS_EXCHANGE, names.COMMANDS_ROUTING_KEY, body, properties, mandatory=True)
        taken = channel.consume(names.COMMANDS_QUEUE, inactivity_timeout=10)
        for _ in BODIES:
            method, _properties, _body = next(taken)
            channel.basic_reject(method.delivery_tag, requeue=False)
        channel.cancel()
    eventually(lambda: count(vhost, names.DEAD_LETTER_QUEUE) == len(BODIES), "that all are dead letters")
    return DeadLetters(vhost.administrator())


def first_of(found):
    return lambda letter: letter.digest == found[0].digest


def test_looking_again_and_again_changes_nothing(dead):
    looks = [dead.all() for _ in range(25)]  # more often than a broker delivers by default
    assert all(set(each) == set(looks[0]) for each in looks)
    assert sorted(each.size for each in looks[0]) == sorted(len(each) for each in BODIES)
    assert {each.reason for each in looks[0]} == {"rejected"}
    assert all(each.died for each in looks[0])


def test_requeue_gives_back_what_is_wanted_and_keeps_the_rest(dead, vhost):
    found = dead.all()
    assert dead.requeue(first_of(found)) == found[:1]
    assert set(dead.all()) == set(found[1:])
    with connect_broker(vhost.administrator()) as connection:
        _, properties, body = connection.channel().basic_get(names.COMMANDS_QUEUE, auto_ack=True)
    assert suite.sha256(body).hex() == found[0].digest
    assert (properties.correlation_id, properties.delivery_mode) == ("hint", 2)
    assert "x-death" not in (properties.headers or {})


def test_nothing_is_lost_when_the_command_queue_is_gone(dead, vhost):
    found = dead.all()
    with connect_broker(vhost.administrator()) as connection:
        connection.channel().queue_delete(names.COMMANDS_QUEUE)
    with pytest.raises(DeadLetterError, match="does not take"):
        dead.requeue(lambda _: True)
    eventually(lambda: set(dead.all()) == set(found), "that the letter that was in hand is back")


def test_drop_destroys_what_is_wanted(dead):
    found = dead.all()
    assert dead.drop(first_of(found)) == found[:1]
    assert set(dead.all()) == set(found[1:])


def test_workers_may_not(dead, vhost):
    with pytest.raises(DeadLetterError, match="OPERATOR_BROKER_URL_FILE"):
        DeadLetters(vhost.worker()).all()


def test_the_program(dead, operator, vhost):
    listed = json.loads(operator("dead", "list", "--json").stdout)["dead"]
    assert [each["kind"] for each in listed] == ["unreadable"] * 3
    shown = operator("dead", "list").stdout
    assert listed[0]["id"][:12] in shown
    assert "rejected" in shown
    one = operator("dead", "show", listed[0]["id"][:8])
    assert "a worker rejected it" in one.stdout
    assert operator("dead", "requeue").returncode == 2
    assert operator("dead", "drop", "--all").returncode == 2
    nobody = operator("dead", "requeue", "ffff", "--json")
    assert nobody.returncode == 1
    assert "dead list" in json.loads(nobody.stdout)["error"]["message"]
    done = operator("dead", "requeue", listed[1]["id"][:8], "--json")
    assert json.loads(done.stdout) == {"requeued": [listed[1]["id"]]}
    assert operator("dead", "drop", "--all", "--yes").stdout.splitlines()[-1] == "2 dropped"
    assert count(vhost, names.DEAD_LETTER_QUEUE) == 0
    assert operator("dead", "list").stdout == "There are no dead letters.\n"
