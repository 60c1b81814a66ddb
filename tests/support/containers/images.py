"""Images made from Debian's packages, under the names of the official ones, for machines that reach no image registry.

    docker-compose.yml names     made here from                          version
    python:3.11-slim             Debian 12, python3                      3.11
    rabbitmq:4-management        Debian 13, rabbitmq-server              4.0
    mongo:8                      Debian 12, the mongod of make test      6.0
    haproxy:3.0                  Debian 13, haproxy                      3.0
    prom/prometheus:v3.5.0       Debian 13, prometheus                   2.53

They are other builds than the official images, and have none of their start scripts: docker-compose.yml works with
both because it uses none. They trust the certificate authorities that this machine trusts, so that pip finds its index
from inside a container. A made image is kept until its recipe changes.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from broker_config.private_process import clean_environment
from pki.files import write_atomically
from repository_worker.local_mongo import find_mongod
from tests.support.containers.engine import ROOT, Engine, EngineFailed

BOOTSTRAP_SECONDS: Final = 400.0
BUILD_SECONDS: Final = 600.0
ATTEMPTS: Final = 4
PAUSE_SECONDS: Final = 10.0  #: after the first attempt that failed; longer after the next ones
BOOKWORM: Final = ("ca-certificates", "libcurl4", "python3", "python3-venv")
TRIXIE: Final = ("ca-certificates", "haproxy", "prometheus", "rabbitmq-server")
_AUTHORITIES: Final = "usr/local/share/ca-certificates"
_HOOKS: Final = (
    f'mkdir -p "$1/{_AUTHORITIES}" && cp -a /{_AUTHORITIES}/. "$1/{_AUTHORITIES}/" || true',
    'chroot "$1" update-ca-certificates >/dev/null 2>&1',
    'rm -f "$1/etc/resolv.conf" "$1/etc/hostname"',
)
_ALWAYS: Final = ("APT::Install-Recommends false", "Acquire::Retries 5", "Acquire::http::Timeout 60")
#: Settings of this machine's apt without which it may not reach its mirror, or not believe it.
_OF_THE_MACHINE: Final = re.compile(r"(Acquire::(Check-Valid-Until|Check-Date|https?::Proxy) .*);")
_WITHOUT: Final = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*")

RABBITMQ: Final = """
FROM {base}
RUN groupmod -g 999 rabbitmq && usermod -u 999 -g 999 rabbitmq \
 && rm -rf /var/lib/rabbitmq/mnesia /var/lib/rabbitmq/.erlang.cookie && mkdir -p /etc/rabbitmq/conf.d \
 && chown -R rabbitmq:rabbitmq /var/lib/rabbitmq /var/log/rabbitmq /etc/rabbitmq \
 && ln -s /usr/lib/rabbitmq/lib/rabbitmq_server-* /opt/rabbitmq
