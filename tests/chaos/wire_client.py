"""A client of the protocol with an outbox: one citizen, one envelope at a time, the same bytes until a reply came.

    python -m tests.chaos.wire_client PLAN NAME NUMBER INCARNATION [forget]

Its state (session, counter, the envelope that waits for its reply) is on disk before an envelope is published. Killed
and started again it sends the waiting envelope once more, from a new reply queue; with `forget` it has lost its state,
as after a lost disk, and opens another session: what it had sent stays unknown.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import secrets
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pika
import pika.exceptions

from broker_config import names, topology
from broker_config.connection import connect, parse_amqp_url
from broker_config.errors import BrokerError
from crypto_core import commands, cose, envelope, letter, mailbox, receipt, sealed, session, suite
from crypto_core.commands import ErrorCode, RefusedByRepository
from crypto_core.documents import MailboxPosition, Party
from crypto_core.envelope import TrafficKeys
from crypto_core.errors import ProtocolError
from crypto_core.ids import Digest, LetterId, SessionId, UserId, new_letter_id, new_nonce
from crypto_core.keys import SigningKey
from crypto_core.mailbox import EntryKind
from pki import cades
from pki.tokens.profiles import CardKeyUse
from tests.chaos.history import Kind, Notes, Outcome, open_operations
from tests.chaos.plan import Member, Plan
from tests.support.wire import Wire, now_ms

R = TypeVar("R")

RESEND_SECONDS = 3.0  #: without a reply the same envelope is published again after this
PATIENCE_SECONDS = 8.0  #: after this an operation counts as unknown; what has an effect is tried further
ENDING_SECONDS = 30.0  #: how long an envelope is tried further once the run is told to end
PAUSE_SECONDS = 0.1  #: between attempts to reach the broker
LIBRARY_SHARE = 0.03  #: of the letters go to a citizen of the client library, which opens every one with care
RESULTS: dict[str, Any] = {
    "SEND": commands.SendResult,
    "RECEIPT": commands.ReceiptResult,
}
_LATER = (ErrorCode.UNAVAILABLE, ErrorCode.TOO_MANY)


class NoReply(Exception):
    """No reply within an operation's patience."""


