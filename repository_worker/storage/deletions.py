"""What follows from a tombstone: the letter goes from its owner's box, and its text when nobody needs it any more.

    tombstone stored ──▶ the letter is marked for its owner, whose key wrap and second share go
                     ──▶ once everybody who had it has deleted it: body and attachments go

The tombstone alone decides: a letter that has one is not given out, whether it is marked yet or not. Who brings the
same deletion again, as the broker does after a worker was killed in between, finds what is left to do.

The author's own wrap stays: what receipts and acceptances prove is compared with the signed document in the head.
"""

from __future__ import annotations

from pymongo import ReturnDocument
from pymongo.database import Database

from crypto_core.ids import Milliseconds
from repository_worker.effects import Placed, StoreTombstone
from repository_worker.storage import collections as names
from repository_worker.storage import documents, uploads
from repository_worker.storage.driver import Document


class Deletions:
    """The deletions of one repository. Thread-safe. Methods raise PyMongoError."""

    def __init__(self, database: Database[Document]) -> None:
        self._accepted = database[names.ACCEPTED]
        self._bodies = database[names.BODIES]
        self._uploads = database[names.UPLOADS]

    def follow(self, effect: StoreTombstone, placed: Placed) -> None:
        """Takes away what the owner of a stored tombstone has deleted. Repeating it changes nothing."""
        key, owner = documents.letter_key(effect.author, effect.letter), effect.owner
        gone: Document = {"unread": {"mailbox": owner}, "shares": {"user": owner}}
        if owner != effect.author:
            gone["wraps"] = {"user": owner}
        mark = {"mailbox": owner, "time": placed.entry.time}
        found = self._accepted.find_one_and_update(
            {"_id": key},
            {"$pull": gone, "$addToSet": {"deleted": mark}},
            {"entries.mailbox": 1, "deleted.mailbox": 1},
            return_document=ReturnDocument.AFTER,
        )
        if found is not None and _owners(found["entries"]) == _owners(found["deleted"]):
            self._drop_body(effect, key, placed.entry.time)

    def _drop_body(self, effect: StoreTombstone, key: bytes, now: Milliseconds) -> None:
        """The reference first: a body without one is an orphan, which is swept in any case."""
        there = {"_id": key, "swept": {"$exists": False}}
        gone = {"$unset": {"body": 1, "body_hash": 1}, "$set": {"swept": now}}
        found = self._accepted.find_one_and_update(there, gone, {"body_hash": 1})
        if found is not None and "body_hash" in found:
            self._bodies.delete_one({"_id": documents.body_key(effect.author, effect.letter, found["body_hash"])})
        uploads.give_up(self._uploads, [key])


def _owners(entries: list[Document]) -> set[bytes]:
    return {bytes(each["mailbox"]) for each in entries}
