"""Each fault that was found by running public implementations of the same design, tried against ours.

The tests speak to real workers over a real broker, with a bare client that can misbehave.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import pickle
import re
import secrets
import subprocess
from pathlib import Path

import cbor2
import pytest

from crypto_core import commands, cose, envelope, labels, letter, sealed, suite
from crypto_core.commands import ErrorCode, RefusedByRepository
from crypto_core.documents import SignedDocument
from crypto_core.errors import ProtocolError
from crypto_core.ids import new_nonce
from crypto_core.keys import SealingKey, SigningKey
from pki import cades
from pki.tokens.profiles import CardKeyUse
from tests.support.wire import keys_of, now_ms

ROOT = Path(__file__).parents[2]
PRODUCT = ("crypto_core", "pki", "broker_config", "repository_worker", "client")


def product_trees():
    for room in PRODUCT:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield path, ast.parse(path.read_text("utf-8"))


class TestRandomnessIsDrawnWhereItIsUsed:
    """The fault: `ks=os.urandom(32)` as a default argument gave every message of a process the same key."""

    FRESH = re.compile(r"urandom|secrets|token_|uuid|time|now|random|generate")

    def test_no_default_argument_calls_anything_that_should_be_fresh(self):
        found = []
        for path, tree in product_trees():
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                    defaults = [*node.args.defaults, *(each for each in node.args.kw_defaults if each)]
                    calls = [each for default in defaults for each in ast.walk(default) if isinstance(each, ast.Call)]
                    found += [f"{path.name}:{each.lineno}" for each in calls if self.FRESH.search(ast.unparse(each))]
        assert not found

    def test_two_letters_of_one_process_share_no_key(self, maria, joao, wire):
        wire.register(maria)
        wire.login(maria)
        first, second = (wire.letter(maria, [maria], b"the same text") for _ in range(2))
        opened = [
            letter.open_head(
                sealed.read(sealed.LETTER, each.head).view(maria.user),
                wire.descriptor.repository,
                maria.user,
                {maria.sealing.public.key_id: maria.sealing},
            )
            for each in (first, second)
        ]
        assert opened[0].secret.raw != opened[1].secret.raw
        assert opened[0].body_salt != opened[1].body_salt
        assert first.body != second.body

    def test_head_and_body_of_one_letter_share_no_key(self, maria, wire):
        wire.register(maria)
        wire.login(maria)
        made = wire.letter(maria, [maria], b"text")
        secret = letter.open_head(
            sealed.read(sealed.LETTER, made.head).view(maria.user),
            wire.descriptor.repository,
            maria.user,
            {maria.sealing.public.key_id: maria.sealing},
        ).secret
        identifier = sealed.read(sealed.LETTER, made.head).routing.letter
        assert secret.key(labels.LETTER, identifier) != secret.key(labels.LETTER_BODY, identifier)


class Bomb:
    """Unpickling it makes a file: the proof that somebody executed what a stranger sent."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


class TestNothingIsExecuted:
    """The fault: one unauthenticated packet was unpickled before its signature was checked."""

    def test_a_pickle_on_the_command_queue_is_refused_and_never_opened(self, tmp_path, maria, wire):
        target = tmp_path / "executed"
        assert wire.silent(pickle.dumps(Bomb(target)))
        wire.register(maria)  # the worker is alive
        assert not target.exists()

    def test_no_product_code_can_execute_data(self):
        names = {"pickle", "marshal", "shelve", "dill", "yaml", "jsonpickle"}
        found = []
        for path, tree in product_trees():
            for node in ast.walk(tree):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    modules = {alias.name.split(".")[0] for alias in node.names}
                    if isinstance(node, ast.ImportFrom):
                        modules = {(node.module or "").split(".")[0]}
                    found += [f"{path.name}:{node.lineno}" for _ in modules & names]
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
                    found.append(f"{path.name}:{node.lineno}")
        assert not found


class TestNothingIsTakenWithoutASession:
    """The fault: plain requests were accepted without any session."""

    @pytest.mark.parametrize(
        "make",
        [
            lambda body: body,
            lambda body: cbor2.dumps(cbor2.CBORTag(18, [b"\xa0", {}, body, bytes(64)])),
            lambda body: b'{"type":"NEW"}',
        ],
        ids=["a bare request body", "an unsigned envelope", "the JSON of the original"],
    )
    def test_a_plain_request_gets_no_reply(self, wire, make):
        assert wire.silent(make(commands.encode_request(commands.New(0), new_nonce(), now_ms())))

    def test_a_signed_but_unsealed_request_gets_no_reply(self, wire, maria):
        wire.register(maria)
        wire.login(maria)
        real = cose.read_sign1(wire.sealed(commands.New(0), new_nonce()))
        plain = commands.encode_request(commands.New(0), new_nonce(), now_ms())
        assert wire.silent(cose.sign1(wire.app_key, real.headers, plain))

    def test_a_session_that_nobody_negotiated_gets_no_reply(self, wire, maria):
        wire.register(maria)
        wire.login(maria)
        invented = dataclasses.replace(
            wire.live.keys,
            session=secrets.token_bytes(16),
            client_to_repository=secrets.token_bytes(32),
            repository_to_client=secrets.token_bytes(32),
        )
        body = commands.encode_request(commands.New(0), new_nonce(), now_ms())
        assert wire.silent(envelope.seal_command(wire.app_key, invented, 1, body))


