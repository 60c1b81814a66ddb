"""Takes messages from the command queue, has them handled, publishes the replies and acknowledges.

    broker ── this thread: takes, handles, replies, acknowledges ──▶ broker
                  ├─▶ large:  what is large, in batches of its own ──▶ replies and acknowledgements on this thread
                  ├─▶ aside:  what takes long, one by one ──▶ the same
                  └─▶ behind: everything, while the database does not answer ──▶ the same

Rules:

- One thread speaks to the broker, and handles what has come as a batch: all of it up to a bound, so that a lone message
  is a batch of one. More is awaited only among many (`gathering`). Between the broker and the database no other thread
  is woken, which would take longer than most of what is done there. Cores are used by worker processes, not by threads.
- What that thread does is bounded: no operation of the storage waits longer than a third of a heartbeat. What may take
  long is handled aside, by other threads, and delays itself alone. So is what is large, as the chunks of attachments
  are: what waits of it is a batch, up to a bound of bytes.
- While the database does not answer, messages wait with another thread, which probes and handles them; heartbeats go
  on. A worker holds what it has, takes no more than its prefetch, and rejects nothing because of it.
- A message is acknowledged after its effect is stored and on the same channel after its reply was published: the
  broker takes both in this order, so whatever breaks, an unanswered message is delivered again. The replies of a batch
  and their acknowledgements leave in one write (`joined`).
- A lost connection, channel or consumer is opened again, with growing pauses, until the worker is told to stop.
- Told to stop, a worker finishes what it has begun, hands the rest back, and ends within its grace time.
"""

from __future__ import annotations

import queue
import random
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pika
import pika.exceptions
import structlog

from broker_config import limits, names, topology
from broker_config.connection import ConnectionSettings, connect
from broker_config.errors import BrokerError, BrokerRefused
from repository_worker.ends import Ends
from repository_worker.errors import StorageUnavailable
from repository_worker.metrics import Metrics, Stage
from repository_worker.pipeline import Handled, Message, Pipeline, Verdict
from repository_worker.transport import headers
from repository_worker.transport.gathering import Gathering
from repository_worker.transport.joined import joined
from repository_worker.transport.shedding import Gate

if TYPE_CHECKING:
    from pika.adapters.blocking_connection import BlockingChannel

CONTENT_TYPE: Final = "application/cose"
#: Threads for what takes long, and as many for what is large, beside the one that handles everything else.
THREADS: Final = 2
#: Messages that go into one commit, at most.
BATCH_MESSAGES: Final = 32
#: Messages of more bytes are large: opening one of 8 MiB takes as long as a batch of small ones.
LARGE_BYTES: Final = 128 * 1024
#: Large messages go into one commit until they have so many bytes together.
LARGE_BATCH_BYTES: Final = 4 * limits.MIB
GRACE_SECONDS: Final = 20.0
#: What one installation may send: a second, and at once. A client in haste sends some hundred a second.
CLIENT_RATE: Final = 200.0
CLIENT_BURST: Final = 2000.0
#: Pauses between attempts to reach the broker or the database grow from the first to the second of these, less up to
#: half, drawn at random: what comes back is not met by all workers at once. Seconds.
PAUSE_SECONDS_MIN: Final = 0.1
PAUSE_SECONDS_MAX: Final = 2.0
_POLL_SECONDS: Final = 0.2
_TRANSIENT: Final = 1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ConsumerSettings:
    """How a worker consumes. Times in seconds."""

    threads: int = THREADS
    prefetch: int = limits.PREFETCH_MESSAGES
    grace_seconds: float = GRACE_SECONDS
    name: str = "smr-worker"
    batch: int = BATCH_MESSAGES
    rate: float | None = None  #: messages a second that one account may send; None: any number
    burst: float = CLIENT_BURST


@dataclass(frozen=True, slots=True)
class _Delivery:
    """A message that this worker holds, and the connection that it came by."""

    link: _Link
    tag: int
    correlation_id: str | None
    message: Message = field(repr=False)


class _Link:
    """One connection to the broker with its channel. Only the thread that opened it may use the channel."""

    def __init__(self, connection: pika.BlockingConnection, channel: BlockingChannel) -> None:
        self.connection = connection
        self.channel = channel
        self.open = True
        #: What this worker tells and hears goes by a channel of its own, which the broker may close.
        self.ends: BlockingChannel | None = None
        #: Everything that is not acknowledged, and of it what nobody has begun.
        self.held: set[int] = set()
        self.taken: list[_Delivery] = []


