"""watch: what comes into the own mailbox, as it comes.

    begin (WATCH) ──▶ look ──▶ wait for a hint, or for the next look in any case ──▶ look ──▶ …

A hint only says that a look may be worth it. What is shown comes from signed replies and the checked chain, like
everything else: letters are judged by their heads, receipts as `status` judges them. So nothing is lost where hints
fail, it only comes later, and who sends hints by the thousand gets one look a second. A lost connection is opened
again, with growing pauses, for as long as the watch lasts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from client import mailbox, session
from client.commands import box, status
from client.commands.box import ListedLetter
from client.commands.status import ReceiptStatus, Verdict
from client.context import Context
from client.errors import CheckFailed, ClientError, MailboxAlarm, Unreachable, boundary
from client.mailbox import Mailbox
from client.naming import Key, full_name, letter_name, short_names
from client.state.chain import Link
from client.state.session import LiveSession
from crypto_core import commands, limits
from crypto_core.ids import Milliseconds, UserId
from crypto_core.mailbox import EntryKind
from crypto_core.moments import to_datetime

#: Between two looks, whatever hints say; seconds.
LOOK_SECONDS_MIN: Final = 1.0
#: … and at most, where no hint comes; seconds.
LOOK_SECONDS_MAX: Final = 60.0
#: After a watch began it counts in every worker (PROTOCOL.md, section 13); seconds.
BEGUN_SECONDS: Final = 3.0
#: Between attempts while the repository cannot be reached, the second for all but the first ones; seconds.
PAUSES_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
_SLICE_SECONDS: Final = 1.0

_SHOWN: Final = {
    EntryKind.RECEIVED: "letter",
    EntryKind.SENT: "sent",
    EntryKind.RECEIPT: "receipt",
    EntryKind.ACCEPTANCE: "acceptance",
    EntryKind.REFUSAL: "refusal",
    EntryKind.EXPIRY: "expiry",
}


@dataclass(frozen=True, slots=True)
class Arrival:
    """Something that came into the own mailbox.

    `kind`: letter, sent (an own letter was accepted), receipt, acceptance, refusal or expiry. `letter` is there for
    the first two; `receipt` for a receipt that could be judged. `good`: every check passed; for acceptance, refusal
    and expiry it says no more than that the chain has the entry: `status` verifies them.
    """

    kind: str
    number: int
    at: datetime
    letter_id: str
    name: str  #: the shortest unambiguous name of the letter here
    author: UserId
    good: bool
    letter: ListedLetter | None = None
    receipt: ReceiptStatus | None = None
    problem: str = ""


def _is_gone(link: Link, gone: Collection[Key]) -> bool:
    return link.kind is EntryKind.RECEIVED and (link.author, link.letter) in gone


Trouble = Callable[[ClientError], None]


def watch(context: Context, seconds: float | None, stopped: Callable[[], bool], trouble: Trouble) -> Iterator[Arrival]:
    """Everything that comes from now on, for so many seconds (None: for ever) or until `stopped`, asked every second.

    `trouble` is told each time the repository cannot be reached. Raises CheckFailed for a mailbox that contradicts
    itself, and what opening a session raises.
    """
    begun = _Watch(context, seconds, stopped, trouble)
    begun.begin()
    return begun.arrivals()


class _Watch:
    def __init__(self, context: Context, seconds: float | None, stopped: Callable[[], bool], trouble: Trouble) -> None:
        self._context = context
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._stopped = stopped
        self._trouble = trouble
        self._queue = ""
        self._begun: Milliseconds = Milliseconds(0)
        self._failures = 0
        self._after: int | None = None

    def begin(self) -> None:
        """The first look, so that what comes from now on is new; where it cannot be made, when it can be."""
        try:
            with boundary():
                self._look()
        except Unreachable as error:
            self._trouble(error)

    def arrivals(self) -> Iterator[Arrival]:
        while not self._over():
            try:
                with boundary():
                    found, again = self._look()
                    self._failures = 0
                yield from found
                with boundary():
                    self._await(again)
            except Unreachable as error:
                self._trouble(error)
                self._pause(PAUSES_SECONDS[min(self._failures, len(PAUSES_SECONDS) - 1)])
                self._failures += 1

    def _over(self) -> bool:
        return self._stopped() or (self._deadline is not None and time.monotonic() >= self._deadline)

    def _look(self) -> tuple[list[Arrival], float]:
        """What is new, and after how many seconds to look again without a hint."""
        live = session.require(self._context)
        own = mailbox.own_mailbox(self._context, live)
        self._begin(live)
        # Until it counts in every worker hints may fail: one look comes soon after that.
        fresh = self._context.now() < self._begun + BEGUN_SECONDS * 1000
        again = BEGUN_SECONDS if fresh else LOOK_SECONDS_MAX
        if self._after is None:
            self._after = own.synchronise().number
            return [], again
        chain = own.synchronise()
        links, gone = chain.links, chain.tombstones
        new = [
            (number, link)
            for number, link in enumerate(links, 1)
            # What was deleted before anybody looked is no arrival; other kinds are named by whoever signed them.
            if number > self._after and link.kind in _SHOWN and not _is_gone(link, gone)
        ]
        found = self._judge(live, own, new) if new else []
        self._after = len(links)
        return found, again

    def _begin(self, live: LiveSession) -> None:
        """Asks for hints, when nobody was asked for this queue yet or half of the time is over."""
        now = self._context.now()
        if self._queue and self._queue == self._reply_queue(live) and now < self._begun + limits.WATCH_MS // 2:
            return
        self._context.call(live, commands.Watch())
        self._queue, self._begun = self._reply_queue(live), now

    def _reply_queue(self, live: LiveSession) -> str:
        return self._context.transport(live.app_key.public.raw, live.account).reply_queue

    def _judge(self, live: LiveSession, own: Mailbox, new: list[tuple[int, Link]]) -> list[Arrival]:
        names = short_names(own.chain().links)
        letters = {each.number: each for each in box.letters_after(self._context, live, own, new[0][0] - 1)}
        return [self._arrival(own, names, number, link, letters.get(number)) for number, link in new]

    def _arrival(
        self, own: Mailbox, names: dict[Key, str], number: int, link: Link, letter: ListedLetter | None
    ) -> Arrival:
        author = link.author if link.kind is EntryKind.RECEIVED else own.owner
        receipt, problem = self._receipt(own, link) if link.kind is EntryKind.RECEIPT else (None, "")
        checked = letter.good if letter is not None else receipt is None or receipt.verdict is Verdict.VERIFIED
        return Arrival(
            kind=_SHOWN[link.kind],
            number=number,
            at=to_datetime(Milliseconds(link.time)),
            letter_id=letter_name(link.letter),
            name=names.get((author, link.letter), letter_name(link.letter)),
            author=link.author,
            good=checked and not problem,
            letter=letter,
            receipt=receipt,
            problem=problem,
        )

    def _receipt(self, own: Mailbox, link: Link) -> tuple[ReceiptStatus | None, str]:
        """The receipt as `status` judges it, or why it could not be."""
        try:
            with boundary():
                found = status.status(self._context, full_name(letter_name(link.letter), own.owner))
        except (Unreachable, MailboxAlarm):
            raise
        except CheckFailed as error:
            return None, str(error)
        return next((each for each in found.receipts if each.reader == link.author), None), ""

    def _await(self, again: float) -> None:
        """Until a hint comes, but not before `LOOK_SECONDS_MIN`; or until it is time for the next look."""
        began = time.monotonic()
        live = session.require(self._context)
        transport = self._context.transport(live.app_key.public.raw, live.account)
        while not self._over() and time.monotonic() < began + again:
            if transport.await_hint(min(_SLICE_SECONDS, again)):
                self._pause(began + LOOK_SECONDS_MIN - time.monotonic())
                return

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._over() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE_SECONDS))
