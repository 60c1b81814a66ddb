"""Bytes that no honest client sends. Each has a defined outcome, and afterwards the workers serve as before."""

from __future__ import annotations

import secrets

import cbor2
import pika.exceptions
import pytest

from crypto_core import cbor, commands, cose, envelope, labels, limits, session, suite
from crypto_core.commands import ErrorCode, RefusedByRepository
from crypto_core.ids import new_nonce
from crypto_core.keys import SealingKey
from tests.support.wire import now_ms


@pytest.fixture
def live(wire, maria):
    wire.register(maria)
    wire.login(maria)
    return wire


def nested(depth: int) -> bytes:
    return b"\x81" * depth + b"\x00"


def flipped(data: bytes, index: int) -> bytes:
    changed = bytearray(data)
    changed[index] ^= 1 << (index % 8)
    return bytes(changed)


GARBAGE = {
    "nothing": b"",
    "one zero": b"\0",
    "random bytes": secrets.token_bytes(500),
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "JSON": b'{"type":"CREATE","uuid":1}',
    "deep CBOR": nested(5000),
    "an array that claims 2^60 items": b"\x9b\x10" + bytes(7),
    "bytes that claim 2^60": b"\x5b\x10" + bytes(7),
    "an indefinite map": b"\xbf\xff",
    "a date": bytes.fromhex("c11a514b67b0"),
    "a regular expression": bytes.fromhex("d82365285b612b29"),
    "a Sign1 of nothing": cbor2.dumps(cbor2.CBORTag(18, [])),
    "a Sign1 with headers in the open": cbor2.dumps(cbor2.CBORTag(18, [b"\xa0", {1: -19}, b"", bytes(64)])),
    "an Encrypt without recipients": cbor2.dumps(cbor2.CBORTag(96, [b"\xa1\x01\x03", {}, b"x" * 16, []])),
    "an Encrypt0": cbor2.dumps(cbor2.CBORTag(16, [b"\xa1\x01\x03", {}, b"x" * 16])),
}


class TestGarbage:
    @pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
    def test_it_gets_no_reply_and_harms_nobody(self, wire, maria, data):
        assert wire.silent(data)
        wire.register(maria)

    def test_a_flood_of_it_harms_nobody(self, wire, maria):
        for _ in range(300):
            wire.publish(secrets.token_bytes(200))
        wire.register(maria)


class TestDamagedEnvelopes:
    def test_truncated_ones_get_no_reply(self, live):
        data = live.sealed(commands.New(0), new_nonce())
        assert live.silent(*(data[:size] for size in range(0, len(data), 29)))

    def test_flipped_bits_get_no_reply(self, live):
        data = live.sealed(commands.New(0), new_nonce())
        assert live.silent(*(flipped(data, index) for index in range(len(data))))
        live.ask(commands.New(0), commands.BoxResult)

    def test_bytes_after_the_end_get_no_reply(self, live):
        assert live.silent(live.sealed(commands.New(0), new_nonce()) + b"\0")

    def test_damaged_hellos_get_no_answer(self, wire):
        hello = session.hello(wire.descriptor, wire.app_key, now_ms()).hello
        assert wire.silent(*(flipped(hello, index) for index in range(0, len(hello), 61)))
        wire.call(hello)

    def test_damaged_confirms_get_no_reply_that_opens(self, wire, maria):
        wire.register(maria)
        sent = session.hello(wire.descriptor, wire.app_key, now_ms())
        confirm = sent.answered(wire.call(sent.hello)).confirm(None, now_ms())
        data = confirm.confirm
        assert wire.silent(*(flipped(data, index) for index in range(0, len(data), 13)))
        confirm.active(wire.call(confirm.confirm))

    def test_a_hello_for_another_repository_gets_no_answer(self, wire):
        import dataclasses

        other = dataclasses.replace(wire.descriptor, repository="a" * 32)
        assert wire.silent(session.hello(other, wire.app_key, now_ms()).hello)

    def test_a_hello_to_another_sealing_key_gets_no_answer(self, wire):
        import dataclasses

        other = dataclasses.replace(wire.descriptor, sealing_key=SealingKey.generate().public.raw)
        assert wire.silent(session.hello(other, wire.app_key, now_ms()).hello)

    @pytest.mark.parametrize("minutes", [-60, 60], ids=["an hour ago", "in an hour"])
    def test_a_hello_of_another_time_gets_no_answer(self, wire, minutes):
        moment = now_ms() + minutes * limits.MINUTE_MS
        assert wire.silent(session.hello(wire.descriptor, wire.app_key, moment).hello)


def malformed_bodies(nonce: bytes) -> dict[str, bytes]:
    good = {"command": "NEW", "arguments": {"after": 0}, "nonce": nonce, "time": now_ms()}
    return {
        "an unknown command": cbor.encode({**good, "command": "DROP"}),
        "a mistyped argument": cbor.encode({**good, "arguments": {"after": "0"}}),
        "a missing argument": cbor.encode({**good, "arguments": {}}),
        "an unknown argument": cbor.encode({**good, "arguments": {"after": 0, "user": b"x" * 28}}),
        "arguments that are no map": cbor.encode({**good, "arguments": [0]}),
        "a negative number": cbor.encode({**good, "arguments": {"after": -1}}),
        "a boolean for a number": cbor.encode({**good, "arguments": {"after": True}}),
        "an unknown field": cbor.encode({**good, "from": b"x"}),
    }


