"""The citizen's own mailbox, checked: what the repository shows must extend what it signed before.

Every reply with a signed head goes through `Mailbox.connect`. The entries between the highest verified one and that
head are fetched and hashed. A head that is lower than what was known **when the request was published**, or a chain
that does not connect, is an alarm: what contradicts itself is kept, since the repository signed both. So it is with
the placement of what was just sent.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from client import tombstones
from client.context import Context
from client.errors import MailboxAlarm, NotFound
from client.naming import letter_name
from client.state import files
from client.state.chain import Chain, ChainStore, Link
from client.state.home import Alarm
from client.state.pin import Pin
from client.state.session import LiveSession
from crypto_core import commands, mailbox
from crypto_core.commands import BoxEntry, BoxResult
from crypto_core.errors import BindingMismatch, ChainBroken, ProtocolError
from crypto_core.ids import Digest, UserId
from crypto_core.mailbox import EntryKind, Head, Place
from crypto_core.moments import to_text
from pki.errors import PkiError


class Mailbox:
    """The own mailbox in one session with a login."""

    def __init__(self, context: Context, session: LiveSession, owner: UserId) -> None:
        self._context = context
        self._session = session
        self.owner = owner
        self._store = ChainStore(context.home, session.repository, owner)

    def chain(self) -> Chain:
        """What was verified so far. Raises LocalState."""
        return self._store.load()

    def floor(self) -> int:
        """The highest number known now: take it before publishing, for `connect` afterwards."""
        return self.chain().number

    def box(self, command: commands.New | commands.All) -> BoxResult:
        """The result of NEW or ALL, its head connected and every entry of it checked."""
        floor = self.floor()
        result: BoxResult = self._context.call(self._session, command)
        self.connect(result.head, floor)
        self.require(result.entries)
        return result

    def synchronise(self) -> Chain:
        """Fetches what is new, without the letters themselves."""
        floor = self.floor()
        result: BoxResult = self._context.call(self._session, commands.All(after=floor, heads=False))
        return self.connect(result.head, floor)

    def connect(self, data: bytes, floor: int) -> Chain:
        """The chain up to at least this signed head. Raises MailboxAlarm."""
        chain = self.chain()
        head = self._read(data, chain)
        if head.number < floor:
            raise self._alarm(f"it shows entry {head.number} as the last, after entry {floor} was seen", chain, data)
        return self._reach(head.number, head.entry, data)

    def connect_placement(self, data: bytes, owners: Sequence[UserId], floor: int) -> tuple[Place, ...]:
        """The places of an object in the mailboxes of `owners`; the chain goes up to those here then.

        `floor`: what was known before the object was sent. Raises MailboxAlarm.
        """
        try:
            places = self.places_of(data, owners)
        except ProtocolError as error:
            raise self._alarm(f"its signed placement is not valid: {error}", self.chain(), data) from error
        for place in places:
            if place.mailbox != self.owner:
                continue
            if place.number < floor:
                reason = f"it places at entry {place.number} what was sent after entry {floor} was seen"
                raise self._alarm(reason, self.chain(), data)
            self._reach(place.number, place.entry, data)
        return places

    def _reach(self, number: int, entry: Digest, data: bytes) -> Chain:
        """The chain up to at least entry `number`, which `data`, signed by the repository, says to be this one."""
        chain = self.chain()
        if number > chain.number:
            chain = self._fetch(chain, number)
        if chain.hash_at(number) != entry:
            raise self._alarm(f"what it signed of entry {number} does not fit to the entries", chain, data)
        return chain

    def require(self, boxes: Sequence[BoxEntry]) -> None:
        """Raises MailboxAlarm unless each entry is the one of the chain, and its sealed object the recorded one."""
        chain = self.chain()
        for box in boxes:
            entry = box.entry
            if entry.number > chain.number:
                chain = self._fetch(chain, entry.number)
            found = entry.hash(self._session.repository, self.owner, chain.hash_at(entry.number - 1))
            if found != chain.hash_at(entry.number):
                raise self._alarm(f"entry {entry.number} is shown otherwise than it was recorded", chain, b"")
            if box.object_hash not in (None, entry.object):
                raise self._alarm(f"entry {entry.number} comes with another letter than was recorded", chain, b"")

    def require_all(
        self, boxes: Sequence[BoxEntry], up_to: int, wanted: Callable[[Link], bool], *, after: int = 0
    ) -> None:
        """Raises MailboxAlarm when an entry over `after` up to `up_to` that is `wanted` is not among `boxes`."""
        chain, shown = self.chain(), {box.entry.number for box in boxes}
        for number, link in enumerate(chain.links[after:up_to], after + 1):
            if wanted(link) and number not in shown:
                raise self._alarm(f"entry {number} is left out", chain, b"")

    def require_kept(self, link: Link) -> None:
        """Raises NotFound for a letter that the citizen has deleted, whatever the repository would give out."""
        gone = self.chain().deleted(link.author, link.letter)
        if gone is not None:
            name = letter_name(link.letter)
            raise NotFound(
                f"You deleted letter {name} on {to_text(gone)}.",
                "Its text is not kept for you any more; what was signed about it is.",
                f"See what became of it: smr history {name}. For its text, ask whoever has it.",
            )

    def places_of(self, data: bytes, owners: Sequence[UserId]) -> tuple[Place, ...]:
        """The places in a verified placement, which must be in the mailboxes of `owners`. Raises ProtocolError."""
        key = self._context.current(self._session).verify_key
        places = mailbox.read_placement(data, key, self._session.repository).places
        if [place.mailbox for place in places] != list(owners):
            raise BindingMismatch("a placement in other mailboxes")
        return places

    def _fetch(self, chain: Chain, wanted: int) -> Chain:
        """Extends the chain by what ALL shows, at least to entry `wanted`; keeps it up to the highest signed head."""
        start, links, heads = chain.number, list[Link](), list[tuple[Head, bytes]]()
        target = wanted
        while start + len(links) < target:
            after = start + len(links)
            result: BoxResult = self._context.call(self._session, commands.All(after=after, heads=False))
            head = self._read(result.head, chain)
            if head.number < target or not result.entries:
                raise self._alarm(
                    f"entry {after + 1} is missing: the chain ends before entry {target}", chain, result.head
                )
            links += self._extend(chain, links, result, after)
            heads.append((head, result.head))
            target = max(target, heads[0][0].number)
        return self._keep(chain, links, heads)

    def _extend(self, chain: Chain, links: Sequence[Link], result: BoxResult, after: int) -> list[Link]:
        previous = links[-1].hash if links else chain.hash_at(after)
        time = links[-1].time if links else chain.time
        entries = [box.entry for box in result.entries]
        try:
            hashes = mailbox.extend(self._session.repository, self.owner, after, previous, entries, time)
        except ChainBroken as error:
            raise self._alarm(str(error), chain, result.head) from error
        fresh = [Link.of(entry, entry_hash) for entry, entry_hash in zip(entries, hashes, strict=True)]
        self._require_tombstones(chain, [*links, *fresh], result)
        return fresh

    def _require_tombstones(self, chain: Chain, links: Sequence[Link], result: BoxResult) -> None:
        """Raises MailboxAlarm for a letter that the citizen did not delete; `links`: all that follow on the chain."""
        for box in result.entries:
            if box.entry.kind is not EntryKind.TOMBSTONE:
                continue
            number = box.entry.number
            before = (*chain.links, *links)[: number - 1]
            try:
                tombstones.require_own(box, self._session.repository, self.owner, before)
            except (ProtocolError, PkiError) as error:
                reason = f"entry {number} says that you deleted a letter, and you did not: {error}"
                raise self._alarm(reason, chain, result.head) from error

    def _keep(self, chain: Chain, links: Sequence[Link], heads: Sequence[tuple[Head, bytes]]) -> Chain:
        best: tuple[int, bytes] = (0, b"")
        for head, data in heads:
            at = head.number - chain.number
            if 0 < at <= len(links):
                if links[at - 1].hash != head.entry:
                    raise self._alarm(f"the signed head of entry {head.number} does not fit", chain, data)
                best = max(best, (at, data))
        return self._store.append(chain.number, links[: best[0]], best[1])

    def _read(self, data: bytes, chain: Chain) -> Head:
        key = self._context.current(self._session).verify_key
        try:
            return mailbox.read_head(data, key, self._session.repository, self.owner)
        except ProtocolError as error:
            raise self._alarm(f"its signed head is not valid: {error}", chain, data) from error

    def _alarm(self, reason: str, chain: Chain, shown: bytes) -> MailboxAlarm:
        what = f"The mailbox that the repository shows contradicts what it signed before: {reason}."
        now = self._context.now()
        name = f"{to_text(now).replace(':', '')}-{secrets.token_hex(4)}"
        known = files.load_document(self._context.home.pin, Pin)
        descriptor = known.descriptor if known else b""
        alarm = Alarm(what, now, self.owner, descriptor, chain.head, shown)
        path = self._context.home.raise_alarm(alarm, name)
        return MailboxAlarm(
            what,
            "Letters or receipts may have been dropped, replaced or reordered. Do not rely on what it shows.",
            f"What it signed is kept in {path}; smr proof shows what that proves. Tell the operator and your "
            "correspondents.",
            evidence=str(path),
        )


def require_login(session: LiveSession) -> UserId:
    """The citizen of a session. Sessions of commands that read a mailbox always have one."""
    if session.user is None:
        raise ValueError("a session without a citizen has no mailbox")
    return session.user


def own_mailbox(context: Context, session: LiveSession) -> Mailbox:
    """The mailbox of the session's citizen."""
    return Mailbox(context, session, require_login(session))