class TestAPublicRecordIsNoLogin:
    """The fault: a user's public record, replayed as CREATE, logged the attacker in as that user."""

    def test_replaying_a_record_gives_its_sender_nothing(self, world, maria, joao):
        with world.wire() as honest:
            honest.register(maria)
        with world.wire() as attacker:
            attacker.anonymous()
            found = attacker.ask(commands.List(maria.user, None, False, None), commands.ListResult).people[0]
            attacker.ask(
                commands.Create(
                    found.registration,
                    found.authentication_certificate,
                    found.signature_certificate,
                    found.intermediates,
                ),
                commands.CreateResult,
            )
            assert attacker.refused(commands.New(0)) is ErrorCode.LOGIN_NEEDED
            assert attacker.refused(commands.All(0, True)) is ErrorCode.LOGIN_NEEDED

    def test_a_record_replayed_by_another_citizen_is_not_allowed(self, world, maria, joao):
        with world.wire() as honest:
            honest.register(maria)
        with world.wire() as attacker:
            attacker.register(joao)
            attacker.login(joao)
            found = attacker.ask(commands.List(maria.user, None, False, None), commands.ListResult).people[0]
            replayed = commands.Create(
                found.registration, found.authentication_certificate, found.signature_certificate, found.intermediates
            )
            assert attacker.refused(replayed) is ErrorCode.NOT_ALLOWED

    def test_a_login_for_one_session_opens_no_other(self, world, maria):
        with world.wire() as honest:
            honest.register(maria)
            kept: list[SignedDocument] = []

            def login(answered):
                kept.append(maria.signed(answered.login_document(maria.user, now_ms()), CardKeyUse.AUTHENTICATION))
                return kept[0]

            honest.negotiate(login)
        with world.wire() as attacker, pytest.raises(RefusedByRepository):
            attacker.negotiate(lambda _: kept[0])


class TestTheSenderIsTheSessionsCitizen:
    """The fault: SEND did not check that its source was the sender."""

    def test_a_letter_by_somebody_else_is_refused(self, world, maria, joao):
        with world.wire() as first:
            first.register(maria)
        with world.wire() as attacker:
            attacker.register(joao)
            attacker.login(joao)
            # Signed by João's card, but Maria stands in the header and in the document.
            forged = dataclasses.replace(joao, certificates=joao.certificates)
            written = letter.draft(
                attacker.descriptor.repository,
                secrets.token_bytes(16),
                attacker.party(maria),
                {joao.user},
                now_ms(),
                "Olá",
                b"I owe you money. Maria",
            )
            signature = cades.sign_document(written.document, forged, forged.writes_with)
            made = letter.seal(written, signature, keys_of([maria, joao]))
            assert attacker.refused(commands.Send(made.head, made.body)) is ErrorCode.NOT_ALLOWED


class TestTheUserIdIsTheCertificates:
    """The fault: a user id was never compared with the certificate behind it."""

    def test_registering_another_users_id_is_refused(self, wire, maria, joao):
        wire.register(maria)
        wire.anonymous()
        document = joao.registration(wire.descriptor.repository, user=maria.user)
        assert wire.refused(joao.create(document)) in {ErrorCode.MALFORMED, ErrorCode.NOT_ALLOWED, ErrorCode.SIGNATURE}

    def test_another_card_cannot_log_in_as_a_user(self, wire, maria, joao):
        wire.register(maria)
        wire.register(joao)
        with pytest.raises(RefusedByRepository) as refusal:
            wire.negotiate(
                lambda answered: joao.signed(answered.login_document(maria.user, now_ms()), CardKeyUse.AUTHENTICATION)
            )
        assert refusal.value.code is ErrorCode.SIGNATURE

    def test_a_stranger_neither_lists_a_box_nor_marks_anything_read(self, world, maria, joao, bruno):
        with world.wire() as first, world.wire() as second, world.wire() as third:
            for wire, citizen in ((first, maria), (second, joao), (third, bruno)):
                wire.register(citizen)
                wire.login(citizen)
            sent = first.send(maria, [joao], b"for Joao alone")
            assert third.refused(commands.Recv(maria.user, sent.letter)) is ErrorCode.NOT_FOUND
            assert third.refused(commands.Status(sent.letter)) is ErrorCode.NOT_FOUND
            assert not third.ask(commands.New(0), commands.BoxResult).entries
            unread = second.ask(commands.New(0), commands.BoxResult).entries
            assert [each.entry.routing.letter for each in unread] == [sent.letter]


