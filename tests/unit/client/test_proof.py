"""What a repository signed against itself convinces others, and nothing else does."""

from __future__ import annotations

import dataclasses
import json

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from client.cli import views
from client.commands import proof
from client.commands.proof import Contradiction, Statement
from client.errors import CheckFailed, ExitCode, MailboxAlarm, NotFound, Usage
from client.state import pin
from crypto_core import canonical_json, descriptor, limits, mailbox, suite
from crypto_core.errors import BindingMismatch, SignatureInvalid
from crypto_core.ids import Milliseconds
from crypto_core.keys import EcdsaSigningKey
from crypto_core.mailbox import Head
from crypto_core.moments import to_datetime
from pki import operator
from tests.support import protocol
from tests.unit.client.conftest import PlayedContext, PlayedRepository, live_session

NAME = "Correio"


@pytest.fixture(scope="module")
def published():
    """The repository of these tests: its signed descriptor under a real operator root."""
    root = operator.create_operator_root("Organização Exemplo", now=to_datetime(protocol.NOW))
    signer = operator.issue_descriptor_signer(root, to_datetime(protocol.NOW))
    chain = tuple(each.public_bytes(Encoding.DER) for each in signer.chain)
    digest = suite.sha256(chain[-1])
    made = protocol.make_descriptor(
        operator_root=digest, repository=descriptor.derive_repository_id(digest, NAME), name=NAME
    )
    return made, descriptor.sign(made, EcdsaSigningKey(signer.key), chain)


@pytest.fixture
def lying(home, published, monkeypatch):
    """A mailbox of which four entries were seen, and the repository behind it."""
    made, signed = published
    monkeypatch.setattr(protocol, "REPOSITORY", made.repository)
    pin.create(home, descriptor.read(signed), made, protocol.NOW)
    repository = PlayedRepository(protocol.MARIA)
    context = PlayedContext(home, repository)
    own = proof_mailbox(context, live_session(repository=made.repository))
    for number in range(4):
        repository.add(b"letter-id-00000" + str(number).encode())
    own.synchronise()
    return own, repository


def proof_mailbox(context, session):
    from client.mailbox import Mailbox

    return Mailbox(context, session, protocol.MARIA)


def later_head(repository, number, later=limits.ROLL_BACK_MS + 1):
    """As the repository signs it late enough."""
    entry = mailbox.genesis(protocol.REPOSITORY, repository.owner)
    for each in repository.entries[:number]:
        entry = each.hash(protocol.REPOSITORY, repository.owner, entry)
    head = Head(protocol.REPOSITORY, repository.owner, number, entry, Milliseconds(protocol.NOW + later))
    return mailbox.sign_head(repository.key, head)


def sign_again(repository):
    repository.entries[-1] = dataclasses.replace(repository.entries[-1], object=protocol.digest("another letter"))


def roll_back(repository):
    repository.head = lambda number=None: later_head(repository, 3)


def replace(repository):
    repository.entries[1] = dataclasses.replace(repository.entries[1], object=protocol.digest("another letter"))


def drop(repository):
    del repository.entries[1]
    repository.entries = [dataclasses.replace(each, number=at) for at, each in enumerate(repository.entries, 1)]
    repository.add(b"letter-id-000009")


def reorder(repository):
    second, third = repository.entries[1:3]
    repository.entries[1:3] = [
        dataclasses.replace(third, number=2, time=second.time),
        dataclasses.replace(second, number=3, time=third.time),
    ]


def raised(own, lie, repository, home):
    lie(repository)
    with pytest.raises(MailboxAlarm) as alarm:
        own.synchronise()
    assert "smr proof" in alarm.value.action
    (kept,) = proof.alarms(home)
    return kept


@pytest.mark.parametrize(
    ("lie", "contradiction"),
    [
        (sign_again, Contradiction.FORKED),
        (replace, Contradiction.FORKED),
        (drop, Contradiction.FORKED),
        (reorder, Contradiction.FORKED),
        (roll_back, Contradiction.ROLLED_BACK),
    ],
)
def test_a_lie_convinces_others(lie, contradiction, lying, home, tmp_path, published):
    kept = raised(*lying[:1], lie, lying[1], home)
    assert kept.judgement.contradiction is contradiction
    target = tmp_path / "proof.json"
    proof.export(home, kept.name[:24], target)
    found, judgement = proof.verify(target.read_bytes())
    assert judgement.contradiction is contradiction
    assert judgement.root_fingerprint == published[0].operator_root.hex()
    assert found.mailbox == protocol.MARIA
    assert views.judged(found, judgement, approved=None).exit_code is ExitCode.OK


def test_heads_that_can_both_be_true_prove_nothing(lying, home, tmp_path):
    own, repository = lying
    replace(repository)
    repository.add(b"letter-id-000009")
    kept = raised(own, lambda _: None, repository, home)
    assert kept.judgement.contradiction is Contradiction.NOT_PROVEN
    proof.export(home, kept.name, tmp_path / "proof.json")
    judged = views.judged(*proof.verify((tmp_path / "proof.json").read_bytes()), approved=None)
    assert judged.exit_code is ExitCode.CHECK_FAILED


SEEN = Statement(4, protocol.digest("4"), protocol.NOW, last=True)
MUCH_LATER = Milliseconds(protocol.NOW + limits.ROLL_BACK_MS + 1)


