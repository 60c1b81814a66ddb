"""A private RabbitMQ node on this machine, for development, tests and the demonstration.

    with LocalBroker(folder) as broker:
        broker.set_up()
        connection = connect(broker.settings())

Everything is its own: folder, cookie, ports, epmd, accounts. Everything listens on loopback alone, management
included, and nothing of it goes on after the program that started it. A broker of the system is never touched.

The accounts' passwords are drawn at every first start and stand in the folder (mode 0700), which is as private as the
messages beside them.
"""

from __future__ import annotations

import json
import secrets
import socket
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import ClassVar, Final

from broker_config import names, permissions, topology
from broker_config.administration import Administration
from broker_config.connection import ConnectionSettings, TlsSettings, connect
from broker_config.private_process import (
    LOOPBACK,
    PrivateProcess,
    ProgramMissing,
    StartFailed,
    clean_environment,
    free_ports,
)
from broker_config.private_server import START_SECONDS, PrivateServer

PROGRAM: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
NODE: Final = "smr@localhost"
ADMINISTRATOR: Final = "smr-admin"
WORKER: Final = "smr-worker"

_PROBE_SECONDS: Final = 2
# AMQP 0-9-1 section 4.2.2: what a client says first; the server's Connection.Start begins with a method frame (1).
_PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
_METHOD_FRAME: Final = b"\x01"


