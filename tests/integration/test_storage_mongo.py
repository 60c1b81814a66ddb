"""The storage on a real MongoDB: what is atomic, what is unique, what a repeat does, what two at once do."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from pymongo.errors import WriteError
from pymongo.monitoring import CommandListener

from crypto_core import limits, mailbox, sealed, suite
from crypto_core.documents import SignedRenewal
from crypto_core.ids import Digest, LetterId, Milliseconds, SessionId, UserId, new_letter_id
from crypto_core.letter import seal as seal_letter
from crypto_core.mailbox import EntryKind
from repository_worker import worker
from repository_worker.effects import (
    Change,
    CloseSession,
    MarkRead,
    OpenSession,
    Outcome,
    StoreLetter,
    StoreReceipt,
    StoreRegistration,
)
from repository_worker.errors import Conflict, CounterUsed, StorageError, StorageUnavailable
from repository_worker.local_mongo import LocalMongo
from repository_worker.stamper import StoredStamp
from repository_worker.storage import documents, driver
from repository_worker.storage.driver import connect
from repository_worker.storage.interface import CounterState, MailboxState, Page, StoredLetter
from repository_worker.storage.memory import NEWS_SECONDS
from repository_worker.storage.mongo import MongoStorage
from tests.support.protocol import (
    BRUNO,
    JOAO,
    LETTER,
    MARIA,
    NOW,
    REPOSITORY,
    SESSION,
    digest,
    make_draft,
    make_letter,
    public_of,
    sealed_letter,
    sealed_receipt,
)
from tests.support.storages import EXPIRES, chain, counter, person

HEAD = sealed.read(sealed.LETTER, sealed_letter().head)
RECEIPT = sealed.read(sealed.RECEIPT, sealed_receipt())


class _Sent(CommandListener):
    """The names of the commands that go to the database, in their order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def started(self, event) -> None:
        self.names.append(event.command_name)

    def succeeded(self, event) -> None: ...

    def failed(self, event) -> None: ...


@pytest.fixture
def listener():
    return _Sent()


@pytest.fixture
def commands_sent(listener) -> list[str]:
    return listener.names


@pytest.fixture
def storage(mongo, database, listener):
    made = MongoStorage(connect(mongo.uri, listeners=[listener]), database.name, REPOSITORY)
    made.prepare()
    yield made
    made.close()


@pytest.fixture
def commit(storage):
    """Commits an effect under the next counter."""
    used = iter(range(1, 10_000))
    return lambda effect: storage.commit(Change(effect, counter(next(used))))


@pytest.fixture
def people(commit):
    for user, name in ((MARIA, "maria conceicao reis"), (JOAO, "joao sa"), (BRUNO, "bruno antunes")):
        commit(StoreRegistration(person(user), name))


