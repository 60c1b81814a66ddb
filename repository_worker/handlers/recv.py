"""RECV: a letter of the caller's own box, head and body. The first time marks a received letter as read."""

from __future__ import annotations

from dataclasses import replace

from crypto_core.commands import BoxEntry, ErrorCode, Recv, RecvResult
from repository_worker.effects import MarkRead
from repository_worker.errors import Refused
from repository_worker.handlers import signing
from repository_worker.handlers.boxes import box_entry, deleted
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.storage.interface import ReadView


def handle(command: Recv, caller: Caller, view: ReadView, context: Context) -> Decision:
    """Gives out a letter that the caller received or sent. An own copy is never marked.

    Of a letter that the caller has not signed for, the slip and what is sealed, without the body; it stays unread.
    """
    owner = caller.citizen()
    found = view.letter(owner, command.author, command.letter)
    if found is None:
        raise Refused(ErrorCode.NOT_FOUND, "There is no such letter in your box; list your letters and choose one.")
    if found.entry.deleted is not None:
        raise deleted(found.entry.deleted)
    shown, body = box_entry(found.entry, owner, context), found.body
    if signing.waits(found.entry, owner):
        return Decision.answer(RecvResult(shown, None))
    if body is None:
        raise Refused(
            ErrorCode.NOT_FOUND,
            "The text of this letter was removed: this repository keeps it for a limited time. Who wrote it, when, and "
            "its receipts are still there; ask its sender for the text.",
        )
    if not found.entry.unread:
        return Decision.answer(RecvResult(shown, body))
    return Decision(MarkRead(owner, command.author, command.letter), lambda _: _read_now(shown, body))


def _read_now(shown: BoxEntry, body: bytes) -> RecvResult:
    return RecvResult(replace(shown, read=True), body)
