"""What a tombstone takes away and what it leaves, on a real database."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from typing import Any

import pytest

from crypto_core import mailbox, sealed
from crypto_core.choice import Choice, SignedChoice
from crypto_core.errors import ProtocolError
from crypto_core.ids import Milliseconds, new_letter_id
from crypto_core.letter import seal as seal_letter
from crypto_core.limits import UPLOAD_MS
from crypto_core.mailbox import EntryKind
from crypto_core.sign_for import SignedSlip
from repository_worker.effects import (
    Change,
    MarkRead,
    OpenUpload,
    Outcome,
    StoreChoice,
    StoreChunk,
    StoreLetter,
    StoreTombstone,
    ToSign,
)
from repository_worker.errors import CounterUsed, MailboxFull, StorageUnavailable
from repository_worker.storage import deletions
from repository_worker.storage.chains import Quota
from repository_worker.storage.documents import INLINE_BODY_BYTES
from repository_worker.storage.driver import connect
from repository_worker.storage.mongo import MongoStorage
from repository_worker.storage.retention import Retention, Rule
from tests.support.protocol import (
    BRUNO,
    JOAO,
    LETTER,
    MARIA,
    NOW,
    REPOSITORY,
    digest,
    letter_with,
    make_attachment,
    make_deletion,
    make_draft,
    public_of,
    sign_for_letter,
)
from tests.support.storages import counter

PATIENCE_SECONDS = 60.0
SMALL, LARGE = b"small", bytes(INLINE_BODY_BYTES + 1)


used = iter(range(10, 1_000_000))


def commit(storage, effect) -> Outcome:
    return storage.commit(Change(effect, counter(next(used))))


def send(storage, body: bytes = SMALL, to=(JOAO,), sender=MARIA):
    written = make_draft(*to, sender=sender, letter_id=new_letter_id())
    made = seal_letter(written, b"a CMS signature", public_of(*to, sender))
    commit(storage, StoreLetter(sealed.read(sealed.LETTER, made.head), body, NOW))
    return written.letter.id


def tombstone(storage, owner, letter, author=MARIA, now: int = NOW) -> StoreTombstone:
    """As the handler decides it."""
    held = storage.held(owner, author, letter)
    deletion = make_deletion(held.entry.entry, held.entry.hash, owner)
    return StoreTombstone(owner, author, letter, deletion, held.bytes, Milliseconds(now))


def delete(storage, owner, letter, author=MARIA) -> Outcome:
    return commit(storage, tombstone(storage, owner, letter, author))


def entries(storage, owner):
    return storage.page(owner, 0, 100, unread_only=False, views=True).entries


def require_chain(storage, owner) -> None:
    """Every entry follows the one before, and the last is the head."""
    found = storage.page(owner, 0, 100, unread_only=False, views=False)
    hashes = mailbox.extend(
        REPOSITORY, owner, 0, mailbox.genesis(REPOSITORY, owner), [each.entry for each in found.entries]
    )
    assert hashes[-1:] == [found.state.hash]


def total(database, owner) -> int:
    """What the newest entry of a mailbox says of its bytes."""
    found = [
        (each["number"], each["bytes"])
        for one in database.accepted.find({"entries.mailbox": owner})
        for each in one["entries"]
        if each["mailbox"] == owner
    ]
    return max(found)[1]


class TestInTheBox:
    def test_it_is_gone_for_its_owner_and_nobody_else(self, storage):
        letter = send(storage, to=(JOAO, BRUNO))
        outcome = delete(storage, JOAO, letter)
        assert [each.entry.kind for each in outcome.entries] == [EntryKind.TOMBSTONE]
        assert storage.page(JOAO, 0, 10, unread_only=True, views=True).entries == ()
        first, last = entries(storage, JOAO)
        assert first.view is None
        assert first.deleted == last.entry.time
        assert storage.letter(JOAO, MARIA, letter).body is None
        assert len(storage.page(BRUNO, 0, 10, unread_only=True, views=True).entries) == 1
        assert storage.letter(BRUNO, MARIA, letter).body == SMALL
        assert storage.letter(MARIA, MARIA, letter).body == SMALL
        for owner in (MARIA, JOAO, BRUNO):
            require_chain(storage, owner)

    def test_the_tombstone_shows_what_its_owner_signed_with_heads_and_without(self, storage):
        letter = send(storage)
        effect = tombstone(storage, JOAO, letter)
        commit(storage, effect)
        for views in (True, False):
            last = storage.page(JOAO, 0, 10, unread_only=False, views=views).entries[-1]
            assert last.deletion == effect.deletion
            assert last.entry.object == effect.deletion.object_hash
            assert (last.entry.routing.author, last.entry.routing.recipients) == (MARIA, (JOAO,))

    def test_of_a_copy_the_status_stays(self, storage):
        letter = send(storage)
        delete(storage, MARIA, letter)
        assert storage.letter(MARIA, MARIA, letter).body is None
        status = storage.status(MARIA, letter)
        assert status.sent.view is not None
        assert storage.letter(JOAO, MARIA, letter).body == SMALL

    def test_the_readers_wrap_goes_and_the_authors_stays(self, storage, database):
        letter = send(storage, to=(JOAO, BRUNO))
        for owner in (JOAO, MARIA):
            delete(storage, owner, letter)
        (found,) = database.accepted.find({"letter": letter, "protected": {"$exists": True}})
        assert {each["user"] for each in found["wraps"]} == {MARIA, BRUNO}
        assert len(found["wrap_hashes"]) == 3

    def test_a_letter_to_oneself_is_one_letter(self, storage):
        letter = send(storage, to=(MARIA,))
        delete(storage, MARIA, letter)
        assert [each.view is None for each in entries(storage, MARIA)] == [True, True, True]
        assert [each.entry.kind for each in entries(storage, MARIA)][-1] is EntryKind.TOMBSTONE
        assert storage.status(MARIA, letter).sent.view is not None

    @pytest.mark.parametrize("read", [True, False])
    def test_whether_it_was_read_is_remembered(self, storage, read):
        letter = send(storage)
        if read:
            commit(storage, MarkRead(JOAO, MARIA, letter))
        delete(storage, JOAO, letter)
        assert storage.received(JOAO, MARIA, letter).unread is not read

    def test_the_evidence_still_names_what_was_signed(self, storage):
        letter = send(storage)
        header = storage.letter(JOAO, MARIA, letter).entry.view.protected
        delete(storage, JOAO, letter)
        (found,) = storage.concerning(JOAO, MARIA, letter)
        assert (found.view, found.protected) == (None, header)


class TestOnce:
    def test_again_by_another_envelope_and_another_word(self, storage):
        letter = send(storage)
        first = delete(storage, JOAO, letter)
        again = tombstone(storage, JOAO, letter, now=NOW + 5)
        other = replace(again, deletion=make_deletion(entries(storage, JOAO)[0].entry, digest("other"), JOAO))
        assert commit(storage, again).entries == first.entries == commit(storage, other).entries
        assert len(entries(storage, JOAO)) == 2
        assert storage.held(JOAO, MARIA, letter).tombstone == first.entries[0]

    def test_the_same_envelope_again_and_another_under_its_counter(self, storage):
        change = Change(tombstone(storage, JOAO, send(storage)), counter(next(used)))
        assert storage.commit(change) == storage.commit(change)
        with pytest.raises(CounterUsed):
            storage.commit(replace(change, counter=replace(change.counter, request_hash=digest("another"))))

    def test_several_at_once_are_one_insertion_with_dense_numbers(self, storage):
        changes = [Change(tombstone(storage, JOAO, send(storage)), counter(next(used))) for _ in range(8)]
        ends = storage.commit_all(changes)
        assert [end.entries[0].entry.number for end in ends] == list(range(9, 17))
        require_chain(storage, JOAO)

    def test_a_worker_that_ends_between_tombstone_and_letter(self, storage, database, monkeypatch):
        letter = send(storage)
        change = Change(tombstone(storage, JOAO, letter), counter(next(used)))
        with monkeypatch.context() as patched:
            patched.setattr(
                deletions.Deletions, "follow", lambda *_: (_ for _ in ()).throw(StorageUnavailable("killed"))
            )
            with pytest.raises(StorageUnavailable):
                storage.commit(change)
        # The tombstone counts already.
        assert storage.letter(JOAO, MARIA, letter).body is None
        assert storage.received(JOAO, MARIA, letter).deleted is not None
        storage.commit(change)
        assert entries(storage, JOAO)[0].view is None
        assert len(entries(storage, JOAO)) == 2


def keep_deleting(uri: str, database: str, changes: list[Change], told: Any) -> None:
    """A worker that has one deletion after the other stored, and tells of each."""
    storage = MongoStorage(connect(uri), database, REPOSITORY)
    for number, change in enumerate(changes):
        storage.commit(change)
        told.send(number)


def test_a_worker_killed_while_it_deletes(storage, mongo, database):
    """What it told stands; brought again by another worker, each letter is deleted once and gone, none is missing."""
    letters = [send(storage) for _ in range(40)]
    changes = [Change(tombstone(storage, JOAO, each), counter(next(used))) for each in letters]
    context = multiprocessing.get_context("spawn")
    told, telling = context.Pipe(duplex=False)
    process = context.Process(target=keep_deleting, args=(mongo.uri, database.name, changes, telling))
    process.start()
    try:
        for _ in range(3):
            assert told.poll(PATIENCE_SECONDS)
            told.recv()
    finally:
        process.kill()
        process.join(PATIENCE_SECONDS)
    again = [storage.commit(each) for each in changes]
    numbers = [end.entries[0].entry.number for end in again]
    assert numbers == list(range(len(letters) + 1, 2 * len(letters) + 1))
    require_chain(storage, JOAO)
    found = entries(storage, JOAO)
    assert all(each.view is None for each in found)
    assert all(each.deleted is not None for each in found[: len(letters)])


class TestWhatNobodyNeeds:
    @pytest.mark.parametrize("body", [SMALL, LARGE], ids=["inline", "apart"])
    def test_the_text_goes_with_the_last_one(self, storage, database, body):
        letter = send(storage, body, to=(JOAO, BRUNO))
        for owner in (JOAO, MARIA):
            delete(storage, owner, letter)
            assert storage.letter(BRUNO, MARIA, letter).body == body
        delete(storage, BRUNO, letter)
        (found,) = database.accepted.find({"letter": letter, "protected": {"$exists": True}})
        assert not {"body", "body_hash"} & found.keys()
        assert found["swept"] == NOW
        assert database.bodies.count_documents({}) == 0

    def test_so_do_attachments_with_the_next_sweep(self, storage, mongo, database):
        made, chunks = make_attachment(b"acta")
        listed = made.listed
        commit(storage, OpenUpload(MARIA, LETTER, listed.id, listed.size, NOW))
        commit(storage, StoreChunk(MARIA, LETTER, listed.id, 0, chunks[0]))
        sealed_letter = letter_with(made)
        commit(storage, StoreLetter(sealed.read(sealed.LETTER, sealed_letter.head), SMALL, NOW))
        delete(storage, JOAO, LETTER)
        assert storage.attached(JOAO, MARIA, LETTER).deleted is not None
        assert storage.attached(MARIA, MARIA, LETTER).deleted is None
        sweeper = Retention(connect(mongo.uri), database.name, Rule())
        try:
            assert sweeper.sweep(Milliseconds(NOW + 2 * UPLOAD_MS)).uploads == 0
            delete(storage, MARIA, LETTER)
            assert sweeper.sweep(Milliseconds(NOW + 3 * UPLOAD_MS)).uploads == 1
        finally:
            sweeper.close()
        assert database.chunks.count_documents({}) == 0

    def test_the_second_share_of_its_owner_goes(self, storage, database):
        made = sign_for_letter()
        letter = sealed.read(sealed.SIGN_FOR, made.letter.head)
        slip = SignedSlip(made.slip, b"CMS", None)
        to_sign = ToSign(slip, Milliseconds(NOW + 1000), ((BRUNO, b"share"), (JOAO, b"share")))
        commit(storage, StoreLetter(letter, SMALL, NOW, to_sign))
        accepted = SignedChoice(Choice.ACCEPTED, slip.digest, b"{}", b"CMS")
        commit(storage, StoreChoice(MARIA, LETTER, JOAO, accepted, None, NOW))
        delete(storage, JOAO, LETTER)
        found = database.accepted.find_one({"shares": {"$exists": True}})
        assert [each["user"] for each in found["shares"]] == [BRUNO]
        assert [each.entry.kind for each in entries(storage, JOAO)] == [
            EntryKind.RECEIVED,
            EntryKind.ACCEPTANCE_SENT,
            EntryKind.TOMBSTONE,
        ]


class TestRoom:
    def test_the_bytes_of_its_owner_are_free_at_once(self, storage, database):
        first, second = send(storage), send(storage, LARGE)
        held = storage.held(JOAO, MARIA, second).bytes
        before, others = total(database, JOAO), total(database, MARIA)
        effect = tombstone(storage, JOAO, second)
        commit(storage, effect)
        assert held > len(LARGE)
        assert total(database, JOAO) == before - held + effect.deletion.size
        assert total(database, MARIA) == others
        assert storage.held(JOAO, MARIA, first).bytes == before - held

    def test_a_full_mailbox_takes_letters_again(self, storage, open_storage, database):
        letter = send(storage, LARGE)
        tight = open_storage(Quota(bytes=total(database, JOAO) + 100))
        with pytest.raises(MailboxFull):
            send(tight)
        delete(tight, JOAO, letter)
        delete(tight, MARIA, letter)
        send(tight)

    def test_of_a_letter_to_oneself_both_entries_are_free(self, storage, database):
        send(storage)
        before = total(database, MARIA)
        letter = send(storage, LARGE, to=(MARIA,))
        effect = tombstone(storage, MARIA, letter)
        commit(storage, effect)
        assert total(database, MARIA) == before + effect.deletion.size


def test_whose_box_never_had_it_has_nothing_to_delete(storage):
    letter = send(storage)
    assert storage.held(BRUNO, MARIA, letter) is None
    with pytest.raises((AttributeError, ProtocolError)):
        delete(storage, BRUNO, letter)
