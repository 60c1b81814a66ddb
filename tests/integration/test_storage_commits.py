"""How letters get into the database: what an insertion costs, what happens when two write, what a failure leaves.

Everything here is a promise of `repository_worker.storage.commits`, on a real MongoDB.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pymongo
import pytest
from pymongo.monitoring import CommandListener
from pymongo.write_concern import WriteConcern

from broker_config import names
from crypto_core import mailbox, sealed, suite
from crypto_core.ids import Milliseconds, UserId, new_letter_id
from crypto_core.letter import seal as seal_letter
from repository_worker.effects import (
    Change,
    CloseSession,
    MarkRead,
    Outcome,
    StoreLetter,
    StoreReceipt,
    StoreRegistration,
)
from repository_worker.errors import CounterUsed, MailboxFull, SessionClosed, StorageError, StorageUnavailable
from repository_worker.local_mongo import LocalMongo, find_mongod
from repository_worker.luck import PAUSE_MAX, PAUSE_MIN, Luck
from repository_worker.storage import commits, documents, driver, heads
from repository_worker.storage.chains import Quota
from repository_worker.storage.driver import connect
from repository_worker.storage.heads import HINT_EVERY
from repository_worker.storage.mongo import MongoStorage
from tests.support.protocol import (
    BRUNO,
    JOAO,
    MARIA,
    NOW,
    REPOSITORY,
    SESSION,
    make_draft,
    public_of,
    sealed_receipt,
)
from tests.support.storages import chain, counter, person

RECEIPT = sealed.read(sealed.RECEIPT, sealed_receipt())
PATIENCE_SECONDS = 30.0
MANY = commits.SMALL_BATCH + 2
IMPATIENT_MS = 2_500


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[LocalMongo]:
    """A server of this module alone, which can be told to fail."""
    folder = tmp_path_factory.mktemp("mongo")
    program = folder / "mongod"
    program.write_text(f'#!/bin/sh\nexec {find_mongod()} "$@" --setParameter enableTestCommands=1\n')
    program.chmod(0o700)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SMR_MONGOD", str(program))
        with LocalMongo(folder) as running:
            yield running


class Watch(CommandListener):
    """The commands that went to the database."""

    def __init__(self) -> None:
        self.started_: list[tuple[str, dict]] = []

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.started_]

    def started(self, event) -> None:
        self.started_.append((event.command_name, dict(event.command)))

    def succeeded(self, event) -> None: ...

    def failed(self, event) -> None: ...


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def database(server):
    with pymongo.MongoClient(server.uri) as client:
        name = f"test-{new_letter_id().hex()}"
        yield client[name]
        client.drop_database(name)


@pytest.fixture
def open_storage(server, database):
    """Opens as many storages on one database as a test asks for, as so many workers would."""
    opened = []

    def open_(*listeners, quota=None) -> MongoStorage:
        made = MongoStorage(connect(server.uri, listeners), database.name, REPOSITORY, *([quota] if quota else []))
        opened.append(made)
        return made

    yield open_
    for each in opened:
        each.close()


@pytest.fixture
def storage(open_storage, watch):
    made = open_storage(watch)
    made.prepare()
    for number, user in enumerate((MARIA, JOAO, BRUNO), 1):
        made.commit(Change(StoreRegistration(person(user), "somebody"), counter(number)))
    made.unregistered((MARIA, JOAO, BRUNO))
    watch.started_.clear()
    return made


@pytest.fixture
def look_first(monkeypatch) -> None:
    """Has every batch preceded by a look, as after a meeting."""
    monkeypatch.setattr(Luck, "holds", lambda self: False)


def letter(to=JOAO, sender=MARIA, body: bytes | None = None, now: int = NOW) -> StoreLetter:
    written = make_draft(to, sender=sender, letter_id=new_letter_id())
    made = seal_letter(written, b"a CMS signature", public_of(to, sender))
    return StoreLetter(sealed.read(sealed.LETTER, made.head), made.body if body is None else body, Milliseconds(now))


def letters(count: int, first: int = 10, **who) -> list[Change]:
    return [Change(letter(**who), counter(first + each)) for each in range(count)]


def id_of(change: Change):
    return change.effect.letter.routing.letter


@contextmanager
def failing(database, **how):
    """Has the server fail in the way that is named (its own means for tests), until the block ends."""
    point = {"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": how}
    database.client.admin.command(point)
    try:
        yield
    finally:
        database.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


class TestWhatItCosts:
    def test_a_batch_behind_what_is_remembered_is_one_insertion(self, storage, watch):
        outcomes = storage.commit_all(letters(1)) + storage.commit_all(letters(16, first=20))
        assert all(isinstance(each, Outcome) for each in outcomes)
        assert watch.names == ["insert", "insert"]

    @pytest.mark.usefixtures("look_first")
    def test_a_batch_that_looks_is_one_look_and_one_insertion(self, storage, watch):
        outcomes = storage.commit_all(letters(16))
        assert all(isinstance(each, Outcome) for each in outcomes)
        assert watch.names == ["find", "insert"]

    def test_the_insertion_is_ordered_and_waits_for_journals_of_a_majority(self, storage, watch):
        storage.commit_all(letters(2))
        (insertion,) = [command for name, command in watch.started_ if name == "insert"]
        assert insertion["ordered"] is True
        assert insertion["writeConcern"] == {"w": "majority", "j": True}

    @pytest.mark.usefixtures("look_first")
    def test_numbers_follow_what_a_majority_holds(self, storage, watch):
        storage.commit_all(letters(1))
        (look,) = [command for name, command in watch.started_ if name == "find"]
        assert look["readConcern"]["level"] == "majority"

    def test_marks_of_a_batch_are_one_durable_update(self, storage, watch):
        sent = letters(3)
        storage.commit_all(sent)
        watch.started_.clear()
        marks = [Change(MarkRead(JOAO, MARIA, id_of(each)), counter(30 + n)) for n, each in enumerate(sent)]
        storage.commit_all(marks)
        ((name, command),) = watch.started_
        assert name == "update"
        assert command["writeConcern"] == {"w": "majority", "j": True}

    def test_a_page_and_a_status_are_one_query_each(self, storage, watch):
        (sent,) = letters(1)
        storage.commit(sent)
        watch.started_.clear()
        storage.page(JOAO, 0, 10, unread_only=False, views=True)
        storage.status(MARIA, id_of(sent))
        storage.letter(JOAO, MARIA, id_of(sent))
        storage.counters([(SESSION, 10), (SESSION, 11)])
        assert watch.names == ["find"] * 4

    def test_a_hint_is_written_now_and_then_and_nobody_waits_for_it(self, storage, database, watch):
        storage.commit_all(letters(HINT_EVERY - 1))
        assert database.mailboxes.find_one({"mailbox": JOAO})["number"] == 0
        storage.commit_all(letters(1, first=200))
        hints = [command for name, command in watch.started_ if name == "update"]
        assert [each["writeConcern"] for each in hints] == [{"w": 0}]
        state = storage.page(JOAO, 0, 1, unread_only=False, views=False).state
        probe_until(lambda: database.mailboxes.find_one({"mailbox": JOAO})["number"] == state.number)
        assert database.mailboxes.find_one({"mailbox": JOAO})["hash"] == state.hash


def probe_until(holds) -> None:
    for _ in range(500):
        if holds():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came to be")


class TestReading:
    @pytest.fixture
    def crowded(self, storage, database) -> int:
        """João's mailbox has ten thousand entries of which the newest ten are unread."""
        (first,) = letters(1)
        storage.commit(first)
        template = database.accepted.find_one({"letter": id_of(first)})
        size = 10_000
        copies = []
        for number in range(2, size + 1):
            named = number.to_bytes(16)
            entry = {**template["entries"][1], "number": number}
            copies.append(
                {
                    **template,
                    "_id": MARIA + named + bytes(28),
                    "letter": named,
                    "entries": [entry],
                    "used": [{"session": named, "number": 1}],
                    "unread": [{"mailbox": JOAO, "number": number}] if number > size - 10 else [],
                }
            )
        database.accepted.with_options(write_concern=WriteConcern(w=1)).insert_many(copies)
        database.accepted.update_one({"letter": id_of(first)}, {"$set": {"unread": []}})
        return size

    @staticmethod
    def examined(database, watch) -> list[tuple[int, int]]:
        """Keys and documents that each query since the last time looked at."""
        counts = []
        for _, command in [each for each in watch.started_ if each[0] == "find"]:
            wanted = {name: command[name] for name in ("find", "filter", "limit", "hint") if name in command}
            stats = database.command("explain", wanted, verbosity="executionStats")["executionStats"]
            counts.append((stats["totalKeysExamined"], stats["totalDocsExamined"]))
        watch.started_.clear()
        return counts

    def test_a_large_mailbox_is_read_as_fast_as_a_small_one(self, open_storage, database, watch, crowded):
        storage = open_storage(watch)
        assert storage.page(JOAO, 0, 1, unread_only=False, views=False).state.number == crowded
        watch.started_.clear()
        shown = storage.page(JOAO, 0, 101, unread_only=True, views=True)
        assert [each.entry.number for each in shown.entries] == list(range(crowded - 9, crowded + 1))
        assert all(keys <= 12 and found <= 12 for keys, found in self.examined(database, watch))
        page = storage.page(JOAO, 5_000, 101, unread_only=False, views=True)
        assert [each.entry.number for each in page.entries] == list(range(5_001, 5_102))
        assert page.state.number == crowded
        assert self.examined(database, watch) == [(101, 101)]

    def test_a_worker_that_is_far_behind_begins_at_the_hint(self, open_storage, database, crowded, watch):
        behind = open_storage(watch)
        behind.unregistered((JOAO,))  # knows the hint, which is at the beginning
        newest = database.accepted.find_one({"entries": {"$elemMatch": {"mailbox": JOAO, "number": crowded}}})
        hint = {"number": crowded, "hash": newest["entries"][0]["hash"], "time": newest["time"], "bytes": 7}
        database.mailboxes.update_one({"mailbox": JOAO}, {"$set": hint})
        watch.started_.clear()
        assert behind.page(JOAO, 0, 1, unread_only=True, views=False).state.number == crowded
        assert sum(found for _, found in self.examined(database, watch)) < 3 * heads.NEWER

    def test_unread_ones_come_from_the_oldest_on(self, storage):
        storage.commit_all(letters(8))
        numbers = []
        while found := storage.page(JOAO, numbers[-1] if numbers else 0, 3, unread_only=True, views=False).entries:
            numbers += [each.entry.number for each in found]
        assert numbers == list(range(1, 9))

    def test_a_page_with_a_gap_is_read_again(self, storage, monkeypatch):
        """A query is no snapshot: what it passed by before it was there may be missing before what came later."""
        storage.commit_all(letters(4))
        everything, reads = storage._mailboxes._everything, []

        def with_a_gap(*arguments, **options):
            page = everything(*arguments, **options)
            reads.append(page)
            return page if len(reads) > 1 else replace(page, entries=(*page.entries[:1], *page.entries[2:]))

        monkeypatch.setattr(storage._mailboxes, "_everything", with_a_gap)
        page = storage.page(JOAO, 0, 10, unread_only=False, views=False)
        assert [each.entry.number for each in page.entries] == [1, 2, 3, 4]
        assert len(reads) == 2

    def test_nothing_beyond_the_head(self, storage, open_storage):
        """What the head pins is what was read, also while others write."""
        other, ended = open_storage(), threading.Event()

        def write() -> None:
            for batch in range(12):
                other.commit_all(letters(4, first=100 + 10 * batch))
            ended.set()

        writer = threading.Thread(target=write)
        writer.start()
        while not ended.is_set():
            page = storage.page(JOAO, 0, 1_000, unread_only=False, views=False)
            hashes = mailbox.extend(
                REPOSITORY, JOAO, 0, mailbox.genesis(REPOSITORY, JOAO), [each.entry for each in page.entries]
            )
            assert len(hashes) == page.state.number
            assert hashes[-1:] in ([], [page.state.hash])
        writer.join(PATIENCE_SECONDS)


