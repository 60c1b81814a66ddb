"""What a worker loads at its start is never looked through again by the collector of garbage."""

from __future__ import annotations

import gc

import pytest

from repository_worker import worker


@pytest.fixture
def thawed():
    """The collector as it was."""
    yield
    gc.unfreeze()


def test_what_is_there_is_out_of_the_collectors_sight_and_what_comes_is_not(thawed):
    there = [[]]
    worker.settle_heap()
    assert gc.get_freeze_count() > 10_000
    came = [[]]
    seen = {id(each) for each in gc.get_objects()}
    assert id(there) not in seen
    assert id(came) in seen
