"""A whole private repository on this machine: broker, database, test CA with its CRLs, and workers.

    with PrivateStack(folder) as stack:
        stack.descriptor_path, stack.root_fingerprint       what a client's `init` needs
        stack.ca_root, stack.ca_fingerprint                 what a client's trust store needs
        stack.ca.issue_card_certificates(…)                 cards

For development, tests and the demonstration: everything listens on loopback, on free ports, lies in one folder and ends
with the program that started it. It is not a way to run a repository for others.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from broker_config import enrolment, names
from broker_config.connection import ConnectionSettings, to_url
from broker_config.local_broker import WORKER, LocalBroker
from broker_config.permissions import Permissions
from broker_config.private_process import HeldPort, StartFailed, hold_ports
from crypto_core.descriptor import Descriptor
from pki.crl_server import CrlServer
from pki.files import PRIVATE_FILE, private_folder, write_atomically
from pki.identity import fingerprint
from pki.test_ca import TestCa
from pki.test_responder import TestResponder
from pki.trust_store import TrustStore
from repository_worker.clients import Clients
from repository_worker.keys import Home, now_ms
from repository_worker.local_mongo import LocalMongo
from repository_worker.processes import die_with_parent
from repository_worker.settings import PREFIX
from repository_worker.storage.driver import connect
from repository_worker.storage.mongo import MongoStorage

T = TypeVar("T")

NAME: Final = "Repositório de desenvolvimento"
ORGANISATION: Final = "Organização de desenvolvimento"
DATABASE: Final = "smr"
#: The account in the descriptor: any reply queue, the commands exchange, nothing else. One account for all clients of a
#: private stack, so that a new client needs no enrolment, unless it was made with `own_accounts`.
CLIENT_ACCOUNT: Final = "smr-client-dev"
CLIENT_PERMISSIONS: Final = Permissions(
    configure=r"^smr\.reply\.[a-z2-7]{26}\.[a-z2-7]{26}$",
    write=r"^smr\.commands$",
    read=r"^smr\.reply\.[a-z2-7]{26}\.[a-z2-7]{26}$",
)
WORKERS: Final = 2
READY_SECONDS: Final = 30.0
STOP_SECONDS: Final = 25.0
PAUSE_SECONDS: Final = 0.1  # between two looks at servers that start or end
_READY: Final = b"ready\n"
_METRICS_PORT: Final = f"{PREFIX}METRICS_PORT"


class WorkerProcess:
    """One worker in a process of its own. Making it starts it; with `on_word` it then waits for `begin`."""

    def __init__(self, environment: dict[str, str], log: Path, *, on_word: bool = False) -> None:
        self._environment = environment
        self._log = log
        self._process = self._start(on_word=on_word)

    @property
    def pid(self) -> int:
        """The process id of the running worker."""
        return self._process.pid

    @property
    def metrics_port(self) -> int:
        """Where it answers on loopback to who asks for its metrics; 0: nowhere."""
        return int(self._environment.get(_METRICS_PORT, "0"))

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def begin(self) -> None:
        """Lets one begin that was made with `on_word`. Raises StartFailed."""
        if self._process.stdin is None:
            raise StartFailed("a worker that does not wait for a word")
        with contextlib.suppress(BrokenPipeError):  # it has ended, which `wait_ready` tells with its log
            self._process.stdin.write(b"\n")
            self._process.stdin.close()

    def wait_ready(self) -> None:
        """Returns when the worker takes messages. Raises StartFailed."""
        out = self._process.stdout
        if out is None:
            raise StartFailed("a worker without a standard output")
        readable, _, _ = select.select([out], [], [], READY_SECONDS)
        if not readable or out.readline() != _READY:
            raise StartFailed(f"A worker did not come up. The end of its log:\n{self.tail()}")

    def tail(self) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError):
            return self._log.read_bytes()[-3000:].decode("utf-8", "replace")
        return ""

    def kill(self) -> None:
        """Ends it as a power cut would (SIGKILL)."""
        self._process.kill()
        self._collect()

    def terminate(self) -> int:
        """Asks it to end (SIGTERM), waits, and gives its exit status."""
        self.ask_to_end()
        return self._collect()

    def ask_to_end(self) -> None:
        """Sends SIGTERM, to a suspended worker too, and does not wait."""
        self._process.send_signal(signal.SIGTERM)
        self._process.send_signal(signal.SIGCONT)

    def suspend(self) -> None:
        """Stops it where it is (SIGSTOP), until `resume`."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on (SIGCONT)."""
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Another process in its place; returns when it takes messages."""
        self.stop()
        self._process = self._start()
        self.wait_ready()

    def stop(self) -> None:
        """Ends it, in whatever state it is; may be called again."""
        try:
            self.terminate()
        except subprocess.TimeoutExpired:
            self.kill()

    def _collect(self) -> int:
        status = self._process.wait(STOP_SECONDS)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        return status

    def _start(self, *, on_word: bool = False) -> subprocess.Popen[bytes]:
        parent = os.getpid()
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the program that started it, which ends its workers in order.
            return subprocess.Popen(
                [sys.executable, "-m", "repository_worker", "run", "--announce", *(["--on-word"] if on_word else [])],
                env=self._environment,
                stdin=subprocess.PIPE if on_word else subprocess.DEVNULL,
                bufsize=0,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509 - one system call, no locks
            )


@dataclass(frozen=True, slots=True)
class Servers:
    """Running servers that several private stacks share; each has a virtual host and a database of its own there."""

    broker: LocalBroker
    mongo: LocalMongo


class PrivateStack:
    """Entering it starts everything and returns when workers take messages; leaving it ends everything."""

    def __init__(
        self,
        folder: Path,
        workers: int = WORKERS,
        *,
        settings: dict[str, str] | None = None,
        metrics: bool = False,
        own_accounts: bool = False,
        servers: Servers | None = None,
        checkpoint: Callable[[], None] = lambda: None,
    ) -> None:
        """`settings` are further settings of the workers, by their names in the environment.

        With `metrics` each worker tells what it counts, on a port of its own. With `own_accounts` every client needs an
        account of its own, as in production: see `enrol`. With `servers` it works on these, which others started and
        end, and leaves nothing there. `checkpoint` is called before each step of the start, and several times a second
        while the servers start: what it raises ends what has been started, and comes out of `__enter__`.
        """
        self.folder = folder
        self.workers: list[WorkerProcess] = []
        self.broker = servers.broker if servers else LocalBroker(folder / "broker")
        self.mongo = servers.mongo if servers else LocalMongo(folder / "mongo")
        self._corner = secrets.token_hex(4) if servers else ""
        self._count = workers
        self._more_settings = settings or {}
        self._checkpoint = checkpoint
        self._metrics = metrics
        self._own_accounts = own_accounts
        self._ending = contextlib.ExitStack()
        self._ports: list[HeldPort] = []
        self._passphrase = secrets.token_urlsafe(24)
        self._descriptor: Descriptor | None = None
        self._root_fingerprint = ""
        self._ca: TestCa | None = None
        self._crl_server: CrlServer | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- what others need of it -----------------------------------------------------------------------------------

    @property
    def home(self) -> Home:
        """The repository's home folder."""
        return Home(self.folder / "repository")

    @property
    def descriptor(self) -> Descriptor:
        """The repository's descriptor, whose broker address any client of this stack may use."""
        return _there(self._descriptor)

    @property
    def descriptor_path(self) -> Path:
        """The signed descriptor, for a client's `init`."""
        return self.home.descriptor_path

    @property
    def root_fingerprint(self) -> str:
        """SHA-256 of the operator root, in hexadecimal."""
        return self._root_fingerprint

    @property
    def broker_url(self) -> str:
        """The broker's address for clients, with the account that all of them may use where they share one."""
        return self.descriptor.broker

    @property
    def mongo_url(self) -> str:
        """The database's address."""
        return self.mongo.uri

    @property
    def ca(self) -> TestCa:
        """The test CA, open."""
        return _there(self._ca)

    @property
    def ca_folder(self) -> Path:
        """The folder of the test CA."""
        return self.folder / "ca"

    @property
    def ca_passphrase_file(self) -> Path:
        """The file that holds the passphrase of the test CA and of the repository's home."""
        return self.folder / "passphrase"

    @property
    def ca_root(self) -> Path:
        """The test CA's root certificate, PEM."""
        return self.ca.certificate_files[0]

    @property
    def ca_certificates(self) -> Sequence[Path]:
        """The certificates of root and intermediate CAs, PEM, for an import into a trust store."""
        return self.ca.certificate_files

    @property
    def ca_fingerprint(self) -> str:
        """SHA-256 of the test CA's root, in hexadecimal."""
        return fingerprint(self.ca.root)

    @property
    def crl_url(self) -> str:
        """Where the test CA's CRLs are served."""
        return _there(self._crl_server).url

    @property
    def vhost(self) -> str:
        """The broker's virtual host of this stack."""
        return "-".join(filter(None, (names.VHOST, self._corner)))

    @property
    def database(self) -> str:
        """The name of this stack's database."""
        return "_".join(filter(None, (DATABASE, self._corner)))

    def administrator(self) -> ConnectionSettings:
        """How the broker's administrator connects."""
        return self.broker.settings(vhost=self.vhost)

    def client_settings(self) -> ConnectionSettings:
        """How a client connects with the account that all share. There is none where each has its own."""
        return self.broker.settings(self._client_account, self._client_password(), self.vhost)

    def clients(self) -> Clients:
        """The installations with an account of their own, which any may have here."""
        return Clients(self.broker.administration(), self.vhost)

    def enrol(self, installation: str, *, broker: str | None = None) -> bytes:
        """Gives an installation an account of its own; the file for its `init`. `broker`: another address."""
        found = names.parse_installation(installation)
        return enrolment.write(enrolment.Enrolment(found, self.clients().enrol(found), broker=broker))

    def storage(self) -> MongoStorage:
        """The stack's storage, to look into."""
        return MongoStorage(connect(self.mongo_url), self.database, self.descriptor.repository)

    def environment(self) -> dict[str, str]:
        """What `smr-repository` needs in its environment to work with this stack."""
        return {
            **os.environ,
            f"{PREFIX}HOME": str(self.home.folder),
            f"{PREFIX}MONGO_URL_FILE": str(self.folder / "mongo-url"),
            f"{PREFIX}MONGO_DATABASE": self.database,
            f"{PREFIX}BROKER_URL_FILE": str(self.folder / "broker-url"),
            f"{PREFIX}OPERATOR_BROKER_URL_FILE": str(self.folder / "operator-broker-url"),
            f"{PREFIX}MANAGEMENT_URL_FILE": str(self.folder / "management-url"),
            f"{PREFIX}OWN_ACCOUNTS": str(int(self._own_accounts)),
            f"{PREFIX}ALLOW_PRIVATE_CRL_HOSTS": "1",
            # A revocation counts at once here, so that it can be shown.
            f"{PREFIX}CRL_REFETCH_SECONDS": "0",
            f"{PREFIX}CERTIFICATE_MEMORY_SECONDS": "0",
            "SMR_PASSPHRASE_FILE": str(self.ca_passphrase_file),
            **self._more_settings,
        }

    def add_worker(self) -> WorkerProcess:
        """One worker more; returns when it takes messages."""
        worker = self._launch()
        worker.wait_ready()
        return worker

    # --- its life -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        steps = (
            self.start_ca,
            self._launch_workers,  # a second of imports each, while the servers start
            self._start_servers,
            lambda: self.broker.set_up(self.vhost),
            self._set_up_repository,
            self._begin_workers,
        )
        for step in steps:
            self._checkpoint()
            step()

    def stop(self) -> None:
        """Ends everything that was started; may be called again."""
        for worker in self.workers:
            worker.ask_to_end()
        for worker in self.workers:
            worker.stop()
        self.workers.clear()
        self._ending.close()

    def start_ca(self) -> None:
        """The test CA and the server of its CRLs alone, for who wants to issue cards while the rest starts."""
        if self._ca is not None:
            return
        private_folder(self.folder)
        write_atomically(self.ca_passphrase_file, self._read_passphrase().encode(), PRIVATE_FILE)
        crls = self.ca_folder / "crls"
        existing = crls.exists()
        crls.mkdir(parents=True, exist_ok=True)
        port_file = self.folder / "crl-port"
        port = int(port_file.read_text()) if existing and port_file.exists() else 0
        self._crl_server = CrlServer(crls, port)
        self._ending.callback(self._crl_server.close)
        if existing:
            self._ca = TestCa.open(self.ca_folder, self._passphrase)
            self._ca.publish_crls()
        else:
            self._ca = TestCa.create(self.ca_folder, self._crl_server.url, self._passphrase)
            port_file.write_text(str(self._crl_server.port))
        self._crl_server.answer_questions(TestResponder(self._ca).answer)

    def _start_servers(self) -> None:
        if self._corner:
            self._ending.callback(self._leave_servers)
            return
        # The broker takes seconds, in which the database is up. Both end together too.
        self._ending.callback(_all_at_once, [self.broker.stop, self.mongo.stop])
        starts, stops = [self.broker.start, self.mongo.start], [self.broker.stop, self.mongo.stop]
        _all_at_once(starts, self._checkpoint, otherwise=stops)

    def _leave_servers(self) -> None:
        administration = self.broker.administration()
        administration.delete_vhost(self.vhost)
        administration.delete_account(self._client_account)
        with connect(self.mongo_url) as client:
            client.drop_database(self.database)

    def _set_up_repository(self) -> None:
        administration = self.broker.administration()
        client_url = self._client_url()
        for name, url in (
            ("broker-url", self._url(self.broker.settings(WORKER, vhost=self.vhost))),
            ("operator-broker-url", self._url(self.administrator())),
            ("management-url", administration.to_url()),
            ("mongo-url", self.mongo_url),
        ):
            write_atomically(self.folder / name, url.encode(), PRIVATE_FILE)
        if self.home.exists:
            self.home.reissue(client_url, self._passphrase, now_ms(), new_keys=False)
        else:
            self.home.create(NAME, ORGANISATION, client_url, self._passphrase, now_ms())
        store = TrustStore.open(self.home.trust_folder)
        store.import_certificates(self.ca_certificates, root_fingerprints={self.ca_fingerprint})
        self._descriptor, self._root_fingerprint = self.home.descriptor(now_ms())
        storage = self.storage()
        storage.prepare()
        storage.close()

    def _client_url(self) -> str:
        """What the descriptor says of the broker: with the account that all share, or without a password."""
        settings = self.client_settings()
        if self._own_accounts:
            return to_url(settings)
        account = self._client_account, self._client_password(), self.vhost, CLIENT_PERMISSIONS
        self.broker.administration().put_account(*account)
        return self._url(settings)

    def _launch(self, *, on_word: bool = False) -> WorkerProcess:
        log = self.folder / f"worker-{len(self.workers) + 1}.log"
        environment = self.environment()
        if self._metrics:
            environment[_METRICS_PORT] = str(self._hold_port(until_begun=on_word))
        worker = WorkerProcess(environment, log, on_word=on_word)
        self.workers.append(worker)
        return worker

    def _launch_workers(self) -> None:
        for _ in range(self._count):
            self._launch(on_word=True)

    def _begin_workers(self) -> None:
        for port in self._ports:
            port.close()
        for worker in self.workers:
            worker.begin()
        for worker in self.workers:
            worker.wait_ready()

    def _hold_port(self, *, until_begun: bool) -> int:
        """A port for a worker. While it waits for its word the servers choose theirs, and must not choose this one."""
        (port,) = hold_ports(1)
        if until_begun:
            self._ports.append(port)
            self._ending.callback(port.close)
        else:
            port.close()
        return port.number

    def _read_passphrase(self) -> str:
        if self.ca_passphrase_file.exists():
            self._passphrase = self.ca_passphrase_file.read_text(encoding="utf-8")
        return self._passphrase

    @property
    def _client_account(self) -> str:
        return "-".join(filter(None, (CLIENT_ACCOUNT, self._corner)))

    def _client_password(self) -> str:
        path = self.folder / "client-password"
        if not path.exists():
            write_atomically(path, secrets.token_urlsafe(24).encode(), PRIVATE_FILE)
        return path.read_text(encoding="utf-8")

    @staticmethod
    def _url(settings: ConnectionSettings) -> str:
        """The address with its password: for a file or a private stack's descriptor, never for a log."""
        return f"amqp://{settings.user}:{settings.password}@{settings.host}:{settings.port}/{settings.vhost}"


def _all_at_once(
    works: Sequence[Callable[[], None]],
    checkpoint: Callable[[], None] = lambda: None,
    otherwise: Sequence[Callable[[], None]] = (),
) -> None:
    """Does all of them, each in a thread of its own, and raises what the first of them raised.

    What `checkpoint` raises meanwhile ends them: by `otherwise`, again and again until they are over, since each may be
    just about to start what has to end.
    """
    with ThreadPoolExecutor(len(works)) as pool:
        running = [pool.submit(work) for work in works]
        try:
            while wait(running, timeout=PAUSE_SECONDS).not_done:
                checkpoint()
        except BaseException:
            while wait(running, timeout=PAUSE_SECONDS).not_done:
                for each in otherwise:
                    each()
            raise
    for done in running:
        done.result()


def _there(value: T | None) -> T:
    if value is None:
        raise StartFailed("the private stack has not been started yet")
    return value