class TestTwoWorkers:
    def test_a_hot_mailbox_and_many_others(self, storage, open_storage):
        """Everybody writes to Bruno from two workers with two threads each: dense, chained, exactly once."""
        workers = [storage, open_storage()]
        start = threading.Barrier(4)

        def work(number: int) -> list[tuple[Change, Outcome]]:
            sender = (MARIA, JOAO)[number % 2]
            start.wait(PATIENCE_SECONDS)
            done = []
            for batch in range(6):
                changes = letters(5, first=1_000 * (number + 1) + 10 * batch, to=BRUNO, sender=sender)
                waiting = changes
                while waiting:
                    ends = workers[number // 2].commit_all(waiting)
                    done += [(c, e) for c, e in zip(waiting, ends, strict=True) if isinstance(e, Outcome)]
                    again = [c for c, e in zip(waiting, ends, strict=True) if isinstance(e, StorageUnavailable)]
                    assert len(again) + sum(isinstance(each, Outcome) for each in ends) == len(ends)
                    waiting = again
            return done

        with ThreadPoolExecutor(4) as pool:
            done = [each for result in pool.map(work, range(4)) for each in result]
        assert len(done) == 120
        for change, outcome in done:
            assert storage.status(outcome.entries[0].mailbox, id_of(change)).acceptance == outcome.entries
        numbers = [each.entry.number for _, outcome in done for each in outcome.entries if each.mailbox == BRUNO]
        assert sorted(numbers) == list(range(1, 121))
        assert len(chain(storage, BRUNO)) == 120
        assert len(chain(storage, MARIA)) == len(chain(storage, JOAO)) == 60

    @pytest.mark.usefixtures("look_first")
    def test_what_stands_before_a_meeting_stays_and_the_rest_follows(self, storage, open_storage, watch, monkeypatch):
        """Another worker takes João's next number between look and insertion."""
        other, theirs = open_storage(), letters(1, first=500, sender=JOAO)
        self.meet(storage, monkeypatch, lambda: other.commit_all(theirs))
        ours = [*letters(2, to=BRUNO), *letters(3, first=20)]
        outcomes = storage.commit_all(ours)
        assert watch.names == ["find", "insert", "find", "insert"]
        assert [each.entries[1].entry.number for each in outcomes] == [1, 2, 3, 4, 5]
        assert len(chain(storage, JOAO)) == 5
        assert [each.entry.routing.author for each in chain(storage, JOAO)] == [JOAO, JOAO, MARIA, MARIA, MARIA]
        insertions = [command for name, command in watch.started_ if name == "insert"]
        assert len(insertions[1]["documents"]) == 3
        looks = [command["readConcern"] for name, command in watch.started_ if name == "find"]
        assert "afterClusterTime" in looks[1]  # what was met is waited for

    @staticmethod
    def meet(storage, monkeypatch, work) -> None:
        """Has `work` done once, after the next look of `storage` and before its insertion."""
        look = storage._heads.look

        def look_and_then(*arguments):
            found = look(*arguments)
            monkeypatch.setattr(storage._heads, "look", look)
            work()
            return found

        monkeypatch.setattr(storage._heads, "look", look_and_then)

    @pytest.mark.usefixtures("look_first")
    def test_who_always_loses_gives_back_and_nothing_is_lost(self, storage, open_storage, monkeypatch):
        other, used = open_storage(), iter(range(500, 10_000))
        monkeypatch.setattr(commits, "MEETINGS", 5)
        look = storage._heads.look

        def look_too_late(*arguments):
            found = look(*arguments)
            other.commit_all(letters(1, first=next(used), sender=BRUNO))
            return found

        monkeypatch.setattr(storage._heads, "look", look_too_late)
        ours = letters(2)
        assert [type(each) for each in storage.commit_all(ours)] == [StorageUnavailable] * 2
        monkeypatch.setattr(storage._heads, "look", look)
        assert [type(each) for each in storage.commit_all(ours)] == [Outcome] * 2
        assert len(chain(storage, JOAO)) == 7

    @pytest.mark.usefixtures("look_first")
    def test_the_same_letter_at_the_same_moment(self, storage, open_storage, monkeypatch):
        other, ours = open_storage(), letters(3)
        self.meet(storage, monkeypatch, lambda: other.commit_all(ours[1:2]))
        outcomes = storage.commit_all(ours)
        assert [storage.status(MARIA, id_of(each)).acceptance for each in ours] == [each.entries for each in outcomes]
        assert len(chain(storage, JOAO)) == 3

    @pytest.mark.usefixtures("look_first")
    def test_another_envelope_took_the_counter_at_the_same_moment(self, storage, open_storage, monkeypatch):
        other, ours = open_storage(), letters(3)
        thief = Change(letter(BRUNO), replace(ours[1].counter, request_hash=suite.sha256(b"another")))
        self.meet(storage, monkeypatch, lambda: other.commit_all([thief]))
        ends = storage.commit_all(ours)
        assert [type(each) for each in ends] == [Outcome, CounterUsed, Outcome]
        assert len(chain(storage, JOAO)) == 2

    def test_times_never_go_back_from_one_worker_to_the_other(self, storage, open_storage):
        other = open_storage()
        other.commit_all([Change(letter(now=NOW + 5_000), counter(10))])
        (outcome,) = storage.commit_all([Change(letter(now=NOW), counter(11))])
        assert outcome.entries[0].entry.time == NOW + 5_000


class TestWithoutALook:
    """What a worker remembers may be old: the database's own rules hold, and a look tells what is newer."""

    def test_who_meets_somebody_looks_and_goes_on_looking_for_a_while(self, storage, open_storage, watch):
        open_storage().commit_all(letters(1, first=500, sender=BRUNO))
        (outcome,) = storage.commit_all(letters(1))
        assert outcome.entries[1].entry.number == 2
        assert watch.names == ["insert", "find", "insert"]
        watch.started_.clear()
        for number in range(PAUSE_MIN + 1):
            storage.commit_all(letters(1, first=20 + number))
        assert watch.names == ["find", "insert"] * PAUSE_MIN + ["insert"]
        assert len(chain(storage, JOAO)) == PAUSE_MIN + 3

    def test_what_stands_before_the_meeting_stays(self, storage, open_storage, watch):
        open_storage().commit_all(letters(1, first=500, sender=JOAO, to=JOAO))
        outcomes = storage.commit_all([*letters(2, to=BRUNO), *letters(3, first=20)])
        assert [each.entries[1].entry.number for each in outcomes] == [1, 2, 3, 4, 5]
        insertions = [command for name, command in watch.started_ if name == "insert"]
        assert [len(each["documents"]) for each in insertions] == [5, 3]

    def test_many_letters_after_a_meeting_follow_what_was_stored_last(self, storage, open_storage, watch):
        other = open_storage()
        other.commit_all(letters(5, first=500, sender=BRUNO))
        storage.commit_all(letters(MANY))  # which meets them
        for number in range(1, PAUSE_MIN + 1):
            other.commit_all(letters(5, first=500 + 100 * number, sender=BRUNO))
            watch.started_.clear()
            outcomes = storage.commit_all(letters(MANY, first=40 * number))
            assert [type(each) for each in outcomes] == [Outcome] * MANY
            assert watch.names == ["find", "insert"]
            newest = watch.started_[0][1]
            assert newest["filter"] == {}
            assert newest["sort"] == {"$natural": -1}
            assert newest["readConcern"]["level"] == "majority"  # anything else might be gone with a primary
        assert len(chain(storage, JOAO)) == (PAUSE_MIN + 1) * (MANY + 5)

    def test_where_more_was_stored_than_is_read_a_look_tells(self, storage, open_storage, watch, monkeypatch):
        monkeypatch.setattr(heads, "NEWEST", 4)
        other = open_storage()
        other.commit_all(letters(1, first=500, sender=BRUNO))
        storage.commit_all(letters(MANY))  # which meets it
        other.commit_all(letters(6, first=600, sender=BRUNO))
        for number in range(1, PAUSE_MIN + 1):
            watch.started_.clear()
            assert [type(each) for each in storage.commit_all(letters(MANY, first=40 * number))] == [Outcome] * MANY
            # Once in vain, and not at once again.
            assert watch.names == ["find"] * (2 if number == 1 else 1) + ["insert"]
        assert len(chain(storage, JOAO)) == (PAUSE_MIN + 1) * MANY + 7

    def test_what_was_stored_last_says_nothing_of_mailboxes_that_are_not_known(self, storage, open_storage, database):
        fresh = open_storage()
        storage.commit_all(letters(2))
        assert fresh._heads.read_newest()
        assert fresh._heads.remembered([JOAO]) is None
        database.accepted.delete_many({})
        assert fresh._heads.read_newest()

    def test_the_pauses_grow_while_it_meets_and_end_when_it_does_not(self):
        luck = Luck()

        def looks() -> int:
            for number in range(2 * PAUSE_MAX):
                if luck.holds():
                    return number
            raise AssertionError("it never tries again")

        pauses = []
        for _ in range(8):
            pauses.append(looks())
            luck.note(failed=True)
        assert pauses == [0, 2, 4, 8, 16, 32, 64, 64]
        assert looks() == PAUSE_MAX
        luck.note(failed=False)
        assert looks() == 0

    def test_a_used_counter_and_a_letter_that_is_there(self, storage, open_storage):
        other, (first, second) = open_storage(), letters(2)
        stored = other.commit_all([first, second])
        storage.ends_heard(other.ends_made(), told(storage))
        thief = Change(letter(BRUNO), replace(first.counter, request_hash=suite.sha256(b"another")))
        ends = storage.commit_all([thief, second, *letters(1, first=20)])
        assert [type(each) for each in ends] == [CounterUsed, Outcome, Outcome]
        assert ends[1] == stored[1]
        assert len(chain(storage, JOAO)) == 3

    def test_a_mailbox_that_was_full_is_looked_at(self, open_storage, storage):
        narrow = open_storage(quota=Quota(entries=1))
        narrow.unregistered((MARIA, JOAO, BRUNO))
        (first,) = letters(1)
        outcome = narrow.commit(first)
        assert narrow.commit(first) == outcome
        assert isinstance(narrow.commit_all(letters(1, first=20))[0], MailboxFull)

    def test_what_another_worker_tells_spares_the_look(self, storage, open_storage, watch):
        other = open_storage()
        for number in range(3):
            other.commit_all(letters(1, first=500 + number))
            storage.ends_heard(other.ends_made(), told(storage))
            storage.commit_all(letters(1, first=20 + number))
            other.ends_heard(storage.ends_made(), told(other))
        assert watch.names == ["insert"] * 3
        assert len(chain(storage, JOAO)) == 6

    def test_each_end_is_told_once_and_a_flood_of_them_not_at_all(self, storage, monkeypatch):
        storage.commit_all(letters(2))
        (maria, joao) = chain(storage, MARIA)[-1], chain(storage, JOAO)[-1]
        assert {owner: tip.hash for owner, tip in storage.ends_made().items()} == {MARIA: maria.hash, JOAO: joao.hash}
        assert storage.ends_made() == {}
        monkeypatch.setattr(heads, "TOLD", 1)
        storage.commit_all(letters(1, first=20))
        assert storage.ends_made() == {}

    def test_who_listens_is_noted_for_a_while_and_nothing_else_is_taken_for_it(self, storage, open_storage, database):
        first, second, third = (names.ends_queue(bytes([number]) * 16) for number in range(3))

        def listeners() -> tuple[str, ...]:
            reading = open_storage()
            assert reading.listeners() == ()  # without a question of its own
            reading.closed(0)
            return reading.listeners()

        storage.note_listener(first, 0)
        storage.note_listener(second, 60)
        storage.note_listener(third, 60)
        storage.note_listener(second, 60)
        assert listeners() == (third, second)
        hostile = {"queue": "smr.commands", "until": datetime(2999, 1, 1, tzinfo=UTC)}
        database.news.update_one({"_id": "listeners"}, {"$push": {"listeners": hostile}})
        assert listeners() == (third, second)


def told(storage) -> Milliseconds:
    """Now, for a storage that was opened long ago."""
    storage._heads._since -= 10 * heads.TOLD_SKEW_MS
    return Milliseconds(storage._heads._clock())


class TestFailures:
    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch):
        """Operations that cannot come to an end are given up sooner than in production."""
        monkeypatch.setattr(driver, "OPERATION_MS", IMPATIENT_MS)

    def test_a_primary_that_goes_away(self, storage, database):
        storage.commit_all(letters(2))
        ours = letters(3, first=20)
        with failing(database, failCommands=["insert"], closeConnection=True), pytest.raises(StorageUnavailable):
            storage.commit_all(ours)
        assert not storage._heads._known
        assert [type(each) for each in storage.commit_all(ours)] == [Outcome] * 3
        assert len(chain(storage, JOAO)) == 5

    def test_stored_and_not_yet_held_by_a_majority_is_not_acknowledged(self, storage, database):
        ours = letters(3)
        error = {"code": 64, "errmsg": "waiting for replication timed out", "errInfo": {"wtimeout": True}}
        with failing(database, failCommands=["insert"], writeConcernError=error), pytest.raises(StorageUnavailable):
            storage.commit_all(ours)
        assert not storage._heads._known
        assert [type(each) for each in storage.commit_all(ours)] == [Outcome] * 3
        assert len(chain(storage, JOAO)) == 3

    def test_what_comes_before_a_refused_one_is_not_acknowledged_either(self, storage, database):
        """One of the batch is refused and the others are not confirmed: nobody may say that they are stored."""
        (change,) = letters(1)
        ours = [*letters(2, first=20), change, change]
        error = {"code": 64, "errmsg": "waiting for replication timed out", "errInfo": {"wtimeout": True}}
        with failing(database, failCommands=["insert"], writeConcernError=error), pytest.raises(StorageUnavailable):
            storage.commit_all(ours)
        assert [type(each) for each in storage.commit_all(ours)] == [Outcome] * 4
        assert len(chain(storage, JOAO)) == 3

    def test_a_mark_that_was_not_stored_is_not_acknowledged(self, storage, database):
        (sent,) = letters(1)
        storage.commit(sent)
        with (
            failing(database, failCommands=["update"], closeConnection=True),
            pytest.raises(StorageUnavailable),
        ):
            storage.commit(Change(MarkRead(JOAO, MARIA, id_of(sent)), counter(20)))
        assert storage.received(JOAO, MARIA, id_of(sent)).unread

    def test_a_document_that_the_database_refuses_ends_alone(self, storage, database, monkeypatch):
        database.command("collMod", "accepted", validator={"letter": {"$ne": (bad := letter()).letter.routing.letter}})
        good = letters(2)
        ends = storage.commit_all([good[0], Change(bad, counter(30)), good[1]])
        assert [type(each) for each in ends] == [Outcome, StorageError, Outcome]
        assert len(chain(storage, JOAO)) == 2

    def test_killed_while_two_workers_write(self, tmp_path: Path):
        """What was acknowledged is there after the server's end without warning; what was not may be brought again."""
        with LocalMongo(tmp_path) as mongo, opened(mongo) as first, opened(mongo) as second:
            first.prepare()
            for number, user in enumerate((MARIA, JOAO, BRUNO), 1):
                first.commit(Change(StoreRegistration(person(user), "somebody"), counter(number)))
            acknowledged: dict = {}
            work = {n: [letters(3, first=1_000 * (n + 1) + 10 * b, to=BRUNO) for b in range(25)] for n in range(2)}
            begun = threading.Event()

            def write(storage: MongoStorage, batches: list[list[Change]]) -> None:
                for batch in batches:
                    acknowledged.update(zip(map(id_of, batch), stored(storage, batch), strict=True))
                    if len(acknowledged) > 20:
                        begun.set()

            writers = [
                threading.Thread(target=write, args=(storage, work[number]))
                for number, storage in enumerate((first, second))
            ]
            for each in writers:
                each.start()
            assert begun.wait(PATIENCE_SECONDS)
            mongo.kill()
            mongo.start()
            for each in writers:
                each.join(PATIENCE_SECONDS)
            assert len(acknowledged) == 150
            for named, outcome in acknowledged.items():
                assert first.status(MARIA, named).acceptance == outcome.entries
            assert len(chain(first, BRUNO)) == len(chain(second, MARIA)) == 150


