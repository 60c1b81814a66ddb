"""Letters: what is sealed, and how a reader takes it apart.

A letter has two sealed parts under one content secret. The *head* (a sealed object) holds the signed content document,
the subject and the salts; the *body* (a COSE_Encrypt0) lies beside it, named by its hash in the head's protected
header, so that a client can show a list without fetching bodies.

Opening a letter here proves that it was sealed for this reader and that all parts belong together. Who signed it is
checked by the caller, over `OpenedHead.signed`, with the registration that the document names.

Attachments are streams of chunks (see `stream`), which are with the repository before the letter is. Document,
protected header and head each say a part of what an attachment is, in one order; here the parts are brought together.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Final

from crypto_core import cbor, cose, documents, labels, limits, schema, sealed, suite
from crypto_core.documents import Letter, Part, Party, SignedDocument
from crypto_core.errors import BindingMismatch, LimitExceeded, Malformed
from crypto_core.evidence import Evidence
from crypto_core.ids import (
    LETTER_ID_BYTES,
    SALT_BYTES,
    AttachmentId,
    Digest,
    LetterId,
    Milliseconds,
    NonceField,
    RepositoryId,
    UserId,
)
from crypto_core.keys import SealingKey, SealingPublicKey
from crypto_core.schema import Size
from crypto_core.sealed import ContentSecret, Kind, Listed, SealedView
from crypto_core.stream import AttachmentStream, Shape, StreamKey

SUBJECT_MEDIA_TYPE: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class AttachmentSecrets:
    """What of an attachment travels in the sealed head: the name, the salt of its digest, and the secret of its key."""

    name: Annotated[str, Size(1, limits.ATTACHMENT_NAME_BYTES)]
    salt: NonceField = field(repr=False)
    secret: Annotated[bytes, Size(suite.SECRET_BYTES, suite.SECRET_BYTES)] = field(repr=False)

    def stream(self, letter: LetterId, attachment: AttachmentId, size: int) -> AttachmentStream:
        """One pass over the attachment; `size`: bytes before sealing. Raises LimitExceeded."""
        key = StreamKey.derive(self.secret, letter, attachment)
        return AttachmentStream(key, attachment, size, self.salt, self.name)


@dataclass(frozen=True, slots=True)
class Attachment:
    """One attachment of a letter: as the repository sees it, as the card signs it, and what only readers know."""

    listed: Listed
    part: Part
    secrets: AttachmentSecrets

    def stream(self, letter: LetterId) -> AttachmentStream:
        """One pass over it, to be ended with `require`."""
        return self.secrets.stream(letter, self.listed.id, self.part.size)

    def require(self, stream: AttachmentStream) -> None:
        """Raises ProtocolError unless the whole attachment went through `stream`, as it was signed and listed."""
        stream.require(self.part.digest, self.listed.hash)


@dataclass(frozen=True, slots=True)
class Head:
    """The plaintext of a head part. The salts stay outside of the document, so that a redacted proof says nothing."""

    signed: SignedDocument
    subject: Annotated[str, Size(0, limits.SUBJECT_BYTES)]
    subject_salt: NonceField
    body_salt: NonceField
    evidence: Evidence | None
    attachments: Annotated[tuple[AttachmentSecrets, ...], Size(1, limits.ATTACHMENTS)] | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A letter ready to be signed: the document's bytes go to the card, everything else waits for the signature."""

    document: bytes
    letter: Letter
    subject: str
    subject_salt: bytes
    body: bytes
    body_salt: bytes
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class SealedLetter:
    """The two parts that go to the repository."""

    head: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class OpenedHead:
    """An opened head: bound to this reader, letter and author; its card signature is not verified here."""

    letter: Letter
    signed: SignedDocument
    subject: str
    subject_salt: bytes
    body_salt: bytes
    body_hash: Digest
    secret: ContentSecret
    evidence: Evidence | None  #: of the author's certificates, as sent along; nothing of it is verified here
    attachments: tuple[Attachment, ...] = ()  #: each complete only after `Attachment.require`


def draft(
    repository: RepositoryId,
    letter_id: LetterId,
    sender: Party,
    to: set[UserId],
    time: Milliseconds,
    subject: str,
    body: bytes,
    media_type: str = SUBJECT_MEDIA_TYPE,
    attachments: Sequence[Attachment] = (),
    references: Sequence[Digest] = (),
) -> Draft:
    """A letter with fresh salts. Raises LimitExceeded before anything is signed.

    `references` are the digests of the letter documents that it answers, the answered one last. A sender is among the
    recipients only when writing to nobody else: they have the copy anyway.
    """
    if len(body) > limits.BODY_BYTES:
        raise LimitExceeded(f"the body has {len(body)} bytes; the limit is {limits.BODY_BYTES}")
    try:
        subject_bytes = subject.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Malformed("the subject holds half of a character") from error
    if len(subject_bytes) > limits.SUBJECT_BYTES:
        raise LimitExceeded(f"the subject has more than {limits.SUBJECT_BYTES} bytes")
    if len(to) > limits.RECIPIENTS:
        raise LimitExceeded(f"{len(to)} recipients; the limit is {limits.RECIPIENTS}")
    if len(references) > documents.REFERENCES:
        raise LimitExceeded(f"{len(references)} references; the limit is {documents.REFERENCES}")
    others = to - {sender.user} or to
    subject_salt, body_salt = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(SALT_BYTES)
    document = Letter(
        repository=repository,
        id=letter_id,
        from_=sender,
        to=documents.recipients_in_order(others),
        time=time,
        subject=Part(SUBJECT_MEDIA_TYPE, len(subject_bytes), part_digest(subject_salt, subject_bytes)),
        body=Part(media_type, len(body), part_digest(body_salt, body)),
        attachments=tuple(each.part for each in attachments),
        references=tuple(references),
    )
    return Draft(documents.encode(document), document, subject, subject_salt, body, body_salt, tuple(attachments))