class TestRenewals:
    RENEWAL = SignedRenewal(b"{}", b"by the new card", None)

    def renewing(self, user, renewal=RENEWAL, **changes):
        return StoreRegistration(replace(person(user, **changes), renewal=renewal), "joao sa", JOAO)

    @pytest.mark.parametrize("former_signature", [None, b"by the former card"])
    def test_they_come_back_as_they_were_stored(self, storage, commit, people, former_signature):
        renewal = replace(self.RENEWAL, former_signature=former_signature)
        new = UserId(bytes(28))
        commit(self.renewing(new, renewal))
        assert storage.registration(new).renewal == renewal
        assert storage.registration(JOAO).renewal is None
        assert storage.renewed([MARIA, JOAO, new]) == storage.superseded([MARIA, JOAO, new]) == {JOAO: new}

    def test_the_worker_that_stored_it_knows_at_once_and_others_soon(self, storage, commit, people, database):
        elsewhere = MongoStorage(database.client, database.name, REPOSITORY)
        assert storage.superseded([JOAO]) == elsewhere.superseded([JOAO]) == {}
        new = UserId(bytes(28))
        commit(self.renewing(new))
        assert storage.superseded([JOAO]) == {JOAO: new}
        deadline = time.monotonic() + 20 * NEWS_SECONDS
        while elsewhere.superseded([JOAO]) != {JOAO: new}:
            assert time.monotonic() < deadline, "another worker goes on with what is no longer so"
            time.sleep(0.05)

    def test_a_worker_asks_for_the_news_before_a_message_has_to_wait(self, storage, commands_sent):
        for _ in range(2):
            storage.closed(0)
        commands_sent.clear()
        ended = threading.Event()
        following = threading.Thread(target=worker._follow_news, args=(storage, ended))
        following.start()
        try:
            deadline = time.monotonic() + 20 * NEWS_SECONDS
            while commands_sent != ["find"]:
                assert time.monotonic() < deadline, commands_sent
                time.sleep(0.05)
        finally:
            ended.set()
            following.join()

    def test_a_card_is_renewed_by_one_card(self, storage, commit, people):
        commit(self.renewing(UserId(bytes(28))))
        with pytest.raises(Conflict, match="another card"):
            commit(self.renewing(UserId(b"x" * 28)))
        assert storage.registration(UserId(b"x" * 28)) is None
        commit(self.renewing(UserId(bytes(28)), revision=2, text=b"{ }"))
        assert storage.renewed([JOAO]) == {JOAO: bytes(28)}


LETTER_EFFECT = StoreLetter(HEAD, sealed_letter().body, NOW)


class TestSettingUp:
    def test_twice_is_once(self, storage, database):
        before = {name: database[name].index_information() for name in database.list_collection_names()}
        storage.prepare()
        assert {name: database[name].index_information() for name in database.list_collection_names()} == before

    def test_the_database_itself_refuses_what_is_not_of_the_schema(self, storage, database):
        with pytest.raises(WriteError):
            database["mailboxes"].insert_one({"mailbox": "text", "number": 1, "hash": b"", "time": 1, "bytes": 1})
        with pytest.raises(WriteError):
            database["mailboxes"].insert_one(
                {"mailbox": b"", "number": 1, "hash": b"", "time": 1, "bytes": 1, "more": 1}
            )

    def test_counters_outlive_their_sessions(self, storage, database):
        ages = {
            name: database[name].index_information()["expiry"]["expireAfterSeconds"]
            for name in ("sessions", "accepted")
        }
        assert ages["accepted"] > ages["sessions"]


class TestRegistrations:
    def test_the_newest_and_all(self, storage, commit):
        commit(StoreRegistration(person(MARIA), "maria"))
        commit(StoreRegistration(person(MARIA, 2, b"{2}"), "maria"))
        assert storage.registration(MARIA) == person(MARIA, 2, b"{2}")
        assert storage.registrations(MARIA, 10) == (person(MARIA), person(MARIA, 2, b"{2}"))
        assert storage.registrations(MARIA, 1) == (person(MARIA, 2, b"{2}"),)

    def test_the_same_again_stands(self, storage, commit):
        commit(StoreRegistration(person(MARIA), "maria"))
        later = replace(person(MARIA), accepted=Milliseconds(NOW + 5))
        assert commit(StoreRegistration(later, "maria")).person == person(MARIA)

    @pytest.mark.parametrize(("revision", "text"), [(1, b"{other}"), (3, b"{3}")], ids=["another first", "a gap"])
    def test_anything_else_is_a_conflict(self, storage, commit, revision, text):
        commit(StoreRegistration(person(MARIA), "maria"))
        with pytest.raises(Conflict):
            commit(StoreRegistration(person(MARIA, revision, text), "maria"))
        assert storage.registrations(MARIA, 10) == (person(MARIA),)

    def test_a_first_one_must_be_revision_one(self, commit):
        with pytest.raises(Conflict):
            commit(StoreRegistration(person(MARIA, 2), "maria"))

    def test_two_at_once_make_one(self, storage):
        def register(number):
            effect = StoreRegistration(person(MARIA, 1, b"{%d}" % number), "maria")
            try:
                return storage.commit(Change(effect, counter(number)))
            except Conflict as error:
                return error

        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(register, range(1, 5)))
        assert sum(not isinstance(each, Conflict) for each in results) == 1
        assert len(storage.registrations(MARIA, 10)) == 1

    def test_a_search_takes_the_text_as_text(self, storage, people):
        assert [each.user for each in storage.people("joao", None, 10)] == [JOAO]
        assert storage.people(".*", None, 10) == ()
        assert [each.user for each in storage.people("", None, 10)] == sorted([MARIA, JOAO, BRUNO])
        assert len(storage.people("", min(MARIA, JOAO, BRUNO), 1)) == 1

    def test_who_is_not_registered(self, storage, commit):
        commit(StoreRegistration(person(JOAO), "joao sa"))
        assert storage.unregistered((MARIA, JOAO, BRUNO)) == (MARIA, BRUNO)


