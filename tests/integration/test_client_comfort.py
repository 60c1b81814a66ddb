"""What makes the client comfortable, against a whole private repository."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pymongo import MongoClient

from broker_config.connection import connect
from broker_config.private_process import free_ports
from client import mailbox, naming
from client.cli.screen import Screen
from client.cli.views import findings
from client.cli.views import thread as thread_view
from client.commands import box, doctor, send, watch
from client.commands.send import Sent
from client.errors import ClientError, ExitCode, NotFound, TooLarge, WrongPassphrase, boundary
from client.session import require
from client.settings import Settings, system_clock
from client.state import files
from client.state.home import Alarm
from crypto_core import commands, limits
from crypto_core.documents import REFERENCES
from crypto_core.limits import DAY_MS, MINUTE_MS
from pki import signers
from pki.signers import CardSettings
from repository_worker.effects import Change, CounterRecord, SetWatch
from repository_worker.stack import PrivateStack, Servers
from repository_worker.storage.watches import PLACES
from tests.support import faulty_signing_process
from tests.support.faulty_signing_process import faults
from tests.support.library import PASSPHRASE, PIN, Citizen, enrol, make_citizen, user_id

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, servers: Servers) -> Iterator[PrivateStack]:
    """Of this file alone: the examples of the library page find a single João."""
    with PrivateStack(tmp_path_factory.mktemp("stack"), servers=servers) as running:
        yield running


@pytest.fixture(scope="module")
def maria(stack: PrivateStack, tmp_path_factory: pytest.TempPathFactory) -> Citizen:
    made = make_citizen(stack, tmp_path_factory.mktemp("maria"), "Maria Conceição Reis")
    enrol(stack, made)
    with made.open() as repository:
        repository.open_session()
    return made


@pytest.fixture(scope="module")
def joao(stack: PrivateStack, tmp_path_factory: pytest.TempPathFactory) -> Citizen:
    made = make_citizen(stack, tmp_path_factory.mktemp("joao"), "João Sá")
    enrol(stack, made)
    return made


# --- doctor -----------------------------------------------------------------------------------------------------------

Examine = Callable[..., dict[str, str]]


@pytest.fixture
def examine(maria: Citizen, monkeypatch: pytest.MonkeyPatch) -> Examine:
    """What is wrong, and what to do about it, under changed settings."""
    monkeypatch.setattr(signers, "SIGNING_PROCESS", faulty_signing_process.MODULE)

    def bad(**changes: object) -> dict[str, str]:
        with maria.open(**changes) as repository:
            found = repository.examine()
        assert all(each.ok != bool(each.action) for each in found)
        return {each.check: f"{each.detail} | {each.action}" for each in found if not each.ok}

    return bad


def test_the_doctor_finds_nothing_where_all_is_well(maria: Citizen, capsys: pytest.CaptureFixture[str]):
    with maria.open() as repository:
        found = repository.examine()
    assert [each for each in found if not each.ok] == []
    assert {"repository answers", "clock agrees with the repository", "state roots", "outbox"} <= {
        each.check for each in found
    }
    view = findings(found)
    view.show(Screen(as_json=False))
    assert capsys.readouterr().out.splitlines()[-1] == "All is well."
    assert view.exit_code is ExitCode.OK
    assert json.loads(json.dumps(view.json))["ok"]


def test_a_finding_says_what_to_do_and_the_program_ends_with_a_failure(
    examine: Examine, maria: Citizen, capsys: pytest.CaptureFixture[str]
):
    view = findings((doctor.Finding("card", False, "no reader\x1b[2J", "Connect a reader."),))
    view.show(Screen(as_json=False))
    shown = capsys.readouterr().out
    assert "    Connect a reader.\n1 of 1 checks failed.\n" in shown
    assert "\x1b" not in shown
    assert view.exit_code is ExitCode.FAILED


def test_no_middleware(examine: Examine):
    found = examine(card=CardSettings(module=Path("/nowhere/libpteidpkcs11.so")))
    assert list(found) == ["card"]
    assert "/nowhere/libpteidpkcs11.so" in found["card"]


def test_no_reader(examine: Examine, maria: Citizen):
    found = examine(card=faults(maria.card.settings, readers="none"))
    assert list(found) == ["card"]
    assert found["card"].startswith("no reader | Connect a reader")


def test_no_card_in_the_reader(examine: Examine, maria: Citizen):
    found = examine(card=dataclasses.replace(maria.card.settings, token_label="of nobody"))
    assert list(found) == ["card"]
    assert "Insert your card" in found["card"]


def test_somebody_elses_card(examine: Examine, joao: Citizen):
    found = examine(card=joao.card.settings)
    assert list(found) == ["your card"]
    assert "smr renew" in found["your card"]


def test_a_locked_pin(examine: Examine, maria: Citizen):
    (found,) = examine(card=faults(maria.card.settings, set=["CKF_USER_PIN_LOCKED"])).values()
    assert found.startswith("PIN locked")


def test_a_clock_that_is_off(examine: Examine):
    found = examine(clock=lambda: system_clock() + 10 * MINUTE_MS)
    assert list(found) == ["clock agrees with the repository"]
    assert found["clock agrees with the repository"].startswith("600 s apart | Set this machine's clock")
    behind = examine(clock=lambda: system_clock() - 2 * MINUTE_MS)
    assert "clock agrees with the repository" in behind


def test_a_card_and_a_descriptor_that_have_run_out(examine: Examine):
    found = examine(clock=lambda: system_clock() + 4000 * DAY_MS)
    assert "Have the card renewed" in found[next(name for name in found if name.endswith("authentication key"))]
    assert "Ask the operator for a current one" in found["descriptor"]
    assert "out of date | Fetch them" in found["revocation lists are current"]


def test_no_trust_roots(examine: Examine, tmp_path: Path):
    found = examine(trust_store=tmp_path / "none")
    assert "0 roots" in found["state roots"]
    assert "smr-pki trust import" in found["state roots"]


def test_a_broker_that_does_not_answer_and_one_that_refuses(
    examine: Examine, maria: Citizen, monkeypatch: pytest.MonkeyPatch
):
    context = doctor.Context
    real = context._broker_settings
    monkeypatch.setattr(context, "_broker_settings", lambda *a: dataclasses.replace(real(*a), port=free_ports(1)[0]))
    assert "Check the network" in examine(reply_seconds=1.0)["repository answers"]
    monkeypatch.setattr(context, "_broker_settings", lambda *a: dataclasses.replace(real(*a), password="another"))
    assert "Ask the operator" in examine()["broker lets this installation in"]


def test_a_repository_without_workers(examine: Examine, stack: PrivateStack):
    for worker in stack.workers:
        worker.suspend()
    try:
        assert "Check the network" in examine(reply_seconds=1.0)["repository answers"]
    finally:
        for worker in stack.workers:
            worker.resume()


def test_what_others_may_read(examine: Examine, maria: Citizen):
    people = maria.settings.home / "people.json"
    mode = people.stat().st_mode
    people.chmod(0o644)
    try:
        found = examine()
    finally:
        people.chmod(mode)
    assert list(found) == ["home is private"]
    assert str(people) in found["home is private"]


def test_a_command_that_waits_and_an_alarm_that_is_kept(examine: Examine, maria: Citizen, joao: Citizen):
    home = maria.context().home
    with maria.open() as repository:
        me = repository.show_session()
    assert me is not None
    path = home.raise_alarm(Alarm("It shows less.", system_clock(), me.user, b"", b"", b""), "test")
    broken = home.outbox / "folder" / "command"
    files.write(broken, b"no command")
    try:
        found = examine()
    finally:
        path.unlink()
        broken.unlink()
        broken.parent.rmdir()
    assert "smr proof" in found["no contradictions of the repository"]
    assert "damaged" in found["outbox"]


def test_an_answer_that_is_not_there_yet(examine: Examine, maria: Citizen, stack: PrivateStack):
    for worker in stack.workers:
        worker.suspend()
    try:
        with maria.open(reply_seconds=1.0) as repository, pytest.raises(Exception, match="no answer"):
            repository.block(28 * "ab")
        found = examine(reply_seconds=1.0)
    finally:
        for worker in stack.workers:
            worker.resume()
    with maria.open() as repository:
        repository.blocked()
    assert "without an answer yet: BLOCK | They are sent again" in found["outbox"]


def test_without_a_session_the_passphrase_opens_the_keystore(examine: Examine, tmp_path: Path):
    assert examine(memory=None) == {}

    def wrong(_purpose: str) -> str:
        raise WrongPassphrase("The keystore does not open.", action="Try again.")

    assert examine(memory=None, passphrase=wrong) == {"keystore opens": "The keystore does not open. | Try again."}


def test_a_home_that_is_not_set_up(maria: Citizen, tmp_path: Path):
    settings: Settings = dataclasses.replace(maria.settings, home=tmp_path / "none", trust_store=tmp_path / "none")
    with Citizen("", maria.card, settings).open() as repository:
        found = {each.check: each.action for each in repository.examine() if not each.ok}
    assert "smr init --descriptor" in found["installation"]


# --- watch ------------------------------------------------------------------------------------------------------------

PATIENCE = 60.0


@pytest.fixture(scope="module")
def known(maria: Citizen, joao: Citizen) -> tuple[str, str]:
    """The ids of Maria and João, who have confirmed each other."""
    ids = user_id(maria), user_id(joao)
    for citizen, other in ((maria, ids[1]), (joao, ids[0])):
        with citizen.open() as repository:
            repository.confirm(other, lambda _: True)
    return ids


def write_to(citizen: Citizen, who: str, subject: str) -> Sent:
    with citizen.open() as repository:
        return repository.send([who], b"Bom dia.", subject=subject)


def test_a_hint_brings_a_letter_at_once(maria, joao, known, monkeypatch):
    monkeypatch.setattr(watch, "LOOK_SECONDS_MAX", 3600.0)
    monkeypatch.setattr(watch, "BEGUN_SECONDS", 3600.0)
    seen: queue.Queue[watch.Arrival] = queue.Queue()
    ended = threading.Event()

    def look() -> None:
        with maria.open() as repository:
            for each in repository.watch(PATIENCE, stopped=ended.is_set):
                seen.put(each)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    sent = []
    try:
        for number in range(20):  # a worker may not know of the watch before two seconds are over
            sent.append(write_to(joao, known[0], f"Carta {number}").letter_id)
            with contextlib.suppress(queue.Empty):
                found = seen.get(timeout=3.0)
                break
    finally:
        ended.set()
        looking.join(PATIENCE)
    assert not looking.is_alive()
    assert found.kind == "letter"
    assert found.good
    assert found.letter is not None
    assert found.letter.author_name == "João Sá"
    assert found.letter_id in sent


def test_without_hints_it_comes_with_the_next_look(maria, joao, known, stack, monkeypatch):
    monkeypatch.setattr(watch, "LOOK_SECONDS_MAX", 0.5)
    with maria.open() as repository:
        arrivals = repository.watch(PATIENCE)
        watches = MongoClient(stack.mongo_url)[stack.database]["watches"]
        with contextlib.closing(watches.database.client):
            assert watches.delete_many({"mailbox": bytes.fromhex(known[0])}).deleted_count
            sent = write_to(joao, known[0], "Sem aviso")
            assert next(arrivals).letter_id == sent.letter_id


def test_a_lost_connection_is_opened_again_and_what_came_meanwhile_is_shown(maria, joao, known, monkeypatch):
    troubles: list[ClientError] = []
    with maria.open() as repository:
        arrivals = repository.watch(PATIENCE, trouble=troubles.append)
        transport = repository._context._transport
        assert transport is not None
        queue_before = transport.reply_queue
        transport.close()
        sent = write_to(joao, known[0], "Entretanto")
        assert next(arrivals).letter_id == sent.letter_id
        assert transport.reply_queue != queue_before
    with maria.open() as repository:
        arrivals = repository.watch(PATIENCE, trouble=troubles.append)
        transport = repository._context._transport
        assert transport is not None
        real = transport.await_hint

        def lost(seconds: float) -> bool:
            transport.close()
            transport.await_hint = real
            return real(seconds)

        transport.await_hint = lost
        monkeypatch.setattr(watch, "PAUSES_SECONDS", (0.1,))
        sent = write_to(joao, known[0], "Outra vez")
        assert next(arrivals).letter_id == sent.letter_id


def test_receipts_and_the_acceptance_of_own_letters_are_shown(maria, joao, known, monkeypatch):
    monkeypatch.setattr(watch, "LOOK_SECONDS_MAX", 1.0)
    with maria.open() as repository:
        arrivals = repository.watch(PATIENCE)
        sent = write_to(maria, known[1], "Ata")
        accepted = next(arrivals)
        with joao.open() as other:
            other.read(sent.letter_id)
            other.send_receipt(sent.letter_id)
        receipt = next(arrivals)
    assert (accepted.kind, accepted.letter_id, accepted.good) == ("sent", sent.letter_id, True)
    assert (receipt.kind, receipt.letter_id, receipt.good) == ("receipt", sent.letter_id, True)
    assert receipt.receipt is not None
    assert receipt.receipt.reader_name == "João Sá"


def test_hints_by_the_thousand_make_one_look_a_second(maria, known, stack, monkeypatch):
    looks = []
    real = watch._Watch._look
    monkeypatch.setattr(watch._Watch, "_look", lambda self: looks.append(1) or real(self))
    with maria.open() as repository, connect(stack.administrator()) as connection:
        arrivals = repository.watch(3.0)
        target = repository._context._transport.reply_queue
        channel = connection.channel()
        flooding = threading.Thread(target=list, args=(arrivals,), daemon=True)
        flooding.start()
        while flooding.is_alive():
            for _ in range(50):
                channel.basic_publish("", target, b"")
            connection.process_data_events(time_limit=0.05)
    assert 2 <= len(looks) <= 6


def test_watches_end_with_their_time_and_their_session_and_are_few(maria, known, stack):
    me = bytes.fromhex(known[0])
    with maria.open() as repository, contextlib.closing(stack.storage()) as storage:
        live = require(repository._context)
        context = repository._context
        context.call(live, commands.Watch())
        now = system_clock()
        assert storage.watches(now)[me]
        assert me not in storage.watches(now + limits.WATCH_MS + limits.MINUTE_MS)
        for number in range(3 * PLACES):
            used = CounterRecord(live.session, 1, bytes(32), now)
            effect = SetWatch(me, live.session, f"smr.reply.{number}", now + limits.MINUTE_MS)
            storage.commit(Change(effect, used))
        assert len(storage.watches(now)[me]) <= 2 * PLACES
        repository.close_session()
        assert live.session not in {
            bytes(each["session"]) for each in storage._database["watches"].find({}, {"session": 1})
        }
        repository.open_session()


def program(citizen: Citizen, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`smr` as a program, in this citizen's home."""
    for name, text in (("passphrase", PASSPHRASE), ("pin", PIN)):
        (folder / name).write_text(text, encoding="utf-8")
    environment = {
        **os.environ,
        "SMR_HOME": str(citizen.settings.home),
        "SMR_PASSPHRASE_FILE": str(folder / "passphrase"),
        "SMR_PIN_FILE": str(folder / "pin"),
        "SMR_PKCS11_MODULE": str(citizen.card.settings.module),
        "SMR_ALLOW_PRIVATE_CRL_HOSTS": "1",
        "XDG_RUNTIME_DIR": str(folder),
        **citizen.card.settings.environment,
    }
    command = [sys.executable, "-m", "client", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_program_runs_a_command_for_each_and_ends_with_the_interrupt(maria, joao, known, tmp_path):
    told = tmp_path / "told"
    script = tmp_path / "tell.py"
    script.write_text(
        "import json, os, sys\n"
        f"with open({str(told)!r}, 'a') as file:\n"
        "    file.write(json.dumps([sys.argv[1:], os.environ['SMR_KIND'], json.load(sys.stdin)]) + chr(10))\n"
        "sys.exit(3)\n"
    )
    hostile = "$(touch /tmp/pwned) `id` ; \u202e[bold]"
    with program(maria, tmp_path, "watch", "--json", "--exec", f"{sys.executable} {script} 'a b'") as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert "Watching" in running.stderr.readline()
        began = time.monotonic()
        sent = write_to(joao, known[0], hostile)  # before every worker knows of the watch
        shown = json.loads(running.stdout.readline())
        assert time.monotonic() - began < watch.LOOK_SECONDS_MAX
        write_to(joao, known[0], "a seguir")
        following = json.loads(running.stdout.readline())
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE) == 0
        assert "ended with 3" in running.stderr.read()
    assert shown["letter"]["subject"] == hostile
    assert following["letter"]["subject"] == "a seguir"
    first = json.loads(told.read_text().splitlines()[0])
    assert first == [["a b"], "letter", shown]
    assert first[2]["letter_id"] == sent.letter_id