@pytest.mark.parametrize(
    ("changes", "contradiction"),
    [
        ({"number": 3, "time": MUCH_LATER}, Contradiction.ROLLED_BACK),
        ({"number": 0, "time": MUCH_LATER}, Contradiction.ROLLED_BACK),
        ({"entry": protocol.digest("another")}, Contradiction.FORKED),
        ({"entry": protocol.digest("another"), "last": False}, Contradiction.FORKED),
        ({"entry": protocol.digest("another"), "last": False, "time": MUCH_LATER}, Contradiction.FORKED),
        # The same, and a mailbox that grew.
        ({}, Contradiction.NOT_PROVEN),
        ({"time": MUCH_LATER}, Contradiction.NOT_PROVEN),
        ({"number": 5, "time": MUCH_LATER}, Contradiction.NOT_PROVEN),
        # An old head, shown late.
        ({"number": 3, "time": Milliseconds(protocol.NOW - limits.ROLL_BACK_MS - 1)}, Contradiction.NOT_PROVEN),
        # At once, or nearly: two workers with clocks of their own.
        ({"number": 3}, Contradiction.NOT_PROVEN),
        ({"number": 3, "time": Milliseconds(protocol.NOW + limits.ROLL_BACK_MS)}, Contradiction.NOT_PROVEN),
        # A placement can be asked for at any time: it says nothing about the end.
        ({"number": 3, "time": MUCH_LATER, "last": False}, Contradiction.NOT_PROVEN),
    ],
    ids=lambda each: str(getattr(each, "value", each)),
)
def test_what_two_statements_prove(changes, contradiction):
    shown = dataclasses.replace(SEEN, entry=protocol.digest(str(changes.get("number", 4))))
    shown = dataclasses.replace(shown, **changes)
    for pair in ((SEEN, shown), (shown, SEEN)):
        assert proof.contradiction(*pair) is contradiction


def test_a_head_after_a_placement_of_a_later_entry_is_a_roll_back():
    placed = dataclasses.replace(SEEN, last=False)
    shown = Statement(3, protocol.digest("3"), MUCH_LATER, last=True)
    assert proof.contradiction(placed, shown) is Contradiction.ROLLED_BACK


def a_proof(published, seen, shown):
    return proof.Proof("x", protocol.NOW, protocol.MARIA, published[1], seen, shown)


def test_what_stands_alone_proves_nothing(lying, published):
    _, repository = lying
    for pair in ((b"", later_head(repository, 3)), (repository.head(), b"")):
        judged = proof.judge(a_proof(published, *pair))
        assert judged.contradiction is Contradiction.NOT_PROVEN
        assert None in (judged.seen, judged.shown)


def test_nobody_can_frame_a_repository_with_the_placement_of_an_old_letter(lying, published):
    """Who asks for the status of an old letter gets its place, signed now: no roll-back."""
    _, repository = lying
    judged = proof.judge(
        a_proof(published, repository.head(), repository.placement(2, later_ms=10 * limits.ROLL_BACK_MS))
    )
    assert judged.contradiction is Contradiction.NOT_PROVEN
    assert (judged.shown.number, judged.shown.last) == (2, False)


def test_a_placement_of_another_entry_under_a_number_is_a_fork(lying, published):
    _, repository = lying
    for numbers in ((4,), (3, 4)):  # a letter to oneself has two places
        judged = proof.judge(a_proof(published, repository.head(), repository.placement(*numbers, lie=True)))
        assert judged.contradiction is Contradiction.FORKED
        assert judged.shown.number == 4
    honest = proof.judge(a_proof(published, repository.head(), repository.placement(3, 4)))
    assert honest.contradiction is Contradiction.NOT_PROVEN


def test_a_placement_in_other_mailboxes_is_no_proof(lying, published):
    _, repository = lying
    with pytest.raises(BindingMismatch):
        proof.judge(a_proof(published, repository.head(), repository.placement(4, owner=protocol.JOAO)))
    repository.key = protocol.signing_key("somebody else")
    with pytest.raises(SignatureInvalid):
        proof.judge(a_proof(published, b"", repository.placement(4)))


def test_a_signature_of_somebody_else_proves_nothing(lying, home):
    own, repository = lying

    def other_key(played):
        played.key = protocol.signing_key("somebody else")

    kept = raised(own, other_key, repository, home)
    assert kept.judgement is None
    assert kept.problem


@pytest.mark.parametrize("member", ["seen", "shown", "mailbox", "descriptor"])
def test_a_proof_that_was_changed_is_refused(member, lying, home, tmp_path):
    kept = raised(lying[0], sign_again, lying[1], home)
    target = tmp_path / "proof.json"
    proof.export(home, kept.name, target)
    document = json.loads(target.read_bytes())
    document[member] = document[member][:-2] + ("00" if document[member][-2:] != "00" else "11")
    with pytest.raises(CheckFailed, match="proves nothing"):
        proof.verify(canonical_json.encode(document))


@pytest.mark.parametrize("data", [b"", b"{}", b"garbage", b'{"what": 1}'])
def test_files_that_are_no_proof(data):
    with pytest.raises(CheckFailed):
        proof.verify(data)


def test_a_proof_is_never_written_over(lying, home, tmp_path):
    kept = raised(lying[0], sign_again, lying[1], home)
    (tmp_path / "proof.json").write_text("mine")
    with pytest.raises(Usage):
        proof.export(home, kept.name, tmp_path / "proof.json")
    with pytest.raises(NotFound):
        proof.export(home, "1999", tmp_path / "other.json")


def test_without_alarms(home):
    assert proof.alarms(home) == ()
    assert views.alarms(()).json == {"alarms": []}
