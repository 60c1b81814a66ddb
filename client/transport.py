"""Requests to the repository over the broker, each with a deadline.

    Transport.exchange(envelope, take)      publishes the envelope and waits for a reply that `take` accepts
    Transport.exchange_all(requests, n)     the same for many, of which up to n are under way at a time

A request that is alone waits for the broker's word that it has it; of many under way the replies say more. Only when
these stay away is the broker asked, by publishing the oldest once more: is its queue full, or not there?

Anybody who reaches the reply queue can put anything there, so that nothing is believed before `take` has verified it,
and nothing that `take` refuses ends the wait: a forged reply must not be able to cancel a command. Correlation ids are
hints: they say which request to try first. A connection that is lost is opened again, and the same bytes are published
again; the repository recognises them.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import pika
import pika.exceptions

from broker_config import connection as broker
from broker_config import limits as broker_limits
from broker_config import names, topology
from broker_config.connection import ConnectionSettings
from broker_config.errors import BrokerError, BrokerRefused, BrokerSettingsInvalid, BrokerUnreachable
from client.errors import LocalState, NotAllowed, Stopped, TooLarge, Unreachable
from client.settings import REPLY_SECONDS
from crypto_core.commands import RefusedByRepository
from crypto_core.errors import BindingMismatch, ProtocolError
from crypto_core.ids import Digest
from crypto_core.suite import sha256

R = TypeVar("R")

_SLICE_SECONDS: Final = 1.0  #: how long one look into the queue may block
_BEAT_SECONDS: Final = 1.0  #: how often heartbeats are looked after; brokers expect them every few seconds at most
_PERSISTENT: Final = 2


@dataclass(frozen=True, slots=True)
class Request(Generic[R]):
    """An envelope, its SHA-256, and what makes its result of a reply; `take` raises as `Transport.exchange` says."""

    envelope: bytes = field(repr=False)
    digest: Digest
    take: Callable[[bytes], R]


@dataclass(slots=True)
class _Flight(Generic[R]):
    """A request under way: the connection that it was published by last, and its result once that is there."""

    request: Request[R]
    connection: pika.BlockingConnection | None = None
    result: R | None = None
    landed: bool = False

    @property
    def name(self) -> str:
        """Its correlation id, which the logs of the repository name too."""
        return self.request.digest.hex()


class Transport:
    """One connection with its own reply queue, opened when it is first needed. Not thread-safe."""

    def __init__(
        self,
        settings: ConnectionSettings,
        installation: str,
        reply_seconds: float = REPLY_SECONDS,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._installation = names.parse_installation(installation)
        self._reply_seconds = reply_seconds
        self._stopped = stopped
        self._connection: pika.BlockingConnection | None = None
        self._channel: Any = None
        self._quick: Any = None  #: for what is published without waiting for the broker's word
        self._returned = False  #: the broker had no queue for something of that
        self._queue = ""
        self._arrived: deque[tuple[bytes, str | None]] = deque()  #: bodies, each with its correlation id
        self._hinted = False
        self.ignored = 0  #: replies that were not an answer to what was asked
        self._last: ProtocolError | None = None  #: why the last one of them was not

    def exchange(self, envelope: bytes, take: Callable[[bytes], R]) -> R:
        """What `take` makes of the first reply that it accepts.

        `take` raises ProtocolError for a reply that is not the answer; RefusedByRepository, which is an answer, ends
        the wait. Raises Unreachable, Stopped, TooLarge, NotAllowed (the broker account), LocalState (its address).
        """
        (result,) = self.exchange_all([Request(envelope, sha256(envelope), take)], 1)
        return result

    def exchange_all(self, requests: Iterable[Request[R]], most: int) -> Iterator[R]:
        """The results in the order of the requests, of which at most `most` are under way at a time.

        Requests are asked for when there is room for them. Each result is waited for as `exchange` waits, and so long
        as others arrive; the time that publishing takes does not count. Raises as `exchange` does; what was under way
        then may have had its effect.
        """
        source, flights = iter(requests), deque[_Flight[R]]()
        self._returned = False
        while True:
            while len(flights) < most and (request := next(source, None)) is not None:
                flights.append(_departing(request))
            if not flights:
                return
            deadline = time.monotonic() + self._reply_seconds
            while not flights[0].landed:
                with self._connected(deadline):
                    deadline += self._send(flights, awaited=most == 1)
                    if self._look_or_ask(flights, deadline, awaited=most == 1):
                        deadline = time.monotonic() + self._reply_seconds
            yield flights.popleft().result  # type: ignore[misc]  # it has landed

    @contextmanager
    def _connected(self, deadline: float) -> Iterator[None]:
        """Around what needs the connection: when that is lost before the deadline, it may be done again."""
        try:
            self._open()
            yield
        except (pika.exceptions.AMQPError, OSError) as error:
            self.close()
            if time.monotonic() >= deadline:
                raise _lost(error) from error
        except BrokerUnreachable as error:
            self.close()
            raise Unreachable(f"The repository cannot be reached: {error}.") from error
        except BrokerSettingsInvalid as error:
            raise LocalState(f"The broker's address cannot be used: {error}.") from error
        except BrokerRefused as error:
            raise NotAllowed(f"The broker does not let this installation in: {error}.") from error
        except BrokerError as error:
            raise Unreachable(f"The broker is not ready: {error}.") from error

    def _send(self, flights: Sequence[_Flight[R]], *, awaited: bool) -> float:
        """Publishes what was not published by this connection; how long that took, in seconds.

        Where the line is slow that is long, and nobody can have answered yet.
        """
        began = time.monotonic()
        for each in flights:
            if not each.landed and each.connection is not self._connection:
                self._publish(each, awaited=awaited)
                each.connection = self._connection
        return time.monotonic() - began

    def _look_or_ask(self, flights: Sequence[_Flight[R]], deadline: float, *, awaited: bool) -> bool:
        """Looks for replies once, whether one was taken; at the deadline hears what the broker says to the oldest."""
        if not awaited and time.monotonic() >= deadline and not self._arrived:
            self._publish(flights[0], awaited=True)
        return self._look(flights, deadline)

    @property
    def reply_queue(self) -> str:
        """Where replies and hints go; empty while there is no connection."""
        return self._queue

    def await_hint(self, seconds: float) -> bool:
        """Waits for a hint, at most so long. True when one came, by whomever: a reason to ask, and nothing more.

        Raises Unreachable, also when there is no connection; the next exchange opens another one, with another queue.
        """
        if self._connection is None:
            raise _lost(BrokerUnreachable("there is no connection"))
        deadline = time.monotonic() + seconds
        try:
            while not self._hinted and (left := deadline - time.monotonic()) > 0:
                self._connection.process_data_events(time_limit=min(left, _SLICE_SECONDS))
        except (pika.exceptions.AMQPError, OSError) as error:
            self.close()
            raise _lost(error) from error
        hinted, self._hinted = self._hinted, False
        self._arrived.clear()  # late replies that nobody waits for any more
        return hinted

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Answers the broker's heartbeats while the caller waits for something else than the broker.

        Inside of it nothing else may be done with this object: the connection belongs to one thread at a time.
        """
        done = threading.Event()
        beating = threading.Thread(target=self._beat, args=(done,), name="smr heartbeat", daemon=True)
        beating.start()
        try:
            yield
        finally:
            done.set()
            beating.join()

    def _beat(self, done: threading.Event) -> None:
        while not done.wait(_BEAT_SECONDS):
            if self._connection is None or not self._connection.is_open:
                return
            try:
                self._connection.process_data_events(time_limit=0)
            except (pika.exceptions.AMQPError, OSError):
                return  # it is lost: the next exchange opens another one

    def close(self) -> None:
        """Drops the connection; the broker drops its queue."""
        connection, self._connection = self._connection, None
        self._channel, self._quick, self._queue = None, None, ""
        if connection is not None:
            try:
                connection.close()
            except (pika.exceptions.AMQPError, OSError):
                return  # it was lost already

    def _open(self) -> None:
        channels = (self._channel, self._quick)
        if self._connection is not None and self._connection.is_open and all(each.is_open for each in channels):
            return
        self.close()
        self._connection = broker.connect(self._settings, name=f"smr {self._installation}")
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()
        self._quick = self._connection.channel()
        self._quick.add_on_return_callback(self._take_back)
        self._queue = names.reply_queue(self._installation, secrets.token_bytes(names.RANDOM_BYTES))
        topology.declare_reply_queue(self._channel, names.QueueName(self._queue))
        self._channel.basic_consume(self._queue, self._take_in, auto_ack=True, exclusive=True)

    def _take_in(self, _channel: Any, _method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        if body:
            self._arrived.append((body, properties.correlation_id))
        else:
            self._hinted = True

    def _take_back(self, *_: object) -> None:
        self._returned = True

    def _publish(self, flight: _Flight[R], *, awaited: bool) -> None:
        properties = pika.BasicProperties(
            content_type="application/cose",
            delivery_mode=_PERSISTENT,
            reply_to=self._queue,
            correlation_id=flight.name,
            user_id=self._settings.user,
        )
        channel = self._channel if awaited else self._quick
        try:
            channel.basic_publish(
                names.COMMANDS_EXCHANGE,
                names.COMMANDS_ROUTING_KEY,
                flight.request.envelope,
                properties,
                mandatory=True,
            )
        except pika.exceptions.UnroutableError as error:
            raise _unroutable() from error
        except pika.exceptions.NackError as error:
            raise Unreachable(
                "The repository is busy: its queue is full.",
                "Nothing was delivered; what has an effect is kept and will be sent again.",
                "Try again in a moment.",
            ) from error

    def _look(self, flights: Sequence[_Flight[R]], deadline: float) -> bool:
        last: ProtocolError | None = None
        while self._arrived:
            refused = self._land(flights, *self._arrived.popleft())
            if refused is None:
                return True
            self.ignored += 1
            last = refused
        self._last = last or self._last
        if self._stopped():
            raise Stopped
        if self._returned:
            raise _unroutable()
        left = deadline - time.monotonic()
        if left <= 0:
            raise _silent(self._reply_seconds, self.ignored, self._last)
        if self._connection is None:
            raise BrokerUnreachable("the connection was closed while waiting")
        self._connection.process_data_events(time_limit=min(left, _SLICE_SECONDS))
        return False

    def _land(self, flights: Sequence[_Flight[R]], body: bytes, hint: str | None) -> ProtocolError | None:
        """Gives a reply to the request that accepts it; the last refusal, when none does."""
        refused: ProtocolError = BindingMismatch("a reply that nothing waits for")
        for each in sorted(flights, key=lambda flight: flight.name != hint):
            if each.landed:
                continue
            try:
                each.result = each.request.take(body)
            except RefusedByRepository:
                raise
            except ProtocolError as error:
                refused = error
            else:
                each.landed = True
                return None
        return refused


def _departing(request: Request[R]) -> _Flight[R]:
    if len(request.envelope) > broker_limits.ENVELOPE_BYTES:
        raise TooLarge(
            f"The message has {len(request.envelope)} bytes; the broker takes {broker_limits.ENVELOPE_BYTES}.",
            "Nothing was sent.",
            "Send less at once.",
        )
    return _Flight(request)


def _unroutable() -> Unreachable:
    return Unreachable(
        "The broker has no queue for the repository's commands.",
        "Nothing was delivered; what has an effect is kept and will be sent again.",
        "Tell the operator, and try again later.",
    )


def _silent(seconds: float, ignored: int, last: ProtocolError | None) -> Unreachable:
    others = f" {ignored} replies came that were not its answer (the last: {last})." if ignored else ""
    return Unreachable(
        f"The repository gave no answer within {seconds:g} seconds.{others}",
        "It may be down, or no longer know this session; what has an effect is kept and will be sent again.",
        "Try again; if it goes on, smr session close and then the command again.",
    )


def _lost(error: BaseException) -> Unreachable:
    return Unreachable(
        f"The connection to the broker was lost ({type(error).__name__}).",
        "What has an effect is kept and will be sent again.",
        "Check the network, then try again.",
    )
