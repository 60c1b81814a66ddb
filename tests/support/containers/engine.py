"""A Docker engine that this program starts, uses and ends: no engine of the machine is asked or disturbed.

    with Engine() as engine:
        engine.run("image", "ls")
        engine.compose(project, "up", "--detach", environment={…})

What costs time (images) is kept for a week below `${XDG_CACHE_HOME:-~/.cache}/smr/containers`; a lock there lets one
run at a time use it. The engine needs root and Debian's docker.io, which `bootstrap.sh stack` installs. Its mounts are
in a namespace of its own, and are gone with it. Should this program die, a guard ends the engine and all that it
started; what is left then (containers on disk, rules in the packet filter) is removed by the next run.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from broker_config.private_process import PrivateProcess, StartFailed, clean_environment
from tests.support.containers.host_network import DEFAULT_BRIDGE, Traces, address_of

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 40.0
COMMAND_SECONDS: Final = 300.0
#: After this an image is made anew, with the packages of that day.
IMAGES_KEPT: Final = "168h"
#: How the engine keeps layers, the better first: the second needs nothing of the kernel, and more room and time.
STORAGE_DRIVERS: Final = ("overlay2", "vfs")
ROOT: Final = Path(__file__).resolve().parents[3]


class EngineFailed(Exception):
    """The engine cannot be had, or a command of it failed; the message holds the end of what it said."""


def cache_folder() -> Path:
    """What is kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "smr" / "containers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Engine:
    """Entering it starts it, leaving it ends it with every container."""

    def __init__(self) -> None:
        self.cache = cache_folder()
        self._traces = Traces(self.cache / "network-before.json")
        self._folder = Path(tempfile.mkdtemp(prefix="smr-engine-"))
        self._process: PrivateProcess | None = None
        self._lock: int | None = None
        self.environment = clean_environment(
            {
                "HOME": str(self._folder),
                "DOCKER_HOST": f"unix://{self._folder}/docker.sock",
                "DOCKER_CONFIG": str(self.cache / "client"),
                "DOCKER_BUILDKIT": "0",
            }
        )

    def __enter__(self) -> Self:
        try:
            self._take_cache()
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._end()
            self._traces.remove()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(
        self,
        *words: str,
        environment: Mapping[str, str] | None = None,
        data: bytes | None = None,
        seconds: float = COMMAND_SECONDS,
        check: bool = True,
        folder: Path = ROOT,
    ) -> str:
        """What `docker WORDS` printed on standard output. Raises EngineFailed when it ends with an error."""
        done = self.process(words, environment=environment, data=data, seconds=seconds, folder=folder)
        if check and done.returncode != 0:
            said = (done.stdout + done.stderr)[-6000:].decode("utf-8", "replace")
            raise EngineFailed(f"docker {' '.join(words)} ended with {done.returncode}:\n{said}")
        return done.stdout.decode("utf-8", "replace")

    def process(
        self,
        words: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        data: bytes | None = None,
        seconds: float = COMMAND_SECONDS,
        folder: Path = ROOT,
    ) -> subprocess.CompletedProcess[bytes]:
        """The same, with bytes and exit code."""
        return subprocess.run(
            ["docker", *words],
            env={**self.environment, **(environment or {})},
            cwd=folder,
            input=data if data is not None else b"",
            capture_output=True,
            timeout=seconds,
            check=False,
        )

    def inspect(self, *names: str) -> list[dict[str, Any]]:
        """What the engine knows of containers, images, networks or volumes."""
        found: list[dict[str, Any]] = json.loads(self.run("inspect", *names))
        return found

    def has_image(self, tag: str) -> bool:
        """Whether it is there."""
        return self.process(["image", "inspect", tag]).returncode == 0

    @property
    def gateway(self) -> str:
        """This machine's address as every container with a way out reaches it."""
        return address_of(DEFAULT_BRIDGE)

    def _take_cache(self) -> None:
        self._lock = os.open(self.cache / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EngineFailed(f"another run uses {self.cache}; wait until it is over") from error

    def _start(self) -> None:
        for program in ("dockerd", "docker", "iptables", "ip"):
            if shutil.which(program) is None:
                raise EngineFailed(f"{program} is missing; run ./bootstrap.sh stack")
        if os.geteuid() != 0:
            raise EngineFailed("a Docker engine can be started by root alone; run this as root")
        self._traces.note()
        (self._folder / "daemon.json").write_text("{}")
        *better, last = STORAGE_DRIVERS
        for driver in better:
            try:
                self._start_with(driver)
                break
            except StartFailed as error:
                print(f"The Docker engine does not start with {driver}: {error}", file=sys.stderr)
                self._end()
        else:
            self._start_with(last)
        self._clear()

    def _start_with(self, driver: str) -> None:
        command = ["unshare", "--mount", "dockerd", "--config-file", str(self._folder / "daemon.json")]
        command += ["--data-root", str(self.cache / "docker"), "--exec-root", str(self._folder / "exec")]
        command += ["--host", self.environment["DOCKER_HOST"], "--pidfile", str(self._folder / "docker.pid")]
        command += ["--storage-driver", driver]
        self._process = PrivateProcess(
            command, environment=clean_environment({"HOME": str(self._folder)}), log=self._folder / "dockerd.log"
        )
        self._process.wait_until(self._answers, seconds=START_SECONDS, what="the Docker engine")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.stop(STOP_SECONDS)

    def _clear(self) -> None:
        """Removes what a run left that did not come to its end, and images that are old."""
        left = self.run("ps", "--all", "--quiet").split()
        if left:
            self.run("rm", "--force", "--volumes", *left)
        self.run("network", "prune", "--force")
        self.run("volume", "prune", "--force")
        self.run("image", "prune", "--all", "--force", "--filter", f"until={IMAGES_KEPT}")

    def _answers(self) -> bool:
        return self.process(["info"]).returncode == 0
