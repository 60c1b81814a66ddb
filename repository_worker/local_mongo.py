"""A private MongoDB server on this machine, for development, tests and the demonstration.

    with LocalMongo(folder) as mongo:
        client = pymongo.MongoClient(mongo.uri)

It is a replica set of one member, so that transactions and `w: majority, j: true` mean what they mean in production.
`LocalMongoSet` is one of three members, whose primary can be killed or made to step down; for tests alone.
It listens on loopback alone, on a port of its own, and ends with the program that started it.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self

import pymongo
import pymongo.errors

from broker_config.private_process import (
    LOOPBACK,
    PROBE_PAUSE_SECONDS,
    PrivateProcess,
    ProgramMissing,
    StartFailed,
    clean_environment,
    free_ports,
)
from broker_config.private_server import START_SECONDS, PrivateServer

REPLICA_SET: Final = "smr"
CACHE_GIGABYTES: Final = "0.25"  # mongod's own default is half the machine
_PROBE_MILLISECONDS: Final = 2000
_ALREADY_INITIALIZED: Final = 23
SET_MEMBERS: Final = 3
ELECTION_MILLISECONDS: Final = 1000  # how long a lost primary is missed before the others elect another
HEARTBEAT_MILLISECONDS: Final = 500
STEP_DOWN_SECONDS: Final = 5  # how long a primary that steps down is not elected again


def find_mongod() -> Path:
    """The server's program: the one that `SMR_MONGOD` names, the one that bootstrap installed, or one on the PATH."""
    named = os.environ.get("SMR_MONGOD")
    candidates = [named, Path(sys.prefix) / "share" / "smr" / "mongod", shutil.which("mongod")]
    for candidate in candidates:
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    raise ProgramMissing("MongoDB's server is not installed. Run ./bootstrap.sh once, or name a mongod in SMR_MONGOD")


class LocalMongo(PrivateServer):
    """One private server. Entering it starts it, leaving it stops it; the folder stays for another start."""

    what: ClassVar[str] = "the private MongoDB server"
    stop_seconds: ClassVar[float] = 10.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._port: int | None = None

    @property
    def port(self) -> int:
        """Where it listens, on loopback."""
        if self._port is None:
            raise StartFailed("the private MongoDB server has not been started yet")
        return self._port

    @property
    def uri(self) -> str:
        """For `pymongo.MongoClient`."""
        return f"mongodb://{LOOPBACK}:{self.port}/?replicaSet={REPLICA_SET}"

    @property
    def _has_ports(self) -> bool:
        return self._port is not None

    def _require_program(self) -> None:
        find_mongod()

    def _choose_ports(self) -> None:
        self._port = free_ports(1)[0]

    def _launch(self) -> PrivateProcess:
        data, log = self.folder / "data", self.folder / "mongod.log"
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        command = [str(find_mongod()), "--dbpath", str(data), "--bind_ip", LOOPBACK, "--port", str(self.port)]
        command += ["--replSet", REPLICA_SET, "--nounixsocket", "--wiredTigerCacheSizeGB", CACHE_GIGABYTES]
        command += ["--setParameter", "diagnosticDataCollectionEnabled=false", "--oplogSize", "128"]
        return PrivateProcess(command, environment=clean_environment({"HOME": str(self.folder)}), log=log)

    def _serves(self) -> bool:
        """One probe: makes the replica set at the first answer, then waits for this member to be elected."""
        probe: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
            LOOPBACK, self.port, directConnection=True, serverSelectionTimeoutMS=_PROBE_MILLISECONDS
        )
        with probe:
            try:
                hello = probe.admin.command("hello")
                if "setName" not in hello:
                    self._initiate(probe)
                return bool(hello.get("isWritablePrimary"))
            except pymongo.errors.PyMongoError:
                return False

    def _initiate(self, probe: pymongo.MongoClient[dict[str, Any]]) -> None:
        members = [{"_id": 0, "host": f"{LOOPBACK}:{self.port}"}]
        # A lone member need not wait for others to come forward: 100 ms instead of ten seconds after a restart.
        settings = {"electionTimeoutMillis": 100}
        try:
            probe.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members, "settings": settings})
        except pymongo.errors.OperationFailure as e:
            if e.code != _ALREADY_INITIALIZED:
                raise

    def _lost_a_port(self) -> bool:
        return "Address already in use" in (self.folder / "mongod.log").read_text(errors="replace")


