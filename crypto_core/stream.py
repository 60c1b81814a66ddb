"""Attachments as streams of chunks: memory stays flat, and nothing can be cut off, moved or put together anew.

The construction is STREAM (Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", section 7) over AES-256-GCM:

    nonce of a chunk = prefix (7 bytes) ‖ position (32 bits, from 0) ‖ last (one byte: 1 for the last chunk, else 0)
    key ‖ prefix     = Expand(secret, 39, "smr/1 attachment key", letter id, attachment id)

Every chunk holds `limits.CHUNK_BYTES`, the last one what is left (an empty attachment is one empty chunk). The secret
is drawn for one attachment and travels in the sealed head of its letter. So a chunk opens at its own place in its own
attachment alone, and only the true last one as the last.

An attachment is complete when all of this holds, never before:

- each chunk opened at its position, the last one as the last, and together they have the size that was signed;
- the ciphertext is the one in the letter's protected header: `hash` = H("smr/1 attachment chunks", attachment id,
  [SHA-256 of each sealed chunk…]), since AES-GCM alone does not commit to its key;
- name and content are those that the card signed: `digest` = H("smr/1 attachment digest", salt, name, bytes).
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crypto_core import cbor, labels, limits, suite
from crypto_core.errors import BindingMismatch, DecryptionFailed, LimitExceeded, Malformed
from crypto_core.ids import AttachmentId, Digest, LetterId
from crypto_core.suite import KEY_BYTES, TAG_BYTES

PREFIX_BYTES: Final = 7
_BYTE_STRING: Final = 0x40  # RFC 8949 section 3.1, major type 2
_HEAD_FORMS: Final = ((2**8, 24, ">BB"), (2**16, 25, ">BH"), (2**32, 26, ">BI"))


@dataclass(frozen=True, slots=True)
class Shape:
    """How an attachment of `size` bytes is divided. Raises LimitExceeded for a size beyond the limit."""

    size: int

    def __post_init__(self) -> None:
        if not 0 <= self.size <= limits.ATTACHMENT_BYTES:
            raise LimitExceeded(f"an attachment of {self.size} bytes; the limit is {limits.ATTACHMENT_BYTES}")

    @classmethod
    def of_sealed(cls, size: int) -> Shape:
        """The shape whose chunks have `size` bytes together once they are sealed. Raises Malformed."""
        shape = cls(size - TAG_BYTES * max(1, -(-size // (limits.CHUNK_BYTES + TAG_BYTES))))
        if shape.sealed_size != size:
            raise Malformed(f"no attachment has {size} bytes after sealing")
        return shape

    @property
    def chunks(self) -> int:
        return max(1, -(-self.size // limits.CHUNK_BYTES))

    @property
    def sealed_size(self) -> int:
        """All sealed chunks together; bytes."""
        return self.size + TAG_BYTES * self.chunks

    def is_last(self, position: int) -> bool:
        return position == self.chunks - 1

    def chunk_bytes(self, position: int) -> int:
        """How long the chunk at `position` is before sealing. Raises Malformed for a position that there is not."""
        if not 0 <= position < self.chunks:
            raise Malformed(f"chunk {position} of an attachment that has {self.chunks}")
        return min(limits.CHUNK_BYTES, self.size - position * limits.CHUNK_BYTES)

    def sealed_bytes(self, position: int) -> int:
        """The same after sealing."""
        return self.chunk_bytes(position) + TAG_BYTES


@dataclass(frozen=True, slots=True)
class StreamKey:
    """The key of one stream with the prefix of its nonces."""

    key: bytes = field(repr=False)
    prefix: bytes = field(repr=False)

    @classmethod
    def derive(cls, secret: bytes, letter: LetterId, attachment: AttachmentId) -> StreamKey:
        """From a secret of 32 random bytes that serves this attachment alone."""
        material = suite.expand(secret, KEY_BYTES + PREFIX_BYTES, labels.ATTACHMENT_KEY, letter, attachment)
        return cls(material[:KEY_BYTES], material[KEY_BYTES:])

    def seal(self, position: int, plaintext: bytes, *, last: bool) -> bytes:
        """One chunk. Whoever calls it twice for a position must bring the same plaintext: the nonce is the same."""
        return AESGCM(self.key).encrypt(self._nonce(position, last), plaintext, None)

    def open(self, position: int, sealed: bytes, *, last: bool) -> bytes:
        """Raises DecryptionFailed for a chunk of another place or stream, and for a changed one."""
        try:
            return AESGCM(self.key).decrypt(self._nonce(position, last), sealed, None)
        except InvalidTag as error:
            raise DecryptionFailed(f"chunk {position} does not open: changed, or from another place") from error

    def _nonce(self, position: int, last: bool) -> bytes:
        return self.prefix + struct.pack(">I?", position, last)


@dataclass(frozen=True, slots=True)
class Finished:
    """What stands of an attachment that is all there: its salted digest, and the hash of its ciphertext."""

    digest: Digest
    hash: Digest


class AttachmentStream:
    """One pass over one attachment, from its first chunk to its last, in either direction."""

    def __init__(self, key: StreamKey, attachment: AttachmentId, size: int, salt: bytes, name: str) -> None:
        """`size`: bytes before sealing. Raises LimitExceeded."""
        self.shape = Shape(size)
        self.position = 0  #: of the chunk that comes next
        self._key = key
        self._attachment = attachment
        self._content = _content_hash(salt, name, size)
        self._chunks: list[Digest] = []

    def seal(self, plaintext: bytes) -> bytes:
        """The next chunk, sealed. Raises Malformed unless it is as long as it must be."""
        self._require_length(len(plaintext), self.shape.chunk_bytes(self.position))
        sealed = self._key.seal(self.position, plaintext, last=self.shape.is_last(self.position))
        self._count(plaintext, sealed)
        return sealed

    def open(self, sealed: bytes) -> bytes:
        """The next chunk, opened: authentic, but nothing is complete before `require`.

        Raises Malformed, DecryptionFailed.
        """
        self._require_length(len(sealed), self.shape.sealed_bytes(self.position))
        plaintext = self._key.open(self.position, sealed, last=self.shape.is_last(self.position))
        self._count(plaintext, sealed)
        return plaintext

    @property
    def last_hash(self) -> Digest:
        """SHA-256 of the sealed chunk that was counted last. Raises Malformed before the first."""
        if not self._chunks:
            raise Malformed("no chunk was counted yet")
        return self._chunks[-1]

    def finish(self) -> Finished:
        """Digest and hash. Raises Malformed while a chunk is missing."""
        if self.position != self.shape.chunks:
            raise Malformed(f"{self.position} of {self.shape.chunks} chunks are there: the end is missing")
        return Finished(
            Digest(self._content.copy().digest()),
            suite.labelled_hash(labels.ATTACHMENT_CHUNKS, self._attachment, self._chunks),
        )

    def require(self, digest: Digest, hash_: Digest) -> None:
        """Raises Malformed while a chunk is missing, BindingMismatch unless it is what was signed and listed."""
        found = self.finish()
        if not suite.equal(found.hash, hash_):
            raise BindingMismatch("the attachment's ciphertext is not the one that the letter lists")
        if not suite.equal(found.digest, digest):
            raise BindingMismatch("the attachment was changed after the letter was signed")

    def _require_length(self, found: int, wanted: int) -> None:
        if found != wanted:
            raise Malformed(f"chunk {self.position} has {found} bytes and not {wanted}")

    def _count(self, plaintext: bytes, sealed: bytes) -> None:
        self._content.update(plaintext)
        self._chunks.append(suite.sha256(sealed))
        self.position += 1


def digest(salt: bytes, name: str, data: bytes) -> Digest:
    """The salted digest of a whole attachment, as the card signs it."""
    return suite.labelled_hash(labels.ATTACHMENT_DIGEST, salt, name, data)


def _content_hash(salt: bytes, name: str, size: int) -> hashlib._Hash:
    """`digest` before its first byte: the bytes of the array up to the content, whose length is known already."""
    before = cbor.encode([labels.ATTACHMENT_DIGEST, salt, name, b""])
    return hashlib.sha256(before[:-1] + _byte_string_head(size))


def _byte_string_head(size: int) -> bytes:
    """How a byte string of this length begins, in the shortest form (RFC 8949 section 4.2.1)."""
    if size < 24:
        return bytes([_BYTE_STRING | size])
    for bound, kind, form in _HEAD_FORMS:
        if size < bound:
            return struct.pack(form, _BYTE_STRING | kind, size)
    raise LimitExceeded("a byte string of 4 GiB or more")
