"""Three RabbitMQ nodes and three MongoDB members in containers, broken one at a time under load, and judged.

    run(system, folder, kinds=["rabbitmq-kill-leader", …])

Clients of tests.chaos work from outside, over TLS; each fault is held for a while, mended, and waited out until every
container is healthy and every client had answers again. The rules of exactly once are applied to what the clients noted
and what the database holds.

    rabbitmq-kill-leader, -follower      SIGKILL to the node that leads the command queue, or to another one
    rabbitmq-pause-leader, -follower     all its processes frozen: it accepts connections and says nothing
    mongo-kill, -pause, -disconnect      the primary: SIGKILL, frozen, off its network
    worker-off-broker, -off-database     one worker off one of its networks
    everything                           all containers stopped, then started again
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pymongo
from pymongo.errors import PyMongoError

from broker_config import names
from broker_config.connection import ConnectionSettings, connect, parse_amqp_url
from crypto_core.ids import UserId
from repository_worker.stack import CLIENT_ACCOUNT, CLIENT_PERMISSIONS
from tests.chaos import checker, database, history
from tests.chaos.checker import Violation
from tests.chaos.client_process import ClientProcess
from tests.chaos.history import History, Notes, Outcome
from tests.chaos.plan import Member, Plan
from tests.chaos.run import NAMES, make_clients, wait_for_all
from tests.stack.system import System
from tests.support.wire import Citizen, Wire

CLIENTS: Final = 4
#: How long a fault is held: longer than any of the parts takes to notice it; seconds.
HOLD_SECONDS: Final = 12.0
#: How long everything may take to be healthy again, and each client to have answers; seconds.
MEND_SECONDS: Final = 120.0
#: Between a mended fault and the next, so that some operations are undisturbed; seconds.
CALM_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.3
PAUSE_ATTEMPTS: Final = 20
SETTLED_OPERATIONS: Final = 8
NODES: Final = ("rabbitmq", "rabbitmq-2", "rabbitmq-3")
MEMBERS: Final = ("mongo", "mongo-2", "mongo-3")
#: What is asked of each queue.
FIELDS: Final = ("name", "type", "leader", "members")


@dataclass(frozen=True, slots=True)
class Gap:
    """The longest time in which no client had an answer, while this was broken or being mended; seconds."""

    kind: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to."""

    violations: tuple[Violation, ...]
    gaps: tuple[Gap, ...]
    history: History
    letters: int
    receipts: int
    dead_letters: int


