"""Values as BSON documents, and back. Nothing here speaks to the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from crypto_core import cbor, limits, moments, schema, suite
from crypto_core.choice import Choice, SignedChoice
from crypto_core.commands import Person
from crypto_core.deletion import SignedDeletion
from crypto_core.documents import SignedDocument, SignedRenewal
from crypto_core.evidence import Evidence
from crypto_core.ids import (
    SESSION_ID_BYTES,
    USER_ID_BYTES,
    AttachmentId,
    Digest,
    LetterId,
    Milliseconds,
    SessionId,
    UserId,
)
from crypto_core.limits import KIB
from crypto_core.mailbox import Entry, EntryKind, EntryRouting
from crypto_core.sealed import SealedObject, SealedView
from crypto_core.sign_for import SignedSlip
from repository_worker.effects import Change, CounterRecord, Expire, Placed, StoreChoice, ToSign
from repository_worker.errors import StorageError
from repository_worker.storage.interface import CounterState, StoredEntry, StoredSlip

Document = dict[str, Any]

#: Larger bodies lie in a collection of their own; bytes.
INLINE_BODY_BYTES: Final = 64 * KIB
#: In the `_id` of a chunk.
POSITION_BYTES: Final = 4
#: Stands for "closed" among the counters of a session; no envelope can have it.
CLOSED: Final = -1
#: Stands for the letter itself among its receipts; no user id is all zeros.
_NOBODY: Final = bytes(USER_ID_BYTES)
_EVERYBODY: Final = b"\xff" * USER_ID_BYTES
#: Ends the `_id` of a choice. The database orders binaries by their length first: no choice stands among receipts.
_CHOICE: Final = b"\x01"
#: Ends the `_id` of a tombstone, which is longer than both for the same reason.
_TOMBSTONE: Final = b"\x01\x01"


# --- people -----------------------------------------------------------------------------------------------------


def person_document(person: Person, name: str, renews: UserId | None) -> Document:
    """A registration as it is stored; `renews`: the user of the former card that its renewal names."""
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
    if person.renewal is not None and renews is not None:
        document |= {
            "renews": renews,
            "renewal": {
                "document": person.renewal.document,
                "signature": person.renewal.signature,
                **({"former_signature": former} if (former := person.renewal.former_signature) else {}),
            },
        }
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
        renewal=_renewal(found["renewal"]) if "renewal" in found else None,
    )


def _renewal(found: Mapping[str, Any]) -> SignedRenewal:
    return SignedRenewal(found["document"], found["signature"], found.get("former_signature"))


# --- counters ---------------------------------------------------------------------------------------------------


def used(session: SessionId, number: int) -> Document:
    """A counter. The order of the fields counts: the database compares documents as they stand."""
    return {"session": session, "number": number}


def claim(counter: CounterRecord) -> Document:
    """The fields by which a document takes its counter."""
    return {"used": [used(counter.session, counter.counter)], "request": counter.request_hash}


def reading(mailbox: UserId, counter: CounterRecord) -> Document:
    """What a reading adds to the fields of its letter: its counter, too, which stands in the index of all others."""
    key = used(counter.session, counter.counter)
    return {"used": key, "reads": {"mailbox": mailbox, "used": key, "request": counter.request_hash}}


def mark(counter: CounterRecord, what: str) -> Document:
    """A document that only takes a counter."""
    return {"mark": what, **claim(counter), "expires": moments.to_datetime(counter.expires)}


def closed_mark(counter: CounterRecord) -> Document:
    """The mark of a closed session, made by the envelope that closed it."""
    return {**mark(counter, "closed"), "used": [used(counter.session, CLOSED)]}


def used_by(wanted: Sequence[tuple[SessionId, int]]) -> Document:
    """A query for whatever used these counters, and for the marks of those sessions that are closed."""
    sessions = {session for session, _ in wanted}
    keys = [used(*each) for each in wanted]
    marks = [used(session, CLOSED) for session in sessions]
    return {"used": {"$in": keys + marks}}


#: What `counter_states` needs of a document.
COUNTER_FIELDS: Final[Document] = {"used": 1, "request": 1, "reads": 1}
USED_FIELDS: Final[Document] = {"_id": 0, **COUNTER_FIELDS}


def counter_states(
    found: Sequence[Mapping[str, Any]], wanted: Sequence[tuple[SessionId, int]]
) -> tuple[CounterState, ...]:
    """What documents found by `used_by` say of the counters that were asked for."""
    own = [(each["used"][0], each["request"]) for each in found]
    reads = [(each["used"], each["request"]) for letter in found for each in letter.get("reads", ())]
    hashes = {(bytes(key["session"]), int(key["number"])): request for key, request in own + reads}
    return tuple(
        CounterState(_digest(hashes.get((session, number))), (session, CLOSED) in hashes) for session, number in wanted
    )


def _digest(found: bytes | None) -> Digest | None:
    return None if found is None else Digest(found)


# --- letters and receipts ---------------------------------------------------------------------------------------


def letter_key(author: UserId, letter: LetterId) -> bytes:
    """The `_id` of a letter; its receipts come right after it."""
    return author + letter + _NOBODY


def receipt_key(author: UserId, letter: LetterId, reader: UserId) -> bytes:
    """The `_id` of a reader's receipt for the letter by `author`."""
    return author + letter + reader