ENV PATH=/opt/rabbitmq/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
VOLUME /var/lib/rabbitmq
"""
MONGO: Final = """
FROM {base}
RUN useradd -r -u 999 -U -d /data/db -s /usr/sbin/nologin mongodb && mkdir -p /data/db && chown mongodb:mongodb /data/db
COPY mongod /usr/local/bin/mongod
VOLUME /data/db
"""
PROMETHEUS: Final = """
FROM {base}
RUN mkdir /prometheus && chown 65534:65534 /prometheus
VOLUME /prometheus
"""


class Images:
    """Tags of everything that docker-compose.yml and deploy/cluster.yml name; made when they are missing."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def make(self) -> dict[str, str]:
        """The variables by which docker-compose.yml is given these images. Raises EngineFailed."""
        with ThreadPoolExecutor(3) as crew:
            plugin = crew.submit(self._compose_plugin)
            others = crew.submit(self._of_trixie)
            made = self._of_bookworm() | others.result()
            plugin.result()
        return made

    def _of_bookworm(self) -> dict[str, str]:
        base = self._base("bookworm", BOOKWORM)
        mongo = self._build("mongo", MONGO.format(base=base), [find_mongod()])
        return {"PYTHON_IMAGE": base, "MONGO_IMAGE": mongo, "SMR_IMAGE": self.worker(base)}

    def _of_trixie(self) -> dict[str, str]:
        base = self._base("trixie", TRIXIE)
        return {
            "RABBITMQ_IMAGE": self._build("rabbitmq", RABBITMQ.format(base=base), []),
            "HAPROXY_IMAGE": base,
            "PROMETHEUS_IMAGE": self._build("prometheus", PROMETHEUS.format(base=base), []),
        }

    def worker(self, python: str, tag: str = "smr-stack/worker:now") -> str:
        """The project's own image, from the Dockerfile and the files as they are now.

        pip works with this machine's own network: names are found as they are found here.
        """
        words = ("--network", "host", "--build-arg", f"PYTHON_IMAGE={python}", "--tag", tag, str(ROOT))
        _persist(lambda: self._engine.run("build", "--quiet", *words, seconds=BUILD_SECONDS))
        return tag

    def relabelled(self, image: str, tag: str) -> str:
        """The same programs in another image, as the next release would be."""
        self._engine.run("build", "--quiet", "--tag", tag, "-", data=f"FROM {image}\nLABEL release={tag}\n".encode())
        return tag

    def _base(self, suite: str, packages: Sequence[str]) -> str:
        tag = f"smr-stack/{suite}:{_print(repr((packages, _HOOKS, _WITHOUT)))}"
        if not self._engine.has_image(tag):
            archive = self._engine.cache / f"{suite}.tar"
            _debian(suite, packages, archive, "minbase", *(f"--customize-hook={hook}" for hook in _HOOKS))
            self._engine.run("import", str(archive), tag)
            archive.unlink()
        return tag

    def _compose_plugin(self) -> None:
        """`docker compose`, which Debian 12 has in an older form alone: the program of Debian 13 runs here."""
        plugin = self._engine.cache / "client" / "cli-plugins" / "docker-compose"
        if plugin.exists():
            return
        plugin.parent.mkdir(parents=True, exist_ok=True)
        archive = self._engine.cache / "compose.tar"
        _debian("trixie", ["docker-compose"], archive, "extract")
        with tarfile.open(archive) as packed:
            program = packed.extractfile("./usr/libexec/docker/cli-plugins/docker-compose")
            if program is None:
                raise EngineFailed("Debian's package docker-compose holds no plugin")
            write_atomically(plugin, program.read(), 0o755)
        archive.unlink()

    def _build(self, name: str, recipe: str, files: Sequence[Path]) -> str:
        tag = f"smr-stack/{name}:{_print(recipe, *(f'{each}{each.stat().st_size}' for each in files))}"
        if not self._engine.has_image(tag):
            with tempfile.TemporaryDirectory() as context:
                Path(context, "Dockerfile").write_text(recipe)
                for each in files:
                    shutil.copy(each, Path(context, each.name))
                self._engine.run("build", "--quiet", "--tag", tag, context)
        return tag


def _debian(suite: str, packages: Sequence[str], archive: Path, variant: str, *more: str) -> None:
    """A root file system from the machine's own Debian mirror. Raises EngineFailed."""
    command = ["mmdebstrap", "--quiet", f"--variant={variant}", f"--include={','.join(packages)}", *more]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _WITHOUT]
    command += [f"--aptopt={option}" for option in (*_ALWAYS, *_as_here())]
    command += [suite, str(archive)]
    if shutil.which(command[0]) is None:
        raise EngineFailed("mmdebstrap is missing; run ./bootstrap.sh stack")
    _persist(lambda: _run(command, suite))


def _as_here() -> list[str]:
    told = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, timeout=60, check=True).stdout
    return [found[1] for line in told.splitlines() if (found := _OF_THE_MACHINE.fullmatch(line))]


def _run(command: Sequence[str], suite: str) -> None:
    done = subprocess.run(
        command, env=clean_environment({}), capture_output=True, text=True, timeout=BOOTSTRAP_SECONDS, check=False
    )
    if done.returncode:
        raise EngineFailed(f"no Debian {suite} could be made:\n{done.stderr[-3000:]}")


def _persist(work: Callable[[], object]) -> None:
    """Does what needs the network until it succeeds, a few times. Raises EngineFailed."""
    for attempt in range(1, ATTEMPTS):
        try:
            work()
        except (EngineFailed, subprocess.TimeoutExpired) as error:
            print(f"attempt {attempt} of {ATTEMPTS}: {error}", file=sys.stderr)
            time.sleep(attempt * PAUSE_SECONDS)
        else:
            return
    work()


def _print(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
