"""delete: DELETE. A letter goes from the own mailbox, for good; what others have of it, and what was signed, stays.

The session's app key signs it, which the card has given to the citizen with the session's login: no PIN is asked for.
The signed command lies in the outbox before it is sent: an interrupted deletion is finished by the next command.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from client import mailbox, naming, session
from client.commands import box
from client.commands.box import ListedLetter
from client.context import Context
from client.errors import CheckFailed, LocalState, NotAllowed
from client.mailbox import Mailbox
from client.naming import letter_name
from client.state.chain import Link
from client.state.session import LiveSession
from crypto_core import commands, deletion
from crypto_core.commands import DeleteResult
from crypto_core.deletion import Deletion, SignedDeletion
from crypto_core.ids import UserId
from crypto_core.moments import to_datetime


@dataclass(frozen=True, slots=True)
class Deleted:
    """A letter that is gone from the own mailbox. `before`: it was deleted already, here or at another machine."""

    letter_id: str
    author: UserId
    deleted_at: datetime
    before: bool


def delete(context: Context, text: str, approve: Callable[[ListedLetter], bool] | None = None) -> Deleted:
    """Deletes the letter that `text` names. `approve` is asked first, if it is given, and shown the letter's head.

    Raises NotAllowed when it does not agree, and for a letter that waits for the citizen's signature.
    """
    if context.former is not None:
        raise NotAllowed(
            "Nothing can be deleted in the mailbox of an earlier card.",
            "That card signs nothing any more.",
            "Read its letters with --former; delete the backups of its key to make them unreadable.",
        )
    live = session.require(context)
    own = mailbox.own_mailbox(context, live)
    link = naming.find_letter(own, text)
    gone = own.synchronise().deleted(link.author, link.letter)  # perhaps at another machine
    if gone is not None:
        return Deleted(letter_name(link.letter), link.author, to_datetime(gone), before=True)
    if approve is not None and not approve(box.listed(context, live, own, link)):
        raise NotAllowed(
            "Nothing was deleted.", "It was not confirmed, and could not be undone.", "Answer yes, or give --yes."
        )
    floor = own.floor()
    command = commands.Delete(_sign(context, live, own, link))
    return context.call_kept(
        live, command, own.owner, link.letter, lambda result: standing(context, live, command, result, floor)
    )


def standing(
    context: Context, live: LiveSession, command: commands.Delete, result: DeleteResult, floor: int = 0
) -> Deleted:
    """Checks that the tombstone stands in the own chain. Raises CheckFailed, MailboxAlarm.

    `floor`: the highest entry known when it was first sent, 0 for a repeat.
    """
    own = mailbox.own_mailbox(context, live)
    asked = deletion.read(command.deletion, live.repository, own.owner)
    (place,) = own.connect_placement(result.placement, (own.owner,), floor)
    number = place.number
    link = own.chain().links[number - 1]
    if not link.deletes(asked.author, asked.letter) or link.time != result.deleted:
        raise CheckFailed(
            "The repository's answer to your deletion is not valid.",
            f"Entry {number} of your mailbox records something else.",
            "Look at smr history LETTER, and tell the operator of the repository.",
        )
    return Deleted(letter_name(asked.letter), asked.author, to_datetime(result.deleted), before=number <= floor)


def _sign(context: Context, live: LiveSession, own: Mailbox, link: Link) -> SignedDeletion:
    if live.login is None:
        raise LocalState("The kept session is not of this version.", action="Close it: smr session close.")
    number = own.chain().links.index(link) + 1
    made = Deletion(
        repository=live.repository,
        mailbox=own.owner,
        author=link.author,
        letter=link.letter,
        number=number,
        entry=link.hash,
        session=live.session,
        app_key=live.app_key.public.raw,
        time=context.now(),
    )
    return SignedDeletion(deletion.sign(live.app_key, made), live.login)
