"""What a command changes, as values: handlers decide on an effect, the storage applies it, whole or not at all.

    handler ── Effect ──▶ storage.commit(Change) ── Outcome ──▶ reply

Every effect is idempotent by its ids: applied again it changes nothing, and its outcome tells what stands. A `Change`
holds the effect and the counter record of the envelope that asked for it; both are stored together or not at all.
Uploads, their chunks and watches leave no record of their counter: half a megabyte is not worth a second durable write,
and brought again, by whichever envelope, a chunk changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from crypto_core.choice import Choice, SignedChoice
from crypto_core.commands import Person
from crypto_core.deletion import SignedDeletion
from crypto_core.ids import AttachmentId, Digest, LetterId, Milliseconds, SessionId, UserId
from crypto_core.mailbox import Entry
from crypto_core.sealed import SealedObject
from crypto_core.sign_for import SignedSlip


@dataclass(frozen=True, slots=True)
class StoreRegistration:
    """A checked registration. `searchable_name` is the certificate's name as `people.fold` writes it.

    `renews` is whom the person's renewal, if there is one, names as the former card.
    """

    person: Person
    searchable_name: str
    renews: UserId | None = None


@dataclass(frozen=True, slots=True)
class ToSign:
    """A checked slip, when it ends, and the second shares of its recipients as they are stored: sealed."""

    slip: SignedSlip
    expires: Milliseconds
    shares: tuple[tuple[UserId, bytes], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoreLetter:
    """A letter: `sent` for its author and `received` for each recipient, all at once. `now`: milliseconds."""

    letter: SealedObject
    body: bytes = field(repr=False)
    now: Milliseconds
    to_sign: ToSign | None = None


@dataclass(frozen=True, slots=True)
class MarkRead:
    """The `received` entry of this letter in `mailbox` was fetched."""

    mailbox: UserId
    author: UserId
    letter: LetterId


@dataclass(frozen=True, slots=True)
class StoreReceipt:
    """A receipt: `receipt` for the author of the letter, `receipt-sent` for its reader."""

    receipt: SealedObject
    letter_author: UserId
    now: Milliseconds


@dataclass(frozen=True, slots=True)
class StoreChoice:
    """What `reader` chose about a letter by `author`: the first choice stands, and the outcome tells which that is.

    `reason` is the sealed reason of a refusal. Entries for the reader, who comes first, and for the author.
    """

    author: UserId
    letter: LetterId
    reader: UserId
    choice: SignedChoice
    reason: SealedObject | None
    now: Milliseconds


@dataclass(frozen=True, slots=True)
class StoreTombstone:
    """`owner` deletes the letter by `author` from the own mailbox: the first tombstone stands.

    `freed`: the bytes that the letter counts in that mailbox, which has room for them again.
    """

    owner: UserId
    author: UserId
    letter: LetterId
    deletion: SignedDeletion
    freed: int
    now: Milliseconds


@dataclass(frozen=True, slots=True)
class Expire:
    """The time of a slip (SHA-256 of its document) is over for those of `readers` who have not chosen."""

    author: UserId
    letter: LetterId
    slip: Digest
    readers: tuple[UserId, ...]
    now: Milliseconds


@dataclass(frozen=True, slots=True)
class SetBlock:
    """`owner` wants no letters of `user` any more (`blocked`), or wants them again."""

    owner: UserId
    user: UserId
    blocked: bool


@dataclass(frozen=True, slots=True)
class SetWatch:
    """`queue`, a reply queue of this session's installation, gets a hint whenever `owner`'s mailbox grows."""

    owner: UserId
    session: SessionId
    queue: str
    until: Milliseconds


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """An attachment of `size` bytes (all sealed chunks) for a letter that `author` will send. `now`: milliseconds."""

    author: UserId
    letter: LetterId
    attachment: AttachmentId
    size: int
    now: Milliseconds


@dataclass(frozen=True, slots=True)
class StoreChunk:
    """A sealed chunk of an upload that was begun, as long as it must be at its position."""

    author: UserId
    letter: LetterId
    attachment: AttachmentId
    position: int
    chunk: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A confirmed session: its record, sealed under the KEK with this id."""

    session: SessionId
    record: bytes = field(repr=False)
    kek: bytes
    expires: Milliseconds


@dataclass(frozen=True, slots=True)
class CloseSession:
    """The session's record is deleted, and its id never serves again."""

    session: SessionId


Effect = (
    StoreRegistration
    | StoreLetter
    | MarkRead
    | StoreReceipt
    | StoreChoice
    | StoreTombstone
    | Expire
    | SetBlock
    | SetWatch
    | OpenUpload
    | StoreChunk
    | OpenSession
    | CloseSession
)


#: Effects for which the storage itself finds out whether their session is closed or their counter used.
CHECKED_WHEN_STORED = (StoreLetter, StoreReceipt, StoreChoice, StoreTombstone)


@dataclass(frozen=True, slots=True)
class CounterRecord:
    """Which envelope used a counter. It outlives its session, so `expires` is the session's end (milliseconds)."""

    session: SessionId
    counter: int
    request_hash: Digest
    expires: Milliseconds


@dataclass(frozen=True, slots=True)
class Change:
    """One effect and the envelope that asked for it."""

    effect: Effect
    counter: CounterRecord


@dataclass(frozen=True, slots=True)
class Placed:
    """An entry as it stands in a mailbox, with its hash in the chain."""

    mailbox: UserId
    entry: Entry
    hash: Digest


@dataclass(frozen=True, slots=True)
class Outcome:
    """What stands after a change: `person` for a registration, `entries` for a letter and whatever else makes some.

    For an upload that was begun, `there`: which chunks are stored, as `commands.UploadResult` tells it.

    Entries come in the order of the acceptance: the author's own first, then the others in ascending order. `choice` is
    the one that stands, whichever was asked for.
    """

    person: Person | None = None
    entries: tuple[Placed, ...] = ()
    there: bytes = b""
    choice: Choice | None = None
