"""One run: a private stack on three database members, clients, faults after a plan from a seed, and the verdict."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pymongo

from broker_config import names
from broker_config.connection import connect
from client.api import Repository
from crypto_core import suite
from crypto_core.ids import UserId
from pki.trust_store import TrustStore
from pki.virtual_card import create_virtual_card
from repository_worker.local_mongo import LocalMongoSet
from repository_worker.stack import CLIENT_ACCOUNT, PrivateStack
from tests.chaos import checker, database, history
from tests.chaos.checker import Violation
from tests.chaos.client_process import ClientProcess
from tests.chaos.faults import Faults
from tests.chaos.history import History, Notes, Outcome
from tests.chaos.library_client import settings
from tests.chaos.plan import PIN, Member, Plan
from tests.support.cutting_proxy import CuttingProxy
from tests.support.wire import Citizen, Wire

NAMES: Final = ("Maria Conceição Reis", "João Sá", "Bruno Antunes", "Inês Lourenço", "Rui Brandão", "Marta Falcão")
#: After a fault was mended all have this long to notice, before operations count as undisturbed again; seconds.
RECOVERY_SECONDS: Final = 3.0
#: The same for the broker: a worker that did not find it tries again after pauses of up to two seconds.
BROKER_RECOVERY_SECONDS: Final = 4.0
#: So many operations have an end before the first fault: enough outside of faults, however slow the machine is.
WARM_OPERATIONS: Final = 2 * checker.QUIET_OPERATIONS
QUEUE_SECONDS: Final = 60.0
SHOWN_VIOLATIONS: Final = 50
SETTLE_PAUSE_SECONDS: Final = 0.2
#: How often each kind is drawn, against the others: a broker takes seconds to come back.
WEIGHTS: Final = {
    "worker-kill": 4,
    "client-kill": 4,
    "connections-cut": 3,
    "primary-step-down": 2,
    "primary-kill": 2,
    "broker-restart": 1,
    "broker-kill": 1,
}


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything."""

    workers: int = 2
    wire_clients: int = 4
    library_clients: int = 2


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to."""

    seed: int
    history: History
    violations: tuple[Violation, ...]
    letters: int
    receipts: int
    dead_letters: int

    @property
    def line(self) -> str:
        """One line of figures."""
        ends = Counter(each.outcome for each in self.history.operations)
        first = Counter(each.first for each in self.history.operations)
        calm = checker.quiet_operations(self.history)
        good = sum(each.first is Outcome.OK for each in calm)
        kinds = Counter(each.kind for each in self.history.faults if each.kind != "start")
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())) or "none"
        share = 100 * good / len(calm) if calm else 0.0
        verdict = "all rules hold" if not self.violations else f"{len(self.violations)} VIOLATIONS"
        return (
            f"chaos: {len(self.history.operations)} operations: {ends[Outcome.OK]} ok "
            f"({ends[Outcome.OK] - first[Outcome.OK]} of them only when sent again), {ends[Outcome.FAILED]} failed, "
            f"{ends[Outcome.UNKNOWN]} unknown; {self.letters} letters and {self.receipts} receipts stored, "
            f"{self.dead_letters} dead letters; faults: {faults}; longest gap {longest_gap(self.history):.1f} s; "
            f"{share:.1f} % of {len(calm)} operations ok outside of faults; seed {self.seed}; verdict: {verdict}"
        )


def longest_gap(found: History) -> float:
    """The longest time in which no client had an answer; seconds."""
    ends = sorted(each.ended for each in found.operations if each.outcome is Outcome.OK and each.ended)
    return max(((b - a) / 1e9 for a, b in pairwise(ends)), default=0.0)


class ChaosStack(PrivateStack):
    """A private stack whose database has three members, and whose workers reach the broker through a proxy."""

    def __init__(self, folder: Path, workers: int) -> None:
        super().__init__(
            folder,
            workers,
            settings={
                "SMR_REPOSITORY_BROKER_URL_FILE": str(folder / "broker-url-proxied"),
                "SMR_REPOSITORY_CRL_REFETCH_SECONDS": "3600",
                "SMR_REPOSITORY_CERTIFICATE_MEMORY_SECONDS": "600",
            },
        )
        self.mongo_set = LocalMongoSet(folder / "mongo")
        self.mongo = self.mongo_set  # type: ignore[assignment]

    def _set_up_repository(self) -> None:
        super()._set_up_repository()
        self.proxy = self._ending.enter_context(CuttingProxy(self.broker.port))
        direct = (self.folder / "broker-url").read_text()
        proxied = self.folder / "broker-url-proxied"
        proxied.touch(mode=0o600)
        proxied.write_text(self.through_proxy(direct))

    def through_proxy(self, url: str) -> str:
        """The same address by way of the proxy."""
        return url.replace(f":{self.broker.port}/", f":{self.proxy.port}/")


def run(folder: Path, *, seed: int, seconds: float | None = None, scale: Scale | None = None) -> Result:
    """A run of `seconds`; without them one fault of each kind, in the order of the seed."""
    sizes = scale or Scale()
    draw = random.Random(seed)
    with ChaosStack(folder / "stack", sizes.workers) as stack:
        plan = make_plan(stack, folder, seed, sizes, stack.through_proxy(stack.broker_url))
        clients = make_clients(plan)
        try:
            for client in clients:
                client.start()
            _break_things(stack, plan, clients, draw, seconds)
            plan.stop.touch()
            for client in clients:
                client.finish()
        finally:
            for client in clients:
                client.kill()
        return judge(stack, plan, drain(stack))


def judge(stack: PrivateStack, plan: Plan, dead_letters: int) -> Result:
    """What the history of a run comes to, beside what the database holds now."""
    found = history.load(plan.history)
    keys = {UserId(bytes.fromhex(each.user)): each.sealing for each in plan.members}
    with pymongo.MongoClient[dict[str, Any]](stack.mongo_url, readConcernLevel="majority") as mongo:
        stored = database.read(mongo[stack.database], stack.descriptor.repository, keys)
    violations = checker.check(found, stored)
    return Result(plan.seed, found, violations, len(stored.letters), len(stored.receipts), dead_letters)


def _break_things(
    stack: ChaosStack, plan: Plan, clients: Sequence[ClientProcess], draw: random.Random, seconds: float | None
) -> None:
    faults = Faults(stack, stack.mongo_set, stack.proxy, list(clients), draw)
    stack.broker.settle()
    with Notes(plan.history, "faults") as notes:
        began = history.now()
        warm = wait_for_all(plan, clients)
        notes.fault("start", began, warm)
        _wait_until_warm(plan, warm)
        for kind, pause in _schedule(draw, seconds):
            began = history.now()
            faults.kinds[kind]()
            notes.fault(kind, began, history.now() + int(_recovery(kind) * 1e9))
            for client in clients:
                client.require_well()
            time.sleep(pause)
        time.sleep(RECOVERY_SECONDS)


def _schedule(draw: random.Random, seconds: float | None) -> Iterator[tuple[str, float]]:
    """Kinds of faults with the pause after each: every kind once, then as drawn until the time is over."""
    kinds = list(WEIGHTS)
    draw.shuffle(kinds)
    if seconds is None:
        # A broker takes seconds to come back: once is enough.
        kinds.remove("broker-kill")
        yield from ((kind, draw.uniform(0.1, 0.5)) for kind in kinds)
        return
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        kind = kinds.pop() if kinds else draw.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        yield kind, _recovery(kind) + draw.uniform(1.0, 8.0)


def _recovery(kind: str) -> float:
    return BROKER_RECOVERY_SECONDS if kind.startswith("broker") else RECOVERY_SECONDS


def wait_for_all(plan: Plan, clients: Sequence[ClientProcess]) -> int:
    """Returns when each client has had an answer; gives the moment."""
    deadline = time.monotonic() + QUEUE_SECONDS
    waiting = {client.name for client in clients}
    while waiting:
        assert time.monotonic() < deadline, f"{sorted(waiting)} had no answer"
        for client in clients:
            client.require_well()
        answered = {each.client for each in history.load(plan.history).operations if each.outcome is Outcome.OK}
        waiting -= answered
        time.sleep(SETTLE_PAUSE_SECONDS)
    return history.now()


def _wait_until_warm(plan: Plan, since: int) -> None:
    """Returns when enough operations were begun and ended while nothing was broken."""
    deadline = time.monotonic() + QUEUE_SECONDS
    while True:
        found = history.load(plan.history).operations
        if sum(each.invoked > since and each.first_end is not None for each in found) >= WARM_OPERATIONS:
            return
        assert time.monotonic() < deadline, "the clients are hardly getting anywhere"
        time.sleep(SETTLE_PAUSE_SECONDS)


def drain(stack: PrivateStack) -> int:
    """Returns when no command is left, in the queue or at a worker; gives the number of dead letters."""
    deadline = time.monotonic() + QUEUE_SECONDS
    with connect(stack.administrator()) as connection:
        channel = connection.channel()
        while channel.queue_declare(names.COMMANDS_QUEUE, passive=True).method.message_count:
            assert time.monotonic() < deadline, "the workers do not come to the end of the commands"
            connection.sleep(SETTLE_PAUSE_SECONDS)
        for worker in stack.workers:
            # In order: what a worker holds it finishes or hands back.
            assert worker.terminate() == 0, f"a worker ended badly:\n{worker.tail()}"
        left = channel.queue_declare(names.COMMANDS_QUEUE, passive=True).method.message_count
        assert left == 0, f"{left} commands were handed back at the end"
        return int(channel.queue_declare(names.DEAD_LETTER_QUEUE, passive=True).method.message_count)


# ------------------------------------------------------------------------------------------------- setting it up


def make_plan(stack: PrivateStack, folder: Path, seed: int, sizes: Scale, url: str) -> Plan:
    """Citizens, registered, whose clients reach the broker at `url`."""
    assert CLIENT_ACCOUNT in url
    members = [_software(stack, NAMES[number % len(NAMES)]) for number in range(sizes.wire_clients)]
    for number in range(sizes.library_clients):
        name = NAMES[(sizes.wire_clients + number) % len(NAMES)]
        members.append(_with_home(stack, folder / f"library-{number}", name, url))
    plan = Plan(folder, seed, url, stack.descriptor_path, tuple(members))
    plan.save()
    return plan


def make_clients(plan: Plan) -> list[ClientProcess]:
    """A client for each citizen, not started yet."""
    found = []
    for number, member in enumerate(plan.members):
        module = "tests.chaos.library_client" if member.home else "tests.chaos.wire_client"
        name = f"{'library' if member.home else 'wire'}-{number}"
        found.append(ClientProcess(plan.folder / "plan.json", module, name, number, may_forget=not member.home))
    return found


def _software(stack: PrivateStack, name: str) -> Member:
    citizen = Citizen.issued(stack.ca, name)
    with Wire(stack.client_settings(), stack.descriptor) as wire:
        wire.register(citizen)
        digest = wire.party(citizen).registration
    return Member.of(citizen, digest.hex())


def _with_home(stack: PrivateStack, folder: Path, name: str, url: str) -> Member:
    card = create_virtual_card(stack.ca, folder / "card", name, key_kind="P-256", pin=PIN)
    used = settings(folder, card.settings)
    TrustStore.open(used.home / "trust").import_certificates(
        stack.ca_certificates, root_fingerprints={stack.ca_fingerprint}
    )
    with Repository(used) as repository:
        made = repository.init(stack.descriptor_path.read_bytes(), root_fingerprint=stack.root_fingerprint)
        repository.enrol(stack.enrol(made.installation, broker=url))
        user = repository.register().user
        keys = repository._context.unlock()
    return Member(name, user.hex(), suite.sha256(b"").hex(), keys.current_key.seed.hex(), home=str(folder))


def show(result: Result) -> None:
    """Says what a run came to, violations first and the figures last."""
    for each in result.violations[:SHOWN_VIOLATIONS]:
        print(f"{each.rule:10} {each.text}")
    print(result.line, flush=True)
