"""Throughput and latency of the commands against plain RPC workers, and the list of all rows.

A row is a function that yields its figures; how many repetitions it makes is the run's choice.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from bench.attachments import attachment_memory, attachments
from bench.budget import budget
from bench.ceiling import ceiling
from bench.figures import MILLISECOND, Better, Measure, Played, percentile
from bench.mailboxes import hot_mailbox, mailbox_sizes
from bench.negotiation import negotiation
from bench.plan import ALONE, WARM_UP, Plan, Row, messages_of_a_run
from bench.processor import cpu_by_stage
from bench.scaling import memory, two_workers
from bench.world import IN_FLIGHT, WORKERS, World, cpu_seconds

THROUGHPUT_AIM, THROUGHPUT_BOUND = 0.8, 0.6
LATENCY_AIM, LATENCY_BOUND = 1.3, 1.6


@dataclass(frozen=True, slots=True)
class Subject:
    """A command against the plain work that it is compared with."""

    kind: str
    work: str
    floor_name: str
    prefix: str
    needs: int = 0  #: letters that one command uses up


SEND = Subject("send", "insert", "plain RPC, batched insert_many", "send")
NEW = Subject("new", "find", "plain RPC, one find", "new")
LIST = Subject("list", "find", "plain RPC, one find", "list")
STATUS = Subject("status", "find", "plain RPC, one find", "status")
RECV = Subject("recv", "update", "plain RPC, one find and one durable update", "recv", needs=1)


def throughput(world: World, plan: Plan, subject: Subject) -> Iterable[Measure]:
    """Messages a second with 64 in flight, 2 workers, 2 load processes."""
    loads = world.loads
    sizes = _warm_up(world, subject)
    with world.plain_workers(subject.work, sizes.reply) as plain:
        count = messages_of_a_run(sizes.rate, len(loads))
        floor_count = messages_of_a_run(world.play_floor(loads, WARM_UP, sizes.request).throughput, len(loads))
        ours: list[Played] = []
        floors: list[Played] = []
        cpu: list[float] = []
        floor_cpu: list[float] = []
        for number in range(plan.repetitions):
            world.say(f"{subject.prefix} throughput, repetition {number + 1} of {plan.repetitions}")
            _prepare(world, subject, count)
            before = cpu_seconds(_pids(world))
            ours.append(world.play(loads))
            cpu.append((cpu_seconds(_pids(world)) - before) / ours[-1].messages)
            before = cpu_seconds([each.pid for each in plain])
            floors.append(world.play_floor(loads, floor_count, sizes.request))
            floor_cpu.append((cpu_seconds([each.pid for each in plain]) - before) / floors[-1].messages)
    extra = {
        "in_flight": IN_FLIGHT,
        "workers": WORKERS,
        "request_bytes": sizes.request,
        "reply_bytes": sizes.reply,
        "messages_a_run": ours[0].messages,
        "p50_ms": statistics.median(percentile(each.seconds, 50) for each in ours) / MILLISECOND,
        "worker_cpu_ms": statistics.median(cpu) / MILLISECOND,
        "floor_cpu_ms": statistics.median(floor_cpu) / MILLISECOND,
    }
    yield Measure(
        f"{subject.prefix}_throughput",
        "1/s",
        tuple(each.throughput for each in ours),
        tuple(each.throughput for each in floors),
        Better.HIGHER,
        THROUGHPUT_AIM,
        THROUGHPUT_BOUND,
        subject.floor_name,
        extra=extra,
    )


def latency(world: World, plan: Plan, subject: Subject) -> Iterable[Measure]:
    """Seconds from publication to reply with one in flight: p50 and p99 of each repetition."""
    one = world.loads[:1]
    sizes = _warm_up(world, subject)
    ours: list[Played] = []
    floors: list[Played] = []
    with world.plain_workers(subject.work, sizes.reply):
        world.play_floor(one, WARM_UP, sizes.request, 1)
        for number in range(plan.repetitions):
            world.say(f"{subject.prefix} latency, repetition {number + 1} of {plan.repetitions}")
            _prepare(world, subject, ALONE, only_first=True)
            ours.append(world.play(one, 1))
            floors.append(world.play_floor(one, ALONE, sizes.request, 1))
    for percent in (50, 99):
        yield Measure(
            f"{subject.prefix}_latency_p{percent}",
            "ms",
            tuple(percentile(each.seconds, percent) / MILLISECOND for each in ours),
            tuple(percentile(each.seconds, percent) / MILLISECOND for each in floors),
            Better.LOWER,
            LATENCY_AIM,
            LATENCY_BOUND,
            subject.floor_name,
            extra={"messages_a_run": ALONE},
        )


@dataclass(frozen=True, slots=True)
class _Sizes:
    """What a warm-up told: bytes of a request and of a reply, and messages a second."""

    request: int
    reply: int
    rate: float


def _warm_up(world: World, subject: Subject) -> _Sizes:
    made = _prepare(world, subject, WARM_UP)
    played = world.play(world.loads)
    messages, size = (sum(each[field] for each in made) for field in ("messages", "bytes"))
    return _Sizes(size // messages, played.reply_bytes, played.throughput)


def _prepare(world: World, subject: Subject, count: int, *, only_first: bool = False) -> list[dict[str, int]]:
    """A batch of `count` commands a load process; what the commands use up is sent before."""
    loads = world.loads[:1] if only_first else world.loads
    if subject.needs:
        world.prepare(loads, kind="send", count=count * subject.needs, bytes=1024)
        world.play(loads)
    return world.prepare(loads, kind=subject.kind, count=count, bytes=1024)


def _pids(world: World) -> list[int]:
    return [each.pid for each in world.stack.workers]


def _both(subject: Subject) -> dict[str, Row]:
    return {
        f"{subject.prefix}_throughput": lambda world, plan: throughput(world, plan, subject),
        f"{subject.prefix}_latency": lambda world, plan: latency(world, plan, subject),
    }


#: Every row by its name, in the order of a run: what changes mailboxes for good comes after what measures them.
ROWS: dict[str, Row] = {
    **{name: row for subject in (SEND, NEW, LIST, STATUS, RECV) for name, row in _both(subject).items()},
    "negotiation": negotiation,
    "cpu": cpu_by_stage,
    "budget": partial(budget, bound=THROUGHPUT_BOUND),
    "bare": ceiling,
    "two_workers": two_workers,
    "hot_mailbox": hot_mailbox,
    "mailbox_size": mailbox_sizes,
    "attachments": attachments,
    "attachment_memory": attachment_memory,
    "memory": memory,
}
