"""A repository that lies about what it stored, with its own keys, against the real client library and program.

It is the real worker on a real broker, over a storage that tells something else than it holds. So every lie is signed
and sealed as the truth would be: only what the client remembers can tell it apart.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client import naming
from client.api import Repository
from client.commands.proof import Contradiction
from client.commands.status import Signing
from client.errors import CheckFailed, ExitCode, MailboxAlarm, NotFound
from crypto_core import canonical_json, ids, limits, mailbox, records, sign_for
from crypto_core.documents import SlipLine
from crypto_core.ids import Digest, LetterId, Milliseconds, RepositoryId, SessionId, UserId
from crypto_core.mailbox import EntryKind
from repository_worker import worker
from repository_worker.effects import Change, CounterRecord, Expire, Outcome, StoreLetter
from repository_worker.keys import Home, now_ms
from repository_worker.metrics import Metrics
from repository_worker.settings import PREFIX, Settings
from repository_worker.stack import PrivateStack, Servers
from repository_worker.storage.interface import MailboxState, Page, Questions, StoredEntry, StoredLetter, StoredStatus
from repository_worker.storage.mongo import MongoStorage
from repository_worker.transport.consumer import Consumer
from tests.support.library import PASSPHRASE, Citizen, enrol, make_citizen, user_id

LETTERS = 4
MOST = 1000
READY_SECONDS = 30.0

Entries = list[StoredEntry]
Lie = Callable[[Entries], Entries]


class LyingStorage:
    """The real storage, but for what a test makes it tell of one citizen's mailbox."""

    def __init__(self, honest: MongoStorage, repository: RepositoryId) -> None:
        self.honest = honest
        self.repository = repository
        self.victim: UserId | None = None
        self.lies: dict[str, Callable[..., Any]] = {}  #: instead of the method of this name
        self.share_secret = b""
        self.later_ms = 0

    def __getattr__(self, name: str) -> Any:
        return self.__dict__.get("lies", {}).get(name) or getattr(self.honest, name)

    def clock(self) -> Milliseconds:
        """The time that its worker signs with."""
        return Milliseconds(now_ms() + self.later_ms)

    def reading(self, questions: Questions) -> LyingStorage:
        """What a batch reads is told as everything else is."""
        return self

    @contextmanager
    def telling(self, victim: str, lie: Lie) -> Iterator[None]:
        """The victim's mailbox as `lie` makes it of the true entries, with a chain that fits."""
        self.victim = UserId(bytes.fromhex(victim))

        def page(owner: UserId, after: int, limit: int, *, unread_only: bool, views: bool) -> Page:
            if owner != self.victim:
                return self.honest.page(owner, after, limit, unread_only=unread_only, views=views)
            told = _chained(self.repository, owner, lie(self.true(owner, views=views)))
            shown = [each for each in told if each.entry.number > after and (each.unread or not unread_only)]
            return Page(_state(self.repository, owner, told), tuple(shown[:limit]))

        with self.doing(page=page):
            yield

    def true(self, owner: UserId, *, views: bool = True) -> Entries:
        """What is stored."""
        return list(self.honest.page(owner, 0, MOST, unread_only=False, views=views).entries)

    def leaving_out(self, number: int) -> AbstractContextManager[None]:
        """Pages without one entry, under the true head."""

        def page(*arguments: Any, **options: Any) -> Page:
            found = self.honest.page(*arguments, **options)
            return replace(found, entries=tuple(each for each in found.entries if each.entry.number != number))

        return self.doing(page=page)

    @contextmanager
    def doing(self, **lies: Callable[..., Any]) -> Iterator[None]:
        """Other methods than the honest ones."""
        self.lies = lies
        try:
            yield
        finally:
            self.lies = {}


