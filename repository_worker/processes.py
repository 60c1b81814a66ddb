"""Several workers from one command: each is a process of its own, started anew when it ends unasked.

The keystore is opened once, before the first fork, so that the passphrase is asked for once. A worker dies with the
program that started it (prctl(2), Linux), whatever end that comes to.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Final, Self

import structlog

PR_SET_PDEATHSIG: Final = 1
#: A worker that ends sooner than this after its start is started again only after this pause; seconds.
PAUSE_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.1


def die_with_parent(parent: int) -> None:
    """This process gets SIGTERM when its parent (whose id is `parent`) is gone, and then hands back what it holds."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")
    if os.getppid() != parent:
        sys.exit(0)


def at_end(stop: Callable[[], None]) -> None:
    """Has a thread of its own call `stop`, once, at the first SIGTERM or SIGINT. To be called in the main thread.

    A handler runs in the middle of whatever the main thread does, also while that holds the very lock that `stop` is
    about to take: `threading.Event` then waits for itself, for ever. So the handler only leaves word for the thread.
    """
    word: queue.SimpleQueue[None] = queue.SimpleQueue()  # whose put may interrupt another put

    def leave_word(_number: int, _frame: FrameType | None) -> None:
        word.put(None)

    def wait() -> None:
        word.get()
        stop()

    threading.Thread(target=wait, name="end", daemon=True).start()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, leave_word)


class Stopped(Exception):
    """The user wants the program to end (SIGINT or SIGTERM)."""


class StopRequest:
    """While entered, SIGINT and SIGTERM leave word, and the main thread asks for it where it can end in order.

    An exception in the middle of anything, as Python's own handler raises it, can leave a lock taken for ever that
    other threads need (that of `logging`, for one), or lose sight of a thread that has just begun to start a server.
    """

    def __init__(self) -> None:
        self._word: queue.SimpleQueue[None] = queue.SimpleQueue()  # whose put may interrupt another put
        self._previous: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Self:
        for each in (signal.SIGTERM, signal.SIGINT):
            self._previous[each] = signal.signal(each, lambda _number, _frame: self._word.put(None))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, handler in self._previous.items():
            signal.signal(each, handler)

    def check(self) -> None:
        """Raises Stopped after either signal, every time."""
        if not self._word.empty():
            raise Stopped

    def wait(self) -> None:
        """Returns after either signal."""
        self._word.get()
        self._word.put(None)


class Team:
    """The worker processes of one command. To be used before any thread is started."""

    def __init__(self, size: int, work: Callable[[int], None]) -> None:
        """`work` is called in each process, with its number from 0, and works until SIGTERM."""
        self._size = size
        self._work = work
        self._running: dict[int, int] = {}
        self._started: dict[int, float] = {}
        self._ending = False
        self._log = structlog.get_logger("team")

    def run(self) -> None:
        """Keeps the team working until SIGTERM or SIGINT; returns when all have ended."""
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._end)
        for number in range(self._size):
            self._start(number)
        while self._running:
            self._collect()

    def _collect(self) -> None:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            time.sleep(_POLL_SECONDS)
            return
        number = self._running.pop(pid)
        if self._ending:
            return
        self._log.warning("worker ended", pid=pid, status=os.waitstatus_to_exitcode(status))
        time.sleep(max(0.0, self._started[number] + PAUSE_SECONDS - time.monotonic()))
        if not self._ending:
            self._start(number)

    def _start(self, number: int) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._be_worker(number, parent)
        self._running[pid] = number
        self._started[number] = time.monotonic()
        if self._ending:  # the signal came between the fork and its record
            os.kill(pid, signal.SIGTERM)

    def _be_worker(self, number: int, parent: int) -> None:
        """In the child: never returns into the parent's code."""
        status = 1
        try:
            die_with_parent(parent)
            self._work(number)
            status = 0
        except BaseException:  # noqa: BLE001 - whatever ends a worker, its process ends here
            self._log.exception("worker failed")
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._ending = True
        for pid in list(self._running):
            os.kill(pid, signal.SIGTERM)
