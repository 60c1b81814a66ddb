"""The client's library against a whole private repository: real broker, database, workers, cards and CRLs."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pika.exceptions
import pytest
from cryptography import x509
from textual.widgets import Input

from broker_config.connection import parse_amqp_url
from client import identity, mailbox, session
from client.api import Repository
from client.commands.box import Signature
from client.commands.choose import SignatureRequest
from client.commands.status import Signing, Verdict
from client.context import Context
from client.errors import (
    CardProblem,
    Check,
    CheckFailed,
    ExitCode,
    LetterKept,
    LocalState,
    NotAllowed,
    NotFound,
    TooLarge,
    Unreachable,
    Usage,
    boundary,
)
from client.naming import find_letter
from client.session import require
from client.settings import Front, Settings, system_clock
from client.state import letters
from client.state.outbox import Sealed
from client.state.session import LiveSession
from client.ui.app import MailboxApp
from crypto_core import commands, documents, ids, letter, limits
from crypto_core.documents import Party
from crypto_core.ids import Milliseconds, UserId
from pki.signers import CardKeyUse
from pki.trust_store import TrustStore
from repository_worker.stack import PrivateStack, Servers
from tests.support.library import PASSPHRASE, PIN, Citizen, enrol, make_citizen, user_id
from tests.support.screens import Keyboard, at_keyboard
from tests.support.wire import Wire

pytestmark = pytest.mark.timeout(300)
#: A quorum queue takes some more than its limit before it refuses.
QUEUE_FULL_AFTER = 500
PATIENCE_SECONDS = 30.0
BODY = "Olá! Segue a ata da reunião de ontem.\n".encode()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, servers: Servers) -> Iterator[PrivateStack]:
    with PrivateStack(tmp_path_factory.mktemp("stack"), servers=servers) as running:
        yield running


@pytest.fixture(scope="module")
def maria(stack: PrivateStack, tmp_path_factory: pytest.TempPathFactory) -> Citizen:
    made = make_citizen(stack, tmp_path_factory.mktemp("maria"), "Maria Conceição Reis", "RSA-3072")
    enrol(stack, made)
    return made


@pytest.fixture(scope="module")
def joao(stack: PrivateStack, tmp_path_factory: pytest.TempPathFactory) -> Citizen:
    made = make_citizen(stack, tmp_path_factory.mktemp("joao"), "João Sá")
    enrol(stack, made)
    return made


@pytest.fixture
def bruno(stack: PrivateStack, tmp_path: Path) -> Citizen:
    """Somebody of one test alone, set up and not registered."""
    made = make_citizen(stack, tmp_path / "bruno", "Bruno Antunes")
    with made.open() as repository:
        repository.init(stack.descriptor_path.read_bytes(), root_fingerprint=stack.root_fingerprint)
    return made


def test_a_letter_and_its_receipt(maria: Citizen, joao: Citizen):
    with maria.open() as repository:
        (found,) = [each for each in repository.people("joao") if each.user.hex() == user_id(joao)]
        assert (found.name, found.verified, found.confirmed) == ("João Sá", True, False)
        repository.confirm(user_id(joao), lambda shown: shown.name == "João Sá")
        sent = repository.send(["joão sá"], BODY, "Ata da reunião")
    assert [each.name for each in sent.to] == ["João Sá"]

    with joao.open() as repository:
        listed = next(each for each in repository.new() if each.letter_id == sent.letter_id)
        assert (listed.subject, listed.author_name, listed.read) == ("Ata da reunião", "Maria Conceição Reis", False)
        assert any(each.letter_id == sent.letter_id for each in repository.new())  # listing marks nothing
        shown = repository.read(sent.letter_id)
        assert (shown.body, shown.author_name) == (BODY, "Maria Conceição Reis")
        assert [check.name for check in shown.checks] == [
            "complete",
            "sealed",
            "sender",
            "signature",
            "certificate",
            "time",
            "content",
        ]
        assert all(each.letter_id != sent.letter_id for each in repository.new())

    with maria.open() as repository:
        (before,) = repository.status(sent.letter_id).receipts
        assert before.verdict is Verdict.NOT_CONFIRMED
    with joao.open() as repository:
        assert repository.send_receipt(sent.letter_id).accepted_at is not None
        assert repository.send_receipt(sent.letter_id).accepted_at is None
        assert repository.read(sent.letter_id).receipt_sent
    with maria.open() as repository:
        (receipt,) = repository.status(sent.letter_id).receipts
        assert (receipt.verdict, receipt.reader_name) == (Verdict.VERIFIED, "João Sá")
        copy = repository.read(sent.letter_id)
        assert (copy.body, copy.mine, copy.receipt_possible) == (BODY, True, False)
        assert any(each.letter_id == sent.letter_id and each.sent_by_me for each in repository.letters())


def test_a_letter_that_is_signed_for(maria: Citizen, joao: Citizen):
    asked: list[SignatureRequest] = []

    def sign(request: SignatureRequest) -> bool:
        asked.append(request)
        return True

    with maria.open() as repository:
        sent = repository.send([user_id(joao)], BODY, "Convocatória", sign_for_days=5)
        assert [each.verdict for each in repository.status(sent.letter_id).choices] == [Signing.WAITING]
        assert repository.read(sent.letter_id).body == BODY  # the own copy needs no signature
    with joao.open() as repository:
        listed = next(each for each in repository.new() if each.letter_id == sent.letter_id)
        assert (listed.signature, listed.good, listed.subject) == (Signature.WAITING, True, "")
        assert (listed.author_name, listed.expires_at) == ("Maria Conceição Reis", sent.expires_at)
        with pytest.raises(NotAllowed, match="opens when you sign"):
            repository.read(sent.letter_id)
        with pytest.raises(NotAllowed, match="opens when you sign"):
            repository.read(sent.letter_id, sign=lambda _: False)
        assert repository.read(sent.letter_id, sign=sign).body == BODY
        (request,) = asked
        assert (request.letter_id, request.author_name) == (sent.letter_id, "Maria Conceição Reis")
        assert (request.expires_at, request.to) == (sent.expires_at, (UserId(bytes.fromhex(user_id(joao))),))
        assert all(check.passed for check in request.checks)
        shown = repository.read(sent.letter_id)  # not asked again
        assert shown.subject == "Convocatória"
        assert [check.name for check in shown.checks] == [
            "complete",
            "slip",
            "own share",
            "released",
            "key",
            "sealed",
            "sender",
            "signature",
            "certificate",
            "time",
            "letter",
            "content",
        ]
        repository.send_receipt(sent.letter_id)
        listed = next(each for each in repository.letters() if each.letter_id == sent.letter_id)
        assert (listed.signature, listed.subject, listed.read) == (Signature.ACCEPTED, "Convocatória", True)
        with pytest.raises(NotAllowed, match=r"signed for letter \w+ already"):
            repository.refuse(sent.letter_id, "tarde")
    with maria.open() as repository:
        status = repository.status(sent.letter_id)
    (choice,) = status.choices
    assert (choice.verdict, choice.reader_name) == (Signing.ACCEPTED, "João Sá")
    assert [check.name for check in choice.checks] == ["choice", "sender", "signature", "certificate", "time"]
    assert [each.verdict for each in status.receipts] == [Verdict.VERIFIED]


def test_a_letter_that_is_refused(maria: Citizen, joao: Citizen):
    with maria.open() as repository:
        sent = repository.send([user_id(joao)], BODY, "Convocatória", sign_for_days=1)
        plain = repository.send([user_id(joao)], BODY)
    with joao.open() as repository:
        assert repository.refuse(sent.letter_id, "Não é para mim.").to_name == "Maria Conceição Reis"
        with pytest.raises(NotAllowed, match="You refused"):
            repository.refuse(sent.letter_id, "outra vez")
        with pytest.raises(NotAllowed, match="You refused"):
            repository.read(sent.letter_id, sign=lambda _: True)
        assert all(each.letter_id != sent.letter_id for each in repository.new())
        listed = next(each for each in repository.letters() if each.letter_id == sent.letter_id)
        assert (listed.signature, listed.good) == (Signature.REFUSED, True)
        with pytest.raises(NotAllowed, match="asks for no signature"):
            repository.refuse(plain.letter_id)
    with maria.open() as repository:
        (choice,) = repository.status(sent.letter_id).choices
    assert (choice.verdict, choice.reason) == (Signing.REFUSED, "Não é para mim.")


def test_a_letter_that_is_deleted_is_gone_for_its_owner_alone(maria: Citizen, joao: Citizen):
    with maria.open() as repository:
        sent = repository.send([user_id(joao)], BODY, "Para apagar")
        name = sent.letter_id
    asked = []
    with joao.open() as repository:
        with pytest.raises(NotAllowed, match="Nothing was deleted"):
            repository.delete(name, lambda shown: bool(asked.append((shown.subject, shown.read))))
        assert asked == [("Para apagar", False)]
        found = repository.delete(name, lambda _: True)
        assert not found.before
        for listed in (repository.new(), repository.letters()):
            assert all(each.letter_id != name for each in listed)
        for act in (repository.read, repository.thread, repository.export, repository.refuse):
            with pytest.raises(NotFound, match="You deleted"):
                act(name)
        again = repository.delete(name)
        assert (again.before, again.deleted_at) == (True, found.deleted_at)
        assert repository.letter_history(name).deleted_at == found.deleted_at
    with maria.open() as repository:
        (receipt,) = repository.status(name).receipts
        assert receipt.verdict is Verdict.NOT_CONFIRMED
        assert repository.read(name).body == BODY
        repository.delete(name)
        with pytest.raises(NotFound, match="You deleted"):
            repository.read(name)
        # What others have confirmed can still be seen, and proved.
        assert repository.status(name).subject == "Para apagar"
        with pytest.raises(NotFound, match="You deleted"):
            repository.export(name)
        assert repository.export(name, redact=True).report.passed
        assert repository.letter_history(name).deleted_at is not None


def test_what_was_deleted_before_anybody_looked_is_no_arrival(maria: Citizen, joao: Citizen):
    answers = iter([False])
    with joao.open() as watching, joao.open() as his, maria.open() as hers:
        arrivals = watching.watch(stopped=lambda: next(answers, True))  # one look, then no more
        gone, kept = (hers.send([user_id(joao)], BODY).letter_id for _ in range(2))
        his.delete(gone)
        assert [each.letter_id for each in arrivals] == [kept]


def test_a_letter_that_waits_for_a_signature_is_refused_before_it_is_deleted(maria: Citizen, joao: Citizen):
    with maria.open() as repository:
        name = repository.send([user_id(joao)], BODY, sign_for_days=1).letter_id
    with joao.open() as repository:
        with pytest.raises(NotAllowed, match="Refuse it first"):
            repository.delete(name)
        repository.refuse(name)
        repository.delete(name)
        assert all(each.letter_id != name for each in repository.letters())
        assert repository.letter_history(name).deleted_at is not None
    with maria.open() as repository:
        (choice,) = repository.status(name).choices
    assert choice.verdict is Signing.REFUSED


def test_a_deletion_whose_answer_was_lost_is_finished_by_the_next_command(maria: Citizen, joao: Citizen):
    with maria.open() as repository:
        name = repository.send([user_id(joao)], BODY).letter_id
    with joao.open() as repository:
        repository.new()
        lose_answers(repository, (commands.Delete,))
        with pytest.raises(Unreachable):
            repository.delete(name)
    with joao.open() as repository:
        repository.close_session()  # the statement is of the session before; what it says stands all the same
    with joao.open() as repository:
        assert all(each.letter_id != name for each in repository.new())
        assert [(each.command, each.problem) for each in repository.resumed] == [("DELETE", "")]


def test_who_is_interrupted_after_signing_goes_on_with_the_same_command(maria: Citizen, joao: Citizen):
    with maria.open() as repository:
        letters_ = [repository.send([user_id(joao)], BODY, sign_for_days=1).letter_id for _ in range(2)]
    pins, resumed = 0, []

    def count_pin(_: str) -> str:
        nonlocal pins
        pins += 1
        return PIN

    for letter_id, act in zip(
        letters_, (lambda r, each: r.read(each, sign=lambda _: True), lambda r, each: r.refuse(each)), strict=True
    ):
        with joao.open() as repository:
            repository.new()
            resumed += repository.resumed
            lose_answers(repository, (commands.Accept, commands.Refuse))
            with pytest.raises(Unreachable):
                act(repository, letter_id)
    with joao.open(pin=count_pin) as repository:
        assert repository.read(letters_[0]).body == BODY
        resumed += repository.resumed
        assert pins == 0
    assert [(each.command, each.problem) for each in resumed] == [("ACCEPT", ""), ("REFUSE", "")]
    with maria.open() as repository:
        verdicts = [repository.status(each).choices[0].verdict for each in letters_]
    assert verdicts == [Signing.ACCEPTED, Signing.REFUSED]


def test_what_cannot_be_signed_for(maria: Citizen, joao: Citizen):
    with maria.open() as repository:
        for days in (0, 367):
            with pytest.raises(Usage, match="days"):
                repository.send([user_id(joao)], BODY, sign_for_days=days)
        with pytest.raises(Usage, match="yourself"):
            repository.send([user_id(maria)], BODY, sign_for_days=1)


def lose_answers(repository: Repository, kinds: tuple[type, ...]) -> None:
    """The repository does what it is told, and these commands' answers are lost."""
    context = repository._context
    exchange = context._exchange

    def lossy(live: LiveSession, sealed: Sealed, command: commands.Command) -> object:
        result = exchange(live, sealed, command)
        if isinstance(command, kinds):
            raise Unreachable("The answer was lost.")
        return result

    context._exchange = lossy  # type: ignore[method-assign]


