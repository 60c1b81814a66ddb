"""WATCH: for a time, the caller's reply queue gets a hint whenever their mailbox grows."""

from __future__ import annotations

from crypto_core import limits
from crypto_core.commands import Watch, WatchResult
from crypto_core.ids import Milliseconds
from repository_worker.effects import SetWatch
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.storage.interface import ReadView


def handle(command: Watch, caller: Caller, view: ReadView, context: Context) -> Decision:  # noqa: ARG001 - one form
    """The queue is the one that the pipeline has found to be the caller's own installation's."""
    until = Milliseconds(context.now + limits.WATCH_MS)
    effect = SetWatch(caller.citizen(), caller.session, caller.reply_queue, until)
    return Decision(effect, lambda _: WatchResult(until))
