"""Citizens that last for a file: letters are each test's own, people need not be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.conftest import World
from tests.support.wire import Citizen, Wire


@pytest.fixture(scope="module")
def world(stack) -> Iterator[World]:
    made = World(stack)
    yield made
    made.close()


@pytest.fixture(scope="module")
def maria(world) -> Citizen:
    return world.citizen("Maria Conceição Reis")


@pytest.fixture(scope="module")
def joao(world) -> Citizen:
    return world.citizen("João Sá")


@pytest.fixture(scope="module")
def bruno(world) -> Citizen:
    return world.citizen("Bruno Antunes")


@pytest.fixture(scope="module")
def people(world, maria, joao, bruno) -> Iterator[tuple[Wire, ...]]:
    with world.logged_in(maria, joao, bruno) as wires:
        yield wires