class WireClient(Wire):
    """The citizen at work."""

    def __init__(self, plan: Plan, name: str, number: int, incarnation: int) -> None:
        self.plan = plan
        self.member: Member = plan.members[number]
        self.citizen = self.member.citizen()
        self.me = self.citizen.user
        self.people = plan.by_user()
        self.state_path = plan.folder / f"{name}.state"
        self.state: dict[str, Any] = {}
        if self.state_path.exists():
            self.state = json.loads(self.state_path.read_text())
        app_key = SigningKey(bytes.fromhex(self.state["app"])) if self.state else SigningKey.generate()
        super().__init__(parse_amqp_url(plan.broker_url), plan.descriptor(), app_key)
        self.name = name
        self.notes = Notes(plan.history, name)
        self.random = random.Random(f"{plan.seed} {name} {incarnation}")
        self.arrived: deque[bytes] = deque()
        self.asked: set[bytes] = set()  #: the hashes of all requests of this process
        self.hashes = [mailbox.genesis(self.descriptor.repository, self.me)]
        self.moment = 0
        self.unread: deque[tuple[UserId, LetterId, int]] = deque()
        self.own: list[LetterId] = []
        self.link: pika.BlockingConnection | None = None

    # ------------------------------------------------------------------------------------------- the connection

    def disconnect(self) -> None:
        link, self.link = self.link, None
        if link is not None:
            with contextlib.suppress(pika.exceptions.AMQPError, OSError):
                link.close()

    def _connected(self) -> pika.BlockingConnection:
        if self.link is None or not self.link.is_open or not self.channel.is_open:
            self.disconnect()
            self.link = connect(self.settings, attempts=1, name=f"smr {self.name}")
            self.channel = self.link.channel()
            self.channel.confirm_delivery()
            installation = names.installation_of(suite.sha256(self.app_key.public.raw))
            self.reply_queue = names.reply_queue(installation, secrets.token_bytes(names.RANDOM_BYTES))
            topology.declare_reply_queue(self.channel, self.reply_queue)
            self.channel.basic_consume(self.reply_queue, self._take_in, auto_ack=True, exclusive=True)
        return self.link

    def _take_in(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        self.arrived.append(body)

    def exchange(self, data: bytes, take: Callable[[bytes], R], deadline: float) -> R:
        """What `take` makes of the reply to these bytes, which are published until it is there. Raises NoReply."""
        self.asked.add(suite.sha256(data))
        while time.monotonic() < deadline:
            try:
                link = self._connected()
                self.publish(data)
                resend = min(deadline, time.monotonic() + RESEND_SECONDS)
                while (left := resend - time.monotonic()) > 0:
                    while self.arrived:
                        reply = self.arrived.popleft()
                        try:
                            return take(reply)
                        except RefusedByRepository:
                            raise
                        except ProtocolError as error:
                            self._judge(reply, error)
                    link.process_data_events(time_limit=left)
            except (pika.exceptions.AMQPError, BrokerError, OSError):
                self.disconnect()
                time.sleep(PAUSE_SECONDS)
        raise NoReply

    def _judge(self, reply: bytes, error: ProtocolError) -> None:
        """A reply that answers something else must at least answer something that was asked here."""
        try:
            message = cose.read_sign1(reply, 2**24)
            message.verify(self.descriptor.verify_key)
            known = message.headers.get(cose.REQUEST_HASH) in self.asked
        except ProtocolError as forged:
            self.notes.forged(f"a reply that is not the repository's: {forged}")
            return
        if not known:
            self.notes.forged(f"a reply to somebody else's request: {error}")

    # ------------------------------------------------------------------------------------------------ the state

    def _save(self, **waiting: Any) -> None:
        """The state with which another process can go on, in one step."""
        keys = self.live.keys
        state = {
            "app": self.app_key.seed.hex(),
            "session": keys.session.hex(),
            "c2r": keys.client_to_repository.hex(),
            "r2c": keys.repository_to_client.hex(),
            "expires": self.live.expires,
            "counter": self.counter,
            **waiting,
        }
        new = self.state_path.with_suffix(".new")
        new.write_text(json.dumps(state))
        new.rename(self.state_path)

    def _restore(self) -> None:
        found = self.state
        keys = TrafficKeys(
            SessionId(bytes.fromhex(found["session"])), bytes.fromhex(found["c2r"]), bytes.fromhex(found["r2c"])
        )
        self.session = session.Session(self.descriptor, keys, self.me, found["expires"], session.DEFAULT_LIMITS)
        self.counter = found["counter"]

    # ----------------------------------------------------------------------------------------------- operations

    def run(self) -> None:
        """Works until the file `stop` is there."""
        if self.state:
            self._restore()
            if "command" in self.state:
                self._resume()
        while self.session is None and not self._ending:
            self._open_session()
        while not self._ending:
            self._one()
        self.disconnect()

    @property
    def _ending(self) -> bool:
        return self.plan.stop.exists()

    def _one(self) -> None:
        draw = self.random.random()
        if draw < 0.12:
            self._list()
        elif draw < 0.45 and self.unread:
            self._read()
        elif draw < 0.60 and self.own:
            self._status(self.random.choice(self.own))
        else:
            self._send()

    def _open_session(self) -> None:
        operation = self.notes.invoke(Kind.SESSION, self.me.hex())
        deadline = time.monotonic() + PATIENCE_SECONDS
        try:
            sent = session.hello(self.descriptor, self.app_key, now_ms())
            answered = self.exchange(sent.hello, sent.answered, deadline)
            login = self.citizen.signed(answered.login_document(self.me, now_ms()), CardKeyUse.AUTHENTICATION)
            confirm = answered.confirm(login, now_ms())
            self.session = self.exchange(confirm.confirm, confirm.active, deadline)
        except NoReply:
            self.notes.end(operation, Outcome.UNKNOWN, reason="no reply")
        except RefusedByRepository as refusal:
            self.notes.end(operation, Outcome.FAILED, reason=refusal.code.value)
        else:
            self.counter = 0
            self._save()
            self.notes.end(operation, Outcome.OK)

    def _ask(
        self, operation: str, command: commands.Command, kind: type[R], learn: Callable[[R], dict[str, Any]]
    ) -> bool:
        """A command without an effect that matters: one attempt. Its counter is kept all the same."""
        nonce = new_nonce()
        data = self.sealed(command, nonce)
        self._save()
        try:
            result = self.exchange(
                data, lambda reply: self.opened(reply, data, nonce, kind), time.monotonic() + PATIENCE_SECONDS
            )
        except NoReply:
            self.notes.end(operation, Outcome.UNKNOWN, reason="no reply")
            return False
        except RefusedByRepository as refusal:
            self.notes.end(operation, Outcome.FAILED, reason=refusal.code.value)
            return False
        self.notes.end(operation, Outcome.OK, **learn(result))
        return True

    def _effect(self, operation: str, command: commands.Command) -> bool:
        """A command with an effect: in the outbox before it is published, until its reply is there."""
        nonce = new_nonce()
        data = self.sealed(command, nonce)
        self._save(command=commands.name_of(command), operation=operation, envelope=data.hex(), nonce=nonce.hex())
        return self._bring_through(operation, commands.name_of(command), data, nonce)

    def _resume(self) -> None:
        state = self.state
        waiting = {each["op"] for each in open_operations(self.notes.path)}
        data, nonce = bytes.fromhex(state["envelope"]), bytes.fromhex(state["nonce"])
        if state["operation"] in waiting:
            self._bring_through(state["operation"], state["command"], data, nonce)

    def _bring_through(self, operation: str, command: str, data: bytes, nonce: bytes) -> bool:
        kind = RESULTS[command]
        end = None
        while True:
            try:
                result = self.exchange(
                    data, lambda reply: self.opened(reply, data, nonce, kind), time.monotonic() + PATIENCE_SECONDS
                )
            except NoReply:
                self.notes.end(operation, Outcome.UNKNOWN, reason="no reply yet")
            except RefusedByRepository as refusal:
                if refusal.code not in _LATER:
                    self.notes.end(operation, Outcome.FAILED, reason=refusal.code.value)
                    self._save()
                    return False
                self.notes.end(operation, Outcome.UNKNOWN, reason=refusal.code.value)
                time.sleep(PAUSE_SECONDS)
            else:
                self.notes.end(operation, Outcome.OK, **self._accepted(data, result))
                self._save()
                return True
            if self._ending:
                end = end or time.monotonic() + ENDING_SECONDS
                if time.monotonic() > end:
                    return False

    def _accepted(self, data: bytes, result: Any) -> dict[str, Any]:
        """What an acceptance says, its signed placement verified."""
        if isinstance(result, commands.ReceiptResult):
            return {"positions": self._positions(result.placement, (self.me,))}
        body = envelope.read_command(data).open(self.app_key.public, self.live.keys)
        request = commands.decode_request(body).command
        assert isinstance(request, commands.Send)
        recipients = sealed.read(sealed.LETTER, request.head).recipients
        positions = self._positions(result.placement, (self.me, *recipients))
        self.own.append(LetterId(result.letter))
        return {"letter": result.letter.hex(), "positions": positions}

    def _positions(self, data: bytes, owners: Sequence[UserId]) -> list[tuple[str, int, str]]:
        places = mailbox.read_placement(data, self.descriptor.verify_key, self.descriptor.repository).places
        assert [place.mailbox for place in places] == list(owners)
        return [(place.mailbox.hex(), place.number, place.entry.hex()) for place in places]

    def _party(self) -> Party:
        return Party(self.me, Digest(bytes.fromhex(self.member.registration)))

    # ------------------------------------------------------------------------------------------------- the verbs

    def _send(self) -> None:
        operation = self.notes.next_id()
        to = self._recipients()
        body = f"{operation}\n{'Olá! Segue a ata. ' * self.random.randrange(1, 60)}".encode()
        written = letter.draft(
            self.descriptor.repository, new_letter_id(), self._party(), set(to), now_ms(), "Ata", body
        )
        signature = cades.sign_document(written.document, self.citizen, self.citizen.writes_with)
        readers = {user: self.people[user].sealing.public for user in {self.me, *to}}
        made = letter.seal(written, signature, readers)
        self.notes.invoke(
            Kind.SEND,
            self.me.hex(),
            author=self.me.hex(),
            letter=written.letter.id.hex(),
            recipients=[user.hex() for user in to],
            body=hashlib.sha256(body).hexdigest(),
        )
        self._effect(operation, commands.Send(made.head, made.body))

    def _recipients(self) -> list[UserId]:
        others = [user for user, member in self.people.items() if user != self.me and not member.home]
        to = self.random.sample(others, self.random.choice((1, 1, 1, 2)))
        library = [user for user, member in self.people.items() if member.home]
        if library and self.random.random() < LIBRARY_SHARE:
            to.append(self.random.choice(library))
        return to

    def _list(self) -> None:
        """The own mailbox from where it was last seen, checked as a chain."""
        operation = self.notes.invoke(Kind.LIST, self.me.hex())
        number = len(self.hashes) - 1
        self._ask(operation, commands.All(number, heads=False), commands.BoxResult, self._extend)

    def _extend(self, result: commands.BoxResult) -> dict[str, Any]:
        repository, number = self.descriptor.repository, len(self.hashes) - 1
        entries = [box.entry for box in result.entries]
        try:
            self.hashes += mailbox.extend(repository, self.me, number, self.hashes[-1], entries, self.moment)
            head = mailbox.read_head(result.head, self.descriptor.verify_key, repository, self.me)
        except ProtocolError as error:
            self.notes.forged(f"a mailbox that does not extend what was seen: {error}")
            return {}
        if result.next is None and head.number < number:
            self.notes.forged("a mailbox that has become shorter")
        if head.number < len(self.hashes) and self.hashes[head.number] != head.entry:
            self.notes.forged("a signed head that does not fit to the entries")
        self.moment = entries[-1].time if entries else self.moment
        for box in result.entries:
            routing = box.entry.routing
            if box.entry.kind is EntryKind.RECEIVED and not box.read:
                self.unread.append((routing.author, routing.letter, box.entry.number))
            elif box.entry.kind is EntryKind.SENT and routing.letter not in self.own:
                self.own.append(routing.letter)
        return {"positions": [(self.me.hex(), head.number, head.entry.hex())]}

    def _read(self) -> None:
        author, letter_id, number = self.unread.popleft()
        about = {"author": author.hex(), "letter": letter_id.hex()}
        opened: list[letter.OpenedHead] = []

        def learn(result: commands.RecvResult) -> dict[str, Any]:
            try:
                view = result.entry.view
                assert view is not None
                keys = {self.citizen.sealing.public.key_id: self.citizen.sealing}
                opened.append(letter.open_head(view, self.descriptor.repository, self.me, keys))
                body = letter.open_body(opened[0], result.body)
            except ProtocolError as error:
                self.notes.forged(f"a letter that does not open: {error}")
                return {}
            return {"body": hashlib.sha256(body).hexdigest()}

        operation = self.notes.invoke(Kind.READ, self.me.hex(), **about)
        done = self._ask(operation, commands.Recv(author, letter_id), commands.RecvResult, learn)
        if done and opened and self.random.random() < 0.7:
            self._give_receipt(opened[0], author, number, about)

    def _give_receipt(self, head: letter.OpenedHead, author: UserId, number: int, about: dict[str, str]) -> None:
        position = MailboxPosition(number, self.hashes[number])
        document = receipt.draft(head, self._party(), position, now_ms())
        signature = cades.sign_document(document, self.citizen, self.citizen.writes_with)
        readers = {user: self.people[user].sealing.public for user in {self.me, author}}
        data = receipt.seal(document, signature, self.descriptor.repository, readers)
        operation = self.notes.invoke(Kind.RECEIPT, self.me.hex(), **about)
        self._effect(operation, commands.Receipt(data))

    def _status(self, letter_id: LetterId) -> None:
        operation = self.notes.invoke(Kind.STATUS, self.me.hex(), author=self.me.hex(), letter=letter_id.hex())
        self._ask(
            operation,
            commands.Status(letter_id),
            commands.StatusResult,
            lambda result: {"readers": [each.entry.routing.author.hex() for each in result.receipts]},
        )


def main() -> None:
    plan_path, name, number, incarnation, *forget = sys.argv[1:]
    plan = Plan.load(Path(plan_path))
    if forget:
        (plan.folder / f"{name}.state").unlink(missing_ok=True)
    client = WireClient(plan, name, int(number), int(incarnation))
    client.run()


if __name__ == "__main__":
    main()
