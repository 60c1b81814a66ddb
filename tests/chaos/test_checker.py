"""The checker on a history that is right, and on one broken history for each way in which a rule can fail."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

import pytest

from crypto_core import mailbox
from crypto_core.ids import Digest, LetterId, Milliseconds, UserId
from crypto_core.mailbox import Entry, EntryKind, EntryRouting
from tests.chaos.checker import Stored, StoredEntry, StoredLetter, StoredReceipt, check
from tests.chaos.history import Fault, Forgery, History, Kind, Operation, Outcome, Position
from tests.support.protocol import BRUNO, JOAO, MARIA, REPOSITORY, digest, seed

SECOND = 1_000_000_000
QUIET = 5
LETTER, LOST = LetterId(seed("letter", 16)), LetterId(seed("lost", 16))
BODY, LOST_BODY = hashlib.sha256(b"body").hexdigest(), hashlib.sha256(b"lost").hexdigest()


@dataclasses.dataclass(frozen=True)
class World:
    """What clients noted and what the database holds."""

    history: History
    stored: Stored

    def operation(self, name: str, **changes: object) -> World:
        """The same, with one operation noted otherwise."""
        changed = tuple(
            dataclasses.replace(each, **changes) if each.id == name else each for each in self.history.operations
        )
        return dataclasses.replace(self, history=dataclasses.replace(self.history, operations=changed))

    def without(self, name: str) -> World:
        """The same, with one operation that was never noted."""
        kept = tuple(each for each in self.history.operations if each.id != name)
        return dataclasses.replace(self, history=dataclasses.replace(self.history, operations=kept))

    def noted(self, **changes: object) -> World:
        return dataclasses.replace(self, history=dataclasses.replace(self.history, **changes))

    def holding(self, **changes: object) -> World:
        return dataclasses.replace(self, stored=dataclasses.replace(self.stored, **changes))

    def entry(self, owner: UserId, number: int, **changes: object) -> World:
        """The same, with one entry stored otherwise."""
        changed = tuple(
            dataclasses.replace(each, **changes) if (each.mailbox, each.entry.number) == (owner.hex(), number) else each
            for each in self.stored.entries
        )
        return self.holding(entries=changed)

    def rules(self) -> set[str]:
        return {each.rule for each in check(self.history, self.stored, quiet=QUIET)}


def chain(owner: UserId, *planned: tuple[EntryKind, EntryRouting, Digest]) -> list[StoredEntry]:
    """A mailbox as the repository writes it; every letter is Maria's."""
    previous, found = mailbox.genesis(REPOSITORY, owner), []
    for number, (kind, routing, content) in enumerate(planned, 1):
        entry = Entry(number, Milliseconds(1000 + number), kind, routing, content)
        previous = entry.hash(REPOSITORY, owner, previous)
        found.append(StoredEntry(owner.hex(), entry, previous.hex(), MARIA.hex()))
    return found


def operation(
    name: str, kind: Kind, owner: UserId, at: int, outcome: Outcome = Outcome.OK, **more: object
) -> Operation:
    end = at * SECOND + SECOND // 2
    return Operation(name, "wire", kind, owner.hex(), at * SECOND, end, outcome, end, outcome, **more)


