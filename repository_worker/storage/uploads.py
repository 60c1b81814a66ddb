"""Attachments before and beside their letters: uploads that were begun, and sealed chunks.

    UPLOAD: begun ──▶ PUT_CHUNK … ──▶ SEND: its uploads are touched, the letter is stored, they are marked as sent

Chunks that come together are one insertion, journalled by a majority. A chunk stands once under its upload and
position: brought again it changes nothing, and another one in its place is refused. What waits for its letter is
bounded for each citizen, by declared size; two uploads that begin at the same moment may pass that bound by the
smaller one.

SEND touches its uploads before the letter is stored. The sweep claims an upload that nobody touched for
`limits.UPLOAD_MS` (its size becomes 0, and it cannot be touched any more), takes its chunks away, and then itself. So
no letter is stored whose chunks are being swept, and what a sweep that ends early leaves, the next one sees.

A worker that saw an upload takes its next chunks without asking again for `REMEMBERED_SECONDS`, unless it may be swept
within `SWEPT_AFTER_MS`: what would be stored behind a sweep belongs to no upload, and would stay for ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, DuplicateKeyError
from pymongo.write_concern import WriteConcern

from crypto_core import limits, moments
from crypto_core.ids import AttachmentId, LetterId, UserId
from crypto_core.sealed import Listed
from crypto_core.stream import Shape
from repository_worker.effects import OpenUpload, Outcome, StoreChunk
from repository_worker.errors import Conflict, StorageError, StorageUnavailable, UploadsFull
from repository_worker.storage import collections as names
from repository_worker.storage import documents
from repository_worker.storage.chains import Quota
from repository_worker.storage.driver import DUPLICATE_KEY, PASSING, Document

#: How long a worker that saw an upload takes chunks of it without asking again; seconds.
REMEMBERED_SECONDS: Final = 1.0
#: … unless a sweep may take it within this time by the clock of any worker; milliseconds.
SWEPT_AFTER_MS: Final = limits.HOUR_MS
#: Uploads that a worker remembers, about 300 bytes each.
REMEMBERED: Final = 10_000
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

    def __init__(
        self, database: Database[Document], quota: Quota, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._uploads = database[names.UPLOADS]
        self._hints = self._uploads.with_options(write_concern=WriteConcern(w=0))
        self._chunks = database[names.CHUNKS]
        self._quota = quota
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._seen: dict[bytes, tuple[float, int]] = {}  #: until when, and with how many bytes it was begun

    # --- uploading ------------------------------------------------------------------------------------------------

    def begin(self, effect: OpenUpload) -> Outcome:
        """Begins an upload, or touches it when it was begun. Raises Conflict, UploadsFull."""
        key = documents.upload_key(effect.author, effect.letter, effect.attachment)
        now = moments.to_datetime(effect.now)
        found = self._uploads.find_one_and_update({"_id": key, **_HERE}, {"$set": {"stored": now}})
        if found is None:
            self._require_room(effect)
            found = self._insert_upload(key, effect, now)
        if found["size"] != effect.size:
            raise Conflict("this upload was begun with another size, or is being removed")
        return Outcome(there=self._there(key, Shape.of_sealed(effect.size)))

    def _insert_upload(self, key: bytes, effect: OpenUpload, now: datetime) -> Document:
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

    def store(self, effects: Sequence[StoreChunk]) -> list[Outcome | StorageError]:
        """Stores chunks in one insertion; gives each one's end, in their order. Raises StorageUnavailable."""
        chunks = [_chunk_document(each) for each in effects]
        refused = self._insert(chunks)
        return [self._end(chunk, refused.get(place)) for place, chunk in enumerate(chunks)]

    def _insert(self, chunks: Sequence[Document]) -> dict[int, int]:
        """The places of those that the database refused, each with its error code. Raises StorageUnavailable."""
        try:
            self._chunks.insert_many(chunks, ordered=False)
        except BulkWriteError as error:
            found = error.details or {}
            refused = {int(each["index"]): int(each["code"]) for each in found.get("writeErrors") or []}
            if found.get("writeConcernErrors") or not refused or PASSING.intersection(refused.values()):
                raise StorageUnavailable("the database did not confirm an insertion") from error
            return refused
        return {}

    def _end(self, chunk: Document, code: int | None) -> Outcome | StorageError:
        """What became of a chunk that the database took, or refused with this code."""
        if code is None:
            return Outcome()
        if code != DUPLICATE_KEY:
            return StorageError(f"the database refused a chunk (code {code})")
        found = self._chunks.find_one({"_id": chunk["_id"]})
        if found is not None and found["chunk"] != chunk["chunk"]:
            return Conflict("another chunk is stored at this position")
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
        """With how many bytes it was begun, as it was at most `REMEMBERED_SECONDS` ago; None when it is not there."""
        key = documents.upload_key(author, letter, attachment)
        until, size = self._seen.get(key, (0.0, 0))
        if self._monotonic() < until:
            return size
        found = self._find(key)
        if found is None:
            return None
        self._remember(key, found)
        return int(found["size"])

    def _find(self, key: bytes) -> Document | None:
        return self._uploads.find_one({"_id": key, **_HERE}, {"size": 1, "stored": 1, "sent": 1})

    def _remember(self, key: bytes, found: Document) -> None:
        # What was sent goes when its letter does, whenever that is.
        lasting = timedelta(milliseconds=limits.UPLOAD_MS - SWEPT_AFTER_MS)
        if found["sent"] or datetime.now(UTC) >= found["stored"] + lasting:
            return
        with self._lock:
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()  # costs one question for each that is being filled
            self._seen[key] = (self._monotonic() + REMEMBERED_SECONDS, int(found["size"]))

    def incomplete(self, author: UserId, letter: LetterId, attachments: Sequence[Listed]) -> tuple[AttachmentId, ...]:
        return tuple(each.id for each in attachments if not self._is_complete(author, letter, each))

    def _is_complete(self, author: UserId, letter: LetterId, listed: Listed) -> bool:
        key = documents.upload_key(author, letter, listed.id)
        found = self._find(key)
        if found is None or found["size"] != listed.size:
            return False
        return self._chunks.count_documents(documents.chunks_of(key)) == listed.shape.chunks

    def chunk(self, author: UserId, letter: LetterId, attachment: AttachmentId, position: int) -> bytes | None:
        key = documents.chunk_key(documents.upload_key(author, letter, attachment), position)
        found = self._chunks.find_one({"_id": key})
        return bytes(found["chunk"]) if found else None


def _chunk_document(effect: StoreChunk) -> Document:
    upload = documents.upload_key(effect.author, effect.letter, effect.attachment)
    return {"_id": documents.chunk_key(upload, effect.position), "chunk": effect.chunk}
