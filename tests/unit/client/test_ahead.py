"""What another thread makes ahead: in order, by a bounded number, and nothing more once it is closed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from client.ahead import ahead

PATIENCE_SECONDS = 30.0


class Source:
    """Numbers; tells how many were made, and by whom."""

    def __init__(self, end: int, error: BaseException | None = None) -> None:
        self.end = end
        self.error = error
        self.made: list[int] = []
        self.threads: set[int] = set()
        self.more = threading.Condition()

    def __iter__(self) -> Iterator[int]:
        for number in range(self.end):
            with self.more:
                self.made.append(number)
                self.threads.add(threading.get_ident())
                self.more.notify_all()
            yield number
        if self.error is not None:
            raise self.error

    def wait_for(self, count: int) -> None:
        with self.more:
            assert self.more.wait_for(lambda: len(self.made) >= count, PATIENCE_SECONDS)


def helpers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "smr ahead"]


def test_everything_comes_in_its_order_and_is_made_by_one_other_thread():
    source = Source(100)
    with closing(ahead(iter(source), 3)) as made:
        assert list(made) == list(range(100))
    assert len(source.threads) == 1
    assert threading.get_ident() not in source.threads
    assert not helpers()


def test_nothing_is_made_before_the_first_is_asked_for():
    source = Source(5)
    made = ahead(iter(source), 3)
    assert not source.made
    made.close()
    assert not source.made


def test_it_is_ahead_by_what_was_allowed_and_no_more():
    source = Source(100)
    with closing(ahead(iter(source), 3)) as made:
        for taken in range(1, 20):
            next(made)
            source.wait_for(taken + 3)
            assert len(source.made) == taken + 3
    assert len(source.made) == 22  # what was made for nobody, and nothing since


def test_closed_it_has_ended_whatever_it_was_doing():
    source = Source(100)
    with closing(ahead(iter(source), 2)) as made:
        next(made)
    assert not helpers()
    count = len(source.made)
    assert count <= 3
    assert list(made) == []
    assert len(source.made) == count


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), SystemExit()])
def test_what_the_source_raises_comes_after_what_it_gave(error):
    with closing(ahead(iter(Source(3, error)), 8)) as made:
        assert [next(made) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(type(error)) as caught:
            next(made)
    assert caught.value is error
    assert not helpers()


def test_an_empty_source_gives_nothing():
    assert list(ahead(iter(()), 1)) == []
    assert not helpers()
