"""Proof against a repository: the alarms that this home kept, as files that anybody can judge.

A proof holds what the repository signed at two times, and its descriptor, in which its key stands under its operator's
root. Whoever judges needs nothing else, no home and no network, but must know from another source that the operator
root is the repository's: its fingerprint is shown.

    forked        one number, two entries: both cannot be true
    rolled back   a head that was signed later, and the mailbox is shorter
    not proven    both can be true; what did not fit were entries, which only the owner saw

A placement names an entry whenever it is asked for, and says nothing about the end of the mailbox: that it was signed
after a head of a later entry is no lie. Nor is a head that was signed shortly after one of a later entry: workers have
clocks of their own, and what one has read may be passed by another before it is signed. Their clocks differ by seconds
at most (the operator's doctor looks), and the broker cuts off a worker that is held up for a minute.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from client.errors import CheckFailed, NotFound, Usage
from client.state import files, pin
from client.state.home import Alarm, Home
from crypto_core import canonical_json, descriptor, limits, mailbox, schema, suite
from crypto_core.descriptor import Descriptor
from crypto_core.errors import BindingMismatch, ProtocolError
from crypto_core.ids import Digest, Milliseconds, MomentField, UserId, UserIdField
from crypto_core.schema import Size
from pki.errors import PkiError

PROOF_BYTES = 128 * limits.KIB


@dataclass(frozen=True, slots=True)
class Proof:
    """The file. `seen` was verified first, `shown` afterwards; each a signed head of `mailbox` or a placement in it."""

    what: Annotated[str, Size(1, 2 * limits.KIB)]
    raised: MomentField
    mailbox: UserIdField
    descriptor: Annotated[bytes, Size(1, limits.HANDSHAKE_BYTES)]
    seen: Annotated[bytes, Size(0, limits.PLACEMENT_BYTES)]
    shown: Annotated[bytes, Size(0, limits.PLACEMENT_BYTES)]


@dataclass(frozen=True, slots=True)
class Statement:
    """What was signed of one entry: its hash, when that was signed, and whether it was the last one then."""

    number: int
    entry: Digest
    time: Milliseconds
    last: bool


class Contradiction(enum.Enum):
    """What two statements about one mailbox say about who signed them."""

    FORKED = "forked"
    ROLLED_BACK = "rolled back"
    NOT_PROVEN = "not proven"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A proof whose signatures hold. A statement is None where the proof has none."""

    contradiction: Contradiction
    repository: Descriptor
    root_fingerprint: str
    seen: Statement | None
    shown: Statement | None


@dataclass(frozen=True, slots=True)
class KeptAlarm:
    """An alarm of this home. `judgement` is None when what was shown cannot be verified, and `problem` says why."""

    name: str
    alarm: Alarm
    judgement: Judgement | None
    problem: str


def alarms(home: Home) -> tuple[KeptAlarm, ...]:
    """Every alarm that was kept, the oldest first. Raises LocalState for a damaged file."""
    return tuple(_kept(path) for path in sorted(home.alarms.glob("*.json")))


def export(home: Home, name: str, target: Path) -> KeptAlarm:
    """Writes the proof of one alarm, named by an unambiguous beginning, to a new file."""
    found = [each for each in alarms(home) if each.name.startswith(name)]
    if len(found) != 1:
        raise NotFound(
            f"{len(found)} alarms begin with {name!r}.",
            "One is needed to write its proof.",
            "See smr proof, then name it.",
        )
    proof = _proof(found[0].alarm)
    try:
        with target.open("xb") as file:
            file.write(canonical_json.encode(schema.to_document(proof)))
    except FileExistsError as error:
        raise Usage(f"{target} exists already.", "It is never written over.", "Choose another name.") from error
    return found[0]


def verify(data: bytes) -> tuple[Proof, Judgement]:
    """Judges a proof from anywhere. Raises CheckFailed when it is no proof, or when a signature in it is not valid."""
    try:
        proof = schema.from_document(Proof, canonical_json.decode(data, PROOF_BYTES))
        return proof, judge(proof)
    except (ProtocolError, PkiError) as error:
        raise CheckFailed(
            f"This proves nothing: {error}.",
            "What is in the file was not signed by the repository that it names, or was changed afterwards.",
            "Ask for the file again, from who saw the alarm.",
        ) from error


def approved(home: Home, found: Judgement) -> bool | None:
    """Whether the operator root of a judgement is the one that this home approved; None in a home without one."""
    if not home.pin.exists():
        return None
    return pin.load(home)[0].operator_root.hex() == found.root_fingerprint


def judge(proof: Proof) -> Judgement:
    """What the statements of a proof say. Raises ProtocolError or OperatorError when a signature does not hold."""
    signed = descriptor.read(proof.descriptor)
    root = suite.sha256(signed.chain[-1])
    # Valid when the alarm was raised: a proof does not expire with the descriptor.
    repository = pin.verify(signed, root, Milliseconds(proof.raised))
    seen, shown = (_statements(data, repository, proof.mailbox) for data in (proof.seen, proof.shown))
    pairs = [(a, b, contradiction(a, b)) for a in seen for b in shown]
    # A letter to oneself has two places in the mailbox: one that contradicts is enough.
    worst = next((each for each in pairs if each[2] is not Contradiction.NOT_PROVEN), None)
    a, b, found = worst or (next(iter(seen), None), next(iter(shown), None), Contradiction.NOT_PROVEN)
    return Judgement(found, repository, root.hex(), a, b)


def _statements(data: bytes, repository: Descriptor, owner: UserId) -> tuple[Statement, ...]:
    """What is signed there about this mailbox. Raises ProtocolError, also when nothing is."""
    if not data:
        return ()
    key, where = repository.verify_key, repository.repository
    if not mailbox.is_placement(data):
        head = mailbox.read_head(data, key, where, owner)
        return (Statement(head.number, head.entry, head.time, last=True),)
    placement = mailbox.read_placement(data, key, where)
    found = [place for place in placement.places if place.mailbox == owner]
    if not found:
        raise BindingMismatch("a placement in other mailboxes")
    return tuple(Statement(place.number, place.entry, placement.time, last=False) for place in found)


def contradiction(seen: Statement, shown: Statement) -> Contradiction:
    """What two statements about one mailbox, both signed by one repository, say about it."""
    if seen.number == shown.number and seen.entry != shown.entry:
        return Contradiction.FORKED
    earlier, later = sorted((seen, shown), key=lambda statement: statement.time)
    if later.last and later.number < earlier.number and later.time - earlier.time > limits.ROLL_BACK_MS:
        return Contradiction.ROLLED_BACK
    return Contradiction.NOT_PROVEN


def _kept(path: Path) -> KeptAlarm:
    alarm = files.load_document(path, Alarm)
    if alarm is None:
        raise files.unusable(path, "it is gone")
    try:
        return KeptAlarm(path.stem, alarm, judge(_proof(alarm)), "")
    except (ProtocolError, PkiError) as error:
        return KeptAlarm(path.stem, alarm, None, str(error))


def _proof(alarm: Alarm) -> Proof:
    return Proof(alarm.what, alarm.raised, alarm.mailbox, alarm.descriptor, alarm.seen, alarm.shown)