@pytest.mark.usefixtures("people")
class TestLetters:
    def test_one_letter_in_three_mailboxes(self, storage, commit):
        outcome = commit(LETTER_EFFECT)
        others = sorted([JOAO, BRUNO])
        assert [each.mailbox for each in outcome.entries] == [MARIA, *others]
        assert [each.entry.kind for each in outcome.entries] == [EntryKind.SENT, EntryKind.RECEIVED, EntryKind.RECEIVED]
        assert len({each.entry.time for each in outcome.entries}) == 1
        assert storage.status(MARIA, LETTER).acceptance == outcome.entries
        for owner in (MARIA, JOAO, BRUNO):
            (entry,) = chain(storage, owner)
            assert entry.view == HEAD.view(owner)
            assert entry.entry.object == HEAD.object_hash
            assert storage.letter(owner, MARIA, LETTER) == StoredLetter(entry, sealed_letter().body)

    def test_a_view_shows_no_wrap_but_the_readers_own(self, storage, commit, database):
        commit(LETTER_EFFECT)
        assert len(database["accepted"].find_one({"letter": LETTER})["wraps"]) == 3
        (entry,) = chain(storage, JOAO)
        assert entry.view.wrap == dict(HEAD.wraps)[JOAO]

    def test_again_has_one_effect_and_the_same_outcome(self, storage, commit):
        first = commit(LETTER_EFFECT)
        assert commit(replace(LETTER_EFFECT, now=Milliseconds(NOW + 99))) == first
        assert [len(chain(storage, owner)) for owner in (MARIA, JOAO, BRUNO)] == [1, 1, 1]

    def test_another_letter_under_the_same_id(self, storage, commit):
        commit(LETTER_EFFECT)
        other = make_letter(JOAO, BRUNO)
        with pytest.raises(Conflict):
            commit(StoreLetter(sealed.read(sealed.LETTER, other.head), other.body, NOW))
        assert storage.letter(MARIA, MARIA, LETTER).body == sealed_letter().body

    def test_the_same_id_by_another_author_is_another_letter(self, storage, commit):
        commit(LETTER_EFFECT)
        of_bruno = make_letter(JOAO, sender=BRUNO)
        commit(StoreLetter(sealed.read(sealed.LETTER, of_bruno.head), of_bruno.body, NOW))
        assert [each.about for each in chain(storage, JOAO)] == [MARIA, BRUNO]

    def test_to_somebody_without_a_mailbox_nothing_is_stored(self, storage, commit, database):
        database["mailboxes"].delete_one({"mailbox": BRUNO})
        with pytest.raises(StorageError, match="no mailbox"):
            commit(LETTER_EFFECT)
        assert storage.letter(MARIA, MARIA, LETTER) is None
        assert database["accepted"].count_documents({"letter": LETTER}) == 0
        assert chain(storage, MARIA) == ()

    def test_times_never_go_back(self, storage, commit):
        commit(LETTER_EFFECT)
        early = make_letter(JOAO, sender=BRUNO)
        outcome = commit(StoreLetter(sealed.read(sealed.LETTER, early.head), early.body, Milliseconds(NOW - 1000)))
        assert {each.entry.time for each in outcome.entries} == {NOW}

    def test_to_oneself(self, storage, commit):
        made = make_letter(MARIA)
        outcome = commit(StoreLetter(sealed.read(sealed.LETTER, made.head), made.body, NOW))
        assert [(each.mailbox, each.entry.number) for each in outcome.entries] == [(MARIA, 1), (MARIA, 2)]
        assert storage.status(MARIA, LETTER).acceptance == outcome.entries
        assert len(chain(storage, MARIA)) == 2
        assert storage.letter(MARIA, MARIA, LETTER).entry.entry.kind is EntryKind.RECEIVED

    def test_many_at_once_leave_dense_chains(self, storage):
        made = [(make_letter(JOAO), LetterId(number.to_bytes(16))) for number in range(24)]
        heads = [(renumbered(each.head, letter), each.body) for each, letter in made]

        def send(numbered):
            number, (head, body) = numbered
            return storage.commit(Change(StoreLetter(head, body, NOW), counter(number + 10)))

        with ThreadPoolExecutor(6) as pool:
            outcomes = list(pool.map(send, enumerate(heads)))
        assert sorted(each.entries[1].entry.number for each in outcomes) == list(range(1, 25))
        assert len(chain(storage, JOAO)) == len(chain(storage, MARIA)) == 24

    def test_read_once(self, storage, commit):
        commit(LETTER_EFFECT)
        commit(MarkRead(JOAO, MARIA, LETTER))
        assert storage.page(JOAO, 0, 10, unread_only=True, views=True).entries == ()
        assert not storage.received(JOAO, MARIA, LETTER).unread
        assert storage.received(BRUNO, MARIA, LETTER).unread

    def test_a_receipt_and_its_repeat(self, storage, commit):
        commit(LETTER_EFFECT)
        first = commit(StoreReceipt(RECEIPT, MARIA, NOW))
        assert [(each.mailbox, each.entry.kind) for each in first.entries] == [
            (JOAO, EntryKind.RECEIPT_SENT),
            (MARIA, EntryKind.RECEIPT),
        ]
        assert commit(StoreReceipt(RECEIPT, MARIA, NOW)) == first
        (stored,) = storage.status(MARIA, LETTER).receipts
        assert stored.view == RECEIPT.view(MARIA)
        assert len(chain(storage, MARIA)) == 2

    def test_another_receipt_of_the_same_reader(self, commit):
        from tests.support.protocol import make_receipt

        commit(LETTER_EFFECT)
        commit(StoreReceipt(RECEIPT, MARIA, NOW))
        with pytest.raises(Conflict):
            commit(StoreReceipt(sealed.read(sealed.RECEIPT, make_receipt()), MARIA, NOW))


