"""Exchanges and queues, declared from this one place and the same in `definitions.json`.

    smr.commands (durable direct exchange) ──▶ smr.commands (quorum queue) ──dead letters──▶ smr.commands.dead

The command queue refuses publishers when it is full (reject-publish): with publisher confirms nothing is ever lost
silently. The same setting is what at-least-once dead-lettering asks for (RabbitMQ 3.10 and newer). The dead-letter
queue drops its oldest when full, so that it never stands in the way of the command queue.

    declare(channel)              the operator's set-up; repeating it changes nothing
    check(channel)                what a client can ask: is there a repository at this broker?
    declare_reply_queue(channel)  a client's own queue, gone with its connection
    declare_ends_queue(channel)   a worker's own queue, likewise
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pika.exceptions

from broker_config import limits, names
from broker_config.errors import BrokerError, BrokerNotReady, BrokerRefused, BrokerUnreachable

if TYPE_CHECKING:
    from pika.adapters.blocking_connection import BlockingChannel

ACCESS_REFUSED: Final = 403
NOT_FOUND: Final = 404

COMMANDS_ARGUMENTS: Final[dict[str, Any]] = {
    "x-queue-type": "quorum",
    "x-delivery-limit": limits.DELIVERY_LIMIT,
    "x-max-length": limits.COMMAND_QUEUE_MESSAGES,
    "x-max-length-bytes": limits.COMMAND_QUEUE_BYTES,
    "x-overflow": "reject-publish",
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": names.DEAD_LETTER_QUEUE,
    "x-dead-letter-strategy": "at-least-once",
}

DEAD_LETTER_ARGUMENTS: Final[dict[str, Any]] = {
    "x-queue-type": "quorum",
    "x-delivery-limit": limits.DEAD_LETTER_LOOKS,
    "x-max-length": limits.DEAD_LETTER_MESSAGES,
    "x-max-length-bytes": limits.DEAD_LETTER_BYTES,
    "x-message-ttl": limits.DEAD_LETTER_MILLISECONDS,
    "x-overflow": "drop-head",
}

REPLY_ARGUMENTS: Final[dict[str, Any]] = {
    "x-max-length-bytes": limits.REPLY_QUEUE_BYTES,
    "x-message-ttl": limits.REPLY_MILLISECONDS,
    "x-overflow": "drop-head",
}

ENDS_ARGUMENTS: Final[dict[str, Any]] = {
    "x-max-length": limits.ENDS_QUEUE_MESSAGES,
    "x-max-length-bytes": limits.ENDS_QUEUE_BYTES,
    "x-message-ttl": limits.ENDS_MILLISECONDS,
    "x-overflow": "drop-head",
}


def declare(channel: BlockingChannel) -> None:
    """Makes exchange, queues and binding where they are missing.

    Raises `BrokerNotReady` when one exists with other settings, `BrokerRefused` when the account may not declare them.
    """
    with _refusals("set up"):
        channel.queue_declare(names.DEAD_LETTER_QUEUE, durable=True, arguments=DEAD_LETTER_ARGUMENTS)
        channel.exchange_declare(names.COMMANDS_EXCHANGE, exchange_type="direct", durable=True)
        channel.queue_declare(names.COMMANDS_QUEUE, durable=True, arguments=COMMANDS_ARGUMENTS)
        channel.queue_bind(names.COMMANDS_QUEUE, names.COMMANDS_EXCHANGE, routing_key=names.COMMANDS_ROUTING_KEY)


def check(channel: BlockingChannel) -> None:
    """Raises `BrokerNotReady` unless the commands exchange is there. Declares nothing and needs no permission."""
    with _refusals("find"):
        channel.exchange_declare(names.COMMANDS_EXCHANGE, passive=True)


def declare_reply_queue(channel: BlockingChannel, name: names.QueueName) -> None:
    """Makes a reply queue that only this connection can read and that goes with it.

    Raises `NameRefused` for a name of another form, `BrokerRefused` when it is not this account's.
    """
    names.parse_reply_queue(name)
    with _refusals("make the reply queue at"):
        channel.queue_declare(name, exclusive=True, auto_delete=True, arguments=REPLY_ARGUMENTS)


def declare_ends_queue(channel: BlockingChannel, name: names.QueueName) -> None:
    """Makes the queue by which one worker hears others: its connection's own, and gone with it.

    Raises `NameRefused`, `BrokerRefused` when this account may not.
    """
    names.parse_ends_queue(name)
    with _refusals("make a worker's queue at"):
        channel.queue_declare(name, exclusive=True, auto_delete=True, arguments=ENDS_ARGUMENTS)


def definitions() -> dict[str, Any]:
    """The same topology as a document that RabbitMQ imports at boot; `definitions.json` is its text."""
    return {
        "vhosts": [{"name": names.VHOST}],
        "exchanges": [_definition(names.COMMANDS_EXCHANGE, {}, type="direct", internal=False)],
        "queues": [
            _definition(names.COMMANDS_QUEUE, COMMANDS_ARGUMENTS),
            _definition(names.DEAD_LETTER_QUEUE, DEAD_LETTER_ARGUMENTS),
        ],
        "bindings": [
            {
                "vhost": names.VHOST,
                "source": names.COMMANDS_EXCHANGE,
                "destination": names.COMMANDS_QUEUE,
                "destination_type": "queue",
                "routing_key": names.COMMANDS_ROUTING_KEY,
                "arguments": {},
            }
        ],
    }


def _definition(name: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "vhost": names.VHOST,
        "name": name,
        "durable": True,
        "auto_delete": False,
        "arguments": arguments,
        **more,
    }


@contextmanager
def _refusals(doing: str) -> Iterator[None]:
    try:
        yield
    except pika.exceptions.ChannelClosedByBroker as e:
        raise _refusal(doing, e.reply_code, e.reply_text) from e
    except pika.exceptions.AMQPError as e:
        raise BrokerUnreachable(
            f"the connection to the broker was lost while trying to {doing} the repository; try again in a moment"
        ) from e


def _refusal(doing: str, code: int, text: str) -> BrokerError:
    if code == ACCESS_REFUSED:
        return BrokerRefused(
            f"the broker does not let this account {doing} the repository ({text}); "
            "the operator has to grant it what it needs"
        )
    if code == NOT_FOUND:
        return BrokerNotReady(
            "there is no repository at this broker: its commands exchange is missing. "
            "The operator sets it up with `smr-repository init`; check the broker's address and virtual host too"
        )
    return BrokerNotReady(
        f"the broker could not {doing} the repository ({text}). If a queue exists with other settings, "
        "the operator removes it once it is empty, then runs `smr-repository init` again"
    )
