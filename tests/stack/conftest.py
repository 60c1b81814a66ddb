"""One Docker engine with its images for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.containers.engine import Engine
from tests.support.containers.images import Images


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with Engine() as running:
        yield running


@pytest.fixture(scope="session")
def images(engine: Engine) -> dict[str, str]:
    return Images(engine).make()
