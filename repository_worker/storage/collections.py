"""The collections, their indexes and their validators, declared in one place.

    registrations  one document a revision; `latest` marks the newest of each user
    letters        the sealed head of a letter, once, in the mailbox of its author
    bodies         the sealed body of a letter
    receipts       a sealed receipt, in the mailbox of the letter's author
    entries        the mailbox chains
    mailboxes      the newest entry of each mailbox
    sessions       session records, sealed
    counters       which envelope used which counter; outlives its session
    rates          what somebody asked for in a minute
    blocks         whose letters (`author`) the owner of a mailbox does not want

`mailbox` comes first in every index of what belongs to a mailbox, so that the store can be sharded by it. Ids and
hashes are BSON binaries; moments are 64-bit integers in milliseconds, except `expires`, a BSON date for the database's
own clean-up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pymongo import ASCENDING, IndexModel

REGISTRATIONS: Final = "registrations"
LETTERS: Final = "letters"
BODIES: Final = "bodies"
RECEIPTS: Final = "receipts"
ENTRIES: Final = "entries"
MAILBOXES: Final = "mailboxes"
SESSIONS: Final = "sessions"
COUNTERS: Final = "counters"
RATES: Final = "rates"
BLOCKS: Final = "blocks"

#: A session's record stays this long after its end, so that its client is told of the end; seconds.
SESSION_AFTERLIFE_SECONDS: Final = 3600
#: Counters stay longer than the records of their sessions; seconds.
COUNTER_AFTERLIFE_SECONDS: Final = 2 * 3600
RATE_AFTERLIFE_SECONDS: Final = 120

_BINARY: Final = {"bsonType": "binData"}
_NUMBER: Final = {"bsonType": ["int", "long"]}
_BOOL: Final = {"bsonType": "bool"}
_STRING: Final = {"bsonType": "string"}
_DATE: Final = {"bsonType": "date"}
_BINARIES: Final = {"bsonType": "array", "items": _BINARY}
_WRAPS: Final = {
    "bsonType": "array",
    "minItems": 1,
    "items": {
        "bsonType": "object",
        "required": ["user", "wrap"],
        "properties": {"user": _BINARY, "wrap": _BINARY},
        "additionalProperties": False,
    },
}
_SEALED: Final = {
    "object": _BINARY,
    "protected": _BINARY,
    "ciphertext": _BINARY,
    "wraps": _WRAPS,
    "wrap_hashes": _BINARIES,
}


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection: the types of its fields, those that may be absent, and its indexes."""

    name: str
    fields: dict[str, Any]
    indexes: tuple[IndexModel, ...]
    optional: frozenset[str] = frozenset()

    @property
    def validator(self) -> dict[str, Any]:
        """What the database itself refuses to store."""
        return {
            "$jsonSchema": {
                "bsonType": "object",
                "required": sorted(self.fields.keys() - self.optional),
                "properties": {"_id": {}, **self.fields},
                "additionalProperties": False,
            }
        }


def _unique(name: str, *fields: str, **options: Any) -> IndexModel:
    return IndexModel([(field, ASCENDING) for field in fields], name=name, unique=True, **options)


def _expiry(seconds: int) -> IndexModel:
    return IndexModel([("expires", ASCENDING)], name="expiry", expireAfterSeconds=seconds)


COLLECTIONS: Final = (
    Collection(
        REGISTRATIONS,
        {
            "user": _BINARY,
            "revision": _NUMBER,
            "digest": _BINARY,
            "document": _BINARY,
            "signature": _BINARY,
            "authentication_certificate": _BINARY,
            "signature_certificate": _BINARY,
            "intermediates": _BINARIES,
            "accepted": _NUMBER,
            "name": _STRING,
            "latest": _BOOL,
        },
        (
            _unique("revision", "user", "revision"),
            _unique("latest", "user", "latest", partialFilterExpression={"latest": True}),
        ),
        frozenset({"signature_certificate"}),
    ),
    Collection(LETTERS, {"mailbox": _BINARY, "letter": _BINARY, **_SEALED}, (_unique("letter", "mailbox", "letter"),)),
    Collection(
        BODIES, {"mailbox": _BINARY, "letter": _BINARY, "body": _BINARY}, (_unique("letter", "mailbox", "letter"),)
    ),
    Collection(
        RECEIPTS,
        {"mailbox": _BINARY, "letter": _BINARY, "reader": _BINARY, **_SEALED},
        (_unique("receipt", "mailbox", "letter", "reader"),),
    ),
    Collection(
        ENTRIES,
        {
            "mailbox": _BINARY,
            "number": _NUMBER,
            "time": _NUMBER,
            "kind": _STRING,
            "letter": _BINARY,
            "author": _BINARY,
            "recipients": _BINARIES,
            "object": _BINARY,
            "hash": _BINARY,
            "about": _BINARY,
            "unread": _BOOL,
            "view_bytes": _NUMBER,
        },
        (
            _unique("number", "mailbox", "number"),
            _unique("object", "mailbox", "letter", "about", "kind", "author"),
            IndexModel(
                [("mailbox", ASCENDING), ("unread", ASCENDING), ("number", ASCENDING)],
                name="unread",
                partialFilterExpression={"unread": True},
            ),
        ),
    ),
    Collection(
        MAILBOXES,
        {"mailbox": _BINARY, "number": _NUMBER, "hash": _BINARY, "time": _NUMBER},
        (_unique("mailbox", "mailbox"),),
    ),
    Collection(
        SESSIONS,
        {"session": _BINARY, "record": _BINARY, "kek": _BINARY, "expires": _DATE},
        (_unique("session", "session"), _expiry(SESSION_AFTERLIFE_SECONDS)),
    ),
    Collection(
        COUNTERS,
        {"session": _BINARY, "counter": _NUMBER, "request": _BINARY, "expires": _DATE},
        (_unique("counter", "session", "counter"), _expiry(COUNTER_AFTERLIFE_SECONDS)),
    ),
    Collection(
        RATES,
        {"what": _STRING, "user": _BINARY, "minute": _NUMBER, "count": _NUMBER, "expires": _DATE},
        (_unique("rate", "what", "user", "minute"), _expiry(RATE_AFTERLIFE_SECONDS)),
    ),
    Collection(BLOCKS, {"mailbox": _BINARY, "author": _BINARY}, (_unique("block", "mailbox", "author"),)),
)
