"""What holds for every test: the shared fixtures, and that unit tests stay on this machine."""

from __future__ import annotations

import gc
import ipaddress
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import keystores

pytest_plugins = [
    "tests.support.pki_fixtures",
    "tests.support.pkits_summary",
    "tests.support.servers",
]

UNIT = Path(__file__).parent / "unit"

# A loaded machine is slow, and that is no fault of what is tested.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")


def pytest_configure() -> None:
    """Ctrl-C means here and in the programs of the tests what it means at a terminal.

    A shell that is not interactive starts what stands before `&` with SIGINT ignored, and every child inherits that.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What was imported for the tests stays until the end: the collector of garbage need not look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cheap_keystores() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        keystores.set_cost(patch.setattr)
        yield


@pytest.fixture(autouse=True)
def offline(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuses every connection of a unit test to another machine."""
    if not request.path.is_relative_to(UNIT):
        return
    connect = socket.socket.connect

    def connect_here_only(self: socket.socket, address: object) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6}:
            host = str(address[0]) if isinstance(address, tuple) else ""
            assert ipaddress.ip_address(host).is_loopback, f"a unit test connects to {host}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here_only)
