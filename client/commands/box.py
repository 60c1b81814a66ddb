"""new and list: NEW and ALL. Heads only: nothing is fetched further or marked, and every one is judged.

ALL must show every letter of the chain. Whether one was read is the repository's word, so NEW may leave some out.
What the citizen has deleted is not listed, whatever the repository shows.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from client import mailbox, naming, opening, session
from client.context import Context
from client.errors import Check, CheckFailed
from client.identity import Registry
from client.mailbox import Mailbox
from client.naming import letter_name
from client.opening import JudgedHead
from client.state.chain import Link
from client.state.session import LiveSession
from crypto_core import commands
from crypto_core.commands import BoxEntry
from crypto_core.ids import Digest, Milliseconds, UserId
from crypto_core.mailbox import EntryKind
from crypto_core.moments import to_datetime

_LETTERS = (EntryKind.RECEIVED, EntryKind.SENT)


class Signature(enum.Enum):
    """What a letter wants of its reader's card before it opens."""

    NONE = "none"  #: nothing: a plain letter, or one of the citizen's own
    WAITING = "waiting"  #: it opens when its reader signs
    ACCEPTED = "accepted"
    REFUSED = "refused"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class ListedLetter:
    """One letter of a list. Subject, sender and recipients are there only if every check passed."""

    letter_id: str
    name: str  #: the shortest unambiguous name here
    sent_by_me: bool
    author: UserId
    author_name: str
    to: tuple[UserId, ...]
    subject: str
    received_at: datetime
    read: bool
    number: int
    good: bool
    checks: tuple[Check, ...]
    document: Digest | None = None  #: SHA-256 of the signed document
    references: tuple[Digest, ...] = ()  #: those of the letters that it answers, the answered one last
    signature: Signature = Signature.NONE
    expires_at: datetime | None = None  #: until when it can be signed for

    @property
    def full_name(self) -> str:
        """What names exactly this letter, wherever the library asks for one."""
        return naming.full_name(self.letter_id, self.author)


def new(context: Context) -> tuple[ListedLetter, ...]:
    """The letters that were not read yet, oldest first."""
    return _list(context, unread_only=True)


def everything(context: Context) -> tuple[ListedLetter, ...]:
    """All letters received and sent, oldest first."""
    return _list(context, unread_only=False)


def letters_after(context: Context, live: LiveSession, own: Mailbox, after: int) -> tuple[ListedLetter, ...]:
    """All letters received and sent after this entry, oldest first."""
    return _judged(context, live, own, _pages(own, unread_only=False, after=after))


def judged_head(context: Context, live: LiveSession, own: Mailbox, link: Link) -> JudgedHead:
    """One letter of the own chain, judged by its head; nothing is marked.

    Raises MailboxAlarm, CheckFailed, and NotFound for one that was deleted.
    """
    number = own.chain().links.index(link) + 1
    found = [each for each in own.box(commands.All(number - 1, heads=True)).entries if each.entry.number == number]
    own.require_kept(link)
    if not found:
        raise CheckFailed("The repository did not show the letter that was asked for.", action="Try again.")
    with context.settings.waiting("the revocation lists"):
        return opening.judge_head(context, live, Registry(context, live), found[0])


def listed(context: Context, live: LiveSession, own: Mailbox, link: Link) -> ListedLetter:
    """One letter of the own chain as a list shows it. Raises as `judged_head` does."""
    head = judged_head(context, live, own, link)
    return _listed(own, head, naming.short_names(own.chain().links), context.now())


def _list(context: Context, *, unread_only: bool) -> tuple[ListedLetter, ...]:
    live = session.require(context)
    own = mailbox.own_mailbox(context, live)
    return _judged(context, live, own, _pages(own, unread_only=unread_only))


def _judged(context: Context, live: LiveSession, own: Mailbox, boxes: Sequence[BoxEntry]) -> tuple[ListedLetter, ...]:
    registry = Registry(context, live)
    with context.settings.waiting("the revocation lists"):
        # The newest first: what holds of its signer's card then held before too.
        judged = [opening.judge_head(context, live, registry, box) for box in reversed(boxes)][::-1]
    names = naming.short_names(own.chain().links)
    return tuple(_listed(own, head, names, context.now()) for head in judged)


def _pages(own: Mailbox, *, unread_only: bool, after: int = 0) -> list[BoxEntry]:
    found: list[BoxEntry] = []
    first, up_to = after, 0
    while True:
        page = own.box(commands.New(after) if unread_only else commands.All(after, heads=True))
        up_to = up_to or own.chain().number
        found += [box for box in page.entries if box.entry.kind in _LETTERS]
        if page.next is None or page.next <= after:
            break
        after = page.next
    if not unread_only:
        own.require_all(found, up_to, lambda link: link.kind in _LETTERS, after=first)
    gone = own.chain().tombstones
    return [box for box in found if (box.entry.routing.author, box.entry.routing.letter) not in gone]


def _signature(head: JudgedHead, own: Mailbox, now: Milliseconds) -> Signature:
    if head.slip is None or head.entry.routing.author == own.owner:
        return Signature.NONE
    if head.choice is not None:
        return Signature(head.choice.value)
    return Signature.EXPIRED if now >= head.slip.expires else Signature.WAITING


def _listed(own: Mailbox, head: JudgedHead, names: dict[naming.Key, str], now: Milliseconds) -> ListedLetter:
    routing = head.entry.routing
    good = head.good and (head.waits or head.opened is not None) and head.sender is not None
    return ListedLetter(
        letter_id=letter_name(routing.letter),
        name=names.get((routing.author, routing.letter), letter_name(routing.letter)),
        sent_by_me=head.entry.kind is EntryKind.SENT,
        author=routing.author,
        author_name=head.sender.name if good and head.sender else "",
        to=routing.recipients if good else (),
        subject=head.opened.subject if good and head.opened else "",
        received_at=to_datetime(head.entry.time),
        read=head.read or routing.author == own.owner,
        number=head.entry.number,
        good=good,
        checks=head.checks,
        document=head.opened.signed.digest if good and head.opened else None,
        references=head.opened.letter.references if good and head.opened else (),
        signature=_signature(head, own, now),
        expires_at=to_datetime(head.slip.expires) if head.slip else None,
    )
