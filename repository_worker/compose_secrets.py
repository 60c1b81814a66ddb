"""Every secret and certificate that the containers of docker-compose.yml are given, made once, as files in one folder.

    ca.pem, ca.key               the CA for TLS; its key under the repository's passphrase, for renewals alone
    broker.pem, broker.key       what RabbitMQ shows; mongo.pem is certificate and key in one, as mongod wants them
    broker-definitions.json      RabbitMQ's first accounts, with hashes of their passwords
    broker-url, operator-broker-url, management-url       one account each: workers, operator, administrator
    mongo-url, operator-mongo-url, database-accounts.json the same for MongoDB
    mongo-keyfile, erlang-cookie what members of a cluster know each other by
    repository-passphrase        opens the repository's keystore
    grafana-password             for whoever looks at the dashboards

Rules: only the owner may enter the folder; a file in it can be read by whoever can reach it, because containers get
each one that they need, and no other, as a mount, and run under users that the owner of the folder does not know.
Nothing that is there is ever overwritten, but the servers' certificates when they are renewed. Addresses name services
of docker-compose.yml and paths inside the containers.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker_config import boot_definitions, names, permissions
from broker_config.boot_definitions import BootAccount
from pki import transport_ca
from pki.errors import PkiError
from pki.files import private_folder, write_atomically
from pki.operator import Credential
from repository_worker.errors import HomeError

MOUNTED: Final = "/run/secrets"  #: where a container finds the files
READABLE: Final = 0o444  #: inside a folder that only its owner may enter
FOLDER_MODE: Final = 0o700

BROKER_HOSTS: Final = ("rabbitmq", "rabbitmq-2", "rabbitmq-3", "broker", "localhost", "127.0.0.1")
MONGO_HOSTS: Final = ("mongo", "mongo-2", "mongo-3", "localhost", "127.0.0.1")
REPLICA_SET: Final = "smr"
DATABASE: Final = "smr"
PASSWORD_BYTES: Final = 32
KEYFILE_BYTES: Final = 512  #: as base64 it stays within the 1024 characters that mongod takes
PASSPHRASE_FILE: Final = "repository-passphrase"  # noqa: S105 - the name of a file
CA_FILE: Final = "ca.pem"
CA_KEY_FILE: Final = "ca.key"

WORKER: Final = "smr-worker"
OPERATOR: Final = "smr-operator"
ADMINISTRATOR: Final = "smr-admin"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the secrets are made for: the operator's name, and the names by which clients reach the broker."""

    organisation: str
    hosts: tuple[str, ...] = ()
    cluster: bool = False


def create(folder: Path, deployment: Deployment) -> tuple[str, ...]:
    """Makes everything that is missing as a whole; gives the files' names. Raises HomeError if any are there."""
    with _folder(folder):
        private_folder(folder)
        folder.chmod(FOLDER_MODE)
        if any(folder.iterdir()):
            raise HomeError(
                f"{folder} is not empty, and secrets that servers know already are never replaced. Use another folder, "
                "or renew the certificates alone with --renew-certificates."
            )
        passphrase = _password()
        root = transport_ca.create_transport_root(deployment.organisation)
        files = {
            PASSPHRASE_FILE: passphrase,
            CA_KEY_FILE: root.key_pem(passphrase.encode()).decode("ascii"),
            CA_FILE: root.chain_pem().decode("ascii"),
            "mongo-keyfile": base64.b64encode(secrets.token_bytes(KEYFILE_BYTES)).decode("ascii"),
            "erlang-cookie": secrets.token_hex(PASSWORD_BYTES),
            "grafana-password": _password(),
            **_servers(root, deployment.hosts),
            **_broker(deployment),
            **_database(deployment),
        }
        # The passphrase's file goes last: its presence says that all are there.
        for name in sorted(files, key=PASSPHRASE_FILE.__eq__):
            write_atomically(folder / name, files[name].encode(), READABLE)
    return tuple(sorted(files))


