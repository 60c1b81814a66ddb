"""Properties of a negotiation and of envelopes: any single flipped bit in any message makes it fail."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_core import envelope, session
from crypto_core.errors import ProtocolError
from tests.support.protocol import (
    NOW,
    digest,
    flip,
    kek,
    make_identity,
    negotiate,
    negotiation,
    open_confirm,
    signing_key,
    traffic_keys,
)

MADE = negotiation()
KEYS = traffic_keys()

MESSAGES = {
    "hello": (MADE.sent.hello, lambda data: session.answer_hello(data, [make_identity()], kek(), NOW)),
    "answer": (MADE.answer, MADE.sent.answered),
    "confirm": (MADE.confirm_sent.confirm, open_confirm),
    "active": (MADE.active, MADE.confirm_sent.active),
}


@pytest.mark.parametrize("name", MESSAGES)
@settings(max_examples=150)
@given(st.data())
def test_any_flipped_bit_makes_a_negotiation_fail(name, data):
    message, read = MESSAGES[name]
    assert read(message)
    with pytest.raises(ProtocolError):
        read(flip(message, data.draw(st.integers(0, len(message) * 8 - 1))))


@pytest.mark.parametrize("name", MESSAGES)
@settings(max_examples=40)
@given(st.data())
def test_any_cut_makes_a_negotiation_fail(name, data):
    message, read = MESSAGES[name]
    with pytest.raises(ProtocolError):
        read(message[: data.draw(st.integers(0, len(message) - 1))])


@settings(max_examples=10)
@given(st.permutations(["hello", "answer", "confirm", "active"]))
def test_no_message_serves_in_the_place_of_another(order):
    for name, given_name in zip(MESSAGES, order, strict=True):
        if name != given_name:
            with pytest.raises(ProtocolError):
                MESSAGES[name][1](MESSAGES[given_name][0])


@settings(max_examples=5)
@given(st.sampled_from(["answer", "active"]))
def test_no_message_of_another_negotiation_serves(name):
    other = negotiate()
    with pytest.raises(ProtocolError):
        MESSAGES[name][1](getattr(other, name))


@settings(max_examples=60)
@given(st.integers(1, 100_000), st.binary(max_size=300), st.data())
def test_envelopes_round_trip_and_no_flipped_bit_opens(counter, body, data):
    app, repository = signing_key("app"), signing_key("repository")
    command = envelope.seal_command(app, KEYS, counter, body)
    assert envelope.read_command(command).open(app.public, KEYS) == body
    reply = envelope.seal_reply(repository, KEYS, counter, digest("request"), body)
    assert envelope.open_reply(reply, repository.public, KEYS, counter, digest("request")) == body
    bit = data.draw(st.integers(0, len(command) * 8 - 1))
    with pytest.raises(ProtocolError):
        envelope.read_command(flip(command, bit)).open(app.public, KEYS)
    bit = data.draw(st.integers(0, len(reply) * 8 - 1))
    with pytest.raises(ProtocolError):
        envelope.open_reply(flip(reply, bit), repository.public, KEYS, counter, digest("request"))
