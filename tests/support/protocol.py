"""A small world for tests of the protocol: people, a repository, a finished negotiation, a sealed letter, a receipt.

Long-term keys come from fixed seeds, so that a failing case can be run again. Everything else is drawn by the code
under test. Nothing here checks anything.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any

from cbor2 import CBORTag
from cryptography.hazmat.primitives.asymmetric import ec

from crypto_core import (
    cbor,
    cose,
    deletion,
    descriptor,
    documents,
    envelope,
    letter,
    limits,
    mailbox,
    receipt,
    records,
    sealed,
    session,
    sign_for,
    suite,
)
from crypto_core.ids import AttachmentId, Digest, LetterId, Milliseconds, SessionId, UserId
from crypto_core.keys import EcdsaSigningKey, EcdsaVerifyKey, SealingKey, SigningKey

NOW = Milliseconds(1_795_356_117_123)  # 2026-11-22T14:01:57.123Z
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

MARIA = UserId(hashlib.sha224(b"Maria Concei\xc3\xa7\xc3\xa3o Reis").digest())
JOAO = UserId(hashlib.sha224(b"Jo\xc3\xa3o S\xc3\xa1").digest())
BRUNO = UserId(hashlib.sha224(b"Bruno Antunes").digest())
LETTER = LetterId(b"letter-id-000001")
SESSION = SessionId(b"session-id-00001")


def seed(name: str, size: int) -> bytes:
    """Bytes that are always the same for this name: for keys of tests only."""
    return hashlib.shake_256(name.encode()).digest(size)


def digest(name: str) -> Digest:
    return Digest(seed(name, 32))


def signing_key(name: str) -> SigningKey:
    return SigningKey(seed(f"signing {name}", 32))


@cache
def sealing_key(name: str) -> SealingKey:
    return SealingKey(seed(f"sealing {name}", 96))


@cache
def p256_key(name: str) -> EcdsaSigningKey:
    return EcdsaSigningKey(ec.derive_private_key(int.from_bytes(seed(f"p256 {name}", 31)), ec.SECP256R1()))


def p256_public(name: str) -> EcdsaVerifyKey:
    return EcdsaVerifyKey(p256_key(name).key.public_key())


def kek(name: str = "today") -> records.KeyEncryptionKey:
    return records.KeyEncryptionKey(seed(f"kek id {name}", 16), seed(f"kek {name}", 32))


# ------------------------------------------------------------------------------------------------ the repository

OPERATOR_ROOT = b"DER of the operator root"
LEAF = b"DER of the descriptor signer"
ROOT_HASH = suite.sha256(OPERATOR_ROOT)
REPOSITORY = descriptor.derive_repository_id(ROOT_HASH, "Correio")
OTHER_REPOSITORY = descriptor.derive_repository_id(ROOT_HASH, "Outro")


def make_descriptor(**changes: Any) -> descriptor.Descriptor:
    made = descriptor.Descriptor(
        repository=REPOSITORY,
        name="Correio",
        operator_root=ROOT_HASH,
        epoch=3,
        oldest=3,
        broker="amqp://127.0.0.1:5672/",
        signing_key=signing_key("repository").public.raw,
        sealing_key=sealing_key("repository").public.raw,
        issued=NOW,
        expires=Milliseconds(NOW + 30 * DAY_MS),
    )
    return dataclasses.replace(made, **changes)


def make_identity(**changes: Any) -> session.RepositoryIdentity:
    made = session.RepositoryIdentity(REPOSITORY, 3, signing_key("repository"), sealing_key("repository"))
    return dataclasses.replace(made, **changes)


# --------------------------------------------------------------------------------------------------- negotiation


@dataclasses.dataclass(frozen=True)
class Negotiation:
    """All states of one negotiation, of both sides, and the four messages."""

    app_key: SigningKey
    sent: session.HelloSent
    answer: bytes
    answered: session.Answered
    confirm_sent: session.ConfirmSent
    opened: session.OpenedConfirm
    active: bytes
    session: session.Session

    @property
    def record(self) -> records.SessionRecord:
        return self.opened.record()


def signed(document: bytes) -> documents.SignedDocument:
    """A document with bytes where a card's signature stands: this room never looks into them."""
    return documents.SignedDocument(document, b"a CMS signature")


