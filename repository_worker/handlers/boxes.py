"""What NEW, ALL, RECV and STATUS share: entries of the caller's own mailbox, as pages with a signed head."""

from __future__ import annotations

from collections.abc import Sequence

from crypto_core import limits
from crypto_core.commands import BoxEntry, BoxResult
from crypto_core.ids import UserId
from crypto_core.sealed import SealedView
from repository_worker.effects import Placed
from repository_worker.handlers.context import Context
from repository_worker.storage.interface import ReadView, StoredEntry

#: What one entry takes in a page besides its view; bytes.
_ENTRY_BYTES = 256
#: … and for each recipient that its routing names.
_RECIPIENT_BYTES = 32


def page(owner: UserId, after: int, view: ReadView, context: Context, *, heads: bool, unread_only: bool) -> BoxResult:
    """Entries of `owner` after number `after`, at most a page of them, with the signed head of the mailbox.

    The head is read first and no entry beyond it is shown: what the head pins is what was read.
    """
    state = view.mailbox(owner)
    most = limits.MAILBOX_PAGE if heads else limits.CHAIN_PAGE
    found = view.entries(owner, after, state.number, most + 1, unread_only=unread_only)
    shown = _fitting(found[:most], heads=heads)
    following = shown[-1].entry.number if len(shown) < len(found) else None
    return BoxResult(box_entries(owner, shown, view, heads=heads), context.sign_state(owner, state), following)


def box_entries(
    owner: UserId, entries: Sequence[StoredEntry], view: ReadView, *, heads: bool = True
) -> tuple[BoxEntry, ...]:
    """The entries as their owner gets them, with their sealed objects when `heads` is true."""
    views: Sequence[SealedView | None] = view.views(owner, entries) if heads else [None] * len(entries)
    return tuple(BoxEntry(each.entry, sealed, not each.unread) for each, sealed in zip(entries, views, strict=True))


def acceptance_heads(entries: Sequence[Placed], context: Context) -> tuple[bytes, ...]:
    """Signed heads for what was accepted: one for each entry, in their order."""
    return tuple(context.sign_head(each.mailbox, each.entry.number, each.hash) for each in entries)


def _fitting(entries: Sequence[StoredEntry], *, heads: bool) -> Sequence[StoredEntry]:
    total = 0
    for count, each in enumerate(entries):
        total += _ENTRY_BYTES + _RECIPIENT_BYTES * len(each.entry.routing.recipients)
        total += each.view_bytes if heads else 0
        if total > limits.PAGE_BYTES and count:
            return entries[:count]
    return entries
