"""What an operator can measure, for Prometheus. Labels are few and fixed: nothing that a client chooses is one."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from repository_worker.tallies import Tallies, Tally, Total, Totals

#: Upper bounds of the buckets: stages take fractions of a millisecond, messages milliseconds, queues up to minutes.
_STAGE_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_AGE_SECONDS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3600.0)
_MESSAGES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Stage(enum.StrEnum):
    """What is done for a batch of messages, one after the other. Texts, which are looked up without a call."""

    DECODE = "decode"  #: size, form and headers of the envelope
    VERIFY = "verify"  #: whose session, and the signature
    OPEN = "open"  #: decryption
    LOOK = "look"  #: what the database knows of their counters
    DECIDE = "decide"  #: reading the command, the rules, and what has to be read for them
    STORE = "store"  #: one commit
    SEAL = "seal"  #: signed heads and sealed replies
    PUBLISH = "publish"  #: replies and acknowledgements to the broker
    NEGOTIATE = "negotiate"  #: a whole descriptor request, hello or confirm


class Metrics:
    """One worker's metrics, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._handled = Totals(
            "smr_messages_handled",
            "Messages that were handled to their end, by kind (descriptor, hello, confirm or the command's name).",
            ["kind"],
        )
        self.refused = Counter(
            "smr_commands_refused", "Signed refusals, by their code.", ["code"], registry=self.registry
        )
        self.dead = Counter(
            "smr_messages_rejected",
            "Messages that got no effect and became dead letters, by what was wrong with them.",
            ["reason"],
            registry=self.registry,
        )
        self.shed = Counter(
            "smr_messages_shed",
            "Messages that were dropped unseen, because their account sent faster than it may.",
            registry=self.registry,
        )
        self._seconds = Tallies(
            "smr_message_seconds",
            "Time from taking a message to its reply being ready, in seconds, by kind.",
            _SECONDS,
            ["kind"],
        )
        self.storage_waits = Counter(
            "smr_storage_waits",
            "Times that a message had to wait for the database to come back.",
            registry=self.registry,
        )
        self.broker_reconnects = Counter(
            "smr_broker_reconnects", "Times that the connection to the broker was lost.", registry=self.registry
        )
        self.hints = Counter(
            "smr_hints", "Clients told that their mailbox grew, so that they look at once.", registry=self.registry
        )
        self.ends_heard = Counter(
            "smr_ends_heard",
            "Messages of other workers about where mailboxes end, by outcome (ok, or refused: none of theirs).",
            ["outcome"],
            registry=self.registry,
        )
        self.turns = Counter(
            "smr_turns",
            "Turns of workers with one home at storing a full batch: taken, or not to be had in time (late).",
            ["outcome"],
            registry=self.registry,
        )
        self._held = Gauge(
            "smr_messages_held", "Messages taken from the broker and not yet acknowledged.", registry=self.registry
        )
        self._commands = Totals(
            "smr_commands",
            "Commands that got a signed reply, by the command's name and outcome (ok, or the refusal's code).",
            ["kind", "outcome"],
        )
        self._stages = Tallies(
            "smr_stage_seconds",
            "Time that a stage of the pipeline took for one batch, in seconds, by stage.",
            _STAGE_SECONDS,
            ["stage"],
        )
        self._stage_cpu = Totals(
            "smr_stage_cpu_seconds",
            "Processor time that a stage of the pipeline used in the thread that did it, in seconds, by stage.",
            ["stage"],
        )
        self._batches = Tallies("smr_batch_messages", "Messages handled together.", _MESSAGES)
        self._ages = Tallies(
            "smr_command_age_seconds",
            "Time from when its client dated a command to when it was handled, in seconds, by the clocks of both: the "
            "age of the queue, and of what was sent again.",
            _AGE_SECONDS,
        )
        self.waiting = Gauge(
            "smr_queue_messages", "Messages that wait in the command queue for a worker.", registry=self.registry
        )
        self.dead_letters = Gauge(
            "smr_dead_letters",
            "Messages in the dead-letter queue, for the operator to look at.",
            registry=self.registry,
        )
        self.sessions = Gauge("smr_sessions", "Sessions that are open in the whole repository.", registry=self.registry)
        self.observed = Gauge(
            "smr_observed_timestamp_seconds",
            "When queue, dead letters and sessions were last counted, in seconds since 1970.",
            registry=self.registry,
        )
        for each in (
            *(self._handled, self._seconds, self._commands),
            *(self._stages, self._stage_cpu, self._batches, self._ages),
        ):
            self.registry.register(each)
        #: How many messages were handled together.
        self.batch = self._batches.of().observe
        #: How long ago its client dated a command; seconds.
        self.age = self._ages.of().observe
        self._clocks = {each: (self._stages.of(each.value), self._stage_cpu.of(each.value)) for each in Stage}

    def stage(self, stage: Stage) -> StageClock:
        """Measures a stage, however it ends: `with metrics.stage(Stage.VERIFY): …`."""
        return StageClock(*self._clocks[stage])

    def hold(self, count: Callable[[], float]) -> None:
        """`count` tells how many messages are held, whenever somebody asks."""
        self._held.set_function(count)

    def ended(self, kind: str, seconds: float) -> None:
        """A message of this kind came to its end, `seconds` after it was taken."""
        self._handled.of(kind).add()
        self._seconds.of(kind).observe(seconds)

    def answered(self, kind: str, outcome: str) -> None:
        """A command got its signed reply; `outcome` is ok or the code of a refusal."""
        self._commands.of(kind, outcome).add()

    def reconnects(self) -> float:
        """How often the connection to the broker was lost so far."""
        return self.registry.get_sample_value("smr_broker_reconnects_total") or 0.0


class StageClock:
    """Wall-clock and processor time of a block. A class of its own: a generator would take longer than some stages."""

    __slots__ = ("_cpu", "_cpu_total", "_wall", "_walls")

    def __init__(self, walls: Tally, cpu_total: Total) -> None:
        self._walls = walls
        self._cpu_total = cpu_total
        self._wall = self._cpu = 0.0

    def __enter__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.thread_time()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cpu_total.add(time.thread_time() - self._cpu)
        self._walls.observe(time.perf_counter() - self._wall)