class TestMalformedBodies:
    @pytest.mark.parametrize("name", malformed_bodies(bytes(32)))
    def test_they_are_refused_with_a_sealed_reply(self, live, name):
        nonce = new_nonce()
        data = envelope.seal_command(live.app_key, live.live.keys, 77, malformed_bodies(nonce)[name])
        with pytest.raises(RefusedByRepository) as refusal:
            live.opened(live.call(data), data, nonce, commands.BoxResult)
        assert refusal.value.code in {ErrorCode.MALFORMED, ErrorCode.TOO_LARGE}

    @pytest.mark.parametrize(
        "body", [b"", b"\xff", secrets.token_bytes(100), cbor.encode([1, 2])], ids=["empty", "break", "random", "array"]
    )
    def test_what_carries_no_nonce_gets_no_reply(self, live, body):
        assert live.silent(envelope.seal_command(live.app_key, live.live.keys, 78, body))

    def test_a_command_from_the_future_is_refused(self, live):
        nonce = new_nonce()
        body = commands.encode_request(commands.New(0), nonce, now_ms() + 2 * limits.CLOCK_SKEW_MS)
        data = envelope.seal_command(live.app_key, live.live.keys, 79, body)
        with pytest.raises(RefusedByRepository) as refusal:
            live.opened(live.call(data), data, nonce, commands.BoxResult)
        assert refusal.value.code is ErrorCode.CLOCK

    def test_a_counter_over_the_limit_gets_no_reply(self, live):
        real = cose.read_sign1(live.sealed(commands.New(0), new_nonce()))
        headers = {**real.headers, cose.COUNTER: limits.COUNTER_MAX + 1}
        assert live.silent(cose.sign1(live.app_key, headers, real.unverified_payload))

    def test_an_envelope_over_its_limit_gets_no_reply(self, live):
        real = cose.read_sign1(live.sealed(commands.New(0), new_nonce()))
        huge = cose.sign1(live.app_key, real.headers, bytes(limits.ENVELOPE_BYTES))
        with pytest.raises(pika.exceptions.AMQPError):
            live.publish(huge)
        live.__exit__()
        live.__enter__()
        live.ask(commands.New(0), commands.BoxResult)


class TestMalformedLetters:
    def variants(self, live, maria):
        made = live.letter(maria, [maria], b"text")
        message = cbor2.loads(made.head)
        protected, unprotected, ciphertext, recipients = message.value
        recipients = [list(each) for each in recipients]

        def head(**changes):
            value = [
                changes.get("protected", protected),
                changes.get("unprotected", unprotected),
                ciphertext,
                changes.get("recipients", recipients),
            ]
            return cbor2.dumps(cbor2.CBORTag(96, value))

        headers = dict(cbor2.loads(protected))
        return made, {
            "random bytes": secrets.token_bytes(200),
            "no recipients": head(recipients=[]),
            "a recipient twice": head(recipients=recipients * 2),
            "a header in the open": head(unprotected={4: b"x"}),
            "a receipt's label": head(protected=cbor.encode({**headers, cose.LABEL: labels.RECEIPT})),
            "another algorithm": head(protected=cbor.encode({**headers, cose.ALG: 1})),
            "a short commitment": head(protected=cbor.encode({**headers, cose.COMMITMENT: b"x"})),
            "one more header": head(protected=cbor.encode({**headers, 99: 1})),
        }

    def test_heads_of_another_form_are_refused(self, live, maria):
        made, variants = self.variants(live, maria)
        for name, head in variants.items():
            code = live.refused(commands.Send(head, made.body))
            assert code in {ErrorCode.MALFORMED, ErrorCode.TOO_LARGE}, name

    def test_a_body_that_is_not_the_heads_is_refused(self, live, maria):
        first, second = live.letter(maria, [maria], b"one"), live.letter(maria, [maria], b"two")
        assert live.refused(commands.Send(first.head, second.body)) is ErrorCode.MALFORMED

    def test_a_letter_to_nobody_known_is_not_found(self, live, maria, bruno):
        from crypto_core import letter
        from pki import cades
        from tests.support.wire import keys_of

        written = letter.draft(
            live.descriptor.repository, secrets.token_bytes(16), live.party(maria), {bruno.user}, now_ms(), "", b""
        )
        made = letter.seal(
            written, cades.sign_document(written.document, maria, maria.writes_with), keys_of([maria, bruno])
        )
        assert live.refused(commands.Send(made.head, made.body)) is ErrorCode.NOT_FOUND
        assert not live.ask(commands.All(0, False), commands.BoxResult).entries  # nothing was half done


def test_hashes_of_two_inputs_never_read_alike():
    """Nothing is ever joined without lengths: moving a boundary moves the hash."""
    assert suite.labelled_hash("a", b"bc") != suite.labelled_hash("a", b"b", b"c")
    assert suite.labelled_hash("ab") != suite.labelled_hash("a", b"b")
