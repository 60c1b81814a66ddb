"""Mailboxes that grow, and one that everybody writes to.

A large mailbox is made in the database from copies of a real letter, since sending a million would take hours; what a
page reads (documents, indexes) is as the repository stores it. Beyond the first `LETTERS`
only the copies that a page shows have a body and a ciphertext.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

import pymongo
from pymongo.database import Database

from bench.figures import MILLISECOND, Better, Measure, percentile
from bench.plan import Plan, messages_of_a_run
from bench.world import World
from crypto_core.ids import DIGEST_BYTES, LETTER_ID_BYTES, UserId
from repository_worker.stack import DATABASE
from repository_worker.storage import collections as names

SMALL = 100  #: entries of the mailbox that the others are compared with, and of a page
SIZES = (SMALL, 10_000)
FULL_SIZE = 1_000_000
UNREAD = 10  #: of each mailbox, its newest
LETTERS = 10_000
PAGES = 40  #: commands of one repetition
CHUNK = 2_000  #: documents that are inserted at once
WARM_UP = 64  #: letters a load process to find out how many make a repetition
AIM, BOUND = 1.1, 1.3

Document = dict[str, Any]


def mailbox_sizes(world: World, plan: Plan) -> Iterable[Measure]:
    """Latency of NEW and of a page of ALL, with one in flight, by the size of the mailbox."""
    sizes = (*SIZES, FULL_SIZE) if plan.full else SIZES
    with pymongo.MongoClient[Document](world.stack.mongo_url) as client:
        for who, size in enumerate(sizes, 1):
            world.say(f"making a mailbox of {size:,} entries")
            _fill(client[DATABASE], world.people[0][who].user, size)
    runs: dict[tuple[str, int], list[float]] = {(kind, size): [] for kind in ("new", "all") for size in sizes}
    for number in range(plan.repetitions):
        world.say(f"mailbox sizes, repetition {number + 1} of {plan.repetitions}")
        for who, size in enumerate(sizes, 1):
            runs["new", size].append(_page(world, who, 0, everything=False))
            runs["all", size].append(_page(world, who, (size - SMALL) // 2, everything=True))
    for kind in ("new", "all"):
        for size in sizes[1:]:
            yield Measure(
                f"mailbox_{kind}_{size}",
                "ms",
                tuple(runs[kind, size]),
                tuple(runs[kind, SMALL]),
                Better.LOWER,
                AIM,
                BOUND,
                f"the same in a mailbox of {SMALL}",
                extra={"entries_shown": UNREAD if kind == "new" else SMALL},
            )


def _page(world: World, who: int, after: int, *, everything: bool) -> float:
    one = world.loads[:1]
    world.prepare(one, kind="page", count=PAGES, who=who, after=after, all=everything)
    return percentile(world.play(one, 1).seconds, 50) / MILLISECOND


def _fill(database: Database[Document], owner: UserId, size: int) -> None:
    """Brings the owner's mailbox to `size` entries."""
    accepted = database[names.ACCEPTED]
    letter = accepted.find_one({"entries": {"$elemMatch": {"mailbox": owner, "kind": "received"}}})
    if letter is None:
        raise RuntimeError("a citizen without the letter that the measurement copies")
    accepted.update_many({"unread.mailbox": owner}, {"$pull": {"unread": {"mailbox": owner}}})
    present = accepted.count_documents({"entries.mailbox": owner})
    middle = (size - SMALL) // 2
    for first in range(present + 1, size + 1, CHUNK):
        numbers = range(first, min(first + CHUNK, size + 1))
        accepted.insert_many([_copy(letter, owner, number, size, middle) for number in numbers])
    hint = {"number": size, "hash": secrets.token_bytes(DIGEST_BYTES), "bytes": size}
    database[names.MAILBOXES].update_one({"mailbox": owner}, {"$set": {**hint, "time": letter["time"]}})


def _copy(letter: Document, owner: UserId, number: int, size: int, middle: int) -> Document:
    unread = number > size - UNREAD
    named = secrets.token_bytes(LETTER_ID_BYTES)
    entry = {
        "mailbox": owner,
        "number": number,
        "kind": "received",
        "hash": secrets.token_bytes(DIGEST_BYTES),
        "bytes": number,
    }
    made = {
        **letter,
        "_id": letter["author"] + named + bytes(len(owner)),
        "letter": named,
        "entries": [entry],
        "unread": [{"mailbox": owner, "number": number}] if unread else [],
        "used": [{"session": named, "number": 1}],
    }
    if number > LETTERS and not unread and not middle < number <= middle + SMALL:
        made |= {"ciphertext": b"", "body": b""}
    return made


def hot_mailbox(world: World, plan: Plan) -> Iterable[Measure]:
    """Letters a second when all of a load process are for one citizen, against letters to many; then their order."""
    runs: dict[str, list[float]] = {"hot": [], "send": []}
    counts = {kind: messages_of_a_run(_letters(world, kind, WARM_UP), len(world.loads)) for kind in runs}
    for number in range(plan.repetitions):
        for kind, figures in runs.items():
            world.say(f"hot mailbox, repetition {number + 1} of {plan.repetitions}, {kind}")
            figures.append(_letters(world, kind, counts[kind]))
    for people in world.people:
        _require_dense(world, people[0].user)
    yield Measure(
        "hot_mailbox_throughput",
        "1/s",
        tuple(runs["hot"]),
        tuple(runs["send"]),
        Better.HIGHER,
        floor_name="SEND to many mailboxes",
        note="two hot mailboxes, one a load process; their numbers were found without gaps or repeats",
    )


def _letters(world: World, kind: str, count: int) -> float:
    world.prepare(world.loads, kind=kind, count=count, bytes=1024)
    return world.play(world.loads).throughput


def _require_dense(world: World, owner: UserId) -> None:
    with pymongo.MongoClient[Document](world.stack.mongo_url) as client:
        found = client[DATABASE][names.ACCEPTED].find({"entries.mailbox": owner}, {"entries": 1})
        numbers = sorted(int(each["number"]) for one in found for each in one["entries"] if each["mailbox"] == owner)
    if numbers != list(range(1, len(numbers) + 1)):
        raise RuntimeError("a mailbox has gaps or repeats: the measurement is worth nothing")
