"""docker-compose.yml as an operator starts it: two citizens use it from outside while it is scaled, updated, restarted.

The tests are acts of one play on one system, in the order of this file.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from broker_config.connection import connect, parse_amqp_url
from broker_config.errors import BrokerError, BrokerRefused
from crypto_core.keys import SigningKey
from tests.stack.flood import account
from tests.stack.people import People
from tests.stack.system import System, program
from tests.support.containers.engine import ROOT, Engine
from tests.support.containers.images import Images
from tests.support.flood import FLOOD_SECONDS, Flood

pytestmark = pytest.mark.timeout(1200)  # the first test makes the images, where they are missing

#: The panel of what has not happened in this play.
MAY_BE_EMPTY = {"Refused and rejected"}
UNAUTHORIZED = 13  #: MongoDB's code
NOT_SECRET = ("ca.pem", "broker.pem", "broker-definitions.json")

# What a worker that was broken into would try at the database, with the account that it has.
AT_THE_DATABASE = """
import pymongo, pathlib
url = pathlib.Path("/run/secrets/mongo-url").read_text()
client = pymongo.MongoClient(url)
stranger = pymongo.MongoClient("mongodb://mongo:27017/?replicaSet=smr&tls=true&tlsCAFile=/run/secrets/ca.pem")
def code(work):
    try:
        work()
    except pymongo.errors.OperationFailure as error:
        return error.code
    return 0
