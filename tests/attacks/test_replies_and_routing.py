"""Replays, envelopes of other sessions, replies to other requests, and reply queues that are somebody else's."""

from __future__ import annotations

import secrets

import pytest

from crypto_core import commands, cose, envelope, session, suite
from crypto_core.commands import ErrorCode, RefusedByRepository
from crypto_core.errors import BindingMismatch, DecryptionFailed, ProtocolError, SignatureInvalid
from crypto_core.ids import new_nonce
from crypto_core.keys import SigningKey
from tests.support.wire import now_ms


@pytest.fixture
def live(wire, maria):
    wire.register(maria)
    wire.login(maria)
    return wire


class TestReplay:
    def test_a_repeated_envelope_has_one_effect_and_an_equivalent_reply(self, live, maria):
        made = live.letter(maria, [maria], b"once")
        nonce = new_nonce()
        data = live.sealed(commands.Send(made.head, made.body), nonce)
        first, second = (live.opened(live.call(data), data, nonce, commands.SendResult) for _ in range(2))
        assert (first.letter, first.accepted) == (second.letter, second.accepted)
        entries = live.ask(commands.All(0, False), commands.BoxResult).entries
        assert len(entries) == 2  # sent and received, once each

    def test_two_replies_to_one_envelope_use_different_keys(self, live):
        data = live.sealed(commands.New(0), new_nonce())
        salts = {cose.read_sign1(live.call(data)).headers[cose.SALT] for _ in range(2)}
        assert len(salts) == 2

    def test_another_envelope_under_a_used_counter_is_refused(self, live, maria):
        first, second = live.letter(maria, [maria], b"one"), live.letter(maria, [maria], b"two")
        nonce = new_nonce()
        data = live.sealed(commands.Send(first.head, first.body), nonce, counter=5)
        live.opened(live.call(data), data, nonce, commands.SendResult)
        other = live.sealed(commands.Send(second.head, second.body), nonce, counter=5)
        with pytest.raises(RefusedByRepository) as refusal:
            live.opened(live.call(other), other, nonce, commands.SendResult)
        assert refusal.value.code is ErrorCode.COUNTER_USED

    def test_another_letter_under_a_used_id_is_a_conflict(self, live, maria):
        letter_id = secrets.token_bytes(16)
        live.send(maria, [maria], b"one", letter_id=letter_id)
        second = live.letter(maria, [maria], b"two", letter_id=letter_id)
        assert live.refused(commands.Send(second.head, second.body)) is ErrorCode.CONFLICT

    def test_the_same_letter_in_a_new_session_is_accepted_again_once(self, live, maria):
        made = live.letter(maria, [maria], b"one")
        first = live.ask(commands.Send(made.head, made.body), commands.SendResult)
        live.login(maria)
        again = live.ask(commands.Send(made.head, made.body), commands.SendResult)
        assert (first.letter, first.accepted) == (again.letter, again.accepted)
        assert len(live.ask(commands.All(0, False), commands.BoxResult).entries) == 2

    def test_a_confirm_is_idempotent(self, wire, maria):
        wire.register(maria)
        sent = session.hello(wire.descriptor, wire.app_key, now_ms())
        answered = sent.answered(wire.call(sent.hello))
        confirm = answered.confirm(None, now_ms())
        first, second = (confirm.active(wire.call(confirm.confirm)) for _ in range(2))
        assert first == second

    def test_another_confirm_for_the_same_session_is_refused(self, wire, maria):
        wire.register(maria)
        sent = session.hello(wire.descriptor, wire.app_key, now_ms())
        answered = sent.answered(wire.call(sent.hello))
        first, second = (answered.confirm(None, now_ms()) for _ in range(2))
        first.active(wire.call(first.confirm))
        with pytest.raises(ProtocolError):
            second.active(wire.call(second.confirm))