def test_another_acceptance_than_the_one_kept_is_refused(maria: Citizen, joao: Citizen):
    with maria.open() as repository:
        sent = repository.send([user_id(joao)], BODY)
        context = maria.context()
        kept = letters.load_sent(context.home, letter_id_of(maria, sent.letter_id))
        assert kept is not None
        elsewhere = tuple(dataclasses.replace(each, number=each.number + 1) for each in kept.positions)
        letters.save_sent(context.home, dataclasses.replace(kept, positions=elsewhere))
        with pytest.raises(CheckFailed, match="another acceptance"):
            repository.status(sent.letter_id)


def test_several_recipients_and_oneself(maria: Citizen, joao: Citizen):
    with maria.open() as repository:
        sent = repository.send([user_id(joao), user_id(maria)], BODY, "A dois")
        assert {each.user.hex() for each in sent.to} == {user_id(joao)}  # the sender has the copy anyway
        note = repository.send([user_id(maria)], b"nota", "Para mim")
        assert repository.read(note.letter_id).receipt_possible
        repository.send_receipt(note.letter_id)
        assert [each.verdict for each in repository.status(note.letter_id).receipts] == [Verdict.VERIFIED]


def test_nobody_else_can_read_or_ask(stack: PrivateStack, maria: Citizen, joao: Citizen, bruno: Citizen):
    with maria.open() as repository:
        sent = repository.send([user_id(joao)], BODY)
    with bruno.open() as repository:
        repository.register()
        for act in (repository.read, repository.status, repository.send_receipt):
            with pytest.raises(NotFound):
                act(sent.letter_id)
    with joao.open() as repository, pytest.raises(NotFound):
        repository.status(sent.letter_id)
    context = bruno.context()
    with session_of(context) as live, pytest.raises(NotFound), boundary():
        context.call(
            live, commands.Recv(ids.UserId(bytes.fromhex(user_id(maria))), letter_id_of(maria, sent.letter_id))
        )


