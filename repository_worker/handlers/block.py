"""BLOCK: the caller wants no letters of somebody any more, or wants them again. Receipts come in any case."""

from __future__ import annotations

from crypto_core import limits
from crypto_core.commands import Block, BlockResult, ErrorCode
from repository_worker.effects import SetBlock
from repository_worker.errors import Refused
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.storage.interface import ReadView


def handle(command: Block, caller: Caller, view: ReadView, context: Context) -> Decision:  # noqa: ARG001 - one form
    """Takes any id back from the list, and only registered citizens onto it."""
    owner = caller.citizen()
    if command.blocked:
        if command.user == owner:
            raise Refused(ErrorCode.NOT_ALLOWED, "These are your own letters; nobody can block themselves.")
        if view.unregistered((command.user,)):
            raise Refused(ErrorCode.NOT_FOUND, "Nobody is registered here under this id; check it.")
        blocked = view.blocked(owner)
        if len(blocked) >= limits.BLOCKED and command.user not in blocked:
            raise Refused(ErrorCode.TOO_LARGE, f"You block {len(blocked)} people, the most there may be; unblock some.")
    return Decision(
        SetBlock(owner, command.user, command.blocked), lambda _: BlockResult(command.user, command.blocked)
    )
