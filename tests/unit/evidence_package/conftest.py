"""The worlds for all tests of this room."""

from __future__ import annotations

import pytest

from tests.support.packages import Asked, World


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("packages") / "ca")


@pytest.fixture(scope="session")
def asked(tmp_path_factory):
    """A world in which the letter opens against signatures."""
    return Asked(tmp_path_factory.mktemp("asked") / "ca")


@pytest.fixture(scope="session")
def sealed(world):
    """Maria's package, as she exported it."""
    return world.seal()
