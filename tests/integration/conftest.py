"""Fixtures of several of these tests.

    operator    `smr-repository` as an operator runs it
    stack       a whole private repository, which the files of a session share: their citizens are their own

A file that changes what others see (settings, the repository's keys, a full queue) makes a `stack` of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from repository_worker.stack import PrivateStack
from tests.support.operator import operator

__all__ = ["operator"]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateStack]:
    """Leave it as it was: who ends a worker starts it again."""
    with PrivateStack(tmp_path_factory.mktemp("shared-stack")) as running:
        yield running
