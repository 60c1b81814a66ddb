"""Accounts that a broker has from its first start: a document that RabbitMQ imports when it boots.

A broker that starts with such a document makes no account of its own (`guest`), and never sees a password: it gets a
salted hash of each (RabbitMQ, "Credentials and Passwords"). Queues are not in it, on purpose: a quorum queue that is
made while the first node of a cluster boots has one member for ever; the operator's set-up declares them later.

    document(account("smr-worker", password, worker_permissions()), …)
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any, Final

from broker_config import names
from broker_config.permissions import Permissions

SALT_BYTES: Final = 4  #: RabbitMQ's format has this length; passwords here are random, so that it needs no more
ADMINISTRATOR: Final = "administrator"
_HASHING: Final = "rabbit_password_hashing_sha256"


@dataclass(frozen=True, slots=True)
class BootAccount:
    """One account: `tags` are RabbitMQ's, empty for one that may use AMQP alone."""

    name: str
    password: str = field(repr=False)
    permissions: Permissions
    tags: str = ""


def document(*accounts: BootAccount) -> dict[str, Any]:
    """The virtual host, the accounts, and what each may do there."""
    return {
        "vhosts": [{"name": names.VHOST}],
        "users": [
            {
                "name": each.name,
                "password_hash": password_hash(each.password, secrets.token_bytes(SALT_BYTES)),
                "hashing_algorithm": _HASHING,
                "tags": each.tags,
            }
            for each in accounts
        ],
        "permissions": [
            {
                "user": each.name,
                "vhost": names.VHOST,
                "configure": each.permissions.configure,
                "write": each.permissions.write,
                "read": each.permissions.read,
            }
            for each in accounts
        ],
    }


def password_hash(password: str, salt: bytes) -> str:
    """Salt and SHA-256 of salt and password, in base64."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode("ascii")
