"""The end of a program: signals that come at any moment, several at once, end it once and for all."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from repository_worker.processes import Stopped, StopRequest

PATIENCE_SECONDS = 30.0
#: A main thread that takes and gives back the lock of what it waits for, all the time: every signal meets it there.
BUSY = """
import threading
from repository_worker.processes import at_end

ended = threading.Event()
calls = []

def stop():
    calls.append(1)
    ended.set()

at_end(stop)
print("ready", flush=True)
while not ended.wait(0.000001):
    pass
print(len(calls), flush=True)
"""


@contextlib.contextmanager
def running(program: str) -> Iterator[subprocess.Popen[str]]:
    """A process of this program, which has said that it is ready."""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("attempt", range(3))
def test_signals_that_meet_the_main_thread_anywhere_end_it(attempt):
    with running(BUSY) as process:
        for _ in range(20):
            for each in (signal.SIGTERM, signal.SIGINT):
                process.send_signal(each)
        assert process.stdout.readline() == "1\n"
        process.wait(PATIENCE_SECONDS)


def test_the_end_is_waited_for_without_work():
    with running(BUSY) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
        assert process.poll() is None
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0


#: A main thread that holds the lock of `logging` all the time, with a thread beside it that needs it once asked to end.
LOGGING = """
import logging, threading
from repository_worker.processes import Stopped, StopRequest

def use():
    logging.getLogger().setLevel(logging.INFO)

with StopRequest() as request:
    print("ready", flush=True)
    try:
        while True:
            for _ in range(1000):
                use()
            request.check()
    except Stopped:
        beside = threading.Thread(target=use, daemon=True)
        beside.start()
        beside.join(10)
        print(beside.is_alive(), flush=True)
"""


@pytest.mark.parametrize("attempt", range(3))
def test_a_request_to_stop_leaves_no_lock_taken(attempt):
    with running(LOGGING) as process:
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "False\n"
        assert process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_stands_until_it_is_left(number):
    before = signal.getsignal(number)
    with StopRequest() as request:
        request.check()
        signal.raise_signal(number)
        signal.raise_signal(number)
        request.wait()
        for _ in range(2):
            with pytest.raises(Stopped):
                request.check()
    assert signal.getsignal(number) is before