class TestOtherSessions:
    def test_an_envelope_moved_to_another_session_does_nothing(self, world, live, joao):
        with world.wire() as other:
            other.register(joao)
            other.login(joao)
            data = cose.read_sign1(live.sealed(commands.New(0), new_nonce()))
            headers = {**data.headers, cose.SESSION: other.live.keys.session}
            # Signed by that session's app key, but sealed under the keys of the first one: it does not open.
            assert other.silent(cose.sign1(other.app_key, headers, data.unverified_payload))

    def test_an_envelope_signed_by_another_app_key_gets_no_reply(self, live):
        stranger = SigningKey.generate()
        body = commands.encode_request(commands.New(0), new_nonce(), now_ms())
        assert live.silent(envelope.seal_command(stranger, live.live.keys, 9, body))


class TestReplies:
    """What a client must refuse: replies to other requests, of other sessions, by others, and changed ones."""

    def two(self, live):
        a, b = live.sealed(commands.New(0), bytes(32)), live.sealed(commands.New(0), bytes(32))
        return (a, live.call(a)), (b, live.call(b))

    def test_a_reply_to_another_request_is_refused(self, live):
        (a, _), (_, reply_b) = self.two(live)
        with pytest.raises(BindingMismatch):
            live.opened(reply_b, a, bytes(32), commands.BoxResult)

    def test_a_reply_with_another_nonce_is_refused(self, live):
        (a, reply_a), _ = self.two(live)
        with pytest.raises(BindingMismatch):
            live.opened(reply_a, a, b"\1" * 32, commands.BoxResult)

    def test_a_reply_by_somebody_else_is_refused(self, live):
        (a, reply_a), _ = self.two(live)
        message = cose.read_sign1(reply_a)
        forged = cose.sign1(SigningKey.generate(), message.headers, message.unverified_payload)
        with pytest.raises(SignatureInvalid):
            live.opened(forged, a, bytes(32), commands.BoxResult)

    def test_every_changed_byte_of_a_reply_is_refused(self, live):
        (a, reply_a), _ = self.two(live)
        for index in range(0, len(reply_a), 11):
            changed = bytearray(reply_a)
            changed[index] ^= 0x40
            with pytest.raises(ProtocolError):
                live.opened(bytes(changed), a, bytes(32), commands.BoxResult)

    def test_a_reply_does_not_open_with_the_keys_of_another_session(self, world, live, joao):
        (a, reply_a), _ = self.two(live)
        keys = live.live.keys
        with world.wire(live.app_key) as other:
            other.anonymous()
            mixed = type(keys)(keys.session, other.live.keys.client_to_repository, other.live.keys.repository_to_client)
            with pytest.raises(DecryptionFailed):
                envelope.open_reply(
                    reply_a, live.descriptor.verify_key, mixed, envelope.read_command(a).counter, suite.sha256(a)
                )


class TestReplyQueues:
    """`reply_to` is chosen by a client, and therefore hostile."""

    @pytest.mark.parametrize(
        "reply_to",
        ["smr.commands", "smr.commands.dead", "", "amq.gen-x", "smr.reply.", "smr.reply.x.y", "smr.reply." + "a" * 26],
        ids=["the command queue", "the dead letters", "none", "a server-named queue", "a prefix", "short", "half"],
    )
    def test_a_reply_goes_to_no_queue_of_another_form(self, live, maria, reply_to):
        made = live.letter(maria, [maria], b"with an effect")
        before = len(live.ask(commands.All(0, False), commands.BoxResult).entries)
        assert live.silent(live.sealed(commands.Send(made.head, made.body), new_nonce()), reply_to=reply_to)
        assert len(live.ask(commands.All(0, False), commands.BoxResult).entries) == before

    def test_nobody_aims_replies_at_another_installations_queue(self, world, live):
        with world.wire() as victim:
            assert live.silent(live.sealed(commands.New(0), new_nonce()), reply_to=victim.reply_queue)
            assert victim.take(0.1) is None

    def test_a_hello_cannot_be_answered_into_another_queue(self, world, live):
        with world.wire() as victim:
            sent = session.hello(live.descriptor, live.app_key, now_ms())
            assert live.silent(sent.hello, reply_to=victim.reply_queue)
            assert victim.take(0.1) is None

    def test_a_reconnected_client_may_use_a_new_queue_of_its_own(self, world, live):
        nonce = new_nonce()
        data = live.sealed(commands.New(0), nonce)
        with world.wire(live.app_key) as again:
            again.session = live.session
            again.opened(again.call(data), data, nonce, commands.BoxResult)
