"""State that matters is on disk before it is used, survives a crash between any two steps, and two processes."""

from __future__ import annotations

import multiprocessing
import os
import stat
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from client.errors import CheckFailed, LocalState, NotAllowed, Usage
from client.state import counters, files, keystore, letters, pin
from client.state.chain import ChainStore, Link
from client.state.home import Home
from client.state.keystore import Keys
from client.state.letters import OpenedLetter, SentLetter
from client.state.outbox import Outbox, Sealed
from client.state.people import People
from client.state.session import LiveSession, SessionStore, memory_folder
from crypto_core import commands
from crypto_core.documents import MailboxPosition
from crypto_core.errors import WrongPassphrase
from crypto_core.ids import LetterId, UserId
from crypto_core.keys import SealingKey
from crypto_core.mailbox import EntryKind
from tests.support import protocol
from tests.unit.client.conftest import PlayedRepository, live_session

PASSPHRASE = "uma frase bem longa"


class Crash(BaseException):
    """The process ends here."""


# ----------------------------------------------------------------------------------------------------------- files


def test_files_and_folders_are_the_owners_alone(home: Home):
    files.write(home.path / "deep" / "file", b"x")
    assert stat.S_IMODE((home.path / "deep" / "file").stat().st_mode) == 0o600
    assert stat.S_IMODE((home.path / "deep").stat().st_mode) == 0o700


