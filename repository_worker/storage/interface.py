"""The storage as pipeline and handlers see it.

Reads show only what is stored for good (a majority, journalled). `commit` applies a change whole or not at all. Every
method raises StorageUnavailable while the database does not answer, and may then be called again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from crypto_core.choice import Choice, SignedChoice
from crypto_core.commands import Person
from crypto_core.deletion import SignedDeletion
from crypto_core.ids import AttachmentId, Digest, LetterId, Milliseconds, SessionId, UserId
from crypto_core.mailbox import Entry
from crypto_core.sealed import Listed, SealedView
from crypto_core.sign_for import SignedSlip
from repository_worker.effects import Change, Outcome, Placed
from repository_worker.errors import StorageError
from repository_worker.stamper import StoredStamp


@dataclass(frozen=True, slots=True)
class MailboxState:
    """The newest entry of a mailbox: its number (0: none yet) and hash (the genesis hash for 0)."""

    number: int
    hash: Digest


@dataclass(frozen=True, slots=True)
class StoredSlip:
    """The slip of a letter that opens against a signature, and when it ends.

    Of the mailbox's owner, if a recipient: the second share as it is stored, and what they chose, with their entry.
    """

    slip: SignedSlip
    expires: Milliseconds
    share: bytes | None = field(default=None, repr=False)
    choice: Choice | None = None
    chosen: Placed | None = None


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry of a mailbox. `about` is the author of the letter that it concerns.

    `view` is the object as the mailbox's owner may see it, where it was asked for, with its `slip` if it has one;
    `choice` is what an acceptance, a refusal or an expiry records, `deletion` what a tombstone does.

    Of a letter that the owner has deleted: `deleted` says when, there is no view, and `protected` is the header of what
    is stored still.
    """

    entry: Entry
    hash: Digest
    about: UserId
    unread: bool
    view: SealedView | None = None
    slip: StoredSlip | None = None
    choice: SignedChoice | None = None
    deletion: SignedDeletion | None = None
    deleted: Milliseconds | None = None
    protected: bytes | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Entries of a mailbox in ascending order, and the state of the whole mailbox; no entry is beyond it."""

    state: MailboxState
    entries: tuple[StoredEntry, ...]


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A letter as somebody who sent or received it gets it: own entry with view, and the sealed body.

    The body is None when it went by the rule of retention, or was deleted by whom it is for.
    """

    entry: StoredEntry
    body: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Held:
    """A letter in the box of somebody who sent or received it: the entry, and how many bytes of the quota it takes.

    `tombstone`: the entry by which the owner deleted it.
    """

    entry: StoredEntry
    bytes: int
    tombstone: Placed | None = None


@dataclass(frozen=True, slots=True)
class StoredAttachments:
    """What a letter lists, and how it stands with somebody who sent or received it.

    `swept`: its body and its attachments went by the rule of retention. `deleted`: when its reader deleted it.
    """

    listed: tuple[Listed, ...]
    unread: bool
    swept: bool
    deleted: Milliseconds | None = None


