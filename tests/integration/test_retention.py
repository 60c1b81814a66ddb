"""What goes by the rule of retention and what stays, on a real database, at moments that the test chooses."""

from __future__ import annotations

from datetime import UTC, timedelta

import bson
import pytest

from crypto_core import commands, moments, sealed, sign_for
from crypto_core.choice import Choice, SignedChoice
from crypto_core.commands import ErrorCode
from crypto_core.ids import Milliseconds, new_letter_id
from crypto_core.letter import seal as seal_letter
from crypto_core.limits import DAY_MS
from crypto_core.sign_for import SignedSlip
from repository_worker import worker
from repository_worker.effects import Change, MarkRead, StoreChoice, StoreLetter, StoreRegistration, ToSign
from repository_worker.errors import Refused
from repository_worker.handlers import Caller, Context, decide
from repository_worker.settings import Settings
from repository_worker.storage import retention as retention_
from repository_worker.storage.documents import INLINE_BODY_BYTES
from repository_worker.storage.driver import connect
from repository_worker.storage.mongo import MongoStorage
from repository_worker.storage.retention import LEASE_SECONDS, ORPHAN_SECONDS, Retention, Rule, Swept
from tests.support.protocol import (
    BRUNO,
    JOAO,
    MARIA,
    NOW,
    REPOSITORY,
    SESSION,
    digest,
    make_draft,
    public_of,
    signing_key,
)
from tests.support.storages import counter, person

SMALL, LARGE = b"small", bytes(INLINE_BODY_BYTES + 1)
LATER = LEASE_SECONDS * 1000


@pytest.fixture
def storage(mongo, database):
    made = MongoStorage(connect(mongo.uri), database.name, REPOSITORY)
    made.prepare()
    for number, user in enumerate((MARIA, JOAO, BRUNO), 1):
        made.commit(Change(StoreRegistration(person(user), "somebody"), counter(number)))
    yield made
    made.close()


@pytest.fixture
def sweeper(mongo, database):
    """Makes sweepers, as many as a test asks for."""
    made = []

    def make(**rule) -> Retention:
        made.append(Retention(connect(mongo.uri), database.name, Rule(**rule)))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def send(storage):
    """Stores a letter of Maria's, accepted so many days ago; gives its id."""
    used, sent = iter(range(10, 1000)), {}

    def make(days: float, body: bytes = SMALL, to=(JOAO,)):
        written = make_draft(*to, sender=MARIA, letter_id=new_letter_id())
        made = seal_letter(written, b"a CMS signature", public_of(*to, MARIA))
        accepted = Milliseconds(int(NOW - days * DAY_MS))
        sent[written.letter.id] = StoreLetter(sealed.read(sealed.LETTER, made.head), body, accepted)
        make.again(written.letter.id)
        return written.letter.id

    make.again = lambda letter: storage.commit(Change(sent[letter], counter(next(used))))
    make.read = lambda letter, reader=JOAO: storage.commit(Change(MarkRead(reader, MARIA, letter), counter(next(used))))
    return make


def kept(storage, *letters) -> list[bool]:
    return [storage.letter(MARIA, MARIA, each).body is not None for each in letters]


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["inline", "apart"])
def test_by_age(storage, database, sweeper, send, body):
    old, young = send(11, body), send(9, body)
    assert sweeper(days=10).sweep(NOW) == Swept(bodies=1, orphans=0)
    assert kept(storage, old, young) == [False, True]
    assert database.bodies.count_documents({}) == (1 if body is LARGE else 0)


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["inline", "apart"])
def test_once_all_have_read_it(storage, sweeper, send, body):
    read, half, unread, young = (send(days, body, (JOAO, BRUNO)) for days in (11, 11, 11, 9))
    for letter, reader in ((read, JOAO), (read, BRUNO), (half, JOAO), (young, JOAO), (young, BRUNO)):
        send.read(letter, reader)
    assert sweeper(read_days=10).sweep(NOW).bodies == 1
    assert kept(storage, read, half, unread, young) == [False, True, True, True]


