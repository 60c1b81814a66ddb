"""What NEW, ALL, RECV and STATUS share: entries of the caller's own mailbox, as pages with a signed head."""

from __future__ import annotations

from collections.abc import Sequence

from crypto_core import limits, moments, records, sign_for
from crypto_core.choice import Choice
from crypto_core.commands import BoxEntry, BoxResult, ErrorCode, SlipView
from crypto_core.errors import ProtocolError
from crypto_core.ids import DIGEST_BYTES, Milliseconds, UserId
from crypto_core.sealed import SealedView
from crypto_core.sign_for import Release
from repository_worker.errors import Refused, StorageError
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
    entries = tuple(box_entry(each, owner, context) for each in shown)
    return BoxResult(entries, context.sign_head(owner, found.state), following)


def box_entry(stored: StoredEntry, owner: UserId, context: Context) -> BoxEntry:
    """An entry as its owner gets it."""
    slip = slip_view(stored, owner, context) if stored.slip else None
    return BoxEntry(stored.entry, stored.view, not stored.unread, slip, stored.choice, stored.deletion)


def deleted(at: Milliseconds) -> Refused:
    """What is said of a letter that the caller has deleted."""
    return Refused(
        ErrorCode.NOT_FOUND,
        f"You deleted this letter on {moments.to_text(at)}. What was signed about it stays; its text is not given out.",
    )


def slip_view(stored: StoredEntry, owner: UserId, context: Context) -> SlipView:
    """A slip as `owner` gets it: with the second share once their acceptance is stored, and not before.

    Of a letter that `owner` has deleted without it: the share is gone.
    """
    found = stored.slip
    if found is None:
        raise StorageError("a letter without its slip")
    released = found.choice is Choice.ACCEPTED and owner != stored.about and stored.deleted is None
    return SlipView(found.slip, found.choice, release(stored, owner, context) if released else None)


def release(stored: StoredEntry, reader: UserId, context: Context) -> bytes:
    """The repository's signed release of the reader's second share. Whoever calls it has seen the stored acceptance."""
    slip, routing = stored.slip, stored.entry.routing
    if slip is None or slip.share is None:
        raise StorageError("a letter that was signed for, without the reader's share")
    try:
        share = records.open_share(context.share_secret, routing.letter, routing.author, reader, slip.share)
    except ProtocolError as error:
        raise StorageError("a stored share that does not open") from error
    found = Release(context.repository, routing.letter, routing.author, reader, slip.slip.digest, share, context.now)
    return sign_for.sign_release(context.signing, found)


def _fitting(entries: Sequence[StoredEntry]) -> Sequence[StoredEntry]:
    total = 0
    for count, each in enumerate(entries):
        total += _ENTRY_BYTES + _RECIPIENT_BYTES * len(each.entry.routing.recipients)
        total += _view_bytes(each.view)
        total += (each.slip.slip.size if each.slip else 0) + (each.choice.size if each.choice else 0)
        total += each.deletion.size if each.deletion else 0
        if total > limits.PAGE_BYTES and count:
            return entries[:count]
    return entries


def _view_bytes(view: SealedView | None) -> int:
    if view is None:
        return 0
    return len(view.protected) + len(view.ciphertext) + len(view.wrap) + DIGEST_BYTES * len(view.wraps)
