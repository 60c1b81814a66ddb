"""Attachments through the client's library and a whole private repository: sent, read, interrupted, tampered with."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from contextlib import closing
from pathlib import Path

import pymongo
import pytest

from client import session
from client.errors import CheckFailed, NotFound, TooLarge, Usage
from client.settings import Settings, Transfer
from client.state import session as kept
from crypto_core import commands, limits
from crypto_core.commands import ErrorCode, RefusedByRepository
from crypto_core.ids import AttachmentId, LetterId, UserId
from repository_worker.stack import PrivateStack
from tests.support.library import Citizen, enrol, make_citizen, user_id

pytestmark = pytest.mark.timeout(300)
CHUNK = limits.CHUNK_BYTES
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def joao(stack: PrivateStack, tmp_path_factory: pytest.TempPathFactory) -> Citizen:
    made = make_citizen(stack, tmp_path_factory.mktemp("joao"), "João Sá")
    enrol(stack, made)
    return made


@pytest.fixture(scope="module")
def maria(stack: PrivateStack, joao: Citizen, tmp_path_factory: pytest.TempPathFactory) -> Citizen:
    made = make_citizen(stack, tmp_path_factory.mktemp("maria"), "Maria Conceição Reis")
    enrol(stack, made)
    with made.open() as repository:
        repository.confirm(user_id(joao), lambda _: True)
    return made


@pytest.fixture(scope="module")
def database(stack: PrivateStack):
    with pymongo.MongoClient(stack.mongo_url) as client:
        yield client[stack.database]


def make_file(path: Path, size: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(os.urandom(size))
    return path


def send(citizen: Citizen, *paths: Path, **settings) -> str:
    with citizen.open(**settings) as repository:
        return repository.send(["João Sá"], b"Segue em anexo.", "Ata", paths).letter_id


def read(citizen: Citizen, letter: str, folder: Path | None, **settings):
    with citizen.open(**settings) as repository:
        return repository.read(letter, folder)


def test_files_of_all_sizes_come_as_they_were(maria: Citizen, joao: Citizen, tmp_path: Path):
    sizes = (0, 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7)
    paths = [make_file(tmp_path / "from" / f"anexo {size}.pdf", size) for size in sizes]
    told: list[Transfer] = []
    letter = send(maria, *paths, progress=told.append)
    assert {(each.name, each.upload) for each in told} == {(path.name, True) for path in paths}
    assert [each.done for each in told if each.name == paths[4].name][-1] == sizes[4]
    assert not list((maria.settings.home / "uploads").glob("*"))

    shown = read(joao, letter, None)
    assert [(each.name, each.media_type, each.size, each.path) for each in shown.attachments] == [
        (path.name, "application/pdf", size, None) for path, size in zip(paths, sizes, strict=True)
    ]
    for citizen in (joao, maria):  # the author has them too
        folder = tmp_path / citizen.name
        saved = read(citizen, letter, folder).attachments
        assert [each.path.read_bytes() for each in saved] == [path.read_bytes() for path in paths]
        assert {each.name for each in folder.iterdir()} == {path.name for path in paths}
        assert all(each.path.stat().st_mode & 0o777 == 0o600 for each in saved)


def test_nothing_is_written_over_and_the_same_again_is_not_saved_twice(maria: Citizen, joao: Citizen, tmp_path: Path):
    letter = send(maria, make_file(tmp_path / "from" / "ata.pdf", 10), make_file(tmp_path / "other" / "ata.pdf", 20))
    folder = tmp_path / "to"
    other = make_file(folder / "ata.pdf", 10)
    before = other.read_bytes()
    saved = read(joao, letter, folder).attachments
    assert [each.path.name for each in saved] == ["ata (2).pdf", "ata (3).pdf"]
    assert other.read_bytes() == before
    again = tmp_path / "again"
    assert [each.path.name for each in read(joao, letter, again).attachments] == ["ata.pdf", "ata (2).pdf"]
    assert read(joao, letter, again).attachments[0].path.name == "ata.pdf"


def test_a_link_where_the_file_would_go_is_not_followed(maria: Citizen, joao: Citizen, tmp_path: Path):
    letter = send(maria, make_file(tmp_path / "from" / "ata.pdf", 10))
    folder = tmp_path / "to"
    folder.mkdir()
    (folder / "ata.pdf").symlink_to(tmp_path / "elsewhere")
    assert read(joao, letter, folder).attachments[0].path.name == "ata (2).pdf"
    assert not (tmp_path / "elsewhere").exists()


def _send_in_a_process(settings: Settings, paths: list[Path]) -> None:
    from client.api import Repository

    with Repository(settings) as repository:
        repository.send(["João Sá"], b"Segue em anexo.", "Ata", paths)


class _Killed(Exception):
    """Stands for Ctrl-C at a chosen moment."""


def until(done: int):
    """A progress that interrupts once so many bytes are through."""

    def tell(transfer: Transfer) -> None:
        if transfer.done >= done:
            raise _Killed

    return tell


def still_sealing() -> list[threading.Thread]:
    """The threads that go on with something that was interrupted."""
    return [each for each in threading.enumerate() if each.name == "smr ahead"]


def there(database) -> set[bytes]:
    return {bytes(each["_id"]) for each in database.chunks.find({}, {"_id": 1})}


def test_an_interrupted_upload_goes_on(maria: Citizen, joao: Citizen, database, tmp_path: Path):
    path = make_file(tmp_path / "grande.bin", 20 * CHUNK)
    before = there(database)
    with pytest.raises(_Killed) as killed, maria.open(progress=until(2 * CHUNK)) as repository:
        repository.send(["João Sá"], b"", "", [path])
    # Nothing writes to its journal any more, though whoever handles the error holds all of its frames still.
    assert killed.tb is not None
    assert not still_sealing()
    arrived = there(database) - before
    assert arrived
    letter = send(maria, path)
    # The same chunks, under the same key: nothing was sent again or thrown away.
    assert arrived < there(database) - before
    assert len(there(database) - before) == 20
    assert read(joao, letter, tmp_path / "to").attachments[0].path.read_bytes() == path.read_bytes()


def test_a_killed_client_goes_on(maria: Citizen, joao: Citizen, database, tmp_path: Path):
    path = make_file(tmp_path / "grande.bin", 40 * CHUNK)
    before = there(database)
    process = multiprocessing.get_context("fork").Process(target=_send_in_a_process, args=(maria.settings, [path]))
    process.start()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(there(database) - before) < 3:
        assert time.monotonic() < deadline, "no chunk arrived"
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    letter = send(maria, path)
    assert len(there(database) - before) == 40
    assert read(joao, letter, tmp_path / "to").attachments[0].path.read_bytes() == path.read_bytes()


def test_a_file_that_changed_starts_anew_under_another_key(maria: Citizen, joao: Citizen, database, tmp_path: Path):
    path = make_file(tmp_path / "grande.bin", 10 * CHUNK)
    before = there(database)
    with pytest.raises(_Killed), maria.open(progress=until(8 * CHUNK)) as repository:
        repository.send(["João Sá"], b"", "", [path])
    first = {each[:60] for each in there(database) - before}
    data = bytearray(path.read_bytes())
    data[CHUNK] ^= 1
    path.write_bytes(data)
    letter = send(maria, path)
    assert len({each[:60] for each in there(database) - before} - first) == 1
    assert read(joao, letter, tmp_path / "to").attachments[0].path.read_bytes() == bytes(data)


def test_a_file_that_grows_while_it_is_read_is_not_sent(maria: Citizen, tmp_path: Path):
    path = make_file(tmp_path / "log.txt", 12 * CHUNK)

    def grow(_: Transfer) -> None:
        with path.open("ab") as file:
            file.write(b"x")

    with pytest.raises(CheckFailed, match="changes while it is read"):
        send(maria, path, progress=grow)


def test_a_killed_worker_costs_nothing(stack: PrivateStack, maria: Citizen, joao: Citizen, tmp_path: Path):
    path = make_file(tmp_path / "grande.bin", 24 * CHUNK)
    killed: list[int] = []

    def kill_once(transfer: Transfer) -> None:
        if transfer.done >= 8 * CHUNK and not killed:
            for worker in stack.workers:
                killed.append(worker.pid)
                worker.kill()
                worker.restart()

    letter = send(maria, path, progress=kill_once, reply_seconds=PATIENCE_SECONDS)
    assert killed
    assert read(joao, letter, tmp_path / "to").attachments[0].path.read_bytes() == path.read_bytes()


def test_an_interrupted_download_goes_on(maria: Citizen, joao: Citizen, tmp_path: Path):
    path = make_file(tmp_path / "grande.bin", 20 * CHUNK)
    letter = send(maria, path)
    folder = tmp_path / "to"
    with pytest.raises(_Killed) as killed:
        read(joao, letter, folder, progress=until(5 * CHUNK))
    assert killed.tb is not None
    assert not still_sealing()
    (part,) = folder.iterdir()
    assert part.name.startswith(".smr-")
    done: list[int] = []
    saved = read(joao, letter, folder, progress=lambda transfer: done.append(transfer.done)).attachments
    assert done[0] >= 4 * CHUNK
    assert saved[0].path.read_bytes() == path.read_bytes()
    assert [each.name for each in folder.iterdir()] == ["grande.bin"]


def test_a_part_that_was_changed_here_is_fetched_again(maria: Citizen, joao: Citizen, tmp_path: Path):
    path = make_file(tmp_path / "grande.bin", 3 * CHUNK)
    letter = send(maria, path)
    folder = tmp_path / "to"
    with pytest.raises(_Killed):
        read(joao, letter, folder, progress=until(2 * CHUNK))
    (part,) = folder.iterdir()
    part.write_bytes(bytes(2 * CHUNK))
    assert read(joao, letter, folder).attachments[0].path.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("how", ["replaced", "of another place", "truncated"])
def test_what_the_database_was_made_to_say_is_refused(
    maria: Citizen, joao: Citizen, database, tmp_path: Path, how: str
):
    path = make_file(tmp_path / "ata.bin", 3 * CHUNK)
    before = there(database)
    letter = send(maria, path)
    first, second, _ = sorted(there(database) - before)
    found = database.chunks.find_one({"_id": second})["chunk"]
    bad = {
        "replaced": found[:-1] + bytes([found[-1] ^ 1]),
        "of another place": database.chunks.find_one({"_id": first})["chunk"],
        "truncated": found[:-1],
    }[how]
    database.chunks.update_one({"_id": second}, {"$set": {"chunk": bad}})
    folder = tmp_path / "to"
    with pytest.raises(CheckFailed, match="not what its author signed"):
        read(joao, letter, folder)
    assert not list(folder.iterdir())


def test_nobody_else_gets_or_puts_a_chunk(maria: Citizen, joao: Citizen, database, tmp_path: Path):
    """Not even with the ids, which only the letter's people and the repository know."""
    path = make_file(tmp_path / "ata.bin", 10)
    before = there(database)
    with maria.open() as repository:
        repository.send([user_id(maria)], b"", "", [path])  # to herself
    (key,) = there(database) - before
    author, letter, attachment = UserId(key[:28]), LetterId(key[28:44]), AttachmentId(key[44:60])
    assert author.hex() == user_id(maria)
    with closing(joao.context()) as context:
        live = session.require(context)
        for command in (
            commands.GetChunk(author, letter, attachment, 0),
            commands.PutChunk(letter, attachment, 0, bytes(26)),
        ):
            with pytest.raises(RefusedByRepository) as refusal:
                context.call(live, command)
            assert refusal.value.code is ErrorCode.NOT_FOUND
    assert there(database) - before == {key}


