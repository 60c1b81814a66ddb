"""What is measured is what a worker does: every stage has its row, copies of entries are new letters."""

from __future__ import annotations

import os

import pytest

from bench import mailboxes, processor
from bench.people import Citizen
from bench.plan import FEWEST, messages_of_a_run
from bench.primitives import Bare, Sample
from bench.world import cpu_seconds, resident_bytes
from crypto_core.ids import UserId, repository_id
from repository_worker.metrics import Stage


def test_no_stage_of_a_command_is_counted_twice_or_left_to_the_rest_by_mistake():
    counted = [stage for stages in processor.ROWS.values() for stage in stages]
    assert sorted(each.value for each in (*counted, Stage.PUBLISH, Stage.NEGOTIATE)) == sorted(s.value for s in Stage)
    assert processor.ROWS.keys() | {"publish"} == processor.FLOORS.keys()


def test_the_bare_primitives_run_again_and_again(test_pki):
    people = [Citizen.issued(test_pki.ca, name) for name in ("Maria Conceição Reis", "João Sá")]
    sample = processor.sample(repository_id("a" * 32), *people)
    assert Sample.from_text(sample.as_text()) == sample
    works = Bare(sample).works()
    assert works.keys() == processor.ROWS.keys() - {"store"}
    for work in works.values():
        for _ in range(2):
            work()


@pytest.mark.parametrize(("rate", "loads", "expected"), [(1000.0, 2, 750), (10.0, 2, FEWEST), (3.0, 1, FEWEST)])
def test_a_repetition_has_a_length_and_a_least_count(rate, loads, expected):
    assert messages_of_a_run(rate, loads) == expected


def test_processor_time_and_memory_of_this_process():
    before = cpu_seconds([os.getpid()])
    assert before > 0
    assert cpu_seconds([os.getpid(), os.getpid()]) >= 2 * before
    assert resident_bytes(os.getpid()) > 1024 * 1024


def test_copies_of_a_letter_are_new_letters_of_which_the_newest_are_unread():
    owner = UserId(b"o" * 28)
    letter = {"_id": b"1", "author": b"a" * 28, "letter": b"l" * 16, "ciphertext": b"c", "body": b"b", "time": 7}
    copies = [mailboxes._copy(letter, owner, number, 100, 0) for number in range(3, 101)]
    assert all((each["author"], each["time"], each["body"]) == (b"a" * 28, 7, b"b") for each in copies)
    assert len({each["letter"] for each in copies}) == len({each["_id"] for each in copies}) == len(copies)
    assert [each["entries"][0]["number"] for each in copies if each["unread"]] == list(range(91, 101))
