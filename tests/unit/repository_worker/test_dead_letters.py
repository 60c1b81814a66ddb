"""What is told of a dead letter whose bytes and headers a stranger chose."""

from __future__ import annotations

from datetime import UTC, datetime

import pika
import pytest

from crypto_core import descriptor, envelope, session, suite
from crypto_core.envelope import TrafficKeys
from repository_worker.dead_letters import DeadLetter, choose, read
from repository_worker.errors import DeadLetterError
from tests.support import protocol

KEYS = TrafficKeys(protocol.SESSION, b"c" * 32, b"r" * 32)
APP = protocol.signing_key("app")
REPLY_TO = f"smr.reply.{'a' * 26}.{'b' * 26}"


def told(body: bytes, **properties) -> DeadLetter:
    return read(body, pika.BasicProperties(**properties))


def test_a_command_names_its_session_and_counter():
    body = envelope.seal_command(APP, KEYS, 7, b"secret words")
    found = told(body, reply_to=REPLY_TO)
    assert (found.kind, found.session, found.counter) == ("command", protocol.SESSION.hex(), 7)
    assert found.digest == suite.sha256(body).hex()
    assert found.size == len(body)
    assert found.reply_to == REPLY_TO
    assert "secret" not in repr(found)


def test_what_comes_before_a_session():
    assert told(envelope.seal_confirm(APP, KEYS, b"cookie", b"body")).kind == "confirm"
    assert told(descriptor.request(APP, b"n" * 32, protocol.NOW)).kind == "descriptor request"
    assert told(session.hello(protocol.make_descriptor(), APP, protocol.NOW).hello).kind == "hello"


@pytest.mark.parametrize("body", [b"", b"garbage", b"\xd2", b"\xd8\x60\xff", b"\xd2\x84\x40\xa0\x40\x40"])
def test_bytes_that_are_none_of_ours(body):
    assert told(body).kind == "unreadable"


@pytest.mark.parametrize(
    "death",
    [
        None,
        "text",
        ["text"],
        [{}],
        [{"queue": "another", "reason": "rejected", "time": datetime(2026, 1, 1, tzinfo=UTC)}],
        [{"queue": "smr.commands", "reason": "\x1b[2J", "time": "now"}],
        [{"queue": "smr.commands", "reason": ["rejected"], "time": 7}],
    ],
)
def test_headers_that_say_nothing(death):
    found = told(b"x", headers={"x-death": death})
    assert (found.reason, found.died) == ("unknown", None)


def test_the_brokers_own_header():
    died = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    found = told(b"x", headers={"x-death": [{"queue": "smr.commands", "reason": "delivery_limit", "time": died}]})
    assert (found.reason, found.died) == ("delivery_limit", died)


def test_a_reply_queue_of_another_form_is_not_shown():
    assert told(b"x", reply_to="\x1b[31msmr.commands").reply_to is None


class TestChoosing:
    FOUND = tuple(DeadLetter(digest, "rejected", None, 1, "command") for digest in ("ab12", "ab34", "cd56", "cd56"))

    def test_by_an_unambiguous_beginning(self):
        assert choose(self.FOUND, ["AB1", "cd"]) == {"ab12", "cd56"}

    @pytest.mark.parametrize("beginning", ["ab", "ef", ""])
    def test_otherwise_refused(self, beginning):
        with pytest.raises(DeadLetterError, match="dead list"):
            choose(self.FOUND, [beginning])
