"""Attachments through the client's library: their rate beside plain RPC, and the memory that a large one takes.

The rate is that of one client with its usual chunks in flight, from the moment when the repository has taken the upload
on to its last reply: the file is read, sealed, noted for a resumption, published, stored durably, answered, verified.
The floor: the same number of messages of the same size, as many in flight, to plain workers that store each durably.

Memory is that of the program `smr` and of the workers with a file of 1 GiB, above what they take for a letter without
attachments. Only in a full run: it takes long.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import floor
from bench.figures import Better, Measure
from bench.plan import Plan
from bench.world import World, resident_bytes
from client.api import Repository
from client.settings import Settings, Transfer
from client.state import files
from client.uploads import IN_FLIGHT
from crypto_core import limits
from pki.trust_store import TrustStore
from pki.virtual_card import VirtualCard, create_virtual_card

FILE_BYTES = 64 * limits.MIB
LARGE_BYTES = 1024 * limits.MIB
#: About what a command adds to its chunk, and what a reply has.
ENVELOPE_BYTES, REPLY_BYTES = 640, 460
AIM, BOUND = 0.8, 0.5
#: What the program and a worker may take above their base for a file of 1 GiB; MiB.
MEMORY_MIB = 100.0
LOOK_SECONDS = 0.02  #: how often the memory of a program is looked at
PASSPHRASE, PIN = "uma frase bem longa", "1234"
_RESET_PEAK = "5"  # proc(5): /proc/PID/clear_refs


@dataclass
class _Clock:
    """When a transfer began and ended."""

    began: float = 0.0
    ended: float = 0.0

    def tell(self, transfer: Transfer) -> None:
        self.ended = time.perf_counter()
        if transfer.done == 0:
            self.began = self.ended

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True)
class _Writer:
    """A citizen with a virtual card and a home, who writes to nobody else."""

    folder: Path
    card: VirtualCard
    settings: Settings
    user: str

    def environment(self) -> dict[str, str]:
        """For the program `smr`."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONUTF8": "1",
            "SMR_HOME": str(self.settings.home),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "SMR_PASSPHRASE_FILE": str(self.folder / "passphrase"),
            "SMR_PIN_FILE": str(self.folder / "pin"),
            "SMR_PKCS11_MODULE": str(self.card.settings.module),
            "SMR_ALLOW_PRIVATE_CRL_HOSTS": "1",
            **self.card.settings.environment,
        }


def attachments(world: World, plan: Plan) -> Iterable[Measure]:
    """Rates both ways."""
    with _writer(world) as writer:
        yield from _rates(world, plan, writer)


def attachment_memory(world: World, plan: Plan) -> Iterable[Measure]:
    """Memory of the program `smr` and of the workers with a large file. Only in a full run: it takes long."""
    if not plan.full:
        world.say("memory for an attachment of 1 GiB: only with FULL=1")
        return
    with _writer(world) as writer:
        yield from _memory(world, writer)


def _rates(world: World, plan: Plan, writer: _Writer) -> Iterator[Measure]:
    path = _file(writer.folder / "attachment.bin", FILE_BYTES)
    chunks = FILE_BYTES // limits.CHUNK_BYTES
    up: list[float] = []
    down: list[float] = []
    floors: list[float] = []
    with world.plain_workers("insert", REPLY_BYTES):
        for number in range(plan.repetitions):
            world.say(f"attachments, repetition {number + 1} of {plan.repetitions}")
            letter, seconds = _send(writer, path)
            up.append(FILE_BYTES / limits.MIB / seconds)
            played = world.play_floor(world.loads[:1], chunks, limits.CHUNK_BYTES + ENVELOPE_BYTES, IN_FLIGHT)
            floors.append(played.throughput * limits.CHUNK_BYTES / limits.MIB)
            floor.collection(world.stack.mongo_url, "inserted").drop()
            down.append(FILE_BYTES / limits.MIB / _read(writer, letter, writer.folder / f"to {number}"))
    extra = {"in_flight": IN_FLIGHT, "chunk_bytes": limits.CHUNK_BYTES, "file_bytes": FILE_BYTES}
    name = "plain RPC with the same chunks and durable inserts"
    yield Measure("attachment_upload", "MiB/s", tuple(up), tuple(floors), Better.HIGHER, AIM, BOUND, name, extra=extra)
    yield Measure("attachment_download", "MiB/s", tuple(down), (), Better.HIGHER, extra=extra)


