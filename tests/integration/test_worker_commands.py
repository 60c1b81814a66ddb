"""The eight commands against real workers, broker and database: what each changes, and what comes back."""

from __future__ import annotations

import pytest

from crypto_core import commands, mailbox
from repository_worker.stack import PrivateStack
from tests.support.wire import Citizen, Wire


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with PrivateStack(tmp_path_factory.mktemp("stack")) as running:
        yield running


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
    assert len(status.heads) == len(sent.heads) == 2