@contextmanager
def session_of(context: Context) -> Iterator[LiveSession]:
    try:
        yield require(context)
    finally:
        context.close()


def letter_id_of(citizen: Citizen, name: str) -> ids.LetterId:
    context = citizen.context()
    with session_of(context) as live:
        return find_letter(mailbox.own_mailbox(context, live), name).letter


def test_a_receipt_needs_an_opened_letter(maria: Citizen, joao: Citizen):
    with maria.open() as repository:
        sent = repository.send([user_id(joao)], BODY)
    with joao.open() as repository, pytest.raises(NotAllowed, match="not opened here"):
        repository.send_receipt(sent.letter_id)


def test_neither_pin_nor_passphrase_is_asked_while_the_session_is_kept(maria: Citizen):
    def never(_purpose: str) -> str:
        raise AssertionError("asked for a secret")

    with maria.open() as repository:
        repository.open_session()
    with maria.open(passphrase=never, pin=never) as repository:
        repository.new()
        assert repository.show_session() is not None
        assert repository.close_session()
        assert repository.show_session() is None
        with pytest.raises(AssertionError):
            repository.new()
    with maria.open() as repository:
        assert not repository.close_session()
        repository.new()


def test_registering_again_changes_nothing(maria: Citizen):
    with maria.open() as repository:
        assert not repository.register().changed


def test_another_citizens_card_is_refused(maria: Citizen, joao: Citizen):
    with maria.open(card=joao.card.settings) as repository:
        with pytest.raises(NotAllowed, match="belongs to"):
            repository.register()
        repository.new()  # the kept session still is Maria's
        with pytest.raises(NotAllowed, match="not the one"):
            repository.send([user_id(joao)], BODY)


def test_cards_that_are_not_there_or_not_open(bruno: Citizen, tmp_path: Path):
    with bruno.open(pin=lambda _: "9999") as repository, pytest.raises(CardProblem, match="PIN"):
        repository.register()
    missing = dataclasses.replace(bruno.card.settings, token_label="NO SUCH CARD")
    with bruno.open(card=missing) as repository, pytest.raises(CardProblem):
        repository.register()
    module = dataclasses.replace(bruno.card.settings, module=tmp_path / "none.so")
    with bruno.open(card=module) as repository, pytest.raises(CardProblem, match="PKCS#11"):
        repository.register()