class Cluster:
    """The containers by what they are now, and what can be done to them."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.faults: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
            "rabbitmq-kill-leader": lambda: self._killed(self.queue_leader()),
            "rabbitmq-kill-follower": lambda: self._killed(self._follower()),
            "rabbitmq-pause-leader": lambda: self._paused(self.queue_leader()),
            "rabbitmq-pause-follower": lambda: self._paused(self._follower()),
            "mongo-kill": lambda: self._killed(self.primary()),
            "mongo-pause": lambda: self._paused(self.primary()),
            "mongo-disconnect": lambda: self._disconnected(self.primary(), "database"),
            "worker-off-broker": lambda: self._disconnected("worker", "broker"),
            "worker-off-database": lambda: self._disconnected("worker", "database"),
            "everything": self._stopped,
        }

    # --- what is what -------------------------------------------------------------------------------------------------

    def queues(self) -> dict[str, dict[str, Any]]:
        """Leader and members of each quorum queue, as the broker tells."""
        words = ("rabbitmqctl", "--quiet", "--formatter", "json", "list_queues", "--vhost", names.VHOST)
        for node in NODES:
            with contextlib.suppress(Exception):
                told = self.system.compose("exec", "--no-TTY", node, *words, *FIELDS)
                return {each["name"]: each for each in json.loads(told) if "quorum" in each["type"]}
        raise AssertionError("no RabbitMQ node tells its queues")

    def queue_leader(self) -> str:
        """The service whose node leads the command queue."""
        return str(self.queues()[names.COMMANDS_QUEUE]["leader"]).partition("@")[2]

    def primary(self) -> str:
        """The service whose MongoDB member takes writes."""
        deadline = time.monotonic() + MEND_SECONDS
        while time.monotonic() < deadline:
            for member in MEMBERS:
                with contextlib.suppress(PyMongoError, LookupError), self.mongo(member) as client:
                    if client.admin.command("hello").get("isWritablePrimary"):
                        return member
            time.sleep(PAUSE_SECONDS)
        raise AssertionError("no member of the replica set takes writes")

    def mongo(self, member: str) -> pymongo.MongoClient[dict[str, Any]]:
        """A connection to one member, as the operator; this machine reaches it by its address alone."""
        (container,) = self.system.containers(member)
        address = container["NetworkSettings"]["Networks"][f"{self.system.project}_database"]["IPAddress"]
        accounts = json.loads((self.system.secrets / "database-accounts.json").read_text())["accounts"]
        return pymongo.MongoClient(
            address,
            username="smr-operator",
            password=accounts["smr-operator"],
            directConnection=True,
            tls=True,
            tlsCAFile=str(self.system.secrets / "ca.pem"),
            tlsAllowInvalidHostnames=True,
            serverSelectionTimeoutMS=1500,
        )

    def operator(self) -> ConnectionSettings:
        """The operator's account at the broker, from this machine."""
        url = (self.system.secrets / "operator-broker-url").read_text()
        url = url.replace("@broker:5671", f"@localhost:{self.system.port}").replace(
            "/run/secrets", str(self.system.secrets)
        )
        return parse_amqp_url(url)

    def _follower(self) -> str:
        leader = self.queue_leader()
        return next(node for node in reversed(NODES) if node != leader)

    # --- what is done to it -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _killed(self, service: str) -> Iterator[None]:
        name = self._container(service)
        self.system.engine.run("kill", name)
        yield
        self.system.engine.run("start", name)

    @contextlib.contextmanager
    def _paused(self, service: str) -> Iterator[None]:
        name = self._container(service)
        # A container that starts a program at that moment, as for its health, cannot always be frozen at once.
        for _ in range(PAUSE_ATTEMPTS):
            if self.system.engine.process(["pause", name]).returncode == 0:
                break
            time.sleep(PAUSE_SECONDS)
        else:
            self.system.engine.run("pause", name)
        yield
        self.system.engine.run("unpause", name)

    @contextlib.contextmanager
    def _disconnected(self, service: str, network: str) -> Iterator[None]:
        name, full = self._container(service), f"{self.system.project}_{network}"
        self.system.engine.run("network", "disconnect", full, name)
        yield
        self.system.engine.run("network", "connect", "--alias", service, full, name)

    @contextlib.contextmanager
    def _stopped(self) -> Iterator[None]:
        self.system.compose("stop", "--timeout", "30")
        yield
        self.system.up()

    def _container(self, service: str) -> str:
        return str(self.system.containers(service)[0]["Id"])

    def wait_until_healthy(self) -> None:
        """Returns when every server and worker says so."""
        deadline = time.monotonic() + MEND_SECONDS
        while True:
            states = {
                each["Name"]: each["State"]["Health"]["Status"]
                for each in self.system.containers()
                if each["State"].get("Health")
            }
            if set(states.values()) == {"healthy"}:
                return
            assert time.monotonic() < deadline, f"not healthy again: {states}"
            time.sleep(PAUSE_SECONDS)


def run(system: System, folder: Path, kinds: Sequence[str], *, seed: int = 1) -> Result:
    """Each kind of fault once, in this order, while clients work."""
    cluster = Cluster(system)
    plan = _plan(system, folder, seed)
    clients = make_clients(plan)
    try:
        for client in clients:
            client.start()
        with Notes(plan.history, "faults") as notes:
            began = history.now()
            notes.fault("start", began, wait_for_all(plan, clients))
            time.sleep(CALM_SECONDS)
            for kind in kinds:
                _break(cluster, plan, clients, notes, kind)
                time.sleep(CALM_SECONDS)
        plan.stop.touch()
        for client in clients:
            client.finish()
    finally:
        for client in clients:
            client.kill()
    return _judge(cluster, plan, _drain(cluster))


