"""deploy/cluster.yml: the same scenario as on one of each, and servers that fail under load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from repository_worker.database_setup import SETTINGS
from tests.stack import cluster
from tests.stack.cluster import MEMBERS, NODES, Cluster
from tests.stack.people import People
from tests.stack.system import System
from tests.support.containers.engine import Engine

pytestmark = pytest.mark.timeout(1200)  # the first test makes the images, where they are missing

#: The three that stand for all; `make chaos-stack` breaks everything.
FAULTS = ("rabbitmq-kill-leader", "rabbitmq-pause-follower", "mongo-kill")


@pytest.fixture(scope="module")
def system(engine: Engine, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(engine, images, tmp_path_factory.mktemp("cluster"), cluster=True) as running:
        running.trust_the_state()
        print(f"\nhealthy after {running.up():.1f} s")
        yield running


def test_every_queue_has_a_member_on_every_node(system: System) -> None:
    queues = Cluster(system).queues()
    assert sorted(queues) == ["smr.commands", "smr.commands.dead"]
    for each in queues.values():
        assert sorted(each["members"]) == sorted(f"rabbit@{node}" for node in NODES)


def test_every_member_of_the_database_holds_the_data(system: System) -> None:
    found = Cluster(system)
    with found.mongo(found.primary()) as client:
        settings = client.admin.command("replSetGetConfig")["config"]["settings"]
        members = client.admin.command("replSetGetStatus")["members"]
    assert sorted(each["name"] for each in members) == sorted(f"{member}:27017" for member in MEMBERS)
    assert sorted(each["stateStr"] for each in members) == ["PRIMARY", "SECONDARY", "SECONDARY"]
    assert settings.items() >= SETTINGS.items()


def test_a_letter_and_its_receipt(system: System, tmp_path: Path) -> None:
    people = People.registered(system)
    people.read(people.send(tmp_path))


def test_nothing_is_lost_or_doubled_when_servers_fail(system: System, tmp_path: Path) -> None:
    result = cluster.run(system, tmp_path, FAULTS)
    for gap in result.gaps:
        print(f"{gap.kind}: longest gap {gap.seconds:.1f} s")
    print(f"{len(result.history.operations)} operations, {result.letters} letters, {result.receipts} receipts")
    assert result.violations == ()
    assert result.dead_letters == 0