@dataclass(frozen=True, slots=True)
class _Ports:
    amqp: int
    management: int
    distribution: int
    epmd: int
    amqps: int


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM files with which the node also listens for TLS, for tests of `connection`."""

    ca_file: Path
    certificate_file: Path
    key_file: Path


class LocalBroker(PrivateServer):
    """One private node. A quorum queue made less than a second before `kill` may not come back: see `settle`."""

    what: ClassVar[str] = "the private RabbitMQ node"
    # The message store is closed within milliseconds of the request; the directory of quorum queues is on disk half a
    # second after a declaration (see `settle`). What the node does then takes seconds, and nobody waits for it.
    stop_seconds: ClassVar[float] = 1.0

    def __init__(self, folder: Path, *, tls: ServerTls | None = None) -> None:
        super().__init__(folder)
        self._tls = tls
        self._ports: _Ports | None = None
        self._passwords: dict[str, str] = {}

    # ---------------------------------------------------------------- where it is

    @property
    def port(self) -> int:
        """Where AMQP is spoken, without TLS."""
        return self._chosen().amqp

    @property
    def tls_port(self) -> int:
        """Where AMQP is spoken with TLS, if the node was made with `tls`."""
        return self._chosen().amqps

    def settings(
        self, user: str = ADMINISTRATOR, password: str | None = None, vhost: str = names.VHOST
    ) -> ConnectionSettings:
        """How to connect; the passwords of the administrator and of the workers are known here."""
        secret = password if password is not None else self._passwords[user]
        return ConnectionSettings(LOOPBACK, self.port, user, secret, vhost)

    def tls_settings(self, ca_file: Path, user: str = ADMINISTRATOR) -> ConnectionSettings:
        """How to connect with TLS, trusting `ca_file`."""
        tls = TlsSettings(ca_file=ca_file)
        return ConnectionSettings(LOOPBACK, self.tls_port, user, self._passwords[user], tls=tls)

    def administration(self) -> Administration:
        """The node's management interface, as its administrator."""
        url = f"http://{LOOPBACK}:{self._chosen().management}"
        return Administration(url, ADMINISTRATOR, self._passwords[ADMINISTRATOR])

    # ---------------------------------------------------------------- its life

    def settle(self, vhost: str = names.VHOST) -> None:
        """Returns when the topology of `vhost` would survive `kill`; asked for by tests that cut the power.

        Raft's directory of queues reaches the disk half a second after a declaration, unlike messages, which do before
        they are confirmed. A queue that is missing there is known to the node after a cut, and never answers.
        """
        if self._process is None:
            raise StartFailed("the private broker does not run")
        directory = self.folder / "data" / NODE / "quorum" / NODE / "names.dets"
        queues = [f"{vhost}_{queue}".encode() for queue in (names.COMMANDS_QUEUE, names.DEAD_LETTER_QUEUE)]
        self._process.wait_until(
            lambda: _names_all(directory, queues), seconds=START_SECONDS, what="the directory of quorum queues"
        )

    def set_up(self, vhost: str = names.VHOST) -> None:
        """Makes the virtual host, our topology in it and the workers' account."""
        administration = self.administration()
        administration.create_vhost(vhost)
        with connect(self.settings(vhost=vhost)) as connection:
            topology.declare(connection.channel())
        administration.put_account(WORKER, self._passwords[WORKER], vhost, permissions.worker_permissions())

    def enrol(self, installation: names.Installation, vhost: str = names.VHOST) -> ConnectionSettings:
        """Makes the account of one client installation and says how it connects."""
        account, password = names.client_account(installation), secrets.token_urlsafe(24)
        self.administration().put_account(account, password, vhost, permissions.client_permissions(installation))
        return self.settings(account, password, vhost)

    # ---------------------------------------------------------------- inside

    def _chosen(self) -> _Ports:
        if self._ports is None:
            raise StartFailed("the private broker has not been started yet")
        return self._ports

    @property
    def _has_ports(self) -> bool:
        return self._ports is not None

    def _require_program(self) -> None:
        if not PROGRAM.exists():
            raise ProgramMissing(
                f"RabbitMQ is not installed: {PROGRAM} is missing. Run `make demo` or ./bootstrap.sh once"
            )

    def _choose_ports(self) -> None:
        self._ports = _Ports(*free_ports(5))

    def _launch(self) -> PrivateProcess:
        self._write_files()
        log = self.folder / "log" / "node.log"
        log.unlink(missing_ok=True)
        return PrivateProcess([str(PROGRAM)], environment=self._environment(), log=log)

    def _serves(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), _PROBE_SECONDS) as probe:
                probe.sendall(_PROTOCOL_HEADER)
                return probe.recv(1) == _METHOD_FRAME
        except OSError:
            return False

    def _lost_a_port(self) -> bool:
        text = (self.folder / "log" / "node.log").read_text(errors="replace")
        return "eaddrinuse" in text or "already in use" in text

    def _write_files(self) -> None:
        for name in ("", "data", "log"):
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._read_or_draw_passwords()
        cookie = self.folder / ".erlang.cookie"
        if not cookie.exists():
            _write_private(cookie, secrets.token_hex(20))
            cookie.chmod(0o400)  # Erlang refuses a cookie that others could read
        _write_private(self.folder / "rabbitmq.conf", self._configuration())
        _write_private(self.folder / "enabled_plugins", _shipped("enabled_plugins"))
        # Erlang resolves the node's host from here: a bare machine may have no /etc/hosts.
        _write_private(self.folder / "inetrc", '{host,{127,0,0,1},["localhost"]}.\n{lookup,[file,native]}.\n')

    def _read_or_draw_passwords(self) -> None:
        path = self.folder / "accounts.json"
        if not path.exists():
            drawn = {user: secrets.token_urlsafe(24) for user in (ADMINISTRATOR, WORKER)}
            _write_private(path, json.dumps(drawn))
        self._passwords = json.loads(path.read_text())

    def _configuration(self) -> str:
        ports = self._chosen()
        lines = [
            _shipped("rabbitmq.conf"),
            "# This node alone: everything on loopback.",
            f"listeners.tcp.1 = {LOOPBACK}:{ports.amqp}",
            f"management.tcp.ip = {LOOPBACK}",
            f"management.tcp.port = {ports.management}",
            f"default_user = {ADMINISTRATOR}",
            f"default_pass = {self._passwords[ADMINISTRATOR]}",
            f"default_vhost = {names.VHOST}",
            # A laptop with little free disk can still run the demonstration.
            "disk_free_limit.absolute = 50MB",
        ]
        if self._tls:
            lines += [
                f"listeners.ssl.1 = {LOOPBACK}:{ports.amqps}",
                f"ssl_options.cacertfile = {self._tls.ca_file}",
                f"ssl_options.certfile = {self._tls.certificate_file}",
                f"ssl_options.keyfile = {self._tls.key_file}",
            ]
        return "\n".join(lines) + "\n"

    def _environment(self) -> dict[str, str]:
        folder, ports = self.folder.absolute(), self._chosen()
        return clean_environment(
            {
                "HOME": str(folder),
                "RABBITMQ_NODENAME": NODE,
                "RABBITMQ_DIST_PORT": str(ports.distribution),
                "RABBITMQ_MNESIA_BASE": str(folder / "data"),
                "RABBITMQ_LOG_BASE": str(folder / "log"),
                "RABBITMQ_LOGS": str(folder / "log" / "rabbit.log"),
                "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
                "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
                "RABBITMQ_CONF_ENV_FILE": "/dev/null",  # the system's own settings are not ours
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
                "ERL_CRASH_DUMP": str(folder / "log" / "erl_crash.dump"),
                "ERL_EPMD_ADDRESS": LOOPBACK,
                "ERL_EPMD_PORT": str(ports.epmd),
                "ERL_INETRC": str(folder / "inetrc"),
                # The start script then becomes the node instead of waiting for it: our signals reach the node.
                "RUNNING_UNDER_SYSTEMD": "true",
            }
        )


def _names_all(directory: Path, queues: list[bytes]) -> bool:
    """Whether a directory of quorum queues names each, as Erlang's external term format does: length, then text."""
    content = directory.read_bytes() if directory.exists() else b""
    return all(bytes([len(queue)]) + queue in content for queue in queues)


def _shipped(name: str) -> str:
    return resources.files("broker_config").joinpath(name).read_text(encoding="utf-8")


def _write_private(path: Path, text: str) -> None:
    """Writes a file that only this user can read, from its first moment on."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