def negotiate(user: UserId | None = MARIA, app: str = "app") -> Negotiation:
    app_key = signing_key(app)
    sent = session.hello(make_descriptor(), app_key, NOW)
    answer = session.answer_hello(sent.hello, [make_identity()], kek(), NOW).answer
    answered = sent.answered(answer)
    login = signed(answered.login_document(user, NOW)) if user else None
    confirm_sent = answered.confirm(login, NOW)
    opened = open_confirm(confirm_sent.confirm)
    active = session.seal_active(make_identity(), opened, NOW)
    return Negotiation(app_key, sent, answer, answered, confirm_sent, opened, active, confirm_sent.active(active))


def open_confirm(data: bytes, now: int = NOW) -> session.OpenedConfirm:
    return session.open_confirm(envelope.read_command(data), {kek().id: kek()}, REPOSITORY, Milliseconds(now))


@cache
def negotiation() -> Negotiation:
    """One negotiation for all tests that only read it."""
    return negotiate()


def traffic_keys(name: str = "session") -> envelope.TrafficKeys:
    return envelope.TrafficKeys(SESSION, seed(f"c2r {name}", 32), seed(f"r2c {name}", 32))


# ---------------------------------------------------------------------------------------------- letters, receipts

BODY = "Olá! Segue a ata da reunião de ontem.".encode()
SUBJECT = "Ata da reunião"
NAMES = {MARIA: "Maria", JOAO: "João", BRUNO: "Bruno"}


def ring(user: UserId) -> dict[bytes, SealingKey]:
    """The sealing keys of a person by key id, as a keystore gives them."""
    key = sealing_key(NAMES[user])
    return {key.public.key_id: key}


def public_of(*users: UserId) -> dict[UserId, Any]:
    return {user: sealing_key(NAMES[user]).public for user in users}


def party(user: UserId) -> documents.Party:
    return documents.Party(user, digest(f"registration of {NAMES[user]}"))


def make_draft(*to: UserId, sender: UserId = MARIA, letter_id: LetterId = LETTER, body: bytes = BODY) -> letter.Draft:
    return letter.draft(REPOSITORY, letter_id, party(sender), set(to or (JOAO,)), NOW, SUBJECT, body)


def make_letter(*to: UserId, sender: UserId = MARIA) -> letter.SealedLetter:
    written = make_draft(*to, sender=sender)
    return letter.seal(written, b"a CMS signature", public_of(*written.letter.to, sender))


def make_attachment(
    data: bytes, name: str = "ata.pdf", letter_id: LetterId = LETTER
) -> tuple[letter.Attachment, list[bytes]]:
    """An attachment with secrets of its own, and its sealed chunks."""
    secrets = letter.AttachmentSecrets(name, seed(f"salt {name}", 32), seed(f"secret {name}", 32))
    attachment = AttachmentId(seed(f"id {name}", 16))
    stream = secrets.stream(letter_id, attachment, len(data))
    size = limits.CHUNK_BYTES
    chunks = [stream.seal(data[at : at + size]) for at in range(0, max(1, len(data)), size)]
    listed = sealed.Listed(attachment, stream.shape.sealed_size, stream.finish().hash)
    part = documents.Part("application/octet-stream", len(data), stream.finish().digest)
    return letter.Attachment(listed, part, secrets), chunks


def letter_with(*attachments: letter.Attachment, letter_id: LetterId = LETTER) -> letter.SealedLetter:
    """A letter of Maria to João with these attachments."""
    written = letter.draft(REPOSITORY, letter_id, party(MARIA), {JOAO}, NOW, SUBJECT, BODY, attachments=attachments)
    return letter.seal(written, b"a CMS signature", public_of(MARIA, JOAO))


@cache
def sealed_letter() -> letter.SealedLetter:
    """A letter of Maria to João and Bruno, for tests that only read it."""
    return make_letter(JOAO, BRUNO)


def opened_head(user: UserId, sealed_head: bytes | None = None) -> letter.OpenedHead:
    view = sealed.read(sealed.LETTER, sealed_head or sealed_letter().head).view(user)
    return letter.open_head(view, REPOSITORY, user, ring(user))


