"""An installation comes in, is cut off and let in again, by the programs that operator and citizen use."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from broker_config import names
from repository_worker.stack import PrivateStack, Servers
from tests.integration.test_client_program import Person
from tests.support import programs

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def stack(tmp_path_factory, servers: Servers) -> Iterator[PrivateStack]:
    with PrivateStack(tmp_path_factory.mktemp("stack"), workers=1, own_accounts=True, servers=servers) as running:
        yield running


@pytest.fixture(scope="module")
def operator(stack):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return programs.run_for_text("repository_worker.cli", "clients", *arguments, env=stack.environment())

    return run


def asked(operator, *arguments: str) -> Any:
    done = operator(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def listed(operator, installation: str) -> Any:
    """What the list of all installations says of this one; other files enrol some at the same broker."""
    (shown,) = [each for each in asked(operator, "list")["clients"] if each["installation"] == installation]
    return shown


@pytest.fixture(scope="module")
def maria(stack, tmp_path_factory) -> Person:
    folder = tmp_path_factory.mktemp("maria")
    person = Person(stack, folder, "Maria Conceição Reis")
    made = person.json("init", "--descriptor", str(stack.descriptor_path), "--root-fingerprint", stack.root_fingerprint)
    person.id = made["installation"]
    return person


def test_from_the_first_step_to_being_cut_off_and_back(operator, maria, tmp_path):
    refused = maria.json("register", code=4)
    assert maria.id in refused["error"]["action"]  # what the operator has to be told
    file = tmp_path / "maria.json"
    assert asked(operator, "enrol", maria.id, "--output", str(file))["account"] == f"smr-client-{maria.id}"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert operator("enrol", maria.id, "--output", str(file)).returncode == 1  # it is never written over

    assert maria.json("init", "--enrolment", str(file))["installation"] == maria.id
    assert maria.json("register")["revision"] == 1
    assert maria.json("list")["letters"] == []
    password = json.loads(file.read_text())["password"].encode()
    assert not [path for path in maria.home.rglob("*") if path.is_file() and password in path.read_bytes()]

    asked(operator, "block", maria.id, "--why", "a test")
    refused = maria.json("list", code=4)
    assert password.decode() not in json.dumps(refused)
    shown = listed(operator, maria.id)
    assert shown["blocked"]["why"] == "a test"
    asked(operator, "unblock", maria.id)
    assert maria.json("list")["letters"] == []
    shown = listed(operator, maria.id)
    assert shown["blocked"] is None
    assert shown["enrolled"] is not None


def test_a_new_password_ends_the_old_one_and_reaches_an_open_session(operator, maria, tmp_path):
    asked(operator, "enrol", maria.id, "--output", str(tmp_path / "again.json"))
    maria.json("list", code=4)
    maria.json("init", "--enrolment", str(tmp_path / "again.json"))
    assert maria.json("list", SMR_PIN_FILE="/nonexistent")["letters"] == []


def test_the_file_of_another_installation_is_refused(stack, operator, maria, tmp_path):
    other = names.installation_of(bytes(32))
    (tmp_path / "other.json").write_bytes(stack.enrol(other))
    assert maria.id in maria.json("init", "--enrolment", str(tmp_path / "other.json"), code=2)["error"]["action"]


@pytest.mark.parametrize("arguments", [("enrol", "nobody"), ("block", "A" * 26), ("unblock", "b" * 26)])
def test_who_is_no_installation_or_not_enrolled_is_refused(operator, arguments):
    assert operator(*arguments).returncode != 0


def test_without_the_management_credential_nothing_is_done(stack, maria):
    environment = {name: value for name, value in stack.environment().items() if "MANAGEMENT" not in name}
    done = programs.run_for_text("repository_worker.cli", "clients", "list", env=environment)
    assert done.returncode == 1
    assert "SMR_REPOSITORY_MANAGEMENT_URL_FILE" in done.stderr


@pytest.mark.parametrize("options", [(), ("--descriptor", "a", "--enrolment", "b")], ids=["neither", "both"])
def test_init_takes_one_step_at_a_time(maria, options):
    maria.json("init", *options, code=2)
