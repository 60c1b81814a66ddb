"""A client of a run, in a process of its own that can be killed and started again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from repository_worker.processes import die_with_parent

STOP_SECONDS = 60.0


class ClientProcess:
    """One client. `start` it from the main thread."""

    def __init__(self, plan: Path, module: str, name: str, number: int, *, may_forget: bool) -> None:
        self.name = name
        self.may_forget = may_forget
        self._plan = plan
        self._module = module
        self._number = number
        self._incarnation = 0
        self._log = plan.parent / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, forget: bool = False) -> None:
        """Another process; with `forget` it begins without the state of the one before."""
        self._incarnation += 1
        command = [sys.executable, "-m", self._module, str(self._plan), self.name]
        command += [str(self._number), str(self._incarnation), *(["forget"] if forget else [])]
        parent = os.getpid()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509 - one system call, no locks
            )

    def kill(self) -> None:
        """SIGKILL; what it was doing has no end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_SECONDS)

    def require_well(self) -> None:
        """Raises AssertionError when it ended by itself."""
        assert self._process is not None
        assert self._process.poll() is None, f"client {self.name} has ended:\n{self.tail()}"

    def finish(self) -> None:
        """Waits until it has come to its end, which it was told of. Raises AssertionError when it ends badly."""
        assert self._process is not None
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"client {self.name} does not come to its end:\n{self.tail()}") from None
        assert status == 0, f"client {self.name} ended with {status}:\n{self.tail()}"

    def tail(self) -> str:
        """The end of what it printed."""
        return self._log.read_bytes()[-3000:].decode("utf-8", "replace")