def test_a_wrong_passphrase_opens_nothing(bruno: Citizen):
    with bruno.open(passphrase=lambda _: "outra frase longa") as repository, pytest.raises(LocalState):
        repository.register()


def test_who_is_not_registered_has_no_session(bruno: Citizen):
    with bruno.open() as repository, pytest.raises(NotAllowed, match="smr register"):
        repository.new()


def test_a_revoked_card_is_refused(stack: PrivateStack, bruno: Citizen):
    for serial in bruno.card.serials.values():
        stack.ca.revoke(serial, x509.ReasonFlags.key_compromise)
    with bruno.open() as repository:
        with pytest.raises(CheckFailed, match="revoked") as raised:
            repository.register()
        (card,) = repository.cards().cards
    assert raised.value.exit_code is ExitCode.CHECK_FAILED
    assert {key.verdict for key in card.keys} == {"revoked"}


def test_an_unknown_root_is_refused(bruno: Citizen, tmp_path: Path):
    empty = tmp_path / "empty"
    TrustStore.open(empty)
    with bruno.open(trust_store=empty) as repository, pytest.raises(CheckFailed):
        repository.register()


def test_a_new_home_is_set_up_once_and_for_the_approved_root(stack: PrivateStack, bruno: Citizen, tmp_path: Path):
    descriptor = stack.descriptor_path.read_bytes()
    with bruno.open() as repository, pytest.raises(Usage, match="already"):
        repository.init(descriptor, root_fingerprint=stack.root_fingerprint)
    with bruno.open(home=tmp_path / "other") as repository:
        with pytest.raises(CheckFailed, match="another operator"):
            repository.init(descriptor, root_fingerprint="00" * 32)
        with pytest.raises(CheckFailed, match="not approved"):
            repository.init(descriptor, approve=lambda _: False)
        with pytest.raises(CheckFailed):
            repository.init(descriptor[:-1] + bytes([descriptor[-1] ^ 1]), root_fingerprint=stack.root_fingerprint)
        assert not (tmp_path / "other" / "pin.json").exists()
        asked = []
        repository.init(descriptor, approve=lambda root: not asked.append(root.fingerprint))
    assert asked == [stack.root_fingerprint]


def test_limits_are_said_before_anything_is_signed(maria: Citizen, joao: Citizen):
    def never(_purpose: str) -> str:
        raise AssertionError("asked for a PIN")

    with maria.open() as repository:
        repository.new()
    with maria.open(pin=never) as repository:
        with pytest.raises(TooLarge):
            repository.send([user_id(joao)], bytes(limits.BODY_BYTES + 1))
        with pytest.raises(TooLarge):
            repository.send([user_id(joao)], BODY, "s" * (limits.SUBJECT_BYTES + 1))
        with pytest.raises(NotFound):
            repository.send(["00" * 28], BODY)
        with pytest.raises(Usage):
            repository.send([], BODY)


def test_the_largest_letter_arrives(maria: Citizen, joao: Citizen):
    body = os.urandom(limits.BODY_BYTES)
    with maria.open() as repository:
        sent = repository.send([user_id(joao)], body)
    with joao.open() as repository:
        shown = repository.read(sent.letter_id)
    assert shown.body == body
    assert shown.media_type == "application/octet-stream"


def test_old_letters_open_after_a_rotation_and_on_a_new_machine(
    stack: PrivateStack, maria: Citizen, bruno: Citizen, tmp_path: Path
):
    with bruno.open() as repository:
        repository.register()
    with maria.open() as repository:
        old = repository.send([user_id(bruno)], b"antes")
    with bruno.open() as repository:
        assert repository.rotate_key().revision == 2
    with maria.open() as repository:
        young = repository.send([user_id(bruno)], b"depois")
    backup = tmp_path / "backup"
    with bruno.open() as repository:
        assert repository.read(old.letter_id).body == b"antes"
        assert repository.read(young.letter_id).body == b"depois"
        repository.backup_keys(backup)
        with pytest.raises(Usage, match="exists already"):
            repository.backup_keys(backup)
        repository.change_passphrase()
    elsewhere = make_citizen(stack, tmp_path / "elsewhere", "Bruno Antunes", card=bruno.card)
    with elsewhere.open() as repository:
        repository.init(stack.descriptor_path.read_bytes(), root_fingerprint=stack.root_fingerprint)
        assert repository.restore_keys(backup).added == 2
        assert not repository.register().changed
        assert repository.read(old.letter_id).body == b"antes"
        assert repository.read(young.letter_id).body == b"depois"


def test_without_the_key_a_letter_says_which_backup_is_missing(
    stack: PrivateStack, maria: Citizen, bruno: Citizen, tmp_path: Path
):
    with bruno.open() as repository:
        repository.register()
    with maria.open() as repository:
        sent = repository.send([user_id(bruno)], BODY)
    elsewhere = make_citizen(stack, tmp_path / "elsewhere", "Bruno Antunes", card=bruno.card)
    with elsewhere.open() as repository:
        repository.init(stack.descriptor_path.read_bytes(), root_fingerprint=stack.root_fingerprint)
        repository.open_session()
        with pytest.raises(CheckFailed, match="Restore the backup"):
            repository.read(sent.letter_id)


# ------------------------------------------------------------------------------------------ a sender who is not honest


