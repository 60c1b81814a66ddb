"""A small process that stands between a program and a private server, so that the server never outlives the program.

    python process_guard.py PARENT_PID LOG_FILE COMMAND [ARGUMENT...]

It prints the server's process id, then waits for one of three ends: the server ends, its own standard input is closed,
or its parent is gone. Then it kills everything that the server ever started and ends with the server's exit status.

Everything means everything: as a "child subreaper" (prctl(2), Linux) this process inherits what daemonised, such as
Erlang's epmd, which otherwise goes on listening for ever. It uses the standard library alone and is run isolated.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
POLL_SECONDS: Final = 0.5  # how often the parent is looked for; the other two ends wake us at once
KILL_ROUNDS: Final = 100


def _prctl(option: int, argument: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


def _before_exec() -> None:
    """In the server, before it becomes one: it dies with this guard, should somebody kill the guard itself.

    Safe between fork and exec here, because the guard has a single thread.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _children() -> list[int]:
    """Process ids of our own children, adopted ones included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                # The name in parentheses may hold anything; the parent's id is the second field after the last one.
                parent = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
                if parent == os.getpid():
                    found.append(int(entry.name))
    return found


def _kill_everything() -> None:
    """Kills our children until there are none: the orphans of each round are our children in the next."""
    for _ in range(KILL_ROUNDS):
        children = _children()
        if not children:
            return
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _reap_adopted(server: subprocess.Popen[bytes]) -> None:
    """Collects adopted children that ended by themselves; the server's own status is left to `subprocess`."""
    for pid in _children():
        if pid != server.pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _wait_for_an_end(server: subprocess.Popen[bytes], parent: int, wakeup: int) -> None:
    while server.poll() is None and os.getppid() == parent:
        ready, _, _ = select.select([0, wakeup], [], [], POLL_SECONDS)
        if wakeup in ready:
            os.read(wakeup, 4096)
            _reap_adopted(server)
        if 0 in ready and not os.read(0, 4096):
            return


def main() -> int:
    """Runs the server until one of the three ends; returns its exit status, or 128 plus the signal that ended it."""
    parent, log, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)  # the end comes through standard input, in the parent's own order
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
    try:
        with Path(log).open("ab") as sink:
            server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                preexec_fn=_before_exec,  # noqa: PLW1509 - this process has one thread
            )
        sys.stdout.write(f"{server.pid}\n")
        sys.stdout.flush()
        _wait_for_an_end(server, parent, readable)
        status = server.poll()
    finally:
        _kill_everything()
    if status is None:
        return 128 + signal.SIGKILL
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
