"""Private servers for development and tests: on loopback, on free ports, and gone when their program is gone.

    LocalServerError            a private server cannot be had
    ├── ProgramMissing          its program is not installed
    └── StartFailed             it was started and did not answer; the end of its log is in the message

A server runs in a session of its own, so that Ctrl-C in a terminal reaches our program alone, which stops its servers
in the right order. Should our program die in any other way, `process_guard` ends the server and all that it started.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
# Below what Linux hands out for outgoing connections (from 32768), so that none of those can take a port away.
LOWEST_PORT: Final = 20_000
HIGHEST_PORT: Final = 32_000
PORT_TRIES: Final = 500
GUARD_SECONDS: Final = 15
PROBE_PAUSE_SECONDS: Final = 0.05
LOG_TAIL_BYTES: Final = 3000


class LocalServerError(Exception):
    """A private server cannot be had."""


class ProgramMissing(LocalServerError):
    """The server's program is not installed on this machine."""


class StartFailed(LocalServerError):
    """The server ended or did not answer in time."""


def free_ports(count: int) -> list[int]:
    """Different TCP ports that nobody listens on at loopback now.

    Somebody else may take one before the server does, therefore whoever starts a server tries again with other ports
    when it cannot listen. Numbers are drawn at random so that two programs starting at once hardly ever meet.
    """
    held = hold_ports(count)
    for each in held:
        each.close()
    return [each.number for each in held]


@dataclass(frozen=True, slots=True)
class HeldPort:
    """A TCP port on loopback that nobody else gets until `close`."""

    number: int
    _holder: socket.socket = field(repr=False)

    def close(self) -> None:
        """Leaves it to whoever takes it next; may be called again."""
        self._holder.close()


def hold_ports(count: int) -> list[HeldPort]:
    """Different TCP ports on loopback, held for a server that starts later. Raises StartFailed."""
    draw = random.SystemRandom()
    held: list[HeldPort] = []
    for _ in range(PORT_TRIES):
        if len(held) == count:
            return held
        number = draw.randrange(LOWEST_PORT, HIGHEST_PORT)
        candidate = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            candidate.bind((LOOPBACK, number))
        except OSError:
            candidate.close()
        else:
            held.append(HeldPort(number, candidate))
    for each in held:
        each.close()
    raise StartFailed(f"no {count} free ports were found on {LOOPBACK}; what is using them all?")


class PrivateProcess:
    """One running server behind its guard. Making it starts it; `stop` or `kill` end it, and so does our own end."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        guard = Path(__file__).with_name("process_guard.py")
        # The pipe to the guard is what tells it that we are alive: it is not inherited by other children of ours.
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(guard), str(os.getpid()), str(log), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,
        )
        if self._guard.stdout is None:
            raise StartFailed("the guard has no standard output")
        line = self._guard.stdout.readline().strip()
        self._guard.stdout.close()
        if not line.isdigit():
            self._end()
            raise StartFailed(f"{command[0]} could not be started.{self.tail()}")
        self.pid = int(line)

    @property
    def running(self) -> bool:
        """Whether the server is still there."""
        return self._guard.poll() is None

    def stop(self, grace_seconds: float) -> None:
        """Asks the server to end, gives it time, then kills it with all that it started. Returns when all is gone."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(grace_seconds)
        self._end()

    def kill(self) -> None:
        """Ends the server as a power cut would (SIGKILL), with all that it started. Returns when all is gone."""
        self._signal(signal.SIGKILL)
        self._end()

    def tail(self) -> str:
        """The end of the server's log, for an error message; empty when there is none."""
        try:
            text = self.log.read_bytes()[-LOG_TAIL_BYTES:].decode("utf-8", "replace").strip()
        except OSError:
            return ""
        return f" The end of {self.log}:\n{text}" if text else ""

    def wait_until(self, ready: Callable[[], bool], *, seconds: float, what: str) -> None:
        """Probes until `ready()` is true. Raises `StartFailed` when the server ends or the time is over."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running:
                raise StartFailed(f"{what} ended while it was starting.{self.tail()}")
            if time.monotonic() > deadline:
                raise StartFailed(f"{what} did not answer within {seconds:.0f} s.{self.tail()}")
            time.sleep(PROBE_PAUSE_SECONDS)

    def _signal(self, number: int) -> None:
        # The guard alone collects the server, and it is alive here: the id cannot have gone to another process.
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _end(self) -> None:
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        try:
            self._guard.wait(GUARD_SECONDS)
        except subprocess.TimeoutExpired as e:
            raise StartFailed(f"process {self._guard.pid}, which guards a private server, does not end") from e


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """What a private server sees: the search path and the language, nothing else of ours, and `extra`."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}
    return {**kept, **extra}