def choice_key(author: UserId, letter: LetterId, reader: UserId) -> bytes:
    """The `_id` of what a recipient chose about the letter by `author`: there is one, whichever it is."""
    return author + letter + reader + _CHOICE


def tombstone_key(author: UserId, letter: LetterId, owner: UserId) -> bytes:
    """The `_id` of the word that the letter by `author` was deleted from the mailbox of `owner`: there is one."""
    return author + letter + owner + _TOMBSTONE


def choices_of(author: UserId, letter: LetterId) -> Document:
    """A query for what all recipients of a letter chose."""
    return {
        "_id": {
            "$gte": choice_key(author, letter, UserId(_NOBODY)),
            "$lte": choice_key(author, letter, UserId(_EVERYBODY)),
        }
    }


def expiry(effect: Expire, reader: UserId) -> Change:
    """The change that lets a slip end for one recipient.

    It takes no command's counter, since one command may find several slips ended: its own is made of its name, and so
    the same at every worker.
    """
    name = suite.sha256(choice_key(effect.author, effect.letter, reader))
    choice = SignedChoice(Choice.EXPIRED, effect.slip)
    return Change(
        StoreChoice(effect.author, effect.letter, reader, choice, None, effect.now),
        CounterRecord(SessionId(name[:SESSION_ID_BYTES]), 0, name, effect.now),
    )


def with_receipts(author: UserId, letter: LetterId) -> Document:
    """A query for a letter and all of its receipts."""
    return {"_id": {"$gte": author + letter + _NOBODY, "$lte": author + letter + _EVERYBODY}}


def body_key(author: UserId, letter: LetterId, body_hash: bytes) -> bytes:
    """The `_id` of a body that lies by itself: this letter's with this content, so that no other takes its place."""
    return author + letter + body_hash


def upload_key(author: UserId, letter: LetterId, attachment: AttachmentId) -> bytes:
    """The `_id` of an upload; those of its chunks begin with it."""
    return author + letter + attachment


def chunk_key(upload: bytes, position: int) -> bytes:
    """The `_id` of a chunk."""
    return upload + position.to_bytes(POSITION_BYTES, "big")


def chunks_of(upload: bytes) -> Document:
    """A query for all chunks of an upload.

    Both ends are as long as the ids of chunks: binaries of other lengths are ordered by length alone.
    """
    return {"_id": {"$gte": chunk_key(upload, 0), "$lte": chunk_key(upload, 2 ** (8 * POSITION_BYTES) - 1)}}


def body_fields(body: bytes) -> Document:
    """A body in the document of its letter, or a word where it is."""
    return {"body": body} if len(body) <= INLINE_BODY_BYTES else {"body_hash": suite.sha256(body)}


def sealed_fields(sealed: SealedObject, view: SealedView) -> Document:
    """A sealed object as it is stored; `view`: any reader's, which has the hashes already."""
    return {
        "object": view.object_hash,
        "protected": sealed.protected,
        "ciphertext": sealed.ciphertext,
        "wraps": [{"user": user, "wrap": wrap} for user, wrap in sealed.wraps],
        "wrap_hashes": list(view.wraps),
    }