def good() -> World:
    """Maria writes to João, who reads and confirms; a second letter to Bruno has no answer and is there."""
    sent, given = EntryRouting(LETTER, MARIA, (JOAO,)), EntryRouting(LETTER, JOAO, (MARIA,))
    lost = EntryRouting(LOST, MARIA, (BRUNO,))
    first, second, confirmed = digest("first"), digest("second"), digest("receipt")
    entries = [
        *chain(
            MARIA,
            (EntryKind.SENT, sent, first),
            (EntryKind.RECEIPT, given, confirmed),
            (EntryKind.SENT, lost, second),
        ),
        *chain(JOAO, (EntryKind.RECEIVED, sent, first), (EntryKind.RECEIPT_SENT, given, confirmed)),
        *chain(BRUNO, (EntryKind.RECEIVED, lost, second)),
    ]
    hints = {each.mailbox: (each.entry.number, each.hash) for each in entries}
    at = {(each.mailbox, each.entry.number): Position(each.mailbox, each.entry.number, each.hash) for each in entries}
    maria, joao, bruno = MARIA.hex(), JOAO.hex(), BRUNO.hex()
    about = {"author": maria, "letter": LETTER.hex()}
    document = digest("document").hex()
    operations = (
        operation("s", Kind.SESSION, MARIA, 1),
        operation(
            "a", Kind.SEND, MARIA, 2, recipients=(joao,), body=BODY, positions=(at[maria, 1], at[joao, 1]), **about
        ),
        operation("r", Kind.READ, JOAO, 3, body=BODY, **about),
        operation("c", Kind.RECEIPT, JOAO, 4, positions=(at[joao, 2],), **about),
        operation("b", Kind.SEND, MARIA, 6, Outcome.UNKNOWN, author=maria, recipients=(bruno,), body=LOST_BODY),
        operation("q", Kind.STATUS, MARIA, 8, readers=(joao,), **about),
        operation("l", Kind.LIST, JOAO, 9, positions=(at[joao, 2],)),
        operation("m", Kind.LIST, MARIA, 10, positions=(at[maria, 3],)),
    )
    stored = Stored(
        repository=REPOSITORY,
        letters=(
            StoredLetter(maria, LETTER.hex(), (joao,), "a", BODY, document, first.hex()),
            StoredLetter(maria, LOST.hex(), (bruno,), "b", LOST_BODY, digest("other").hex(), second.hex()),
        ),
        receipts=(StoredReceipt(maria, LETTER.hex(), joao, maria, LETTER.hex(), joao, document, confirmed.hex()),),
        entries=tuple(entries),
        hints=hints,
    )
    return World(History(operations, (), (Fault("worker-kill", 6 * SECOND, 7 * SECOND),)), stored)


def test_a_right_history_holds():
    world = good()
    assert check(world.history, world.stored, quiet=QUIET) == ()


def test_an_unknown_letter_may_be_missing():
    """Had the second letter never arrived, nothing would be wrong either."""
    world = good()
    kept = [each for each in world.stored.entries if each.entry.routing.letter != LOST]
    ends = {each.mailbox: (each.entry.number, each.hash) for each in kept}
    empty = {BRUNO.hex(): (0, mailbox.genesis(REPOSITORY, BRUNO).hex())}
    letters = world.stored.letters[:1]
    world = world.holding(letters=letters, entries=tuple(kept), hints={**ends, **empty}).without("m")
    assert world.rules() == set()


def twice(world: World, index: int) -> World:
    """A letter that was stored again under another id."""
    letter = world.stored.letters[index]
    return world.holding(letters=(*world.stored.letters, dataclasses.replace(letter, letter=seed("again", 16).hex())))


def first_letter(world: World, **changes: object) -> World:
    letter, *others = world.stored.letters
    return world.holding(letters=(dataclasses.replace(letter, **changes), *others))


def the_receipt(world: World, **changes: object) -> World:
    (receipt,) = world.stored.receipts
    return world.holding(receipts=(dataclasses.replace(receipt, **changes),))


def rewritten(world: World, owner: UserId, kept: int) -> World:
    """A mailbox of which the repository kept only the beginning, its end with it."""
    entries = [each for each in world.stored.entries if each.mailbox != owner.hex() or each.entry.number <= kept]
    ends = {each.mailbox: (each.entry.number, each.hash) for each in entries}
    return world.holding(entries=tuple(entries), hints=ends)


