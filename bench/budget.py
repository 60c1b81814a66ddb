"""Whose processor time a SEND takes: that of workers, broker, database and clients together.

Where all of them share the cores, the sum decides how many come through. Beside each share stands that of the plain
RPC of the same run. The last figure says what the bound of the throughput leaves to a worker when everybody else uses
what they use, and beside it what no worker can do without: taking, inserting and answering as the plain one does, and
the bare primitives (`primitives`). A ratio near 1, or under it, says that a better worker alone does not reach the
bound on these cores.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from bench.figures import MILLISECOND, Better, Measure, Played
from bench.plan import Plan
from bench.primitives import Bare
from bench.processor import milliseconds, sample_of, sizes_of_a_send
from bench.world import Child, World, cpu_seconds

FLOOR_NAME: Final = "plain RPC, batched insert_many"

Shares = dict[str, float]


def budget(world: World, plan: Plan, bound: float) -> Iterable[Measure]:
    """A figure for each kind of process, their sum, and what `bound` (of the throughput's ratio) leaves to workers."""
    size, reply, count = sizes_of_a_send(world)
    bare = Bare(sample_of(world))
    ours: list[Shares] = []
    plain: list[Shares] = []
    primitives: list[float] = []
    with world.plain_workers("insert", reply) as workers:
        for number in range(plan.repetitions):
            world.say(f"shares of processor time, repetition {number + 1} of {plan.repetitions}")
            world.prepare(world.loads, kind="send", count=count, bytes=1024)
            pids = [each.pid for each in world.stack.workers]
            ours.append(_shares(world, pids, lambda: world.play(world.loads, check=False)))
            plain.append(_shares(world, _pids(workers), lambda: world.play_floor(world.loads, count, size)))
            primitives.append(sum(map(milliseconds, bare.works().values())))
    for name in ours[0]:
        yield _figure(f"budget_{name}", [each[name] for each in ours], [each[name] for each in plain], Better.LOWER)
    totals = [sum(each.values()) for each in ours], [sum(each.values()) for each in plain]
    yield _figure("budget_send", *totals, Better.LOWER)
    others = statistics.median(sum(each.values()) - each["workers"] for each in ours)
    left = [total / bound - others for total in totals[1]]
    least = [each["workers"] + more for each, more in zip(plain, primitives, strict=True)]
    what = "a plain worker and the bare primitives"
    yield Measure("budget_left_to_workers", "ms", tuple(left), tuple(least), Better.HIGHER, floor_name=what)


def _shares(world: World, workers: Sequence[int], play: Callable[[], Played]) -> Shares:
    """Milliseconds that each kind of process used for a message."""
    groups = {
        "workers": workers,
        "broker": _there(world.stack.broker.pid),
        "database": _there(world.stack.mongo.pid),
        "clients": _pids(world.loads),
    }
    before = {name: cpu_seconds(pids) for name, pids in groups.items()}
    played = play()
    return {name: (cpu_seconds(pids) - before[name]) / played.messages / MILLISECOND for name, pids in groups.items()}


def _pids(children: Sequence[Child]) -> list[int]:
    return [each.pid for each in children]


def _there(pid: int | None) -> list[int]:
    if pid is None:
        raise RuntimeError("a server of the measurement is gone")
    return [pid]


def _figure(name: str, runs: list[float], floor: list[float], better: Better) -> Measure:
    return Measure(name, "ms", tuple(runs), tuple(floor), better, floor_name=FLOOR_NAME)