def _chained(repository: RepositoryId, owner: UserId, entries: Entries) -> Entries:
    """The entries with numbers and hashes that fit to each other."""
    previous, found = mailbox.genesis(repository, owner), []
    for number, each in enumerate(entries, 1):
        entry = replace(each.entry, number=number)
        previous = entry.hash(repository, owner, previous)
        found.append(replace(each, entry=entry, hash=previous))
    return found


def owner_of(citizen: Citizen) -> UserId:
    return UserId(bytes.fromhex(user_id(citizen)))


def _state(repository: RepositoryId, owner: UserId, entries: Entries) -> MailboxState:
    return MailboxState(len(entries), entries[-1].hash if entries else mailbox.genesis(repository, owner))


# ------------------------------------------------------------------------------------------------------- the world


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, servers: Servers) -> Iterator[PrivateStack]:
    with PrivateStack(tmp_path_factory.mktemp("stack"), workers=0, servers=servers) as running:
        yield running


@pytest.fixture(scope="module")
def liar(stack: PrivateStack) -> Iterator[LyingStorage]:
    """The storage of the only worker, which works in this process."""
    environment = stack.environment()
    settings = Settings(
        **{name.removeprefix(PREFIX).lower(): value for name, value in environment.items() if name.startswith(PREFIX)}
    )
    opened = Home(settings.home).keystore(stack.ca_passphrase_file.read_text())
    storage = LyingStorage(stack.storage(), opened.repository)
    storage.share_secret = opened.share_secret
    metrics, ready = Metrics(), threading.Event()
    ring = Home(settings.home).ring(opened)
    pipeline = worker.build_pipeline(settings, opened, storage, ring, metrics)  # type: ignore[arg-type]
    pipeline._clock = storage.clock
    consumer = Consumer(settings.broker(), pipeline, storage.honest.probe, metrics, settings.consumer("liar"))
    thread = threading.Thread(target=consumer.run, args=(ready.set,))
    thread.start()
    try:
        assert ready.wait(READY_SECONDS)
        yield storage
    finally:
        consumer.stop()
        thread.join()
        storage.honest.close()


@pytest.fixture(scope="module")
def maria(stack: PrivateStack, liar: LyingStorage, tmp_path_factory: pytest.TempPathFactory) -> Citizen:
    made = make_citizen(stack, tmp_path_factory.mktemp("maria"), "Maria Conceição Reis")
    enrol(stack, made)
    return made


@pytest.fixture(scope="module")
def joao(stack: PrivateStack, maria: Citizen, tmp_path_factory: pytest.TempPathFactory) -> Citizen:
    """Who got letters, read one, and saw all of his mailbox."""
    made = make_citizen(stack, tmp_path_factory.mktemp("joao"), "João Sá")
    enrol(stack, made)
    with maria.open() as hers:
        for number in range(LETTERS):
            hers.send([user_id(made)], f"carta {number}".encode())
    with made.open() as his:
        his.read(his.letters()[0].letter_id)
        assert len(his.new()) == LETTERS - 1
    return made


# ---------------------------------------------------------------------------------------------------------- the lies


def other(each: StoredEntry, **changes: Any) -> StoredEntry:
    return replace(each, entry=replace(each.entry, **changes))


def drop(entries: Entries) -> Entries:
    return [entries[0], *entries[2:]]


def drop_and_fill(entries: Entries) -> Entries:
    return [entries[0], *entries[2:], entries[-1]]


def replace_one(entries: Entries) -> Entries:
    return [entries[0], other(entries[1], object=Digest(bytes(32))), *entries[2:]]


def swap_authors(entries: Entries) -> Entries:
    routing = replace(entries[1].entry.routing, author=UserId(bytes(28)))
    return [entries[0], other(entries[1], routing=routing), *entries[2:]]


def reorder(entries: Entries) -> Entries:
    first, second, third, *rest = entries
    return [first, other(third, time=second.entry.time), other(second, time=third.entry.time), *rest]


def roll_back(entries: Entries) -> Entries:
    return entries[: LETTERS - 1]