def seal(
    written: Draft,
    signature: bytes,
    readers: Mapping[UserId, SealingPublicKey],
    evidence: Evidence | None = None,
) -> SealedLetter:
    """Seals a signed draft for `readers`: the recipients and the sender. `evidence` is about the sender."""
    return seal_parts(sealed.LETTER, written, signature, readers, evidence, ContentSecret.generate())


def seal_parts(
    kind: Kind,
    written: Draft,
    signature: bytes,
    readers: Mapping[UserId, SealingPublicKey],
    evidence: Evidence | None,
    secret: ContentSecret,
    shares: Mapping[UserId, bytes] = MappingProxyType({}),
) -> SealedLetter:
    """Seals a signed draft as an object of this kind, under a fresh `secret`; `shares` as `sealed.seal` takes them."""
    document = written.letter
    if readers.keys() != {*document.to, document.from_.user}:
        raise BindingMismatch("the sealing keys are not those of the sender and the recipients of the document")
    body = cose.encrypt0(
        secret.key(labels.LETTER_BODY, document.id),
        {cose.ALG: cose.ALG_A256GCM_COMMITTING, cose.LABEL: labels.LETTER_BODY, cose.LETTER: document.id},
        written.body,
    )
    signed = SignedDocument(written.document, signature)
    kept = tuple(each.secrets for each in written.attachments) or None
    head = Head(signed, written.subject, written.subject_salt, written.body_salt, evidence, kept)
    sealed_head = sealed.seal(
        kind,
        document.repository,
        document.id,
        document.from_.user,
        readers,
        secret,
        cbor.encode(schema.to_map(head)),
        signed,
        suite.sha256(body),
        shares,
        [each.listed for each in written.attachments],
    )
    return SealedLetter(sealed_head, body)


def open_head(
    view: SealedView, repository: RepositoryId, reader: UserId, keys: Mapping[bytes, SealingKey]
) -> OpenedHead:
    """Opens a head and checks that document, routing, readers and subject belong together.

    Raises ProtocolError: BindingMismatch when the parts are of different letters or `reader` is not named in it.
    """
    secret = ContentSecret(view.unwrap(sealed.LETTER, repository, reader, keys))
    return open_with(sealed.LETTER, view, repository, reader, secret)


def open_with(
    kind: Kind, view: SealedView, repository: RepositoryId, reader: UserId, secret: ContentSecret
) -> OpenedHead:
    """As `open_head`, for whoever has the content secret already."""
    routing = view.routing(kind)
    plaintext = view.decrypt(kind, secret)
    head = schema.from_map(Head, cbor.decode(plaintext, limits.HEAD_BYTES))
    routing.require(head.signed)
    document = documents.decode(Letter, head.signed.document, repository)
    if document.id != routing.letter or document.from_.user != routing.author:
        raise BindingMismatch("the signed document is of another letter than the one it came with")
    if reader != document.from_.user and reader not in document.to:
        raise BindingMismatch("the signed document does not name you among its recipients")
    # Who is named must be able to read it, and nobody else: else a reader would believe in other readers.
    if len(view.wraps) != len({*document.to, document.from_.user}):
        raise BindingMismatch("the letter is sealed for other people than the signed document names")
    _require_part(document.subject, head.subject_salt, head.subject.encode("utf-8"), "subject")
    if routing.body_hash is None:
        raise BindingMismatch("the head names no body")
    return OpenedHead(
        document,
        head.signed,
        head.subject,
        head.subject_salt,
        head.body_salt,
        routing.body_hash,
        secret,
        head.evidence,
        _attachments(routing.attachments, document.attachments, head.attachments or ()),
    )


def open_body(head: OpenedHead, sealed_body: bytes) -> bytes:
    """The body of an opened head. Raises BindingMismatch if it is not the one that was signed."""
    if suite.sha256(sealed_body) != head.body_hash:
        raise BindingMismatch("the body is not the one that belongs to this letter")
    message = cose.read_encrypt0(sealed_body, limits.SEALED_BODY_BYTES)
    found = cose.expect(
        message.headers,
        cose.ALG_A256GCM_COMMITTING,
        labels.LETTER_BODY,
        letter=(cose.LETTER, bytes, LETTER_ID_BYTES, LETTER_ID_BYTES),
    )
    if found["letter"] != head.letter.id:
        raise BindingMismatch("the body is of another letter")
    body = message.decrypt(head.secret.key(labels.LETTER_BODY, head.letter.id))
    _require_part(head.letter.body, head.body_salt, body, "body")
    return body


def _attachments(
    listed: Sequence[Listed], parts: Sequence[Part], kept: Sequence[AttachmentSecrets]
) -> tuple[Attachment, ...]:
    """What header, document and head say of the attachments, brought together. Raises BindingMismatch."""
    if not len(listed) == len(parts) == len(kept):
        raise BindingMismatch("header, document and head of the letter name different attachments")
    found = tuple(map(Attachment, listed, parts, kept))
    if any(Shape(each.part.size) != each.listed.shape for each in found):
        raise BindingMismatch("an attachment is listed with another size than the signed one")
    return found


def part_digest(salt: bytes, data: bytes) -> Digest:
    """The digest of a part in the content document: SHA-256 over label, salt (32 bytes) and the part's bytes."""
    return suite.labelled_hash(labels.CONTENT_DIGEST, salt, data)


def _require_part(part: Part, salt: bytes, data: bytes, name: str) -> None:
    if part.size != len(data) or not suite.equal(part.digest, part_digest(salt, data)):
        raise BindingMismatch(f"the {name} was changed after the letter was signed")
