"""Attachments before and beside their letters: uploads that were begun, and sealed chunks.

    UPLOAD: begun ──▶ PUT_CHUNK … ──▶ SEND: its uploads are touched, the letter is stored, they are marked as sent

Each chunk is one insertion, journalled by a majority. A chunk stands once under its upload and position: brought again
it changes nothing, and another one in its place is refused. What waits for its letter is bounded for each citizen, by
declared size; two uploads that begin at the same moment may pass that bound by the smaller one.

SEND touches its uploads before the letter is stored. The sweep claims an upload that nobody touched for
`limits.UPLOAD_MS` (its size becomes 0, and it cannot be touched any more), takes its chunks away, and then itself. So
no letter is stored whose chunks are being swept, and what a sweep that ends early leaves, the next one sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError
from pymongo.write_concern import WriteConcern

from crypto_core import moments
from crypto_core.ids import AttachmentId, LetterId, UserId
from crypto_core.sealed import Listed
from crypto_core.stream import Shape
from repository_worker.effects import OpenUpload, Outcome, StoreChunk
from repository_worker.errors import Conflict, UploadsFull
from repository_worker.storage import collections as names
from repository_worker.storage import documents
from repository_worker.storage.chains import Quota
from repository_worker.storage.driver import Document

#: Uploads that one citizen may have waiting for their letters.
OPEN_UPLOADS: Final = 256
#: Not claimed by a sweep.
_HERE: Final[Document] = {"size": {"$gt": 0}}


#: A date before all others: what has it is due at the next sweep.
LONG_AGO: Final = datetime.fromtimestamp(0, UTC)


def give_up(uploads: Collection[Document], letters: Sequence[bytes]) -> None:
    """The attachments of letters (by `_id`) whose bodies went: they go with the uploads that nobody needs."""
    uploads.update_many({"letter": {"$in": list(letters)}}, {"$set": {"sent": False, "stored": LONG_AGO}})


class Uploads:
    """The uploads and chunks of one repository. Thread-safe. Methods raise PyMongoError."""

    def __init__(self, database: Database[Document], quota: Quota) -> None:
        self._uploads = database[names.UPLOADS]
        self._hints = self._uploads.with_options(write_concern=WriteConcern(w=0))
        self._chunks = database[names.CHUNKS]
        self._quota = quota

    # --- uploading ------------------------------------------------------------------------------------------------

    def begin(self, effect: OpenUpload) -> Outcome:
        """Begins an upload, or touches it when it was begun. Raises Conflict, UploadsFull."""
        key = documents.upload_key(effect.author, effect.letter, effect.attachment)
        now = moments.to_datetime(effect.now)
        found = self._uploads.find_one_and_update({"_id": key, **_HERE}, {"$set": {"stored": now}})
        if found is None:
            self._require_room(effect)
            found = self._insert(key, effect, now)
        if found["size"] != effect.size:
            raise Conflict("this upload was begun with another size, or is being removed")
        return Outcome(there=self._there(key, Shape.of_sealed(effect.size)))

    def _insert(self, key: bytes, effect: OpenUpload, now: datetime) -> Document:
        letter = documents.letter_key(effect.author, effect.letter)
        document = {"author": effect.author, "letter": letter, "size": effect.size, "stored": now, "sent": False}
        try:
            self._uploads.insert_one({"_id": key, **document})
        except DuplicateKeyError:
            return self._uploads.find_one({"_id": key}) or document  # begun twice at the same moment
        return document

    def _require_room(self, effect: OpenUpload) -> None:
        waiting = self._uploads.find({"author": effect.author, "sent": False}, {"size": 1}).limit(OPEN_UPLOADS)
        sizes = [int(each["size"]) for each in waiting]
        if len(sizes) >= OPEN_UPLOADS or sum(sizes) + effect.size > self._quota.upload_bytes:
            raise UploadsFull("too much waits for letters that were not sent")

    def _there(self, key: bytes, shape: Shape) -> bytes:
        bits = bytearray(-(-shape.chunks // 8))
        for each in self._chunks.find(documents.chunks_of(key), {"_id": 1}):
            position = int.from_bytes(each["_id"][-documents.POSITION_BYTES :], "big")
            bits[position // 8] |= 1 << position % 8
        return bytes(bits)

    def store(self, effect: StoreChunk) -> Outcome:
        """Stores a chunk. Raises Conflict when another one stands in its place."""
        upload = documents.upload_key(effect.author, effect.letter, effect.attachment)
        key = documents.chunk_key(upload, effect.position)
        try:
            self._chunks.insert_one({"_id": key, "chunk": effect.chunk})
        except DuplicateKeyError as error:
            found = self._chunks.find_one({"_id": key})
            if found is not None and found["chunk"] != effect.chunk:
                raise Conflict("another chunk is stored at this position") from error
        return Outcome()

    # --- for a letter ---------------------------------------------------------------------------------------------

    def keep(self, author: UserId, letter: LetterId, attachments: Sequence[Listed], now: datetime) -> bool:
        """Touches the uploads of a letter, so that no sweep takes them; whether all are still there."""
        keys = [documents.upload_key(author, letter, each.id) for each in attachments]
        touched = self._uploads.update_many({"_id": {"$in": keys}, **_HERE}, {"$set": {"stored": now}})
        return touched.matched_count == len(keys)

    def mark_sent(self, author: UserId, letter: LetterId) -> None:
        """The letter is stored: its uploads do not wait any more. Nobody waits for this either; a sweep mends it."""
        self._hints.update_many({"letter": documents.letter_key(author, letter)}, {"$set": {"sent": True}})

    # --- reading --------------------------------------------------------------------------------------------------

    def size(self, author: UserId, letter: LetterId, attachment: AttachmentId) -> int | None:
        key = documents.upload_key(author, letter, attachment)
        found = self._uploads.find_one({"_id": key, **_HERE}, {"size": 1})
        return int(found["size"]) if found else None

    def incomplete(self, author: UserId, letter: LetterId, attachments: Sequence[Listed]) -> tuple[AttachmentId, ...]:
        return tuple(each.id for each in attachments if not self._is_complete(author, letter, each))

    def _is_complete(self, author: UserId, letter: LetterId, listed: Listed) -> bool:
        if self.size(author, letter, listed.id) != listed.size:
            return False
        chunks = documents.chunks_of(documents.upload_key(author, letter, listed.id))
        return self._chunks.count_documents(chunks) == listed.shape.chunks

    def chunk(self, author: UserId, letter: LetterId, attachment: AttachmentId, position: int) -> bytes | None:
        key = documents.chunk_key(documents.upload_key(author, letter, attachment), position)
        found = self._chunks.find_one({"_id": key})
        return bytes(found["chunk"]) if found else None
