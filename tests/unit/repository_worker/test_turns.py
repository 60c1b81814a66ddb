"""Workers of one home: one has the turn, others wait for a bounded time, and whoever follows hears what was made."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_core.ends import ENDS_BYTES, MAC_BYTES
from crypto_core.ids import Digest, Milliseconds, RepositoryId, UserId
from repository_worker import turns
from repository_worker.ends import Letterbox
from repository_worker.luck import PAUSE_MIN
from repository_worker.metrics import Metrics
from repository_worker.storage.chains import Tip
from repository_worker.storage.heads import Heard
from repository_worker.turns import Turns
from tests.support.protocol import JOAO, MARIA, REPOSITORY

KEY = b"k" * 32
NOW = Milliseconds(1_790_000_000_000)
TIPS = {MARIA: Tip(3, Digest(b"h" * 32), 5, 9), JOAO: Tip(1, Digest(b"i" * 32), 7, 0)}
MORE = {MARIA: Tip(4, Digest(b"j" * 32), 6, 9)}


def ends_of(count: int, number: int = 1) -> dict[UserId, Tip]:
    return {UserId(place.to_bytes(len(MARIA))): Tip(number, Digest(b"h" * 32), 5, 9) for place in range(count)}


def letterbox(metrics: Metrics | None = None, *, repository: RepositoryId = REPOSITORY, key: bytes = KEY) -> Letterbox:
    return Letterbox(repository, key, metrics or Metrics(), clock=lambda: NOW)


def counted(metrics: Metrics, name: str, outcome: str) -> float:
    return metrics.registry.get_sample_value(f"{name}_total", {"outcome": outcome})


@pytest.fixture
def metrics() -> Metrics:
    """Of the second of two workers."""
    return Metrics()


@pytest.fixture
def two(tmp_path, metrics) -> Iterator[tuple[Turns, Turns]]:
    made = Turns(tmp_path, letterbox(), Metrics()), Turns(tmp_path, letterbox(metrics), metrics)
    yield made
    for each in made:
        each.close()


def pass_by(worker: Turns, made: dict | None = None) -> list[Heard] | None:
    """A whole turn."""
    heard = worker.take()
    if heard is not None:
        worker.give(made or {})
    return heard


def test_whoever_follows_hears_what_was_made_once_and_nobody_hears_oneself(two):
    first, second = two
    assert pass_by(first, TIPS) == []
    assert pass_by(first, MORE) == []
    assert pass_by(second) == [Heard(TIPS, NOW), Heard(MORE, NOW)]
    assert pass_by(second) == []
    assert pass_by(second, TIPS) == []
    assert pass_by(first) == [Heard(TIPS, NOW)]


def test_what_was_told_before_it_began_is_not_heard(two, tmp_path):
    pass_by(two[0], TIPS)
    late = Turns(tmp_path, letterbox(), Metrics())
    assert pass_by(late) == []
    pass_by(two[0], MORE)
    assert pass_by(late) == [Heard(MORE, NOW)]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), max_size=30))
def test_each_hears_all_that_others_made_in_order_or_nothing_when_it_was_too_much(told):
    """Whoever was away while more came than the file holds knows nothing of it, and hears what comes then."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(turns, "RING_BYTES", 8 * 1024):
        workers = [Turns(Path(folder), letterbox(), Metrics()) for _ in range(3)]
        missed: list[list[tuple[dict, int]]] = [[], [], []]
        for number, (who, count) in enumerate(told, 1):
            made = ends_of(count, number)
            heard = workers[who].take()
            whole = sum(size for _, size in missed[who]) <= turns.RING_BYTES
            assert heard == ([Heard(each, NOW) for each, _ in missed[who]] if whole else [])
            missed[who] = []
            workers[who].give(made)
            size = 4 + len(letterbox().write(made))
            for other in {0, 1, 2} - {who} if made else ():
                missed[other].append((made, size))
        for each in workers:
            each.close()