def test_without_a_rule_everything_stays(storage, database, sweeper, send):
    letters = send(5000), send(5000, LARGE)
    send.read(letters[0])
    assert sweeper().sweep(NOW) == Swept(bodies=0, orphans=0)
    assert kept(storage, *letters) == [True, True]
    assert not [name for name in database.accepted.index_information() if name.startswith("due")]


def test_chain_head_and_status_stay_and_the_text_is_refused_clearly(storage, sweeper, send):
    letter = send(11)
    before = storage.page(JOAO, 0, 10, unread_only=False, views=True), storage.status(MARIA, letter)
    sweeper(days=10).sweep(NOW)
    assert (storage.page(JOAO, 0, 10, unread_only=False, views=True), storage.status(MARIA, letter)) == before
    context = Context(REPOSITORY, NOW, None, storage, signing_key("repository"), bytes(32))
    for reader in (JOAO, MARIA):
        with pytest.raises(Refused, match="text of this letter was removed") as refusal:
            decide(commands.Recv(MARIA, letter), Caller(SESSION, reader), storage, context)
        assert refusal.value.code is ErrorCode.NOT_FOUND
    assert storage.page(JOAO, 0, 10, unread_only=True, views=False).entries  # nothing was marked


def test_the_same_letter_again_is_accepted_and_brings_nothing_back(storage, database, sweeper, send):
    letter = send(11, LARGE)
    placed = storage.status(MARIA, letter).acceptance
    retention = sweeper(days=10)
    retention.sweep(NOW)
    assert send.again(letter).entries == placed
    assert kept(storage, letter) == [False]
    # What was brought beside it belongs to no letter now.
    database.bodies.update_many({}, {"$set": {"stored": moments.to_datetime(NOW)}})
    assert retention.sweep(NOW + 2 * ORPHAN_SECONDS * 1000) == Swept(bodies=0, orphans=1)


def test_one_sweeps_at_a_time(sweeper, send):
    send(11)
    first, second = sweeper(days=10), sweeper(days=10)
    assert first.sweep(NOW).bodies == 1
    assert second.sweep(NOW + LATER - 1) is None
    assert second.sweep(NOW + LATER) == Swept(bodies=0, orphans=0)
    assert first.sweep(NOW + LATER) is None


def test_a_sweep_is_bounded_and_the_next_one_goes_on(storage, sweeper, send, monkeypatch):
    monkeypatch.setattr(retention_, "BODIES_A_SWEEP", 4)
    monkeypatch.setattr(retention_, "PIECE", 2)
    letters = [send(20 - number) for number in range(6)]
    retention = sweeper(days=10)
    assert retention.sweep(NOW).bodies == 4
    assert kept(storage, *letters) == [False] * 4 + [True] * 2
    assert retention.sweep(NOW + LATER).bodies == 2


def test_a_worker_sweeps_by_its_settings(mongo, storage, database, send):
    old = send(5000)
    where = {"mongo_url": mongo.uri, "mongo_database": database.name}
    assert worker.sweep(Settings(**where)) == Swept(bodies=0, orphans=0)
    database.schema.delete_one({"_id": "sweep"})
    assert worker.sweep(Settings(**where, retention_days=1)) == Swept(bodies=1, orphans=0)
    assert kept(storage, old) == [False]