BROKEN: dict[str, tuple[str, Callable[[World], World]]] = {
    "a confirmed letter is lost": (
        "confirmed",
        lambda world: world.holding(letters=world.stored.letters[1:]),
    ),
    "a confirmed letter is there twice": ("confirmed", lambda world: twice(world, 0)),
    "a letter was confirmed under another id": ("confirmed", lambda world: world.operation("a", letter=LOST.hex())),
    "a letter is not where its acceptance says": (
        "confirmed",
        lambda world: world.operation("a", positions=(Position(MARIA.hex(), 3),)),
    ),
    "a letter's acceptance names another entry": (
        "confirmed",
        lambda world: world.operation("a", positions=(Position(MARIA.hex(), 1, digest("other").hex()),)),
    ),
    "a confirmed receipt is lost": ("confirmed", lambda world: world.holding(receipts=())),
    "a confirmed receipt is there twice": (
        "confirmed",
        lambda world: world.holding(receipts=world.stored.receipts * 2),
    ),
    "a refused letter is there": ("refused", lambda world: world.operation("a", outcome=Outcome.FAILED)),
    "a refused receipt is there": ("refused", lambda world: world.operation("c", outcome=Outcome.FAILED)),
    "an unknown letter is there twice": ("unknown", lambda world: twice(world, 1)),
    "an unknown receipt is there twice": (
        "unknown",
        lambda world: world.operation("c", outcome=Outcome.UNKNOWN).holding(receipts=world.stored.receipts * 2),
    ),
    "a letter that nobody sent": ("nobody", lambda world: world.without("b")),
    "a letter of somebody else": ("nobody", lambda world: world.operation("a", owner=BRUNO.hex())),
    "a letter to others than it was sent to": ("nobody", lambda world: first_letter(world, recipients=(BRUNO.hex(),))),
    "a letter with another text": ("nobody", lambda world: first_letter(world, body=LOST_BODY)),
    "a receipt that nobody gave": ("nobody", lambda world: world.without("c")),
    "a letter that a recipient did not get": (
        "entries",
        lambda world: rewritten(world, BRUNO, 0),
    ),
    "an entry of a letter that is not there": (
        "entries",
        lambda world: world.holding(letters=world.stored.letters[:1]),
    ),
    "a receipt without its entries": (
        "entries",
        lambda world: world.holding(receipts=world.stored.receipts * 2),
    ),
    "an entry of another object": (
        "entries",
        lambda world: first_letter(world, object=digest("another").hex()),
    ),
    "a mailbox with a gap": (
        "dense",
        lambda world: world.holding(
            entries=tuple(
                each for each in world.stored.entries if (each.mailbox, each.entry.number) != (MARIA.hex(), 2)
            )
        ),
    ),
    "a mailbox with a number twice": (
        "dense",
        lambda world: world.holding(entries=(*world.stored.entries, world.stored.entries[0])),
    ),
    "an entry that does not follow": ("chain", lambda world: world.entry(MARIA, 2, hash=digest("other").hex())),
    "a hint with another hash than its entry's": (
        "chain",
        lambda world: world.holding(hints={**world.stored.hints, MARIA.hex(): (2, digest("other").hex())}),
    ),
    "a hint beyond the end": (
        "chain",
        lambda world: world.holding(hints={**world.stored.hints, digest("x").hex()[:56]: (3, digest("x").hex())}),
    ),
    "a receipt that names another letter": ("receipt", lambda world: the_receipt(world, names_letter=LOST.hex())),
    "a receipt that names another document": (
        "receipt",
        lambda world: the_receipt(world, names_document=digest("other").hex()),
    ),
    "a receipt of another reader than it says": ("receipt", lambda world: the_receipt(world, names_reader=BRUNO.hex())),
    "a receipt of somebody who did not get the letter": (
        "receipt",
        lambda world: the_receipt(world, reader=BRUNO.hex(), names_reader=BRUNO.hex()),
    ),
    "a receipt for a letter that is not there": ("receipt", lambda world: world.holding(letters=())),
    "a reader saw another text": ("seen", lambda world: world.operation("r", body=LOST_BODY)),
    "a status showed a receipt that is not there": (
        "seen",
        lambda world: world.operation("q", readers=(JOAO.hex(), BRUNO.hex())),
    ),
    "a status did not show a confirmed receipt": ("seen", lambda world: world.operation("q", readers=())),
    "a list ended before what was confirmed": (
        "seen",
        lambda world: world.operation("l", positions=(Position(JOAO.hex(), 1, world.stored.entries[3].hash),)),
    ),
    "a list showed the head of another chain": (
        "seen",
        lambda world: world.operation("l", positions=(Position(JOAO.hex(), 2, digest("other").hex()),)),
    ),
    "a forged reply": ("forged", lambda world: world.noted(forgeries=(Forgery("wire", "somebody else's reply"),))),
    "too many failures without a fault": ("available", lambda world: world.noted(faults=())),
    "refusals without a fault": (
        "available",
        lambda world: world.operation("s", first=Outcome.FAILED, outcome=Outcome.FAILED),
    ),
    "an answer that came only when asked again, without a fault": (
        "available",
        lambda world: world.operation("a", first=Outcome.UNKNOWN),
    ),
    "too little outside of faults": ("available", lambda world: world.noted(faults=(Fault("all", 0, 99 * SECOND),))),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_history_is_caught(name: str):
    rule, damage = BROKEN[name]
    assert rule in damage(good()).rules()


def test_every_rule_has_a_broken_history():
    rules = {rule for rule, _ in BROKEN.values()}
    assert rules == {
        "confirmed",
        "refused",
        "unknown",
        "nobody",
        "entries",
        "dense",
        "chain",
        "receipt",
        "seen",
        "forged",
        "available",
    }