class TestCounters:
    def test_effect_and_counter_are_stored_together(self, storage):
        storage.commit(Change(StoreRegistration(person(MARIA), "maria"), counter(1)))
        assert storage.counters([(SESSION, 1)])[0] == CounterState(digest("request 1"), closed=False)
        assert storage.counters([(SESSION, 2)])[0] == CounterState(None, closed=False)
        with pytest.raises(Conflict):
            storage.commit(Change(StoreRegistration(person(MARIA, 1, b"{other}"), "maria"), counter(2)))
        assert storage.counters([(SESSION, 2)])[0] == CounterState(None, closed=False)

    def test_another_envelope_under_a_used_counter(self, storage):
        storage.commit(Change(StoreRegistration(person(MARIA), "maria"), counter(1)))
        with pytest.raises(CounterUsed):
            storage.commit(Change(StoreRegistration(person(JOAO), "joao"), counter(1, "another request")))
        assert storage.registration(JOAO) is None

    def test_the_same_envelope_on_two_workers_at_once(self, storage):
        storage.commit(Change(StoreRegistration(person(MARIA), "maria"), counter(1)))
        storage.commit(Change(StoreRegistration(person(JOAO), "joao"), counter(2)))
        storage.commit(Change(StoreRegistration(person(BRUNO), "bruno"), counter(3)))
        start = threading.Barrier(4)

        def send(_):
            start.wait(10)
            return storage.commit(Change(LETTER_EFFECT, counter(4)))

        with ThreadPoolExecutor(4) as pool:
            outcomes = list(pool.map(send, range(4)))
        assert all(each == outcomes[0] for each in outcomes)
        assert len(chain(storage, MARIA)) == 1


