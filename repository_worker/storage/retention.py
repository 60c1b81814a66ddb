"""What goes after a time: bodies and attachments of letters by the operator's rule, and those that no letter refers to.

Of a letter only the sealed body goes, and its attachments with it. Its head, its entries with their hashes, and its
receipts stay: every mailbox can still be checked, listed and asked for the status of a letter. One worker sweeps at a
time, the one that holds the lease; what it does is bounded, and goes on in the next round.

    schema   {_id: "sweep", owner, until, looked, whole}   the lease; bodies stored before `looked` were looked at
                                                           already, if the sweep came to its end (`whole`)
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import pymongo
from pymongo.errors import DuplicateKeyError

from crypto_core import moments, sealed
from crypto_core.ids import LETTER_ID_BYTES, USER_ID_BYTES, LetterId, Milliseconds, UserId
from crypto_core.limits import DAY_MS, UPLOAD_MS
from repository_worker.storage import collections as names
from repository_worker.storage import documents
from repository_worker.storage.driver import Document, open_database, wrapped
from repository_worker.storage.operations import STAMPS
from repository_worker.storage.uploads import LONG_AGO, give_up

#: Between two sweeps, by whichever worker; seconds. A worker that dies while it sweeps is succeeded after this time.
LEASE_SECONDS: Final = 3600
#: Bodies of each kind that one sweep takes away, at most; the rest goes with the next ones.
BODIES_A_SWEEP: Final = 50_000
#: … in pieces of so many.
PIECE: Final = 500
#: A body that no letter refers to after this time never gets one: it is stored right before its letter; seconds.
ORPHAN_SECONDS: Final = 24 * 3600

#: From then on nobody can begin, fill or send it (`uploads`).
_CLAIM: Final[Document] = {"$set": {"size": 0, "sent": False, "stored": LONG_AGO}}
#: How long a letter stays whole after the end of its slip, so that who signed at the last moment can fetch it.
SIGNED_MS: Final = 7 * DAY_MS

_READ_BY_ALL: Final[Document] = {"unread": []}


@dataclass(frozen=True, slots=True)
class Rule:
    """Days after its acceptance that a letter's body stays: whoever has read it, and once all have. 0: for ever."""

    days: int = 0
    read_days: int = 0


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep took away."""

    bodies: int
    orphans: int
    uploads: int = 0


class Retention:
    """The sweeps of one database. Methods raise StorageError, StorageUnavailable."""

    def __init__(self, client: pymongo.MongoClient[Document], database: str, rule: Rule) -> None:
        self._client = client
        opened = open_database(client, database)
        self._accepted = opened[names.ACCEPTED]
        self._bodies = opened[names.BODIES]
        self._uploads = opened[names.UPLOADS]
        self._chunks = opened[names.CHUNKS]
        self._stamps = opened[STAMPS]
        self._rule = rule
        self._owner = secrets.token_hex(16)

    def sweep(self, now: Milliseconds) -> Swept | None:
        """One sweep, if the lease is free; None when another worker sweeps, or has swept lately."""
        with wrapped():
            looked = self._lease(now)
            if looked is None:
                return None
            bodies = self._sweep_letters(now)
            uploads = self._sweep_uploads(now, everything=looked == LONG_AGO)
            return Swept(bodies, self._sweep_orphans(now, looked), uploads)

    def _lease(self, now: Milliseconds) -> datetime | None:
        """Takes the lease; tells up to where bodies were looked at. None when it is taken.

        A sweep that did not come to its end may have left a body behind: then they are all looked at again.
        """
        moment = moments.to_datetime(now)
        held = {"owner": self._owner, "until": moment + timedelta(seconds=LEASE_SECONDS), "whole": False}
        free = {"_id": "sweep", "until": {"$lte": moment}}
        try:
            before = self._stamps.find_one_and_update(free, {"$set": held}, upsert=True) or {}
        except DuplicateKeyError:
            return None
        looked: datetime = before["looked"] if before.get("whole") else LONG_AGO
        return looked

    def close(self) -> None:
        """Gives the connections back."""
        self._client.close()

    # --- letters --------------------------------------------------------------------------------------------------

    def _sweep_letters(self, now: Milliseconds) -> int:
        due: list[Document] = []
        if self._rule.days:
            due.append({"time": {"$lt": now - self._rule.days * DAY_MS}})
        if self._rule.read_days:
            due.append({"time": {"$lt": now - self._rule.read_days * DAY_MS}, **_READ_BY_ALL})
        if not due:
            return 0
        # Nobody should sign for what is gone: until a slip has ended, and a while longer, its letter stays whole.
        due = [{**each, "slip.expires": {"$not": {"$gte": now - SIGNED_MS}}} for each in due]
        for place in ("body", "body_hash"):
            # Made here and not with the others: who keeps everything need not pay for it at every letter.
            self._accepted.create_index(
                [("time", 1)], name=f"due {place}", partialFilterExpression={place: {"$exists": True}}
            )
        return sum(
            self._drop_inline({**each, "body": {"$exists": True}}, now)
            + self._drop_apart({**each, "body_hash": {"$exists": True}}, now)
            for each in due
        )

    def _drop_inline(self, due: Document, now: Milliseconds) -> int:
        dropped = 0
        for piece in self._pieces(due):
            wanted = {**due, "_id": {"$in": [each["_id"] for each in piece]}}
            gone = self._accepted.update_many(wanted, {"$unset": {"body": 1}, "$set": {"swept": now}})
            give_up(self._uploads, [each["_id"] for each in piece])
            dropped += gone.modified_count
        return dropped

    def _drop_apart(self, due: Document, now: Milliseconds) -> int:
        """The reference first: a body without one is an orphan, which goes in any case."""
        dropped = 0
        for piece in self._pieces(due):
            for each in piece:
                gone = self._accepted.update_one(
                    {**due, "_id": each["_id"]}, {"$unset": {"body_hash": 1}, "$set": {"swept": now}}
                ).modified_count
                if gone:
                    self._bodies.delete_one({"_id": _body_of(each)})
                    dropped += 1
            give_up(self._uploads, [each["_id"] for each in piece])
        return dropped

    def _pieces(self, due: Document) -> Iterator[Sequence[Document]]:
        """What is due, the oldest first, piece by piece; each piece must be gone before the next is asked for."""
        for _ in range(BODIES_A_SWEEP // PIECE):
            found = list(self._accepted.find(due, {"body_hash": 1}).sort("time", 1).limit(PIECE))
            if not found:
                return
            yield found

    # --- attachments without a letter -----------------------------------------------------------------------------

    def _sweep_uploads(self, now: Milliseconds, *, everything: bool) -> int:
        """Takes away what waited too long for its letter, and what the letter does not need any more.

        `everything`: also looks at uploads that were sent, since the sweep before may have ended between a letter and
        its attachments.
        """
        until = moments.to_datetime(Milliseconds(now - UPLOAD_MS))
        gone = 0
        waiting = {"stored": {"$lt": until}, **({} if everything else {"sent": False})}
        for each in list(self._uploads.find(waiting, {"letter": 1}).limit(BODIES_A_SWEEP)):
            listing = self._accepted.find_one({"_id": each["letter"]}, {"protected": 1, "swept": 1})
            if listing is not None and "swept" not in listing and _lists(listing["protected"], each["_id"]):
                self._uploads.update_one({"_id": each["_id"]}, {"$set": {"sent": True}})
            # Asked for meanwhile, it has a new date and stays.
            elif self._uploads.update_one({"_id": each["_id"], "stored": {"$lt": until}}, _CLAIM).matched_count:
                self._chunks.delete_many(documents.chunks_of(each["_id"]))
                self._uploads.delete_one({"_id": each["_id"]})
                gone += 1
        return gone

    # --- bodies without a letter ------------------------------------------------------------------------------------

    def _sweep_orphans(self, now: Milliseconds, looked: datetime) -> int:
        """Looks at every body once, when it is old enough to have its letter."""
        until = moments.to_datetime(now) - timedelta(seconds=ORPHAN_SECONDS)
        wanted = {"stored": {"$gte": looked, "$lt": until}}
        orphans, last = 0, until
        # The bodies themselves stay where they are: only their names are looked at.
        for number, each in enumerate(self._bodies.find(wanted, {"stored": 1}).sort("stored", 1), 1):
            if not self._accepted.count_documents(_referring_to(each["_id"]), limit=1):
                # Brought again meanwhile, it has a new date and stays.
                orphans += self._bodies.delete_one({"_id": each["_id"], "stored": each["stored"]}).deleted_count
            if number == BODIES_A_SWEEP:
                last = each["stored"]
                break
        self._stamps.update_one({"_id": "sweep", "owner": self._owner}, {"$set": {"looked": last, "whole": True}})
        return orphans


def _lists(protected: bytes, upload: bytes) -> bool:
    """Whether the letter with this header has the attachment of this upload."""
    return any(upload.endswith(each.id) for each in sealed.listed_in(protected))


def _body_of(letter: Document) -> bytes:
    """Where the body of a letter lies, whose `_id` and `body_hash` are given."""
    key = bytes(letter["_id"])
    author, rest = UserId(key[:USER_ID_BYTES]), key[USER_ID_BYTES:]
    return documents.body_key(author, LetterId(rest[:LETTER_ID_BYTES]), letter["body_hash"])


def _referring_to(body: bytes) -> Document:
    """A query for the letter that a body belongs to."""
    at = USER_ID_BYTES + LETTER_ID_BYTES
    author, letter = UserId(body[:USER_ID_BYTES]), LetterId(body[USER_ID_BYTES:at])
    return {"_id": documents.letter_key(author, letter), "body_hash": body[at:]}
