"""What each command does: plain functions, a verified command in, the effect and the reply out as values.

No broker, no database driver and no clock is known here; an import contract holds that. One file a command; `decide`
finds it. Who asks is in `Caller`: a handler that needs a citizen asks the caller for one, and refuses without a login.
"""

from __future__ import annotations

from crypto_core.commands import (
    Accept,
    All,
    Block,
    Blocked,
    Close,
    Command,
    Create,
    Delete,
    Evidence,
    GetChunk,
    List,
    New,
    PutChunk,
    Receipt,
    Recv,
    Refuse,
    Send,
    Status,
    Upload,
    Watch,
)
from repository_worker.handlers import (
    accept,
    all_entries,
    block,
    blocked,
    close,
    create,
    delete,
    evidence,
    get_chunk,
    list_people,
    new,
    put_chunk,
    receipt,
    recv,
    refuse,
    send,
    status,
    upload,
    watch,
)
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.storage.interface import ReadView

__all__ = ["Caller", "Context", "Decision", "decide"]


def decide(command: Command, caller: Caller, view: ReadView, context: Context) -> Decision:
    """The decision on a command. Raises Refused."""
    # Without a login: register, look up one id, and close. Everything else is refused before its handler is asked.
    if not isinstance(command, Create | List | Close):
        caller.citizen()
    match command:
        case Create():
            return create.handle(command, caller, view, context)
        case List():
            return list_people.handle(command, caller, view, context)
        case New():
            return new.handle(command, caller, view, context)
        case All():
            return all_entries.handle(command, caller, view, context)
        case Send():
            return send.handle(command, caller, view, context)
        case Recv():
            return recv.handle(command, caller, view, context)
        case Receipt():
            return receipt.handle(command, caller, view, context)
        case Accept():
            return accept.handle(command, caller, view, context)
        case Refuse():
            return refuse.handle(command, caller, view, context)
        case Delete():
            return delete.handle(command, caller, view, context)
        case Status():
            return status.handle(command, caller, view, context)
        case Evidence():
            return evidence.handle(command, caller, view, context)
        case Block():
            return block.handle(command, caller, view, context)
        case Blocked():
            return blocked.handle(command, caller, view, context)
        case Watch():
            return watch.handle(command, caller, view, context)
        case Upload():
            return upload.handle(command, caller, view, context)
        case PutChunk():
            return put_chunk.handle(command, caller, view, context)
        case GetChunk():
            return get_chunk.handle(command, caller, view, context)
        case Close():
            return close.handle(command, caller, view, context)
