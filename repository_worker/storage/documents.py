"""Values as BSON documents, and back. Nothing here speaks to the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from crypto_core import moments
from crypto_core.commands import Person
from crypto_core.documents import SignedDocument
from crypto_core.ids import DIGEST_BYTES, Digest, LetterId, Milliseconds, UserId
from crypto_core.mailbox import Entry, EntryKind, EntryRouting
from crypto_core.sealed import SealedObject, SealedView
from repository_worker.effects import CounterRecord, MarkRead, Placed, StoreLetter, StoreReceipt
from repository_worker.errors import StorageError
from repository_worker.storage.interface import StoredEntry

Document = dict[str, Any]

#: The change that marks a received letter as read.
READ: Final = {"$set": {"unread": False}}


def person_document(person: Person, name: str) -> Document:
    document = {
        "user": person.user,
        "revision": person.revision,
        "digest": person.registration.digest,
        "document": person.registration.document,
        "signature": person.registration.signature,
        "authentication_certificate": person.authentication_certificate,
        "intermediates": list(person.intermediates),
        "accepted": person.accepted,
        "name": name,
        "latest": True,
    }
    if person.signature_certificate is not None:
        document["signature_certificate"] = person.signature_certificate
    return document


def person(found: Mapping[str, Any]) -> Person:
    return Person(
        user=UserId(found["user"]),
        revision=int(found["revision"]),
        registration=SignedDocument(found["document"], found["signature"]),
        authentication_certificate=found["authentication_certificate"],
        signature_certificate=found.get("signature_certificate"),
        intermediates=tuple(found["intermediates"]),
        accepted=Milliseconds(int(found["accepted"])),
    )


def sealed_document(sealed: SealedObject) -> Document:
    return {
        "object": sealed.object_hash,
        "protected": sealed.protected,
        "ciphertext": sealed.ciphertext,
        "wraps": [{"user": user, "wrap": wrap} for user, wrap in sealed.wraps],
        "wrap_hashes": list(sealed.view(sealed.routing.author).wraps),
    }


def view_fields(reader: UserId) -> Document:
    # Of the wraps only the reader's own: the others are as many as there are recipients.
    return {
        "mailbox": 1,
        "letter": 1,
        "protected": 1,
        "ciphertext": 1,
        "wrap_hashes": 1,
        "wraps": {"$elemMatch": {"user": reader}},
    }


def view(found: Mapping[str, Any]) -> SealedView:
    wraps = found.get("wraps")
    if not wraps:
        raise StorageError("a mailbox entry whose object is not sealed for its owner")
    hashes = tuple(Digest(each) for each in found["wrap_hashes"])
    return SealedView(found["protected"], found["ciphertext"], wraps[0]["wrap"], hashes)


def is_receipt(stored: StoredEntry) -> bool:
    return stored.entry.kind in (EntryKind.RECEIPT, EntryKind.RECEIPT_SENT)


def view_key(stored: StoredEntry) -> tuple[bytes, bytes, bytes | None]:
    routing = stored.entry.routing
    return stored.about, routing.letter, routing.author if is_receipt(stored) else None


def entry_documents(placed: Sequence[Placed], abouts: Sequence[UserId], sealed: SealedObject) -> list[Document]:
    """The entries of one object as they are stored; `abouts`: for each the author of the letter that it concerns."""
    wraps = dict(sealed.wraps)
    # What a view takes besides the reader's own wrap.
    shared = len(sealed.protected) + len(sealed.ciphertext) + DIGEST_BYTES * len(wraps)
    return [
        {
            "mailbox": each.mailbox,
            "number": each.entry.number,
            "time": each.entry.time,
            "kind": each.entry.kind.value,
            "letter": each.entry.routing.letter,
            "author": each.entry.routing.author,
            "recipients": list(each.entry.routing.recipients),
            "object": each.entry.object,
            "hash": each.hash,
            "about": about,
            "unread": each.entry.kind is EntryKind.RECEIVED,
            "view_bytes": shared + len(wraps[each.mailbox]),
        }
        for each, about in zip(placed, abouts, strict=True)
    ]


def entry(found: Mapping[str, Any]) -> Entry:
    # int(): the driver gives 64-bit integers a type of its own, which has no place on the wire.
    routing = EntryRouting(
        LetterId(found["letter"]), UserId(found["author"]), tuple(UserId(each) for each in found["recipients"])
    )
    number, moment = int(found["number"]), Milliseconds(int(found["time"]))
    return Entry(number, moment, EntryKind(found["kind"]), routing, Digest(found["object"]))


def placed(found: Mapping[str, Any]) -> Placed:
    return Placed(UserId(found["mailbox"]), entry(found), Digest(found["hash"]))


def stored_entry(found: Mapping[str, Any]) -> StoredEntry:
    return StoredEntry(
        entry=entry(found),
        hash=Digest(found["hash"]),
        about=UserId(found["about"]),
        unread=found["unread"],
        view_bytes=int(found["view_bytes"]),
    )


def counter_document(used: CounterRecord) -> Document:
    expires = moments.to_datetime(used.expires)
    return {"session": used.session, "counter": used.counter, "request": used.request_hash, "expires": expires}


# --- keys -------------------------------------------------------------------------------------------------------


def letter_key(effect: StoreLetter) -> Document:
    return {"mailbox": effect.letter.routing.author, "letter": effect.letter.routing.letter}


def receipt_key(effect: StoreReceipt) -> Document:
    routing = effect.receipt.routing
    return {"mailbox": effect.letter_author, "letter": routing.letter, "reader": routing.author}


def received_key(effect: MarkRead) -> Document:
    """The one entry that this effect marks."""
    return {
        "mailbox": effect.mailbox,
        "letter": effect.letter,
        "about": effect.author,
        "kind": EntryKind.RECEIVED.value,
    }
