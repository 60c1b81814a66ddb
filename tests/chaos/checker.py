"""The rules of exactly once, judged over a history and what the database holds. Pure: values in, violations out.

confirmed        an acknowledged letter or receipt is there exactly once, as it was acknowledged
refused          what was refused is not there
unknown          what has no answer is there at most once
nobody           there is nothing that nobody sent
entries          each letter and receipt has its entries in its mailboxes, and no others
dense            the numbers of a mailbox are 1, 2, 3, …
chain            each entry's hash follows from the one before; where the repository begins to read is one of them
receipt          a receipt belongs to its letter and to somebody to whom that letter went
seen             what a client was shown is what is stored, and holds all that was confirmed before it asked
forged           no client saw a forged or misbound reply
available        outside of faults, at least 95 % of the operations end ok, and there were enough of them
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from crypto_core import mailbox
from crypto_core.ids import Digest, RepositoryId, UserId
from crypto_core.mailbox import Entry, EntryKind
from tests.chaos.history import Fault, History, Kind, Operation, Outcome

OK_SHARE: Final = 0.95
QUIET_OPERATIONS: Final = 20  #: fewer of them outside of faults prove nothing


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A letter as its author's key opens it. `operation` is the id in its text, `document` the signed one's digest."""

    author: str
    letter: str
    recipients: tuple[str, ...]
    operation: str
    body: str  #: SHA-256 of the text
    document: str
    object: str


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """A receipt as its reader's key opens it: where it is kept, and what the signed document says."""

    author: str  #: of the letter under which it is kept
    letter: str
    reader: str
    names_author: str
    names_letter: str
    names_reader: str
    names_document: str
    object: str


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry as it is stored. `about` is the author of the letter that it is about."""

    mailbox: str
    entry: Entry
    hash: str
    about: str


@dataclass(frozen=True)
class Stored:
    """What the database holds. `hints`: from which entry the repository begins to read a chain, by mailbox."""

    repository: RepositoryId
    letters: tuple[StoredLetter, ...]
    receipts: tuple[StoredReceipt, ...]
    entries: tuple[StoredEntry, ...]
    hints: Mapping[str, tuple[int, str]]

    @cached_property
    def by_operation(self) -> dict[str, list[StoredLetter]]:
        found: dict[str, list[StoredLetter]] = defaultdict(list)
        for each in self.letters:
            found[each.operation].append(each)
        return found

    @cached_property
    def by_letter(self) -> dict[tuple[str, str], StoredLetter]:
        return {(each.author, each.letter): each for each in self.letters}

    @cached_property
    def receipts_of(self) -> Counter[tuple[str, str, str]]:
        return Counter((each.author, each.letter, each.reader) for each in self.receipts)

    @cached_property
    def boxes(self) -> dict[str, list[StoredEntry]]:
        found: dict[str, list[StoredEntry]] = {owner: [] for owner in self.hints}
        for each in sorted(self.entries, key=lambda entry: entry.entry.number):
            found.setdefault(each.mailbox, []).append(each)
        return found

    @cached_property
    def hashes(self) -> dict[tuple[str, int], str]:
        return {(each.mailbox, each.entry.number): each.hash for each in self.entries}


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that does not hold, and where."""

    rule: str
    text: str


def check(history: History, stored: Stored, *, quiet: int = QUIET_OPERATIONS) -> tuple[Violation, ...]:
    """Every violation of every rule; empty when all hold. `quiet`: how many operations outside of faults are enough."""
    return (
        *_letters(history, stored),
        *_receipts(history, stored),
        *_entries(stored),
        *_chains(stored),
        *_seen(history, stored),
        *(Violation("forged", f"{each.client}: {each.reason}") for each in history.forgeries),
        *_available(history, quiet),
    )


