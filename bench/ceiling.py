"""How near to the floor a worker can come that verifies, opens and signs, and does nothing else of ours.

A plain worker that also does the bare primitives of a SEND (`primitives`) for each message, in turns with one that does
not: without checks, chains, decisions, metrics or replies that say anything. What lies between its ratio and ours is
what all of that takes, and may be made less; what lies between it and 1 is the primitives' own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bench.figures import MILLISECOND, Better, Measure, percentile
from bench.plan import ALONE, WARM_UP, Plan, messages_of_a_run
from bench.processor import sample_of, sizes_of_a_send
from bench.world import ECHO, FLOOR, World

#: What the plain workers do beside the primitives, and what that stands for.
WORKS: Final = {"insert": "send", "find": "find"}


def ceiling(world: World, plan: Plan) -> Iterable[Measure]:
    """Throughput with 64 in flight and p50 with one, for a letter stored and for a question asked."""
    size, reply, _ = sizes_of_a_send(world)
    sample = sample_of(world)
    for work, name in WORKS.items():
        rates: dict[str, list[float]] = {FLOOR: [], ECHO: []}
        lone: dict[str, list[float]] = {FLOOR: [], ECHO: []}
        with world.plain_workers(work, reply), world.plain_workers(work, reply, ECHO, sample=sample):
            for number in range(plan.repetitions):
                world.say(f"bare primitives, {name}, repetition {number + 1} of {plan.repetitions}")
                for queue in (FLOOR, ECHO):
                    warm = world.play_floor(world.loads, WARM_UP, size, queue=queue)
                    count = messages_of_a_run(warm.throughput, len(world.loads))
                    rates[queue].append(world.play_floor(world.loads, count, size, queue=queue).throughput)
                    alone = world.play_floor(world.loads[:1], ALONE, size, 1, queue=queue)
                    lone[queue].append(percentile(alone.seconds, 50) / MILLISECOND)
        yield _row(f"bare_{name}_throughput", "1/s", rates, Better.HIGHER, work)
        yield _row(f"bare_{name}_latency_p50", "ms", lone, Better.LOWER, work)


def _row(name: str, unit: str, runs: dict[str, list[float]], better: Better, work: str) -> Measure:
    return Measure(name, unit, tuple(runs[ECHO]), tuple(runs[FLOOR]), better, floor_name=f"plain RPC, {work}")
