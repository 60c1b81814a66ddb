"""Citizens for measurements: cards in software, registered and logged in through the broker like everybody else.

A session's keys are handed to the load processes, so that these can seal envelopes before the clock starts. Nobody
secures anything here: every key of this page ends with the run.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import pika
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from broker_config import names, topology
from broker_config.connection import ConnectionSettings, connect
from crypto_core import commands, documents, envelope, session, suite
from crypto_core.descriptor import Descriptor
from crypto_core.documents import Registration, SignedDocument
from crypto_core.ids import Milliseconds, UserId, new_nonce
from crypto_core.keys import SealingKey, SigningKey
from pki import cades, identity
from pki.test_ca import Holder, TestCa
from pki.tokens.profiles import CardKeyUse

R = TypeVar("R")
ANSWER_SECONDS = 30.0


def now_ms() -> Milliseconds:
    """This machine's clock."""
    return Milliseconds(time.time_ns() // 1_000_000)


@dataclass(frozen=True)
class Citizen:
    """A citizen whose card is in software: its signatures have the form of a card's."""

    name: str
    keys: dict[CardKeyUse, ec.EllipticCurvePrivateKey]
    certificates: dict[CardKeyUse, x509.Certificate]
    intermediates: tuple[bytes, ...]
    sealing: SealingKey

    @classmethod
    def issued(cls, ca: TestCa, name: str) -> Self:
        """A new card of the test CA."""
        keys = {use: ec.generate_private_key(ec.SECP256R1()) for use in CardKeyUse}
        made = ca.issue_card_certificates(Holder.named(name), *(key.public_key() for key in keys.values()))
        chain = tuple(each.public_bytes(Encoding.DER) for each in ca.intermediates)
        return cls(name, keys, {use: made.of(use) for use in CardKeyUse}, chain, SealingKey.generate())

    @property
    def user(self) -> UserId:
        """The citizen's id."""
        return UserId(identity.user_id(self.certificates[CardKeyUse.AUTHENTICATION]))

    def certificate(self, use: CardKeyUse) -> x509.Certificate | None:
        """What `pki.cades` asks of a card."""
        return self.certificates.get(use)

    def sign(self, use: CardKeyUse, data: bytes) -> bytes:
        """What `pki.cades` asks of a card."""
        return self.keys[use].sign(data, ec.ECDSA(hashes.SHA256()))

    def signed(self, document: bytes, use: CardKeyUse = CardKeyUse.AUTHENTICATION) -> SignedDocument:
        """A document with the card's detached signature."""
        return SignedDocument(document, cades.sign_document(document, self, use))

    def registration(self, descriptor: Descriptor) -> commands.Create:
        """The CREATE command of a first registration."""
        authentication, signature = (
            self.certificates[use].public_bytes(Encoding.DER)
            for use in (CardKeyUse.AUTHENTICATION, CardKeyUse.SIGNATURE)
        )
        document = documents.encode(
            Registration(
                repository=descriptor.repository,
                user=self.user,
                revision=1,
                authentication_certificate=suite.sha256(authentication),
                signature_certificate=suite.sha256(signature),
                sealing_key=self.sealing.public.raw,
                previous=None,
                time=now_ms(),
            )
        )
        return commands.Create(self.signed(document), authentication, signature, self.intermediates)


class Caller:
    """One connection that asks and waits: for setting up, and for measuring negotiations one by one."""

    def __init__(self, settings: ConnectionSettings, descriptor: Descriptor, app_key: SigningKey) -> None:
        self.descriptor = descriptor
        self.app_key = app_key
        self._connection = connect(settings)
        self._channel = self._connection.channel()
        installation = names.installation_of(suite.sha256(app_key.public.raw))
        self._queue = names.reply_queue(installation, secrets.token_bytes(names.RANDOM_BYTES))
        topology.declare_reply_queue(self._channel, self._queue)
        self._replies: list[bytes] = []
        self._channel.basic_consume(self._queue, self._take, auto_ack=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def call(
        self, data: bytes, exchange: str = names.COMMANDS_EXCHANGE, key: str = names.COMMANDS_ROUTING_KEY
    ) -> bytes:
        """Publishes and gives the reply. Raises TimeoutError."""
        properties = pika.BasicProperties(
            content_type="application/cose", delivery_mode=2, reply_to=self._queue, correlation_id=secrets.token_hex(16)
        )
        self._channel.basic_publish(exchange, key, data, properties, mandatory=True)
        deadline = time.monotonic() + ANSWER_SECONDS
        while not self._replies:
            if time.monotonic() > deadline:
                raise TimeoutError("no reply came; the workers' logs say more")
            self._connection.process_data_events(time_limit=1)
        return self._replies.pop()

    def negotiate(self, login: Callable[[session.Answered], SignedDocument | None]) -> session.Session:
        """A session: hello, answer, confirm, active."""
        sent = session.hello(self.descriptor, self.app_key, now_ms())
        answered = sent.answered(self.call(sent.hello))
        confirm = answered.confirm(login(answered), now_ms())
        return confirm.active(self.call(confirm.confirm))

    def login(self, citizen: Citizen) -> session.Session:
        """A session of this citizen."""
        return self.negotiate(lambda answered: citizen.signed(answered.login_document(citizen.user, now_ms())))

    def register(self, citizens: Sequence[Citizen]) -> None:
        """First registrations, in one session without a login."""
        live = self.negotiate(lambda _: None)
        for counter, each in enumerate(citizens, 1):
            self.ask(live, counter, each.registration(self.descriptor), commands.CreateResult)

    def ask(self, live: session.Session, counter: int, command: commands.Command, kind: type[R]) -> R:
        """The result of one command. Raises RefusedByRepository."""
        nonce = new_nonce()
        data = envelope.seal_command(
            self.app_key, live.keys, counter, commands.encode_request(command, nonce, now_ms())
        )
        body = envelope.open_reply(self.call(data), self.descriptor.verify_key, live.keys, counter, suite.sha256(data))
        return commands.decode_reply(body, kind, nonce)

    def _take(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        self._replies.append(body)
