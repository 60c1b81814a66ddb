"""`make flood-stack`: docker-compose.yml while somebody floods it, and how long the others wait for their answers.

Clients with an account each ask one short question after the other, over TLS from outside; one more client floods until
the guard of the composition cuts it off. A wait is from the first try to the answer; looking for replies has steps of
10 ms. What waits longer than a client's patience is tried again, and counts whole.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pika.exceptions

from broker_config import enrolment, names
from broker_config.connection import ConnectionSettings
from crypto_core import commands, ids
from crypto_core import descriptor as descriptors
from crypto_core.descriptor import Descriptor
from crypto_core.ids import UserId
from crypto_core.keys import SigningKey
from tests.stack.system import System
from tests.support.containers.engine import Engine
from tests.support.containers.images import Images
from tests.support.flood import FLOOD_SECONDS, Flood
from tests.support.wire import Wire

CLIENTS: Final = 4
#: How long is measured before the flood, and after it was cut off; seconds.
CALM_SECONDS: Final = 20.0
#: Between two questions of one client, so that the machine is not at its limit without a flood; seconds.
PAUSE_SECONDS: Final = 0.1
NOBODY: Final = commands.List(UserId(bytes(28)), None, False, None)


def account(system: System, key: SigningKey) -> ConnectionSettings:
    """The account of a new installation with this app key, as its operator enrols it."""
    given = enrolment.read(system.enrol(ids.installation_of(key.public.raw)))
    return enrolment.connection(
        names.Installation(given.installation),
        given.password,
        given.broker or f"amqps://client@localhost:{system.port}/{names.VHOST}",
        ca=given.ca,
    )


def ask_until(
    over: threading.Event, settings: ConnectionSettings, found: Descriptor, key: SigningKey
) -> list[tuple[float, float]]:
    """Moment and wait of every answer, in seconds."""
    waits = []
    with Wire(settings, found, key) as wire:
        wire.anonymous()
        while not over.wait(PAUSE_SECONDS):
            began = time.monotonic()
            while True:
                try:
                    wire.refused(NOBODY)
                    break
                except (AssertionError, pika.exceptions.NackError):
                    continue  # no answer in time, or the queue was full
            waits.append((time.monotonic(), time.monotonic() - began))
    return waits


def report(name: str, waits: Sequence[float]) -> str:
    """One line: how many answers, and half, 99 of 100 and the slowest of the waits."""
    ordered = sorted(waits)
    picked = (ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], ordered[-1])
    half, most, slowest = (f"{1000 * each:7.0f} ms" for each in picked)
    return f"{name:22} {len(ordered):5} answers   p50 {half}   p99 {most}   slowest {slowest}"


def measure(system: System) -> list[str]:
    """The lines of the report."""
    found = descriptors.read(system.descriptor.read_bytes()).unverified
    keys = [SigningKey.generate() for _ in range(CLIENTS + 1)]
    flood, *clients = (account(system, key) for key in keys)
    over = threading.Event()
    with ThreadPoolExecutor(CLIENTS) as crew:
        asked = [crew.submit(ask_until, over, each, found, key) for each, key in zip(clients, keys[1:], strict=True)]
        try:
            time.sleep(CALM_SECONDS)
            flooding = Flood(flood)
            flooding.start()
            flooding.join(2 * FLOOD_SECONDS)
            time.sleep(CALM_SECONDS)
        finally:
            over.set()
        answers = [each for future in asked for each in future.result()]
    cut_off = flooding.ended
    assert cut_off is not None, "nobody cut the flood off"
    slow_until = max((moment for moment, wait in answers if moment > cut_off and wait > 1.0), default=cut_off)
    took, later = cut_off - flooding.began, slow_until - cut_off
    return [
        f"{flooding.sent} messages, cut off after {took:.1f} s; the last wait over a second ended {later:.1f} s later",
        report("before", [wait for moment, wait in answers if moment < flooding.began]),
        report("until it is cut off", [wait for moment, wait in answers if flooding.began <= moment <= cut_off]),
        report("after", [wait for moment, wait in answers if moment > cut_off]),
    ]


def main() -> int:
    with (
        tempfile.TemporaryDirectory(prefix="smr-flood-") as name,
        Engine() as engine,
        System(engine, Images(engine).make(), Path(name) / "system") as system,
    ):
        system.trust_the_state()
        system.up()
        print("\n".join(measure(system)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
