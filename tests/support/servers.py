"""Real servers for tests: one RabbitMQ node and one MongoDB server a session, a fresh corner of each for a test.

    broker      the running node, started when the first test asks for it
    vhost       a virtual host of this test alone, with our topology and an account for workers
    mongo       the running server, a replica set of one
    database    a database of this test alone
    servers     both, for a private stack that starts none of its own

A new virtual host costs about a fifth of a second where a new node costs several. A test that kills or restarts a
server starts one of its own in `tmp_path`, so that others keep theirs.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pymongo
import pytest
from pymongo.database import Database

from broker_config import names
from broker_config.connection import ConnectionSettings
from broker_config.local_broker import ADMINISTRATOR, WORKER, LocalBroker
from repository_worker.local_mongo import LocalMongo

if TYPE_CHECKING:
    from repository_worker.stack import Servers


@dataclass(frozen=True, slots=True)
class BrokerCorner:
    """A virtual host of one test."""

    broker: LocalBroker
    vhost: str

    def administrator(self) -> ConnectionSettings:
        return self.broker.settings(ADMINISTRATOR, vhost=self.vhost)

    def worker(self) -> ConnectionSettings:
        return self.broker.settings(WORKER, vhost=self.vhost)

    def client(self, installation: names.Installation | None = None) -> ConnectionSettings:
        """A newly enrolled client; without an installation it is one that nobody else has."""
        chosen = installation or names.installation_of(secrets.token_bytes(names.DIGEST_BYTES))
        return self.broker.enrol(chosen, self.vhost)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    with LocalBroker(tmp_path_factory.mktemp("rabbitmq")) as running:
        yield running


@pytest.fixture
def vhost(broker: LocalBroker) -> Iterator[BrokerCorner]:
    name = f"test-{secrets.token_hex(8)}"
    broker.set_up(name)
    yield BrokerCorner(broker, name)
    broker.administration().delete_vhost(name)


@pytest.fixture(scope="session")
def mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMongo]:
    with LocalMongo(tmp_path_factory.mktemp("mongodb")) as running:
        yield running


@pytest.fixture
def database(mongo: LocalMongo) -> Iterator[Database[dict[str, Any]]]:
    name = f"test_{secrets.token_hex(8)}"
    with pymongo.MongoClient[dict[str, Any]](mongo.uri, w="majority", journal=True) as client:
        yield client[name]
        client.drop_database(name)


@pytest.fixture(scope="session")
def servers(broker: LocalBroker, mongo: LocalMongo) -> Servers:
    from repository_worker.stack import Servers  # imports nearly everything, which unit tests need not wait for

    return Servers(broker, mongo)
