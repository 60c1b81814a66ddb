"""The eight commands against real workers, broker and database: what each changes, and what comes back."""

from __future__ import annotations

from datetime import UTC, datetime

import bson
import pytest

from crypto_core import commands, cose, delivery, descriptor, limits, mailbox
from crypto_core.commands import ErrorCode
from crypto_core.errors import BindingMismatch
from crypto_core.ids import new_nonce
from pki.evidence import verify_evidence
from pki.identity import load_certificate
from tests.support.wire import Citizen, Wire, now_ms


@pytest.fixture
def connect(stack):
    """Makes connections of new installations; closes them afterwards."""
    opened = []

    def make() -> Wire:
        wire = Wire(stack.client_settings(), stack.descriptor).__enter__()
        opened.append(wire)
        return wire

    yield make
    for each in opened:
        each.__exit__()


@pytest.fixture
def people(stack, connect):
    """Maria, João and Bruno with a session each: (citizen, wire) pairs."""
    pairs = []
    for name in ("Maria Conceição Reis", "João Sá", "Bruno Antunes"):
        citizen, wire = Citizen.issued(stack.ca, name), connect()
        wire.register(citizen)
        wire.login(citizen)
        pairs.append((citizen, wire))
    return pairs


def test_a_letter_and_its_receipt(people):
    (maria, of_maria), (joao, of_joao), _ = people
    sent = of_maria.send(maria, [joao], "Olá, João!".encode())
    new = of_joao.ask(commands.New(0), commands.BoxResult)
    assert [(each.entry.routing.letter, each.read) for each in new.entries] == [(sent.letter, False)]
    got, head, body = of_joao.read(joao, maria, sent.letter)
    assert body.decode() == "Olá, João!"
    assert got.entry.read
    assert of_joao.ask(commands.New(0), commands.BoxResult).entries == ()
    accepted = of_joao.ask(of_joao.receipt(joao, maria, head), commands.ReceiptResult)
    status = of_maria.ask(commands.Status(sent.letter), commands.StatusResult)
    assert [each.entry.kind for each in status.receipts] == [mailbox.EntryKind.RECEIPT]
    assert status.receipts[0].entry.routing.author == joao.user
    assert status.receipts[0].entry.time == accepted.accepted
    key, repository = of_maria.descriptor.verify_key, of_maria.descriptor.repository
    one, two = (mailbox.read_placement(each.placement, key, repository) for each in (sent, status))
    assert one.places == two.places
    assert [place.mailbox for place in one.places] == [maria.user, joao.user]


def test_evidence_for_the_author_and_for_the_reader(stack, people):
    (maria, of_maria), (joao, of_joao), (_, of_bruno) = people
    sent = of_maria.send(maria, [joao], "Olá, João!".encode())
    _, head, _ = of_joao.read(joao, maria, sent.letter)
    of_joao.ask(of_joao.receipt(joao, maria, head), commands.ReceiptResult)
    shown = {}
    for citizen, wire in ((maria, of_maria), (joao, of_joao)):
        result = wire.ask(commands.Evidence(maria.user, sent.letter), commands.EvidenceResult)
        root = load_certificate(descriptor.read(stack.descriptor_path.read_bytes()).chain[-1])
        now = datetime.now(UTC)
        verify_evidence(result.document, result.signature, root, root_fingerprint=stack.root_fingerprint, moment=now)
        shown[citizen.user] = delivery.decode(result.document, stack.descriptor.repository).entries
    assert {(each.mailbox, each.kind.value) for each in shown[maria.user]} == {
        (maria.user, "sent"),
        (maria.user, "receipt"),
        (joao.user, "received"),
    }
    assert {(each.mailbox, each.kind.value) for each in shown[joao.user]} == {
        (joao.user, "received"),
        (joao.user, "receipt-sent"),
    }
    assert shown[maria.user][0].document == shown[joao.user][0].document == head.signed.digest
    with pytest.raises(commands.RefusedByRepository):
        of_bruno.ask(commands.Evidence(maria.user, sent.letter), commands.EvidenceResult)


