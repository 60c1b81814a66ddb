"""RECV: a letter of the caller's own box, head and body. The first time marks a received letter as read."""

from __future__ import annotations

from dataclasses import replace

from crypto_core.commands import BoxEntry, ErrorCode, Recv, RecvResult
from crypto_core.mailbox import EntryKind
from repository_worker.effects import MarkRead
from repository_worker.errors import Refused, StorageError
from repository_worker.handlers.boxes import box_entries
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.storage.interface import ReadView, StoredEntry


def handle(command: Recv, caller: Caller, view: ReadView, context: Context) -> Decision:  # noqa: ARG001 - one form
    """Gives out a letter that the caller received or sent. An own copy is never marked."""
    owner = caller.citizen()
    stored = _find(command, caller, view)
    if stored is None:
        raise Refused(ErrorCode.NOT_FOUND, "There is no such letter in your box; list your letters and choose one.")
    body = view.body(command.author, command.letter)
    if body is None:
        raise StorageError("a letter without its body")
    (shown,) = box_entries(owner, [stored], view)
    if not stored.unread:
        return Decision.answer(RecvResult(shown, body))
    return Decision(MarkRead(owner, command.author, command.letter), lambda _: _read_now(shown, body))


def _find(command: Recv, caller: Caller, view: ReadView) -> StoredEntry | None:
    owner = caller.citizen()
    received = view.entry(owner, EntryKind.RECEIVED, command.author, command.letter)
    if received is not None or command.author != owner:
        return received
    return view.entry(owner, EntryKind.SENT, owner, command.letter)


def _read_now(shown: BoxEntry, body: bytes) -> RecvResult:
    return RecvResult(replace(shown, read=True), body)