def slip_fields(to_sign: ToSign) -> Document:
    """A slip as it is stored, with the sealed second shares."""
    slip = to_sign.slip
    return {
        "slip": {
            "document": slip.document,
            "signature": slip.signature,
            "expires": to_sign.expires,
            **_evidence_field(slip.evidence),
        },
        "shares": [{"user": user, "share": share} for user, share in to_sign.shares],
    }


def choice_field(choice: SignedChoice) -> Document:
    """A choice as it is stored."""
    signed = {} if choice.document is None else {"document": choice.document, "signature": choice.signature}
    return {"choice": {"kind": choice.choice.value, "slip": choice.slip, **signed, **_evidence_field(choice.evidence)}}


def deletion_field(deletion: SignedDeletion) -> Document:
    """A signed deletion as it is stored."""
    login = deletion.login
    return {"deletion": {"statement": deletion.statement, "login": login.document, "login_signature": login.signature}}


def _evidence_field(evidence: Evidence | None) -> Document:
    return {} if evidence is None else {"evidence": cbor.encode(schema.to_map(evidence))}


def routing_fields(routing: EntryRouting, about: UserId) -> Document:
    """Between whom; `about`: the author of the letter that it concerns."""
    return {
        "author": routing.author,
        "letter": routing.letter,
        "about": about,
        "recipients": list(routing.recipients),
    }


def entry_fields(placed: Sequence[Placed], totals: Sequence[int]) -> Document:
    """The entries of one object; `totals`: for each the bytes in its mailbox up to and with it."""
    entries = [
        {
            "mailbox": each.mailbox,
            "number": each.entry.number,
            "kind": each.entry.kind.value,
            "hash": each.hash,
            "bytes": total,
        }
        for each, total in zip(placed, totals, strict=True)
    ]
    unread = [
        {"mailbox": each.mailbox, "number": each.entry.number}
        for each in placed
        if each.entry.kind is EntryKind.RECEIVED
    ]
    fields: Document = {"time": placed[0].entry.time, "entries": entries}
    return {**fields, "unread": unread} if unread else fields


# --- … and back -------------------------------------------------------------------------------------------------

#: What `placed` and `stored_entries` need of a document. Projections name whole fields only, as far as they can: for
#: each part of a field the database works several times as long as for all of it.
ENTRY_FIELDS: Final = dict.fromkeys(
    ("author", "letter", "about", "recipients", "time", "object", "entries", "unread", "deletion", "reads"), 1
)
#: What a view needs besides the reader's wrap.
_VIEW_FIELDS: Final = {"protected": 1, "ciphertext": 1, "wrap_hashes": 1, "slip": 1, "choice": 1}
#: What tells how a choice ended and where it stands.
CHOICE_FIELDS: Final = {**ENTRY_FIELDS, "choice.kind": 1}
#: What authors of letters may know: all of their entries, and a letter though it was deleted.
AUTHOR_FIELDS: Final = {**ENTRY_FIELDS, **_VIEW_FIELDS, "wraps": 1}
#: One letter as it stands, or a few. `stored_entries` takes of it what its reader may know.
WHOLE_FIELDS: Final = {**AUTHOR_FIELDS, "deleted": 1, "shares": 1}


def fields_for(*readers: UserId, views: bool) -> Document:
    """What these readers may know of an object: own entries, and with `views` the object with no wraps but their own.

    For a page: letters to many bear many wraps, and to decode all of them takes the worker longer than the database
    takes to choose. Of several readers `stored_entries` takes what is one reader's.
    """
    fields: Document = {**ENTRY_FIELDS, "entries": _own("entries", "mailbox", readers)}
    fields["unread"] = _own("unread", "mailbox", readers)
    fields["deleted"] = _own("deleted", "mailbox", readers)
    if views:
        fields.update(_VIEW_FIELDS, wraps=_own("wraps", "user", readers), shares=_own("shares", "user", readers))
    return fields


def _own(array: str, field: str, owners: Sequence[UserId]) -> Document:
    this = f"$$this.{field}"
    cond = {"$eq": [this, owners[0]]} if len(owners) == 1 else {"$in": [this, list(owners)]}
    return {"$filter": {"input": f"${array}", "cond": cond}}