class _Member(LocalMongo):
    """One of several: ready when it answers, whether or not it is the primary. Its set is made by `LocalMongoSet`."""

    def _serves(self) -> bool:
        with self.probe() as probe:
            try:
                return bool(probe.admin.command("hello"))
            except pymongo.errors.PyMongoError:
                return False

    def probe(self) -> pymongo.MongoClient[dict[str, Any]]:
        """A connection to this member alone."""
        return pymongo.MongoClient(
            LOOPBACK, self.port, directConnection=True, serverSelectionTimeoutMS=_PROBE_MILLISECONDS
        )

    def hello(self) -> dict[str, Any]:
        """What this member says of itself; empty while it does not answer."""
        if self.pid is None:
            return {}
        with self.probe() as probe:
            try:
                return dict(probe.admin.command("hello"))
            except pymongo.errors.PyMongoError:
                return {}


class LocalMongoSet:
    """A private replica set of three members. Entering it starts it, leaving it stops it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.members = [_Member(folder / f"member-{number}") for number in range(SET_MEMBERS)]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def uri(self) -> str:
        """For `pymongo.MongoClient`: all members, so that a client finds the primary whichever it is."""
        hosts = ",".join(f"{LOOPBACK}:{member.port}" for member in self.members)
        return f"mongodb://{hosts}/?replicaSet={REPLICA_SET}"

    def start(self) -> None:
        """Starts every member that does not run; returns when a primary takes writes. Raises as `LocalMongo.start`."""
        self._each(self.members, _Member.start)
        if not any("setName" in member.hello() for member in self.members):
            self._initiate()
        self.wait_for_primary()

    def stop(self) -> None:
        """Ends all members at once and returns when they are gone; what was journaled is there at the next start.

        A primary that is asked to shut down waits seconds for the others, which are shutting down too.
        """
        self._each(self.members, _Member.kill)

    def wait_for_primary(self) -> int:
        """The number of the member that takes writes, once there is one. Raises StartFailed."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for number, member in enumerate(self.members):
                if member.hello().get("isWritablePrimary"):
                    return number
            time.sleep(PROBE_PAUSE_SECONDS)
        raise StartFailed(f"no member of the private replica set became primary within {START_SECONDS} s")

    def kill_primary(self) -> int:
        """Ends the primary without warning and gives its number; `start` brings it back."""
        number = self.wait_for_primary()
        self.members[number].kill()
        return number

    def step_down(self) -> int:
        """Makes the primary give up its place, and gives its number. Raises StartFailed when it does not."""
        number = self.wait_for_primary()
        with self.members[number].probe() as probe:
            try:
                probe.admin.command("replSetStepDown", STEP_DOWN_SECONDS, force=True)
            except pymongo.errors.AutoReconnect:
                return number  # it may close its connections before it answers
            except pymongo.errors.PyMongoError as e:
                raise StartFailed(f"the primary of the private replica set did not step down ({e})") from e
        return number

    def _initiate(self) -> None:
        members = [{"_id": number, "host": f"{LOOPBACK}:{member.port}"} for number, member in enumerate(self.members)]
        settings = {
            "electionTimeoutMillis": ELECTION_MILLISECONDS,
            "heartbeatIntervalMillis": HEARTBEAT_MILLISECONDS,
        }
        with self.members[0].probe() as probe:
            try:
                probe.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members, "settings": settings})
            except pymongo.errors.PyMongoError as e:
                raise StartFailed(f"the private replica set could not be made ({e})") from e

    @staticmethod
    def _each(members: Sequence[_Member], work: Callable[[_Member], None]) -> None:
        with ThreadPoolExecutor(len(members)) as pool:
            running = [pool.submit(work, member) for member in members]
        for each in running:
            each.result()
