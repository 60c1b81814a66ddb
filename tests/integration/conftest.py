"""Fixtures of several of these tests.

    operator    `smr-repository` as an operator runs it
    stack       a whole private repository, which the files of a session share: their citizens are their own
    storage     a storage on a database of its own, with three citizens; `open_storage` opens others there

A file that changes what others see (settings, the repository's keys, a full queue) makes a `stack` of its own, with
the session's `servers` as long as it only works on them; whoever ends or restarts servers starts new ones.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from repository_worker.stack import PrivateStack, Servers
from tests.support.operator import operator
from tests.support.storages import open_storage, storage

__all__ = ["open_storage", "operator", "storage"]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, servers: Servers) -> Iterator[PrivateStack]:
    """Leave it as it was: who ends a worker starts it again."""
    with PrivateStack(tmp_path_factory.mktemp("shared-stack"), servers=servers) as running:
        yield running