class TestBatches:
    """Changes that are stored together: each has its own end, whatever becomes of the others."""

    @staticmethod
    def letter(to=JOAO, sender=MARIA) -> StoreLetter:
        written = make_draft(to, sender=sender, letter_id=new_letter_id())
        made = seal_letter(written, b"a CMS signature", public_of(to, sender))
        return StoreLetter(sealed.read(sealed.LETTER, made.head), made.body, NOW)

    def changes(self, count: int, first: int = 10, **who) -> list[Change]:
        return [Change(self.letter(**who), counter(first + each)) for each in range(count)]

    @pytest.mark.usefixtures("people")
    def test_letters_receipts_and_marks_in_two_writes(self, storage, commands_sent):
        storage.commit(Change(LETTER_EFFECT, counter(9)))
        commands_sent.clear()
        letters = self.changes(3)
        marks = [
            Change(MarkRead(JOAO, MARIA, LETTER), counter(20)),
            Change(StoreReceipt(RECEIPT, MARIA, NOW), counter(21)),
        ]
        outcomes = storage.commit_all([*letters, *marks])
        assert commands_sent == ["insert", "update"]
        for change, outcome in zip(letters, outcomes, strict=False):
            letter = change.effect.letter.routing.letter
            assert outcome.entries == storage.status(MARIA, letter).acceptance
            assert storage.letter(MARIA, MARIA, letter).body == change.effect.body
        assert [len(outcome.entries) for outcome in outcomes] == [2, 2, 2, 0, 2]
        assert not storage.received(JOAO, MARIA, LETTER).unread
        assert len(storage.status(MARIA, LETTER).receipts) == 1
        assert len(chain(storage, MARIA)) == len(chain(storage, JOAO)) == 5
        used = storage.counters([(SESSION, number) for number in (10, 11, 12, 20, 21, 22)])
        assert [each.request_hash is not None for each in used] == [True] * 5 + [False]

    @pytest.mark.usefixtures("people")
    def test_sixteen_take_no_more_round_trips_than_one(self, storage, commands_sent):
        storage.commit_all(self.changes(1))
        one = list(commands_sent)
        commands_sent.clear()
        storage.commit_all(self.changes(16, first=20))
        assert commands_sent == one[-len(commands_sent) :] == ["insert"]

    @pytest.mark.usefixtures("people")
    def test_what_fails_fails_alone(self, storage):
        storage.commit(Change(LETTER_EFFECT, counter(4)))
        another = make_letter(JOAO)
        good = self.changes(2)
        stranger = self.letter()
        stranger = replace(stranger, letter=replace(stranger.letter, wraps=_with_a_stranger(stranger.letter.wraps)))
        outcomes = storage.commit_all(
            [
                good[0],
                Change(StoreLetter(sealed.read(sealed.LETTER, another.head), another.body, NOW), counter(5)),
                Change(self.letter(), counter(4, "another request")),
                Change(stranger, counter(6)),
                Change(LETTER_EFFECT, counter(4)),
                good[1],
            ]
        )
        assert [type(each) for each in outcomes] == [Outcome, Conflict, CounterUsed, StorageError, Outcome, Outcome]
        assert outcomes[4].entries == storage.status(MARIA, LETTER).acceptance
        assert len(chain(storage, MARIA)) == len(chain(storage, JOAO)) == 3
        assert [each.request_hash for each in storage.counters([(SESSION, 5), (SESSION, 6)])] == [None, None]

    @pytest.mark.usefixtures("people")
    def test_the_same_again_has_no_second_effect(self, storage):
        changes = self.changes(3)
        first = storage.commit_all(changes)
        assert storage.commit_all(changes) == first
        assert storage.commit_all(changes[::-1]) == first[::-1]
        assert len(chain(storage, MARIA)) == 3

    @pytest.mark.usefixtures("people")
    def test_one_envelope_twice_in_a_batch(self, storage):
        (change,) = self.changes(1)
        first, second = storage.commit_all([change, change])
        assert first == second
        assert len(chain(storage, MARIA)) == 1

    @pytest.mark.usefixtures("people")
    def test_one_hot_mailbox_and_two_workers(self, storage, mongo, database):
        other = MongoStorage(connect(mongo.uri), database.name, REPOSITORY)
        start = threading.Barrier(2)

        def send(worker):
            place, (where, sender) = worker
            start.wait(10)
            firsts = [100 * place + 10 * batch for batch in range(5)]
            done = [where.commit_all(self.changes(4, first, to=BRUNO, sender=sender)) for first in firsts]
            return [outcome for batch in done for outcome in batch]

        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(send, enumerate([(storage, MARIA), (other, JOAO)], 1)))
        other.close()
        assert all(isinstance(outcome, Outcome) for result in results for outcome in result)
        assert len(chain(storage, BRUNO)) == 40
        assert len(chain(storage, MARIA)) == len(chain(storage, JOAO)) == 20

    def test_nobody_is_remembered_as_registered_who_is_not(self, storage, commit):
        assert storage.unregistered([MARIA, JOAO]) == (MARIA, JOAO)
        commit(StoreRegistration(person(MARIA), "maria"))
        assert storage.unregistered([MARIA, JOAO]) == (JOAO,)
        assert storage.unregistered([MARIA, JOAO]) == (JOAO,)
        commit(StoreRegistration(person(JOAO), "joao"))
        assert storage.unregistered([MARIA, JOAO]) == ()