@dataclass(frozen=True, slots=True)
class StoredStatus:
    """A letter as its author follows it.

    The own entry with view, the receipts' in ascending order, and the entries that SEND made: the author's, then the
    recipients' in ascending order. `choices`: the entries of what recipients chose, in ascending order.
    """

    sent: StoredEntry
    receipts: tuple[StoredEntry, ...]
    acceptance: tuple[Placed, ...]
    choices: tuple[StoredEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class CounterState:
    """What is known of a counter: the hash of the envelope that used it, and whether its session was closed."""

    request_hash: Digest | None
    closed: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """How many sessions were closed so far, and those that were closed since a worker asked; None: too many to name."""

    count: int
    sessions: tuple[SessionId, ...] | None


@dataclass(frozen=True, slots=True)
class Reading:
    """Who reads which letter, and by which counter the command asks that does."""

    reader: UserId
    author: UserId
    letter: LetterId
    session: SessionId
    counter: int


@dataclass(frozen=True, slots=True)
class Questions:
    """What the commands of one batch ask: each kind is asked of the database at once, for all of them.

    `new`: whose unread letters, after which number. `letters`: the same letters that `ReadView.letter` is asked for.
    `own`: letters by their authors, for `ReadView.status`. `people`: of whom somebody wants the record.
    """

    new: tuple[tuple[UserId, int], ...] = ()
    letters: tuple[Reading, ...] = ()
    own: tuple[tuple[UserId, LetterId], ...] = ()
    people: tuple[UserId, ...] = ()


class ReadView(Protocol):
    """What handlers may read."""

    def registration(self, user: UserId) -> Person | None:
        """The newest revision."""

    def registrations(self, user: UserId, limit: int) -> tuple[Person, ...]:
        """The newest `limit` revisions, in ascending order."""

    def people(self, name_part: str, after: UserId | None, limit: int) -> tuple[Person, ...]:
        """Newest revisions in the order of user ids, whose folded name contains `name_part`."""

    def renewed(self, users: Sequence[UserId]) -> dict[UserId, UserId]:
        """Those of `users` whose card was renewed, each with the user of the card that renews it."""

    def superseded(self, users: Sequence[UserId]) -> dict[UserId, UserId]:
        """The same, as it was at most `memory.NEWS_SECONDS` ago: for what every letter asks."""

    def unregistered(self, users: Sequence[UserId]) -> tuple[UserId, ...]:
        """Those of `users` that are not registered, in their order."""

    def page(self, mailbox: UserId, after: int, limit: int, *, unread_only: bool, views: bool) -> Page:
        """At most `limit` entries with numbers over `after`; a mailbox without entries, or of nobody, is empty."""

    def received(self, mailbox: UserId, author: UserId, letter: LetterId) -> StoredEntry | None:
        """The RECEIVED entry for this letter by `author`, without a view."""

    def letter(self, reader: UserId, author: UserId, letter: LetterId) -> StoredLetter | None:
        """A letter that `reader` received or sent; of a letter to oneself the received entry."""

    def held(self, owner: UserId, author: UserId, letter: LetterId) -> Held | None:
        """A letter as `owner`, who sent or received it, may delete it; of a letter to oneself the received entry."""

    def status(self, author: UserId, letter: LetterId) -> StoredStatus | None:
        """A letter that `author` sent, and what became of it."""

    def concerning(self, owner: UserId, author: UserId, letter: LetterId) -> tuple[StoredEntry, ...]:
        """All entries in the mailbox of `owner` about a letter by `author`, with views: the letter's own come first."""

    def upload(self, author: UserId, letter: LetterId, attachment: AttachmentId) -> int | None:
        """With how many bytes this upload was begun; None when it was not, or was swept.

        As it was at most `uploads.REMEMBERED_SECONDS` ago, for every chunk asks it.
        """

    def incomplete(self, author: UserId, letter: LetterId, attachments: Sequence[Listed]) -> tuple[AttachmentId, ...]:
        """Those of `attachments` that were not begun with their size, or of which a chunk is missing."""

    def attached(self, reader: UserId, author: UserId, letter: LetterId) -> StoredAttachments | None:
        """The attachments of a letter that `reader` received or sent."""

    def chunk(self, author: UserId, letter: LetterId, attachment: AttachmentId, position: int) -> bytes | None:
        """One stored chunk."""

    def stamps(self, leaves: Sequence[Digest]) -> dict[Digest, StoredStamp]:
        """The time stamps of those of these leaves that have one."""

    def refusing(self, readers: Sequence[UserId], author: UserId) -> tuple[UserId, ...]:
        """Those of `readers` who block `author`, in their order; as it was at most `memory.NEWS_SECONDS` ago."""

    def blocked(self, owner: UserId) -> tuple[UserId, ...]:
        """Everybody whom `owner` blocks, in ascending order."""


class BatchView(ReadView, Protocol):
    """What the commands of one batch may read. Whoever stores something says so, and what was read before is gone."""

    def counters(self, wanted: Sequence[tuple[SessionId, int]]) -> tuple[CounterState, ...]:
        """As `Storage.counters`; those of `Questions.letters` as they were when the letters were read."""

    def forget(self) -> None:
        """From here on everything is asked anew: the batch has stored something."""


class Rates(Protocol):
    """Counts what somebody asked for in a minute."""

    def count(self, what: str, user: UserId, now: Milliseconds) -> int:
        """Counts once more and tells how often it was in this minute, this time included."""


class Storage(ReadView, Rates, Protocol):
    """Everything."""

    def reading(self, questions: Questions) -> BatchView:
        """A view for the commands of one batch: who asks one of these questions has all of its kind asked at once."""

    def session(self, session: SessionId) -> bytes | None:
        """The sealed record of a session."""

    def closed(self, since: int) -> Closed:
        """Which sessions were closed after the first `since` of all, as it was at most `memory.NEWS_SECONDS` ago."""

    def counters(self, wanted: Sequence[tuple[SessionId, int]]) -> tuple[CounterState, ...]:
        """What is known of these counters, in their order."""

    def commit(self, change: Change) -> Outcome:
        """Applies a change. Raises CounterUsed, Conflict, MailboxFull, UploadsFull, StorageUnavailable.

        For effects that are `effects.CHECKED_WHEN_STORED` it also raises SessionClosed, where it looked for that.

        The same change again has no second effect, and the same outcome.
        """

    def commit_all(self, changes: Sequence[Change]) -> tuple[Outcome | StorageError, ...]:
        """Applies changes, each whole or not at all; letters and receipts with as few durable writes as possible.

        Gives for each what `commit` would give or raise, in their order; a StorageUnavailable among them concerns that
        change alone. Raises StorageUnavailable when nothing can be stored now; some of them may be stored already.
        """

    def watches(self, now: Milliseconds) -> dict[UserId, tuple[str, ...]]:
        """The reply queues that get a hint when a mailbox grows."""

    def keks_in_use(self, now: Milliseconds) -> frozenset[bytes]:
        """The ids of the KEKs under which a session lives."""

    def probe(self) -> None:
        """Raises StorageUnavailable unless the database takes writes now. Takes little time."""
