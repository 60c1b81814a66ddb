"""EVIDENCE: what is recorded about a letter that the caller sent or received, signed with the evidence key.

Made when somebody asks, so that nothing else becomes slower. Each is shown own entries alone; the author is also shown
where the letter lies in the recipients' mailboxes, which the acceptance has told already.
"""

from __future__ import annotations

from collections.abc import Iterator

from crypto_core import delivery, merkle, moments, sealed
from crypto_core.commands import ErrorCode, Evidence, EvidenceResult
from crypto_core.delivery import DeliveryEvidence, EntryStamp, RecordedEntry
from crypto_core.ids import UserId
from crypto_core.mailbox import EntryKind
from repository_worker.errors import Refused, StorageError
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.stamper import Named, of_choice, recorded
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
    entries = [recorded(owner, each.entry, each.hash, _named(each)) for each in own]
    if owner == command.author:
        entries += _consigned(owner, own[0], view)
    found = DeliveryEvidence(context.repository, command.author, command.letter, tuple(entries), context.now)
    document = delivery.encode(found)
    signature = context.evidence.sign_document(document, moments.to_datetime(context.now))
    return Decision.answer(EvidenceResult(document, signature, _stamps(found, view, context)))


def _stamps(found: DeliveryEvidence, view: ReadView, context: Context) -> tuple[EntryStamp, ...]:
    """The stamps of those entries that have one; the others are put into the queue, where an authority was chosen."""
    leaves = [merkle.leaf_hash(delivery.encode_leaf(delivery.leaf_of(found, each))) for each in found.entries]
    known = view.stamps(leaves)
    if context.stamper is not None:
        missing = [each for each, leaf in zip(found.entries, leaves, strict=True) if leaf not in known]
        context.stamper.wanted(found.author, found.letter, missing)
    return tuple(
        EntryStamp(number, stamp.index, stamp.size, stamp.path, stamp.token)
        for number, leaf in enumerate(leaves)
        if (stamp := known.get(leaf))
    )


def _consigned(author: UserId, sent: StoredEntry, view: ReadView) -> Iterator[RecordedEntry]:
    """The entries of the recipients, which record the same object as the author's own."""
    found = view.status(author, sent.entry.routing.letter)
    for each in found.acceptance if found else ():
        if each.mailbox != author:
            yield recorded(each.mailbox, each.entry, each.hash, _named(sent))


def _named(stored: StoredEntry) -> Named:
    if stored.choice is not None:
        return of_choice(stored.choice)
    # Of a letter that was deleted the header is left, which names what was signed.
    header = stored.view.protected if stored.view else stored.protected
    if header is None:
        raise StorageError("an entry came without the object that it records")
    if stored.entry.kind not in _LETTERS:
        routing = sealed.routing_in(sealed.RECEIPT, header)
    else:
        routing = sealed.routing_in(sealed.SIGN_FOR if stored.slip else sealed.LETTER, header)
    return Named(routing.document, routing.signature, stored.slip.slip.digest if stored.slip else None)