def _with_a_stranger(wraps):
    """The wraps of a letter with a reader more, who has no mailbox."""
    return tuple(sorted([*wraps, (UserId(bytes(27) + b"x"), wraps[0][1])]))


class TestSessions:
    def opened(self, request="confirm") -> Change:
        return Change(OpenSession(SESSION, b"sealed", b"kek", EXPIRES), counter(0, request))

    def test_opened_once(self, storage):
        storage.commit(self.opened())
        storage.commit(self.opened())
        assert storage.session(SESSION) == b"sealed"
        assert storage.session(SessionId(bytes(16))) is None

    def test_another_confirm(self, storage):
        storage.commit(self.opened())
        with pytest.raises(CounterUsed):
            storage.commit(self.opened("another confirm"))

    def test_a_session_that_an_older_release_opened(self, storage, database):
        storage.commit(self.opened())
        database.sessions.update_one({"session": SESSION}, {"$unset": {"request": 1}})
        database.accepted.insert_one(documents.mark(counter(0, "confirm"), "OpenSession"))
        storage.commit(self.opened())
        with pytest.raises(CounterUsed):
            storage.commit(self.opened("another confirm"))

    def test_two_devices_that_confirm_at_once_open_one_session(self, storage):
        requests = [f"confirm {number}" for number in range(8)]
        with ThreadPoolExecutor(len(requests)) as pool:
            ends = list(pool.map(lambda each: storage.commit_all([self.opened(each)])[0], requests))
        assert sum(isinstance(end, CounterUsed) for end in ends) == len(requests) - 1

    def test_a_closed_session_is_not_opened_again_by_a_replay(self, storage):
        storage.commit(self.opened())
        storage.commit(Change(CloseSession(SESSION), counter(1)))
        assert storage.session(SESSION) is None
        assert storage.counters([(SESSION, 7)])[0].closed
        with pytest.raises(CounterUsed):
            storage.commit(self.opened())
        assert storage.session(SESSION) is None

    def test_which_keks_are_in_use(self, storage):
        storage.commit(self.opened())
        assert storage.keks_in_use(NOW) == {b"kek"}
        assert storage.keks_in_use(EXPIRES) == frozenset()


