"""Dead letters as an operator meets them: what can be told of them without keys, and what may become of them.

Rules:

- Nothing is opened: kind, session and counter stand in the clear on every envelope, and no more is looked at.
- Looking changes nothing: each message is taken without acknowledgement and given back.
- `requeue` publishes with a confirm to the command queue first and acknowledges afterwards. A crash between the two
  leaves a message twice, never none, and a repeated envelope has its effect once.
- A dead letter is named by the beginning of the SHA-256 of its envelope, the correlation id that workers log. One
  envelope that died several times is several dead letters of one name.

The account needs the operator's rights (`broker_config.permissions.operator_permissions`): workers cannot read here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pika
import pika.exceptions

from broker_config import limits, names
from broker_config.connection import ConnectionSettings, connect
from broker_config.errors import NameRefused
from crypto_core import cose, envelope, labels, suite
from crypto_core.errors import ProtocolError
from repository_worker.errors import DeadLetterError
from repository_worker.transport import headers

RETURN_SECONDS: Final = 5.0
"""How long a look waits for the broker to take back what was only looked at."""
NAME_CHARACTERS: Final = 12
"""Of the digest's 64, shown to people; any unambiguous beginning is understood."""
REASONS: Final = {
    "rejected": "a worker rejected it: its log says why, under this id",
    "delivery_limit": f"it was delivered {limits.DELIVERY_LIMIT} times and no worker brought it to an end",
    "expired": "it waited too long",
    "maxlen": "the queue was full",
}
_COMMAND_KINDS: Final = {
    labels.DESCRIPTOR_REQUEST: "descriptor request",
    labels.CONFIRM: "confirm",
    labels.COMMAND: "command",
}
_ENCRYPT_START: Final = b"\xd8\x60"  # RFC 8949 section 3.4: tag 96
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_DEATHS: Final = "x-death"
_RETURN_PAUSE_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter. `digest` is the SHA-256 of the envelope in hexadecimal, `size` its bytes.

    `reason` is the broker's word, "unknown" where it left none; `session` and `counter` are as the envelope says, and
    nobody has verified them.
    """

    digest: str
    reason: str
    died: datetime | None
    size: int
    kind: str
    session: str | None = None
    counter: int | None = None
    reply_to: str | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        return self.digest[:NAME_CHARACTERS]


class DeadLetters:
    """The dead-letter queue of one broker. Every method raises BrokerError or DeadLetterError."""

    def __init__(self, settings: ConnectionSettings) -> None:
        headers.install()
        self._settings = settings

    def all(self) -> tuple[DeadLetter, ...]:
        """Every dead letter, the oldest first."""
        found: list[DeadLetter] = []
        self._walk(lambda _channel, letter, _body, _properties: _keep(found, letter))
        return tuple(sorted(found, key=lambda letter: letter.died or _LONG_AGO))

    def requeue(self, wanted: Callable[[DeadLetter], bool]) -> tuple[DeadLetter, ...]:
        """Gives those that are wanted back to the workers, and tells which they were."""
        done: list[DeadLetter] = []

        def act(channel: Any, letter: DeadLetter, body: bytes, properties: pika.BasicProperties) -> bool:
            if not wanted(letter):
                return False
            try:
                channel.basic_publish(
                    names.COMMANDS_EXCHANGE, names.COMMANDS_ROUTING_KEY, body, _as_sent(properties), mandatory=True
                )
            except (pika.exceptions.UnroutableError, pika.exceptions.NackError) as error:
                raise DeadLetterError(
                    f"The command queue does not take {letter.name} now, so it stays a dead letter, as all after it "
                    "do; see whether the queue is full (`smr-repository doctor`), then repeat the command."
                ) from error
            done.append(letter)
            return True

        self._walk(act)
        return tuple(done)

    def drop(self, wanted: Callable[[DeadLetter], bool]) -> tuple[DeadLetter, ...]:
        """Destroys those that are wanted, and tells which they were."""
        done: list[DeadLetter] = []

        def act(_channel: Any, letter: DeadLetter, _body: bytes, _properties: pika.BasicProperties) -> bool:
            return wanted(letter) and not _keep(done, letter)

        self._walk(act)
        return tuple(done)

    def _walk(self, act: Callable[[Any, DeadLetter, bytes, pika.BasicProperties], bool]) -> None:
        """Shows `act` each message that lies there now; those for which it says true are gone afterwards.

        What arrives meanwhile is left alone: a poison message that is requeued comes back at once.
        """
        try:
            with connect(self._settings, name="smr-repository dead") as connection:
                reading, writing = connection.channel(), connection.channel()
                writing.confirm_delivery()
                left = reading.queue_declare(names.DEAD_LETTER_QUEUE, passive=True).method.message_count
                kept: list[int] = []
                for _ in range(left):
                    method, properties, body = reading.basic_get(names.DEAD_LETTER_QUEUE)
                    if method is None:
                        break
                    if act(writing, read(body, properties), body, properties):
                        reading.basic_ack(method.delivery_tag)
                    else:
                        kept.append(method.delivery_tag)
                if kept:
                    reading.basic_nack(kept[-1], multiple=True, requeue=True)
                    _await_return(writing, len(kept))
        except pika.exceptions.ChannelClosedByBroker as error:
            raise DeadLetterError(
                f"The broker does not let this account use the dead letters ({error.reply_text}). Workers may not; "
                "name the operator's account in SMR_REPOSITORY_OPERATOR_BROKER_URL_FILE."
            ) from error
        except pika.exceptions.AMQPError as error:
            raise DeadLetterError(
                "The connection to the broker was lost. Nothing is lost with it, but a letter may be in both queues; "
                "list the dead letters and repeat the command."
            ) from error


def _await_return(channel: Any, given_back: int) -> None:
    """Waits until what was given back lies in the queue again, or RETURN_SECONDS.

    A quorum queue takes messages back after it was told, so that whoever looks next at once could miss some.
    """
    deadline = time.monotonic() + RETURN_SECONDS
    while channel.queue_declare(names.DEAD_LETTER_QUEUE, passive=True).method.message_count < given_back:
        if time.monotonic() > deadline:  # another operator holds some of them, which is no fault
            return
        channel.connection.process_data_events(time_limit=_RETURN_PAUSE_SECONDS)


def choose(found: tuple[DeadLetter, ...], beginnings: list[str]) -> frozenset[str]:
    """The digests that these beginnings mean. Raises DeadLetterError for one that means none or several."""
    digests = {each.digest for each in found}
    chosen = set()
    for beginning in beginnings:
        meant = [digest for digest in digests if digest.startswith(beginning.lower())]
        if len(meant) != 1:
            what = "No dead letter begins" if not meant else f"{len(meant)} dead letters begin"
            raise DeadLetterError(f"{what} with {beginning}; see `smr-repository dead list`, then name it with more.")
        chosen.add(meant[0])
    return frozenset(chosen)


def read(body: bytes, properties: pika.BasicProperties) -> DeadLetter:
    """What can be told of a message without any key. Never raises: dead letters may be anything."""
    reason, died = _death(properties.headers)
    kind, session, counter = _about(body)
    return DeadLetter(
        suite.sha256(body).hex(), reason, died, len(body), kind, session, counter, _reply_queue(properties.reply_to)
    )


def _about(body: bytes) -> tuple[str, str | None, int | None]:
    """Kind, session and counter."""
    if len(body) > limits.ENVELOPE_BYTES:
        return "too large", None, None
    try:
        if body.startswith(_ENCRYPT_START):
            cose.read_encrypt(body)
            return "hello", None, None
        message = cose.read_sign1(body)
        kind = _COMMAND_KINDS.get(cose.label_of(message.headers))
        if kind is None:
            return "unknown object", None, None
        if kind == "descriptor request":
            return kind, None, None
        request = envelope.from_message(message, suite.sha256(body))
    except ProtocolError:
        return "unreadable", None, None
    return kind, request.session.hex(), request.counter


def _death(table: dict[str, Any] | None) -> tuple[str, datetime | None]:
    """Reason and time of the newest death in the command queue. The table is the broker's, with strangers' in it."""
    deaths = (table or {}).get(_DEATHS)
    for death in deaths if isinstance(deaths, list) else []:
        if isinstance(death, dict) and death.get("queue") == names.COMMANDS_QUEUE:
            reason, died = death.get("reason"), death.get("time")
            moment = died.replace(tzinfo=died.tzinfo or UTC) if isinstance(died, datetime) else None
            return (reason if isinstance(reason, str) and reason in REASONS else "unknown"), moment
    return "unknown", None


def _reply_queue(name: object) -> str | None:
    try:
        names.parse_reply_queue(name if isinstance(name, str) else "")
    except NameRefused:
        return None
    return str(name)


def _as_sent(properties: pika.BasicProperties) -> pika.BasicProperties:
    """The properties as the client set them, without what the broker added when the message died."""
    return pika.BasicProperties(
        content_type=properties.content_type,
        correlation_id=properties.correlation_id,
        reply_to=properties.reply_to,
        delivery_mode=pika.DeliveryMode.Persistent.value,
    )


def _keep(kept: list[DeadLetter], letter: DeadLetter) -> bool:
    kept.append(letter)
    return False