def placed(found: Mapping[str, Any]) -> tuple[Placed, ...]:
    """The entries of a stored object, as its acceptance names them."""
    return tuple(
        Placed(UserId(each["mailbox"]), _entry(found, each), Digest(each["hash"])) for each in found["entries"]
    )


def stored_entries(
    found: Mapping[str, Any], owner: UserId, chosen: Mapping[str, Any] | None = None
) -> list[StoredEntry]:
    """The entries that an object has in the mailbox of `owner`: one, or both of a letter to oneself.

    `chosen`: the document of what `owner` chose about a letter that opens against a signature.
    """
    unread = {int(each["number"]) for each in found.get("unread") or () if each["mailbox"] == owner}
    deleted = _deleted(found, owner)
    gone = deleted is not None
    view = _view(found, owner) if "protected" in found and not gone else None
    slip = _slip(found, owner, chosen) if "slip" in found else None
    choice = _choice(found["choice"]) if "choice" in found else None
    return [
        StoredEntry(
            entry=_entry(found, each),
            hash=Digest(each["hash"]),
            about=UserId(found["about"]),
            unread=int(each["number"]) in unread or (gone and _never_read(found, each)),
            view=view,
            slip=slip,
            choice=choice,
            deletion=_deletion(found["deletion"]) if "deletion" in found else None,
            deleted=deleted,
            protected=found.get("protected"),
        )
        for each in found["entries"]
        if each["mailbox"] == owner
    ]


def _deleted(found: Mapping[str, Any], owner: UserId) -> Milliseconds | None:
    """When `owner` deleted this letter, as its tombstone has marked it."""
    times = [int(each["time"]) for each in found.get("deleted") or () if each["mailbox"] == owner]
    return Milliseconds(times[0]) if times else None


def _never_read(found: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """What was deleted waits for nobody: whether it was read, the readings tell."""
    read = {each["mailbox"] for each in found.get("reads") or ()}
    return entry["kind"] == EntryKind.RECEIVED.value and entry["mailbox"] not in read


def _deletion(found: Mapping[str, Any]) -> SignedDeletion:
    return SignedDeletion(found["statement"], SignedDocument(found["login"], found["login_signature"]))


def _entry(found: Mapping[str, Any], entry: Mapping[str, Any]) -> Entry:
    # int(): the driver gives 64-bit integers a type of its own, which has no place on the wire.
    routing = EntryRouting(
        LetterId(found["letter"]), UserId(found["author"]), tuple(UserId(each) for each in found["recipients"])
    )
    number, moment = int(entry["number"]), Milliseconds(int(found["time"]))
    return Entry(number, moment, EntryKind(entry["kind"]), routing, Digest(found["object"]))


def kind_of_choice(found: Mapping[str, Any]) -> Choice:
    """How a stored choice ended."""
    return Choice(found["choice"]["kind"])


def _slip(found: Mapping[str, Any], owner: UserId, chosen: Mapping[str, Any] | None) -> StoredSlip:
    slip = found["slip"]
    share = next((bytes(each["share"]) for each in found.get("shares") or () if each["user"] == owner), None)
    own = [each for each in placed(chosen) if each.mailbox == owner] if chosen else []
    return StoredSlip(
        slip=SignedSlip(slip["document"], slip["signature"], _evidence(slip)),
        expires=Milliseconds(int(slip["expires"])),
        share=share,
        choice=kind_of_choice(chosen) if chosen else None,
        chosen=own[0] if own else None,
    )


def _choice(found: Mapping[str, Any]) -> SignedChoice:
    document, signature = found.get("document"), found.get("signature")
    return SignedChoice(Choice(found["kind"]), Digest(found["slip"]), document, signature, _evidence(found))


def _evidence(found: Mapping[str, Any]) -> Evidence | None:
    data = found.get("evidence")
    return schema.from_map(Evidence, cbor.decode(data, 2 * limits.EVIDENCE_BYTES)) if data else None


def _view(found: Mapping[str, Any], reader: UserId) -> SealedView:
    for each in found["wraps"]:
        if each["user"] == reader:
            hashes = tuple(Digest(each) for each in found["wrap_hashes"])
            return SealedView(found["protected"], found["ciphertext"], each["wrap"], hashes)
    raise StorageError("a mailbox entry whose object is not sealed for its owner")
