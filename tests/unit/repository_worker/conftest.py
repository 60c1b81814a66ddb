"""What is stored, as plain values, for tests of the rules that handlers keep."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from crypto_core import documents, mailbox, moments, sealed
from crypto_core.ids import Milliseconds
from crypto_core.mailbox import Entry, EntryKind, EntryRouting
from pki.path import PathResult, Verdict
from pki.test_ca import TestCa
from repository_worker.effects import Placed
from repository_worker.handlers import Caller, Context
from repository_worker.identities import Identities
from repository_worker.storage.interface import (
    Held,
    MailboxState,
    Page,
    StoredAttachments,
    StoredEntry,
    StoredLetter,
    StoredStatus,
)
from tests.support import protocol
from tests.support.protocol import NOW, REPOSITORY, SESSION


@dataclass
class Shelf:
    """A `ReadView` over values that a test lays on it."""

    people_: list[Any] = field(default_factory=list)
    entries_: dict[Any, list[StoredEntry]] = field(default_factory=dict)
    bodies: dict[Any, bytes] = field(default_factory=dict)
    registered: set[bytes] = field(default_factory=set)
    blocks: set[tuple[bytes, bytes]] = field(default_factory=set)
    uploads: dict[Any, int] = field(default_factory=dict)
    chunks: dict[Any, bytes] = field(default_factory=dict)
    bytes: int = 1000
    swept: bool = False
    stamped: dict[Any, Any] = field(default_factory=dict)
    asked: int = 0

    def registration(self, user):
        return max((each for each in self.people_ if each.user == user), key=lambda p: p.revision, default=None)

    def registrations(self, user, limit):
        return tuple(sorted((p for p in self.people_ if p.user == user), key=lambda p: p.revision))[-limit:]

    def people(self, name_part, after, limit):
        return tuple(p for p in sorted(self.people_, key=lambda p: p.user) if after is None or p.user > after)[:limit]

    def renewed(self, users):
        found = {}
        for person in self.people_:
            if person.renewal is not None:
                former = documents.decode(documents.Renewal, person.renewal.document, REPOSITORY).former.user
                if former in users:
                    found[former] = person.user
        return found

    def superseded(self, users):
        return self.renewed(users)

    def unregistered(self, users):
        return tuple(user for user in users if user not in self.registered)

    def page(self, owner, after, limit, *, unread_only, views):
        stored = self.entries_.get(owner, [])
        state = MailboxState(len(stored), stored[-1].hash if stored else mailbox.genesis(REPOSITORY, owner))
        found = [e for e in stored if e.entry.number > after and (e.unread or not unread_only)]
        return Page(state, tuple(e if views else replace(e, view=None) for e in found[:limit]))

    def received(self, owner, author, letter):
        return self._entry(owner, EntryKind.RECEIVED, author, letter)

    def letter(self, reader, author, letter):
        found = self._entry(reader, EntryKind.RECEIVED, author, letter)
        found = found or (self._entry(reader, EntryKind.SENT, author, letter) if reader == author else None)
        return StoredLetter(found, self.bodies[author, letter]) if found else None

    def held(self, owner, author, letter):
        found = self._entry(owner, EntryKind.RECEIVED, author, letter)
        found = found or (self._entry(owner, EntryKind.SENT, author, letter) if owner == author else None)
        return Held(found, self.bytes) if found else None

    def status(self, author, letter):
        sent = self._entry(author, EntryKind.SENT, author, letter)
        if sent is None:
            return None
        own = self.entries_[author]
        receipts = tuple(e for e in own if e.entry.kind is EntryKind.RECEIPT and e.entry.routing.letter == letter)
        acceptance = tuple(
            Placed(owner, each.entry, each.hash)
            for owner, stored in self.entries_.items()
            for each in stored
            if each.about == author
            and each.entry.routing.letter == letter
            and each.entry.kind in (EntryKind.SENT, EntryKind.RECEIVED)
        )
        return StoredStatus(sent, receipts, acceptance)

    def concerning(self, owner, author, letter):
        own = self.entries_.get(owner, [])
        return tuple(each for each in own if (each.about, each.entry.routing.letter) == (author, letter))

    def stamps(self, leaves):
        return {leaf: self.stamped[leaf] for leaf in leaves if leaf in self.stamped}

    def _entry(self, owner, kind, about, letter):
        for each in self.entries_.get(owner, []):
            if (each.entry.kind, each.about, each.entry.routing.letter) == (kind, about, letter):
                return each
        return None

    def upload(self, author, letter, attachment):
        return self.uploads.get((author, letter, attachment))

    def incomplete(self, author, letter, attachments):
        return tuple(
            each.id
            for each in attachments
            if self.upload(author, letter, each.id) != each.size
            or any((author, letter, each.id, n) not in self.chunks for n in range(each.shape.chunks))
        )

    def attached(self, reader, author, letter):
        found = self._entry(reader, EntryKind.RECEIVED, author, letter)
        found = found or (self._entry(reader, EntryKind.SENT, author, letter) if reader == author else None)
        if found is None:
            return None
        return StoredAttachments(found.view.routing(sealed.LETTER).attachments, found.unread, self.swept)

    def chunk(self, author, letter, attachment, position):
        return self.chunks.get((author, letter, attachment, position))

    def refusing(self, readers, author):
        return tuple(reader for reader in readers if (reader, author) in self.blocks)

    def blocked(self, owner):
        return tuple(sorted(author for reader, author in self.blocks if reader == owner))

    def count(self, what, user, now):
        self.asked += 1
        return self.asked

    # ------------------------------------------------------------------------------------------- laying things on it

    def put(self, owner, kind: EntryKind, made: sealed.SealedObject, about, *, unread: bool = False, size: int = 0):
        """Appends an entry for a sealed object; with `size` it shows so many bytes of ciphertext."""
        stored = self.entries_.setdefault(owner, [])
        previous = stored[-1].hash if stored else mailbox.genesis(REPOSITORY, owner)
        routing = EntryRouting(made.routing.letter, made.routing.author, made.recipients)
        entry = Entry(len(stored) + 1, Milliseconds(NOW), kind, routing, made.object_hash)
        view = made.view(owner)
        shown = replace(view, ciphertext=bytes(size)) if size else view
        stored.append(StoredEntry(entry, entry.hash(REPOSITORY, owner, previous), about, unread, shown))
        return stored[-1]

    def mark_read(self, owner) -> None:
        self.entries_[owner] = [replace(each, unread=False) for each in self.entries_[owner]]


@dataclass
class Judge:
    """A validator whose answer a test chooses."""

    ca: TestCa | None = None
    verdict: Verdict = Verdict.VALID
    asked: list[Any] = field(default_factory=list)
    roots: dict[Any, Any] = field(default_factory=dict)  #: the root under which a certificate stands, where it matters

    def validate(self, certificate, extra_intermediates=(), moment=None, purpose=None):
        self.asked.append((certificate, purpose))
        path = (certificate, self.ca.root) if self.ca else (certificate, certificate)
        return PathResult(self.verdict, certificate, datetime.now(UTC), path, "chosen by the test")

    def trace(self, certificate, extra_intermediates, moment, purpose):
        root = self.roots.get(certificate, self.ca.root if self.ca else certificate)
        return PathResult(Verdict.VALID, certificate, moment, (certificate, root), "chosen by the test")


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
def context(shelf, judge) -> Context:
    return Context(REPOSITORY, NOW, Identities(judge), shelf, protocol.signing_key("repository"), bytes(32))


def caller(user: Any) -> Caller:
    return Caller(SESSION, user)


def places(data: bytes) -> tuple[mailbox.Place, ...]:
    """The places of a verified placement of the repository."""
    return mailbox.read_placement(data, protocol.signing_key("repository").public, REPOSITORY).places


def read_head(data: bytes, owner: Any) -> mailbox.Head:
    """A verified head of the repository."""
    return mailbox.read_head(data, protocol.signing_key("repository").public, REPOSITORY, owner)


def at(moment: int) -> datetime:
    return moments.to_datetime(moment)