def forget(_: Entries) -> Entries:
    return []


def sign_again(entries: Entries) -> Entries:
    return [*entries[:-1], other(entries[-1], object=Digest(bytes(32)))]


def put_in_front(entries: Entries) -> Entries:
    return [entries[0], *entries]


def change_a_time(entries: Entries) -> Entries:
    return [other(entries[0], time=Milliseconds(entries[0].entry.time - 1)), *entries[1:]]


LIES: list[Lie] = [
    drop,
    drop_and_fill,
    replace_one,
    swap_authors,
    reorder,
    roll_back,
    forget,
    sign_again,
    put_in_front,
    change_a_time,
]
VERBS: dict[str, Callable[[Repository], Any]] = {"new": Repository.new, "list": Repository.letters}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_every_lie_about_what_was_seen_is_an_alarm(lie: Lie, verb: str, liar: LyingStorage, joao: Citizen):
    with joao.open() as his:
        honest = VERBS[verb](his)
        with liar.telling(user_id(joao), lie), pytest.raises(MailboxAlarm, match="contradicts what it signed before"):
            VERBS[verb](his)
        assert VERBS[verb](his) == honest  # what was verified stands


@pytest.mark.parametrize("lie", [drop, replace_one, reorder, put_in_front, forget], ids=lambda lie: lie.__name__)
def test_a_lie_is_seen_by_who_only_sends(lie: Lie, liar: LyingStorage, joao: Citizen):
    with joao.open() as his, liar.telling(user_id(joao), lie), pytest.raises(MailboxAlarm):
        his.send([user_id(joao)], b"para mim")


class TestDeletions:
    """A letter that its owner did not delete does not disappear, and one that was deleted does not come back."""

    @pytest.fixture
    def deleted(self, liar: LyingStorage, maria: Citizen, joao: Citizen) -> tuple[str, StoredEntry]:
        """A letter that João has deleted, and its entry as it was before."""
        with maria.open() as hers, joao.open() as his:
            name = hers.send([user_id(joao)], b"para apagar").letter_id
            (before,) = [
                each for each in liar.true(owner_of(joao)) if naming.letter_name(each.entry.routing.letter) == name
            ]
            his.delete(name)
        return name, before

    @pytest.mark.parametrize("replayed", [False, True], ids=["without a word", "with the word about another letter"])
    def test_it_invents_a_tombstone(self, replayed, deleted, liar: LyingStorage, maria: Citizen, joao: Citizen):
        with maria.open() as hers, joao.open() as his:
            name = hers.send([user_id(joao)], b"incomoda").letter_id

            def bury(entries: Entries) -> Entries:
                last = next(each for each in entries if naming.letter_name(each.entry.routing.letter) == name)
                word = next(each.deletion for each in entries if each.deletion) if replayed else None
                entry = replace(
                    last.entry,
                    kind=EntryKind.TOMBSTONE,
                    routing=replace(last.entry.routing, recipients=(owner_of(joao),)),
                    object=word.object_hash if word else Digest(bytes(32)),
                )
                return [*entries, StoredEntry(entry, last.hash, last.about, False, deletion=word)]

            with liar.telling(user_id(joao), bury), pytest.raises(MailboxAlarm, match="and you did not"):
                his.new()
            assert name in {each.letter_id for each in his.new()}

    def test_it_still_gives_out_what_was_deleted(self, deleted, liar: LyingStorage, joao: Citizen):
        name, before = deleted

        def bring_back(entries: Entries) -> Entries:
            return [before if each.entry == before.entry else each for each in entries]

        letter = StoredLetter(before, b"body")
        with joao.open() as his, liar.telling(user_id(joao), bring_back):
            assert before.unread
            assert before.view is not None
            liar.lies["letter"] = lambda *_: letter
            for listed in (his.new(), his.letters()):
                assert all(each.letter_id != name for each in listed)
            with pytest.raises(NotFound, match="You deleted"):
                his.read(name)


