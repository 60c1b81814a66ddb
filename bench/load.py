"""A load process: seals envelopes before the clock starts, then plays them with a bounded number in flight.

    python -m bench.load        told what to do line by line on standard input, answers on standard output, both JSON

Order of the lines: `connect` once; then `seal` or `plain` makes a batch and `play` plays it, as often as asked.
Replies are kept while the clock runs and checked after it: each must be this repository's reply to exactly this
envelope and no refusal; otherwise the process ends with an error, and so does the run. Replies of a plain worker are
counted.

Messages are durable. Publisher confirms are not waited for, neither here nor at the floor: the reply says more.
"""

from __future__ import annotations

import json
import random
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pika

from bench.people import now_ms
from broker_config import names, topology
from broker_config.connection import ConnectionSettings, connect
from crypto_core import commands, envelope, letter, suite
from crypto_core.documents import Party
from crypto_core.envelope import TrafficKeys
from crypto_core.ids import Digest, LetterId, RepositoryId, SessionId, UserId, new_letter_id, new_nonce
from crypto_core.keys import SealingPublicKey, SigningKey, VerifyKey

STALL_SECONDS = 60.0  #: without a single reply for so long something is broken


@dataclass
class Member:
    """A citizen with an open session."""

    user: UserId
    sealing: SealingPublicKey
    keys: TrafficKeys
    counter: int = 0


@dataclass(frozen=True)
class Prepared:
    """An envelope, and what its reply is checked with. Without a member it is a plain message."""

    data: bytes
    member: Member | None = None
    counter: int = 0
    nonce: bytes = b""
    result: type[Any] | None = None
    after: Callable[[], None] | None = None


