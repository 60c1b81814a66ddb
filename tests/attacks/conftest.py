"""One private stack for all attacks: two workers, the test CA, and citizens that are new in every test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker_config import names
from broker_config.connection import ConnectionSettings, connect
from crypto_core import ids
from crypto_core.keys import SigningKey
from pki.test_ca import TestCa
from repository_worker.stack import PrivateStack, Servers
from tests.support.wire import Citizen, Wire


class World:
    """The stack as an attacker finds it, and what a test needs of the inside."""

    def __init__(self, stack: PrivateStack) -> None:
        self.stack = stack
        self._administrator = connect(stack.administrator())
        self._channel = self._administrator.channel()
        self._accounts: dict[names.Installation, ConnectionSettings] = {}

    def close(self) -> None:
        self._administrator.close()

    def dead_letters(self) -> int:
        """How many messages were rejected since the stack was started."""
        return self._channel.queue_declare(names.DEAD_LETTER_QUEUE, passive=True).method.message_count

    @property
    def ca(self) -> TestCa:
        return self.stack.ca

    def wire(self, app_key=None) -> Wire:
        """A new installation with an account of its own (or another connection of the one with this key)."""
        key = app_key or SigningKey.generate()
        return Wire(self.account(key), self.stack.descriptor, key, self.dead_letters)

    def account(self, app_key: SigningKey) -> ConnectionSettings:
        """The broker account of this app key's installation, enrolled when it is first asked for."""
        installation = names.Installation(ids.installation_of(app_key.public.raw))
        if installation not in self._accounts:
            self._accounts[installation] = self.stack.broker.enrol(installation, self.stack.vhost)
        return self._accounts[installation]

    def citizen(self, name: str) -> Citizen:
        return Citizen.issued(self.ca, name)

    @contextlib.contextmanager
    def logged_in(self, *citizens: Citizen) -> Iterator[tuple[Wire, ...]]:
        """Registered citizens, each with a session at a connection of their own, in their order."""
        with contextlib.ExitStack() as ending:
            wires = tuple(ending.enter_context(self.wire()) for _ in citizens)
            for wire, citizen in zip(wires, citizens, strict=True):
                wire.register(citizen)
                wire.login(citizen)
            yield wires

    def logs(self) -> bytes:
        """Everything that the workers have logged."""
        return b"".join(path.read_bytes() for path in sorted(self.stack.folder.glob("worker-*.log")))


@pytest.fixture(scope="session")
def stack(tmp_path_factory, servers: Servers) -> Iterator[PrivateStack]:
    folder: Path = tmp_path_factory.mktemp("attacked")
    settings = {
        "SMR_REPOSITORY_LOG_LEVEL": "debug",
        "SMR_REPOSITORY_CRL_REFETCH_SECONDS": "0",  # a revocation counts at once
        "SMR_REPOSITORY_CERTIFICATE_MEMORY_SECONDS": "0",
    }
    with PrivateStack(folder, workers=2, settings=settings, own_accounts=True, servers=servers) as running:
        yield running


@pytest.fixture
def world(stack) -> Iterator[World]:
    for worker in stack.workers:
        assert worker.running, f"a worker has ended:\n{worker.tail()}"
    made = World(stack)
    yield made
    made.close()


@pytest.fixture
def wire(world) -> Iterator[Wire]:
    with world.wire() as connected:
        yield connected


@pytest.fixture
def maria(world) -> Citizen:
    return world.citizen("Maria Conceição Reis")


@pytest.fixture
def joao(world) -> Citizen:
    return world.citizen("João Sá")


@pytest.fixture
def bruno(world) -> Citizen:
    return world.citizen("Bruno Antunes")