@pytest.mark.parametrize("command", ["no-such-program-here", "'open quote", ""])
def test_a_command_that_cannot_be_run_is_refused_at_once(maria, tmp_path, command):
    with program(maria, tmp_path, "watch", "--exec", command) as running:
        assert running.wait(PATIENCE) == ExitCode.USAGE


# --- conversations ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bruno(stack: PrivateStack, known, maria, tmp_path_factory: pytest.TempPathFactory) -> Citizen:
    made = make_citizen(stack, tmp_path_factory.mktemp("bruno"), "Bruno Antunes")
    enrol(stack, made)
    with maria.open() as repository:
        repository.confirm(user_id(made), lambda _: True)
    return made


def test_answers_name_what_they_answer_and_go_to_whom_they_should(maria, joao, bruno, known):
    with maria.open() as repository:
        first = repository.send([known[1], user_id(bruno)], b"Quando?", subject="Ata")
    with joao.open() as repository:
        answer = repository.reply(first.letter_id, b"Hoje.")
        assert [each.user.hex() for each in answer.to] == [known[0]]
        to_all = repository.reply(first.letter_id, b"Hoje!", everybody=True, subject="Hoje")
        assert {each.user.hex() for each in to_all.to} == {known[0], user_id(bruno)}
    with maria.open() as repository:
        again = repository.reply(answer.letter_id, b"Certo.")
        found = repository.thread(first.letter_id)
        # Each recipient has an own receipt.
        assert {each.reader.hex() for each in repository.status(first.letter_id).receipts} == {
            known[1],
            user_id(bruno),
        }
        assert repository.thread(again.letter_id) == found
    shown = [(each.letter.letter_id, each.letter.subject, each.depth, each.gap) for each in found]
    assert shown == [
        (first.letter_id, "Ata", 0, False),
        (answer.letter_id, "Re: Ata", 1, False),
        (again.letter_id, "Re: Ata", 2, False),
        (to_all.letter_id, "Hoje", 1, False),
    ]
    own = views_of(found)
    assert "    " + found[2].letter.name in own
    with bruno.open() as repository:
        own_letter = repository.reply(first.letter_id, b"Amanha.")
        assert [each.letter.letter_id for each in repository.thread(own_letter.letter_id)] == [
            first.letter_id,
            to_all.letter_id,
            own_letter.letter_id,
        ]


