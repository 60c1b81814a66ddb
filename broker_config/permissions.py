"""What each kind of broker account may do: least privilege, generated in this one place.

RabbitMQ asks three regular expressions (configure, write, read) about every name. They are anchored here; an empty
permission is `^$`, which matches no name of ours. The default exchange is called `amq.default` in permissions.

    client      declares and reads its own reply queues, publishes to the commands exchange, and nothing else
    worker      reads the command queue, publishes replies through the default exchange, declares and reads the queue by
                which it hears other workers, and nothing else
    operator    sets up the topology; not used by any running program
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from broker_config.names import (
    COMMANDS_EXCHANGE,
    COMMANDS_QUEUE,
    DEFAULT_EXCHANGE_RESOURCE,
    Installation,
    ends_queue_pattern,
    reply_queue_pattern,
)


@dataclass(frozen=True, slots=True)
class Permissions:
    """Three regular expressions, as RabbitMQ's access control reads them."""

    configure: str
    write: str
    read: str


def _exactly(name: str) -> str:
    return f"^{re.escape(name)}$"


def client_permissions(installation: Installation) -> Permissions:
    """For the account of one installation.

    It may not write to the default exchange: that is what keeps one client from putting forged replies into the
    reply queue of another.
    """
    own = reply_queue_pattern(installation)
    return Permissions(configure=own, write=_exactly(COMMANDS_EXCHANGE), read=own)


def worker_permissions() -> Permissions:
    """For the workers' account: it declares nothing but what it hears by, so a worker cannot loosen a limit."""
    own = ends_queue_pattern()
    return Permissions(
        configure=own, write=_exactly(DEFAULT_EXCHANGE_RESOURCE), read=f"{_exactly(COMMANDS_QUEUE)}|{own}"
    )


def operator_permissions() -> Permissions:
    """For whoever declares the topology: names of ours, and the default exchange that dead letters pass through."""
    return Permissions(configure=r"^smr\.", write=r"^(smr\..*|amq\.default)$", read=r"^(smr\..*|amq\.default)$")