def send_dishonestly(
    sender: Citizen, to: str, change: Callable[[letter.Draft], letter.Draft], use: CardKeyUse = CardKeyUse.SIGNATURE
) -> str:
    """Sends a letter whose draft was changed before it was signed with `use`, as no client of ours would."""
    context = sender.context()
    with session_of(context) as live:
        me, own, key = mailbox.require_login(live), live.own, live.own_sealing_key()
        assert own is not None
        assert key is not None
        person = identity.look_up(context, live, ids.UserId(bytes.fromhex(to)))
        honest = letter.draft(
            live.repository,
            ids.new_letter_id(),
            Party(me, own.document),
            {person.user},
            context.now(),
            "Ata",
            BODY,
        )
        draft = change(honest)
        with context.own_card(live) as card:
            signature = card.sign(draft.document, use).signature
        parts = letter.seal(draft, signature, {person.user: person.sealing, me: key})
        context.call(live, commands.Send(parts.head, parts.body))
        return ids.base32(draft.letter.id, 26)


# ----------------------------------------------------------------------------- revocation, then and now, and evidence


def offline(stack: PrivateStack, folder: Path) -> dict[str, object]:
    """Settings of a reader who has fetched nothing yet and can fetch nothing: the CA's servers are gone."""
    TrustStore.open(folder).import_certificates(stack.ca_certificates, root_fingerprints={stack.ca_fingerprint})
    return {"trust_store": folder, "allow_private_crl_hosts": False}


def certificate_check(checks: Sequence[Check]) -> str:
    (found,) = [each.meaning for each in checks if each.name == "certificate"]
    return found


def test_letters_and_receipts_stay_verifiable_when_the_cas_servers_are_gone(
    stack: PrivateStack, maria: Citizen, joao: Citizen, tmp_path: Path
):
    with maria.open() as repository:
        sent = repository.send([user_id(joao)], BODY)
    with joao.open() as repository:
        assert "by evidence" not in certificate_check(repository.read(sent.letter_id).checks)
        repository.send_receipt(sent.letter_id)
    with joao.open(**offline(stack, tmp_path / "joao")) as repository:
        shown = repository.read(sent.letter_id)
        assert shown.body == BODY
        assert "by evidence that came with it" in certificate_check(shown.checks)
    with maria.open(**offline(stack, tmp_path / "maria")) as repository:
        (receipt,) = repository.status(sent.letter_id).receipts
        assert receipt.verdict is Verdict.VERIFIED
        assert "by evidence that came with it" in certificate_check(receipt.checks)


def test_without_evidence_nobody_can_tell_when_the_cas_servers_are_gone(
    stack: PrivateStack, maria: Citizen, joao: Citizen, tmp_path: Path
):
    name = send_dishonestly(maria, user_id(joao), honest)
    with joao.open() as repository:
        assert repository.read(name).body == BODY
    with joao.open(**offline(stack, tmp_path)) as repository:
        with pytest.raises(CheckFailed) as raised:
            repository.read(name)
        assert "No evidence about revocation came with it." in certificate_check(raised.value.checks)


@pytest.mark.parametrize("when", ["after it was accepted", "before"])
def test_a_card_that_is_revoked(when: str, stack: PrivateStack, joao: Citizen, bruno: Citizen, tmp_path: Path):
    """The letter is judged at its time, a session now."""
    with bruno.open() as repository:
        repository.register()
        sent = repository.send([user_id(joao)], BODY)
    moment = datetime.now(UTC) + (timedelta(seconds=1) if when != "before" else -timedelta(hours=1))
    for serial in bruno.card.serials.values():
        stack.ca.revoke(serial, when=moment)
    fresh = {**offline(stack, tmp_path / "trust"), "allow_private_crl_hosts": True}
    with joao.open(**fresh) as repository:
        if when == "before":
            with pytest.raises(CheckFailed, match="was revoked on") as raised:
                repository.read(sent.letter_id)
            assert [each.name for each in raised.value.checks if not each.passed] == ["certificate"]
        else:
            assert repository.read(sent.letter_id).body == BODY
    time.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()))  # lists count whole seconds
    with bruno.open() as repository:
        repository.close_session()
        with pytest.raises(CheckFailed, match="refused: revoked"):
            repository.open_session()