def renew_certificates(folder: Path, hosts: Sequence[str]) -> tuple[str, ...]:
    """New certificates and keys for broker and database, from the same CA; gives the files' names. Raises HomeError.

    The broker's certificate keeps the names that it has, and gets `hosts` beside them.
    """
    with _folder(folder):
        passphrase = (folder / PASSPHRASE_FILE).read_bytes()
        root = Credential.from_pem((folder / CA_FILE).read_bytes(), (folder / CA_KEY_FILE).read_bytes(), passphrase)
        made = _servers(root, (*_hosts((folder / "broker.pem").read_bytes()), *hosts))
        for name, text in made.items():
            # In place: a container's mount of one file stays with that file, and would keep a replaced one.
            (folder / name).chmod(0o600)
            (folder / name).write_text(text, encoding="ascii")
            (folder / name).chmod(READABLE)
    return tuple(sorted(made))


def _servers(root: Credential, hosts: Sequence[str]) -> dict[str, str]:
    broker = transport_ca.issue_server(root, list(dict.fromkeys((*BROKER_HOSTS, *hosts))))
    mongo = transport_ca.issue_server(root, MONGO_HOSTS)
    return {
        "broker.pem": _leaf(broker),
        "broker.key": _key(broker),
        "mongo.pem": _leaf(mongo) + _key(mongo),
    }


def _hosts(certificate: bytes) -> list[str]:
    names = x509.load_pem_x509_certificate(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(each.value) for each in names.value]


def _leaf(credential: Credential) -> str:
    return credential.certificate.public_bytes(Encoding.PEM).decode("ascii")


def _key(credential: Credential) -> str:
    """Servers start without a person, so their keys have no passphrase; the folder's mode and the mounts keep them."""
    return credential.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


def _broker(deployment: Deployment) -> dict[str, str]:
    everything = permissions.Permissions(".*", ".*", ".*")
    worker = BootAccount(WORKER, _password(), permissions.worker_permissions())
    operator = BootAccount(OPERATOR, _password(), permissions.operator_permissions())
    administrator = BootAccount(ADMINISTRATOR, _password(), everything, boot_definitions.ADMINISTRATOR)
    host = "broker" if deployment.cluster else "rabbitmq"
    address = f"{host}:5671/{names.VHOST}?ca={MOUNTED}/{CA_FILE}"
    return {
        "broker-definitions.json": json.dumps(boot_definitions.document(worker, operator, administrator), indent=1),
        "broker-url": f"amqps://{worker.name}:{worker.password}@{address}",
        "operator-broker-url": f"amqps://{operator.name}:{operator.password}@{address}",
        "management-url": f"https://{administrator.name}:{administrator.password}@rabbitmq:15671?ca={MOUNTED}/{CA_FILE}",
    }


def _database(deployment: Deployment) -> dict[str, str]:
    passwords = {name: _password() for name in (ADMINISTRATOR, OPERATOR, WORKER)}
    hosts = ",".join(f"{host}:27017" for host in MONGO_HOSTS[: 3 if deployment.cluster else 1])
    query = f"replicaSet={REPLICA_SET}&authSource=admin&tls=true&tlsCAFile={MOUNTED}/{CA_FILE}"
    return {
        "database-accounts.json": json.dumps({"replica_set": REPLICA_SET, "database": DATABASE, "accounts": passwords}),
        "mongo-url": f"mongodb://{WORKER}:{passwords[WORKER]}@{hosts}/?{query}",
        "operator-mongo-url": f"mongodb://{OPERATOR}:{passwords[OPERATOR]}@{hosts}/?{query}",
    }


def _password() -> str:
    return secrets.token_urlsafe(PASSWORD_BYTES)


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HomeError(f"{folder} cannot be read or written ({error.strerror}); check who owns it.") from error
    except PkiError as error:
        raise HomeError(str(error)) from error
