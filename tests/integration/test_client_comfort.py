"""What makes the client comfortable, against a whole private repository."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker_config.private_process import free_ports
from client.cli.screen import Screen
from client.cli.views import findings
from client.commands import doctor
from client.errors import ExitCode, WrongPassphrase
from client.settings import Settings, system_clock
from client.state import files
from client.state.home import Alarm
from crypto_core.limits import DAY_MS, MINUTE_MS
from pki import signers
from pki.signers import CardSettings
from repository_worker.stack import PrivateStack
from tests.support import faulty_signing_process
from tests.support.faulty_signing_process import faults
from tests.support.library import Citizen, enrol, make_citizen

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateStack]:
    with PrivateStack(tmp_path_factory.mktemp("stack")) as running:
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
