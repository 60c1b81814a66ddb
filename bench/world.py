"""What is measured and what measures: a private stack, two load processes, plain workers: one broker, one database."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

from bench import floor
from bench.figures import Played, together
from bench.people import Caller, Citizen, now_ms
from bench.primitives import Sample
from broker_config import names, topology
from broker_config.connection import ConnectionSettings, connect
from broker_config.permissions import Permissions
from crypto_core.ids import DIGEST_BYTES, SALT_BYTES
from crypto_core.keys import SigningKey
from crypto_core.session import Session
from pki.revocation import REFETCH_AFTER
from pki.tokens.profiles import CardKeyUse
from pki.validator import REMEMBER_FOR
from repository_worker.processes import StopRequest, die_with_parent
from repository_worker.settings import PREFIX, Settings
from repository_worker.stack import CLIENT_PERMISSIONS, PrivateStack

LOADS = 2  #: load processes
WORKERS = 2  #: worker processes, ours and plain ones
IN_FLIGHT = 64  #: messages in flight, all load processes together
BUSY = 32  #: citizens a load process that write to each other
SPECIAL = 4  #: citizens a load process whose mailboxes are made hot or large
QUIET = 16  #: citizens a load process with one unread letter each, whose mailboxes stay as they are
#: The exchange, the queue and the routing key of the plain workers: the same kind of path as that of commands.
FLOOR = "smr.bench.floor"
ECHO = "smr.bench.echo"
#: The account of the load processes: what a client may do, and publishing to the plain workers.
ACCOUNT = "smr-bench"
PERMISSIONS = Permissions(
    configure=CLIENT_PERMISSIONS.configure,
    write=r"^smr\.(commands|bench\.floor|bench\.echo)$",
    read=CLIENT_PERMISSIONS.read,
)
STOP_SECONDS = 10.0
METRICS_SECONDS = 5.0
CALLERS = 3  #: connections that register citizens at once

Say = Callable[[str], None]


class Child:
    """A process of this package that is told what to do in JSON lines."""

    def __init__(self, module: str, told: dict[str, Any]) -> None:
        parent = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the program that started it, which ends its children in order
            preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509 - one system call, no locks
        )
        self.tell(told)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def tell(self, told: dict[str, Any]) -> None:
        """Says what to do next, and does not wait."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        """Its next line. Raises RuntimeError when it ended instead; what it said about that is on standard error."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process of the measurement ended; its error is above")
        return line

    def stop(self) -> None:
        """Ends it and waits."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        self._process.kill()
        for each in (self._process.stdin, self._process.stdout):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.close()
        self._process.wait()


class World:
    """Entering it starts everything; `say` is told what is awaited. Raises Stopped when it is to end meanwhile."""

    def __init__(self, folder: Path, say: Say) -> None:
        self.say = say
        # A private stack asks for revocations with every command, so that they can be shown; a repository does not.
        settings = {
            f"{PREFIX}CRL_REFETCH_SECONDS": str(REFETCH_AFTER.total_seconds()),
            f"{PREFIX}CERTIFICATE_MEMORY_SECONDS": str(REMEMBER_FOR.total_seconds()),
        }
        self._request = StopRequest()
        self.stack = PrivateStack(folder, WORKERS, settings=settings, metrics=True, checkpoint=self._request.check)
        self.loads: list[Child] = []
        self.people: list[list[Citizen]] = []
        self._password = ""
        self._ending = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self.say("starting a private broker, database and workers")
            with self._request:
                self._ending.enter_context(self.stack)
            self._declare_floor_queue()
            self._enrol()
        except BaseException:
            self._ending.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.say("ending what was started")
        self._ending.close()

    # --- playing ------------------------------------------------------------------------------------------------------

    def prepare(self, loads: Sequence[Child], **told: Any) -> list[dict[str, Any]]:
        """Has every load process make a batch, all at once."""
        return ask_all(loads, {"do": "seal", **told})

    def play(self, loads: Sequence[Child], in_flight: int = IN_FLIGHT, *, check: bool = True) -> Played:
        """Plays the batches against the repository."""
        return self._play(loads, in_flight, names.COMMANDS_EXCHANGE, names.COMMANDS_ROUTING_KEY, check=check)

    def play_floor(
        self, loads: Sequence[Child], count: int, size: int, in_flight: int = IN_FLIGHT, *, queue: str = FLOOR
    ) -> Played:
        """Plays `count` plain messages of `size` bytes a process against the plain workers of this queue."""
        ask_all(loads, {"do": "plain", "count": count, "bytes": size})
        return self._play(loads, in_flight, queue, queue, check=False)

    def _play(self, loads: Sequence[Child], in_flight: int, exchange: str, key: str, *, check: bool) -> Played:
        told = {"do": "play", "exchange": exchange, "key": key, "window": in_flight // len(loads), "check": check}
        return together(ask_all(loads, told))

    @contextlib.contextmanager
    def plain_workers(
        self, work: str, reply_bytes: int, queue: str = FLOOR, *, count: int = WORKERS, sample: Sample | None = None
    ) -> Iterator[list[Child]]:
        """Plain workers that do `work`, as many as ours, until the block ends; with a `sample` its primitives, too."""
        told = {
            "broker": connection(self.stack.broker.settings()),
            "mongo": self.stack.mongo_url,
            "queue": queue,
            "prefetch": Settings.model_fields["prefetch"].default,
            "work": work,
            "reply_bytes": reply_bytes,
            "sample": sample.as_text() if sample else None,
        }
        workers = [Child("bench.floor", told) for _ in range(count)]
        try:
            for each in workers:
                each.hear()
            yield workers
        finally:
            for each in workers:
                each.stop()

    def stage_seconds(self) -> dict[str, float]:
        """Processor time that each stage of the pipeline used so far, all workers together; seconds."""
        used: dict[str, float] = {}
        for worker in self.stack.workers:
            for family in text_string_to_metric_families(_metrics(worker.metrics_port)):
                if family.name == "smr_stage_cpu_seconds":
                    for sample in family.samples:
                        if sample.name.endswith("_total"):
                            stage = sample.labels["stage"]
                            used[stage] = used.get(stage, 0.0) + sample.value
        return used

    def settings(self) -> ConnectionSettings:
        """How load processes and callers connect."""
        return self.stack.broker.settings(ACCOUNT, self._password)

    def caller(self, app_key: SigningKey | None = None) -> Caller:
        """A connection that asks and waits."""
        return Caller(self.settings(), self.stack.descriptor, app_key or SigningKey.generate())

    # --- setting up ---------------------------------------------------------------------------------------------------

    def _declare_floor_queue(self) -> None:
        with connect(self.stack.broker.settings()) as opened:
            channel = opened.channel()
            for name in (FLOOR, ECHO):
                channel.exchange_declare(name, exchange_type="direct", durable=True)
                channel.queue_declare(name, durable=True, arguments=topology.COMMANDS_ARGUMENTS)
                channel.queue_bind(name, name, routing_key=name)
        self._password = secrets.token_urlsafe(24)
        self.stack.broker.administration().put_account(ACCOUNT, self._password, names.VHOST, PERMISSIONS)
        floor.fill(self.stack.mongo_url, 4096)

    def _enrol(self) -> None:
        count = SPECIAL + QUIET + BUSY
        self.say(f"registering {LOADS * count} citizens and opening their sessions")
        for number in range(LOADS):
            app_key = SigningKey.generate()
            people = [Citizen.issued(self.stack.ca, f"Maria Conceição Reis {number}-{n}") for n in range(count)]
            with ThreadPoolExecutor(CALLERS) as pool:
                sessions = list(pool.map(partial(self._log_in, app_key), _groups(people, CALLERS)))
            members = [each for group in sessions for each in group]
            ordered = [citizen for group in _groups(people, CALLERS) for citizen in group]
            self.people.append(ordered)
            self.loads.append(self._load(number, app_key, ordered, members))
        for each in self.loads:
            each.hear()
        self.say("sending one letter to each of the quiet citizens")
        self.prepare(self.loads, kind="ring", bytes=1024)
        self.play(self.loads)

    def _log_in(self, app_key: SigningKey, people: Sequence[Citizen]) -> list[Session]:
        with self.caller(app_key) as caller:
            caller.register(people)
            return [caller.login(each) for each in people]

    def _load(self, number: int, app_key: SigningKey, people: Sequence[Citizen], live: Sequence[Session]) -> Child:
        descriptor = self.stack.descriptor
        told = {
            "broker": connection(self.settings()),
            "repository": descriptor.repository,
            "verify_key": descriptor.verify_key.raw.hex(),
            "app_seed": app_key.seed.hex(),
            "signature": people[0].signed(_any_document(), CardKeyUse.SIGNATURE).signature.hex(),
            "special": SPECIAL,
            "quiet": QUIET,
            "seed": number,
            "members": [
                {
                    "user": citizen.user.hex(),
                    "sealing": citizen.sealing.public.raw.hex(),
                    "session": session.keys.session.hex(),
                    "client_to_repository": session.keys.client_to_repository.hex(),
                    "repository_to_client": session.keys.repository_to_client.hex(),
                }
                for citizen, session in zip(people, live, strict=True)
            ],
        }
        load = Child("bench.load", told)
        self._ending.callback(load.stop)
        return load


def ask_all(children: Sequence[Child], told: dict[str, Any]) -> list[dict[str, Any]]:
    """Tells all the same and gives their answers: they work at the same time."""
    for each in children:
        each.tell(told)
    return [json.loads(each.hear()) for each in children]


def connection(settings: ConnectionSettings) -> dict[str, Any]:
    """A connection's settings, for the standard input of a child; never for a command line."""
    return {
        "host": settings.host,
        "port": settings.port,
        "user": settings.user,
        "password": settings.password,
        "vhost": settings.vhost,
    }


def _metrics(port: int) -> str:
    # Whatever proxy the environment names, this is asked of loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=METRICS_SECONDS) as answer:
        text: str = answer.read().decode("utf-8")
        return text


def cpu_seconds(pids: Sequence[int]) -> float:
    """Processor time of these processes so far, of all their threads, user and system; seconds."""
    ticks = 0
    for pid in pids:
        # The name in parentheses may hold anything; utime and stime are the 12th and 13th fields after it (proc(5)).
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Memory of this process that is in RAM; bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _groups(people: Sequence[Citizen], count: int) -> list[Sequence[Citizen]]:
    return [people[number::count] for number in range(count)]


def _any_document() -> bytes:
    """As long as a letter's document: what a signature is over does not change its length."""
    return json.dumps({"time": now_ms(), "salt": secrets.token_hex(SALT_BYTES + DIGEST_BYTES)}).encode()