class TestASignatureIsChecked:
    """The fault: CREATE accepted a signature that was not checked."""

    def test_a_registration_signed_by_another_card_is_refused(self, wire, maria, joao):
        wire.anonymous()
        document = maria.registration(wire.descriptor.repository)
        other = joao.signed(document, CardKeyUse.AUTHENTICATION)
        assert wire.refused(maria.create(document, registration=other)) is ErrorCode.SIGNATURE

    def test_a_signature_over_another_document_is_refused(self, wire, maria):
        wire.anonymous()
        repository = wire.descriptor.repository
        signed = maria.signed(maria.registration(repository), CardKeyUse.AUTHENTICATION)
        mine = SealingKey.generate().public.raw
        swapped = SignedDocument(maria.registration(repository, sealing_key=mine), signed.signature)
        assert wire.refused(maria.create(swapped.document, registration=swapped)) is ErrorCode.SIGNATURE

    def test_a_registration_by_the_signature_key_is_refused(self, wire, maria):
        wire.anonymous()
        document = maria.registration(wire.descriptor.repository)
        wrong_key = maria.signed(document, CardKeyUse.SIGNATURE)
        assert wire.refused(maria.create(document, registration=wrong_key)) is ErrorCode.SIGNATURE

    def test_random_bytes_as_signature_are_refused(self, wire, maria):
        wire.anonymous()
        document = maria.registration(wire.descriptor.repository)
        junk = SignedDocument(document, secrets.token_bytes(2000))
        assert wire.refused(maria.create(document, registration=junk)) is ErrorCode.SIGNATURE


class TestEveryLetterIsKept:
    """The faults: message numbers from a wrong path left one of 60 messages; ids of two digits were split."""

    def test_sixty_letters_to_one_person_are_sixty_letters(self, world, maria, joao):
        with world.wire() as first, world.wire() as second:
            first.register(maria)
            first.login(maria)
            second.register(joao)
            second.login(joao)
            sent = [first.send(maria, [joao], f"letter {n}".encode()).letter for n in range(60)]
            found: list[commands.BoxEntry] = []
            after: int | None = 0
            while after is not None:
                page = second.ask(commands.New(after), commands.BoxResult)
                found += page.entries
                after = page.next
            assert [each.entry.routing.letter for each in found] == sent
            assert [each.entry.number for each in found] == list(range(1, 61))

    def test_a_receipt_for_the_twelfth_letter_belongs_to_the_twelfth(self, world, maria, joao):
        with world.wire() as first, world.wire() as second:
            first.register(maria)
            first.login(maria)
            second.register(joao)
            second.login(joao)
            sent = [first.send(maria, [joao], f"letter {n}".encode()).letter for n in range(1, 13)]
            _, head, _ = second.read(joao, maria, sent[11])
            second.ask(second.receipt(joao, maria, head, 12), commands.ReceiptResult)
            counts = [len(first.ask(commands.Status(each), commands.StatusResult).receipts) for each in sent]
            assert counts == [0] * 11 + [1]


class TestAMalformedNameStopsNobody:
    """The fault: a malformed message name ended the server process."""

    @pytest.mark.parametrize("letter_id", [bytes(16), b"\xff" * 16, b"../../etc/passwd"], ids=["zero", "ones", "path"])
    def test_unknown_ids_are_not_found(self, wire, maria, letter_id):
        wire.register(maria)
        wire.login(maria)
        assert wire.refused(commands.Recv(maria.user, letter_id)) is ErrorCode.NOT_FOUND
        assert wire.refused(commands.Status(letter_id)) is ErrorCode.NOT_FOUND

    @pytest.mark.parametrize(
        "arguments",
        [
            {},
            {"author": b"x", "letter": b"y"},
            {"author": 1, "letter": "a/b"},
            {"letter": {"$gt": 0}, "author": {"$ne": 1}},
        ],
        ids=["nothing", "short", "mistyped", "a database operator"],
    )
    def test_ids_of_another_form_are_malformed(self, wire, maria, arguments):
        wire.register(maria)
        wire.login(maria)
        nonce = new_nonce()
        body = cbor2.dumps(
            {"time": now_ms(), "nonce": nonce, "command": "RECV", "arguments": arguments}, canonical=True
        )
        data = envelope.seal_command(wire.app_key, wire.live.keys, 1, body)
        with pytest.raises(RefusedByRepository) as refusal:
            wire.opened(wire.call(data), data, nonce, commands.RecvResult)
        assert refusal.value.code is ErrorCode.MALFORMED


