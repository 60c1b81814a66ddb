"""EVIDENCE: what is recorded about a letter that the caller sent or received, signed with the evidence key.

Made when somebody asks, so that nothing else becomes slower. Each is shown own entries alone; the author is also shown
where the letter lies in the recipients' mailboxes, which the acceptance has told already.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crypto_core import delivery, moments, sealed
from crypto_core.commands import ErrorCode, Evidence, EvidenceResult
from crypto_core.delivery import DeliveryEvidence, RecordedEntry
from crypto_core.documents import SignedDocument
from crypto_core.ids import Digest, UserId
from crypto_core.mailbox import Entry, EntryKind
from repository_worker.errors import Refused, StorageError
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.storage.interface import ReadView, StoredEntry

_LETTERS = (EntryKind.SENT, EntryKind.RECEIVED)


def handle(command: Evidence, caller: Caller, view: ReadView, context: Context) -> Decision:
    """Answers whoever sent or received the letter. Nobody else learns that it exists."""
    if context.evidence is None:
        raise Refused(
            ErrorCode.UNAVAILABLE,
            "This repository has no key for evidence yet; its operator makes one: `smr-repository evidence --renew`.",
        )
    owner = caller.citizen()
    own = view.concerning(owner, command.author, command.letter)
    if not own:
        raise Refused(ErrorCode.NOT_FOUND, "There is no such letter in your box; list your letters and choose one.")
    entries = [_recorded(owner, each.entry, each.hash, _named(each)) for each in own]
    if owner == command.author:
        entries += _consigned(owner, own[0], view)
    found = DeliveryEvidence(context.repository, command.author, command.letter, tuple(entries), context.now)
    document = delivery.encode(found)
    signature = context.evidence.sign_document(document, moments.to_datetime(context.now))
    return Decision.answer(EvidenceResult(document, signature))


def _consigned(author: UserId, sent: StoredEntry, view: ReadView) -> Iterator[RecordedEntry]:
    """The entries of the recipients, which record the same object as the author's own."""
    found = view.status(author, sent.entry.routing.letter)
    for each in found.acceptance if found else ():
        if each.mailbox != author:
            yield _recorded(each.mailbox, each.entry, each.hash, _named(sent))


@dataclass(frozen=True, slots=True)
class _Named:
    """What a stored object says of the signed document that it holds or is."""

    document: Digest | None
    signature: Digest | None
    slip: Digest | None


def _recorded(mailbox: UserId, entry: Entry, entry_hash: Digest, named: _Named) -> RecordedEntry:
    return RecordedEntry(
        mailbox=mailbox,
        number=entry.number,
        entry=entry_hash,
        kind=entry.kind,
        time=entry.time,
        author=entry.routing.author,
        document=named.document,
        signature=named.signature,
        slip=named.slip,
    )


def _named(stored: StoredEntry) -> _Named:
    choice = stored.choice
    if choice is not None:
        signed = None if choice.document is None else SignedDocument(choice.document, choice.signature or b"")
        return _Named(signed.digest if signed else None, signed.signature_digest if signed else None, choice.slip)
    if stored.view is None:
        raise StorageError("an entry came without the object that it records")
    if stored.entry.kind not in _LETTERS:
        routing = stored.view.routing(sealed.RECEIPT)
    else:
        routing = stored.view.routing(sealed.SIGN_FOR if stored.slip else sealed.LETTER)
    return _Named(routing.document, routing.signature, stored.slip.slip.digest if stored.slip else None)
