"""A private process never outlives us, whatever way we end, nor does what it started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from broker_config.private_process import PrivateProcess, StartFailed, clean_environment, free_ports, hold_ports

SHELL = "/bin/sh"
# Starts a daemon in a session of its own, says both ids, then sleeps.
WITH_A_DAEMON = "setsid sleep 300 & echo daemon $!; echo ready; exec sleep 300"
LIMIT_SECONDS = 20


def eventually(condition, what):
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the second when it goes between the opening and the reading
        return False
    return state not in "ZX"


def start(tmp_path, script=WITH_A_DAEMON):
    return PrivateProcess([SHELL, "-c", script], environment=clean_environment({}), log=tmp_path / "log")


def daemon_of(log):
    eventually(lambda: log.exists() and "ready" in log.read_text(), "the process says nothing")
    return int(log.read_text().split()[1])


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_end_takes_the_daemon_along(tmp_path, end):
    process = start(tmp_path)
    daemon = daemon_of(tmp_path / "log")
    assert process.running
    assert alive(daemon)
    process.stop(5) if end == "stop" else process.kill()
    assert not process.running
    assert not alive(process.pid)
    assert not alive(daemon)


def test_who_does_not_listen_is_killed(tmp_path):
    process = start(tmp_path, "trap '' TERM; echo ready; while :; do sleep 1; done")
    eventually(lambda: "ready" in (tmp_path / "log").read_text(), "the process says nothing")
    process.stop(0.2)
    assert not alive(process.pid)


PARENT = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
from broker_config.private_process import PrivateProcess, clean_environment
p = PrivateProcess(["/bin/sh", "-c", sys.argv[1]], environment=clean_environment({}), log=Path(sys.argv[2]))
print(p.pid, flush=True)
time.sleep(300)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
def test_it_dies_with_its_program(tmp_path, number):
    log = tmp_path / "log"
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, WITH_A_DAEMON, str(log)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as program:
        server = int(program.stdout.readline())
        daemon = daemon_of(log)
        program.send_signal(number)
        program.wait(LIMIT_SECONDS)
    eventually(lambda: not alive(server), "the server outlives its program")
    eventually(lambda: not alive(daemon), "the daemon outlives its program")


def test_a_forked_copy_of_us_does_not_keep_it_alive(tmp_path):
    """The guard also looks at who its parent is: a fork that holds our end of the pipe is not us."""
    log = tmp_path / "log"
    forking = PARENT.replace("time.sleep(300)", "import os\nif os.fork(): os._exit(0)\ntime.sleep(60)")
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", forking, WITH_A_DAEMON, str(log)],
        stdout=subprocess.PIPE,
        process_group=0,
    ) as program:
        server = int(program.stdout.readline())
        try:
            eventually(lambda: not alive(server), "the server lives on with a copy of its program")
        finally:
            os.killpg(program.pid, signal.SIGKILL)


def test_a_killed_guard_takes_the_server_along(tmp_path):
    process = start(tmp_path, "echo ready; exec sleep 300")
    os.kill(process._guard.pid, signal.SIGKILL)
    eventually(lambda: not alive(process.pid), "the server outlives its guard")
    process.kill()


def test_a_program_that_ends_is_noticed_with_its_last_words(tmp_path):
    process = start(tmp_path, "echo 'no space left on device' >&2; exit 3")
    with pytest.raises(StartFailed, match="no space left on device"):
        process.wait_until(lambda: False, seconds=LIMIT_SECONDS, what="the server")
    process.kill()


def test_a_program_that_never_answers_is_given_up(tmp_path):
    process = start(tmp_path)
    with pytest.raises(StartFailed, match="did not answer"):
        process.wait_until(lambda: False, seconds=0.1, what="the server")
    process.kill()


def test_a_program_that_is_not_there_cannot_be_started(tmp_path):
    with pytest.raises(StartFailed):
        PrivateProcess([str(tmp_path / "nothing")], environment=clean_environment({}), log=tmp_path / "log")


def test_the_server_sees_nothing_of_our_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SMR_PASSPHRASE_FILE", "/nowhere")
    process = PrivateProcess(
        [SHELL, "-c", "env; echo ready; exec sleep 300"],
        environment=clean_environment({"A": "b"}),
        log=tmp_path / "log",
    )
    eventually(lambda: "ready" in (tmp_path / "log").read_text(), "the process says nothing")
    process.kill()
    assert "A=b" in (tmp_path / "log").read_text()
    assert "SMR_" not in (tmp_path / "log").read_text()


def test_a_port_that_is_held_is_nobody_elses():
    (held,) = hold_ports(1)
    with socket.socket() as other:
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", held.number))
        held.close()
        held.close()
        other.bind(("127.0.0.1", held.number))


def test_free_ports_are_different_and_free():
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(20_000 <= port < 32_000 for port in ports)