def test_one_has_the_turn_and_others_wait_for_a_bounded_time(two, metrics):
    first, second = two
    assert first.take() == []
    began = time.monotonic()
    assert second.take() is None
    assert turns.TURN_SECONDS <= time.monotonic() - began < 5
    assert counted(metrics, "smr_turns", "late") == 1
    first.give(TIPS)
    assert pass_by(second) == [Heard(TIPS, NOW)]
    assert counted(metrics, "smr_turns", "taken") == 1


def test_who_waited_in_vain_does_not_wait_for_a_while(tmp_path):
    now = [0.0]
    first = Turns(tmp_path, letterbox(), Metrics())
    second = Turns(tmp_path, letterbox(), Metrics(), clock=lambda: now[0])
    assert first.take() == []
    pauses = []

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    with mock.patch.object(time, "sleep", wait):
        assert second.take() is None
        assert sum(pauses) == pytest.approx(turns.TURN_SECONDS, abs=turns.ATTEMPT_SECONDS)
        pauses.clear()
        for _ in range(PAUSE_MIN):
            assert second.take() is None
        assert pauses == []
        assert second.take() is None
        assert pauses


def test_who_was_closed_has_no_turn_and_takes_nobody_elses(two, tmp_path):
    first, second = two
    assert first.take() == []
    second.close()
    second.give(TIPS)
    assert second.take() is None
    third = Turns(tmp_path, letterbox(), Metrics())
    assert third.take() is None
    first.give({})
    assert pass_by(third) == []


HOLDER = """
import sys, time
from pathlib import Path
from repository_worker.metrics import Metrics
from repository_worker.turns import Turns
from tests.unit.repository_worker.test_turns import letterbox
mine = Turns(Path(sys.argv[1]), letterbox(), Metrics())
assert mine.take() == []
print("taken", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path) -> Iterator[subprocess.Popen]:
    """Another process that has the turn and does not give it."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"taken\n"
            yield process
        finally:
            process.kill()


def test_the_turn_of_a_worker_that_is_killed_is_everybodys(two, holder):
    assert two[0].take() is None
    holder.send_signal(signal.SIGKILL)
    holder.wait(60)
    assert pass_by(two[0]) == []


def test_a_suspended_worker_holds_up_nobody_for_long(two, holder):
    holder.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    assert [two[0].take() for _ in range(100)] == [None] * 100
    assert time.monotonic() - began < 5  # of which a hundred waits would take three


def test_who_is_killed_while_it_tells_has_told_nothing(two, tmp_path, monkeypatch):
    first, second = two
    assert first.take() == []
    write, left = os.pwrite, [2]

    def killed_before_the_third(*given: object) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return write(*given)

    monkeypatch.setattr(os, "pwrite", killed_before_the_third)
    with pytest.raises(KeyboardInterrupt):
        first.give(TIPS)
    monkeypatch.undo()
    assert pass_by(second) == []
    pass_by(first, MORE)
    assert pass_by(second) == [Heard(MORE, NOW)]


