"""Workers are replaced under load, in order: by the same release, then by the next one. No client notices.

One stack, one set of clients and one history for all tests; what is stored is judged after each, from the beginning.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker_config.private_process import StartFailed
from repository_worker.settings import PREFIX
from repository_worker.stack import PrivateStack, Servers, WorkerProcess
from repository_worker.storage.driver import connect
from repository_worker.storage.operations import NEIGHBOURS, SCHEMA, Operations
from tests.chaos.client_process import ClientProcess
from tests.chaos.history import Outcome
from tests.chaos.plan import Plan
from tests.chaos.run import Scale, drain, judge, make_clients, make_plan, wait_for_all
from tests.chaos.wire_client import RESEND_SECONDS

ROOT = Path(__file__).parents[2]
ROOMS = ("broker_config", "crypto_core", "pki", "repository_worker")
CLIENTS = 3
GRACE_SECONDS = 5.0
#: What each worker must have handled before the next one is replaced: it works, and is not merely there.
SHARE = 20
PATIENCE_SECONDS = 30.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, servers: Servers) -> Iterator[PrivateStack]:
    settings = {
        f"{PREFIX}GRACE_SECONDS": str(GRACE_SECONDS),
        f"{PREFIX}LOG_LEVEL": "debug",  # says each command that was handled
        f"{PREFIX}LOG_FORMAT": "json",
        f"{PREFIX}CERTIFICATE_MEMORY_SECONDS": "600",
    }
    with PrivateStack(tmp_path_factory.mktemp("stack"), settings=settings, servers=servers) as running:
        yield running


@pytest.fixture(scope="module")
def plan(stack: PrivateStack, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("clients")
    return make_plan(stack, folder, 0, Scale(wire_clients=CLIENTS, library_clients=0), stack.broker_url)


@contextmanager
def operations_of(stack: PrivateStack, database: str) -> Iterator[Operations]:
    opened = Operations(connect(stack.mongo_url), database)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def at_work(plan: Plan) -> Iterator[list[ClientProcess]]:
    """Clients that send, read, confirm, list and ask, until the end of the block."""
    plan.stop.unlink(missing_ok=True)
    clients = make_clients(plan)
    try:
        for each in clients:
            each.start()
        wait_for_all(plan, clients)
        yield clients
        plan.stop.touch()
        for each in clients:
            each.finish()
    finally:
        for each in clients:
            each.kill()


def log_of(worker: WorkerProcess) -> str:
    return worker._log.read_text(encoding="utf-8")


def handled(worker: WorkerProcess) -> int:
    return log_of(worker).count('"event": "handled"')


def work_on(clients: list[ClientProcess], *workers: WorkerProcess) -> None:
    """Returns when each of these workers has handled its share from now on."""
    wanted = {worker: handled(worker) + SHARE for worker in workers}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(handled(worker) < least for worker, least in wanted.items()):
        assert time.monotonic() < deadline, f"a worker gets nothing to do: {[handled(each) for each in workers]}"
        for each in clients:
            each.require_well()
        time.sleep(0.05)


def end_in_order(worker: WorkerProcess) -> None:
    began = time.monotonic()
    assert worker.terminate() == 0, worker.tail()
    assert time.monotonic() - began < GRACE_SECONDS
    # Everything that it held was answered, or had gone back before it was begun.
    assert re.findall(r'"handed_back": (\d+)', log_of(worker))[-1] == "0"


def require_unnoticed(stack: PrivateStack, plan: Plan, dead_letters: int = 0) -> None:
    """Every operation of every client ended well at once, and what is stored is what they were told."""
    result = judge(stack, plan, dead_letters)
    assert result.violations == ()
    operations = result.history.operations
    assert {each.first for each in operations} == {Outcome.OK}, [each.reason for each in operations if each.reason]
    # Shorter than the time after which a client sends again: each was published once.
    slowest = max((each.first_end or 0) - each.invoked for each in operations) / 1e9
    assert slowest < RESEND_SECONDS, f"somebody waited for {slowest:.1f} s"


def test_a_rolling_restart_under_load_goes_unnoticed(stack: PrivateStack, plan: Plan):
    with at_work(plan) as clients:
        for _ in range(2):
            for worker in stack.workers:
                work_on(clients, worker)
                end_in_order(worker)
                worker.restart()
        work_on(clients, *stack.workers)
    require_unnoticed(stack, plan)


# ------------------------------------------------------------------------------------------------------- two releases


def later_release(folder: Path, by: int) -> dict[str, str]:
    """A copy of the program whose schema is `by` versions later; gives the environment in which it is found."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    package = folder / "repository_worker"
    replace_once(package / "storage/operations.py", f"SCHEMA: Final = {SCHEMA}\n", f"SCHEMA: Final = {SCHEMA + by}\n")
    steps = ", ".join(f"{version}: storage.prepare" for version in range(SCHEMA + by))
    replace_once(package / "worker.py", "return {0: storage.prepare}", f"return {{{steps}}}")
    # Safe path: the folder in which it is started does not come before the one that is named.
    found = {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
    where = [sys.executable, "-c", "import repository_worker; print(repository_worker.__file__)"]
    assert str(folder) in subprocess.run(where, env=found, capture_output=True, text=True, check=True).stdout
    return found


def replace_once(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{path.name} does not say {old!r} once"
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_two_releases_side_by_side_serve_the_same_clients(stack: PrivateStack, plan: Plan, tmp_path: Path):
    environment = {**stack.environment(), **later_release(tmp_path / "next", by=1)}
    older = list(stack.workers)
    with at_work(plan) as clients, operations_of(stack, stack.database) as operations:
        assert operations.version() == SCHEMA
        newer = WorkerProcess(environment, tmp_path / "newer.log")
        stack.workers.append(newer)
        newer.wait_ready()
        assert operations.version() == SCHEMA + 1
        work_on(clients, *stack.workers)
        for each in older:
            end_in_order(each)
            stack.workers.remove(each)
        work_on(clients, newer)
    require_unnoticed(stack, plan, drain(stack))


def test_a_release_that_is_too_old_for_the_database_does_not_start(stack: PrivateStack, tmp_path: Path):
    name, version = "too_new", SCHEMA + NEIGHBOURS + 1
    with operations_of(stack, name) as operations:
        operations.migrate({number: lambda: None for number in range(version)}, schema=version)
        worker = WorkerProcess({**stack.environment(), f"{PREFIX}MONGO_DATABASE": name}, tmp_path / "refused.log")
        try:
            with pytest.raises(StartFailed):
                worker.wait_ready()
            assert worker.terminate() == 1
        finally:
            worker.stop()
        assert operations.version() == version
    said = worker.tail()
    assert f"The database has schema {version} and this release serves {SCHEMA} to {SCHEMA + NEIGHBOURS}" in said
    assert "run a newer release" in said
    assert "Traceback" not in said
