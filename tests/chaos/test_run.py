"""A short run: every kind of fault once, while clients of both kinds work. `make chaos` runs for as long as asked."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
from pathlib import Path

import pytest

from tests.chaos.history import Kind, Outcome
from tests.chaos.run import Scale, run, show
from tests.support.cutting_proxy import CuttingProxy

SECONDS = 10.0


@pytest.mark.timeout(300)
def test_nothing_is_lost_repeated_or_made_up(tmp_path: Path):
    seed = secrets.randbelow(10**9)
    print(f"chaos: seed {seed}")
    result = run(tmp_path, seed=seed, scale=Scale(wire_clients=3, library_clients=1))
    show(result)
    assert not result.violations, f"with the seed {seed}: {result.violations[:5]}"
    assert {each.kind for each in result.history.faults} == {
        "start",
        "worker-kill",
        "client-kill",
        "connections-cut",
        "primary-step-down",
        "primary-kill",
        "broker-restart",
    }
    answered = [each for each in result.history.operations if each.outcome is Outcome.OK]
    assert {each.kind for each in answered} == set(Kind), "some kind of operation was never answered"
    assert {each.client.partition("-")[0] for each in answered if each.kind is Kind.SEND} == {"wire", "library"}
    assert not _processes_of(tmp_path)


def _processes_of(folder: Path) -> list[int]:
    """Process ids whose command line names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_text(errors="replace")
            except OSError:
                continue
            if str(folder) in command:
                found.append(int(entry.name))
    return found


def test_the_proxy_passes_on_until_it_is_cut():
    def echo() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer:
                while data := peer.recv(100):
                    peer.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=echo, daemon=True).start()
        with CuttingProxy(server.getsockname()[1]) as proxy:
            address = ("127.0.0.1", proxy.port)
            with socket.create_connection(address, SECONDS) as first:
                first.sendall(b"carta")
                assert first.recv(100) == b"carta"
                assert proxy.cut() == 1
                with contextlib.suppress(ConnectionResetError):
                    assert first.recv(100) == b""
            with socket.create_connection(address, SECONDS) as second:
                second.sendall(b"outra")
                assert second.recv(100) == b"outra"
