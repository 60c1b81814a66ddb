"""What the outbox holds: sent again before anything else, until its reply is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from client import session
from client.commands import choose, delete, receipt, send
from client.context import Context
from client.errors import ClientError, Stopped, Unreachable, boundary
from client.naming import letter_name
from client.state.outbox import Pending
from client.state.session import LiveSession
from crypto_core import commands
from crypto_core.ids import LetterId


@dataclass(frozen=True, slots=True)
class Resumed:
    """A command of an earlier run and how it ended: `problem` is empty when the repository accepted it."""

    command: str
    letter_id: str
    problem: str


def resume(context: Context) -> tuple[Resumed, ...]:
    """Sends what had no reply. Raises Unreachable, Stopped when there is still none: everything stays as it is."""
    waiting = context.outbox.all()
    if not waiting:
        return ()
    live = session.require(context)
    return tuple(_resume(context, live, pending) for pending in waiting if pending.user == live.user)


def _resume(context: Context, live: LiveSession, pending: Pending) -> Resumed:
    problem = ""
    try:
        with boundary():
            context.call_again(live, pending, lambda result: _complete(context, live, pending, result))
    except (Unreachable, Stopped):
        raise
    except ClientError as error:
        problem = str(error)
    letter = letter_name(LetterId(pending.letter)) if pending.letter else ""
    return Resumed(commands.name_of(pending.command), letter, problem)


def _complete(context: Context, live: LiveSession, pending: Pending, result: Any) -> None:
    command = pending.command
    if isinstance(command, commands.Send):
        send.accepted(context, live, command, result)
    elif isinstance(command, commands.Receipt):
        receipt.accepted(context, live, command, result)
    elif isinstance(command, commands.Accept | commands.Refuse):
        choose.standing(context, live, command, result)
    elif isinstance(command, commands.Delete):
        delete.standing(context, live, command, result)
