"""Attachments in a real database: begun, filled, sent, counted, swept."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from crypto_core import limits, moments, sealed
from crypto_core.ids import AttachmentId, LetterId, Milliseconds
from crypto_core.limits import DAY_MS, UPLOAD_MS
from repository_worker.effects import (
    Change,
    MarkRead,
    OpenUpload,
    Outcome,
    StoreChunk,
    StoreLetter,
)
from repository_worker.errors import Conflict, MailboxFull, StorageError, StorageUnavailable, UploadsFull
from repository_worker.keys import now_ms
from repository_worker.storage import uploads
from repository_worker.storage.chains import Quota
from repository_worker.storage.documents import letter_key
from repository_worker.storage.driver import connect
from repository_worker.storage.retention import LEASE_SECONDS, Retention, Rule, Swept
from tests.integration.test_storage_commits import Watch
from tests.support.protocol import BRUNO, JOAO, LETTER, MARIA, NOW, letter_with, make_attachment
from tests.support.storages import counter

CHUNK = 64
DATA = bytes(range(2 * CHUNK + 5))
NONE = AttachmentId(bytes(16))
PATIENT = Milliseconds(NOW + UPLOAD_MS - 1)
LATE = Milliseconds(NOW + UPLOAD_MS + LEASE_SECONDS * 1000 + 1)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(limits, "CHUNK_BYTES", CHUNK)


@pytest.fixture
def sweep(mongo, database):
    made = []

    def run(now, **rule) -> Swept | None:
        made.append(Retention(connect(mongo.uri), database.name, Rule(**rule)))
        return made[-1].sweep(now)

    yield run
    for each in made:
        each.close()


@pytest.fixture
def attachment(small_chunks):
    return make_attachment(DATA)


def begin(storage, listed, *, now=NOW, author=MARIA, letter=LETTER, size=None) -> bytes:
    effect = OpenUpload(author, letter, listed.id, size or listed.size, now)
    return storage.commit(Change(effect, counter(50))).there


def put(storage, listed, position, chunk, author=MARIA):
    storage.commit(Change(StoreChunk(author, LETTER, listed.id, position, chunk), counter(51)))


def upload(storage, attachment, now=NOW):
    made, chunks = attachment
    begin(storage, made.listed, now=now)
    for position, chunk in enumerate(chunks):
        put(storage, made.listed, position, chunk)
    return made


def effect_of(made, now=NOW):
    letter = letter_with(made)
    return StoreLetter(sealed.read(sealed.LETTER, letter.head), letter.body, now)


def send(storage, made, now=NOW):
    return storage.commit(Change(effect_of(made, now), counter(60)))


def test_an_upload_tells_what_is_there(storage, attachment):
    made, chunks = attachment
    assert begin(storage, made.listed) == b"\x00"
    put(storage, made.listed, 2, chunks[2])
    put(storage, made.listed, 0, chunks[0])
    assert begin(storage, made.listed) == b"\x05"
    assert storage.incomplete(MARIA, LETTER, [made.listed]) == (made.listed.id,)
    put(storage, made.listed, 1, chunks[1])
    assert begin(storage, made.listed) == b"\x07"
    assert storage.incomplete(MARIA, LETTER, [made.listed]) == ()
    assert [storage.chunk(MARIA, LETTER, made.listed.id, n) for n in range(3)] == chunks
    assert storage.chunk(JOAO, LETTER, made.listed.id, 0) is None


@pytest.fixture(params=[b"\x00", b"\xff"], ids=["before", "behind"])
def neighbour(request, storage, small_chunks):
    """An upload of another letter whose chunks lie right beside those of the attachment, before or behind them."""
    made, chunks = make_attachment(DATA, "outra.pdf")
    listed = replace(made.listed, id=AttachmentId(request.param * 16))
    letter = LetterId(request.param * 16)
    begin(storage, listed, letter=letter)
    for position, chunk in enumerate(chunks):
        storage.commit(Change(StoreChunk(MARIA, letter, listed.id, position, chunk), counter(52)))
    return lambda: storage.incomplete(MARIA, letter, [listed]) == ()


def test_uploads_beside_it_make_no_difference(storage, attachment, neighbour, sweep, database):
    made, chunks = attachment
    assert begin(storage, made.listed) == b"\x00"
    put(storage, made.listed, 0, chunks[0])
    assert begin(storage, made.listed) == b"\x01"
    assert storage.incomplete(MARIA, LETTER, [made.listed])
    database.uploads.update_many({"size": made.listed.size}, {"$set": {"stored": moments.to_datetime(LATE)}})
    database.uploads.update_one({"letter": letter_key(MARIA, LETTER)}, {"$set": {"stored": moments.to_datetime(NOW)}})
    assert sweep(LATE) == Swept(0, 0, 1)
    assert database.chunks.count_documents({}) == 3
    assert neighbour()


def test_an_upload_is_begun_with_one_size(storage, attachment):
    listed = attachment[0].listed
    begin(storage, listed)
    assert storage.upload(MARIA, LETTER, listed.id) == listed.size
    with pytest.raises(Conflict):
        begin(storage, listed, size=listed.size + 1)
    assert storage.incomplete(MARIA, LETTER, [replace(listed, size=listed.size + 1)])
    assert storage.upload(JOAO, LETTER, listed.id) is None


def test_a_chunk_again_changes_nothing_and_another_is_refused(storage, attachment):
    made, chunks = attachment
    upload(storage, attachment)
    put(storage, made.listed, 0, chunks[0])
    with pytest.raises(Conflict):
        put(storage, made.listed, 0, bytes(len(chunks[0])))
    assert storage.chunk(MARIA, LETTER, made.listed.id, 0) == chunks[0]


def chunk_of(listed, position, chunk) -> Change:
    return Change(StoreChunk(MARIA, LETTER, listed.id, position, chunk), counter(53))


def test_chunks_that_come_together_are_one_insertion_and_each_has_its_own_end(open_storage, storage, attachment):
    made, chunks = attachment
    begin(storage, made.listed)
    put(storage, made.listed, 1, chunks[1])
    watch = Watch()
    together = open_storage(listeners=[watch])
    other = bytes(len(chunks[1]))
    ends = together.commit_all(
        [
            chunk_of(made.listed, 0, chunks[0]),
            chunk_of(made.listed, 1, other),
            chunk_of(made.listed, 1, chunks[1]),
            chunk_of(made.listed, 2, chunks[2]),
            chunk_of(made.listed, 2, chunks[2]),  # brought twice
        ]
    )
    assert [type(end) for end in ends] == [Outcome, Conflict, Outcome, Outcome, Outcome]
    assert [name for name, _ in watch.started_ if name != "find"] == ["insert"]
    assert [storage.chunk(MARIA, LETTER, made.listed.id, n) for n in range(3)] == chunks


def test_a_chunk_that_the_database_refuses_holds_up_no_other(storage, database, attachment):
    made, chunks = attachment
    begin(storage, made.listed)
    ends = storage.commit_all([chunk_of(made.listed, 0, "no bytes"), chunk_of(made.listed, 1, chunks[1])])
    assert (type(ends[0]), ends[1]) == (StorageError, Outcome())
    assert [storage.chunk(MARIA, LETTER, made.listed.id, n) for n in range(2)] == [None, chunks[1]]


@pytest.mark.parametrize(
    "details",
    [
        {"writeErrors": [{"index": 0, "code": 11000}], "writeConcernErrors": [{"code": 64}]},
        {"writeErrors": [{"index": 0, "code": 91}]},
        {"writeErrors": []},
        None,
    ],
    ids=["not by a majority", "the primary ends", "nothing said", "nothing at all"],
)
def test_chunks_whose_insertion_is_not_confirmed_are_not_stored_yet(storage, attachment, monkeypatch, details):
    made, chunks = attachment

    def insert_many(self, *_, **__):
        raise BulkWriteError(details)

    monkeypatch.setattr(Collection, "insert_many", insert_many)
    with pytest.raises(StorageUnavailable):
        storage.commit_all([chunk_of(made.listed, 0, chunks[0])])


class TestRemembered:
    """What a worker saw of an upload, while it is not to be swept."""

    @pytest.fixture
    def clock(self, storage):
        storage._uploads._monotonic = lambda: clock.now
        clock = SimpleNamespace(now=100.0)
        return clock

    def seen(self, storage, listed, now) -> None:
        begin(storage, listed, now=now)
        assert storage.upload(MARIA, LETTER, listed.id) == listed.size

    def test_it_is_asked_for_once_in_a_while(self, storage, database, attachment, clock):
        listed = attachment[0].listed
        self.seen(storage, listed, now_ms())
        database.uploads.delete_many({})
        clock.now += uploads.REMEMBERED_SECONDS - 0.01
        assert storage.upload(MARIA, LETTER, listed.id) == listed.size
        assert storage.upload(JOAO, LETTER, listed.id) is None
        clock.now += 0.01
        assert storage.upload(MARIA, LETTER, listed.id) is None

    def test_a_letter_does_not_rely_on_it(self, storage, database, attachment, clock):
        made = upload(storage, attachment, now=now_ms())
        assert storage.upload(MARIA, LETTER, made.listed.id) == made.listed.size
        database.uploads.delete_many({})
        assert storage.incomplete(MARIA, LETTER, [made.listed]) == (made.listed.id,)

    def test_what_may_be_swept_soon_is_asked_for_each_time(self, storage, database, attachment, clock):
        listed = attachment[0].listed
        self.seen(storage, listed, Milliseconds(now_ms() - UPLOAD_MS + uploads.SWEPT_AFTER_MS))
        database.uploads.delete_many({})
        assert storage.upload(MARIA, LETTER, listed.id) is None

    def test_so_is_what_was_sent_and_goes_with_its_letter(self, storage, database, attachment, clock):
        listed = attachment[0].listed
        begin(storage, listed, now=now_ms())
        database.uploads.update_many({}, {"$set": {"sent": True}})
        assert storage.upload(MARIA, LETTER, listed.id) == listed.size
        database.uploads.delete_many({})
        assert storage.upload(MARIA, LETTER, listed.id) is None

    def test_it_takes_bounded_memory(self, storage, attachment, clock, monkeypatch):
        monkeypatch.setattr(uploads, "REMEMBERED", 2)
        for number in range(5):
            listed = replace(attachment[0].listed, id=AttachmentId(bytes([number]) * 16))
            self.seen(storage, listed, now_ms())
            assert len(storage._uploads._seen) <= 2


def test_what_waits_is_bounded_for_each_citizen(storage, open_storage, attachment, monkeypatch):
    listed = attachment[0].listed
    small = open_storage(Quota(upload_bytes=listed.size))
    begin(small, listed)
    begin(small, listed)  # which is the same
    with pytest.raises(UploadsFull):
        begin(small, replace(listed, id=NONE), size=16)
    begin(small, listed, author=JOAO)
    monkeypatch.setattr(uploads, "OPEN_UPLOADS", 2)
    begin(storage, replace(listed, id=NONE), size=16)
    with pytest.raises(UploadsFull):
        begin(storage, replace(listed, id=AttachmentId(b"x" * 16)), size=16)


def test_what_was_sent_does_not_wait_any_more(storage, open_storage, database, attachment):
    made = upload(storage, attachment)
    send(storage, made)
    wait_until_sent(database)
    begin(open_storage(Quota(upload_bytes=made.listed.size)), made.listed, letter=LetterId(bytes(16)))


def wait_until_sent(database):
    """The mark is not awaited by those who write it: one more operation on each connection brings it through."""
    for _ in range(10_000):
        if database.uploads.count_documents({"sent": True}):
            return
    raise AssertionError("an upload was not marked as sent")


def test_attachments_count_in_every_mailbox(storage, open_storage, attachment):
    made = upload(storage, attachment)
    with pytest.raises(MailboxFull):
        send(open_storage(Quota(bytes=made.listed.size)), made)
    assert storage.attached(JOAO, MARIA, LETTER) is None
    send(storage, made)


def test_a_letter_shows_its_attachments_to_its_people(storage, attachment):
    made = upload(storage, attachment)
    send(storage, made)
    for reader, unread in ((MARIA, False), (JOAO, True)):
        found = storage.attached(reader, MARIA, LETTER)
        assert (found.listed, found.unread, found.swept) == ((made.listed,), unread, False)
    assert storage.attached(BRUNO, MARIA, LETTER) is None
    storage.commit(Change(MarkRead(JOAO, MARIA, LETTER), counter(61)))
    assert not storage.attached(JOAO, MARIA, LETTER).unread


def test_a_letter_whose_upload_was_swept_meanwhile_is_refused(storage, database, attachment):
    made = upload(storage, attachment)
    database.uploads.delete_many({})
    with pytest.raises(Conflict):
        send(storage, made)
    assert storage.attached(MARIA, MARIA, LETTER) is None


def test_the_same_letter_again_is_accepted_whatever_was_swept(storage, database, attachment):
    made = upload(storage, attachment)
    effect = effect_of(made)
    placed = storage.commit(Change(effect, counter(60))).entries
    database.uploads.delete_many({})
    assert storage.commit(Change(effect, counter(62))).entries == placed


class TestSweep:
    def test_what_waits_too_long_goes(self, storage, database, sweep, attachment):
        upload(storage, attachment)
        assert sweep(PATIENT) == Swept(0, 0, 0)
        assert database.chunks.count_documents({}) == 3
        assert sweep(LATE) == Swept(0, 0, 1)
        assert (database.chunks.count_documents({}), database.uploads.count_documents({})) == (0, 0)

    def test_what_went_leaves_room_for_others(self, storage, open_storage, sweep, attachment):
        listed = attachment[0].listed
        small = open_storage(Quota(upload_bytes=listed.size))
        upload(small, attachment)
        assert sweep(PATIENT) == Swept(0, 0, 0)
        with pytest.raises(UploadsFull):
            begin(small, replace(listed, id=NONE), now=LATE)
        assert sweep(LATE) == Swept(0, 0, 1)
        begin(small, replace(listed, id=NONE), now=LATE)

    def test_what_was_asked_for_lately_stays(self, storage, database, sweep, attachment):
        made = upload(storage, attachment)
        begin(storage, made.listed, now=Milliseconds(NOW + 3 * LEASE_SECONDS * 1000))
        assert sweep(LATE) == Swept(0, 0, 0)
        assert database.chunks.count_documents({}) == 3

    def test_what_a_letter_lists_stays(self, storage, database, sweep, attachment):
        made = upload(storage, attachment)
        send(storage, made)
        database.uploads.update_many({}, {"$set": {"sent": False}})  # as if the mark had been lost
        assert sweep(LATE) == Swept(0, 0, 0)
        assert database.uploads.count_documents({"sent": True}) == 1
        assert storage.incomplete(MARIA, LETTER, [made.listed]) == ()

    def test_what_the_letter_does_not_list_goes(self, storage, database, sweep, attachment):
        made = upload(storage, attachment)
        begin(storage, replace(made.listed, id=NONE), size=16)
        put(storage, replace(made.listed, id=NONE), 0, bytes(16))
        send(storage, made)
        database.uploads.update_many({}, {"$set": {"sent": True}})
        assert sweep(LATE) == Swept(0, 0, 1)
        assert database.chunks.count_documents({}) == 3

    def test_a_claimed_upload_can_be_neither_touched_nor_filled_nor_sent(self, storage, database, sweep, attachment):
        made = upload(storage, attachment)
        database.uploads.update_many({}, {"$set": {"size": 0}})  # a sweep that died right then
        assert storage.upload(MARIA, LETTER, made.listed.id) is None
        with pytest.raises(Conflict):
            begin(storage, made.listed)
        with pytest.raises(Conflict):
            send(storage, made)
        assert sweep(LATE) == Swept(0, 0, 1)
        assert database.chunks.count_documents({}) == 0

    def test_attachments_go_with_the_body(self, storage, database, sweep, attachment):
        made = upload(storage, attachment)
        send(storage, made, now=Milliseconds(NOW - 11 * DAY_MS))
        assert sweep(NOW, days=10) == Swept(1, 0, 1)
        assert database.chunks.count_documents({}) == 0
        assert storage.attached(JOAO, MARIA, LETTER).swept

    def test_a_sweep_that_died_between_body_and_attachments_is_made_good(self, storage, database, sweep, attachment):
        made = upload(storage, attachment)
        send(storage, made)
        database.uploads.update_many({}, {"$set": {"sent": True}})
        database.accepted.update_many({"body": {"$exists": True}}, {"$unset": {"body": 1}, "$set": {"swept": NOW}})
        assert sweep(LATE) == Swept(0, 0, 1)  # the first sweep, or the one after a sweep that did not end
        assert database.chunks.count_documents({}) == 0
