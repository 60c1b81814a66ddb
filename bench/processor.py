"""Processor time of a SEND in the worker, by stage, against the bare primitives that it cannot do without.

The workers themselves tell what each stage used (`repository_worker.metrics`), and the system what the whole process
used (proc(5)). What no stage explains is taking messages from the broker, and belongs to `publish`.

    row       stages of the worker   its floor
    decode    decode, decide         cbor2 and SHA-256 over the envelope, the request and the letter's head and body
    verify    verify                 one Ed25519 verification
    open      open                   one HKDF and one AES-GCM
    store     look, store            what a plain worker that inserts uses more than one that only answers
    seal      seal                   the signatures of the placement and the reply, one HKDF and one AES-GCM
    publish   publish, and the rest  a plain worker that takes, answers and acknowledges

The bare primitives are those of `primitives`. Each figure is milliseconds of one SEND to one recipient.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from typing import Final

from bench.figures import MILLISECOND, Better, Measure
from bench.people import Citizen, now_ms
from bench.plan import Plan, messages_of_a_run
from bench.primitives import Bare, Sample
from bench.world import ECHO, FLOOR, Child, World, cpu_seconds
from crypto_core import commands, envelope, letter
from crypto_core.commands import Send
from crypto_core.documents import Party
from crypto_core.envelope import TrafficKeys
from crypto_core.ids import Digest, RepositoryId, new_letter_id, new_nonce, new_session_id
from crypto_core.keys import SigningKey
from pki.tokens.profiles import CardKeyUse
from repository_worker.metrics import Stage

ROUNDS = 200  #: calls of each bare primitive in one repetition
WARM_UP = 100  #: SENDs a load process before the first repetition
FLOOR_FEWEST = 1_000  #: plain messages a load process: processor time is counted in hundredths of a second
AIM, BOUND = 2.0, 3.0

#: What each row holds; everything else that a worker used is `publish`.
ROWS: Final[dict[str, tuple[Stage, ...]]] = {
    "decode": (Stage.DECODE, Stage.DECIDE),
    "verify": (Stage.VERIFY,),
    "open": (Stage.OPEN,),
    "store": (Stage.LOOK, Stage.STORE),
    "seal": (Stage.SEAL,),
}
FLOORS: Final = {
    "decode": "cbor2 and SHA-256",
    "verify": "one Ed25519 verification",
    "open": "one HKDF, one AES-GCM",
    "store": "a plain worker's insert_many",
    "seal": "two Ed25519 signatures, one HKDF, one AES-GCM",
    "publish": "a plain worker: take, answer, acknowledge",
}

Figures = dict[str, list[float]]


def cpu_by_stage(world: World, plan: Plan) -> Iterable[Measure]:
    """One figure a row of `FLOORS`, and the sum."""
    bare = Bare(sample_of(world))
    ours: Figures = {name: [] for name in FLOORS}
    floor: Figures = {name: [] for name in FLOORS}
    total: list[float] = []
    size, reply, count = sizes_of_a_send(world)
    with world.plain_workers("insert", reply) as inserting, world.plain_workers("echo", reply, ECHO) as answering:
        for number in range(plan.repetitions):
            world.say(f"processor time, repetition {number + 1} of {plan.repetitions}")
            total.append(_measure_ours(world, count, ours))
            echo = _plain(world, answering, ECHO, max(FLOOR_FEWEST, count), size)
            insert = _plain(world, inserting, FLOOR, max(FLOOR_FEWEST, count), size)
            for name, work in bare.works().items():
                floor[name].append(milliseconds(work))
            floor["publish"].append(echo)
            floor["store"].append(max(0.0, insert - echo))
    for name, what in FLOORS.items():
        yield _row(f"cpu_send_{name}", ours[name], floor[name], what)
    sums = [sum(runs) for runs in zip(*floor.values(), strict=True)]
    yield _row("cpu_send", total, sums, "the sum of the bare primitives and the plain workers", AIM, BOUND)


def _measure_ours(world: World, count: int, ours: Figures) -> float:
    """Adds the figures of one repetition, and gives their sum."""
    world.prepare(world.loads, kind="send", count=count, bytes=1024)
    pids = [each.pid for each in world.stack.workers]
    before, stages_before = cpu_seconds(pids), world.stage_seconds()
    played = world.play(world.loads)
    total = (cpu_seconds(pids) - before) / played.messages / MILLISECOND
    stages = world.stage_seconds()
    for name, parts in ROWS.items():
        used = sum(stages[each.value] - stages_before[each.value] for each in parts)
        ours[name].append(used / played.messages / MILLISECOND)
    ours["publish"].append(max(0.0, total - sum(ours[name][-1] for name in ROWS)))
    return total


def _plain(world: World, workers: list[Child], queue: str, count: int, size: int) -> float:
    """Milliseconds that plain workers used for a message."""
    pids = [each.pid for each in workers]
    before = cpu_seconds(pids)
    played = world.play_floor(world.loads, count, size, queue=queue)
    return (cpu_seconds(pids) - before) / played.messages / MILLISECOND


def _row(
    name: str, runs: list[float], floor: list[float], what: str, aim: float | None = None, bound: float | None = None
) -> Measure:
    return Measure(name, "ms", tuple(runs), tuple(floor), Better.LOWER, aim, bound, what)


def milliseconds(work: Callable[[], object]) -> float:
    """Processor time of one call, the mean of ROUNDS."""
    before = time.process_time()
    for _ in range(ROUNDS):
        work()
    return (time.process_time() - before) / ROUNDS / MILLISECOND


def sizes_of_a_send(world: World) -> tuple[int, int, int]:
    """Bytes of a request and of a reply, and how many messages a load process make a repetition."""
    made = world.prepare(world.loads, kind="send", count=WARM_UP, bytes=1024)
    played = world.play(world.loads)
    count = messages_of_a_run(played.throughput, len(world.loads))
    return sum(each["bytes"] for each in made) // played.messages, played.reply_bytes, count


def sample_of(world: World) -> Sample:
    """A SEND of one citizen of the measurement to another."""
    return sample(world.stack.descriptor.repository, *world.people[0][:2])


def sample(repository: RepositoryId, author: Citizen, reader: Citizen) -> Sample:
    """A SEND of 1 KiB to one recipient."""
    command = _letter(repository, author, reader)
    body = commands.encode_request(command, new_nonce(), now_ms())
    keys = TrafficKeys(new_session_id(), secrets.token_bytes(32), secrets.token_bytes(32))
    return Sample(envelope.seal_command(SigningKey.generate(), keys, 1, body), body, command.head, command.body)


def _letter(repository: RepositoryId, author: Citizen, reader: Citizen) -> Send:
    written = letter.draft(
        repository=repository,
        letter_id=new_letter_id(),
        sender=Party(author.user, Digest(bytes(32))),
        to={reader.user},
        time=now_ms(),
        subject="Ata da reunião de ontem",
        body=secrets.token_bytes(1024),
    )
    signature = author.signed(written.document, CardKeyUse.SIGNATURE).signature
    made = letter.seal(written, signature, {author.user: author.sealing.public, reader.user: reader.sealing.public})
    return Send(made.head, made.body)
