"""What the database holds after a run, opened with the keys of those for whom it was sealed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from pymongo.database import Database

from crypto_core import letter, receipt
from crypto_core.ids import Digest, LetterId, Milliseconds, RepositoryId, UserId
from crypto_core.keys import SealingKey
from crypto_core.mailbox import Entry, EntryKind, EntryRouting
from crypto_core.sealed import SealedView
from tests.chaos.checker import Stored, StoredEntry, StoredLetter, StoredReceipt

Document = Mapping[str, Any]


def read(database: Database[dict[str, Any]], repository: RepositoryId, keys: Mapping[UserId, SealingKey]) -> Stored:
    """All that these citizens wrote, of the collections that the rules are about. `keys`: their sealing keys."""
    objects = list(database["accepted"].find({"entries": {"$exists": True}, "author": {"$in": list(keys)}}))
    mailboxes = database["mailboxes"].find({"mailbox": {"$in": list(keys)}})
    bodies = {each["_id"]: each["body"] for each in database["bodies"].find()}
    return Stored(
        repository=repository,
        letters=tuple(_letter(each, bodies, repository, keys) for each in objects if _is_letter(each)),
        receipts=tuple(_receipt(each, repository, keys) for each in objects if not _is_letter(each)),
        entries=tuple(_entry(each, entry) for each in objects for entry in each["entries"]),
        hints={each["mailbox"].hex(): (int(each["number"]), each["hash"].hex()) for each in mailboxes},
    )


def _is_letter(found: Document) -> bool:
    return "body" in found or "body_hash" in found


def _letter(
    found: Document, bodies: Mapping[Any, bytes], repository: RepositoryId, keys: Mapping[UserId, SealingKey]
) -> StoredLetter:
    author = UserId(found["author"])
    head = letter.open_head(_view(found, author), repository, author, _ring(keys[author]))
    beside = found["author"] + found["letter"] + found.get("body_hash", b"")
    body = letter.open_body(head, found["body"] if "body" in found else bodies[beside])
    return StoredLetter(
        author=author.hex(),
        letter=found["letter"].hex(),
        recipients=tuple(sorted(user.hex() for user in head.letter.to)),
        operation=body.partition(b"\n")[0].decode(),
        body=hashlib.sha256(body).hexdigest(),
        document=head.signed.digest.hex(),
        object=found["object"].hex(),
    )


def _receipt(found: Document, repository: RepositoryId, keys: Mapping[UserId, SealingKey]) -> StoredReceipt:
    reader = UserId(found["author"])
    opened = receipt.open_receipt(_view(found, reader), repository, reader, _ring(keys[reader])).receipt
    return StoredReceipt(
        author=found["about"].hex(),
        letter=found["letter"].hex(),
        reader=reader.hex(),
        names_author=opened.sender.hex(),
        names_letter=opened.letter.hex(),
        names_reader=opened.reader.user.hex(),
        names_document=opened.document.hex(),
        object=found["object"].hex(),
    )


def _entry(found: Document, entry: Document) -> StoredEntry:
    routing = EntryRouting(
        LetterId(found["letter"]), UserId(found["author"]), tuple(UserId(each) for each in found["recipients"])
    )
    made = Entry(
        int(entry["number"]),
        Milliseconds(int(found["time"])),
        EntryKind(entry["kind"]),
        routing,
        Digest(found["object"]),
    )
    return StoredEntry(entry["mailbox"].hex(), made, entry["hash"].hex(), found["about"].hex())


def _view(found: Document, reader: UserId) -> SealedView:
    wrap = next(each["wrap"] for each in found["wraps"] if each["user"] == reader)
    return SealedView(found["protected"], found["ciphertext"], wrap, tuple(map(Digest, found["wrap_hashes"])))


def _ring(key: SealingKey) -> dict[bytes, SealingKey]:
    return {key.public.key_id: key}
