"""A home, a session and a repository whose mailbox is played with the protocol's own values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.mailbox import Mailbox
from client.state.home import Home
from client.state.session import LiveSession, OwnRegistration
from crypto_core import commands, mailbox
from crypto_core.commands import BoxEntry, BoxResult
from crypto_core.deletion import SignedDeletion
from crypto_core.ids import LetterId, Milliseconds, UserId
from crypto_core.mailbox import Entry, EntryKind, EntryRouting, Head, Place, Placement
from tests.support import protocol


def live_session(**changes: Any) -> LiveSession:
    """A session of Maria's, with keys from fixed seeds."""
    made = LiveSession(
        repository=protocol.REPOSITORY,
        epoch=3,
        repository_key=protocol.signing_key("repository").public.raw,
        session=protocol.SESSION,
        client_to_repository=protocol.seed("c2r", 32),
        repository_to_client=protocol.seed("r2c", 32),
        app_seed=protocol.seed("signing app", 32),
        account=None,
        user=protocol.MARIA,
        own=OwnRegistration(protocol.digest("registration"), 1, protocol.sealing_key("maria").public.raw, False),
        sealing_seeds=(protocol.sealing_key("maria").seed,),
        expires=Milliseconds(protocol.NOW + 8 * protocol.HOUR_MS),
        command_limit=1000,
        body_limit=8 * 1024 * 1024,
        recipient_limit=64,
    )
    return dataclasses.replace(made, **changes)


class PlayedRepository:
    """Holds one mailbox and answers ALL and NEW from it. Tests change `entries` and `key` to make it a liar."""

    def __init__(self, owner: UserId) -> None:
        self.owner = owner
        self.key = protocol.signing_key("repository")
        self.entries: list[Entry] = []
        self.deletions: dict[int, SignedDeletion] = {}  #: what tombstones come with, by their number
        self.page = 1000
        self.asked: list[Any] = []
        self.before_reply: Callable[[], None] = lambda: None

    def add(self, letter: bytes = b"letter-id-000001", kind: EntryKind = EntryKind.RECEIVED, **changes: Any) -> Entry:
        author = protocol.JOAO if kind is EntryKind.RECEIVED else self.owner
        made = Entry(
            number=len(self.entries) + 1,
            time=Milliseconds(protocol.NOW + len(self.entries)),
            kind=kind,
            routing=EntryRouting(LetterId(letter), author, (self.owner,)),
            object=protocol.digest(f"object {len(self.entries)}"),
        )
        made = dataclasses.replace(made, **changes)
        self.entries.append(made)
        return made

    def head(self, number: int | None = None) -> bytes:
        at = len(self.entries) if number is None else number
        entry = mailbox.genesis(protocol.REPOSITORY, self.owner)
        for each in self.entries[:at]:
            entry = each.hash(protocol.REPOSITORY, self.owner, entry)
        return mailbox.sign_head(self.key, Head(protocol.REPOSITORY, self.owner, at, entry, protocol.NOW))

    def placement(self, *numbers: int, owner: UserId | None = None, later_ms: int = 0, lie: bool = False) -> bytes:
        """As the repository signs where these entries lie; with `lie` as if they were others."""
        found, entry = [], mailbox.genesis(protocol.REPOSITORY, self.owner)
        for each in self.entries:
            entry = each.hash(protocol.REPOSITORY, self.owner, entry)
            if each.number in numbers:
                found.append(Place(owner or self.owner, each.number, protocol.digest("another") if lie else entry))
        signed = Placement(protocol.REPOSITORY, tuple(found), Milliseconds(protocol.NOW + later_ms))
        return mailbox.sign_placement(self.key, signed)

    def answer(self, command: Any) -> BoxResult:
        self.asked.append(command)
        assert isinstance(command, commands.All | commands.New)
        shown = [each for each in self.entries if each.number > command.after][: self.page]
        following = shown[-1].number if shown and shown[-1] is not self.entries[-1] else None
        boxes = tuple(BoxEntry(each, None, False, deletion=self.deletions.get(each.number)) for each in shown)
        result = BoxResult(boxes, self.head(), following)
        self.before_reply()
        return result


class PlayedContext:
    """What `Mailbox` needs of a context."""

    def __init__(self, home: Home, repository: PlayedRepository) -> None:
        self.home = home
        self._repository = repository

    def current(self, session: LiveSession) -> LiveSession:
        return session

    def call(self, _session: LiveSession, command: Any) -> BoxResult:
        return self._repository.answer(command)

    def now(self) -> Milliseconds:
        return protocol.NOW


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def session() -> LiveSession:
    return live_session()


@pytest.fixture
def repository() -> PlayedRepository:
    return PlayedRepository(protocol.MARIA)


@pytest.fixture
def own(home: Home, session: LiveSession, repository: PlayedRepository) -> Mailbox:
    """Maria's mailbox at the played repository."""
    return Mailbox(PlayedContext(home, repository), session, protocol.MARIA)  # type: ignore[arg-type]