def test_what_cannot_be_attached(maria: Citizen, tmp_path: Path, monkeypatch):
    with pytest.raises(NotFound):
        send(maria, tmp_path / "nothing.pdf")
    with pytest.raises(Usage):
        send(maria, tmp_path)
    path = make_file(tmp_path / "ata.pdf", 10)
    with pytest.raises(TooLarge):
        send(maria, *[path] * (limits.ATTACHMENTS + 1))
    monkeypatch.setattr(limits, "ATTACHMENT_BYTES", 9)
    with pytest.raises(TooLarge):
        send(maria, path)


def test_two_at_once_do_not_share_a_journal(maria: Citizen, tmp_path: Path):
    path = make_file(tmp_path / "ata.bin", 3 * CHUNK)
    inner: list[str] = []

    def another(_: Transfer) -> None:
        if not inner:
            inner.append("")
            inner[0] = send(maria, path)

    assert send(maria, path, progress=another) != inner[0]


def test_a_session_without_commands_left_is_succeeded_on_the_way(
    maria: Citizen, joao: Citizen, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(kept, "RENEW_COMMANDS", limits.SESSION_COMMANDS - 20)
    path = make_file(tmp_path / "grande.bin", 40 * CHUNK)
    before = sessions(maria), sessions(joao)
    letter = send(maria, path)
    assert read(joao, letter, tmp_path / "to").attachments[0].path.read_bytes() == path.read_bytes()
    # Those that were kept had served too many commands already.
    assert len(sessions(maria) - before[0]) >= 3
    assert len(sessions(joao) - before[1]) >= 3


def sessions(citizen: Citizen) -> set[str]:
    """Those under which the citizen has sent anything."""
    return {each.name for each in (citizen.settings.home / "counters").iterdir()}