print(code(lambda: client["smr"]["letters"].find_one()))
print(code(lambda: client.drop_database("smr")))
print(code(lambda: client.admin.command("createUser", "x", pwd="x", roles=["root"])))
print(code(lambda: client["admin"]["system.users"].find_one()))
print(code(lambda: client["other"]["x"].insert_one({})))
print(code(lambda: stranger["smr"]["letters"].find_one()))
"""


@pytest.fixture(scope="module")
def system(engine: Engine, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(engine, images, tmp_path_factory.mktemp("system")) as running:
        running.trust_the_state()
        print(f"\nhealthy after {running.up():.1f} s")
        running.up("--no-deps", "prometheus")
        yield running


@pytest.fixture(scope="module")
def people(system: System) -> People:
    return People.registered(system)


def test_a_letter_and_its_receipt(system: System, people: People, tmp_path: Path) -> None:
    assert len(system.containers("worker")) == 2
    people.read(people.send(tmp_path))


@pytest.mark.parametrize("workers", [4, 1])
def test_with_more_and_with_fewer_workers(system: System, people: People, tmp_path: Path, workers: int) -> None:
    system.up("--no-deps", "--no-recreate", "--scale", f"worker={workers}", "worker")
    assert len(system.containers("worker")) == workers
    people.read(people.send(tmp_path))


def test_while_the_workers_image_is_replaced(
    system: System, people: People, images: dict[str, str], engine: Engine, tmp_path: Path
) -> None:
    image = Images(engine).relabelled(images["SMR_IMAGE"], "smr-stack/worker:next")
    sent: list[str] = []
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            sent.append(people.send(tmp_path))

    with ThreadPoolExecutor(1) as crew:
        writing = crew.submit(write)
        try:
            system.replace_workers(image)
            before = len(sent)
            deadline = time.monotonic() + 60
            while len(sent) <= before and not writing.done():  # one more, by the new ones alone
                assert time.monotonic() < deadline
                time.sleep(0.1)
        finally:
            over.set()
        writing.result()
    assert {each["Config"]["Image"] for each in system.containers("worker")} == {image}
    print(f"{len(sent)} letters while workers were replaced")
    people.read(sent[0])
    people.read(sent[-1])


# --- what somebody finds who looks or breaks in -----------------------------------------------------------------------


def secrets_of(folder: Path) -> set[str]:
    """Every secret: whole files, and the passwords in addresses."""
    found = set()
    for each in folder.iterdir():
        if each.name not in NOT_SECRET:
            text = each.read_text()
            found |= {line for line in text.splitlines() if len(line) > 20 and not line.startswith("-----")}
            if "://" in text:
                found.add(text.split("@")[0].rsplit(":", 1)[1])
    accounts = json.loads((folder / "database-accounts.json").read_text())["accounts"]
    return found | set(accounts.values())


def test_no_secret_is_in_what_the_engine_tells(system: System, engine: Engine, people: People) -> None:
    secrets = secrets_of(system.secrets)
    assert len(secrets) > 20
    containers = system.containers()
    told = {
        "containers": json.dumps(containers),
        "images": json.dumps(engine.inspect(*{each["Image"] for each in containers})),
        "logs": system.compose("logs", "--no-color"),
        "configuration": system.compose("config"),
        "history": engine.run("history", "--no-trunc", system.environment["SMR_IMAGE"]),
    }
    assert "Server startup complete" in told["logs"]
    assert {name for name, text in told.items() if any(secret in text for secret in secrets)} == set()


def test_amqps_on_this_machine_alone_is_published(system: System) -> None:
    published = {
        (port, each["HostIp"], each["HostPort"])
        for container in system.containers()
        for port, bindings in container["NetworkSettings"]["Ports"].items()
        for each in bindings or ()
    }
    assert published == {("5671/tcp", "127.0.0.1", str(system.port))}


def test_the_published_port_speaks_tls_alone_and_no_old_one(system: System) -> None:
    with pytest.raises(BrokerError):
        connect(parse_amqp_url(f"amqp://guest:guest@localhost:{system.port}/smr"), attempts=1).close()
    with pytest.raises(BrokerRefused, match="not to be trusted"):
        connect(parse_amqp_url(f"amqps://guest:guest@localhost:{system.port}/smr"), attempts=1).close()
    words = ("-connect", f"localhost:{system.port}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    old = subprocess.run(["openssl", "s_client", *words], input=b"", capture_output=True, timeout=30, check=False)
    assert old.returncode != 0
    assert b"protocol version" in old.stderr


def test_the_account_that_rabbitmq_invents_is_not_there(system: System) -> None:
    url = f"amqps://guest:guest@localhost:{system.port}/smr?ca={system.secrets}/ca.pem"
    with pytest.raises(BrokerRefused, match="does not know the account"):
        connect(parse_amqp_url(url), attempts=1).close()


def test_no_container_has_more_rights_than_its_work_needs(system: System) -> None:
    containers = system.containers()
    assert {each["Config"]["Labels"]["com.docker.compose.service"] for each in containers} == {
        *("rabbitmq", "mongo", "prepare-database", "init", "worker", "guard", "prometheus")
    }
    for each in containers:
        host = each["HostConfig"]
        assert host["ReadonlyRootfs"], each["Name"]
        assert host["CapDrop"] == ["ALL"], each["Name"]
        assert not host["CapAdd"], each["Name"]
        assert "no-new-privileges:true" in host["SecurityOpt"], each["Name"]
        assert not host["Privileged"], each["Name"]
        assert each["Config"]["User"] in {"999:999", "10001:10001", "65534:65534"}, each["Name"]
    servers = [each for each in containers if each["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"]
    assert {bool(each["HostConfig"]["Memory"] and each["HostConfig"]["PidsLimit"]) for each in servers} == {True}


def test_a_worker_sees_its_own_secrets_and_not_the_operators_keys(system: System) -> None:
    def inside(*words: str) -> list[str]:
        return system.compose("exec", "--no-TTY", "worker", *words).split()

    assert sorted(inside("ls", "/run/secrets")) == ["broker-url", "ca.pem", "mongo-url", "repository-passphrase"]
    assert inside("ls", "-A", "/var/lib/smr/operator") == []
    assert "keystore.cose" in inside("ls", "/var/lib/smr")
    assert "root.key" in system.operator("ls", "/var/lib/smr/operator").decode()
    assert inside("sh", "-c", "touch /opt/smr/x 2>/dev/null || echo refused") == ["refused"]
    assert inside("sh", "-c", "for each in gcc cc make pip; do command -v $each; done; true") == []


def test_a_workers_account_and_a_stranger_at_the_database(system: System) -> None:
    told = system.compose("exec", "--no-TTY", "worker", "python", "-c", AT_THE_DATABASE).split()
    assert [int(each) for each in told] == [0, *[UNAUTHORIZED] * 5]


def test_what_is_published_reaches_no_database(system: System, engine: Engine) -> None:
    """A container beside the broker on the published network finds no MongoDB there."""
    look = "import socket; print(socket.getaddrinfo('{}', 1) and 'found')"
    words = ("run", "--rm", "--network", f"{system.project}_edge", system.environment["SMR_IMAGE"], "python", "-c")
    assert engine.run(*words, look.format("rabbitmq")).strip() == "found"
    assert engine.process([*words, look.format("mongo")]).returncode != 0


def test_the_doctor_finds_all_well(system: System) -> None:
    found: dict[str, Any] = json.loads(system.operator("sh", "-c", "smr-repository doctor --json || true"))
    assert [each for each in found["checks"] if not each["ok"]] == []


def test_an_installation_that_floods_is_cut_off(system: System, people: People, tmp_path: Path) -> None:
    key = SigningKey.generate()
    flood = Flood(account(system, key))
    flood.start()
    flood.join(2 * FLOOD_SECONDS)
    assert flood.ended is not None
    print(f"\n{flood.sent} messages in {flood.ended - flood.began:.1f} s, then cut off")
    with pytest.raises(BrokerRefused):
        connect(flood.settings, attempts=1).close()
    people.read(people.send(tmp_path))


# --- other keys and certificates ------------------------------------------------------------------------------------


def test_new_keys_of_the_repository_while_sessions_are_open(system: System, people: People, tmp_path: Path) -> None:
    letter = people.send(tmp_path)
    before = json.loads(system.operator("smr-repository", "descriptor", "--json"))["epoch"]
    told = system.operator("smr-repository", "descriptor", "--reissue", "--new-keys", "--json")
    assert json.loads(told)["epoch"] == before + 1
    people.read(letter)
    people.read(people.send(tmp_path))
    assert people.sender.smr("session", "show")["epoch"] == before


def shown(system: System) -> str:
    """The certificate that clients are shown."""
    return ssl.get_server_certificate(("localhost", system.port))


def test_new_certificates_of_the_servers(system: System, people: People, tmp_path: Path) -> None:
    before, letter = shown(system), people.send(tmp_path)
    program("smr-repository", "compose-secrets", str(system.secrets), "--renew-certificates")
    system.compose("exec", "--no-TTY", "rabbitmq", "rabbitmqctl", "--quiet", "eval", "ssl:clear_pem_cache().")
    assert shown(system) != before
    people.read(letter)
    letter = people.send(tmp_path)
    system.compose("restart", "mongo")
    system.up("--no-deps", "mongo")
    people.read(letter)
    people.read(people.send(tmp_path))


# --- what is measured -------------------------------------------------------------------------------------------------

# Asked from a worker's container, which shares a network with Prometheus: /api/v1/ and what comes after it.
ASK_PROMETHEUS = """
import sys, urllib.request as r
asked = "http://prometheus:9090/api/v1/" + sys.argv[1]
print(r.build_opener(r.ProxyHandler({})).open(asked, timeout=20).read().decode())
"""


def prometheus(system: System, asked: str) -> Any:
    answer = json.loads(system.compose("exec", "--no-TTY", "worker", "python", "-c", ASK_PROMETHEUS, asked))
    assert answer["status"] == "success", answer
    return answer["data"]


def test_prometheus_takes_its_files(system: System) -> None:
    words = ("exec", "--no-TTY", "prometheus", "promtool", "check", "config", "/etc/prometheus/prometheus.yml")
    assert "1 rule files found" in system.compose(*words)


def test_prometheus_reaches_workers_and_broker(system: System) -> None:
    deadline = time.monotonic() + 90
    while True:
        targets = prometheus(system, "targets?state=active")["activeTargets"]
        states = {(each["labels"]["job"], each["health"]) for each in targets}
        if states == {("worker", "up"), ("rabbitmq", "up")}:
            break
        assert time.monotonic() < deadline, targets
        time.sleep(1)


def test_prometheus_judges_by_every_rule(system: System) -> None:
    deadline = time.monotonic() + 90
    while True:
        rules = [each for group in prometheus(system, "rules")["groups"] for each in group["rules"]]
        if rules and all(each["health"] != "unknown" for each in rules):
            break
        assert time.monotonic() < deadline, rules
        time.sleep(1)
    assert {each["health"] for each in rules} == {"ok"}
    assert {each["name"] for each in rules} >= {"NoWorkers", "Flood", "DeadLetters"}
    assert "NoWorkers" not in {each["name"] for each in rules if each["state"] == "firing"}


def test_prometheus_has_an_answer_for_every_panel_of_the_dashboard(system: System) -> None:
    panels = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "repository.json").read_text())["panels"]
    deadline = time.monotonic() + 90
    while True:
        empty = {
            panel["title"]
            for panel in panels
            if not any(prometheus(system, f"query?query={quote(each['expr'])}")["result"] for each in panel["targets"])
        }
        if empty <= MAY_BE_EMPTY:
            break
        assert time.monotonic() < deadline, empty
        time.sleep(1)


# --- the end, and another beginning -----------------------------------------------------------------------------------


def test_after_down_and_up_with_the_same_volumes(system: System, people: People, tmp_path: Path) -> None:
    letter = people.send(tmp_path)
    system.compose("--profile", "*", "down", "--timeout", "20")
    assert system.containers() == []
    print(f"\nhealthy again after {system.up():.1f} s")
    people.read(letter)
    people.read(people.send(tmp_path))