def with_document(draft: letter.Draft, **changes: object) -> letter.Draft:
    document = dataclasses.replace(draft.letter, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(draft, letter=document, document=documents.encode(document))


def honest(draft: letter.Draft) -> letter.Draft:
    return draft


def backdated(draft: letter.Draft) -> letter.Draft:
    return with_document(draft, time=Milliseconds(draft.letter.time - limits.CLOCK_SKEW_MS - 60_000))


def other_subject(draft: letter.Draft) -> letter.Draft:
    return dataclasses.replace(draft, subject="Outra")


def other_body(draft: letter.Draft) -> letter.Draft:
    return dataclasses.replace(draft, body=b"outra coisa")


def unknown_registration(draft: letter.Draft) -> letter.Draft:
    return with_document(draft, from_=Party(draft.letter.from_.user, ids.Digest(bytes(32))))


@pytest.mark.parametrize(
    ("change", "use", "check"),
    [
        (honest, CardKeyUse.AUTHENTICATION, "signature"),
        (backdated, CardKeyUse.SIGNATURE, "time"),
        (other_subject, CardKeyUse.SIGNATURE, "sealed"),
        (other_body, CardKeyUse.SIGNATURE, "content"),
        (unknown_registration, CardKeyUse.SIGNATURE, "sender"),
    ],
)
def test_a_letter_that_fails_a_check_is_never_shown(change, use, check, maria: Citizen, joao: Citizen):
    name = send_dishonestly(joao, user_id(maria), change, use)
    with maria.open() as repository:
        with pytest.raises(CheckFailed) as raised:
            repository.read(name)
        assert next(each.name for each in raised.value.checks if not each.passed) == check
        listed = next(each for each in repository.letters() if each.letter_id == name)
        if check != "content":  # a list fetches no bodies
            assert (listed.good, listed.subject, listed.author_name) == (False, "", "")
        with pytest.raises(NotAllowed, match="not opened here"):
            repository.send_receipt(name)


# ---------------------------------------------------------------------------------------------------- the full screen


def on_screen(citizen: Citizen) -> MailboxApp:
    """`smr ui` of a citizen with an open session, who types the PIN for signatures at the screen."""
    with citizen.open() as repository:
        repository.letters()

    def library(front: Front) -> Repository:
        asked = {"pin": lambda use: front.secret(f"PIN of your card ({use} key)"), "passphrase": front.secret}
        return citizen.open(waiting=front.waiting, stopped=front.stopped, progress=front.progress, **asked)

    return MailboxApp(library)


async def type_pin(keyboard: Keyboard) -> None:
    await keyboard.until("PIN of your card (signature key)")
    await keyboard.write(PIN)
    await keyboard.press("enter")
    await keyboard.idle()


def test_a_letter_and_its_receipt_at_the_screen(maria: Citizen, joao: Citizen):
    maria.context().people.retire([ids.UserId(bytes.fromhex(user_id(joao)))])

    async def write() -> None:
        async with at_keyboard(on_screen(maria)) as keyboard:
            await keyboard.press("p", "slash")
            await keyboard.write("joao")
            await keyboard.press("enter")
            await keyboard.until("1 found; every record was verified here.")
            await keyboard.press("enter")
            await keyboard.until("Is this the person you mean?")
            assert "João Sá" in keyboard.text()
            await keyboard.press("y")
            await keyboard.until("João Sá is confirmed. c writes a letter.")
            await keyboard.press("c")
            await keyboard.write("Do ecrã")
            await keyboard.press("tab")
            await keyboard.write("Olá")
            await keyboard.press("ctrl+s")
            await type_pin(keyboard)
            await keyboard.until("to João Sá was accepted, entry ")

    async def read() -> None:
        async with at_keyboard(on_screen(joao)) as keyboard:
            assert "Do ecrã" in keyboard.text().splitlines()[2]
            await keyboard.press("enter")
            await keyboard.until("Reading receipt: not sent.")
            assert "From     Maria Conceição Reis" in keyboard.text()
            await keyboard.press("k", "y")
            await keyboard.until("PIN of your card (signature key)")
            await keyboard.press("escape")
            await keyboard.until("Stopped.")
            await keyboard.press("k", "y")
            await type_pin(keyboard)
            await keyboard.until("Reading receipt: sent.")

    async def follow() -> None:
        async with at_keyboard(on_screen(maria)) as keyboard:
            assert "Do ecrã" in keyboard.text().splitlines()[2]
            await keyboard.press("t")
            await keyboard.until("read by João Sá: receipt signed by")

    asyncio.run(write())
    asyncio.run(read())
    asyncio.run(follow())


def test_a_letter_that_opens_against_a_signature_at_the_screen(maria: Citizen, joao: Citizen):
    with maria.open() as repository:
        repository.send([user_id(joao)], BODY, "Contrato", sign_for_days=3)

    async def read() -> None:
        async with at_keyboard(on_screen(joao)) as keyboard:
            assert "(opens when you sign)" in keyboard.text().splitlines()[2]
            await keyboard.press("enter")
            await keyboard.until("Sign for this letter?")
            await keyboard.press("n")
            await keyboard.until("opens when you sign for it; you did not.")
            assert "Segue a ata" not in keyboard.text()
            await keyboard.press("escape", "enter")
            await keyboard.until("Sign for this letter?")
            await keyboard.press("y")
            await type_pin(keyboard)
            await keyboard.until("Segue a ata")
            assert "Contrato" in keyboard.text().splitlines()[2]

    asyncio.run(read())


def test_a_letter_that_comes_while_the_screen_is_there_is_answered_with_a_file(
    maria: Citizen, joao: Citizen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "planta.bin"
    file.write_bytes(os.urandom(limits.CHUNK_BYTES + 7))

    async def answer() -> None:
        async with at_keyboard(on_screen(joao)) as keyboard:

            def send() -> None:
                with maria.open() as repository:
                    repository.send([user_id(joao)], BODY, "Ao vivo")

            await asyncio.to_thread(send)
            await keyboard.until("New: letter from Maria Conceição Reis: Ao vivo")
            assert "Ao vivo" in keyboard.text().splitlines()[2]
            await keyboard.press("up", "enter")
            await keyboard.until("Reading receipt: not sent.")
            await keyboard.press("r")
            await keyboard.write("Segue a planta.")
            await keyboard.press("ctrl+o")
            await keyboard.write(file.name)
            await keyboard.press("enter")
            await keyboard.until("planta.bin goes with the letter")
            await keyboard.press("escape", "ctrl+s")
            await type_pin(keyboard)
            await keyboard.until("to Maria Conceição Reis was accepted, entry ")

    async def save() -> None:
        async with at_keyboard(on_screen(maria)) as keyboard:
            assert "Re: Ao vivo" in keyboard.text().splitlines()[2]
            await keyboard.press("enter")
            await keyboard.until("Attached: planta.bin (")
            await keyboard.press("s")
            await keyboard.until("in which folder?")
            keyboard.app.screen.query_one(Input).clear()
            await keyboard.write("saved")
            await keyboard.press("enter")
            await keyboard.until("Checked and saved in ")

    asyncio.run(answer())
    asyncio.run(save())
    assert (tmp_path / "saved" / "planta.bin").read_bytes() == file.read_bytes()
    with maria.open() as repository:
        answered = repository.letters()[-1]
        assert [each.letter.subject for each in repository.thread(answered.letter_id)] == ["Ao vivo", "Re: Ao vivo"]


def test_a_letter_to_be_signed_for_is_refused_at_the_screen(maria: Citizen, joao: Citizen):
    with maria.open() as repository:
        letter = repository.send([user_id(joao)], BODY, "Contrato", sign_for_days=3).letter_id

    async def refuse() -> None:
        async with at_keyboard(on_screen(joao)) as keyboard:
            await keyboard.press("x")
            await keyboard.until("Why do you refuse to sign for it?")
            await keyboard.write("Errado")
            await keyboard.press("enter")
            await keyboard.until("Refuse to sign for this letter?")
            await keyboard.press("y")
            await type_pin(keyboard)
            await keyboard.until("You refused to sign for letter")
            assert "(you refused to sign" in keyboard.text().splitlines()[2]
            await keyboard.press("d")
            await keyboard.until("Delete this letter?")
            await keyboard.press("y")
            await keyboard.until(f"Letter {letter} is deleted.")
            assert "(you refused to sign" not in keyboard.text().splitlines()[2]

    asyncio.run(refuse())
    with maria.open() as repository:
        (choice,) = repository.status(letter).choices
        assert (choice.verdict, choice.reason) == (Signing.REFUSED, "Errado")


def test_a_changed_letter_is_refused_at_the_screen(maria: Citizen, joao: Citizen):
    send_dishonestly(joao, user_id(maria), other_body)

    async def read() -> None:
        async with at_keyboard(on_screen(maria)) as keyboard:
            assert "João Sá" in keyboard.text().splitlines()[2]  # a list fetches no bodies
            await keyboard.press("enter")
            await keyboard.until("REFUSED: this is not shown as a letter.")
            assert "outra coisa" not in keyboard.text()
            assert "REFUSED" in keyboard.text().splitlines()[2]

    asyncio.run(read())


# -------------------------------------------------------------------------------------- interruptions, two processes


def test_a_letter_that_is_stopped_while_it_is_sent_is_kept(maria: Citizen, joao: Citizen):
    outbox = Context(maria.settings).outbox
    with maria.open(stopped=lambda: bool(outbox.all())) as repository, pytest.raises(LetterKept, match="kept here"):
        repository.send([user_id(joao)], BODY)
    with maria.open() as repository:
        repository.letters()
        assert [(each.command, each.problem) for each in repository.resumed] == [("SEND", "")]


def test_a_repository_that_does_not_answer_ends_the_wait(stack: PrivateStack, maria: Citizen, joao: Citizen):
    with maria.open() as repository:
        before = len(repository.letters())
    for worker in stack.workers:
        worker.suspend()
    try:
        with maria.open(reply_seconds=2.0) as repository:
            # Nothing was sealed yet: the recipient could not be looked up.
            with pytest.raises(Unreachable, match="no answer"):
                repository.send([user_id(joao)], BODY)
            assert Context(maria.settings).outbox.all() == []
    finally:
        for worker in stack.workers:
            worker.resume()
    with maria.open() as repository:
        assert len(repository.letters()) == before


def test_at_the_queues_limit_the_client_is_told_so_and_keeps_the_letter(
    stack: PrivateStack, maria: Citizen, joao: Citizen
):
    limit = f"policies/{stack.vhost}/small"
    policy = {"pattern": "^smr.commands$", "definition": {"max-length": 1}, "apply-to": "queues"}
    administration = stack.broker.administration()

    def fill(_use: str) -> str:
        """While the PIN is asked for, everything stands still and the queue runs full."""
        for worker in stack.workers:
            worker.suspend()
        administration._request("PUT", limit, policy)
        with Wire(stack.client_settings(), stack.descriptor) as flood, pytest.raises(pika.exceptions.NackError):
            for _ in range(QUEUE_FULL_AFTER):
                flood.publish(b"garbage")
        return PIN

    with maria.open() as repository:
        mine = len([each for each in repository.letters() if each.sent_by_me])
    try:
        with maria.open(pin=fill) as repository, pytest.raises(Unreachable) as busy:
            repository.send([user_id(joao)], BODY, "Cheia")
        assert busy.value.what == "The repository is busy: its queue is full."
        assert "kept here" in busy.value.why
        assert "sends it again" in busy.value.action
        assert len(Context(maria.settings).outbox.all()) == 1
        with maria.open() as repository, pytest.raises(Unreachable, match="its queue is full"):
            repository.letters()  # which sends the letter first
        assert len(Context(maria.settings).outbox.all()) == 1
    finally:
        administration._delete(limit)
        for worker in stack.workers:
            worker.resume()
    with maria.open() as repository:
        sent = [each for each in repository.letters() if each.sent_by_me]
        assert [(each.command, each.problem) for each in repository.resumed] == [("SEND", "")]
    assert len(sent) == mine + 1
    assert sent[-1].subject == "Cheia"
    assert Context(maria.settings).outbox.all() == []


@pytest.mark.parametrize("closed", [False, True], ids=["in the same session", "in a new session"])
def test_an_accepted_letter_whose_answer_was_lost_is_not_sent_twice(
    closed, stack: PrivateStack, maria: Citizen, joao: Citizen, monkeypatch: pytest.MonkeyPatch
):
    with maria.open() as repository:
        before = len([each for each in repository.letters() if each.sent_by_me])
        real = Context._exchange

        def lose_the_answer(self, session, sealed, command):
            result = real(self, session, sealed, command)
            if isinstance(command, commands.Send):
                raise Unreachable("The answer was lost.")
            return result

        monkeypatch.setattr(Context, "_exchange", lose_the_answer)
        with pytest.raises(Unreachable, match="kept here"):
            repository.send([user_id(joao)], BODY, "Perdida")
        monkeypatch.undo()
    (pending,) = Context(maria.settings).outbox.all()
    if closed:
        with maria.open() as repository:
            repository.close_session()
    with maria.open() as repository:
        mine = [each for each in repository.letters() if each.sent_by_me]
        assert [(each.command, each.problem) for each in repository.resumed] == [("SEND", "")]
        assert len(mine) == before + 1
        assert repository.status(mine[-1].letter_id).subject == "Perdida"
    assert Context(maria.settings).outbox.all() == []
    assert pending.letter is not None


def _send_many(settings_of: tuple[str, ...], to: str, count: int, together, results) -> None:
    home, memory, module, label, conf = settings_of
    from pki.signers import CardSettings

    settings = Settings(
        home=Path(home),
        card=CardSettings(Path(module), label, {"SOFTHSM2_CONF": conf}),
        passphrase=lambda _: PASSPHRASE,
        pin=lambda _: PIN,
        memory=Path(memory),
        allow_private_crl_hosts=True,
    )
    together.wait(60)
    with Repository(settings) as repository:
        results.put([repository.send([to], BODY).letter_id for _ in range(count)])


def _plain(citizen: Citizen) -> tuple[str, ...]:
    card = citizen.card.settings
    return (
        str(citizen.settings.home),
        str(citizen.settings.memory),
        str(card.module),
        str(card.token_label),
        card.environment["SOFTHSM2_CONF"],
    )


def test_two_processes_in_one_home(maria: Citizen, joao: Citizen):
    with joao.open() as repository:
        repository.close_session()  # so that both find none and only one opens it
    context = multiprocessing.get_context("spawn")
    together, results = context.Barrier(2), context.Queue()
    arguments = (_plain(joao), user_id(maria), 3, together, results)
    processes = [context.Process(target=_send_many, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    sent = [each for _ in processes for each in results.get(timeout=120)]
    for process in processes:
        process.join(60)
    assert len(set(sent)) == 6
    with joao.open() as repository:
        assert {each.letter_id for each in repository.letters()} >= set(sent)
        for each in sent:
            repository.status(each)


def test_a_client_killed_while_sending_goes_on(stack: PrivateStack, maria: Citizen, joao: Citizen):
    with joao.open() as repository:
        before = {each.letter_id for each in repository.letters() if each.sent_by_me}
    context = multiprocessing.get_context("spawn")
    together, results = context.Barrier(2), context.Queue()
    process = context.Process(target=_send_many, args=(_plain(joao), user_id(maria), 50, together, results))
    process.start()
    together.wait(60)
    outbox = Context(joao.settings).home.outbox
    while not list(outbox.glob("*/command")):  # the last that is written before it is published
        assert process.is_alive()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    with joao.open() as repository:
        after = [each.letter_id for each in repository.letters() if each.sent_by_me]
        assert len(after) == len(set(after))
        assert set(after) > before
        for each in set(after) - before:
            assert repository.status(each).letter_id == each
    assert Context(joao.settings).outbox.all() == []


def test_a_broker_that_is_down_says_so(stack: PrivateStack, maria: Citizen, tmp_path: Path):
    nobody = "amqp://client@127.0.0.1:1/smr"
    home = tmp_path / "home"
    made = dataclasses.replace(maria.settings, home=home)
    with Repository(made) as repository:
        descriptor = stack.descriptor_path.read_bytes()
        installed = repository.init(descriptor, root_fingerprint=stack.root_fingerprint)
        given = stack.enrol(installed.installation, broker=nobody)
        repository.enrol(given)
        with pytest.raises(Unreachable) as raised:
            repository.open_session()
    assert json.loads(given)["password"] not in str(raised.value)


def rotate(stack: PrivateStack, *, withdraw: bool = False) -> int:
    """New keys, as the operator makes them while workers run; gives the epoch."""
    passphrase = stack.ca_passphrase_file.read_text(encoding="utf-8")
    made = stack.home.reissue(stack.broker_url, passphrase, system_clock(), new_keys=True, withdraw=withdraw)
    return made.epoch


def test_new_keys_of_the_repository_break_nobody(stack: PrivateStack, maria: Citizen, joao: Citizen):
    """While somebody writes: an open session goes on under the former keys, the next one begins under the new ones."""
    known = stack.home.descriptor(system_clock())[0]
    with maria.open() as repository:
        before = repository.open_session()
        sent = []
        with ThreadPoolExecutor(1) as crew:
            rotating = crew.submit(rotate, stack)
            while not rotating.done() or len(sent) < 2:
                sent.append(repository.send([user_id(joao)], BODY).letter_id)
        with closing(Context(maria.settings)) as context:
            session.anonymous(context)  # from here on this home knows the new descriptor
            assert context.descriptor.epoch == rotating.result() == before.epoch + 1
        sent.append(repository.send([user_id(joao)], BODY).letter_id)
        goes_on = repository.show_session()
    assert goes_on is not None
    assert (goes_on.epoch, goes_on.expires) == (before.epoch, before.expires)
    with joao.open() as repository:
        assert repository.open_session().epoch == before.epoch + 1
        assert {each.letter_id for each in repository.letters()} >= set(sent)
        repository.read(sent[0])
        repository.send_receipt(sent[0])
    with maria.open() as repository:
        assert [each.verdict for each in repository.status(sent[0]).receipts] == [Verdict.VERIFIED]
    # A hello that was sealed to the former keys before they were former.
    with Wire(parse_amqp_url(stack.broker_url), known) as wire:
        assert wire.anonymous().user is None


def test_new_keys_of_the_repository_are_taken_under_the_approved_root(
    stack: PrivateStack, maria: Citizen, joao: Citizen
):
    """The former ones are withdrawn, and whoever has a session open goes on in another one, reading or sending.

    Last in this file: all sessions are replaced by it.
    """
    with maria.open() as repository:
        before = repository.open_session()
        sent = repository.send([user_id(joao)], BODY)
        kept = len(repository.letters())
    with joao.open() as repository:
        repository.read(sent.letter_id)
        repository.send_receipt(sent.letter_id)
        letters = len(repository.letters())
    epoch = rotate(stack, withdraw=True)
    with maria.open() as repository:
        after, deadline = before, time.monotonic() + PATIENCE_SECONDS
        while after.epoch == before.epoch:  # a worker looks once a second whether the keys are new
            assert time.monotonic() < deadline
            repository.new()
            after = repository.show_session()
            assert after is not None
        assert before.epoch < after.epoch == epoch
    with joao.open() as repository:
        repository.send([user_id(maria)], BODY)
        assert len(repository.letters()) == letters + 1
    kept += 1
    with maria.open() as repository:
        assert Context(maria.settings).descriptor.epoch == after.epoch
        # What the old key signed still counts: the receipt stands where that acceptance put the letter.
        assert [each.verdict for each in repository.status(sent.letter_id).receipts] == [Verdict.VERIFIED]
        assert len(repository.letters()) == kept
