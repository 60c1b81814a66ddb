"""block, unblock and blocked: whose letters the repository takes for this citizen. It learns whom one blocks."""

from __future__ import annotations

from dataclasses import dataclass

from client import mailbox, naming, session
from client.context import Context
from client.errors import CheckFailed
from crypto_core import commands
from crypto_core.ids import UserId


@dataclass(frozen=True, slots=True)
class BlockedPerson:
    """Somebody who is blocked, or is not any more. `name` is empty for who was never looked up here."""

    user: UserId
    name: str
    blocked: bool


def block(context: Context, who: str, *, blocked: bool) -> BlockedPerson:
    """From now on no letters of `who` (id, or confirmed name) are taken; or, with `blocked` false, they are again."""
    user = naming.find_person(context.people, who)
    live = session.require(context)
    command = commands.Block(user, blocked)
    me = mailbox.require_login(live)
    return context.call_kept(live, command, me, None, lambda result: _judge(context, command, result))


def blocked(context: Context) -> tuple[BlockedPerson, ...]:
    """Everybody who is blocked, in the order of their ids."""
    found: commands.BlockedResult = context.call(session.require(context), commands.Blocked())
    return tuple(_person(context, user, blocked=True) for user in found.users)


def _judge(context: Context, command: commands.Block, result: commands.BlockResult) -> BlockedPerson:
    if (result.user, result.blocked) != (command.user, command.blocked):
        raise CheckFailed(
            "The repository confirmed something else than was asked.",
            "It cannot be relied on that this person is blocked, or is not.",
            "Look at smr blocked.",
        )
    return _person(context, command.user, blocked=command.blocked)


def _person(context: Context, user: UserId, *, blocked: bool) -> BlockedPerson:
    known = context.people.all().get(user)
    return BlockedPerson(user, known.name if known is not None else "", blocked)
