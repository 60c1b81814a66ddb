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

The bare primitives are calls of `cryptography` and `cbor2` with everything else prepared. Each figure is milliseconds
of one SEND to one recipient.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Final

import cbor2
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from bench.figures import Better, Measure
from bench.people import Citizen, now_ms
from bench.plan import Plan, messages_of_a_run
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
MILLISECOND = 1e-3

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
    bare = Bare.of(world.stack.descriptor.repository, *world.people[0][:2])
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


class Bare:
    """The primitives alone, on bytes of the same lengths."""

    def __init__(self, data: bytes, body: bytes, command: Send) -> None:
        self._data, self._body, self._command = data, body, command
        self._key = ed25519.Ed25519PrivateKey.generate()
        self._public = self._key.public_key()
        self._signature = self._key.sign(data)
        self._secret, self._aes, self._iv = secrets.token_bytes(32), AESGCM(secrets.token_bytes(32)), bytes(12)
        self._ciphertext = self._aes.encrypt(self._iv, body, b"")
        self._placement, self._reply = bytes(300), bytes(550)

    @classmethod
    def of(cls, repository: RepositoryId, author: Citizen, reader: Citizen) -> Bare:
        """On the envelope of a letter."""
        command = _letter(repository, author, reader)
        body = commands.encode_request(command, new_nonce(), now_ms())
        keys = TrafficKeys(new_session_id(), secrets.token_bytes(32), secrets.token_bytes(32))
        return cls(envelope.seal_command(SigningKey.generate(), keys, 1, body), body, command)

    def works(self) -> dict[str, Callable[[], object]]:
        """What each row cannot do without, where no other process does it."""
        return {"decode": self.decode, "verify": self.verify, "open": self.open, "seal": self.seal}

    def decode(self) -> None:
        """Reads everything that a request consists of."""
        cbor2.loads(self._data)
        hashlib.sha256(self._data).digest()
        cbor2.loads(self._body)
        cbor2.loads(self._command.head)
        hashlib.sha256(self._command.body).digest()

    def verify(self) -> None:
        """The app's signature."""
        self._public.verify(self._signature, self._data)

    def open(self) -> None:
        """Key and plaintext."""
        HKDFExpand(SHA256(), 44, b"command").derive(self._secret)
        self._aes.decrypt(self._iv, self._ciphertext, b"")

    def seal(self) -> None:
        """The reply with its placement."""
        self._key.sign(self._placement)
        HKDFExpand(SHA256(), 44, b"reply").derive(self._secret)
        self._key.sign(self._aes.encrypt(self._iv, self._reply, b""))


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