def test_what_was_not_seen_yet_must_extend_what_was(liar: LyingStorage, maria: Citizen, joao: Citizen):
    with maria.open() as hers, joao.open() as his:
        known = len(his.letters())
        hers.send([user_id(joao)], b"mais uma")
        with liar.telling(user_id(joao), replace_one), pytest.raises(MailboxAlarm):
            his.new()
        assert len(his.letters()) == known + 1


class TestOneAnswer:
    """Where the mailbox as a whole is honest, and one answer is not."""

    def test_a_list_that_leaves_a_letter_out(self, liar: LyingStorage, joao: Citizen):
        with joao.open() as his:
            his.letters()
            with liar.leaving_out(2), pytest.raises(MailboxAlarm, match="left out"):
                his.letters()

    def test_the_letters_of_two_entries_exchanged(self, liar: LyingStorage, joao: Citizen):
        def page(*arguments: Any, **options: Any) -> Page:
            found = liar.honest.page(*arguments, **options)
            views = reversed([each.view for each in found.entries])
            entries = tuple(replace(each, view=view) for each, view in zip(found.entries, views, strict=True))
            return replace(found, entries=entries)

        with joao.open() as his, liar.doing(page=page), pytest.raises(MailboxAlarm, match="another letter"):
            his.letters()

    def test_another_letter_than_the_one_asked_for(self, liar: LyingStorage, joao: Citizen):
        with joao.open() as his:
            first, second = his.letters()[:2]
            other = liar.true(owner_of(joao))[1].entry.routing.letter

            def letter(reader: UserId, author: UserId, _: LetterId) -> StoredLetter | None:
                return liar.honest.letter(reader, author, other)

            with liar.doing(letter=letter), pytest.raises(CheckFailed, match="another letter"):
                his.read(first.letter_id)
            assert his.read(second.letter_id).letter_id == second.letter_id

    def test_the_body_of_another_letter(self, liar: LyingStorage, joao: Citizen):
        with joao.open() as his:
            first = his.letters()[0]
            other = liar.true(owner_of(joao))[1].entry.routing.letter

            def letter(reader: UserId, author: UserId, wanted: LetterId) -> StoredLetter | None:
                found, exchanged = (liar.honest.letter(reader, author, each) for each in (wanted, other))
                return replace(found, body=exchanged.body) if found and exchanged else None

            with liar.doing(letter=letter), pytest.raises(CheckFailed, match="not what it seems"):
                his.read(first.letter_id)

    def test_a_receipt_that_is_hidden(self, liar: LyingStorage, maria: Citizen, joao: Citizen):
        def status(author: UserId, letter: LetterId) -> StoredStatus | None:
            found = liar.honest.status(author, letter)
            return replace(found, receipts=()) if found else None

        with maria.open() as hers, joao.open() as his:
            sent = hers.send([user_id(joao)], b"com aviso")
            his.read(sent.letter_id)
            his.send_receipt(sent.letter_id)
            with liar.doing(status=status), pytest.raises(MailboxAlarm, match="left out"):
                hers.status(sent.letter_id)
            assert len(hers.status(sent.letter_id).receipts) == 1