@contextmanager
def opened(mongo: LocalMongo) -> Iterator[MongoStorage]:
    made = MongoStorage(connect(mongo.uri), "smr", REPOSITORY)
    yield made
    made.close()


def stored(storage: MongoStorage, batch: list[Change]) -> list[Outcome]:
    """Brings a batch until all of it is stored, as a worker does."""
    for _ in range(100):
        try:
            ends = storage.commit_all(batch)
        except StorageUnavailable:
            threading.Event().wait(0.1)
            continue
        if all(isinstance(each, Outcome) for each in ends):
            return list(ends)
    raise AssertionError("a batch was never stored")


class TestRepeats:
    def test_the_same_letter_under_another_counter_takes_that_counter(self, storage):
        (first,) = letters(1)
        outcome = storage.commit(first)
        again = Change(first.effect, counter(11))
        assert storage.commit(again) == outcome
        assert storage.commit(again) == outcome
        assert storage.counters([(SESSION, 11)])[0].request_hash == again.counter.request_hash
        with pytest.raises(CounterUsed):
            storage.commit(Change(letter(), replace(again.counter, request_hash=suite.sha256(b"another"))))
        assert len(chain(storage, JOAO)) == 1

    def test_whoever_found_it_unread_is_recorded_once_with_the_envelope(self, storage, database):
        (sent,) = letters(1)
        storage.commit(sent)
        # Two workers found it unread; the first then gets its envelope again.
        for number in (20, 21, 20):
            storage.commit(Change(MarkRead(JOAO, MARIA, id_of(sent)), counter(number)))
        states = storage.counters([(SESSION, 20), (SESSION, 21)])
        assert [each.request_hash for each in states] == [counter(20).request_hash, counter(21).request_hash]
        assert [len(each["reads"]) for each in database.accepted.find({"letter": id_of(sent)})] == [2]
        assert not storage.received(JOAO, MARIA, id_of(sent)).unread

    def test_a_mark_is_found_by_its_id_alone(self, storage, watch):
        """With more than that the database would choose among several indexes for each mark."""
        (sent,) = letters(1)
        storage.commit(sent)
        watch.started_.clear()
        storage.commit(Change(MarkRead(JOAO, MARIA, id_of(sent)), counter(20)))
        assert [list(each["q"]) for _, command in watch.started_ for each in command["updates"]] == [["_id"]]

    def test_a_closed_session_stores_nothing_more(self, storage):
        storage.commit(Change(CloseSession(SESSION), counter(50)))
        storage._heads.forget()  # so that it looks
        assert [type(each) for each in storage.commit_all(letters(2))] == [SessionClosed] * 2
        assert len(chain(storage, JOAO)) == 0

    def test_a_counter_is_taken_once_whatever_it_was_used_for(self, storage):
        (sent,) = letters(1)
        storage.commit(sent)
        another = replace(sent.counter, request_hash=suite.sha256(b"another"))
        with pytest.raises(CounterUsed):
            storage.commit(Change(StoreRegistration(person(UserId(b"z" * 28)), "z"), another))
        with pytest.raises(CounterUsed):
            storage.commit(Change(StoreReceipt(RECEIPT, MARIA, NOW), another))

    def test_a_counter_of_a_reading_stores_nothing_more(self, storage):
        first, second = letters(2)
        storage.commit_all([first, second])
        storage.commit(Change(MarkRead(JOAO, MARIA, id_of(first)), counter(20)))
        thief = replace(counter(20), request_hash=suite.sha256(b"another"))
        with pytest.raises(CounterUsed):
            storage.commit(Change(letter(), thief))
        with pytest.raises(CounterUsed):
            storage.commit(Change(MarkRead(JOAO, MARIA, id_of(second)), thief))
        assert len(chain(storage, JOAO)) == 2

    def test_a_letter_is_not_read_under_the_counter_of_another(self, storage):
        """At the same moment: the look that comes with the letter has found nothing yet."""
        sent, third = letters(3), counter(30)
        storage.commit_all(sent)
        thief = replace(sent[0].counter, request_hash=suite.sha256(b"another"))
        marks = [Change(MarkRead(JOAO, MARIA, id_of(sent[n])), who) for n, who in ((1, thief), (2, third))]
        assert [type(each) for each in storage.commit_all(marks)] == [CounterUsed, Outcome]
        assert [storage.received(JOAO, MARIA, id_of(each)).unread for each in sent] == [True, True, False]


