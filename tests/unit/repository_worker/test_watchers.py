"""Who is told that a mailbox grew: what was read last counts, and no question ever waits."""

from __future__ import annotations

import threading

from repository_worker.errors import StorageUnavailable
from repository_worker.watchers import Watchers

MARIA, JOAO = b"m" * 28, b"j" * 28
PATIENCE = 30.0


class Table:
    """A table that a test changes, and an event for each time that it was read."""

    def __init__(self) -> None:
        self.watches: dict[bytes, tuple[str, ...]] = {}
        self.down = False
        self.read = threading.Semaphore(0)

    def __call__(self) -> dict[bytes, tuple[str, ...]]:
        self.read.release()
        if self.down:
            raise StorageUnavailable("down")
        return dict(self.watches)

    def await_rounds(self) -> None:
        """Until what is in the table now was taken over for certain."""
        while self.read.acquire(blocking=False):
            pass
        for _ in range(2):
            assert self.read.acquire(timeout=PATIENCE)


def test_what_is_read_counts_until_it_is_read_again():
    table = Table()
    with Watchers(table, round_seconds=0.01) as watchers:
        table.await_rounds()
        assert watchers.queues([MARIA, JOAO]) == ()
        table.watches = {MARIA: ("one", "two")}
        table.await_rounds()
        assert watchers.queues([JOAO]) == ()
        assert watchers.queues([MARIA, JOAO]) == ("one", "two")
        table.watches = {}
        table.await_rounds()
        assert watchers.queues([MARIA]) == ()


def test_while_the_database_is_down_the_last_word_counts():
    table = Table()
    table.watches = {MARIA: ("one",)}
    with Watchers(table, round_seconds=0.01) as watchers:
        table.await_rounds()
        table.down = True
        table.await_rounds()
        assert watchers.queues([MARIA]) == ("one",)


def test_before_it_works_and_where_nobody_reads_nobody_is_told():
    assert Watchers(Table()).queues([MARIA]) == ()