class TestAcceptances:
    """What a repository says of a letter that it was sent."""

    @staticmethod
    def accepting(liar: LyingStorage, lie: Callable[[Change], Outcome]) -> Callable[..., Any]:
        def commit_all(changes: Sequence[Change]) -> Sequence[Any]:
            return [
                lie(each) if isinstance(each.effect, StoreLetter) else liar.honest.commit_all([each])[0]
                for each in changes
            ]

        return commit_all

    def test_accepted_and_thrown_away(self, liar: LyingStorage, maria: Citizen, joao: Citizen):
        def without_last(owner: UserId, *arguments: Any, **options: Any) -> Page:
            """As if the letter that was just accepted were stored nowhere."""
            found = liar.honest.page(owner, *arguments, **options)
            return replace(found, entries=found.entries[:-1])

        with maria.open() as hers, liar.doing(page=without_last), pytest.raises(MailboxAlarm, match="is missing"):
            hers.send([user_id(joao)], b"perdida")

    def test_an_old_acceptance_for_a_new_letter(self, liar: LyingStorage, maria: Citizen, joao: Citizen):
        with maria.open() as hers:
            hers.send([user_id(joao)], b"aceite")
            author = owner_of(maria)
            (last,) = [each for each in liar.true(author) if each.entry.kind is EntryKind.SENT][-1:]
            old = liar.honest.status(author, last.entry.routing.letter)
            assert old is not None
            lie = self.accepting(liar, lambda _: Outcome(entries=old.acceptance))
            with liar.doing(commit_all=lie), pytest.raises(CheckFailed, match="acceptance of the letter is not valid"):
                hers.send([user_id(joao)], b"outra")

    def test_accepted_for_some_only(self, liar: LyingStorage, maria: Citizen, joao: Citizen):
        def without_recipient(change: Change) -> Outcome:
            outcome = liar.honest.commit_all([change])[0]
            assert isinstance(outcome, Outcome)
            return Outcome(entries=outcome.entries[:1])

        with maria.open() as hers:
            lie = self.accepting(liar, without_recipient)
            with liar.doing(commit_all=lie), pytest.raises(CheckFailed, match="not for all recipients"):
                hers.send([user_id(joao)], b"para dois")


# ------------------------------------------------------------------------------ letters that open against a signature


class TestSignFor:
    """What a repository can do to a letter that it holds the second share of, and what is noticed."""

    @pytest.fixture
    def letter(self, maria: Citizen, joao: Citizen) -> str:
        with maria.open() as hers:
            return hers.send([user_id(joao)], b"convocado", sign_for_days=1).letter_id

    def other_slip(self, liar: LyingStorage, **changes: Any) -> Callable[..., Any]:
        """The letter as it is stored, but for its slip."""

        def read(*arguments: Any) -> StoredLetter | None:
            found = liar.honest.letter(*arguments)
            if found is None or found.entry.slip is None:
                return found
            return replace(found, entry=replace(found.entry, slip=replace(found.entry.slip, **changes)))

        return read

    def test_it_takes_the_signature_and_withholds_the_letter(self, liar, joao, letter):
        with joao.open() as his:
            his.read(letter, sign=lambda _: True)
            with liar.doing(letter=self.other_slip(liar, choice=None, chosen=None)):
                asked: list[object] = []
                with pytest.raises(CheckFailed, match="has your signature"):
                    his.read(letter, sign=lambda request: not asked.append(request))
                assert not asked  # nobody is asked to sign twice
            assert his.read(letter).body == b"convocado"

    def test_it_swaps_the_share(self, liar, maria, joao, letter):
        place = LetterId(base64.b32decode(letter.upper() + "=" * 6)), owner_of(maria), owner_of(joao)
        swapped = records.seal_share(liar.share_secret, *place, bytes(32))
        with joao.open() as his:
            lie = liar.doing(letter=self.other_slip(liar, share=swapped))
            with lie, pytest.raises(CheckFailed, match="another share than the sender signed for") as refused:
                his.read(letter, sign=lambda _: True)
            failed = [check for check in refused.value.checks if not check.passed]
            assert [check.name for check in failed] == ["released"]
            assert his.read(letter).body == b"convocado"

    def test_it_shows_another_slip(self, liar, maria, joao, letter):
        with maria.open() as hers:
            hers.send([user_id(joao)], b"outra", sign_for_days=1)
        letters = [each for each in liar.true(owner_of(joao)) if each.slip is not None]
        lie = liar.doing(letter=self.other_slip(liar, slip=letters[-1].slip.slip))
        with joao.open() as his, lie, pytest.raises(MailboxAlarm, match="another letter than was recorded"):
            his.read(letter, sign=lambda _: True)

    def test_it_hides_what_was_chosen(self, liar, maria, joao, letter):
        with joao.open() as his:
            his.refuse(letter)

        def without(*arguments: Any) -> StoredStatus | None:
            found = liar.honest.status(*arguments)
            return replace(found, choices=()) if found else None

        with maria.open() as hers:
            hers.letters()
            with liar.doing(status=without), pytest.raises(MailboxAlarm, match="is left out"):
                hers.status(letter)
            (choice,) = hers.status(letter).choices
            assert choice.verdict is Signing.REFUSED

    def test_it_says_that_the_time_is_over_before_it_is(self, liar, maria, joao, letter):
        slip = next(each.slip for each in liar.true(owner_of(maria)) if each.slip and letter_name(each) == letter)
        name = LetterId(base64.b32decode(letter.upper() + "=" * 6))
        early = Expire(owner_of(maria), name, slip.slip.digest, (owner_of(joao),), now_ms())
        used = CounterRecord(SessionId(bytes(16)), 1, Digest(bytes(32)), now_ms())
        liar.honest.commit(Change(early, used))
        with maria.open() as hers:
            (choice,) = hers.status(letter).choices
        assert choice.verdict is Signing.FAILED
        assert [check.name for check in choice.checks if not check.passed] == ["choice"]