def _letters(history: History, stored: Stored) -> Iterator[Violation]:
    sent = {each.id: each for each in history.operations if each.kind is Kind.SEND}
    for operation in sent.values():
        found = stored.by_operation.get(operation.id, [])
        match operation.outcome:
            case Outcome.OK if len(found) != 1:
                yield Violation("confirmed", f"letter {operation.id} was accepted and is there {len(found)} times")
            case Outcome.OK if operation.letter != found[0].letter:
                yield Violation("confirmed", f"letter {operation.id} was accepted under another id")
            case Outcome.OK:
                yield from _positions(operation, found[0], stored)
            case Outcome.FAILED if found:
                yield Violation("refused", f"letter {operation.id} was refused and is there")
            case Outcome.UNKNOWN if len(found) > 1:
                yield Violation("unknown", f"letter {operation.id} is there {len(found)} times")
    for letter in stored.letters:
        by = sent.get(letter.operation)
        if by is None or (by.owner, by.recipients, by.body) != (letter.author, letter.recipients, letter.body):
            yield Violation("nobody", f"letter {letter.letter} was sent by nobody, or otherwise")


def _positions(operation: Operation, letter: StoredLetter, stored: Stored) -> Iterator[Violation]:
    """The signed placement of an acceptance names the very entries of the letter."""
    entries = {
        (each.mailbox, each.entry.number): each
        for owner in {letter.author, *letter.recipients}
        for each in stored.boxes.get(owner, [])
        if each.entry.object.hex() == letter.object
    }
    for position in operation.positions:
        found = entries.get((position.mailbox, position.number))
        if found is None or position.entry not in ("", found.hash):
            yield Violation(
                "confirmed", f"letter {operation.id} is not at entry {position.number} of {position.mailbox}"
            )


def _receipts(history: History, stored: Stored) -> Iterator[Violation]:
    given = [each for each in history.operations if each.kind is Kind.RECEIPT]
    known = {(each.author, each.letter, each.owner) for each in given}
    refused = {(each.author, each.letter, each.owner) for each in given if each.outcome is Outcome.FAILED}
    possible = {(each.author, each.letter, each.owner) for each in given if each.outcome is not Outcome.FAILED}
    for operation in given:
        times = stored.receipts_of[(operation.author, operation.letter, operation.owner)]
        if operation.outcome is Outcome.OK and times != 1:
            yield Violation("confirmed", f"receipt {operation.id} was accepted and is there {times} times")
        elif operation.outcome is Outcome.UNKNOWN and times > 1:
            yield Violation("unknown", f"receipt {operation.id} is there {times} times")
    for receipt in stored.receipts:
        key = (receipt.author, receipt.letter, receipt.reader)
        if key not in known:
            yield Violation("nobody", f"a receipt for letter {receipt.letter} was given by nobody")
        elif key in refused - possible:
            yield Violation("refused", f"a receipt for letter {receipt.letter} was refused and is there")
        letter = stored.by_letter.get((receipt.author, receipt.letter))
        says = (receipt.names_author, receipt.names_letter, receipt.names_reader)
        if letter is None or says != key or receipt.names_document != letter.document:
            yield Violation("receipt", f"a receipt under letter {receipt.letter} is of another letter or reader")
        elif receipt.reader not in letter.recipients:
            yield Violation("receipt", f"letter {receipt.letter} did not go to the reader of a receipt")


def _entries(stored: Stored) -> Iterator[Violation]:
    wanted: Counter[tuple[str, str, str, str, str]] = Counter()
    for each in stored.letters:
        wanted[each.author, EntryKind.SENT.value, each.author, each.letter, each.object] += 1
        for user in each.recipients:
            wanted[user, EntryKind.RECEIVED.value, each.author, each.letter, each.object] += 1
    for receipt in stored.receipts:
        about = (receipt.author, receipt.letter, receipt.object)
        wanted[receipt.reader, EntryKind.RECEIPT_SENT.value, *about] += 1
        wanted[receipt.author, EntryKind.RECEIPT.value, *about] += 1
    found = Counter(
        (each.mailbox, each.entry.kind.value, each.about, each.entry.routing.letter.hex(), each.entry.object.hex())
        for each in stored.entries
    )
    for owner, kind, _, letter, _ in wanted - found:
        yield Violation("entries", f"mailbox {owner} lacks its entry '{kind}' of letter {letter}")
    for owner, kind, _, letter, _ in found - wanted:
        yield Violation("entries", f"mailbox {owner} has an entry '{kind}' of letter {letter} too many")