class TestBodies:
    LARGE = bytes(documents.INLINE_BODY_BYTES + 1)

    def test_a_small_one_lies_in_its_letter_and_a_large_one_beside_it(self, storage, database):
        changes = [
            Change(letter(body=bytes(documents.INLINE_BODY_BYTES)), counter(10)),
            Change(letter(body=self.LARGE), counter(11)),
        ]
        storage.commit_all(changes)
        assert database.bodies.count_documents({}) == 1
        for each in changes:
            assert storage.letter(JOAO, MARIA, id_of(each)).body == each.effect.body

    def test_it_is_stored_before_anything_refers_to_it(self, storage, watch):
        change = Change(letter(body=self.LARGE), counter(10))
        storage.commit(change)
        assert watch.names == ["update", "insert"]
        assert watch.started_[0][1]["writeConcern"] == {"w": "majority", "j": True}

    def test_it_is_there_once_however_often_it_comes(self, storage, database):
        change = Change(letter(body=self.LARGE), counter(10))
        assert storage.commit(change) == storage.commit(change)
        assert database.bodies.count_documents({}) == 1

    def test_another_body_under_the_same_id_takes_nobodys_place(self, storage):
        change = Change(letter(body=self.LARGE), counter(10))
        storage.commit(change)
        other = replace(change.effect, body=self.LARGE + b"x")
        assert storage.commit(Change(other, counter(11))) is not None
        assert storage.letter(JOAO, MARIA, id_of(change)).body == self.LARGE

    def test_a_batch_too_large_for_one_insertion_is_several(self, storage, watch, monkeypatch):
        monkeypatch.setattr(commits, "INSERTION_BYTES", 20_000)
        outcomes = storage.commit_all([Change(letter(body=bytes(9_000)), counter(10 + n)) for n in range(4)])
        assert [each.entries[1].entry.number for each in outcomes] == [1, 2, 3, 4]
        assert watch.names.count("insert") > 1
        assert len(chain(storage, JOAO)) == 4