class Consumer:
    """One worker's consumer. `run` returns when `stop` was set and everything is handed back."""

    def __init__(
        self,
        broker: ConnectionSettings,
        pipeline: Pipeline,
        probe: Callable[[], None],
        metrics: Metrics,
        settings: ConsumerSettings | None = None,
        ends: Ends | None = None,
    ) -> None:
        """`probe` raises StorageUnavailable until the database is back. Without `ends` no other worker is told."""
        headers.install()
        self._broker = broker
        self._pipeline = pipeline
        self._probe = probe
        self._metrics = metrics
        self._settings = settings or ConsumerSettings()
        self._ends = ends
        self._behind: queue.SimpleQueue[_Delivery | None] = queue.SimpleQueue()
        self._aside: queue.SimpleQueue[_Delivery | None] = queue.SimpleQueue()
        self._large: queue.SimpleQueue[_Delivery | None] = queue.SimpleQueue()
        #: Set while messages wait behind. It only spares asking a database that does not answer: both threads may
        #: handle messages at once.
        self._waiting = threading.Event()
        self._stop = threading.Event()
        self._gathering = Gathering(min(self._settings.batch, self._settings.prefetch))
        rate = self._settings.rate
        self._gate = Gate(rate, self._settings.burst) if rate is not None else None
        self._log = structlog.get_logger("transport")

    def stop(self) -> None:
        """Asks `run` to end. Not to be called from a signal handler: see `processes.at_end`."""
        self._stop.set()

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Consumes until told to stop. `on_ready` is called whenever messages begin to flow."""
        helpers = [threading.Thread(target=self._batches, name="behind", daemon=True)] + [
            threading.Thread(target=work, name=f"{name}-{number}", daemon=True)
            for name, work in (("large", self._large_batches), ("aside", self._one_by_one))
            for number in range(self._settings.threads)
        ]
        for each in helpers:
            each.start()
        pauses = _Pauses()
        while not self._stop.is_set():
            try:
                self._consume(on_ready, pauses)
            except BrokerError as error:
                self._log.warning("broker", error=str(error))
            except pika.exceptions.AMQPError as error:
                self._log.warning("broker lost", error=type(error).__name__)
            except Exception:  # noqa: BLE001 - the connection is given up and opened again, the worker goes on
                self._log.exception("connection failed")
            if not self._stop.is_set():
                self._metrics.broker_reconnects.inc()
                self._stop.wait(pauses.next())
        for waiting in (self._behind, self._large, self._aside):
            waiting.put(None)

    # --- the thread that speaks to the broker -------------------------------------------------------------------------

    def _consume(self, on_ready: Callable[[], None], pauses: _Pauses) -> None:
        connection = connect(self._broker, attempts=1, name=self._settings.name)
        link = _Link(connection, connection.channel())
        self._metrics.hold(lambda: len(link.held))
        try:
            self._listen(link)
            link.channel.basic_qos(prefetch_count=self._settings.prefetch)
            consumer = link.channel.basic_consume(names.COMMANDS_QUEUE, partial(self._take, link))
            self._log.info("consuming")
            pauses.reset()
            on_ready()
            while not self._stop.is_set():
                connection.process_data_events(time_limit=_POLL_SECONDS)
                while link.taken:
                    if not self._waiting.is_set():
                        self._gathering.gather(link.taken, connection.process_data_events)
                    self._handle_taken(link)
                # The library says nothing when the broker ends the consumer or its channel, and nothing more comes.
                if consumer not in link.channel.consumer_tags:
                    raise pika.exceptions.ConsumerCancelled
            self._hand_back(link, consumer)
        finally:
            link.open = False
            link.held.clear()
            _close(connection)

    def _listen(self, link: _Link) -> None:
        """Has this worker hear where others' chains end. Where its account may not, it goes on without."""
        if self._ends is None:
            return
        channel, queue = link.connection.channel(), names.ends_queue(secrets.token_bytes(names.RANDOM_BYTES))
        try:
            topology.declare_ends_queue(channel, queue)
        except BrokerRefused as error:
            self._log.warning("other workers are neither told nor heard", error=str(error))
            return
        channel.basic_consume(queue, self._hear, auto_ack=True, exclusive=True)
        link.ends = channel
        self._ends.listen(queue)

    def _hear(self, _channel: BlockingChannel, _method: Any, _properties: pika.BasicProperties, body: bytes) -> None:
        if self._ends is not None:
            self._ends.hear(body)

    def _take(
        self, link: _Link, _channel: BlockingChannel, method: Any, properties: pika.BasicProperties, body: bytes
    ) -> None:
        account = _text(properties.user_id)
        if self._gate is not None and not self._gate.admits(account):
            self._metrics.shed.inc()
            link.channel.basic_ack(method.delivery_tag)
            return
        link.held.add(method.delivery_tag)
        message = Message(body, _text(properties.reply_to), account)
        delivery = _Delivery(link, method.delivery_tag, _text(properties.correlation_id), message)
        if len(body) > LARGE_BYTES:
            self._large.put(delivery)
        else:
            link.taken.append(delivery)

    def _handle_taken(self, link: _Link) -> None:
        """One batch of what was taken: here, or behind while the database does not answer."""
        size = self._settings.batch
        batch, link.taken = link.taken[:size], link.taken[size:]
        if not self._waiting.is_set():
            try:
                self._finish(link, self._ended(batch, self._handle_batch(batch)))
                self._gathering.handled(len(batch))
                return
            except StorageUnavailable as error:
                self._waiting.set()
                self._note(error)
        for each in batch:
            self._behind.put(each)

    def _finish(self, link: _Link, ends: Sequence[tuple[_Delivery, Handled | None]]) -> None:
        """Replies and acknowledgements; a message without an end (None) goes back to the queue."""
        if ends:
            with self._metrics.stage(Stage.PUBLISH), joined(link.connection):
                self._publish(link, ends)
                self._tell(link)

    def _publish(self, link: _Link, ends: Sequence[tuple[_Delivery, Handled | None]]) -> None:
        done: set[int] = set()
        for delivery, handled in ends:
            if delivery.tag not in link.held:
                continue
            if handled is None:
                link.channel.basic_nack(delivery.tag, requeue=True)
            else:
                self._reply(link, delivery, handled)
                if handled.verdict is Verdict.DONE:
                    done.add(delivery.tag)
                    continue
                link.channel.basic_reject(delivery.tag, requeue=False)
            link.held.discard(delivery.tag)
        self._acknowledge(link, done)
        self._hint(link, {queue for _, handled in ends if handled is not None for queue in handled.hints})

    def _hint(self, link: _Link, queues: set[str]) -> None:
        """After everything else. A hint is empty; a queue that is gone loses it, and nobody minds."""
        for each in queues:
            link.channel.basic_publish("", each, b"", pika.BasicProperties(delivery_mode=_TRANSIENT))
            self._metrics.hints.inc()

    def _tell(self, link: _Link) -> None:
        """Other workers, of the chains that were extended. After everything else, and whether or not anybody hears."""
        if self._ends is not None and link.ends is not None and link.ends.is_open:
            for queue, message in self._ends.due():
                link.ends.basic_publish("", queue, message, pika.BasicProperties(delivery_mode=_TRANSIENT))

    def _reply(self, link: _Link, delivery: _Delivery, handled: Handled) -> None:
        if handled.reply is None:
            return
        properties = pika.BasicProperties(
            content_type=CONTENT_TYPE, correlation_id=delivery.correlation_id, delivery_mode=_TRANSIENT
        )
        link.channel.basic_publish("", handled.reply.queue, handled.reply.body, properties)

    def _acknowledge(self, link: _Link, done: set[int]) -> None:
        """One acknowledgement for all that are older than anything else that is held; the rest one by one."""
        oldest = min(link.held - done, default=None)
        together = {tag for tag in done if oldest is None or tag < oldest}
        if together:
            link.channel.basic_ack(max(together), multiple=True)
        for tag in sorted(done - together):
            link.channel.basic_ack(tag)
        link.held -= done

    def _hand_back(self, link: _Link, consumer: str) -> None:
        """Takes nothing more, gives back what nobody has begun, waits for the rest within the grace time."""
        link.channel.basic_cancel(consumer)
        for waiting in (link.taken, _taken(self._behind), _taken(self._large), _taken(self._aside)):
            self._finish(link, [(delivery, None) for delivery in waiting if delivery.link is link])
        deadline = time.monotonic() + self._settings.grace_seconds
        while link.held and time.monotonic() < deadline:
            link.connection.process_data_events(time_limit=_POLL_SECONDS)
        self._log.info("stopped", handed_back=len(link.held))

    # --- the threads beside it ----------------------------------------------------------------------------------------

    def _batches(self) -> None:
        while (first := self._behind.get()) is not None:
            self._return_ends([first, *_taken(self._behind, self._settings.batch - 1)])
            if self._behind.empty():
                self._waiting.clear()

    def _large_batches(self) -> None:
        while (first := self._large.get()) is not None:
            batch, size = [first], len(first.message.body)
            while size < LARGE_BATCH_BYTES and (more := _taken(self._large, 1)):
                batch += more
                size += len(more[0].message.body)
            self._return_ends(batch)
        self._large.put(None)

    def _return_ends(self, batch: list[_Delivery]) -> None:
        """Handles a batch for the connection that the last of it came by."""
        link = batch[-1].link
        # Of a connection that was lost nothing can be acknowledged any more: it comes again by the next.
        batch = [each for each in batch if each.link is link]
        ends = self._handled(link, partial(self._handle_batch, batch))
        self._return(link, [(each, None) for each in batch] if ends is None else self._ended(batch, ends))

    def _ended(
        self, batch: Sequence[_Delivery], ends: Sequence[Handled | None]
    ) -> list[tuple[_Delivery, Handled | None]]:
        """Those of a batch that have an end; the others are handled aside."""
        ended: list[tuple[_Delivery, Handled | None]] = []
        for each, end in zip(batch, ends, strict=True):
            if end is None:
                self._aside.put(each)
            else:
                ended.append((each, end))
        return ended

    def _one_by_one(self) -> None:
        while (delivery := self._aside.get()) is not None:
            end = self._handled(delivery.link, partial(self._handle, delivery))
            self._return(delivery.link, [(delivery, end)])
        self._aside.put(None)

    def _handle_batch(self, batch: list[_Delivery]) -> list[Handled | None]:
        try:
            return self._pipeline.handle_batch([each.message for each in batch])
        except StorageUnavailable:
            raise
        except Exception:  # noqa: BLE001 - no message may end the thread; one by one they show which it was
            self._log.exception("fault outside of the pipeline")
            return [None] * len(batch)

    def _handle(self, delivery: _Delivery) -> Handled:
        try:
            return self._pipeline.handle(delivery.message)
        except StorageUnavailable:
            raise
        except Exception:  # noqa: BLE001 - no message may end the thread; this one is kept as a dead letter
            self._log.exception("fault outside of the pipeline")
            return Handled(Verdict.DEAD_LETTER)

    def _return(self, link: _Link, ends: Sequence[tuple[_Delivery, Handled | None]]) -> None:
        """Has the thread that speaks to the broker finish these."""
        if not ends:
            return
        try:
            link.connection.add_callback_threadsafe(partial(self._finish, link, ends))
        except pika.exceptions.ConnectionWrongStateError:
            self._log.info("broker lost before a reply; the message comes again")

    def _handled(self, link: _Link, work: Callable[[], T]) -> T | None:
        """What `work` comes to, tried again while the database is down; None when the worker was told to stop."""
        pauses = _Pauses()
        while link.open:
            try:
                return work()
            except StorageUnavailable as error:
                self._note(error)
            if not self._wait_for_storage(link, pauses):
                return None
        return None

    def _note(self, error: StorageUnavailable) -> None:
        self._metrics.storage_waits.inc()
        self._log.warning("database", error=str(error))

    def _wait_for_storage(self, link: _Link, pauses: _Pauses) -> bool:
        """True when the database is back, False when there is no reason to wait any longer."""
        while link.open:
            if self._stop.wait(pauses.next()):
                return False
            try:
                self._probe()
            except StorageUnavailable:
                continue
            return True
        return False


class _Pauses:
    """Pauses that grow from one attempt to the next, up to a bound."""

    def __init__(self) -> None:
        self._seconds = PAUSE_SECONDS_MIN

    def next(self) -> float:
        seconds, self._seconds = self._seconds, min(2 * self._seconds, PAUSE_SECONDS_MAX)
        return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - spreads attempts, decides nothing

    def reset(self) -> None:
        self._seconds = PAUSE_SECONDS_MIN


def _taken(waiting: queue.SimpleQueue[_Delivery | None], most: int | None = None) -> list[_Delivery]:
    """What waits now, at most `most`; a None, which ends a thread, stays for it."""
    taken: list[_Delivery] = []
    while most is None or len(taken) < most:
        try:
            delivery = waiting.get_nowait()
        except queue.Empty:
            break
        if delivery is None:
            waiting.put(None)
            break
        taken.append(delivery)
    return taken


def _text(value: object) -> str | None:
    # The library gives bytes where a publisher sent no UTF-8.
    return value if isinstance(value, str) else None


def _close(connection: pika.BlockingConnection) -> None:
    try:
        if connection.is_open:
            connection.close()
    except (pika.exceptions.AMQPError, OSError):
        return  # it is gone either way