def views_of(found) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        thread_view(found).show(Screen(as_json=False))
    return out.getvalue()


def test_a_conversation_holds_together_where_a_letter_is_missing(maria, joao, bruno, known):
    with maria.open() as repository:
        first = repository.send([known[1]], b"1", subject="Entre nos")
    with joao.open() as repository:
        second = repository.reply(first.letter_id, b"2")
    with maria.open() as repository:
        found = box.judged_head(
            repository._context,
            require(repository._context),
            own := mailbox.own_mailbox(repository._context, require(repository._context)),
            naming.find_letter(own, second.letter_id),
        )
        head, _ = found.require()
        references = (*head.letter.references, head.signed.digest)
        third = send.send(repository._context, [user_id(bruno)], b"3", "Para ti", references=references)
        assert len(repository.thread(third.letter_id)) == 3
    with bruno.open() as repository:
        (alone,) = repository.thread(third.letter_id)
    assert alone.gap
    assert "(answers a letter that is not here)" in views_of((alone,))


def test_an_answer_to_an_own_letter_goes_to_its_readers_and_references_are_bounded(maria, known):
    with maria.open() as repository:
        first = repository.send([known[1]], b"1", subject="re: ata")
        second = repository.reply(first.letter_id, b"2")
        assert [each.user.hex() for each in second.to] == [known[1]]
        assert repository.thread(second.letter_id)[1].letter.subject == "re: ata"
        many = [bytes([number]) * 32 for number in range(REFERENCES + 1)]
        with pytest.raises(TooLarge), boundary():
            send.send(repository._context, [known[1]], b"3", references=many)
        with pytest.raises(NotFound):
            repository.reply("aaaa2222", b"4")