class TestQuotas:
    def test_entries(self, storage, open_storage):
        small = open_storage(quota=Quota(entries=2))
        ends = small.commit_all(
            [*letters(2), *letters(1, first=20, sender=BRUNO), *letters(1, first=30, sender=BRUNO, to=MARIA)]
        )
        assert [type(each) for each in ends] == [Outcome, Outcome, MailboxFull, MailboxFull]
        assert [each.mailbox for each in ends[2:]] == [JOAO, MARIA]
        assert len(chain(storage, JOAO)) == len(chain(storage, MARIA)) == 2
        assert len(chain(storage, BRUNO)) == 0

    def test_bytes_are_counted_in_every_mailbox(self, storage, open_storage, database):
        (first,) = letters(1)
        storage.commit(first)
        taken = [each["bytes"] for each in database.accepted.find_one({"letter": id_of(first)})["entries"]]
        view = storage.letter(JOAO, MARIA, id_of(first)).entry.view
        parts = (view.protected, view.ciphertext, view.wrap, first.effect.body)
        assert taken[1] == sum(map(len, parts)) + 32 * len(view.wraps)
        small = open_storage(quota=Quota(bytes=2 * taken[1] - 1))
        with pytest.raises(MailboxFull):
            small.commit(letters(1, first=20)[0])
        exact = open_storage(quota=Quota(bytes=2 * max(taken)))
        exact.commit(letters(1, first=30)[0])

    def test_a_receipt_needs_room_in_both_mailboxes(self, storage, open_storage):
        small = open_storage(quota=Quota(entries=1))
        small.commit(Change(letter(JOAO, sender=BRUNO), counter(10)))
        with pytest.raises(MailboxFull):
            small.commit(Change(StoreReceipt(RECEIPT, MARIA, NOW), counter(11)))

    def test_what_was_accepted_while_there_was_room_is_accepted_again(self, storage, open_storage):
        small = open_storage(quota=Quota(entries=1))
        (first,) = letters(1)
        outcome = small.commit(first)
        assert small.commit(first) == outcome
        assert small.commit(replace(first, counter=counter(11))) == outcome

    def test_one_full_mailbox_of_several_refuses_the_letter_for_all(self, storage, open_storage):
        small = open_storage(quota=Quota(entries=1))
        small.commit(Change(letter(JOAO, sender=BRUNO), counter(10)))
        with pytest.raises(MailboxFull) as caught:
            small.commit(Change(letter(JOAO, sender=MARIA), counter(11)))
        assert caught.value.mailbox == JOAO
        assert len(chain(storage, MARIA)) == 0
