"""Tombstones in the own chain: each must be the citizen's own word about a letter that the chain has.

A repository that wants a letter to disappear could write a tombstone for it. So each one is judged when it enters the
chain, by what came with it alone: another installation may have made it, whose app key is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence

from client.state.chain import Link
from crypto_core import deletion
from crypto_core.commands import BoxEntry
from crypto_core.deletion import SignedDeletion
from crypto_core.errors import BindingMismatch, Malformed
from crypto_core.ids import RepositoryId, UserId
from crypto_core.mailbox import EntryKind, EntryRouting

_LETTERS = (EntryKind.RECEIVED, EntryKind.SENT)


def require_own(box: BoxEntry, repository: RepositoryId, owner: UserId, before: Sequence[Link]) -> None:
    """Raises ProtocolError or PkiError unless `owner` deleted the letter; `before`: the chain up to this entry."""
    signed, routing = box.deletion, box.entry.routing
    if signed is None:
        raise Malformed("a tombstone came without what its owner signed")
    if signed.object_hash != box.entry.object:
        raise BindingMismatch("a tombstone came with another deletion than was recorded")
    found = deletion.read(signed, repository, owner)
    if routing != EntryRouting(found.letter, found.author, (owner,)):
        raise BindingMismatch("a tombstone names another letter than its owner deleted")
    link = before[found.number - 1] if found.number <= len(before) else None
    named = (found.entry, found.author, found.letter)
    if link is None or link.kind not in _LETTERS or (link.hash, link.author, link.letter) != named:
        raise BindingMismatch("a tombstone names an entry that this mailbox does not have")
    if any(each.deletes(found.author, found.letter) for each in before):
        raise BindingMismatch("a letter was deleted twice")
    _require_card(signed, owner)


def _require_card(signed: SignedDeletion, owner: UserId) -> None:
    """The login that names the app key is signed by the card whose certificate gives the owner's id."""
    from pki import cades, identity

    signer = cades.verify_document(signed.login.document, signed.login.signature).certificate
    if identity.user_id(signer) != owner:
        raise BindingMismatch("a tombstone's login is signed by another card than the owner's")
