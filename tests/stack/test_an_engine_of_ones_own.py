"""The engine of these tests ends with whoever started it, however they end. Before all others, which share one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import host_network
from tests.support.containers.engine import STORAGE_DRIVERS, Engine, EngineFailed

END_SECONDS = 60.0
# An engine with a network of its own, so that there is something to leave behind.
HELD = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may have it ignored
from tests.support.containers.engine import Engine
with Engine() as engine:
    engine.run("network", "create", "left")
    print(engine.environment["DOCKER_HOST"], flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def before() -> object:
    return network()


@pytest.fixture
def holder() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A program that runs an engine, and where that listens."""
    process = subprocess.Popen(
        [sys.executable, "-c", HELD],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    yield process, process.stdout.readline().strip()
    process.kill()
    process.wait(END_SECONDS)
    process.stdout.close()


def network() -> object:
    """The machine's bridges and packet filter: what it does, without what is counted or said of it."""
    lines = (line.split(" [")[0] for line in host_network._rules().splitlines())
    # A filter that was never used has no tables; one that was has some that let everything pass.
    of_none = re.compile(r"#.*|\*.*|COMMIT|:\w+ ACCEPT")
    rules = [line for line in lines if not of_none.fullmatch(line)]
    return host_network._bridges(), rules, host_network.FORWARDING.read_text()


def programs(socket: str) -> list[str]:
    """Command lines of all that was started for the engine of this socket."""
    folder = Path(socket.removeprefix("unix://")).parent.name
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = each.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it has just ended
        if folder in line:
            found.append(line)
    return found


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_it(before: object, holder: tuple[subprocess.Popen[str], str], end: signal.Signals) -> None:
    process, socket = holder
    assert programs(socket)
    assert network() != before
    with pytest.raises(EngineFailed, match="another run"), Engine():
        pass
    os.kill(process.pid, end)
    process.wait(END_SECONDS)
    deadline = time.monotonic() + END_SECONDS
    while programs(socket):
        assert time.monotonic() < deadline, programs(socket)
        time.sleep(0.1)
    if end is signal.SIGKILL:  # nobody was left to clear up: the next one does
        with Engine() as engine:
            assert engine.run("network", "ls", "--format", "{{.Name}}").split() == ["bridge", "host", "none"]
    assert network() == before
    assert str(Path(os.environ["XDG_CACHE_HOME"])) not in Path("/proc/self/mounts").read_text()


def test_another_way_to_keep_layers_where_the_best_is_not_to_be_had(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tests.support.containers.engine.STORAGE_DRIVERS", ("aufs", *STORAGE_DRIVERS[1:]))
    with Engine() as running:
        assert running.run("info", "--format", "{{.Driver}}").strip() == "vfs"
    assert "does not start with aufs" in capsys.readouterr().err
