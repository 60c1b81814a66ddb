"""`smr-repository` as its operator meets it: init, run, descriptor, dev."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from broker_config import names
from broker_config.connection import connect as connect_broker
from broker_config.connection import parse_amqp_url
from broker_config.private_process import StartFailed
from crypto_core.ids import Milliseconds
from pki.test_ca import TestCa
from repository_worker.keys import Home
from repository_worker.stack import WorkerProcess
from tests.support.operator import INIT, initialised
from tests.support.wire import Citizen, Wire, now_ms

WAIT_SECONDS = 40


class TestInit:
    def test_makes_everything_and_says_what_to_publish(self, operator):
        made = initialised(operator)
        found, root = operator.home.descriptor(now_ms())
        assert made["repository_id"] == found.repository
        assert made["root_fingerprint"] == root

    def test_again_harms_nothing(self, operator):
        assert initialised(operator) == initialised(operator)

    def test_for_people(self, operator):
        done = operator(*INIT)
        assert "root fingerprint" in done.stdout

    def test_an_address_that_is_none(self, operator):
        done = operator(*INIT[:-1], "http://127.0.0.1", "--json")
        assert done.returncode == 1
        assert "amqps://" in json.loads(done.stdout)["error"]["message"]
        assert not operator.home.exists


class TestOnWord:
    """A worker that imports while its servers start, and begins when it is told to."""

    def test_it_ends_in_peace_when_nobody_is_there_to_say_it(self, operator):
        done = operator("run", "--on-word")  # standard input is at its end
        assert (done.returncode, done.stderr) == (0, "")

    def test_it_looks_for_its_repository_only_then(self, operator, tmp_path):
        worker = WorkerProcess(operator.environment, tmp_path / "log", on_word=True)
        try:
            worker.begin()
            with pytest.raises(StartFailed, match="init"):
                worker.wait_ready()
        finally:
            worker.stop()

    def test_it_is_stopped_while_it_waits(self, operator, tmp_path):
        worker = WorkerProcess(operator.environment, tmp_path / "log", on_word=True)
        worker.stop()
        assert not worker.running

    def test_one_that_does_not_wait_takes_no_word(self, operator, tmp_path):
        worker = WorkerProcess(operator.environment, tmp_path / "log")
        try:
            with pytest.raises(StartFailed, match="does not wait"):
                worker.begin()
        finally:
            worker.stop()


class TestErrors:
    def test_without_a_repository(self, operator):
        done = operator("run")
        assert done.returncode == 1
        assert "init" in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_wrong_passphrase(self, operator, tmp_path):
        initialised(operator)
        (tmp_path / "other").write_text("another")
        done = operator("run", SMR_PASSPHRASE_FILE=str(tmp_path / "other"))
        assert done.returncode == 1
        assert "passphrase" in done.stderr
        assert "another" not in done.stderr

    def test_a_setting_that_cannot_be_right(self, operator):
        done = operator("run", SMR_REPOSITORY_THREADS="many")
        assert done.returncode == 1
        assert "threads" in done.stderr

    def test_a_database_address_is_not_repeated(self, operator):
        done = operator(*INIT, SMR_REPOSITORY_MONGO_URL="mongodb://u:secret@:x")
        assert done.returncode == 1
        assert "secret" not in done.stdout + done.stderr


class TestDescriptor:
    def test_shown_and_exported(self, operator, tmp_path):
        made = initialised(operator)
        shown = operator("descriptor", "--export", str(tmp_path / "d.cose"), "--json")
        assert json.loads(shown.stdout) == made
        assert (tmp_path / "d.cose").read_bytes() == operator.home.signed_descriptor()

    def test_issued_anew(self, operator):
        made = initialised(operator)
        anew = json.loads(operator("descriptor", "--reissue", "--new-keys", "--json").stdout)
        assert anew["epoch"] == made["epoch"] + 1
        assert anew["repository_id"] == made["repository_id"]

    def test_changes_need_to_be_asked_for(self, operator):
        initialised(operator)
        assert operator("descriptor", "--new-keys").returncode == 2


def consumers(vhost) -> int:
    with connect_broker(vhost.administrator()) as connection:
        found = connection.channel().queue_declare(names.COMMANDS_QUEUE, passive=True)
    return int(found.method.consumer_count)


def wait_until(check, what):
    deadline = time.monotonic() + WAIT_SECONDS
    while not check():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class TestRun:
    @pytest.fixture
    def team(self, operator):
        initialised(operator)
        command = [sys.executable, "-m", "repository_worker", "run", "--processes", "2"]
        process = subprocess.Popen(command, env=operator.environment, stderr=subprocess.PIPE)
        yield process
        if process.poll() is None:
            process.kill()
        process.wait(WAIT_SECONDS)
        process.stderr.close()

    def test_a_worker_that_is_killed_is_replaced_and_all_end_together(self, team, vhost):
        wait_until(lambda: consumers(vhost) == 2, "that two workers consume")
        first = children(team.pid)
        os.kill(first[0], signal.SIGKILL)
        wait_until(
            lambda: first[0] not in children(team.pid) and len(children(team.pid)) == 2 and consumers(vhost) == 2,
            "that it was replaced",
        )
        team.send_signal(signal.SIGTERM)
        assert team.wait(WAIT_SECONDS) == 0
        wait_until(lambda: consumers(vhost) == 0, "that all workers ended")

    def test_workers_do_not_outlive_their_program(self, team, vhost):
        wait_until(lambda: consumers(vhost) == 2, "that two workers consume")
        team.kill()
        wait_until(lambda: consumers(vhost) == 0, "that all workers ended")


def test_dev_is_a_whole_stack_that_leaves_nothing(tmp_path):
    command = [sys.executable, "-m", "repository_worker", "dev", "--folder", str(tmp_path / "dev"), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    try:
        facts = json.loads(process.stdout.readline())
        home = Home(tmp_path / "dev" / "repository")
        descriptor, root = home.descriptor(Milliseconds(now_ms()))
        assert facts["root_fingerprint"] == root
        passphrase = (tmp_path / "dev" / "passphrase").read_text()
        ca = TestCa.open(tmp_path / "dev" / "ca", passphrase)
        citizen = Citizen.issued(ca, "Maria Conceição Reis")
        with Wire(parse_amqp_url(descriptor.broker), descriptor) as wire:
            assert wire.register(citizen).user == citizen.user
        doctor = f"{facts['operate'].rpartition(';')[0]}; {sys.executable} -m repository_worker doctor"
        said = subprocess.run(["sh", "-c", doctor], capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)
        assert "All is well." in said.stdout, said.stdout + said.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_SECONDS) == 0
        assert not [pid for pid in facts["worker_pids"] if alive(pid)]
        assert not still_using(tmp_path / "dev")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(WAIT_SECONDS)
        process.stdout.close()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def still_using(folder) -> list[str]:
    """Command lines of processes that name the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
                if str(folder) in line:
                    found.append(line)
    return found
