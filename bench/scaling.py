"""Two worker processes against one, and the memory of a worker that has done a lot."""

from __future__ import annotations

from collections.abc import Iterable

from bench.figures import Better, Measure, Played
from bench.plan import Plan, messages_of_a_run
from bench.processor import sizes_of_a_send
from bench.world import World, cpu_seconds, resident_bytes

#: SENDs a load process before each repetition. The second worker is begun anew for each, and has sessions, people and
#: mailboxes to learn, which is not what is asked here.
WARM_UP = 400
AIM, BOUND = 1.0, 0.9

FIRST, ALL = 10_000, 1_000_000  #: commands after which memory is looked at
BATCH = 5_000  #: commands a load process at once
SEND_EVERY = 20  #: one batch of so many is of SENDs
MEMORY_AIM, MEMORY_BOUND = 1.10, 1.25
_MIB = 1024 * 1024


def two_workers(world: World, plan: Plan) -> Iterable[Measure]:
    """SENDs per second of processor time that the workers used: two against one, ours and plain ones."""
    runs: dict[int, list[float]] = {2: [], 1: []}
    speed: dict[int, list[float]] = {2: [], 1: []}
    plain: dict[int, list[float]] = {2: [], 1: []}
    size, reply, _ = sizes_of_a_send(world)
    second = world.stack.workers[1]
    for number in range(plan.repetitions):
        for count, per_cpu in runs.items():
            world.say(f"{count} worker(s), repetition {number + 1} of {plan.repetitions}")
            if count == 1:
                second.stop()
            pids = [each.pid for each in world.stack.workers[:count]]
            # Both begin warm: what a new process learns in its first messages is not what is asked here.
            rate = _send(world, WARM_UP).throughput
            before = cpu_seconds(pids)
            played = _send(world, messages_of_a_run(rate, len(world.loads)))
            per_cpu.append(played.messages / (cpu_seconds(pids) - before))
            speed[count].append(played.throughput)
            if count == 1:
                second.restart()
            plain[count].append(_plain(world, count, size, reply))
    yield _against_one("two_workers_per_cpu_second", "1/cpu s", runs, "one worker process", AIM, BOUND)
    yield _against_one("two_plain_workers_per_cpu_second", "1/cpu s", plain, "one plain worker that inserts")
    yield _against_one("two_workers_throughput", "1/s", speed, "one worker process")


def _against_one(
    name: str, unit: str, runs: dict[int, list[float]], one: str, aim: float | None = None, bound: float | None = None
) -> Measure:
    return Measure(name, unit, tuple(runs[2]), tuple(runs[1]), Better.HIGHER, aim, bound, one)


def _plain(world: World, count: int, size: int, reply: int) -> float:
    """The same of plain workers that insert: messages for each second of their processor time."""
    with world.plain_workers("insert", reply, count=count) as workers:
        warm = world.play_floor(world.loads, WARM_UP, size)
        pids = [each.pid for each in workers]
        before = cpu_seconds(pids)
        played = world.play_floor(world.loads, messages_of_a_run(warm.throughput, len(world.loads)), size)
        return played.messages / (cpu_seconds(pids) - before)


def _send(world: World, count: int) -> Played:
    world.prepare(world.loads, kind="send", count=count, bytes=1024)
    return world.play(world.loads)


def memory(world: World, plan: Plan) -> Iterable[Measure]:
    """Memory of the workers after many commands against after few. Only in a full run: it takes long."""
    if not plan.full:
        world.say("memory after a million commands: only with FULL=1")
        return
    first: tuple[float, ...] = ()
    done = 0
    while done < ALL:
        kind = "send" if (done // (2 * BATCH)) % SEND_EVERY == 0 else "mixed"
        world.prepare(world.loads, kind=kind, count=BATCH, bytes=1024)
        done += world.play(world.loads, check=False).messages
        world.say(f"memory: {done:,} of {ALL:,} commands")
        if done >= FIRST and not first:
            first = _resident(world)
    yield Measure(
        "worker_memory",
        "MiB",
        _resident(world),
        first,
        Better.LOWER,
        MEMORY_AIM,
        MEMORY_BOUND,
        f"after {FIRST:,} commands",
        note="one value a worker; NEW, LIST and STATUS in turns, every twentieth batch SEND",
    )


def _resident(world: World) -> tuple[float, ...]:
    return tuple(resident_bytes(each.pid) / _MIB for each in world.stack.workers)