class Player:
    """The state of one load process."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._repository = RepositoryId(told["repository"])
        self._verify = VerifyKey(bytes.fromhex(told["verify_key"]))
        self._app_key = SigningKey(bytes.fromhex(told["app_seed"]))
        self._signature = bytes.fromhex(told["signature"])
        self._members = [_member(each) for each in told["members"]]
        special, quiet = told["special"], told["quiet"]
        self._special = self._members[:special]
        self._quiet = self._members[special : special + quiet]
        self._busy = self._members[special + quiet :]
        self._random = random.Random(told["seed"])
        self._unread: list[tuple[Member, UserId, LetterId]] = []
        self._own: dict[UserId, LetterId] = {}
        self._batch: list[Prepared] = []
        # No heartbeats: between two batches nobody serves this connection, for as long as other rows take.
        self._connection = connect(ConnectionSettings(**told["broker"]), heartbeat_seconds=0)
        self._channel = self._connection.channel()
        installation = names.installation_of(suite.sha256(self._app_key.public.raw))
        self._queue = names.reply_queue(installation, secrets.token_bytes(names.RANDOM_BYTES))
        topology.declare_reply_queue(self._channel, self._queue)
        self._channel.basic_consume(self._queue, self._take, auto_ack=True)

    # --- before the clock starts --------------------------------------------------------------------------------------

    def seal(self, told: dict[str, Any]) -> dict[str, Any]:
        """Seals a batch of `count` commands of one `kind`."""
        makers: dict[str, Callable[[dict[str, Any]], Prepared]] = {
            "send": lambda told: self._letter(told, *self._random.sample(self._busy, 2)),
            "hot": lambda told: self._letter(told, self._random.choice(self._busy), self._special[0]),
            "recv": self._recv,
            "new": self._new,
            "list": self._list,
            "status": self._status,
            "page": self._page,
            "mixed": self._mixed,
        }
        if told["kind"] == "ring":
            rings = [self._special, self._quiet]
            pairs = [(ring[number - 1], ring[number]) for ring in rings for number in range(len(ring))]
            self._batch = [self._letter(told, author, reader) for author, reader in pairs]
        else:
            self._batch = [makers[told["kind"]](told) for _ in range(told["count"])]
        return {"messages": len(self._batch), "bytes": sum(len(each.data) for each in self._batch)}

    def plain(self, told: dict[str, Any]) -> dict[str, Any]:
        """A batch of `count` messages of `bytes` random bytes for a plain worker."""
        self._batch = [Prepared(secrets.token_bytes(told["bytes"])) for _ in range(told["count"])]
        return {"messages": len(self._batch)}

    def _sealed(
        self, member: Member, command: commands.Command, result: type[Any], after: Callable[[], None] | None = None
    ) -> Prepared:
        member.counter += 1
        nonce = new_nonce()
        body = commands.encode_request(command, nonce, now_ms())
        data = envelope.seal_command(self._app_key, member.keys, member.counter, body)
        return Prepared(data, member, member.counter, nonce, result, after)

    def _letter(self, told: dict[str, Any], author: Member, reader: Member) -> Prepared:
        """A letter under a real card's signature of another document: only its readers could tell."""
        written = letter.draft(
            repository=self._repository,
            letter_id=new_letter_id(),
            sender=Party(author.user, Digest(bytes(32))),
            to={reader.user},
            time=now_ms(),
            subject="Ata da reunião de ontem",
            body=secrets.token_bytes(told["bytes"]),
        )
        made = letter.seal(written, self._signature, {author.user: author.sealing, reader.user: reader.sealing})

        def accepted() -> None:
            if reader in self._busy:
                self._unread.append((reader, author.user, written.letter.id))
            self._own[author.user] = written.letter.id

        return self._sealed(author, commands.Send(made.head, made.body), commands.SendResult, accepted)

    def _recv(self, _told: dict[str, Any]) -> Prepared:
        reader, author, letter_id = self._unread.pop()
        return self._sealed(reader, commands.Recv(author, letter_id), commands.RecvResult)

    def _new(self, _told: dict[str, Any]) -> Prepared:
        return self._sealed(self._random.choice(self._quiet), commands.New(0), commands.BoxResult)

    def _list(self, _told: dict[str, Any]) -> Prepared:
        asker, other = self._random.sample(self._quiet, 2)
        return self._sealed(asker, commands.List(other.user, None, False, None), commands.ListResult)

    def _status(self, _told: dict[str, Any]) -> Prepared:
        author = self._random.choice(self._quiet)
        return self._sealed(author, commands.Status(self._own[author.user]), commands.StatusResult)

    def _mixed(self, told: dict[str, Any]) -> Prepared:
        return self._random.choice((self._new, self._list, self._status))(told)

    def _page(self, told: dict[str, Any]) -> Prepared:
        """NEW, or (`all`) a page of ALL with heads, of the special member number `who`."""
        command = commands.All(told["after"], True) if told["all"] else commands.New(told["after"])
        return self._sealed(self._special[told["who"]], command, commands.BoxResult)

    # --- while it runs ------------------------------------------------------------------------------------------------

    def play(self, told: dict[str, Any]) -> dict[str, Any]:
        """Plays the batch with `window` in flight. Times are of the monotonic clock, which all processes share."""
        self._exchange, self._key = told["exchange"], told["key"]
        count = len(self._batch)
        self._sent_at = [0.0] * count
        self._seconds: list[float] = []
        self._replies: list[bytes | None] = [None] * count
        self._next = 0
        began = time.perf_counter()
        for _ in range(min(told["window"], count)):
            self._publish()
        last, progress = time.perf_counter(), 0
        while len(self._seconds) < count:
            self._connection.process_data_events(time_limit=1)
            if len(self._seconds) > progress:
                last, progress = time.perf_counter(), len(self._seconds)
            elif time.perf_counter() - last > STALL_SECONDS:
                raise TimeoutError(f"{count - progress} replies did not come; the workers' logs say more")
        ended = time.perf_counter()
        sizes = [len(each) for each in self._replies if each is not None]
        if told["check"]:
            self._check()
        return {
            "began": began,
            "ended": ended,
            "seconds": self._seconds,
            "reply_bytes": sum(sizes) // count,
        }

    def _publish(self) -> None:
        number = self._next
        self._next += 1
        properties = pika.BasicProperties(
            content_type="application/cose", delivery_mode=2, reply_to=self._queue, correlation_id=str(number)
        )
        self._sent_at[number] = time.perf_counter()
        self._channel.basic_publish(self._exchange, self._key, self._batch[number].data, properties, mandatory=True)

    def _take(self, _channel: Any, _method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        number = int(properties.correlation_id)
        if self._replies[number] is not None:
            return  # an answer was made twice; the first one counts
        self._replies[number] = body
        self._seconds.append(time.perf_counter() - self._sent_at[number])
        if self._next < len(self._batch):
            self._publish()

    def _check(self) -> None:
        for sent, reply in zip(self._batch, self._replies, strict=True):
            if sent.member is None or sent.result is None or reply is None:
                continue
            keys, request = sent.member.keys, suite.sha256(sent.data)
            body = envelope.open_reply(reply, self._verify, keys, sent.counter, request)
            commands.decode_reply(body, sent.result, sent.nonce)
            if sent.after is not None:
                sent.after()

    def close(self) -> None:
        """Gives the connection back."""
        self._connection.close()


def _member(told: dict[str, str]) -> Member:
    keys = TrafficKeys(
        SessionId(bytes.fromhex(told["session"])),
        bytes.fromhex(told["client_to_repository"]),
        bytes.fromhex(told["repository_to_client"]),
    )
    return Member(UserId(bytes.fromhex(told["user"])), SealingPublicKey(bytes.fromhex(told["sealing"])), keys)


def main() -> None:
    """Does what it is told until its standard input ends."""
    player: Player | None = None
    for line in sys.stdin:
        told = json.loads(line)
        if player is None:
            player = Player(told)
            answer: dict[str, Any] = {}
        else:
            answer = {"seal": player.seal, "plain": player.plain, "play": player.play}[told["do"]](told)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    if player is not None:
        player.close()


if __name__ == "__main__":
    main()