# --- docs/LIBRARY.md --------------------------------------------------------------------------------------------------

LIBRARY = Path(__file__).parents[2] / "docs" / "LIBRARY.md"


def test_the_examples_of_the_library_page_do_what_they_say(stack, joao, known, tmp_path_factory, capsys):
    ana = make_citizen(stack, tmp_path_factory.mktemp("ana"), "Ana Ferreira")
    enrol(stack, ana)
    with joao.open() as repository:
        repository.confirm(user_id(ana), lambda _: True)
        repository.send([user_id(ana)], b"Bom dia.", subject="Para ler")
    page = LIBRARY.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 8
    names = {
        "home": ana.settings.home,
        "card": ana.card.settings,
        "ask_passphrase": ana.settings.passphrase,
        "ask_pin": ana.settings.pin,
    }
    ended = threading.Event()

    def answer() -> None:
        while not ended.wait(2.0):
            write_to(joao, user_id(ana), "A seguir")

    writing = threading.Thread(target=answer, daemon=True)
    try:
        for number, block in enumerate(blocks):
            if "repository.watch" in block:
                writing.start()
            line = page[: page.index(block)].count("\n")
            exec(compile("\n" * line + block, str(LIBRARY), "exec"), names)
            if number == 0:
                # Revocation lists of the tests are on this machine, which real ones never are.
                names["settings"] = dataclasses.replace(
                    names["settings"], allow_private_crl_hosts=True, memory=ana.settings.memory
                )
    finally:
        ended.set()
        if writing.ident is not None:
            writing.join(PATIENCE)
    shown = capsys.readouterr().out
    expected = (
        "open for",
        "accepted at",
        "João Sá Para ler Bom dia.",
        "from João Sá A seguir",
        "Re: A seguir",
        "smr list",
    )
    for wanted in expected:
        assert wanted in shown, shown
