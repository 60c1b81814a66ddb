"""Stamps in the background: one for many entries, a proof for each, and nothing lost while the authority is away."""

from __future__ import annotations

import threading

import pytest

from crypto_core import delivery, merkle, sealed
from crypto_core.delivery import RecordedEntry, StampedEntry
from crypto_core.mailbox import EntryKind
from pki.errors import PkiError
from pki.fetchers import HttpFetcher
from pki.timestamp import StampTrust, verify_token
from repository_worker import stamper as module
from repository_worker.effects import MarkRead, Outcome, Placed, StoreLetter
from repository_worker.errors import HomeError, StorageUnavailable
from repository_worker.settings import Settings
from repository_worker.stamper import Authority, Stamper
from tests.support.protocol import JOAO, LETTER, MARIA, NOW, REPOSITORY, digest, entry, sealed_letter
from tests.support.time_stamp_authority import TimeStampAuthority

WAIT_SECONDS = 60


class Shelf:
    def __init__(self):
        self.kept, self.down, self.came = {}, False, threading.Event()

    def keep_stamps(self, root, token, stamps):
        if self.down:
            raise StorageUnavailable("down")
        self.kept |= {each.leaf: (root, each) for each in stamps}
        self.came.set()


@pytest.fixture
def authority(tmp_path):
    with TimeStampAuthority(tmp_path / "tsa") as running:
        yield running


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def trust(authority):
    return StampTrust((authority.root,))


@pytest.fixture
def stamper(authority, trust, shelf):
    return Stamper(REPOSITORY, Authority(authority.url, trust, HttpFetcher(allow_private_addresses=True)), shelf)


def some(count):
    return [
        RecordedEntry(JOAO, number, digest(f"{number}"), EntryKind.RECEIVED, NOW, MARIA, digest("d"), digest("s"))
        for number in range(1, count + 1)
    ]


def test_one_stamp_for_many(stamper, shelf, authority, trust):
    entries = some(13)
    stamper.wanted(MARIA, LETTER, entries)
    stamper.wanted(MARIA, LETTER, entries[:3])  # again: the same leaves
    assert stamper.stamp() == 16
    assert stamper.stamp() == 0
    assert len(authority.answers) == 1
    assert len(shelf.kept) == 13
    for each in entries:
        leaf = merkle.leaf_hash(delivery.encode_leaf(StampedEntry(REPOSITORY, MARIA, LETTER, each)))
        root, stamp = shelf.kept[leaf]
        assert merkle.root_from(leaf, stamp.index, stamp.size, stamp.path) == root
        verify_token(stamp.token, root, trust)


def test_what_was_accepted_is_stamped(stamper, shelf):
    letter = sealed.read(sealed.LETTER, sealed_letter().head)
    placed = (Placed(MARIA, entry(1, kind=EntryKind.SENT), digest("1")), Placed(JOAO, entry(2), digest("2")))
    stamper.accepted(StoreLetter(letter, b"", NOW), Outcome(entries=placed))
    stamper.accepted(MarkRead(JOAO, MARIA, LETTER), Outcome())
    assert stamper.stamp() == 2
    assert len(shelf.kept) == 2


def test_nothing_is_lost_while_authority_or_database_is_away(stamper, shelf, authority):
    stamper.wanted(MARIA, LETTER, some(5))
    authority.down = True
    with pytest.raises(PkiError):
        stamper.stamp()
    authority.down, shelf.down = False, True
    with pytest.raises(StorageUnavailable):
        stamper.stamp()
    shelf.down = False
    assert stamper.stamp() == 5


def test_an_authority_of_another_root_stamps_nothing(authority, shelf, tmp_path):
    other = TimeStampAuthority(tmp_path / "other")
    fetcher = HttpFetcher(allow_private_addresses=True)
    stamper = Stamper(REPOSITORY, Authority(authority.url, StampTrust((other.root,)), fetcher), shelf)
    stamper.wanted(MARIA, LETTER, some(1))
    with pytest.raises(PkiError):
        stamper.stamp()
    assert shelf.kept == {}


def test_the_queue_is_bounded(stamper, monkeypatch):
    monkeypatch.setattr(module, "BATCH_MAX", 2)
    stamper.wanted(MARIA, LETTER, some(5))
    assert [stamper.stamp() for _ in range(4)] == [2, 2, 1, 0]
    assert stamper._waiting.maxlen == module.QUEUE_MAX


def test_it_runs_until_it_is_told_to_end(stamper, shelf, authority):
    authority.down, ended = True, threading.Event()
    stamper.wanted(MARIA, LETTER, some(2))
    thread = threading.Thread(target=stamper.run, args=(ended, 0.05), daemon=True)
    thread.start()
    assert authority.refused.wait(WAIT_SECONDS)  # away: it goes on
    authority.down = False
    assert shelf.came.wait(WAIT_SECONDS)
    ended.set()
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()


def test_an_address_needs_its_roots(authority, tmp_path):
    assert Settings(tsa_url=None).authority() is None
    assert Settings(tsa_url=authority.url, tsa_ca_file=authority.root_path).authority().trust.anchors == (
        authority.root,
    )
    with pytest.raises(HomeError, match="TSA_CA_FILE"):
        Settings(tsa_url=authority.url).authority()
    (tmp_path / "empty.pem").write_bytes(b"")
    with pytest.raises(HomeError, match="roots"):
        Settings(tsa_url=authority.url, tsa_ca_file=tmp_path / "empty.pem").authority()
