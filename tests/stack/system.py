"""The containers of docker-compose.yml as a test has them: brought up, looked into, and gone at the end.

    with System(engine, images, folder) as system:
        system.up()
        system.compose("ps")

A test CA stands for the state: its lists are served on an address that containers and this machine both reach.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import random
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from broker_config import names
from broker_config.permissions import Permissions
from broker_config.private_process import LOOPBACK, clean_environment
from crypto_core import descriptor as descriptors
from pki.identity import fingerprint
from pki.test_ca import TestCa
from tests.support.containers.engine import ROOT, Engine, EngineFailed

ORGANISATION: Final = "Organização Exemplo"
PASSPHRASE: Final = "uma frase bem longa"
UP_SECONDS: Final = 240
PORTS: Final = (15_700, 19_900)  #: below those of `broker_config.private_process`
COMMAND_SECONDS: Final = 90.0
PROGRAMS: Final = Path(sys.executable).parent


class System:
    """One project of docker compose, with secrets of its own below `folder`."""

    def __init__(self, engine: Engine, images: Mapping[str, str], folder: Path, *, cluster: bool = False) -> None:
        self.engine = engine
        self.folder = folder
        self.secrets = folder / "secrets"
        self.port = _free_port()
        self.project = f"smr{secrets.token_hex(4)}"
        files = ("docker-compose.yml", *(("deploy/cluster.yml",) if cluster else ()), "tests/stack/state.yml")
        named = [word for each in files for word in ("--file", str(ROOT / each))]
        self._words = ("compose", "--project-name", self.project, "--progress", "quiet", *named)
        self._cluster = cluster
        self._authority: ThreadingHTTPServer | None = None
        self.environment = {
            **images,
            "SMR_SECRETS": str(self.secrets),
            "SMR_AMQPS_PORT": str(self.port),
            "SMR_NAME": "Repositório de Exemplo",
            "SMR_ORGANISATION": ORGANISATION,
            "OWN_ACCOUNTS": "false" if cluster else "true",
        }

    def __enter__(self) -> Self:
        words = ["--cluster"] if self._cluster else []
        program("smr-repository", "compose-secrets", str(self.secrets), "--organisation", ORGANISATION, *words)
        crls = self.folder / "ca" / "crls"
        crls.mkdir(parents=True)
        handler = functools.partial(_Quiet, directory=str(crls))
        self._authority = ThreadingHTTPServer((self.engine.gateway, 0), handler)
        threading.Thread(target=self._authority.serve_forever, name="authority", daemon=True).start()
        address, port = self._authority.server_address[:2]
        self.ca = TestCa.create(self.folder / "ca", f"http://{address!s}:{port}", PASSPHRASE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.compose("ps", "--all", check=False))
            print(self.compose("logs", "--no-color", "--tail", "40", check=False))
        self.compose("--profile", "*", "down", "--volumes", "--timeout", "3", check=False)
        if self._authority is not None:
            self._authority.shutdown()
            self._authority.server_close()

    # --- the containers -----------------------------------------------------------------------------------------------

    def compose(self, *words: str, check: bool = True) -> str:
        """What `docker compose WORDS` printed."""
        return self.engine.run(*self._words, *words, environment=self.environment, check=check)

    def up(self, *words: str) -> float:
        """Returns when everything is healthy; gives the seconds that it took."""
        began = time.monotonic()
        self.compose(
            *("up", "--detach", "--wait", "--wait-timeout", str(UP_SECONDS), "--pull", "never", "--no-build", *words),
        )
        return time.monotonic() - began

    def operator(self, *words: str, volumes: Sequence[str] = ()) -> bytes:
        """What a command of the operator printed, run in a container of its own."""
        mounts = [word for each in volumes for word in ("--volume", each)]
        run = ("--profile", "operator", "run", "--rm", "--no-TTY", "--no-deps", *mounts, "operator")
        done = self.engine.process([*self._words, *run, *words], environment=self.environment)
        if done.returncode:
            said = (done.stdout + done.stderr)[-3000:]
            raise EngineFailed(f"{' '.join(words)} ended with {done.returncode}:\n{said!r}")
        return done.stdout

    def replace_workers(self, image: str) -> None:
        """A rolling update: as many workers of the other image beside the old ones; then the old ones end."""
        old = [each["Id"] for each in self.containers("worker")]
        self.environment["SMR_IMAGE"] = image
        self.up("--no-deps", "--no-recreate", "--scale", f"worker={2 * len(old)}", "worker")
        self.engine.run("stop", *old)
        self.engine.run("rm", *old)
        self.environment["SMR_WORKERS"] = str(len(old))

    def containers(self, service: str = "") -> list[dict[str, Any]]:
        """What the engine knows of the containers of a service, or of all."""
        ids = self.compose("ps", "--all", "--quiet", *([service] if service else [])).split()
        return self.engine.inspect(*ids) if ids else []

    def trust_the_state(self) -> None:
        """Imports the test CA into the repository's trust store, before there are workers that read it."""
        public = self.folder / "state"
        public.mkdir(exist_ok=True)
        for each in self.certificates:
            (public / each.name).write_bytes(each.read_bytes())
        found = [f"/state/{each.name}" for each in self.certificates]
        words = ("smr-pki", "trust", "import", *found, "--root-fingerprint", self.root)
        self.operator(*words, volumes=[f"{public}:/state:ro"])

    @property
    def certificates(self) -> tuple[Path, ...]:
        """The test CA's certificates."""
        return tuple(self.ca.certificate_files)

    @property
    def root(self) -> str:
        """The fingerprint of the test CA's root."""
        return fingerprint(self.ca.root)

    # --- people -------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def descriptor(self) -> Path:
        """The signed descriptor, as the operator hands it out."""
        path = self.folder / "descriptor.cose"
        path.write_bytes(self.operator("cat", "/var/lib/smr/descriptor.cose"))
        return path

    @functools.cached_property
    def repository_root(self) -> str:
        """The fingerprint of the operator's root."""
        return hashlib.sha256(descriptors.read(self.descriptor.read_bytes()).chain[-1]).hexdigest()

    def enrol(self, installation: str) -> bytes:
        """The file for `smr init --enrolment`, as the operator makes it."""
        return self.operator(
            *("sh", "-c", 'smr-repository clients enrol "$0" --output /tmp/made >/dev/null && cat /tmp/made'),
            installation,
        )

    def account(self, name: str, allowed: Permissions) -> str:
        """A new account that many clients share; gives its address as clients on this machine use it."""
        password = secrets.token_urlsafe(24)
        control = ("exec", "--no-TTY", "rabbitmq", "rabbitmqctl", "--quiet")
        self.compose(*control, "add_user", name, password)
        self.compose(
            *control, "set_permissions", "--vhost", names.VHOST, name, allowed.configure, allowed.write, allowed.read
        )
        return f"amqps://{name}:{password}@localhost:{self.port}/{names.VHOST}?ca={self.secrets}/ca.pem"


def _free_port() -> int:
    """A port that nobody listens on now. It is published a minute later, so it is none that other tests draw."""
    while True:
        port = random.SystemRandom().randrange(*PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port


def program(name: str, *words: str, environment: Mapping[str, str] | None = None) -> str:
    """What one of our programs printed. Raises AssertionError when it ends with an error."""
    done = subprocess.run(
        [str(PROGRAMS / name), *words],
        env=dict(environment) if environment is not None else clean_environment({}),
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, f"{name} {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's signature
        """Nobody reads it."""