POSITION = documents.MailboxPosition(7, digest("entry 7"))


def make_receipt(reader: UserId = JOAO) -> bytes:
    document = receipt.draft(opened_head(reader), party(reader), POSITION, NOW)
    return receipt.seal(document, b"a CMS signature", REPOSITORY, public_of(reader, MARIA))


@cache
def sealed_receipt() -> bytes:
    """João's receipt for `sealed_letter`, for tests that only read it."""
    return make_receipt()


def make_sign_for(*to: UserId, sender: UserId = MARIA, expires: int = NOW + DAY_MS) -> sign_for.Prepared:
    written = make_draft(*to, sender=sender)
    readers = public_of(*written.letter.to, sender)
    return sign_for.seal(written, b"a CMS signature", readers, Milliseconds(expires))


@cache
def sign_for_letter() -> sign_for.Prepared:
    """A letter of Maria that João and Bruno have to sign for, for tests that only read it."""
    return make_sign_for(JOAO, BRUNO)


def slip_of(prepared: sign_for.Prepared) -> documents.Slip:
    return documents.decode(documents.Slip, prepared.slip, REPOSITORY)


# ------------------------------------------------------------------------------------------------------- mailbox


def entry(number: int, *, time: int | None = None, **changes: Any) -> mailbox.Entry:
    made = mailbox.Entry(
        number=number,
        time=Milliseconds(NOW + number if time is None else time),
        kind=mailbox.EntryKind.RECEIVED,
        routing=mailbox.EntryRouting(LetterId(seed(f"letter {number}", 16)), MARIA, (JOAO,)),
        object=digest(f"object {number}"),
    )
    return dataclasses.replace(made, **changes)


def make_deletion(
    placed: mailbox.Entry,
    entry: Digest,
    /,
    owner: UserId = JOAO,
    sign: Callable[[bytes], documents.SignedDocument] = signed,
    app: str = "app",
    **changes: Any,
) -> deletion.SignedDeletion:
    """The deletion of the letter at this entry with this hash, in a session of now; `sign`: as the card does."""
    key = signing_key(app)
    login = documents.Login(REPOSITORY, owner, SESSION, digest("transcript"), key.public.raw, NOW)
    author, letter_id = placed.routing.author, placed.routing.letter
    made = deletion.Deletion(REPOSITORY, owner, author, letter_id, placed.number, entry, SESSION, key.public.raw, NOW)
    statement = deletion.sign(key, dataclasses.replace(made, **changes))
    return deletion.SignedDeletion(statement, sign(documents.encode(login)))


# ----------------------------------------------------------------------------------------------- taking COSE apart


def reshape(data: bytes, edit: Callable[[list[Any]], Any]) -> bytes:
    """A COSE object whose fields were edited in place; nothing is signed or sealed again."""
    found = cbor.decode(data, 2**24)
    fields = list(found.value)
    edit(fields)
    return cbor.encode(CBORTag(found.tag, fields))


def with_header(data: bytes, name: int, value: Any) -> bytes:
    """A COSE object with another value of one protected header, its signature or ciphertext left as it was."""

    def edit(fields: list[Any]) -> None:
        headers = cbor.decode(fields[0])
        headers[name] = value
        fields[0] = cbor.encode(headers)

    return reshape(data, edit)


def resigned(
    data: bytes, key: cose.Signer, headers: dict[int, Any] | None = None, payload: bytes | None = None
) -> bytes:
    """A COSE_Sign1 with changed headers or payload, signed anew with `key`."""
    message = cose.read_sign1(data, 2**24)
    return cose.sign1(
        key, {**message.headers, **(headers or {})}, message.unverified_payload if payload is None else payload
    )


def flip(data: bytes, bit: int) -> bytes:
    """`data` with one bit changed."""
    changed = bytearray(data)
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    return bytes(changed)


def private_parts(sent: session.HelloSent) -> tuple[Any, Any]:
    """The ephemeral X25519 and ML-KEM private keys of a hello."""
    return sent._x25519, sent._mlkem
