"""Where the chains of mailboxes end, as this worker knows it.

A worker remembers the ends that it saw and asks only for what is newer: one query for all mailboxes of a batch. What it
remembers may be old, since others write too, but never wrong: only what a majority of the database's members holds is
remembered, and chains only grow. Other workers tell what they have made (`repository_worker.ends`), so that it is
seldom old. Among many letters it reads what was stored last, of all mailboxes, which is cheaper than to ask for
each. For a mailbox that it has not seen it begins at the hint in `mailboxes`, which is written now and then,
without waiting, by whoever extends the chain.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pymongo import DESCENDING, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError
from pymongo.write_concern import WriteConcern

from crypto_core.ids import Digest, Milliseconds, UserId
from repository_worker.storage import collections as names
from repository_worker.storage import documents
from repository_worker.storage.chains import Tip
from repository_worker.storage.driver import Document

#: Mailboxes whose ends one worker remembers, about half a KiB each.
REMEMBERED: Final = 20_000
#: A hint is written when the chain is so many entries longer than at the last one; as many are read at most to find
#: the end of a mailbox that a worker has not seen, unless hints were lost.
HINT_EVERY: Final = 128
#: Newer objects that are read at once.
NEWER: Final = 1_000
#: Objects that were stored last, of all mailboxes: what two workers store in two full batches each.
NEWEST: Final = 128
#: Ends that are told to other workers at once. Of more, which a large batch makes, none is told: while there are large
#: batches they meet anyhow, and hearing of them costs others more than it spares.
TOLD: Final = 8
#: How far the clocks of workers may be apart, for one to believe what another tells; milliseconds.
TOLD_SKEW_MS: Final = 5_000
_NEWEST_FIELDS: Final[Document] = {"_id": 0, "entries": 1, "time": 1}
_FIELDS: Final[Document] = {**documents.USED_FIELDS, "entries": 1, "time": 1}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Heard(NamedTuple):
    """What another worker has made, and when it told so, by its clock."""

    tips: Mapping[UserId, Tip]
    told: Milliseconds


@dataclass(frozen=True, slots=True)
class _Known:
    """What is remembered of a mailbox, and up to which number a hint was written."""

    tip: Tip
    hinted: int


class Heads:
    """The ends of chains. Thread-safe. Methods that ask the database raise PyMongoError."""

    def __init__(
        self, database: Database[Document], remembered: int = REMEMBERED, clock: Callable[[], int] = _now_ms
    ) -> None:
        self._accepted = database[names.ACCEPTED]
        self._mailboxes = database[names.MAILBOXES]
        self._hints = self._mailboxes.with_options(write_concern=WriteConcern(w=0))
        self._remembered = remembered
        self._lock = threading.Lock()
        self._known: OrderedDict[UserId, _Known] = OrderedDict()
        self._made: dict[UserId, Tip] = {}
        self._clock = clock
        self._since = clock()
        self._forgotten = 0

    def known(self, owners: Iterable[UserId], session: ClientSession | None = None) -> dict[UserId, Tip]:
        """Entries that these chains have reached at least; nothing for those who have no mailbox."""
        wanted = set(owners)
        found = self._recall(wanted)
        missing = wanted - found.keys()
        if missing:
            hints = self._hinted(missing, session)
            self._remember(hints, hinted=True)
            found.update(hints)
        return found

    def remembered(self, owners: Collection[UserId]) -> dict[UserId, Tip] | None:
        """Where these chains ended when this worker last saw or heard it; None when it does not know of all of them."""
        found = self._recall(owners)
        return found if len(found) == len(owners) else None

    def ends(self, owners: Iterable[UserId], session: ClientSession | None = None) -> dict[UserId, Tip]:
        """Where these chains end now; nothing for those who have no mailbox."""
        return self.look(owners, (), session)[0]

    def look(
        self, owners: Iterable[UserId], beside: Sequence[Document], session: ClientSession | None = None
    ) -> tuple[dict[UserId, Tip], list[Document]]:
        """The same, and in the same query whatever `beside` (as of `documents.used_by`) finds of used counters."""
        tips = self.known(owners, session)
        used: list[Document] = []
        while tips or beside:
            wanted = [*(_newer(owner, tip) for owner, tip in tips.items()), *beside]
            found = list(self._accepted.find(_any(wanted), _FIELDS, limit=NEWER, session=session))
            for each in found:
                advance(tips, each)
            used += found
            if len(found) < NEWER:
                break
            # Others have written much since this worker looked: somebody's hint is nearer to the end.
            hints = self._hinted(tips, session)
            tips.update({owner: tip for owner, tip in hints.items() if tip.number > tips[owner].number})
        self.learn(tips)
        return tips, used

    def read_newest(self, session: ClientSession | None = None) -> bool:
        """Reads what was stored last, by whomever; whether that reaches back to what is known here.

        For a batch of many mailboxes this costs the database less than a look: no index is asked, and no plan is
        chosen for each mailbox. What it passes over, an insertion meets.
        """
        newest = self._accepted.find({}, _NEWEST_FIELDS, limit=NEWEST, session=session)
        found = list(newest.sort("$natural", DESCENDING))
        known = self._recall({UserId(entry["mailbox"]) for each in found for entry in each.get("entries", ())})
        tips = dict(known)
        for each in found[-1:]:
            advance(tips, each)
        joined = len(found) < NEWEST or tips == known
        for each in found:
            advance(tips, each)
        with self._lock:
            self._add(tips)
        return joined

    def learn(self, tips: Mapping[UserId, Tip]) -> None:
        """These entries were seen, and a majority holds them. Writes hints where it is time to."""
        due = self._remember(tips)
        if due:
            updates = [
                UpdateOne(
                    {"mailbox": owner, "number": {"$lt": tip.number}},
                    {"$set": {"number": tip.number, "hash": tip.hash, "time": tip.time, "bytes": tip.bytes}},
                )
                for owner, tip in due.items()
            ]
            # Nobody waits for a hint, and one that is lost costs the next reader a longer query.
            with contextlib.suppress(PyMongoError):
                self._hints.bulk_write(updates, ordered=False)

    def made(self, tips: Mapping[UserId, Tip]) -> None:
        """The same of entries that this worker has made, which others do not know of yet."""
        self.learn(tips)
        with self._lock:
            self._made.update(tips)
            if len(self._made) > TOLD:
                self._made.clear()

    def take_made(self) -> dict[UserId, Tip]:
        """What is to be told to other workers: each end once."""
        with self._lock:
            made, self._made = self._made, {}
        return made

    def hear(self, tips: Mapping[UserId, Tip], told: Milliseconds) -> None:
        """What another worker has made, and a majority holds; `told`: when it said so, by its clock.

        Whatever may be from before this worker began, or from before the database was away, is passed over: it may be
        about entries that a backup does not have. Of the rest an older one changes nothing, since chains only grow.
        """
        now = self._clock()
        with self._lock:
            if abs(now - told) <= TOLD_SKEW_MS <= told - self._since:
                self._add(tips)

    def follow(self, heard: Sequence[Heard], begun: int) -> int:
        """What others have made since the last call, which gave `begun` (the first: 0); gives that of the next one.

        Nothing of it is believed if the database was away since then. Unlike `hear` this goes by the order of what
        happened, so nobody's clock has to agree, but for what is very old.
        """
        now = self._clock()
        with self._lock:
            if begun == self._forgotten:
                for tips, told in heard:
                    if abs(now - told) <= TOLD_SKEW_MS:
                        self._add(tips)
            return self._forgotten

    def forget(self) -> None:
        """Whatever was remembered: the database was away, and may have come back older (from a backup)."""
        with self._lock:
            self._forgotten += 1
            self._known.clear()
            self._made.clear()
            self._since = self._clock()

    def _hinted(self, owners: Iterable[UserId], session: ClientSession | None) -> dict[UserId, Tip]:
        query = {"mailbox": {"$in": sorted(owners)}}
        return {UserId(each["mailbox"]): _tip(each, each) for each in self._mailboxes.find(query, session=session)}

    def _recall(self, owners: Iterable[UserId]) -> dict[UserId, Tip]:
        found: dict[UserId, Tip] = {}
        with self._lock:
            for owner in owners:
                known = self._known.get(owner)
                if known is not None:
                    self._known.move_to_end(owner)
                    found[owner] = known.tip
        return found

    def _remember(self, tips: Mapping[UserId, Tip], *, hinted: bool = False) -> dict[UserId, Tip]:
        """Remembers what is newer than what is known; gives those whose hint is due."""
        due: dict[UserId, Tip] = {}
        with self._lock:
            for owner, tip in tips.items():
                known = self._known.get(owner)
                if known is not None and known.tip.number >= tip.number:
                    continue
                told = tip.number if hinted else known.hinted if known else 0
                if tip.number - told >= HINT_EVERY:
                    due[owner], told = tip, tip.number
                self._known[owner] = _Known(tip, told)
                self._known.move_to_end(owner)
            self._forget_oldest()
        return due

    def _add(self, tips: Mapping[UserId, Tip]) -> None:
        """Remembers what was heard, if newer. Whoever made it has written the hint where one was due."""
        for owner, tip in tips.items():
            known = self._known.get(owner)
            if known is None or known.tip.number < tip.number:
                self._known[owner] = _Known(tip, known.hinted if known else tip.number)
                self._known.move_to_end(owner)
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        while len(self._known) > self._remembered:
            self._known.popitem(last=False)


def newer(tips: Mapping[UserId, Tip]) -> Document:
    """A query for the objects with entries beyond these."""
    return _any([_newer(owner, tip) for owner, tip in tips.items()])


def _newer(owner: UserId, tip: Tip) -> Document:
    return {"entries": {"$elemMatch": {"mailbox": owner, "number": {"$gt": tip.number}}}}


def _any(wanted: Sequence[Document]) -> Document:
    return wanted[0] if len(wanted) == 1 else {"$or": wanted}


def advance(tips: dict[UserId, Tip], found: Mapping[str, Any]) -> None:
    """Moves the ends of those chains among `tips` to which this document adds."""
    for entry in found.get("entries", ()):
        tip = tips.get(UserId(entry["mailbox"]))
        if tip is not None and int(entry["number"]) > tip.number:
            tips[UserId(entry["mailbox"])] = _tip(entry, found)


def _tip(entry: Mapping[str, Any], dated: Mapping[str, Any]) -> Tip:
    return Tip(int(entry["number"]), Digest(entry["hash"]), int(dated["time"]), int(entry["bytes"]))
