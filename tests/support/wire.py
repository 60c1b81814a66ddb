"""A bare client of the protocol, for tests that must be able to misbehave: it sends any bytes, as anybody.

Unlike the room `client` it keeps nothing, checks only what it is asked to check, and lets a test choose keys, counters,
reply queues and bytes. Citizens hold their card's keys in software: the signatures have the same form as a card's.

    citizen = Citizen.issued(ca, "Maria Conceição Reis")
    with Wire(settings, descriptor) as wire:
        wire.register(citizen)
        wire.login(citizen)
        wire.ask(commands.New(0), commands.BoxResult)
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

import pika
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from broker_config import names, topology
from broker_config.connection import ConnectionSettings, connect
from crypto_core import (
    choice,
    commands,
    documents,
    envelope,
    letter,
    mailbox,
    receipt,
    session,
    sign_for,
    suite,
)
from crypto_core.commands import BoxEntry, SlipView
from crypto_core.descriptor import Descriptor
from crypto_core.documents import MailboxPosition, Party, Registration, SignedDocument, Slip
from crypto_core.errors import ProtocolError
from crypto_core.ids import Digest, Milliseconds, RepositoryId, UserId, new_letter_id, new_nonce
from crypto_core.keys import SealingKey, SealingPublicKey, SigningKey
from crypto_core.letter import OpenedHead, SealedLetter
from crypto_core.sign_for import SignedSlip
from pki import cades, identity
from pki.test_ca import Holder, TestCa
from pki.tokens.profiles import CardKeyUse

R = TypeVar("R")

ANSWER_SECONDS = 20.0
HOUR_MS = 3_600_000
SETTLE_SECONDS = 20.0  #: bound of the wait for a message to become a dead letter
LATE_SECONDS = 0.1  #: how long a reply that must not come is waited for once the message is a dead letter


def now_ms() -> Milliseconds:
    return Milliseconds(time.time_ns() // 1_000_000)


@dataclass(frozen=True)
class Citizen:
    """A citizen with a card in software and a sealing key."""

    name: str
    keys: dict[CardKeyUse, ec.EllipticCurvePrivateKey]
    certificates: dict[CardKeyUse, x509.Certificate]
    intermediates: tuple[x509.Certificate, ...]
    sealing: SealingKey = field(default_factory=SealingKey.generate)

    @classmethod
    def issued(cls, ca: TestCa, name: str | Holder, *, with_signature: bool = True, **times: Any) -> Self:
        """A citizen of this name, or this very holder: two cards of one citizen have one civil number."""
        holder = name if isinstance(name, Holder) else Holder.named(name)
        keys = {use: ec.generate_private_key(ec.SECP256R1()) for use in CardKeyUse}
        made = ca.issue_card_certificates(holder, *(key.public_key() for key in keys.values()), **times)
        uses = list(CardKeyUse) if with_signature else [CardKeyUse.AUTHENTICATION]
        return cls(holder.name, keys, {use: made.of(use) for use in uses}, tuple(ca.intermediates))

    def certificate(self, use: CardKeyUse) -> x509.Certificate | None:
        return self.certificates.get(use)

    def sign(self, use: CardKeyUse, data: bytes) -> bytes:
        return self.keys[use].sign(data, ec.ECDSA(hashes.SHA256()))

    @property
    def user(self) -> UserId:
        return UserId(identity.user_id(self.certificates[CardKeyUse.AUTHENTICATION]))

    def der(self, use: CardKeyUse) -> bytes | None:
        found = self.certificates.get(use)
        return found.public_bytes(Encoding.DER) if found else None

    @property
    def writes_with(self) -> CardKeyUse:
        """The key for letters and receipts: the signature key when there is one."""
        return CardKeyUse.SIGNATURE if CardKeyUse.SIGNATURE in self.certificates else CardKeyUse.AUTHENTICATION

    def signed(self, document: bytes, use: CardKeyUse) -> SignedDocument:
        return SignedDocument(document, cades.sign_document(document, self, use))

    def registration(self, repository: RepositoryId, **changes: Any) -> bytes:
        signature = self.der(CardKeyUse.SIGNATURE)
        members: dict[str, Any] = {
            "repository": repository,
            "user": self.user,
            "revision": 1,
            "authentication_certificate": suite.sha256(self.der(CardKeyUse.AUTHENTICATION) or b""),
            "signature_certificate": suite.sha256(signature) if signature else None,
            "sealing_key": self.sealing.public.raw,
            "previous": None,
            "time": now_ms(),
        }
        return documents.encode(Registration(**{**members, **changes}))

    def create(self, document: bytes, **changes: Any) -> commands.Create:
        """The CREATE command for a registration document, signed with the authentication key."""
        members: dict[str, Any] = {
            "registration": self.signed(document, CardKeyUse.AUTHENTICATION),
            "authentication_certificate": self.der(CardKeyUse.AUTHENTICATION),
            "signature_certificate": self.der(CardKeyUse.SIGNATURE),
            "intermediates": tuple(each.public_bytes(Encoding.DER) for each in self.intermediates),
        }
        return commands.Create(**{**members, **changes})


class Wire:
    """One broker connection with its own reply queue, and at most one session."""

    def __init__(
        self,
        settings: ConnectionSettings,
        descriptor: Descriptor,
        app_key: SigningKey | None = None,
        dead_letters: Callable[[], int] | None = None,
    ) -> None:
        """`dead_letters` counts the dead letters: how `silent` knows that a message was dealt with."""
        self.settings = settings
        self.user_id: str | None = settings.user
        self.dead_letters = dead_letters
        self.descriptor = descriptor
        self.app_key = app_key or SigningKey.generate()
        self.session: session.Session | None = None
        self.counter = 0

    def __enter__(self) -> Self:
        self.connection = connect(self.settings)
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()
        installation = names.installation_of(suite.sha256(self.app_key.public.raw))
        self.reply_queue = names.reply_queue(installation, secrets.token_bytes(16))
        topology.declare_reply_queue(self.channel, self.reply_queue)
        return self

    def __exit__(self, *_: object) -> None:
        if self.connection.is_open:
            self.connection.close()

    # ------------------------------------------------------------------------------------------------- bytes

    def publish(self, data: bytes, reply_to: str | None = None) -> None:
        """Any bytes to the command queue, confirmed by the broker."""
        properties = pika.BasicProperties(
            content_type="application/cose",
            delivery_mode=2,
            reply_to=self.reply_queue if reply_to is None else reply_to,
            correlation_id=suite.sha256(data).hex(),
            user_id=self.user_id,
        )
        self.channel.basic_publish(
            names.COMMANDS_EXCHANGE, names.COMMANDS_ROUTING_KEY, data, properties, mandatory=True
        )

    def take(self, seconds: float = ANSWER_SECONDS) -> bytes | None:
        """The next reply, or None when none came in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            method, _, body = self.channel.basic_get(self.reply_queue, auto_ack=True)
            if method is not None:
                return body
            self.connection.sleep(0.01)
        return None

    def call(self, data: bytes, seconds: float = ANSWER_SECONDS) -> bytes:
        """Publishes, and gives the next reply; fails when none comes."""
        self.publish(data)
        reply = self.take(seconds)
        assert reply is not None, "no reply came"
        return reply

    def silent(self, *messages: bytes, reply_to: str | None = None) -> bool:
        """Publishes, waits until each message has become a dead letter, and says whether nothing came back."""
        assert self.dead_letters is not None, "made without a view of the dead letters"
        before = self.dead_letters()
        for data in messages:
            self.publish(data, reply_to)
        deadline = time.monotonic() + SETTLE_SECONDS
        while self.dead_letters() < before + len(messages):
            assert time.monotonic() < deadline, f"{before + len(messages) - self.dead_letters()} were not rejected"
            self.connection.sleep(0.02)
        return self.take(LATE_SECONDS) is None

    # ---------------------------------------------------------------------------------------------- sessions

    def negotiate(self, login: Callable[[session.Answered], SignedDocument | None]) -> session.Session:
        """Four phases; `login` makes the signed login from the answered state. Counters start anew."""
        sent = session.hello(self.descriptor, self.app_key, now_ms())
        answered = sent.answered(self.call(sent.hello))
        confirm = answered.confirm(login(answered), now_ms())
        self.session = confirm.active(self.call(confirm.confirm))
        self.counter = 0
        return self.session

    def anonymous(self) -> session.Session:
        return self.negotiate(lambda _: None)

    def login(self, citizen: Citizen) -> session.Session:
        return self.negotiate(
            lambda answered: citizen.signed(answered.login_document(citizen.user, now_ms()), CardKeyUse.AUTHENTICATION)
        )

    def register(self, citizen: Citizen) -> commands.CreateResult:
        """Registers in a session without a login, which stays open."""
        self.anonymous()
        return self.ask(citizen.create(citizen.registration(self.descriptor.repository)), commands.CreateResult)

    # ---------------------------------------------------------------------------------------------- commands

    @property
    def live(self) -> session.Session:
        assert self.session is not None, "no session"
        return self.session

    def sealed(self, command: commands.Command, nonce: bytes, counter: int | None = None) -> bytes:
        """An envelope under the next counter, or under the one given."""
        if counter is None:
            self.counter += 1
            counter = self.counter
        body = commands.encode_request(command, nonce, now_ms())
        return envelope.seal_command(self.app_key, self.live.keys, counter, body)

    def ask(self, command: commands.Command, kind: type[R]) -> R:
        """The result of a command. Raises RefusedByRepository."""
        nonce = new_nonce()
        data = self.sealed(command, nonce)
        return self.opened(self.call(data), data, nonce, kind)

    def opened(self, reply: bytes, request: bytes, nonce: bytes, kind: type[R]) -> R:
        """The result in a reply to exactly this request."""
        counter = envelope.read_command(request).counter
        body = envelope.open_reply(reply, self.descriptor.verify_key, self.live.keys, counter, suite.sha256(request))
        return commands.decode_reply(body, kind, nonce)

    def refused(self, command: commands.Command) -> commands.ErrorCode:
        """The code with which a command is refused; fails when it is not."""
        try:
            self.ask(command, _Anything)
        except commands.RefusedByRepository as refusal:
            return refusal.code
        except ProtocolError as error:
            raise AssertionError("the command was not refused") from error
        raise AssertionError("the command was not refused")

    # ----------------------------------------------------------------------------------------------- letters

    def party(self, citizen: Citizen) -> Party:
        """The citizen with the digest of their current registration."""
        found = self.ask(commands.List(citizen.user, None, False, None), commands.ListResult)
        return Party(citizen.user, found.people[0].registration.digest)

    def letter(
        self, sender: Citizen, to: Iterable[Citizen], body: bytes, subject: str = "Olá", **changes: Any
    ) -> SealedLetter:
        """A letter as an honest client makes it; `changes` replace arguments of `letter.draft`."""
        recipients = list(to)
        arguments: dict[str, Any] = {
            "repository": self.descriptor.repository,
            "letter_id": new_letter_id(),
            "sender": self.party(sender),
            "to": {each.user for each in recipients},
            "time": now_ms(),
            "subject": subject,
            "body": body,
        }
        written = letter.draft(**{**arguments, **changes})
        signature = cades.sign_document(written.document, sender, sender.writes_with)
        return letter.seal(written, signature, keys_of([sender, *recipients]))

    def send(self, sender: Citizen, to: Sequence[Citizen], body: bytes, **changes: Any) -> commands.SendResult:
        made = self.letter(sender, to, body, **changes)
        return self.ask(commands.Send(made.head, made.body), commands.SendResult)

    def to_sign(
        self,
        sender: Citizen,
        to: Iterable[Citizen],
        body: bytes,
        expires: int | None = None,
        edit: Callable[[Slip], Slip] = lambda slip: slip,
    ) -> commands.Send:
        """The SEND command for a letter to be signed for; `edit` makes another slip before the card signs it."""
        recipients, repository = list(to), self.descriptor.repository
        written = letter.draft(
            repository, new_letter_id(), self.party(sender), {each.user for each in recipients}, now_ms(), "Olá", body
        )
        signature = cades.sign_document(written.document, sender, sender.writes_with)
        end = Milliseconds(expires or written.letter.time + HOUR_MS)
        made = sign_for.seal(written, signature, keys_of([sender, *recipients]), end)
        slip = documents.encode(edit(documents.decode(Slip, made.slip, repository)))
        signed = SignedSlip(slip, cades.sign_document(slip, sender, sender.writes_with), None)
        return commands.Send(made.letter.head, made.letter.body, commands.ToSign(signed, made.shares))

    def slip(self, author: Citizen, letter_id: bytes) -> tuple[BoxEntry, SlipView, Slip]:
        """What a recipient gets of a letter to be signed for: the entry, the slip as it came, and the slip."""
        found = self.ask(commands.Recv(author.user, letter_id), commands.RecvResult)
        view = found.entry.slip
        assert view is not None
        return found.entry, view, documents.decode(Slip, view.slip.document, self.descriptor.repository)

    def accept(self, reader: Citizen, author: Citizen, letter_id: bytes, /, **changes: Any) -> commands.Accept:
        """The ACCEPT command for a letter; `changes` replace members of the acceptance before it is signed."""
        entry, view, slip = self.slip(author, letter_id)
        document = choice.accept(slip, view.slip.digest, self.party(reader), self._position(reader, entry), now_ms())
        found = documents.decode(documents.Acceptance, document, self.descriptor.repository)
        return commands.Accept(reader.signed(documents.encode(replace(found, **changes)), reader.writes_with), None)

    def refuse(self, reader: Citizen, author: Citizen, letter_id: bytes, reason: str = "") -> commands.Refuse:
        """The REFUSE command for a letter."""
        entry, view, slip = self.slip(author, letter_id)
        party, position = self.party(reader), self._position(reader, entry)
        document, why = choice.refuse(slip, view.slip.digest, party, position, now_ms(), reason)
        signed = reader.signed(document, reader.writes_with)
        keys = keys_of([reader, author])
        sealed_reason = choice.seal_reason(slip, reader.user, why, signed, keys) if why else None
        return commands.Refuse(signed, None, sealed_reason)

    def _position(self, reader: Citizen, entry: BoxEntry) -> MailboxPosition:
        """Where an entry stands, by the chain that leads to it."""
        before = self.ask(commands.All(0, False), commands.BoxResult).entries[: entry.entry.number]
        repository = self.descriptor.repository
        start = mailbox.genesis(repository, reader.user)
        hashes = mailbox.extend(repository, reader.user, 0, start, [each.entry for each in before])
        return MailboxPosition(entry.entry.number, hashes[-1])

    def open_signed(self, reader: Citizen, author: Citizen, letter_id: bytes) -> bytes:
        """The body of a letter that was signed for, by what RECV gives. Verifies no card."""
        found = self.ask(commands.Recv(author.user, letter_id), commands.RecvResult)
        view, shown = found.entry.view, found.entry.slip
        assert view is not None
        assert shown is not None
        assert shown.release is not None
        assert found.body is not None
        slip = documents.decode(Slip, shown.slip.document, self.descriptor.repository)
        release = sign_for.read_release(shown.release, self.descriptor.verify_key, slip, shown.slip.digest, reader.user)
        keys = {reader.sealing.public.key_id: reader.sealing}
        head = sign_for.open_head(view, slip, reader.user, keys, sign_for.require_released(release, slip))
        return letter.open_body(head, found.body)

    def read(self, reader: Citizen, author: Citizen, letter_id: bytes) -> tuple[commands.RecvResult, OpenedHead, bytes]:
        """RECV, opened: the result, the head and the body. Verifies no card."""
        found = self.ask(commands.Recv(author.user, letter_id), commands.RecvResult)
        view = found.entry.view
        assert view is not None
        keys = {reader.sealing.public.key_id: reader.sealing}
        head = letter.open_head(view, self.descriptor.repository, reader.user, keys)
        return found, head, letter.open_body(head, found.body)

    def receipt(self, reader: Citizen, author: Citizen, head: OpenedHead, number: int = 1) -> commands.Receipt:
        """The RECEIPT command for an opened letter."""
        position = MailboxPosition(number, Digest(bytes(32)))
        document = receipt.draft(head, self.party(reader), position, now_ms())
        signature = cades.sign_document(document, reader, reader.writes_with)
        data = receipt.seal(document, signature, self.descriptor.repository, keys_of([reader, author]))
        return commands.Receipt(data)


@dataclass(frozen=True, slots=True)
class _Anything:
    """A result that is never right: only refusals are looked for."""

    nothing: bool


def keys_of(citizens: Iterable[Citizen]) -> dict[UserId, SealingPublicKey]:
    """The sealing keys of citizens, by user id."""
    return {each.user: each.sealing.public for each in citizens}