class TestOrphans:
    OLD = timedelta(seconds=ORPHAN_SECONDS + 1)

    def age(self, database, **which):
        """As if the bodies had been stored a day ago, by the clock of the sweep."""
        database.bodies.update_many(which, {"$set": {"stored": moments.to_datetime(NOW) - self.OLD}})

    def put(self, database, name: bytes, stored):
        database.bodies.insert_one({"_id": name * 76, "body": LARGE, "stored": stored})

    def test_bodies_of_no_letter_go_and_others_stay(self, storage, database, sweeper, send):
        letter = send(1, LARGE)
        self.put(database, b"x", moments.to_datetime(NOW).astimezone(UTC))
        self.age(database)
        self.put(database, b"y", moments.to_datetime(NOW))  # its letter may still come
        assert sweeper().sweep(NOW) == Swept(bodies=0, orphans=1)
        assert kept(storage, letter) == [True]
        assert {bytes(each["_id"])[:1] for each in database.bodies.find()} == {MARIA[:1], b"y"}

    def test_each_is_looked_at_once_and_young_ones_later(self, database, sweeper):
        self.put(database, b"y", moments.to_datetime(NOW))
        retention = sweeper()
        assert retention.sweep(NOW).orphans == 0
        assert retention.sweep(NOW + ORPHAN_SECONDS * 1000 + 1).orphans == 1

    def test_after_a_sweep_that_was_cut_short_all_are_looked_at_again(self, database, sweeper, monkeypatch):
        retention = sweeper()
        retention.sweep(NOW)
        self.put(database, b"z", moments.to_datetime(NOW) - 2 * self.OLD)  # what a sweep that died would leave
        assert retention.sweep(NOW + LATER).orphans == 0
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(Retention, "_sweep_orphans", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            retention.sweep(NOW + 2 * LATER)
        assert retention.sweep(NOW + 3 * LATER).orphans == 1


# ------------------------------------------------------------------------------------ letters that wait for a signature


@pytest.fixture
def send_to_sign(storage):
    """Stores a letter that João and Bruno have to sign for, accepted and ended so many days ago; gives its id."""
    used = iter(range(2000, 3000))

    def make(days: float, ended: float, body: bytes = SMALL):
        written = make_draft(JOAO, BRUNO, letter_id=new_letter_id())
        readers = public_of(JOAO, BRUNO, MARIA)
        made = sign_for.seal(written, b"a CMS signature", readers, Milliseconds(NOW + DAY_MS))
        slip = SignedSlip(made.slip, b"a CMS signature", None)
        to_sign = ToSign(
            slip, Milliseconds(int(NOW - ended * DAY_MS)), ((BRUNO, b"Bruno's share"), (JOAO, "João's share".encode()))
        )
        accepted = Milliseconds(int(NOW - days * DAY_MS))
        effect = StoreLetter(sealed.read(sealed.SIGN_FOR, made.letter.head), body, accepted, to_sign)
        storage.commit(Change(effect, counter(next(used))))
        return written.letter.id

    def choose(letter, reader, choice: Choice) -> None:
        chosen = SignedChoice(choice, digest("slip"), *(() if choice is Choice.EXPIRED else (b"{}", b"CMS")))
        effect = StoreChoice(MARIA, letter, reader, chosen, None, NOW)
        assert storage.commit(Change(effect, counter(next(used)))).choice is choice

    make.choose = choose
    return make


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["inline", "apart"])
@pytest.mark.parametrize("rule", [{"days": 10}, {"read_days": 10}], ids=["by age", "once read"])
def test_what_can_still_be_signed_for_stays_whole(storage, sweeper, send_to_sign, rule, body):
    waiting, lately, over = (send_to_sign(100, ended, body) for ended in (-1, 6, 8))
    for letter in (waiting, lately, over):
        for reader in (JOAO, BRUNO):
            send_to_sign.choose(letter, reader, Choice.REFUSED)
    assert sweeper(**rule).sweep(NOW).bodies == 1
    assert kept(storage, waiting, lately, over) == [True, True, False]


def test_a_share_goes_with_refusal_and_end_and_evidence_stays(storage, database, sweeper, send_to_sign):
    letter = send_to_sign(100, 50)
    send_to_sign.choose(letter, JOAO, Choice.REFUSED)
    assert "João's share".encode() not in b"".join(map(bson.encode, database.accepted.find()))
    assert storage.letter(BRUNO, MARIA, letter).entry.slip.share == b"Bruno's share"
    send_to_sign.choose(letter, BRUNO, Choice.EXPIRED)
    assert b"Bruno's share" not in b"".join(map(bson.encode, database.accepted.find()))
    before = storage.status(MARIA, letter)
    sweeper(days=10).sweep(NOW)
    assert kept(storage, letter) == [False]
    assert storage.status(MARIA, letter) == before
    assert {each.choice.choice for each in before.choices} == {Choice.REFUSED, Choice.EXPIRED}
    assert before.sent.slip.slip.document
