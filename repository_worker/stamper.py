"""Time stamps for what this worker accepted: many entries under one stamp, made in the background.

    accepted entries ─▶ queue ─▶ Merkle tree (RFC 9162) ─▶ one stamp of its root (RFC 3161) ─▶ stored: proofs, token

No command waits for it. What is not stamped yet when somebody asks for evidence is put into the queue again, so that
nothing is missed for good when a worker ends; evidence then simply comes without a stamp, once.
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from crypto_core import delivery, merkle
from crypto_core.choice import SignedChoice
from crypto_core.delivery import RecordedEntry, StampedEntry
from crypto_core.documents import SignedDocument
from crypto_core.ids import Digest, LetterId, RepositoryId, UserId
from crypto_core.mailbox import Entry
from pki.errors import PkiError
from pki.fetchers import HttpFetcher
from pki.timestamp import NONCE_BYTES, StampTrust, ask, read_answer
from repository_worker.effects import Effect, Outcome, StoreChoice, StoreLetter, StoreReceipt
from repository_worker.errors import StorageError

QUEUE_MAX: Final = 200_000  #: entries that wait; about 1 KiB each. What comes beyond is stamped when somebody asks
BATCH_MAX: Final = 50_000  #: entries under one stamp


@dataclass(frozen=True, slots=True)
class Named:
    """What a stored object says of the signed document that it holds or is."""

    document: Digest | None
    signature: Digest | None
    slip: Digest | None = None


@dataclass(frozen=True, slots=True)
class StoredStamp:
    """The proof of one leaf, and the token over the root of its tree."""

    leaf: Digest
    index: int
    size: int
    path: tuple[Digest, ...]
    token: bytes = field(repr=False)


class StampStore(Protocol):
    """Where stamps are kept."""

    def keep_stamps(self, root: Digest, token: bytes, stamps: Sequence[StoredStamp]) -> None:
        """Stores them; a leaf that has a stamp keeps it. Raises StorageError."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A time-stamp authority that the operator chose."""

    url: str
    trust: StampTrust
    fetcher: HttpFetcher

    def stamp(self, digest: Digest) -> bytes:
        """A verified token about this digest. Raises PkiError."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        answer = self.fetcher.ask_for_stamp(self.url, ask(digest, nonce, self.trust.policy))
        return read_answer(answer, digest, nonce, self.trust)


class Stamper:
    """The queue and what empties it. Thread-safe."""

    def __init__(self, repository: RepositoryId, authority: Authority, store: StampStore) -> None:
        self._repository = repository
        self._authority = authority
        self._store = store
        self._waiting: deque[StampedEntry] = deque(maxlen=QUEUE_MAX)
        self._log = structlog.get_logger("stamps")

    def accepted(self, effect: Effect, outcome: Outcome) -> None:
        """Takes the entries that an effect made. Costs no more than appending them."""
        found = _names(effect)
        if found is not None:
            author, letter, named = found
            placed = [recorded(each.mailbox, each.entry, each.hash, named) for each in outcome.entries]
            self.wanted(author, letter, placed)

    def wanted(self, author: UserId, letter: LetterId, entries: Iterable[RecordedEntry]) -> None:
        """Takes entries that have no stamp."""
        self._waiting.extend(StampedEntry(self._repository, author, letter, each) for each in entries)

    def run(self, ended: threading.Event, seconds: float) -> None:
        """Stamps what waits, every so many seconds, until `ended`."""
        while not ended.wait(seconds):
            try:
                while self.stamp():
                    pass
            except (PkiError, StorageError) as error:
                self._log.warning("not now", error=str(error))

    def stamp(self) -> int:
        """One stamp for what waits; tells for how many. Raises PkiError or StorageError, and then they wait on."""
        batch = [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
        if not batch:
            return 0
        try:
            leaves = sorted({merkle.leaf_hash(delivery.encode_leaf(each)) for each in batch})
            tree = merkle.levels(leaves)
            root = tree[-1][0]
            token = self._authority.stamp(root)
            stamps = [
                StoredStamp(leaf, index, len(leaves), merkle.path(tree, index), token)
                for index, leaf in enumerate(leaves)
            ]
            self._store.keep_stamps(root, token, stamps)
        except (PkiError, StorageError):
            self._waiting.extendleft(reversed(batch))
            raise
        self._log.info("stamped", entries=len(leaves))
        return len(batch)


def recorded(mailbox: UserId, entry: Entry, entry_hash: Digest, named: Named) -> RecordedEntry:
    """An entry as evidence and stamps tell it."""
    return RecordedEntry(
        mailbox=mailbox,
        number=entry.number,
        entry=entry_hash,
        kind=entry.kind,
        time=entry.time,
        author=entry.routing.author,
        document=named.document,
        signature=named.signature,
        slip=named.slip,
    )


def of_choice(choice: SignedChoice) -> Named:
    """What an acceptance, a refusal or an expiry names."""
    if choice.document is None or choice.signature is None:
        return Named(None, None, choice.slip)
    signed = SignedDocument(choice.document, choice.signature)
    return Named(signed.digest, signed.signature_digest, choice.slip)


def _names(effect: Effect) -> tuple[UserId, LetterId, Named] | None:
    """Author and id of the letter concerned, and what the effect stores; None for effects without entries."""
    match effect:
        case StoreLetter():
            routing = effect.letter.routing
            slip = effect.to_sign.slip.digest if effect.to_sign else None
            return routing.author, routing.letter, Named(routing.document, routing.signature, slip)
        case StoreReceipt():
            routing = effect.receipt.routing
            return effect.letter_author, routing.letter, Named(routing.document, routing.signature)
        case StoreChoice():
            return effect.author, effect.letter, of_choice(effect.choice)
    return None