class TestLongLettersArrive:
    """The fault: a 70,000-character message got no reply."""

    @pytest.mark.parametrize("size", [0, 1, 70_000, 8 * 1024 * 1024], ids=str)
    def test_a_letter_of_any_allowed_size_arrives_whole(self, world, maria, size):
        text = secrets.token_bytes(size)
        with world.wire() as wire:
            wire.register(maria)
            wire.login(maria)
            sent = wire.send(maria, [maria], text)
            assert wire.read(maria, maria, sent.letter)[2] == text

    def test_a_longer_one_is_refused_before_it_is_signed(self, wire, maria):
        wire.register(maria)
        wire.login(maria)
        with pytest.raises(ProtocolError, match="limit"):
            wire.letter(maria, [maria], bytes(8 * 1024 * 1024 + 1))


class TestNegotiationHoldsUpNobody:
    """The fault: a handshake of 2.5 s, repeated every ten commands, stalled every other client."""

    def test_one_negotiation_serves_many_commands(self, wire, maria):
        wire.register(maria)
        wire.login(maria)
        for _ in range(60):
            wire.ask(commands.New(0), commands.BoxResult)

    def test_unfinished_negotiations_are_no_load(self, world, maria):
        from crypto_core import session

        with world.wire() as wire, world.wire() as idler:
            for _ in range(40):
                idler.publish(session.hello(idler.descriptor, idler.app_key, now_ms()).hello)
            wire.register(maria)


class TestKeysAreDerivedFromSecrets:
    """The faults: iterations that were the request count; a session key from `None`; keys in logs and in the tree."""

    def test_two_envelopes_under_one_counter_share_no_key(self, wire, maria):
        wire.register(maria)
        wire.login(maria)
        a, b = (wire.sealed(commands.New(0), bytes(32), counter=7) for _ in range(2))
        assert envelope.read_command(a).salt != envelope.read_command(b).salt
        assert cose.read_sign1(a).unverified_payload != cose.read_sign1(b).unverified_payload

    def test_no_key_comes_from_nothing(self):
        with pytest.raises(TypeError):
            suite.expand(None, 32, labels.COMMAND)
        with pytest.raises(ProtocolError):
            SigningKey(b"")

    def test_no_private_key_stands_in_the_source_tree(self):
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
        marker = "-----BEGIN " + "(EC |RSA |ENCRYPTED |OPENSSH )?" + "PRIVATE KEY"
        for name in listed.stdout.split():
            path = ROOT / name
            if path.is_file():
                assert not re.search(marker.encode(), path.read_bytes()), name

    def test_no_secret_of_a_session_is_in_a_workers_log(self, world, wire, maria):
        wire.register(maria)
        keys = wire.login(maria).keys
        wire.ask(commands.New(0), commands.BoxResult)
        log = world.logs()
        assert log
        for secret in (keys.client_to_repository, keys.repository_to_client, wire.app_key.seed):
            assert secret not in log
            assert secret.hex().encode() not in log


class TestEncryptionIsAuthenticated:
    """The faults: CTR without authentication; the cipher's choice outside of the signature."""

    def test_every_kind_of_changed_letter_is_refused_by_its_reader(self, wire, maria):
        wire.register(maria)
        wire.login(maria)
        made = wire.letter(maria, [maria], b"x" * 100)
        keys = {maria.sealing.public.key_id: maria.sealing}
        for index in range(0, len(made.head), 97):
            changed = bytearray(made.head)
            changed[index] ^= 1
            with pytest.raises(ProtocolError):
                view = sealed.read(sealed.LETTER, bytes(changed)).view(maria.user)
                letter.open_head(view, wire.descriptor.repository, maria.user, keys)

    def test_the_algorithm_is_under_the_signature(self, wire, maria):
        wire.register(maria)
        wire.login(maria)
        message = cbor2.loads(wire.sealed(commands.New(0), new_nonce()))
        protected, unprotected, payload, signature = message.value
        headers = dict(cbor2.loads(protected)) | {cose.ALG: cose.ALG_ESP256}
        changed = cbor2.dumps(cbor2.CBORTag(18, [cbor2.dumps(headers), unprotected, payload, signature]))
        assert wire.silent(changed)