def _send(writer: _Writer, path: Path) -> tuple[str, float]:
    clock = _Clock()
    with Repository(dataclasses.replace(writer.settings, progress=clock.tell)) as repository:
        letter = repository.send([writer.user], b"", "", [path]).letter_id
    return letter, clock.seconds


def _read(writer: _Writer, letter: str, folder: Path) -> float:
    clock = _Clock()
    with Repository(dataclasses.replace(writer.settings, progress=clock.tell)) as repository:
        for each in repository.read(letter, folder).attachments:
            if each.path is not None:
                each.path.unlink()
    return clock.seconds


def _memory(world: World, writer: _Writer) -> Iterator[Measure]:
    path = _file(writer.folder / "large.bin", LARGE_BYTES)
    # What the program takes anyhow, with a session that is open: opening it takes Argon2id's memory too.
    _peak_of_program(writer, "send", "--to", writer.user)
    base = _peaks(world, writer)
    workers = [each.pid for each in world.stack.workers]
    before = {pid: resident_bytes(pid) / limits.MIB for pid in workers}
    for pid in workers:
        Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK, encoding="ascii")
    large = _peaks(world, writer, path)
    extra = {**{f"{name} without it": peak for name, peak in base.items()}, **large}
    allowed = "what is allowed above the base"
    above = tuple(large[name] - base[name] for name in base)
    yield Measure(
        "attachment_client_memory", "MiB", (max(above),), (MEMORY_MIB,), Better.LOWER, 0.5, 1.0, allowed, extra=extra
    )
    most = max(_peak(pid) - before[pid] for pid in workers)
    yield Measure("attachment_worker_memory", "MiB", (most,), (MEMORY_MIB,), Better.LOWER, 0.5, 1.0, allowed)


def _peaks(world: World, writer: _Writer, *paths: Path) -> dict[str, float]:
    """The most memory that `smr` takes to send a letter with these files, and to read it; MiB."""
    size = sum(path.stat().st_size for path in paths) // limits.MIB
    world.say(f"memory for attachments of {size:,} MiB: smr send")
    attached = [argument for path in paths for argument in ("--attach", str(path))]
    sent = _peak_of_program(writer, "send", "--to", writer.user, *attached)
    world.say(f"memory for attachments of {size:,} MiB: smr read")
    with Repository(writer.settings) as repository:
        letter = repository.letters()[-1].letter_id
    read = _peak_of_program(writer, "read", letter, "--attachments", str(writer.folder / "large"))
    return {"smr send": sent, "smr read": read}


def _peak_of_program(writer: _Writer, *arguments: str) -> float:
    """The most memory that one run of `smr` took; MiB. Raises RuntimeError when it failed.

    Asked again and again while it runs: what wait4(2) tells of it begins with the memory of this process.
    """
    program = [sys.executable, "-m", "client", *arguments]
    peak = 0.0
    with subprocess.Popen(
        program, env=writer.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            peak = max(peak, _peak(process.pid))
            time.sleep(LOOK_SECONDS)
    if process.returncode != 0:
        raise RuntimeError(f"smr {arguments[0]} ended with {process.returncode}")
    return peak


def _peak(pid: int) -> float:
    """The most memory that a process took since its peak was reset; MiB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / limits.KIB
    return 0.0  # it has just ended


def _file(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        for _ in range(size // limits.MIB):
            file.write(secrets.token_bytes(limits.MIB))
    return path


@contextmanager
def _writer(world: World) -> Iterator[_Writer]:
    stack = world.stack
    with tempfile.TemporaryDirectory(prefix="smr-bench-") as name:
        folder = Path(name)
        card = create_virtual_card(stack.ca, folder / "card", "Maria Conceição Reis", key_kind="P-256", pin=PIN)
        trust = TrustStore.open(folder / "home" / "trust")
        trust.import_certificates(stack.ca_certificates, root_fingerprints={stack.ca_fingerprint})
        (folder / "passphrase").write_text(PASSPHRASE, encoding="utf-8")
        (folder / "pin").write_text(PIN, encoding="utf-8")
        settings = Settings(
            home=folder / "home",
            card=card.settings,
            passphrase=lambda _: PASSPHRASE,
            pin=lambda _: PIN,
            memory=files.private_folder(folder / "run" / "smr"),
            allow_private_crl_hosts=True,
        )
        with Repository(settings) as repository:
            repository.init(stack.descriptor_path.read_bytes(), root_fingerprint=stack.root_fingerprint)
            user = repository.register().user.hex()
        yield _Writer(folder, card, settings, user)
