"""A client that floods is shed by the workers and cut off by the guard, while the others go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from broker_config import names
from broker_config.connection import ConnectionSettings, connect
from crypto_core import ids
from crypto_core.keys import SigningKey
from repository_worker.clients import Clients
from repository_worker.guard import CUT_OFF_SECONDS, Guard
from repository_worker.stack import PrivateStack, Servers
from tests.support.flood import Flood
from tests.support.wire import Wire

pytestmark = pytest.mark.timeout(300)

GUARD_RATE = 300.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory, servers: Servers) -> Iterator[PrivateStack]:
    settings = {"SMR_REPOSITORY_CLIENT_RATE": "50", "SMR_REPOSITORY_CLIENT_BURST": "100"}
    folder = tmp_path_factory.mktemp("stack")
    with PrivateStack(
        folder, workers=1, settings=settings, own_accounts=True, metrics=True, servers=servers
    ) as running:
        yield running


def account(stack: PrivateStack, key: SigningKey) -> tuple[names.Installation, ConnectionSettings]:
    installation = names.Installation(ids.installation_of(key.public.raw))
    return installation, stack.broker.enrol(installation, stack.vhost)


def blocked(clients: Clients) -> set[names.Installation]:
    """Who is cut off, at the whole broker: other files may have left some."""
    return {each.installation for each in clients.all() if each.blocked}


def test_it_is_noticed_and_cut_off_in_time_and_the_others_are_answered(stack, capsys):
    flooding, its_account = account(stack, SigningKey.generate())
    key = SigningKey.generate()
    _, honest = account(stack, key)
    clients = stack.clients()
    before = blocked(clients)
    guard = Guard(stack.broker.administration(), clients, rate=GUARD_RATE, block_seconds=2)
    ended = threading.Event()
    guarding = threading.Thread(target=guard.run, args=(ended,), daemon=True)
    guarding.start()
    flood = Flood(its_account)
    flood.start()
    answered: list[float] = []
    try:
        with Wire(honest, stack.descriptor, key) as wire:
            while flood.is_alive():
                started = time.monotonic()
                wire.anonymous()
                answered.append(time.monotonic() - started)
        assert flood.ended is not None, f"{flood.sent} messages, and nobody cut it off"
        took = flood.ended - flood.began
        with capsys.disabled():
            worst = max(answered)
            print(
                f"\nflood of {flood.sent} messages cut off after {took:.1f} s; others' slowest of {len(answered)}"
                f" negotiations {worst * 1000:.0f} ms"
            )
        assert took < 2 * CUT_OFF_SECONDS
        assert blocked(clients) - before == {flooding}
        deadline = time.monotonic() + 4 * CUT_OFF_SECONDS
        while blocked(clients) - before:  # it is let in again after its time
            assert time.monotonic() < deadline
            time.sleep(0.2)
        with connect(its_account) as again:
            assert again.is_open
    finally:
        ended.set()
        guarding.join()
