"""Processor time of a SEND in the worker, by stage, against the bare primitives that it cannot do without.

The stages before and after the database are measured here, in this process, on envelopes like those of the load
processes, with the same functions of `crypto_core` that the worker calls. What they do not explain of the time that the
worker processes used (proc(5)) is the stage `store_publish`: the database, the broker, and everything between. Its
floor is what a plain worker used for taking, inserting, answering and acknowledging a message of the same size.

The bare primitives are calls of `cryptography` and `cbor2` with everything else prepared. Each figure is milliseconds
of one SEND to one recipient.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cbor2
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from bench.figures import Better, Measure
from bench.people import Citizen, now_ms
from bench.plan import Plan, messages_of_a_run
from bench.world import World, cpu_seconds
from crypto_core import commands, cose, envelope, letter, limits, mailbox, sealed, suite
from crypto_core.commands import Send, SendResult
from crypto_core.documents import Party
from crypto_core.envelope import TrafficKeys
from crypto_core.ids import Digest, RepositoryId, new_letter_id, new_nonce, new_session_id
from crypto_core.keys import SigningKey
from crypto_core.mailbox import Head
from pki.tokens.profiles import CardKeyUse

ROUNDS = 200  #: SENDs of one repetition, in this process
WARM_UP = 100  #: SENDs a load process before the first repetition
FLOOR_FEWEST = 1_000  #: plain messages a load process: processor time is counted in hundredths of a second
AIM, BOUND = 2.0, 3.0
MILLISECOND = 1e-3
HEADS = 2  #: signed heads in the reply: the sender's mailbox and one recipient's

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Stage:
    """What a worker does, and the least that could do it."""

    name: str
    ours: Work
    bare: Work


def cpu_by_stage(world: World, plan: Plan) -> Iterable[Measure]:
    """One figure a stage, and the sum."""
    stages = _stages(world.stack.descriptor.repository, world.people[0][0], world.people[0][1])
    ours: dict[str, list[float]] = {each.name: [] for each in stages}
    bare: dict[str, list[float]] = {each.name: [] for each in stages}
    total: list[float] = []
    store: list[float] = []
    floor: list[float] = []
    plain_store: list[float] = []
    size, reply, count = _sizes(world)
    with world.plain_workers("insert", reply) as plain:
        for number in range(plan.repetitions):
            world.say(f"processor time, repetition {number + 1} of {plan.repetitions}")
            for each in stages:
                ours[each.name].append(_milliseconds(each.ours))
                bare[each.name].append(_milliseconds(each.bare))
            world.prepare(world.loads, kind="send", count=count, bytes=1024)
            pids = [each.pid for each in world.stack.workers]
            before = cpu_seconds(pids)
            played = world.play(world.loads)
            total.append((cpu_seconds(pids) - before) / played.messages / MILLISECOND)
            store.append(max(0.0, total[-1] - sum(figures[-1] for figures in ours.values())))
            pids = [each.pid for each in plain]
            before = cpu_seconds(pids)
            played = world.play_floor(world.loads, max(FLOOR_FEWEST, count), size)
            plain_store.append((cpu_seconds(pids) - before) / played.messages / MILLISECOND)
            floor.append(plain_store[-1] + sum(figures[-1] for figures in bare.values()))
    for each in stages:
        yield _measure(f"cpu_send_{each.name}", ours[each.name], bare[each.name], "the bare primitives")
    yield _measure("cpu_send_store_publish", store, plain_store, "a plain worker: take, insert, answer, acknowledge")
    yield _measure("cpu_send", total, floor, "the sum of the bare primitives and the plain worker", AIM, BOUND)


def _measure(
    name: str, runs: list[float], floor: list[float], what: str, aim: float | None = None, bound: float | None = None
) -> Measure:
    return Measure(name, "ms", tuple(runs), tuple(floor), Better.LOWER, aim, bound, what)


def _milliseconds(work: Work) -> float:
    before = time.process_time()
    for _ in range(ROUNDS):
        work()
    return (time.process_time() - before) / ROUNDS / MILLISECOND


def _sizes(world: World) -> tuple[int, int, int]:
    """Bytes of a request and of a reply, and how many messages a load process make a repetition."""
    made = world.prepare(world.loads, kind="send", count=WARM_UP, bytes=1024)
    played = world.play(world.loads)
    count = messages_of_a_run(played.throughput, len(world.loads))
    return sum(each["bytes"] for each in made) // played.messages, played.reply_bytes, count


def _stages(repository: RepositoryId, author: Citizen, reader: Citizen) -> list[Stage]:
    """The stages on one envelope, whose parts are all prepared here."""
    app_key, repository_key = SigningKey.generate(), SigningKey.generate()
    keys = TrafficKeys(new_session_id(), secrets.token_bytes(32), secrets.token_bytes(32))
    command = _letter(repository, author, reader)
    nonce = new_nonce()
    body = commands.encode_request(command, nonce, now_ms())
    data = envelope.seal_command(app_key, keys, 1, body)
    signed = cose.read_sign1(data, limits.ENVELOPE_BYTES)
    request_hash = suite.sha256(data)
    request = envelope.from_message(signed, request_hash)
    public = app_key.public

    def opened() -> None:
        envelope.from_message(signed, request_hash).open(public, keys)

    def decode() -> None:
        found = cose.read_sign1(data, limits.ENVELOPE_BYTES)
        envelope.from_message(found, suite.sha256(data))
        read = commands.decode_request(body).command
        sealed.read(sealed.LETTER, read.head)  # type: ignore[union-attr]
        suite.sha256(read.body)  # type: ignore[union-attr]

    def seal() -> None:
        now = now_ms()
        heads = tuple(
            mailbox.sign_head(repository_key, Head(repository, each.user, 1, Digest(bytes(32)), now))
            for each in (author, reader)
        )
        reply = commands.encode_reply(nonce, now, SendResult(new_letter_id(), now, heads))
        envelope.seal_reply(repository_key, keys, request.counter, request_hash, reply)

    bare = _Bare(data, body, command)
    return [
        Stage("decode", decode, bare.decode),
        Stage("verify_and_open", opened, bare.open),
        Stage("seal", seal, bare.seal),
    ]


class _Bare:
    """The primitives alone, on bytes of the same lengths."""

    def __init__(self, data: bytes, body: bytes, command: Send) -> None:
        self._data, self._body, self._command = data, body, command
        self._key = ed25519.Ed25519PrivateKey.generate()
        self._public = self._key.public_key()
        self._signature = self._key.sign(data)
        self._secret, self._aes, self._iv = secrets.token_bytes(32), AESGCM(secrets.token_bytes(32)), bytes(12)
        self._ciphertext = self._aes.encrypt(self._iv, body, b"")
        self._head, self._reply = bytes(150), bytes(700)

    def decode(self) -> None:
        cbor2.loads(self._data)
        hashlib.sha256(self._data).digest()
        cbor2.loads(self._body)
        cbor2.loads(self._command.head)
        hashlib.sha256(self._command.body).digest()

    def open(self) -> None:
        self._public.verify(self._signature, self._data)
        HKDFExpand(SHA256(), 44, b"command").derive(self._secret)
        self._aes.decrypt(self._iv, self._ciphertext, b"")

    def seal(self) -> None:
        for _ in range(HEADS):
            self._key.sign(self._head)
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