def test_rates_count_by_person_and_minute(storage):
    assert [storage.count("LIST", MARIA, NOW) for _ in range(3)] == [1, 2, 3]
    assert storage.count("LIST", JOAO, NOW) == 1
    assert storage.count("LIST", MARIA, Milliseconds(NOW + limits.MINUTE_MS)) == 1


def test_an_empty_mailbox(storage):
    empty = MailboxState(0, mailbox.genesis(REPOSITORY, MARIA))
    assert storage.page(MARIA, 0, 10, unread_only=False, views=True) == Page(empty, ())


def test_a_database_that_is_down_is_unavailable_and_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "OPERATION_MS", 2_000)  # four operations wait for so long
    with LocalMongo(tmp_path) as mongo:
        storage = MongoStorage(connect(mongo.uri), "smr", REPOSITORY)
        storage.prepare()
        storage.commit(Change(StoreRegistration(person(MARIA), "maria"), counter(1)))
        mongo.kill()
        for work in (
            storage.probe,
            lambda: storage.registration(MARIA),
            lambda: storage.commit(Change(StoreRegistration(person(JOAO), "joao"), counter(2))),
            lambda: storage.commit_all([Change(LETTER_EFFECT, counter(3))]),
        ):
            with pytest.raises(StorageUnavailable) as caught:
                work()
            assert str(mongo.port) not in str(caught.value)
        mongo.start()
        storage.commit(Change(StoreRegistration(person(JOAO), "joao"), counter(2)))
        assert storage.registration(MARIA) == person(MARIA)
        assert storage.registration(JOAO) == person(JOAO)
        storage.close()


def test_a_stamp_is_kept_with_its_token_and_the_first_one_stays(storage):
    one, other = Digest(b"1" * 32), Digest(b"2" * 32)
    first, later = Digest(b"r" * 32), Digest(b"s" * 32)
    storage.keep_stamps(first, b"a token", [StoredStamp(one, 0, 1, (other,), b"a token")])
    storage.keep_stamps(
        later,
        b"a later token",
        [StoredStamp(one, 1, 2, (), b"a later token"), StoredStamp(other, 0, 2, (one,), b"a later token")],
    )
    found = storage.stamps([one, other, Digest(b"3" * 32)])
    assert found[one] == StoredStamp(one, 0, 1, (other,), b"a token")
    assert found[other] == StoredStamp(other, 0, 2, (one,), b"a later token")
    assert found.keys() == {one, other}
    assert storage.stamps([]) == {}
    storage._database["tokens"].delete_one({"_id": first})
    with pytest.raises(StorageError, match="token"):
        storage.stamps([one])


def test_no_address_is_shown_when_one_is_wrong():
    with pytest.raises(StorageError) as caught:
        connect("mongodb://user:secret@:bad")
    assert "secret" not in str(caught.value)


def renumbered(head: bytes, letter: LetterId) -> sealed.SealedObject:
    """The same sealed letter under another id: nobody can open it, which the storage does not notice."""
    made = sealed.read(sealed.LETTER, head)
    protected = suite.sha256(letter) + made.protected
    return replace(made, protected=protected, routing=replace(made.routing, letter=letter))