def test_the_largest_body_comes_back_whole(people):
    (maria, of_maria), (joao, of_joao), _ = people
    body = b"\xc3\xa7" * (limits.BODY_BYTES // 2)
    sent = of_maria.send(maria, [joao], body)
    assert of_joao.read(joao, maria, sent.letter)[2] == body


def test_a_letter_to_several_and_to_oneself(people):
    (maria, of_maria), (joao, of_joao), (bruno, of_bruno) = people
    sent = of_maria.send(maria, [joao, bruno], b"to both")
    owners = [maria.user, *sorted([joao.user, bruno.user])]
    key, repository = of_maria.descriptor.verify_key, of_maria.descriptor.repository
    places = mailbox.read_placement(sent.placement, key, repository).places
    assert [(place.mailbox, place.number) for place in places] == [(owner, 1) for owner in owners]
    assert of_joao.read(joao, maria, sent.letter)[2] == of_bruno.read(bruno, maria, sent.letter)[2] == b"to both"
    own = of_maria.send(maria, [maria], b"to myself")
    got, head, body = of_maria.read(maria, maria, own.letter)
    assert (body, got.entry.entry.kind) == (b"to myself", mailbox.EntryKind.RECEIVED)
    of_maria.ask(of_maria.receipt(maria, maria, head), commands.ReceiptResult)
    status = of_maria.ask(commands.Status(own.letter), commands.StatusResult)
    assert [each.entry.routing.author for each in status.receipts] == [maria.user]


def test_the_copy_is_read_by_its_author(people):
    (maria, of_maria), (joao, _), _ = people
    sent = of_maria.send(maria, [joao], b"text")
    got, _, body = of_maria.read(maria, maria, sent.letter)
    assert (body, got.entry.entry.kind) == (b"text", mailbox.EntryKind.SENT)


def test_every_box_is_a_chain_that_connects_to_its_signed_head(people):
    (maria, of_maria), (joao, of_joao), _ = people
    for number in range(3):
        sent = of_maria.send(maria, [joao], b"text %d" % number)
        _, head, _ = of_joao.read(joao, maria, sent.letter)
        of_joao.ask(of_joao.receipt(joao, maria, head), commands.ReceiptResult)
    for citizen, wire in people[:2]:
        found = wire.ask(commands.All(0, heads=False), commands.BoxResult)
        repository = wire.descriptor.repository
        genesis = mailbox.genesis(repository, citizen.user)
        hashes = mailbox.extend(repository, citizen.user, 0, genesis, [each.entry for each in found.entries])
        head = mailbox.read_head(found.head, wire.descriptor.verify_key, repository, citizen.user)
        assert (head.number, head.entry) == (6, hashes[-1])


def test_a_registration_is_replaced_by_the_next_one(people):
    (maria, of_maria), *_ = people
    repository = of_maria.descriptor.repository
    (first,) = of_maria.ask(commands.List(maria.user, None, False, None), commands.ListResult).people
    document = maria.registration(repository, revision=2, previous=first.registration.digest)
    assert of_maria.ask(maria.create(document), commands.CreateResult).revision == 2
    history = of_maria.ask(commands.List(maria.user, None, True, None), commands.ListResult).people
    assert [each.revision for each in history] == [1, 2]
    assert of_maria.refused(maria.create(maria.registration(repository))) is ErrorCode.CONFLICT


def test_people_are_found_by_a_part_of_their_name(people):
    (maria, of_maria), *_ = people
    found = of_maria.ask(commands.List(None, "CONCEICAO", False, None), commands.ListResult)
    assert maria.user in [each.user for each in found.people]


def test_the_descriptor_is_answered_for_this_nonce(stack, connect):
    wire, nonce = connect(), new_nonce()
    message, found, _ = descriptor.read_answer(wire.call(descriptor.request(wire.app_key, nonce, now_ms())))
    assert found == stack.descriptor_path.read_bytes()
    descriptor.verify_answer(message, stack.descriptor, nonce)
    with pytest.raises(BindingMismatch):
        descriptor.verify_answer(message, stack.descriptor, new_nonce())
    assert cose.label_of(message.headers)


def test_nothing_that_is_stored_or_logged_can_be_read(stack, people):
    (maria, of_maria), (joao, _), _ = people
    of_maria.send(maria, [joao], b"a very secret body", subject="A very secret subject")
    storage = stack.storage()
    stored = [
        bson.encode(document)
        for name in storage._database.list_collection_names()
        for document in storage._database[name].find()
    ]
    storage.close()
    logged = b"".join(path.read_bytes() for path in stack.folder.glob("worker-*.log"))
    for secret in (b"very secret", of_maria.live.keys.client_to_repository, of_maria.app_key.seed):
        assert not any(secret in document for document in stored)
        assert secret not in logged
    assert b"Maria" not in logged