def _chains(stored: Stored) -> Iterator[Violation]:
    for owner, entries in stored.boxes.items():
        numbers = [each.entry.number for each in entries]
        if numbers != list(range(1, len(numbers) + 1)):
            yield Violation("dense", f"the numbers of mailbox {owner} have gaps or repeats")
        user = UserId(bytes.fromhex(owner))
        previous, moment = mailbox.genesis(stored.repository, user), 0
        for each in entries:
            follows = each.entry.hash(stored.repository, user, previous)
            if follows.hex() != each.hash or each.entry.time < moment:
                yield Violation("chain", f"entry {each.entry.number} of mailbox {owner} does not follow")
                break
            previous, moment = Digest(follows), each.entry.time
        number, digest = stored.hints.get(owner, (0, ""))
        if number and stored.hashes.get((owner, number)) != digest:
            yield Violation("chain", f"mailbox {owner} is read from an entry {number} that it does not have")


def _seen(history: History, stored: Stored) -> Iterator[Violation]:
    answered = [each for each in history.operations if each.outcome is Outcome.OK and each.ended is not None]
    receipts = {
        (each.author, each.letter, each.owner): each.ended
        for each in answered
        if each.kind is Kind.RECEIPT and each.ended
    }
    by_letter: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
    for (author, letter, reader), moment in receipts.items():
        by_letter[author, letter].append((reader, moment))
    for each in answered:
        letter = stored.by_letter.get((each.author, each.letter))
        if each.kind is Kind.READ and (letter is None or letter.body != each.body):
            yield Violation("seen", f"{each.id} read another letter than is stored")
        if each.kind is Kind.STATUS:
            if any(not stored.receipts_of[each.author, each.letter, reader] for reader in each.readers):
                yield Violation("seen", f"{each.id} was shown a receipt that is not stored")
            confirmed = {reader for reader, moment in by_letter[each.author, each.letter] if moment < each.invoked}
            if not confirmed <= set(each.readers):
                yield Violation("seen", f"{each.id} was not shown a receipt that was accepted before it asked")
        if each.kind is Kind.LIST and any(
            stored.hashes.get((at.mailbox, at.number)) != at.entry for at in each.positions if at.number
        ):
            yield Violation("seen", f"{each.id} was shown the head of another chain")
    yield from _stale(answered)


def _stale(answered: Iterable[Operation]) -> Iterator[Violation]:
    """A list shows at least every position that somebody was told of before the list was asked for."""
    told = sorted(
        ((each.ended or 0, at.mailbox, at.number) for each in answered for at in each.positions if at.number),
    )
    highest: dict[str, int] = defaultdict(int)
    at = 0
    for each in sorted((each for each in answered if each.kind is Kind.LIST), key=lambda each: each.invoked):
        while at < len(told) and told[at][0] < each.invoked:
            _, owner, number = told[at]
            highest[owner] = max(highest[owner], number)
            at += 1
        if any(shown.number < highest[shown.mailbox] for shown in each.positions):
            yield Violation("seen", f"{each.id} was shown a mailbox that ends before an entry that was confirmed")


def _available(history: History, quiet: int) -> Iterator[Violation]:
    calm = quiet_operations(history)
    good = sum(each.first is Outcome.OK for each in calm)
    if len(calm) < quiet:
        yield Violation("available", f"only {len(calm)} operations lie outside of faults: that proves nothing")
    elif good < OK_SHARE * len(calm):
        yield Violation("available", f"outside of faults only {good} of {len(calm)} operations ended ok")


def quiet_operations(history: History) -> list[Operation]:
    """The operations that were invoked and first ended outside of every fault.

    One without any end lasted until its client was killed, which is a fault.
    """
    return [
        each
        for each in history.operations
        if each.first_end is not None and not _touches(history.faults, each.invoked, each.first_end)
    ]


def _touches(faults: Iterable[Fault], begin: int, end: int) -> bool:
    return any(begin <= fault.ended and end >= fault.began for fault in faults)
