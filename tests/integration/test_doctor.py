"""The doctor finds what was broken here on purpose, and nothing where all is well."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from broker_config import names
from broker_config.connection import connect as connect_broker
from broker_config.permissions import Permissions, worker_permissions
from broker_config.private_process import free_ports
from repository_worker.doctor import CLOCK_SECONDS, Doctor
from repository_worker.settings import PREFIX, Settings
from repository_worker.stack import PrivateStack
from repository_worker.storage.driver import connect
from tests.support import programs

PATIENCE_SECONDS = 30.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory, servers):
    port = free_ports(1)[0]
    settings = {f"{PREFIX}METRICS_PORT": str(port)}
    with PrivateStack(tmp_path_factory.mktemp("stack"), workers=1, settings=settings, servers=servers) as running:
        running.metrics_port = port
        yield running


@pytest.fixture
def examine(stack, monkeypatch):
    for name, value in stack.environment().items():
        if name.startswith(PREFIX):
            monkeypatch.setenv(name, value)

    def bad(**changes) -> dict[str, str]:
        findings = Doctor(Settings(**changes)).examine()
        assert all(each.ok or each.action for each in findings)
        return {each.check: each.detail for each in findings if not each.ok}

    return bad


def run_doctor(stack, *arguments):
    return programs.run_for_text("repository_worker.cli", "doctor", *arguments, env=stack.environment())


def test_all_is_well(stack):
    done = run_doctor(stack)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "All is well."
    seen = json.loads(run_doctor(stack, "--json").stdout)
    assert seen["ok"]
    assert len(seen["checks"]) >= 15
    assert "password" not in done.stdout


def test_no_broker_and_no_database(examine, stack):
    port = free_ports(1)[0]
    found = examine(
        broker_url_file=None,
        broker_url=f"amqp://u:secret-word@127.0.0.1:{port}/smr",
        mongo_url_file=None,
        mongo_url=f"mongodb://127.0.0.1:{port}/?replicaSet=smr",
    )
    assert {"broker answers", "database answers"} <= found.keys()
    assert "secret-word" not in str(found)


def test_a_workers_account_that_may_too_much(examine, stack):
    administration = stack.broker.administration()
    administration.permit("smr-worker", stack.vhost, Permissions(".*", ".*", ".*"))
    try:
        (detail,) = examine().values()
        assert detail == "it may also declare queues, read dead letters, publish commands"
    finally:
        administration.permit("smr-worker", stack.vhost, worker_permissions())


def test_a_workers_account_that_cannot_hear_others(examine, stack):
    administration = stack.broker.administration()
    administration.permit("smr-worker", stack.vhost, replace(worker_permissions(), configure="^$"))
    try:
        assert examine() == {"workers hear where mailboxes end": "each letter costs a query more"}
    finally:
        administration.permit("smr-worker", stack.vhost, worker_permissions())


def test_a_queue_with_other_settings_and_one_that_is_gone(examine, stack):
    with connect_broker(stack.administrator()) as connection:
        channel = connection.channel()
        channel.queue_delete(names.DEAD_LETTER_QUEUE)
        assert {"queues", "topology as declared"} <= examine().keys()
        channel.queue_declare(names.DEAD_LETTER_QUEUE, durable=True)
        assert "topology as declared" in examine()
        channel.queue_delete(names.DEAD_LETTER_QUEUE)
    stack.broker.set_up(stack.vhost)
    assert examine() == {}


def test_an_index_that_is_gone(examine, stack):
    with connect(stack.mongo_url) as client:
        client[stack.database].accepted.drop_index("unread")
    assert examine() == {"collections, indexes and validators": "missing or different: index unread of accepted"}
    storage = stack.storage()
    storage.prepare()
    storage.close()


def test_a_schema_of_another_release(examine, stack):
    with connect(stack.mongo_url) as client:
        stamps = client[stack.database].schema
        stamps.update_one({"_id": "version"}, {"$inc": {"version": 7}})
        assert list(examine()) == ["schema is served by this release"]
        stamps.update_one({"_id": "version"}, {"$inc": {"version": -7}})


def test_a_clock_that_is_wrong(examine, monkeypatch):
    monkeypatch.setattr("repository_worker.doctor.CLOCK_SECONDS", -CLOCK_SECONDS)
    assert "clock agrees with the database" in examine()


def test_no_keys_no_descriptor_no_roots(examine, tmp_path):
    assert examine(home=tmp_path / "nothing").keys() == {"keys", "descriptor", "state roots"}


def test_keys_that_others_can_read(examine, stack):
    stack.home.folder.chmod(0o755)
    try:
        assert examine().keys() == {"keys are private"}
    finally:
        stack.home.folder.chmod(0o700)


def ask(port: int, path: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode()


def test_a_worker_tells_its_health_and_what_it_sees(stack):
    assert json.loads(ask(stack.metrics_port, "/ready")) == {"ready": True, "consuming": True, "database": True}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "smr_observed_timestamp_seconds 0.0" in (text := ask(stack.metrics_port, "/metrics")):
        assert time.monotonic() < deadline, "nothing was observed"
        time.sleep(0.05)
    for line in ("smr_dead_letters 0.0", "smr_queue_messages 0.0", "smr_sessions 0.0"):
        assert line in text


def test_a_worker_refuses_a_database_of_a_later_release(stack, tmp_path: Path):
    environment = {**stack.environment(), f"{PREFIX}MONGO_DATABASE": "later", f"{PREFIX}METRICS_PORT": "0"}
    with connect(stack.mongo_url) as client:
        client.later.schema.insert_one({"_id": "version", "version": 3})
    command = [sys.executable, "-m", "repository_worker", "run"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "a newer release" in done.stderr
    with connect(stack.mongo_url) as client:
        client.drop_database("later")