def test_a_folder_that_others_may_enter_is_tightened(home: Home):
    home.path.mkdir(mode=0o755)
    files.write(home.path / "file", b"x")
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_crash_while_writing_leaves_the_old_file(step, home: Home, monkeypatch: pytest.MonkeyPatch):
    path = home.path / "file"
    files.write(path, b"old")

    def crash(*_):
        raise Crash

    monkeypatch.setattr(*((os, "fsync", crash) if step == "fsync" else (Path, "replace", crash)))
    with pytest.raises(Crash):
        files.write(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [each.name for each in home.path.iterdir()] == ["file"]


def test_a_damaged_document_is_refused_with_its_name(home: Home):
    files.write(home.people, b'{"people":[{}]}')
    with pytest.raises(LocalState, match=r"people\.json is damaged"):
        People(home).all()


def test_a_lock_that_stays_taken_is_an_error(home: Home):
    with home.lock("some"), pytest.raises(LocalState, match="Another process"), home.lock("some", seconds=0.05):
        pass
    with home.lock("some", seconds=0.05):
        pass


def _reserve(home: Path, count: int, together: Barrier, results: multiprocessing.Queue) -> None:
    together.wait(60)
    results.put([counters.reserve(Home(home), protocol.SESSION) for _ in range(count)])


def _note(home: Path, first: int, count: int, together: Barrier) -> None:
    people = People(Home(home))
    together.wait(60)
    for number in range(first, first + count):
        people.note(UserId(number.to_bytes(28, "big")), "João Sá", 1, protocol.digest(str(number)))


def test_two_processes_never_share_a_counter(home: Home):
    context = multiprocessing.get_context("spawn")
    results, together = context.Queue(), context.Barrier(2)
    processes = [context.Process(target=_reserve, args=(home.path, 25, together, results)) for _ in range(2)]
    for process in processes:
        process.start()
    given = sorted(number for _ in processes for number in results.get(timeout=60))
    for process in processes:
        process.join(60)
    assert given == list(range(1, 51))


def test_two_processes_lose_no_person(home: Home):
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(2)
    processes = [context.Process(target=_note, args=(home.path, first, 15, together)) for first in (0, 100)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert len(People(home).all()) == 30


# -------------------------------------------------------------------------------------------------------- counters


def test_a_counter_is_on_disk_before_it_is_given_out(home: Home, monkeypatch: pytest.MonkeyPatch):
    assert counters.reserve(home, protocol.SESSION) == 1
    assert counters.used(Home(home.path), protocol.SESSION) == 1

    def crash(*_):
        raise Crash

    monkeypatch.setattr(files, "write", crash)
    with pytest.raises(Crash):
        counters.reserve(home, protocol.SESSION)
    monkeypatch.undo()
    assert counters.reserve(home, protocol.SESSION) == 2


def test_a_damaged_counter_is_never_guessed(home: Home):
    counters.reserve(home, protocol.SESSION)
    (home.counters / protocol.SESSION.hex()).write_bytes(b"1")
    with pytest.raises(LocalState, match="damaged"):
        counters.reserve(home, protocol.SESSION)


# -------------------------------------------------------------------------------------------------------- keystore


def test_a_keystore_opens_only_with_its_passphrase(home: Home):
    keys = Keys.generate(protocol.NOW)
    keystore.save(home.keystore, keys, PASSPHRASE)
    assert keystore.load(home.keystore, PASSPHRASE) == keys
    with pytest.raises(WrongPassphrase):
        keystore.load(home.keystore, "outra frase")


def test_a_short_passphrase_is_refused_and_nothing_is_written(home: Home):
    with pytest.raises(Usage, match="fewer than"):
        keystore.save(home.keystore, Keys.generate(protocol.NOW), "curta")
    assert not home.keystore.exists()


def test_no_key_shows_in_a_repr():
    keys = Keys.generate(protocol.NOW)
    shown = repr(keys) + repr(live_session())
    for secret in (keys.app_seed, keys.sealing[0].seed, live_session().app_seed, live_session().client_to_repository):
        assert repr(secret) not in shown
        assert secret.hex() not in shown


def test_rotation_and_restoring_keep_every_key():
    first = Keys.generate(protocol.NOW)
    rotated = first.with_new_key(protocol.NOW)
    assert rotated.by_id().keys() > first.by_id().keys()
    assert rotated.current != first.current
    elsewhere = Keys.generate(protocol.NOW)
    merged = elsewhere.merged(rotated)
    assert merged.by_id().keys() == elsewhere.by_id().keys() | rotated.by_id().keys()
    assert (merged.current, merged.app_seed) == (rotated.current, elsewhere.app_seed)
    assert merged.merged(rotated) == merged


# ---------------------------------------------------------------------------------------------------------- chain


def _links(count: int) -> list[Link]:
    played = PlayedRepository(protocol.MARIA)
    return [Link.of(played.add(), protocol.digest(f"entry {number}")) for number in range(count)]


def _store(home: Home) -> ChainStore:
    return ChainStore(home, protocol.REPOSITORY, protocol.MARIA)


def test_a_chain_is_read_as_it_was_written(home: Home):
    links = _links(3)
    _store(home).append(0, links, b"head 3")
    chain = _store(home).load()
    assert (list(chain.links), chain.head) == (links, b"head 3")


def test_a_crash_before_the_head_leaves_the_chain_as_it_was(home: Home, monkeypatch: pytest.MonkeyPatch):
    links = _links(4)
    _store(home).append(0, links[:2], b"head 2")

    def crash(*_):
        raise Crash

    monkeypatch.setattr(files, "write", crash)
    with pytest.raises(Crash):
        _store(home).append(2, links[2:], b"head 4")
    monkeypatch.undo()
    assert _store(home).load().number == 2
    assert _store(home).append(2, links[2:], b"head 4").number == 4


def test_half_a_record_is_dropped(home: Home):
    links = _links(3)
    _store(home).append(0, links[:2], b"head 2")
    with (home.chain(protocol.MARIA) / "entries").open("ab") as file:
        file.write(links[2].encode()[:40])
    _store(home).append(2, links[2:], b"head 3")
    assert list(_store(home).load().links) == links


def test_fewer_records_than_the_head_says_are_never_believed(home: Home):
    _store(home).append(0, _links(3), b"head 3")
    path = home.chain(protocol.MARIA) / "entries"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(LocalState, match="fewer entries"):
        _store(home).load()


def test_what_another_process_added_meanwhile_must_be_the_same(home: Home):
    links = _links(4)
    _store(home).append(0, links[:3], b"head 3")
    assert _store(home).append(0, links, b"head 4").number == 4
    assert _store(home).append(0, links[:2], b"head 2").head == b"head 4"
    other = [*links[:3], links[0]]
    with pytest.raises(LocalState, match="different mailboxes"):
        _store(home).append(0, other, b"head x")


# --------------------------------------------------------------------------------------------------------- outbox


def _sealed(counter: int = 1) -> Sealed:
    return Sealed(protocol.SESSION, counter, protocol.seed("nonce", 32), b"an envelope" * 10)


COMMAND = commands.Send(b"a sealed head", b"a sealed body")


def test_what_is_put_into_the_outbox_is_there_for_the_next_run(home: Home, session: LiveSession):
    Outbox(home).put(protocol.MARIA, protocol.LETTER, COMMAND, _sealed(), session.keys)
    (pending,) = Outbox(Home(home.path)).all()
    assert (pending.user, pending.letter, pending.command) == (protocol.MARIA, protocol.LETTER, COMMAND)
    assert Outbox(home).envelope(pending, session.keys) == _sealed()


def test_an_envelope_is_only_for_its_own_session(home: Home, session: LiveSession):
    pending = Outbox(home).put(protocol.MARIA, protocol.LETTER, COMMAND, _sealed(), session.keys)
    other = live_session(session=b"session-id-00002").keys
    assert Outbox(home).envelope(pending, other) is None
    wrong = live_session(client_to_repository=protocol.seed("other", 32)).keys
    with pytest.raises(LocalState, match="damaged"):
        Outbox(home).envelope(pending, wrong)


def test_the_nonce_does_not_lie_open(home: Home, session: LiveSession):
    Outbox(home).put(protocol.MARIA, None, COMMAND, _sealed(), session.keys)
    for path in home.outbox.rglob("*"):
        if path.is_file():
            assert protocol.seed("nonce", 32) not in path.read_bytes()


@pytest.mark.parametrize("writes", [0, 1])
def test_a_crash_while_putting_leaves_nothing(
    writes, home: Home, session: LiveSession, monkeypatch: pytest.MonkeyPatch
):
    real, done = files.write, []

    def write(path: Path, data: bytes) -> None:
        if len(done) == writes:
            raise Crash
        done.append(path)
        real(path, data)

    monkeypatch.setattr(files, "write", write)
    with pytest.raises(Crash):
        Outbox(home).put(protocol.MARIA, protocol.LETTER, COMMAND, _sealed(), session.keys)
    monkeypatch.undo()
    assert Outbox(home).all() == []  # nothing was published: the command was not given yet
    Outbox(home).put(protocol.MARIA, protocol.LETTER, COMMAND, _sealed(), session.keys)
    (found,) = Outbox(home).all()
    assert found.command == COMMAND


def test_another_process_may_have_removed_it_first(home: Home, session: LiveSession):
    pending = Outbox(home).put(protocol.MARIA, protocol.LETTER, COMMAND, _sealed(), session.keys)
    (found,) = Outbox(home).all()
    Outbox(home).remove(found)
    Outbox(home).remove(pending)
    assert Outbox(home).envelope(pending, session.keys) is None
    assert Outbox(home).all() == []


def test_an_entry_that_vanishes_while_it_is_looked_for_is_passed_over(
    home: Home, session: LiveSession, monkeypatch: pytest.MonkeyPatch
):
    Outbox(home).put(protocol.MARIA, protocol.LETTER, COMMAND, _sealed(), session.keys)
    monkeypatch.setattr(files, "read", lambda _path: None)  # gone between the look at its time and the reading
    assert Outbox(home).all() == []


def test_an_answered_command_is_gone(home: Home, session: LiveSession):
    pending = Outbox(home).put(protocol.MARIA, protocol.LETTER, COMMAND, _sealed(), session.keys)
    Outbox(home).remove(pending)
    assert Outbox(home).all() == []


# -------------------------------------------------------------------------------------------------------- session


def test_a_kept_session_comes_back(home: Home, session: LiveSession, tmp_path: Path):
    store = SessionStore(home, files.private_folder(tmp_path / "memory"))
    store.save(session)
    assert SessionStore(home, tmp_path / "memory").load() == session


def test_a_kept_session_is_worthless_without_the_key_in_memory(home: Home, session: LiveSession, tmp_path: Path):
    memory = files.private_folder(tmp_path / "memory")
    SessionStore(home, memory).save(session)
    for secret in (session.client_to_repository, session.app_seed, *session.sealing_seeds):
        assert secret not in home.session.read_bytes()
    for key in memory.iterdir():
        key.unlink()
    assert SessionStore(home, memory).load() is None
    assert SessionStore(home, None).load() is None


def test_a_changed_session_file_is_no_session(home: Home, session: LiveSession, tmp_path: Path):
    store = SessionStore(home, files.private_folder(tmp_path / "memory"))
    store.save(session)
    home.session.write_bytes(protocol.flip(home.session.read_bytes(), 8 * 200))
    assert store.load() is None


def test_removing_a_session_removes_its_key(home: Home, session: LiveSession, tmp_path: Path):
    memory = files.private_folder(tmp_path / "memory")
    store = SessionStore(home, memory)
    store.save(session)
    store.save(session)
    assert len(list(memory.iterdir())) == 1
    store.remove()
    assert list(memory.iterdir()) == []
    assert store.load() is None


def test_a_session_is_renewed_in_time(session: LiveSession):
    assert session.usable(protocol.NOW, 0)
    assert not session.usable(session.expires - 60_000, 0)
    assert not session.usable(protocol.NOW, session.command_limit - 1)


def test_a_memory_folder_of_others_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert memory_folder() == tmp_path / "smr"
    (tmp_path / "smr").chmod(0o755)
    assert memory_folder() != tmp_path / "smr"
    (tmp_path / "smr").rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "smr").symlink_to(tmp_path / "elsewhere")
    assert memory_folder() != tmp_path / "smr"


# --------------------------------------------------------------------------------------------------------- people


def test_an_older_or_another_registration_is_refused(home: Home):
    people = People(home)
    people.note(protocol.JOAO, "João Sá", 2, protocol.digest("two"))
    people.note(protocol.JOAO, "João Sá", 2, protocol.digest("two"))
    for revision, document in ((1, "one"), (2, "another")):
        with pytest.raises(CheckFailed, match="older or altered"):
            people.note(protocol.JOAO, "João Sá", revision, protocol.digest(document))
    people.note(protocol.JOAO, "João Sá", 3, protocol.digest("three"))
    assert people.all()[protocol.JOAO].revision == 3


def test_confirming_survives_a_later_registration(home: Home):
    people = People(home)
    people.note(protocol.JOAO, "João Sá", 1, protocol.digest("one"))
    people.confirm(protocol.JOAO)
    people.note(protocol.JOAO, "João Sá", 2, protocol.digest("two"))
    assert people.all()[protocol.JOAO].confirmed


# ----------------------------------------------------------------------------------------------------------- home


def test_a_home_belongs_to_one_citizen(home: Home):
    home.claim(protocol.MARIA)
    home.claim(protocol.MARIA)
    with pytest.raises(NotAllowed, match="belongs to"):
        home.claim(protocol.JOAO)
    assert home.owner() == protocol.MARIA


def test_a_home_that_was_never_set_up_says_so(home: Home):
    with pytest.raises(LocalState, match="smr init"):
        pin.load(home)


def test_sent_and_opened_letters_are_remembered(home: Home):
    position = MailboxPosition(1, protocol.digest("entry"))
    to, digest = (protocol.JOAO,), protocol.digest("o")
    sent = SentLetter(protocol.LETTER, to, digest, protocol.NOW, (position,), b"placement")
    letters.save_sent(home, sent)
    assert letters.load_sent(home, protocol.LETTER) == sent
    assert letters.load_sent(home, LetterId(bytes(16))) is None
    opened = OpenedLetter(
        protocol.LETTER, protocol.JOAO, protocol.digest("d"), position, protocol.NOW, receipt_sent=True
    )
    letters.save_opened(home, opened)
    letters.save_opened(
        home, OpenedLetter(protocol.LETTER, protocol.JOAO, opened.document, position, protocol.NOW, receipt_sent=False)
    )
    assert letters.load_opened(home, protocol.JOAO, protocol.LETTER) == opened  # a second reading forgets nothing


def test_a_keystore_without_its_current_key_says_so():
    keys = Keys.generate(protocol.NOW)
    lost = Keys(keys.app_seed, keys.sealing, SealingKey.generate().public.key_id)
    with pytest.raises(LocalState, match="does not hold"):
        _ = lost.current_key


@pytest.mark.parametrize("kind", EntryKind)
def test_an_entry_of_every_kind_is_kept(kind):
    link = Link(protocol.digest("entry"), 1, kind, protocol.MARIA, protocol.LETTER)
    assert Link.decode(link.encode()) == link