def test_a_sender_who_cheats_is_proved_to_anybody(
    maria: Citizen, joao: Citizen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Both shares are as they were signed for, and open nothing: the reader keeps what convinces everybody."""
    honest = sign_for._line

    def cheat(*arguments: Any) -> SlipLine:
        return replace(honest(*arguments), wrapped_secret=bytes(48))

    with maria.open() as hers, monkeypatch.context() as patch:
        patch.setattr(sign_for, "_line", cheat)
        letter = hers.send([user_id(joao)], b"nada", sign_for_days=1).letter_id
    with joao.open() as his:
        with pytest.raises(CheckFailed, match="opens to nobody") as refused:
            his.read(letter, sign=lambda _: True)
        (path,) = joao.context().home.slip_proofs.glob("*.json")
        assert str(path) in str(refused.value)
        found = his.judge_slip(path.read_bytes())
        assert (found.letter_id, found.signer.name) == (letter, "Maria Conceição Reis")
        value = json.loads(path.read_bytes())
        for member in ("slip", "signature", "share_1", "share_2", "certificate"):
            changed = {**value, member: value[member][:-1] + ("1" if value[member][-1] == "0" else "0")}
            with pytest.raises(CheckFailed, match="proves nothing"):
                his.judge_slip(canonical_json.encode(changed))


def letter_name(stored: StoredEntry) -> str:
    return ids.base32(stored.entry.routing.letter, 26)


# ---------------------------------------------------------------------------------------- proof, by the program


def program(home: Path | None, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """`smr proof`, which needs neither card nor network nor, to judge, a home."""
    environment = {"PATH": os.environ["PATH"], "PYTHONUTF8": "1", "SMR_HOME": str(home or "/nonexistent")}
    command = [sys.executable, "-m", "client", "proof", *arguments]
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )


def smr(home: Path | None, *arguments: str, code: int = 0) -> Any:
    """What it tells a program."""
    done = program(home, *arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def said(home: Path | None, *arguments: str) -> str:
    """What it tells a person."""
    return program(home, *arguments).stdout.decode()


def exported(joao: Citizen, lie: AbstractContextManager[None], target: Path) -> Path:
    """Has the repository tell a lie, and the program write its proof to `target`."""
    alarms = joao.context().home.alarms
    with joao.open() as his:
        his.letters()
        before = set(alarms.glob("*"))
        with lie, pytest.raises(MailboxAlarm):
            his.letters()
    (alarm,) = set(alarms.glob("*")) - before
    shown = smr(joao.settings.home, alarm.stem, "--export", str(target))
    assert [each["name"] for each in shown["alarms"]] == [alarm.stem]
    return target


@pytest.fixture(scope="module")
def forked(liar: LyingStorage, joao: Citizen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(joao, liar.telling(user_id(joao), sign_again), tmp_path_factory.mktemp("forked") / "proof.json")


class TestProof:
    def test_two_entries_under_one_number_convince_everybody(self, forked, stack, joao):
        for home, approved in ((joao.settings.home, True), (None, None)):
            found = smr(home, "--verify", str(forked))
            assert (found["proven"], found["contradiction"]) == (True, Contradiction.FORKED.value)
            assert found["operator_root"] == stack.root_fingerprint
            assert found["operator_root_approved"] is approved

    def test_a_mailbox_that_became_shorter_convinces_everybody(self, liar, joao, tmp_path, monkeypatch):
        monkeypatch.setattr(liar, "later_ms", 2 * limits.ROLL_BACK_MS)  # than the head that João keeps was signed
        target = exported(joao, liar.telling(user_id(joao), roll_back), tmp_path / "proof.json")
        found = smr(None, "--verify", str(target))
        assert (found["proven"], found["contradiction"]) == (True, Contradiction.ROLLED_BACK.value)

    def test_of_one_that_became_shorter_at_once_the_clocks_may_be_wrong(self, liar, joao, tmp_path):
        with joao.open() as his, liar.doing():
            his.send([user_id(joao)], b"para mim")  # so that the head that João keeps is of now
        target = exported(joao, liar.telling(user_id(joao), roll_back), tmp_path / "proof.json")
        found = smr(None, "--verify", str(target), code=ExitCode.CHECK_FAILED)
        assert (found["proven"], found["contradiction"]) == (False, Contradiction.NOT_PROVEN.value)

    def test_entries_alone_prove_nothing_to_others(self, liar, joao, tmp_path):
        target = exported(joao, liar.leaving_out(2), tmp_path / "proof.json")
        found = smr(joao.settings.home, "--verify", str(target), code=ExitCode.CHECK_FAILED)
        assert (found["proven"], found["contradiction"]) == (False, Contradiction.NOT_PROVEN.value)
        shown = said(joao.settings.home)
        assert "is left out" in shown
        assert "not proven to others" in shown

    @pytest.mark.parametrize("member", ["shown", "descriptor"])
    def test_a_proof_that_was_changed_is_refused(self, member, forked, tmp_path):
        value = json.loads(forked.read_text())
        value[member] = value[member][:-1] + ("1" if value[member][-1] == "0" else "0")
        changed = tmp_path / "changed.json"
        changed.write_text(json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False))
        refused = smr(None, "--verify", str(changed), code=ExitCode.CHECK_FAILED)
        assert "proves nothing" in refused["error"]["message"]

    def test_a_proof_about_another_repository_says_so(self, forked, joao, tmp_path):
        elsewhere = Home(tmp_path / "repository")
        elsewhere.create("Outro correio", "Outra organização", "amqp://client@127.0.0.1/smr", PASSPHRASE, now_ms())
        with joao.open(home=tmp_path / "home") as unused:
            unused.init(elsewhere.signed_descriptor(), root_fingerprint=elsewhere.descriptor(now_ms())[1])
        assert "another repository than yours" in said(tmp_path / "home", "--verify", str(forked))


def test_an_acceptance_of_a_letter_to_oneself_must_fit_in_both_places(liar: LyingStorage, joao: Citizen):
    """The last test: it leaves João with an entry that is not true, as such a repository would."""
    with joao.open() as his, liar.telling(user_id(joao), sign_again), pytest.raises(MailboxAlarm, match="does not fit"):
        his.send([user_id(joao)], "para mim também".encode())
