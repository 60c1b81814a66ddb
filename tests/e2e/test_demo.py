"""`make demo` ends well, and leaves nothing running or listening: at its end, after Ctrl-C, after a failure."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHOLE_SECONDS = 180.0
END_SECONDS = 60.0


class RunningDemo:
    """The demonstration in a process group of its own, its folder where a test can find what is left of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.demo"],
                cwd=ROOT,
                env={**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def text(self) -> str:
        return self.output.read_text("utf-8")

    def wait_for(self, pattern: str) -> None:
        """Returns when this stands in the output."""
        self.wait_until(lambda: re.search(pattern, self.text()) is not None)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Returns when this is true; fails when the demonstration ends before."""
        deadline = time.monotonic() + WHOLE_SECONDS
        while not condition():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.05)

    def end(self, seconds: float) -> int:
        try:
            return self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)

    def processes(self) -> list[tuple[int, str]]:
        """What works in the folder of this demonstration."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                environment = (entry / "environ").read_bytes()
                if int(entry.name) != os.getpid() and (
                    str(self.folder) in words or str(self.folder).encode() in environment
                ):
                    found.append((int(entry.name), words))
        return found

    def ports(self) -> set[int]:
        """TCP ports on which processes of this demonstration listen."""
        inodes = set()
        for pid, _ in self.processes():
            for link in Path(f"/proc/{pid}/fd").glob("*"):
                with contextlib.suppress(OSError):
                    inodes.add(str(link.readlink()))
        listening = set()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                listening.add(int(words[1].split(":")[1], 16))
        return listening

    def require_nothing_left(self, ports: set[int]) -> None:
        assert not self.processes()
        listening = {
            int(line.split()[1].split(":")[1], 16)
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
            if line.split()[3] == "0A"
        }
        assert not listening & ports


@pytest.fixture
def demo(tmp_path):
    running = RunningDemo(tmp_path)
    yield running
    if running.process.poll() is None:
        os.killpg(running.process.pid, signal.SIGKILL)


@pytest.mark.timeout(300)
def test_it_plays_to_the_end_and_leaves_nothing(demo):
    demo.wait_for("Registration")
    ports = demo.ports()
    assert len(ports) >= 4  # AMQP, its distribution and epmd, MongoDB, the CRLs
    assert demo.end(WHOLE_SECONDS) == 0, demo.text()
    text = demo.text()
    assert "What was shown" in text
    assert "Nothing is left running." in text
    assert "Segue a ata da reunião de ontem." in text
    assert re.search(r"receipt signed by .* Citizen Card, verified now", text)
    demo.require_nothing_left(ports)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("moment", ["A private stack", "Registration", "Maria writes"])
def test_ctrl_c_leaves_nothing(demo, moment):
    demo.wait_for(moment)
    ports = demo.ports()
    os.kill(demo.process.pid, signal.SIGINT)
    assert demo.end(END_SECONDS) == 130, demo.text()
    assert "Nothing is left running." in demo.text()
    demo.require_nothing_left(ports)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("program", ["mongod", "beam.smp"])
def test_ctrl_c_while_the_servers_start_leaves_nothing(demo, program):
    demo.wait_until(lambda: any(program in words for _, words in demo.processes()))
    os.kill(demo.process.pid, signal.SIGINT)
    assert demo.end(END_SECONDS) == 130, demo.text()
    assert "Nothing is left running." in demo.text(), demo.text()
    demo.require_nothing_left(set())


@pytest.mark.timeout(300)
def test_a_failure_is_told_and_leaves_nothing(demo):
    demo.wait_for("A session")
    ports = demo.ports()
    for pid, words in demo.processes():
        # The broker too: who asks learns of it at once, instead of waiting for a reply.
        if "repository_worker run" in words or "beam.smp" in words.partition(" ")[0]:
            os.kill(pid, signal.SIGKILL)
    assert demo.end(WHOLE_SECONDS) == 1, demo.text()
    assert "The demonstration failed" in demo.text()
    demo.require_nothing_left(ports)
