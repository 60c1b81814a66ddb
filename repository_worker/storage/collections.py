"""The collections, their indexes and their validators, declared in one place.

    registrations  one document a revision; `latest` marks the newest of each user
    accepted       what was accepted: one document for each command with an effect
    bodies         sealed bodies that are too large to lie in the document of their letter
    uploads        attachments: begun by their authors, and then of letters
    chunks         the sealed chunks of attachments, each once
    mailboxes      who has a mailbox, and a hint where its chain ends
    sessions       session records, sealed
    rates          what somebody asked for in a minute
    stamped        leaves of Merkle trees (`_id`) that a time-stamp authority has stamped, each with its proof
    tokens         the time stamp of each tree, by its root (`_id`)
    blocks         whose letters (`author`) the owner of a mailbox does not want
    watches        which reply queues get a hint when a mailbox grows, and until when
    news           how often something changed that workers remember (`memory`), and by which queues they hear

A document of `accepted` holds everything that one command makes visible, so that it appears whole or not at all
without a transaction:

    a letter or a receipt
        _id, author, letter, about, recipients, time, object    what it is; `about`: the author of the letter concerned
        protected, ciphertext, wraps, wrap_hashes               the sealed object
        body, body_hash or swept                                of a letter: the sealed body, which of `bodies` it is,
                                                                or when it went (`retention`)
        slip {document, signature, evidence, expires}           of a letter that opens against a signature
        shares    [{user, share}]                               its sealed second shares, of those who may still sign
        choice {kind, slip, document, signature, evidence}      of an acceptance, a refusal, an expiry
        entries   [{mailbox, number, kind, hash, bytes}]        every mailbox entry that it makes
        unread    [{mailbox, number}]                           those of its entries that were not read yet
        reads     [{mailbox, used, request}]                    which envelopes found it unread, and read it
        deleted   [{mailbox, time}]                             from which boxes its tombstones have taken it
    a tombstone
        _id, author, letter, about, recipients, time, object, entries   which letter, by whom; `recipients`: its owner
        deletion {statement, login, login_signature}            what the owner's app key signed, and why it is theirs
    a bare mark
        mark, expires                                           of a registration, a block, a session closed
    all of them
        used [{session, number}], request                       the counter that the command used, and its envelope;
                                                                of a letter then those of its readings, too

An upload is named by author, letter and attachment, and a chunk by its upload and position. `letter` of an upload is
the `_id` that its letter has or will have, `size` the bytes of all of its sealed chunks (0: it is being taken away),
`stored` when it was last asked for, and `sent` a hint: its letter is there. What is not `sent` counts as waiting.

The unique indexes are the rules: an entry's number is there once in its mailbox, an object once under its id, a
counter once in its session, whether something was stored or read under it. What breaks one of them is not stored,
whoever else writes at the same moment.

An entry of `mailboxes` is a hint: a number that the chain has reached at least, with hash and running bytes. It is
written now and then without waiting; reading begins there and finds what is newer in `accepted`.

Sharding. An object lies in one document although its entries belong to several mailboxes, so the collection cannot be
divided by mailbox: a unique index reaches no further than one shard. Dividing it would take a document for each mailbox
that an object touches, and a way to make them appear together. Until then one replica set holds all mailboxes; every
query of a mailbox names it first, so that it would reach one shard.

Ids and hashes are BSON binaries; moments are 64-bit integers in milliseconds, except `expires`, a BSON date for the
database's own clean-up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pymongo import ASCENDING, IndexModel

REGISTRATIONS: Final = "registrations"
ACCEPTED: Final = "accepted"
BODIES: Final = "bodies"
UPLOADS: Final = "uploads"
CHUNKS: Final = "chunks"
MAILBOXES: Final = "mailboxes"
SESSIONS: Final = "sessions"
RATES: Final = "rates"
BLOCKS: Final = "blocks"
WATCHES: Final = "watches"
STAMPED: Final = "stamped"
TOKENS: Final = "tokens"
NEWS: Final = "news"

#: A session's record stays this long after its end, so that its client is told of the end; seconds.
SESSION_AFTERLIFE_SECONDS: Final = 3600
#: Bare marks stay longer than the records of their sessions; seconds. A letter keeps its counter for ever.
MARK_AFTERLIFE_SECONDS: Final = 2 * 3600
RATE_AFTERLIFE_SECONDS: Final = 120

_BINARY: Final = {"bsonType": "binData"}
_NUMBER: Final = {"bsonType": ["int", "long"]}
_BOOL: Final = {"bsonType": "bool"}
_STRING: Final = {"bsonType": "string"}
_DATE: Final = {"bsonType": "date"}
_BINARIES: Final = {"bsonType": "array", "items": _BINARY}


def _object(fields: dict[str, Any]) -> dict[str, Any]:
    return {"bsonType": "object", "required": sorted(fields), "properties": fields, "additionalProperties": False}


def _array(items: dict[str, Any], fewest: int = 0) -> dict[str, Any]:
    return {"bsonType": "array", "minItems": fewest, "items": items}


_RENEWAL: Final = _object({"document": _BINARY, "signature": _BINARY}) | {
    "properties": {"document": _BINARY, "signature": _BINARY, "former_signature": _BINARY}
}
_EVIDENCED: Final = {"document": _BINARY, "signature": _BINARY, "evidence": _BINARY}
_SLIP: Final = _object({"document": _BINARY, "signature": _BINARY, "expires": _NUMBER}) | {
    "properties": {**_EVIDENCED, "expires": _NUMBER}
}
_CHOICE: Final = _object({"kind": _STRING, "slip": _BINARY}) | {
    "properties": {**_EVIDENCED, "kind": _STRING, "slip": _BINARY}
}
_DELETION: Final = _object({"statement": _BINARY, "login": _BINARY, "login_signature": _BINARY})
_USED: Final = _object({"session": _BINARY, "number": _NUMBER})


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


def _expiry(seconds: int, **options: Any) -> IndexModel:
    return IndexModel([("expires", ASCENDING)], name="expiry", expireAfterSeconds=seconds, **options)


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
            "renews": _BINARY,
            "renewal": _RENEWAL,
        },
        (
            _unique("revision", "user", "revision"),
            _unique("latest", "user", "latest", partialFilterExpression={"latest": True}),
            # A card is renewed by one other card at most.
            _unique(
                "renews", "renews", "latest", partialFilterExpression={"latest": True, "renews": {"$exists": True}}
            ),
        ),
        frozenset({"signature_certificate", "renews", "renewal"}),
    ),
    Collection(
        ACCEPTED,
        {
            "used": _array(_USED, 1),
            "request": _BINARY,
            # of a letter, a receipt, a choice or a tombstone
            "author": _BINARY,
            "letter": _BINARY,
            "about": _BINARY,
            "recipients": _BINARIES,
            "time": _NUMBER,
            "object": _BINARY,
            "protected": _BINARY,
            "ciphertext": _BINARY,
            "wraps": _array(_object({"user": _BINARY, "wrap": _BINARY}), 1),
            "wrap_hashes": _BINARIES,
            "body": _BINARY,
            "body_hash": _BINARY,
            "swept": _NUMBER,
            "slip": _SLIP,
            "shares": _array(_object({"user": _BINARY, "share": _BINARY})),
            "choice": _CHOICE,
            "entries": _array(
                _object({"mailbox": _BINARY, "number": _NUMBER, "kind": _STRING, "hash": _BINARY, "bytes": _NUMBER}), 1
            ),
            "unread": _array(_object({"mailbox": _BINARY, "number": _NUMBER})),
            "reads": _array(_object({"mailbox": _BINARY, "used": _USED, "request": _BINARY})),
            "deleted": _array(_object({"mailbox": _BINARY, "time": _NUMBER})),
            "deletion": _DELETION,
            # of a bare mark
            "mark": _STRING,
            "expires": _DATE,
        },
        (
            _unique("used", "used"),
            _unique(
                "number", "entries.mailbox", "entries.number", partialFilterExpression={"entries": {"$exists": True}}
            ),
            IndexModel(
                [("unread.mailbox", ASCENDING), ("unread.number", ASCENDING)],
                name="unread",
                partialFilterExpression={"unread": {"$exists": True}},
            ),
            _expiry(MARK_AFTERLIFE_SECONDS, partialFilterExpression={"expires": {"$exists": True}}),
        ),
        frozenset(
            (
                *("author", "letter", "about", "recipients", "time", "object"),
                *("protected", "ciphertext", "wraps", "wrap_hashes", "body", "body_hash", "swept"),
                *("slip", "shares", "choice"),
                *("entries", "unread", "reads", "deleted", "deletion", "mark", "expires"),
            )
        ),
    ),
    Collection(BODIES, {"body": _BINARY, "stored": _DATE}, (IndexModel([("stored", ASCENDING)], name="stored"),)),
    Collection(
        UPLOADS,
        {"author": _BINARY, "letter": _BINARY, "size": _NUMBER, "stored": _DATE, "sent": _BOOL},
        (
            IndexModel([("author", ASCENDING), ("sent", ASCENDING)], name="waiting"),
            IndexModel([("letter", ASCENDING)], name="letter"),
            IndexModel([("sent", ASCENDING), ("stored", ASCENDING)], name="stored"),
        ),
    ),
    Collection(CHUNKS, {"chunk": _BINARY}, ()),
    Collection(
        MAILBOXES,
        {"mailbox": _BINARY, "number": _NUMBER, "hash": _BINARY, "time": _NUMBER, "bytes": _NUMBER},
        (_unique("mailbox", "mailbox"),),
    ),
    Collection(
        SESSIONS,
        {"session": _BINARY, "record": _BINARY, "kek": _BINARY, "expires": _DATE, "request": _BINARY},
        (_unique("session", "session"), _expiry(SESSION_AFTERLIFE_SECONDS)),
        frozenset({"request"}),  # the envelope that opened it; an older release has a mark in `accepted` instead
    ),
    Collection(
        RATES,
        {"what": _STRING, "user": _BINARY, "minute": _NUMBER, "count": _NUMBER, "expires": _DATE},
        (_unique("rate", "what", "user", "minute"), _expiry(RATE_AFTERLIFE_SECONDS)),
    ),
    Collection(STAMPED, {"root": _BINARY, "index": _NUMBER, "size": _NUMBER, "path": _BINARIES}, ()),
    Collection(TOKENS, {"token": _BINARY}, ()),
    Collection(BLOCKS, {"mailbox": _BINARY, "author": _BINARY}, (_unique("block", "mailbox", "author"),)),
    Collection(
        WATCHES,
        {"session": _BINARY, "place": _NUMBER, "mailbox": _BINARY, "queue": _STRING, "expires": _DATE},
        (_unique("watch", "session", "place"), _expiry(0)),
    ),
    Collection(
        NEWS,
        {
            "count": _NUMBER,
            "closed": _BINARIES,
            "listeners": _array(_object({"queue": _STRING, "until": _DATE})),
        },
        (),
        frozenset({"closed", "listeners"}),
    ),
)
