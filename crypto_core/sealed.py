"""Sealed objects: one ciphertext, readable by its recipients and by its author (the copy), by nobody else.

A sealed object is a COSE_Encrypt. A fresh content secret of 32 bytes is wrapped for each reader with HPKE; the wrap's
info names repository, letter, author and reader, so that a wrap serves in no other place. From the content secret
come, by HKDF-Expand with different labels and the letter id, the content key and IV, and a commitment that stands in
the protected header and is checked before anything is decrypted: AES-GCM alone does not commit to its key, and without
the commitment one ciphertext could be made to open to different letters for different readers.

The protected header also names the signed document inside and its signature, by their SHA-256. Both are unguessable, so
they give nothing away; and what the repository records about a sealed object is thereby about exactly this signed
document, which anybody can check who has it. Readers compare both after opening.

The repository hands each reader a `SealedView`: everything but the other readers' wraps, of which it gives the hashes,
so that every reader computes the same object hash, the one in the mailbox chain.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, Any

from crypto_core import cbor, cose, labels, limits, suite
from crypto_core.documents import SignedDocument
from crypto_core.errors import BindingMismatch, DecryptionFailed, LimitExceeded, Malformed
from crypto_core.ids import (
    ATTACHMENT_ID_BYTES,
    DIGEST_BYTES,
    LETTER_ID_BYTES,
    USER_ID_BYTES,
    AttachmentId,
    Digest,
    DigestField,
    LetterId,
    RepositoryId,
    UserId,
)
from crypto_core.keys import KEY_ID_BYTES, SealingKey, SealingPublicKey
from crypto_core.schema import Size
from crypto_core.stream import Shape
from crypto_core.suite import ContentKey

WRAP_BYTES = 4 * limits.KIB


@dataclass(frozen=True, slots=True)
class Kind:
    """What is sealed: its label, the label of its wraps, its size limit, and whether a body lies beside it.

    Where there is a `share_label`, only the author's wrap holds the content secret; the others' hold the first of two
    shares of a key (see `sign_for`), under that label.
    """

    label: str
    wrap_label: str
    max_bytes: int
    has_body: bool
    share_label: str | None = None

    def label_of_wrap(self, author: UserId, reader: UserId) -> str:
        return self.wrap_label if self.share_label is None or reader == author else self.share_label


LETTER = Kind(labels.LETTER, labels.LETTER_WRAP, limits.SEALED_HEAD_BYTES, has_body=True)
RECEIPT = Kind(labels.RECEIPT, labels.RECEIPT_WRAP, limits.RECEIPT_BYTES, has_body=False)
SIGN_FOR = Kind(
    labels.SIGN_FOR_LETTER,
    labels.SIGN_FOR_COPY_WRAP,
    limits.SEALED_HEAD_BYTES,
    has_body=True,
    share_label=labels.SIGN_FOR_SHARE_WRAP,
)
REASON = Kind(labels.REFUSAL_REASON, labels.REFUSAL_REASON_WRAP, limits.SEALED_REASON_BYTES, has_body=False)


@dataclass(frozen=True, slots=True)
class ContentSecret:
    """32 random bytes from which the keys of one sealed object come."""

    raw: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> ContentSecret:
        return cls(secrets.token_bytes(suite.SECRET_BYTES))

    def key(self, label: str, letter: LetterId) -> ContentKey:
        return ContentKey.derive(self.raw, labels.CONTENT_KEY, label, letter)

    def commitment(self, label: str, letter: LetterId) -> bytes:
        return suite.expand(self.raw, DIGEST_BYTES, labels.COMMITMENT, label, letter)


@dataclass(frozen=True, slots=True)
class Listed:
    """An attachment as the repository sees it: the size of all sealed chunks, and `stream.Finished.hash`."""

    id: AttachmentId
    size: int
    hash: Digest

    @property
    def shape(self) -> Shape:
        """How it is divided. Raises Malformed for a size that no attachment has."""
        return Shape.of_sealed(self.size)


@dataclass(frozen=True, slots=True)
class Routing:
    """What the protected header says: public to the repository, believed by readers only after opening."""

    letter: LetterId
    author: UserId
    body_hash: Digest | None
    commitment: bytes
    document: Digest
    signature: Digest
    attachments: tuple[Listed, ...] = ()

    def require(self, signed: SignedDocument) -> None:
        """Raises BindingMismatch unless this names exactly that document with that signature."""
        if (self.document, self.signature) != (signed.digest, signed.signature_digest):
            raise BindingMismatch("the signed document is another one than the sealed object names")


@dataclass(frozen=True, slots=True)
class SealedView:
    """A sealed object as one reader gets it. `wraps` are the SHA-256 of all encoded wraps, in their order."""

    protected: Annotated[bytes, Size(1, limits.PROTECTED_BYTES)]
    ciphertext: Annotated[bytes, Size(suite.TAG_BYTES, limits.SEALED_HEAD_BYTES)]
    wrap: Annotated[bytes, Size(1, WRAP_BYTES)]
    wraps: Annotated[tuple[DigestField, ...], Size(1, limits.RECIPIENTS + 1)]

    @property
    def object_hash(self) -> Digest:
        return _object_hash(self.protected, self.ciphertext, self.wraps)

    def routing(self, kind: Kind) -> Routing:
        """Raises Malformed."""
        return routing_in(kind, self.protected)

    def open(
        self, kind: Kind, repository: RepositoryId, reader: UserId, keys: Mapping[bytes, SealingKey]
    ) -> tuple[ContentSecret, bytes]:
        """The content secret and the plaintext. `keys` are the reader's sealing keys by key id.

        Raises DecryptionFailed when none of the keys opens it, BindingMismatch when it is wrapped for somebody else or
        the commitment does not hold, Malformed for bytes that are no sealed object.
        """
        secret = ContentSecret(self.unwrap(kind, repository, reader, keys))
        return secret, self.decrypt(kind, secret)

    def unwrap(self, kind: Kind, repository: RepositoryId, reader: UserId, keys: Mapping[bytes, SealingKey]) -> bytes:
        """What was sealed for `reader`: the content secret, or the first of two shares. Raises as `open` does."""
        routing = self.routing(kind)
        if suite.sha256(self.wrap) not in self.wraps:
            raise BindingMismatch("the key wrap is not one of this object")
        recipient = cose.read_recipient(cbor.decode(self.wrap, WRAP_BYTES))
        user, key_id = _read_wrap_headers(kind, routing.author, recipient)
        if user != reader:
            raise BindingMismatch("the key wrap is for somebody else")
        if key_id not in keys:
            raise DecryptionFailed(
                f"sealed for the key {key_id.hex()}, which is not in this keystore; restore the backup that has it"
            )
        info = _wrap_info(kind, repository, routing.letter, routing.author, reader)
        return recipient.unwrap(keys[key_id], cose.ALG_A256GCM_COMMITTING, info)

    def decrypt(self, kind: Kind, secret: ContentSecret) -> bytes:
        """The plaintext. Raises BindingMismatch when the commitment does not hold, DecryptionFailed, Malformed."""
        routing = self.routing(kind)
        _require_commitment(kind, routing, secret)
        return cose.decrypt_content(self.protected, self.ciphertext, secret.key(kind.label, routing.letter))


@dataclass(frozen=True, slots=True)
class SealedObject:
    """A whole sealed object, as the author hands it in and the repository stores it once."""

    protected: bytes
    ciphertext: bytes
    wraps: tuple[tuple[UserId, bytes], ...]
    routing: Routing

    @property
    def readers(self) -> tuple[UserId, ...]:
        return tuple([user for user, _ in self.wraps])

    @property
    def recipients(self) -> tuple[UserId, ...]:
        """The readers but the author; the author alone when nobody else is there (a letter to oneself)."""
        readers, author = self.readers, self.routing.author
        return tuple([user for user in readers if user != author]) or readers

    @property
    def object_hash(self) -> Digest:
        return _object_hash(self.protected, self.ciphertext, self._wrap_hashes())

    def view(self, reader: UserId) -> SealedView:
        """What `reader` may see. Raises BindingMismatch if it is not sealed for them."""
        for user, wrap in self.wraps:
            if user == reader:
                return SealedView(self.protected, self.ciphertext, wrap, self._wrap_hashes())
        raise BindingMismatch("this object is not sealed for that person")

    def _wrap_hashes(self) -> tuple[Digest, ...]:
        return tuple([suite.sha256(wrap) for _, wrap in self.wraps])


def seal(
    kind: Kind,
    repository: RepositoryId,
    letter: LetterId,
    author: UserId,
    readers: Mapping[UserId, SealingPublicKey],
    secret: ContentSecret,
    plaintext: bytes,
    signed: SignedDocument,
    body_hash: Digest | None = None,
    shares: Mapping[UserId, bytes] = MappingProxyType({}),
    attachments: Sequence[Listed] = (),
) -> bytes:
    """An encoded sealed object for `readers`, to whom the author must belong (the copy).

    `signed` is the signed document in `plaintext`, which the header names. `body_hash` is the SHA-256 of the sealed
    body, and `attachments` what lies beside it, for kinds that have one. `secret` must be fresh: its keys serve once.
    `shares` are sealed instead of the content secret, for kinds that have a label for them: one for each reader but the
    author.
    """
    if author not in readers:
        raise Malformed("the author is not among the readers: there would be no copy")
    if shares.keys() != (readers.keys() - {author} if kind.share_label else set()):
        raise Malformed("the shares are not those of the readers")
    headers: dict[int, Any] = {
        cose.ALG: cose.ALG_A256GCM_COMMITTING,
        cose.LABEL: kind.label,
        cose.LETTER: letter,
        cose.SENDER: author,
        cose.COMMITMENT: secret.commitment(kind.label, letter),
        cose.DOCUMENT: signed.digest,
        cose.DOCUMENT_SIGNATURE: signed.signature_digest,
    }
    if body_hash is not None:
        headers[cose.BODY_HASH] = body_hash
    if attachments:
        headers[cose.ATTACHMENTS] = [[each.id, each.size, each.hash] for each in attachments]
    recipients = [
        cose.wrap(
            readers[user],
            shares.get(user, secret.raw),
            _wrap_headers(kind, author, user, readers[user].key_id),
            cose.ALG_A256GCM_COMMITTING,
            _wrap_info(kind, repository, letter, author, user),
        )
        for user in sorted(readers)
    ]
    return cose.encrypt(secret.key(kind.label, letter), cbor.encode(headers), plaintext, recipients)


def read(kind: Kind, data: bytes) -> SealedObject:
    """Takes a sealed object apart and checks its form: headers, order and uniqueness of readers, a copy for the author.

    Raises Malformed or LimitExceeded.
    """
    message = cose.read_encrypt(data, kind.max_bytes)
    routing = _routing(kind, message.headers)
    users = [_read_wrap_headers(kind, routing.author, recipient)[0] for recipient in message.recipients]
    if any(a >= b for a, b in pairwise(users)):
        raise Malformed("readers are not in ascending order, or one stands twice")
    if routing.author not in users:
        raise Malformed("there is no copy for the author")
    if len(users) > limits.RECIPIENTS + 1:
        raise Malformed(f"more than {limits.RECIPIENTS} recipients")
    wraps = tuple(cbor.encode(recipient.encode()) for recipient in message.recipients)
    if any(len(wrap) > WRAP_BYTES for wrap in wraps):
        raise Malformed("a key wrap over its limit")
    return SealedObject(message.protected, message.ciphertext, tuple(zip(users, wraps, strict=True)), routing)


def listed_in(protected: bytes) -> tuple[Listed, ...]:
    """The attachments in the protected header of a letter of either kind, which was read before. Raises Malformed."""
    headers = cbor.decode(protected, limits.PROTECTED_BYTES)
    return _attachments(headers[cose.ATTACHMENTS]) if cose.ATTACHMENTS in headers else ()


def routing_in(kind: Kind, protected: bytes) -> Routing:
    """What the protected header of a sealed object of this kind says. Raises Malformed."""
    return _routing(kind, cbor.decode(protected, limits.PROTECTED_BYTES))


def _routing(kind: Kind, headers: cose.Headers) -> Routing:
    wanted: dict[str, tuple[int, type, int, int]] = {
        "letter": (cose.LETTER, bytes, LETTER_ID_BYTES, LETTER_ID_BYTES),
        "author": (cose.SENDER, bytes, USER_ID_BYTES, USER_ID_BYTES),
        "commitment": (cose.COMMITMENT, bytes, DIGEST_BYTES, DIGEST_BYTES),
        "document": (cose.DOCUMENT, bytes, DIGEST_BYTES, DIGEST_BYTES),
        "signature": (cose.DOCUMENT_SIGNATURE, bytes, DIGEST_BYTES, DIGEST_BYTES),
    }
    if kind.has_body:
        wanted["body_hash"] = (cose.BODY_HASH, bytes, DIGEST_BYTES, DIGEST_BYTES)
    if type(headers) is not dict:
        raise Malformed("protected headers are a map")
    attachments: tuple[Listed, ...] = ()
    if kind.has_body and cose.ATTACHMENTS in headers:
        attachments = _attachments(headers[cose.ATTACHMENTS])
        headers = {name: value for name, value in headers.items() if name != cose.ATTACHMENTS}
    found = cose.expect(headers, cose.ALG_A256GCM_COMMITTING, kind.label, **wanted)
    return Routing(
        found["letter"],
        found["author"],
        found.get("body_hash"),
        found["commitment"],
        found["document"],
        found["signature"],
        attachments,
    )


def _attachments(value: Any) -> tuple[Listed, ...]:
    """The header ATTACHMENTS, which a letter without attachments does not have. Raises Malformed."""
    if type(value) is not list or not value:
        raise Malformed("the list of attachments is no list, or empty")
    if len(value) > limits.ATTACHMENTS:
        raise LimitExceeded(f"{len(value)} attachments; the limit is {limits.ATTACHMENTS}")
    listed = tuple(map(_listed, value))
    if len({each.id for each in listed}) != len(listed):
        raise Malformed("an attachment stands twice in its letter")
    return listed


def _listed(value: Any) -> Listed:
    if type(value) is not list or [type(each) for each in value] != [bytes, int, bytes]:
        raise Malformed("an attachment is listed as id, size and hash")
    listed = Listed(*value)
    if len(listed.id) != ATTACHMENT_ID_BYTES or len(listed.hash) != DIGEST_BYTES:
        raise Malformed("an attachment is listed with an id or a hash of another size")
    _ = listed.shape  # which refuses a size that none has
    return listed


def _require_commitment(kind: Kind, routing: Routing, secret: ContentSecret) -> None:
    if len(secret.raw) != suite.SECRET_BYTES:
        raise Malformed("a content secret has 32 bytes")
    if not suite.equal(secret.commitment(kind.label, routing.letter), routing.commitment):
        raise BindingMismatch("the key commitment does not hold: this object was made to open in several ways")


def _wrap_headers(kind: Kind, author: UserId, reader: UserId, key_id: bytes) -> dict[int, Any]:
    return {
        cose.ALG: cose.ALG_HPKE_9_KE,
        cose.LABEL: kind.label_of_wrap(author, reader),
        cose.KID: key_id,
        cose.RECIPIENT: reader,
    }


def _read_wrap_headers(kind: Kind, author: UserId, recipient: cose.Recipient) -> tuple[UserId, bytes]:
    label = kind.label_of_wrap(author, UserId(recipient.headers.get(cose.RECIPIENT, b"")))
    found = cose.expect(
        recipient.headers,
        cose.ALG_HPKE_9_KE,
        label,
        user=(cose.RECIPIENT, bytes, USER_ID_BYTES, USER_ID_BYTES),
        key_id=(cose.KID, bytes, KEY_ID_BYTES, KEY_ID_BYTES),
    )
    return UserId(found["user"]), found["key_id"]


def _wrap_info(kind: Kind, repository: RepositoryId, letter: LetterId, author: UserId, reader: UserId) -> bytes:
    return cbor.encode([kind.label_of_wrap(author, reader), repository, letter, author, reader])


def _object_hash(protected: bytes, ciphertext: bytes, wraps: Iterable[bytes]) -> Digest:
    return suite.labelled_hash(labels.SEALED_OBJECT, suite.sha256(protected), suite.sha256(ciphertext), list(wraps))
