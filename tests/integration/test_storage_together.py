"""What the commands of one batch ask is asked of the database at once, and each gets what it would get alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crypto_core import limits
from crypto_core.documents import SignedRenewal
from crypto_core.ids import SessionId, UserId, new_letter_id
from repository_worker.effects import Change, CloseSession, CounterRecord, MarkRead, StoreReceipt, StoreRegistration
from repository_worker.errors import StorageUnavailable
from repository_worker.storage import mailboxes
from repository_worker.storage.asked import Asked
from repository_worker.storage.interface import Questions, Reading
from tests.integration.test_storage_commits import (
    RECEIPT,
    database,
    failing,
    id_of,
    letters,
    open_storage,
    server,
    storage,
    watch,
)
from tests.integration.test_storage_mongo import LETTER_EFFECT
from tests.support.protocol import BRUNO, JOAO, LETTER, MARIA, NOW, SESSION, digest
from tests.support.storages import EXPIRES, counter, person

__all__ = ["database", "open_storage", "server", "storage", "watch"]
OTHER_SESSION = SessionId(b"o" * len(SESSION))
PAGE = limits.MAILBOX_PAGE + 1


def reading(change: Change, number: int, reader: UserId = JOAO, session: SessionId = SESSION) -> Reading:
    return Reading(reader, MARIA, id_of(change), session, number)


class TestLetters:
    def test_letters_and_counters_are_one_query(self, storage, watch):
        sent = letters(3)
        storage.commit_all([*sent, Change(MarkRead(JOAO, MARIA, id_of(sent[0])), counter(50, "read"))])
        storage.commit(Change(CloseSession(OTHER_SESSION), CounterRecord(OTHER_SESSION, 1, digest("close"), EXPIRES)))
        alone = [storage.letter(JOAO, MARIA, id_of(each)) for each in sent]
        wanted = [reading(sent[0], 50), reading(sent[1], 51), reading(sent[2], 2, session=OTHER_SESSION)]
        watch.started_.clear()
        view = storage.reading(Questions(letters=tuple(wanted)))
        assert [view.letter(JOAO, MARIA, id_of(each)) for each in sent] == alone
        states = view.counters([(each.session, each.counter) for each in wanted])
        assert watch.names == ["find"]
        assert [state.request_hash for state in states] == [digest("read"), None, None]
        assert [state.closed for state in states] == [False, False, True]
        assert states == storage.counters([(each.session, each.counter) for each in wanted])

    def test_a_lone_one_is_one_query_and_one_update(self, storage, watch):
        (sent,) = letters(1)
        storage.commit(sent)
        watch.started_.clear()
        view = storage.reading(Questions(letters=(reading(sent, 50),)))
        assert view.letter(JOAO, MARIA, id_of(sent)).entry.unread
        assert view.counters([(SESSION, 50)])[0].request_hash is None
        storage.commit(Change(MarkRead(JOAO, MARIA, id_of(sent)), counter(50)))
        assert watch.names == ["find", "update"]

    def test_a_counter_that_came_with_no_letter_is_looked_for(self, storage):
        (sent,) = letters(1)
        storage.commit(sent)
        view = storage.reading(Questions(letters=(reading(sent, 50),)))
        view.letter(JOAO, MARIA, id_of(sent))
        used = sent.counter.counter
        assert [each.request_hash for each in view.counters([(SESSION, 50), (SESSION, used)])] == [
            None,
            sent.counter.request_hash,
        ]

    def test_nobody_gets_what_another_of_the_batch_reads(self, storage):
        to_joao, to_bruno = letters(1)[0], letters(1, first=20, to=BRUNO)[0]
        storage.commit_all([to_joao, to_bruno])
        wanted = (reading(to_joao, 50), reading(to_joao, 51, BRUNO), reading(to_bruno, 52, BRUNO))
        view = storage.reading(Questions(letters=wanted))
        assert view.letter(BRUNO, MARIA, id_of(to_joao)) is None
        for reader, sent in ((JOAO, to_joao), (BRUNO, to_bruno)):
            found = view.letter(reader, MARIA, id_of(sent))
            assert found == storage.letter(reader, MARIA, id_of(sent))
            assert found.entry.view.wrap == dict(sent.effect.letter.wraps)[reader]

    def test_what_was_stored_shows_once_the_view_forgets(self, storage):
        (sent,) = letters(1)
        storage.commit(sent)
        view = storage.reading(Questions(letters=(reading(sent, 50),), own=((MARIA, id_of(sent)),)))
        assert view.letter(JOAO, MARIA, id_of(sent)).entry.unread
        assert view.counters([(SESSION, 50)])[0].request_hash is None
        storage.commit(Change(MarkRead(JOAO, MARIA, id_of(sent)), counter(50)))
        view.forget()
        assert view.counters([(SESSION, 50)])[0].request_hash is not None
        assert not view.letter(JOAO, MARIA, id_of(sent)).entry.unread


class TestStatus:
    def test_of_several_letters_with_and_without_receipts(self, storage, watch):
        sent = letters(2)
        storage.commit_all([*sent, Change(LETTER_EFFECT, counter(9))])
        storage.commit(Change(MarkRead(JOAO, MARIA, LETTER), counter(50)))
        storage.commit(Change(StoreReceipt(RECEIPT, MARIA, NOW), counter(51)))
        wanted = [(MARIA, LETTER), *((MARIA, id_of(each)) for each in sent), (MARIA, new_letter_id()), (JOAO, LETTER)]
        alone = [storage.status(*each) for each in wanted]
        watch.started_.clear()
        view = storage.reading(Questions(own=tuple(wanted)))
        together = [view.status(*each) for each in wanted]
        assert together == alone
        assert watch.names == ["find", "find"]
        assert [len(each.receipts) for each in together[:3]] == [1, 0, 0]
        assert together[3:] == [None, None]


class TestNew:
    def test_a_lone_one_is_one_query(self, storage, open_storage, watch):
        open_storage().commit_all(letters(3))  # by another worker
        view = storage.reading(Questions(new=((JOAO, 0),)))
        page = view.page(JOAO, 0, PAGE, unread_only=True, views=True)
        assert watch.names == ["find"]
        assert [each.entry.number for each in page.entries] == [1, 2, 3]
        assert page.state.number == 3

    def test_of_many_only_what_their_reader_may_know_is_read(self, storage, open_storage, watch, monkeypatch):
        monkeypatch.setattr(mailboxes, "AT_ONCE", 3)
        open_storage().commit_all([*letters(2), *letters(1, first=20, sender=BRUNO)])
        page = storage.page(JOAO, 0, 10, unread_only=True, views=True)
        assert [each.entry.number for each in page.entries] == [1, 2, 3]
        assert all("$filter" in command["projection"]["wraps"] for _, command in watch.started_[-1:])

    @pytest.mark.parametrize("dropped", [0, 1])
    def test_what_the_query_passed_over_is_read_again(self, storage, open_storage, monkeypatch, dropped):
        """A query is no snapshot: it may show a later entry without an earlier one."""
        open_storage().commit_all(letters(3))
        accepted, finds = storage._mailboxes._accepted, []

        class Passing:
            """The collection, whose first query does not see one of the letters."""

            def find(self, *arguments, **options):
                found = sorted(accepted.find(*arguments, **options), key=lambda each: each["entries"][0]["number"])
                finds.append(found)
                return found if len(finds) > 1 else found[:dropped] + found[dropped + 1 :]

        monkeypatch.setattr(storage._mailboxes, "_accepted", Passing())
        page = storage.page(JOAO, 0, 10, unread_only=True, views=True)
        assert [each.entry.number for each in page.entries] == [1, 2, 3]
        assert len(finds) == 2

    def test_all_of_a_batch_are_two_queries(self, storage, open_storage, watch):
        open_storage().commit_all([*letters(3), *letters(2, first=20, to=BRUNO, sender=JOAO)])
        stranger = UserId(bytes(len(MARIA)))
        wanted = ((MARIA, 0), (JOAO, 1), (BRUNO, 0), (stranger, 0))
        alone = [open_storage().page(*each, PAGE, unread_only=True, views=True) for each in wanted]
        storage.unregistered((stranger,))
        watch.started_.clear()
        view = storage.reading(Questions(new=wanted))
        assert [view.page(*each, PAGE, unread_only=True, views=True) for each in wanted] == alone
        assert [name for name, command in watch.started_ if command["find"] == "accepted"] == ["find", "find"]
        assert [len(each.entries) for each in alone] == [0, 2, 2, 0]

    @pytest.mark.parametrize("crowded", [JOAO, BRUNO])
    def test_one_full_page_does_not_shorten_the_others(self, storage, monkeypatch, crowded):
        monkeypatch.setattr(limits, "MAILBOX_PAGE", 2)
        other = BRUNO if crowded is JOAO else JOAO
        storage.commit_all([*letters(9, to=crowded), *letters(2, first=40, to=other)])
        view = storage.reading(Questions(new=((JOAO, 0), (BRUNO, 0))))
        pages = [view.page(each, 0, 3, unread_only=True, views=True) for each in (crowded, other)]
        assert [[each.entry.number for each in page.entries] for page in pages] == [[1, 2, 3], [1, 2]]


class TestPeople:
    def test_records_and_renewals_are_one_query(self, storage, watch):
        renewal = SignedRenewal(b"{}", b"signature", None)
        successor = UserId(b"s" * len(MARIA))
        renewed = replace(person(successor), renewal=renewal)
        storage.commit(Change(StoreRegistration(renewed, "somebody", renews=JOAO), counter(70)))
        stranger = UserId(bytes(len(MARIA)))
        alone = [storage.registration(each) for each in (MARIA, JOAO, stranger)]
        watch.started_.clear()
        view = storage.reading(Questions(people=(MARIA, JOAO, stranger)))
        assert [view.registration(each) for each in (MARIA, JOAO, stranger)] == alone
        assert [view.renewed([each]) for each in (MARIA, JOAO, stranger)] == [{}, {JOAO: successor}, {}]
        assert watch.names == ["find"]
        assert alone[2] is None


class TestFaults:
    def test_where_asking_together_fails_the_others_ask_alone(self):
        asked: list[tuple[str, ...]] = []

        def ask(questions):
            asked.append(tuple(questions))
            if len(questions) > 1:
                raise ValueError("too many at once")
            return {each: each.upper() for each in questions}

        together = Asked(["a", "b", "a"], ask)
        with pytest.raises(ValueError, match="too many"):
            together.get("a")
        assert [together.get("a"), together.get("b"), together.get("c")] == ["A", "B", "C"]
        assert asked == [("a", "b"), ("a",), ("b",), ("c",)]

    def test_a_database_that_is_away_is_unavailable(self, storage, database):
        (sent,) = letters(1)
        storage.commit(sent)
        view = storage.reading(Questions(letters=(reading(sent, 50),)))
        with failing(database, failCommands=["find"], closeConnection=True), pytest.raises(StorageUnavailable):
            view.letter(JOAO, MARIA, id_of(sent))
        assert view.letter(JOAO, MARIA, id_of(sent)) is not None