def _break(cluster: Cluster, plan: Plan, clients: Sequence[ClientProcess], notes: Notes, kind: str) -> None:
    began = history.now()
    with cluster.faults[kind]():
        time.sleep(HOLD_SECONDS)
    mended = history.now()
    cluster.wait_until_healthy()
    _wait_for_answers(plan, clients, mended)
    notes.fault(kind, began, history.now())


def _wait_for_answers(plan: Plan, clients: Sequence[ClientProcess], since: int) -> None:
    """Returns when every client had an answer to something that it began after this moment, and all had several."""
    deadline = time.monotonic() + MEND_SECONDS
    while True:
        for client in clients:
            client.require_well()
        answered = [
            each.client
            for each in history.load(plan.history).operations
            if each.invoked > since and each.outcome is Outcome.OK
        ]
        if len(set(answered)) == len(clients) and len(answered) >= SETTLED_OPERATIONS:
            return
        assert time.monotonic() < deadline, f"only {sorted(set(answered))} had answers after it was mended"
        time.sleep(PAUSE_SECONDS)


def _plan(system: System, folder: Path, seed: int) -> Plan:
    url = system.account(CLIENT_ACCOUNT, CLIENT_PERMISSIONS)
    unregistered = Plan(folder, seed, url, system.descriptor, ())
    members = []
    for name in NAMES[:CLIENTS]:
        citizen = Citizen.issued(system.ca, name)
        with Wire(parse_amqp_url(url), unregistered.descriptor()) as wire:
            wire.register(citizen)
            members.append(Member.of(citizen, wire.party(citizen).registration.hex()))
    plan = Plan(folder, seed, url, system.descriptor, tuple(members))
    plan.save()
    return plan


def _drain(cluster: Cluster) -> int:
    """Returns when no command is left, in the queue or at a worker; gives the number of dead letters."""
    deadline = time.monotonic() + MEND_SECONDS
    with connect(cluster.operator()) as connection:
        channel = connection.channel()
        while channel.queue_declare(names.COMMANDS_QUEUE, passive=True).method.message_count:
            assert time.monotonic() < deadline, "the workers do not come to the end of the commands"
            connection.sleep(PAUSE_SECONDS)
        cluster.system.compose("stop", "--timeout", "30", "worker")
        states = {each["State"]["ExitCode"] for each in cluster.system.containers("worker")}
        assert states == {0}, f"workers ended with {states}"
        left = channel.queue_declare(names.COMMANDS_QUEUE, passive=True).method.message_count
        assert left == 0, f"{left} commands were handed back at the end"
        return int(channel.queue_declare(names.DEAD_LETTER_QUEUE, passive=True).method.message_count)


def _judge(cluster: Cluster, plan: Plan, dead_letters: int) -> Result:
    found = history.load(plan.history)
    keys = {UserId(bytes.fromhex(each.user)): each.sealing for each in plan.members}
    with cluster.mongo(cluster.primary()) as mongo:
        stored = database.read(mongo["smr"], plan.descriptor().repository, keys)
    return Result(
        checker.check(found, stored),
        tuple(_gaps(found)),
        found,
        len(stored.letters),
        len(stored.receipts),
        dead_letters,
    )


def _gaps(found: History) -> Iterator[Gap]:
    ends = sorted(each.ended for each in found.operations if each.outcome is Outcome.OK and each.ended)
    for fault in found.faults:
        touching = ((b - a) / 1e9 for a, b in pairwise(ends) if a <= fault.ended and b >= fault.began)
        yield Gap(fault.kind, max(touching, default=0.0))
