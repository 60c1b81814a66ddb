"""What NEW, ALL, RECV and STATUS share: entries of the caller's own mailbox, as pages with a signed head."""

from __future__ import annotations

from collections.abc import Sequence

from crypto_core import limits
from crypto_core.commands import BoxEntry, BoxResult
from crypto_core.ids import DIGEST_BYTES, UserId
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

    No entry beyond the head is shown: what the head pins is what was read.
    """
    most = limits.MAILBOX_PAGE if heads else limits.CHAIN_PAGE
    found = view.page(owner, after, most + 1, unread_only=unread_only, views=heads)
    shown = _fitting(found.entries[:most])
    following = shown[-1].entry.number if len(shown) < len(found.entries) else None
    return BoxResult(tuple(map(box_entry, shown)), context.sign_state(owner, found.state), following)


def box_entry(stored: StoredEntry) -> BoxEntry:
    """An entry as its owner gets it."""
    return BoxEntry(stored.entry, stored.view, not stored.unread)


def acceptance_heads(entries: Sequence[Placed], context: Context) -> tuple[bytes, ...]:
    """Signed heads for what was accepted: one for each entry, in their order."""
    return tuple(context.sign_head(each.mailbox, each.entry.number, each.hash) for each in entries)


def _fitting(entries: Sequence[StoredEntry]) -> Sequence[StoredEntry]:
    total = 0
    for count, each in enumerate(entries):
        total += _ENTRY_BYTES + _RECIPIENT_BYTES * len(each.entry.routing.recipients)
        total += _view_bytes(each.view)
        if total > limits.PAGE_BYTES and count:
            return entries[:count]
    return entries


def _view_bytes(view: SealedView | None) -> int:
    if view is None:
        return 0
    return len(view.protected) + len(view.ciphertext) + len(view.wrap) + DIGEST_BYTES * len(view.wraps)