class TestTheFileIsBelievedNothing:
    def test_what_no_worker_of_this_repository_made(self, tmp_path, metrics):
        own = Turns(tmp_path, letterbox(metrics), metrics)
        for other in (letterbox(key=b"K" * 32), letterbox(repository=RepositoryId("f" * len(REPOSITORY)))):
            pass_by(Turns(tmp_path, other, Metrics()), TIPS)
        assert pass_by(own) == []
        assert counted(metrics, "smr_ends_heard", "refused") == 2

    @pytest.mark.parametrize("at", [0, MAC_BYTES, 200])
    def test_what_was_changed(self, two, tmp_path, metrics, at):
        pass_by(two[0], TIPS)
        with (tmp_path / turns.FILE).open("r+b") as file:
            file.seek(12 + at)
            byte = file.read(1)
            file.seek(12 + at)
            file.write(bytes([byte[0] ^ 1]))
        assert pass_by(two[1]) == []
        assert counted(metrics, "smr_ends_heard", "refused") == 1

    @given(st.binary(max_size=600))
    def test_whatever_stands_there(self, content):
        with tempfile.TemporaryDirectory() as folder:
            workers = [Turns(Path(folder), letterbox(), Metrics()) for _ in range(2)]
            pass_by(workers[0], TIPS)
            Path(folder, turns.FILE).write_bytes(content)
            assert pass_by(workers[1]) == []
            pass_by(workers[1], MORE)
            Path(folder, turns.FILE).write_bytes(b"\xff" * len(content))
            assert all(pass_by(each, TIPS) == [] for each in workers)
            pass_by(workers[0], MORE)
            heard = pass_by(workers[1])
            assert heard in ([], [Heard(MORE, NOW)])
            for each in workers:
                each.close()

    @pytest.mark.parametrize("length", [0, ENDS_BYTES + 1, 2**32 - 1])
    def test_nothing_behind_a_length_that_none_of_ours_has(self, two, tmp_path, metrics, length):
        pass_by(two[0], TIPS)
        with (tmp_path / turns.FILE).open("r+b") as file:
            file.seek(8)
            file.write(length.to_bytes(4))
        assert pass_by(two[1]) == []
        assert counted(metrics, "smr_ends_heard", "refused") == 0

    def test_what_nobody_would_read_is_not_told(self, two):
        many = ends_of(1000)
        assert len(letterbox().write(many)) > ENDS_BYTES
        pass_by(two[0], many)
        pass_by(two[0], TIPS)
        assert pass_by(two[1]) == [Heard(TIPS, NOW)]


class TestWithoutTurns:
    def test_only_its_owner_reads_and_writes_it(self, two, tmp_path):
        assert stat.S_IMODE((tmp_path / turns.FILE).stat().st_mode) == 0o600

    @pytest.mark.parametrize("kind", ["missing folder", "link", "folder"])
    def test_where_there_can_be_no_file_nobody_waits(self, tmp_path, kind, capsys):
        home = tmp_path / "home"
        if kind != "missing folder":
            home.mkdir()
        if kind == "link":
            (home / turns.FILE).symlink_to(tmp_path / "elsewhere")
        if kind == "folder":
            (home / turns.FILE).mkdir()
        own = Turns(home, letterbox(), Metrics())
        assert "no turns" in "".join(capsys.readouterr())
        assert own.take() is None
        own.give(TIPS)
        assert not (tmp_path / "elsewhere").exists()

    @pytest.mark.parametrize("call", ["pread", "pwrite"])
    def test_a_disk_that_fails_ends_the_turns_and_nothing_else(self, two, tmp_path, monkeypatch, call):
        def fails(*_: object) -> int:
            raise OSError(5, "Input/output error")

        first, second = two
        with monkeypatch.context() as broken:
            broken.setattr(os, call, fails)
            pass_by(first, TIPS)
        assert first.take() is None
        assert pass_by(second) == []


CROWD = """
import os, sys
from pathlib import Path
from unittest import mock
from repository_worker import turns
from repository_worker.metrics import Metrics
from repository_worker.turns import Turns
from tests.unit.repository_worker.test_turns import letterbox, ends_of
folder, own = Path(sys.argv[1]), int(sys.argv[2])
heard = taken = 0
with mock.patch.object(turns, "TURN_SECONDS", 30.0):
    mine = Turns(folder, letterbox(), Metrics())
    print("there", flush=True)
    sys.stdin.readline()
    while taken < 40:
        found = mine.take()
        assert found is not None
        taken += 1
        os.close(os.open(folder / "alone", os.O_CREAT | os.O_EXCL))
        heard += len(found)
        os.unlink(folder / "alone")
        mine.give(ends_of(own + 1, taken))
    print("done", flush=True)
    sys.stdin.readline()
    found = mine.take()
    mine.give({})
print(heard + len(found), flush=True)
"""


def test_processes_never_have_it_together_and_hear_all_of_each_other(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, str(tmp_path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]

    def all_say() -> list[str]:
        return [process.stdout.readline().strip() for process in processes]

    def go() -> None:
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()

    try:
        assert all_say() == ["there"] * 3
        go()
        assert all_say() == ["done"] * 3
        go()
        assert all_say() == ["80"] * 3
        assert [process.wait(60) for process in processes] == [0] * 3
    finally:
        for process in processes:
            process.kill()
            process.communicate()
