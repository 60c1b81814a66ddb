"""Names of everything on the broker, each made and read in this one place.

A reply queue is called `smr.reply.<installation>.<random>`: *installation* is the first 26 base32 characters of the
SHA-256 of the app key, *random* is 128 random bits. Both are lower case without padding (RFC 4648 section 6 alphabet).
A name that comes from outside is hostile until `parse_reply_queue` or `parse_client_account` has taken it apart.
"""

from __future__ import annotations

import base64
import re
from typing import Final, NewType

from broker_config.errors import NameRefused

Installation = NewType("Installation", str)
"""26 characters that name a client installation: what the SHA-256 of its app key starts with, in base32."""

QueueName = NewType("QueueName", str)

VHOST: Final = "smr"
COMMANDS_EXCHANGE: Final = "smr.commands"
COMMANDS_QUEUE: Final = QueueName("smr.commands")
COMMANDS_ROUTING_KEY: Final = "commands"
DEAD_LETTER_QUEUE: Final = QueueName("smr.commands.dead")

CLIENT_ACCOUNT_PREFIX: Final = "smr-client-"

# What the default exchange, whose name is empty, is called in permissions (RabbitMQ, "Access Control").
DEFAULT_EXCHANGE_RESOURCE: Final = "amq.default"

DIGEST_BYTES: Final = 32
INSTALLATION_CHARACTERS: Final = 26
RANDOM_BYTES: Final = 16
_PART: Final = "[a-z2-7]{26}"
_PREFIX: Final = "smr.reply."
_ENDS_PREFIX: Final = "smr.ends."
_INSTALLATION: Final = re.compile(_PART)
_REPLY_QUEUE: Final = re.compile(rf"{re.escape(_PREFIX)}({_PART})\.({_PART})")
_ENDS_QUEUE: Final = re.compile(rf"{re.escape(_ENDS_PREFIX)}{_PART}")
_CLIENT_ACCOUNT: Final = re.compile(rf"{re.escape(CLIENT_ACCOUNT_PREFIX)}({_PART})")


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()


def installation_of(app_key_digest: bytes) -> Installation:
    """The installation's name from the SHA-256 of its app key (32 bytes); `NameRefused` for another length."""
    if len(app_key_digest) != DIGEST_BYTES:
        raise NameRefused(f"an installation is named by a digest of {DIGEST_BYTES} bytes, not {len(app_key_digest)}")
    return Installation(_base32(app_key_digest)[:INSTALLATION_CHARACTERS])


def parse_installation(text: str) -> Installation:
    """Takes a name from outside; `NameRefused` unless it is exactly 26 characters of our alphabet."""
    if not _INSTALLATION.fullmatch(text):
        raise NameRefused("not the name of an installation: 26 characters a-z and 2-7 are expected")
    return Installation(text)


def reply_queue(installation: Installation, random: bytes) -> QueueName:
    """The name of a new reply queue; `random` is 16 fresh random bytes, drawn by the caller for this queue alone."""
    parse_installation(installation)
    if len(random) != RANDOM_BYTES:
        raise NameRefused(f"a reply queue is named with {RANDOM_BYTES} random bytes, not {len(random)}")
    return QueueName(f"{_PREFIX}{installation}.{_base32(random)}")


def parse_reply_queue(name: str) -> Installation:
    """Whose reply queue this is; `NameRefused` for every name that `reply_queue` does not give out.

    The caller still compares the result with the installation that signed the command: a well-formed name of
    somebody else's queue is the attack that this exists for.
    """
    match = _REPLY_QUEUE.fullmatch(name)
    if match is None:
        raise NameRefused("reply_to is not the name of a reply queue, so no reply is sent there")
    return Installation(match[1])


def reply_queue_pattern(installation: Installation) -> str:
    """A regular expression, anchored at both ends, for all reply queues of one installation."""
    return rf"^smr\.reply\.{parse_installation(installation)}\.{_PART}$"


def ends_queue(random: bytes) -> QueueName:
    """The name of a queue by which a worker hears where chains end; `random` is 16 fresh random bytes."""
    if len(random) != RANDOM_BYTES:
        raise NameRefused(f"a queue of a worker is named with {RANDOM_BYTES} random bytes, not {len(random)}")
    return QueueName(f"{_ENDS_PREFIX}{_base32(random)}")


def parse_ends_queue(name: str) -> QueueName:
    """The same name; `NameRefused` for every one that `ends_queue` does not give out."""
    if not _ENDS_QUEUE.fullmatch(name):
        raise NameRefused("not the name of a queue by which a worker hears where chains end")
    return QueueName(name)


def ends_queue_pattern() -> str:
    """A regular expression, anchored at both ends, for the queues by which workers hear."""
    return rf"^{re.escape(_ENDS_PREFIX)}{_PART}$"


def client_account(installation: Installation) -> str:
    """The broker account of an installation; commands carry it as `user_id`, which the broker has checked."""
    return f"{CLIENT_ACCOUNT_PREFIX}{parse_installation(installation)}"


def parse_client_account(user_id: str) -> Installation:
    """Whose account this is; `NameRefused` for any other account."""
    match = _CLIENT_ACCOUNT.fullmatch(user_id)
    if match is None:
        raise NameRefused("this is not the account of a client installation")
    return Installation(match[1])
