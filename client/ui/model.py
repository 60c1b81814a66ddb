"""What the mailbox shows, made from the library's values: pure, and the only place where `client.ui` words it.

Every text that somebody else chose goes through `pki.display` here, and nowhere later. A letter of which a check failed
has no sender, subject or body here.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from client.cli.screen import moment
from client.cli.views import UNOPENED, deletion_lines, person_lines, signature_lines
from client.commands.box import ListedLetter, Signature
from client.commands.choose import Refused, SignatureRequest
from client.commands.delete import Deleted
from client.commands.pending import Resumed
from client.commands.people import FoundPerson
from client.commands.read import ReadLetter
from client.commands.receipt import ReceiptSent
from client.commands.send import Sent
from client.commands.status import ChoiceStatus, LetterStatus, ReceiptStatus, Signing, Verdict
from client.commands.thread import addressees, answering
from client.commands.watch import Arrival
from client.errors import Check, CheckFailed, ClientError
from client.settings import Transfer
from client.state.people import KnownPerson
from client.uploads import LocalFile
from crypto_core.ids import UserId
from pki.display import safe_text, shown_name

_NOT_SHOWN: Final = "a check failed: do not trust it"
_UNITS: Final = (("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30))
ID_DIGITS: Final = 12  #: how much of an id is shown where there is no room for all of it
_SHORT: Final = 30  #: how much of the name of a file stands where there is one line
_ALARMING: Final = "A letter came that a check refused: do not trust it."
_CHOSEN: Final = {"acceptance": "a signature", "refusal": "a refusal", "expiry": "an expiry"}
Names = Mapping[UserId, str]  #: of people whose records were verified here


class Tone(enum.Enum):
    """How a line looks. It says nothing that the words do not say."""

    PLAIN = enum.auto()
    HEADING = enum.auto()
    GOOD = enum.auto()
    BAD = enum.auto()
    QUOTED = enum.auto()  #: a letter's own words, which stand apart so that they cannot pass for the program's


@dataclass(frozen=True, slots=True)
class Line:
    """Text that is safe to show, of one line or several."""

    text: str = ""
    tone: Tone = Tone.PLAIN


Lines = tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class LetterRow:
    """A letter in the list. `name` is exact: a letter's id and its author's."""

    name: str
    state: str
    who: str
    subject: str
    when: str
    mine: bool
    good: bool
    waits: bool = False  #: it opens when its reader signs for it

    @property
    def cells(self) -> tuple[str, ...]:
        return self.state, self.who, self.subject, self.when


@dataclass(frozen=True, slots=True)
class PersonRow:
    """Somebody in the list of people. Letters can be written to those who are `confirmed`."""

    user: UserId
    state: str
    name: str
    civil_number: str
    confirmed: bool
    verified: bool

    @property
    def cells(self) -> tuple[str, ...]:
        return self.state, self.name, self.civil_number, self.user.hex()[:ID_DIGITS]


@dataclass(frozen=True, slots=True)
class Addressee:
    """Somebody who gets an answer, or may get it too."""

    user: UserId
    name: str


@dataclass(frozen=True, slots=True)
class Key:
    """A key, and what it does."""

    name: str
    does: str


SIGN_FOR_QUESTION: Final = (
    Line("Within how many days must they sign for it?", Tone.HEADING),
    Line("It opens for each of them when their card has signed, and you get that signature."),
)
REASON_QUESTION: Final = (
    Line("Why do you refuse to sign for it?", Tone.HEADING),
    Line("Its sender alone can read the reason. It may be empty."),
)


def letter_rows(found: Sequence[ListedLetter], names: Names) -> tuple[LetterRow, ...]:
    """The letters, newest first."""
    return tuple(_letter_row(each, names) for each in reversed(found))


def refused_row(row: LetterRow) -> LetterRow:
    """A letter that was good as far as the list could tell, and is not."""
    return replace(row, state="REFUSED", who="(not shown)", subject=_NOT_SHOWN, mine=False, good=False, waits=False)


def read_row(row: LetterRow, found: ReadLetter) -> LetterRow:
    """A letter that was opened, maybe against a signature."""
    return row if row.mine else replace(row, state="read", subject=safe_text(found.subject), waits=False)


def _letter_row(found: ListedLetter, names: Names) -> LetterRow:
    name, when = found.full_name, f"{found.received_at.astimezone():%Y-%m-%d %H:%M}"
    if not found.good:
        return refused_row(LetterRow(name, "", "", "", when, mine=False, good=False))
    if found.signature in UNOPENED:
        state, subject = UNOPENED[found.signature]
        waits = found.signature is Signature.WAITING
        return LetterRow(name, state, shown_name(found.author_name), subject, when, mine=False, good=True, waits=waits)
    state = "sent" if found.sent_by_me else "read" if found.read else "new"
    who = _to(found.to, names) if found.sent_by_me else shown_name(found.author_name)
    return LetterRow(name, state, who, safe_text(found.subject), when, found.sent_by_me, True)


def _to(users: Sequence[UserId], names: Names) -> str:
    return "to " + ", ".join(_name(user, names.get(user, "")) for user in users)


def _name(user: UserId, name: str) -> str:
    return shown_name(name) if name else f"{user.hex()[:ID_DIGITS]}..."


def count(rows: Sequence[LetterRow]) -> str:
    """How many letters there are."""
    new = sum(row.state == "new" for row in rows)
    refused = sum(not row.good for row in rows)
    parts = [f"{len(rows)} letter{'' if len(rows) == 1 else 's'}", f"{new} new"]
    return ", ".join(parts + [f"{refused} REFUSED"] * bool(refused))


def people_rows(found: Sequence[FoundPerson]) -> tuple[PersonRow, ...]:
    """People, those first to whom letters can be written."""
    ordered = sorted(found, key=lambda each: (not each.confirmed, not each.verified, each.name.casefold(), each.user))
    return tuple(_person_row(each) for each in ordered)


def _person_row(found: FoundPerson) -> PersonRow:
    if not found.verified:
        return PersonRow(found.user, "REFUSED", f"({safe_text(found.reason)})", "", confirmed=False, verified=False)
    standing, civil_number = _standing(found.confirmed), safe_text(found.civil_number)
    return PersonRow(found.user, standing, shown_name(found.name), civil_number, found.confirmed, verified=True)


def known_rows(known: Sequence[KnownPerson]) -> tuple[PersonRow, ...]:
    """Who was met here before, those first to whom letters can be written."""
    ordered = sorted(known, key=lambda each: not each.confirmed)
    return tuple(
        PersonRow(each.user, _standing(each.confirmed), shown_name(each.name), "", each.confirmed, verified=True)
        for each in ordered
    )


def _standing(confirmed: bool) -> str:
    return "confirmed" if confirmed else "-"


def names_of(known: Sequence[KnownPerson]) -> dict[UserId, str]:
    """What people are called whose records were verified here."""
    return {each.user: each.name for each in known}


def certificate(found: FoundPerson) -> Lines:
    """What is to be compared before a person is confirmed."""
    details = tuple(Line(f"{name:<13} {safe_text(value)}") for name, value in person_lines(found))
    return (Line("Is this the person you mean?", Tone.HEADING), *details)


def reading(found: ReadLetter) -> Lines:
    """A letter of which every check passed."""
    card = f"{safe_text(found.civil_number)}, card valid until {found.card_valid_until:%Y-%m-%d}"
    return (
        Line(f"From     {shown_name(found.author_name)} ({card})"),
        Line(f"To       {_readers(found)}"),
        Line(f"Subject  {safe_text(found.subject)}", Tone.HEADING),
        Line(f"Sent     {moment(found.claimed_at)}, received {moment(found.received_at)}"),
        Line("Checks   " + "  ".join(f"✓ {safe_text(check.meaning)}" for check in found.checks), Tone.GOOD),
        Line(_body(found), Tone.QUOTED),
        *_attachments(found),
        Line(_receipt(found), Tone.HEADING),
    )


def _readers(found: ReadLetter) -> str:
    names = [_name(user, name) for user, name in zip(found.to, found.to_names, strict=True)]
    if found.mine:
        return ", ".join(names)
    return "you" if len(names) == 1 else f"you and {len(names) - 1} more: {', '.join(names)}"


def _body(found: ReadLetter) -> str:
    try:
        text = found.body.decode("utf-8")
    except UnicodeDecodeError:
        return f"({len(found.body)} bytes that are no text: smr read {found.letter_id} --output FILE)"
    return safe_text(text, multiline=True).expandtabs().rstrip("\n")


def _attachments(found: ReadLetter) -> Lines:
    files = [f"{safe_text(each.name)} ({size(each.size)})" for each in found.attachments]
    saved = [Line(f"Saved    {safe_text(str(each.path))}") for each in found.attachments if each.path is not None]
    how = "" if saved else " s saves them."
    return (Line(f"Attached: {', '.join(files)}.{how}"), *saved) if files else ()


def size(count: int) -> str:
    """A number of bytes for people."""
    if count < 1024:
        return f"{count} bytes"
    unit, divisor = next(each for each in _UNITS if count < each[1] * 1024 or each is _UNITS[-1])
    return f"{count / divisor:.1f} {unit}"


def _receipt(found: ReadLetter) -> str:
    if found.mine:
        return "This is your own copy. t shows its receipts."
    if not found.receipt_possible:
        return "Reading receipt: not possible for this card."
    return "Reading receipt: sent." if found.receipt_sent else "Reading receipt: not sent. k signs and sends one."


def _checks(checks: Sequence[Check]) -> Lines:
    return tuple(
        Line(f"  ✓ {safe_text(check.meaning)}", Tone.GOOD)
        if check.passed
        else Line(f"  ✗ FAILED: {safe_text(check.meaning)} ({safe_text(check.reason)})", Tone.BAD)
        for check in checks
    )


def timeline(found: LetterStatus, names: Names) -> Lines:
    """What became of an own letter, in the order in which it happened."""
    events = [
        (found.sent_at, _event(found.sent_at, True, "signed by your Citizen Card")),
        (
            found.accepted_at,
            _event(found.accepted_at, True, f"accepted by the repository, entry {found.number} of your mailbox"),
        ),
        *(
            _choice_event(each, found.accepted_at, names)
            for each in found.choices
            if each.verdict is not Signing.WAITING
        ),
        *(_receipt_event(each, found.accepted_at, names) for each in found.receipts if each.accepted_at is not None),
    ]
    # Of those who have to sign first, only who has can have read it.
    unsigned = {each.reader for each in found.choices if each.verdict is not Signing.ACCEPTED}
    open_ends = [each for each in found.receipts if each.accepted_at is None and each.reader not in unsigned]
    until = f" (until {moment(found.expires_at)})" if found.expires_at else ""
    return (
        Line(f"Receipts of: {safe_text(found.subject)}", Tone.HEADING),
        *(line for _, line in sorted(events, key=lambda event: event[0])),
        *(
            Line(f"  - {'':<20}  {_reader(each, names)} has sent no receipt (it may have been read all the same)")
            for each in open_ends
        ),
        *(
            Line(f"  - {'':<20}  {_name(each.reader, each.reader_name)} has not signed for it yet{until}")
            for each in found.choices
            if each.verdict is Signing.WAITING
        ),
    )


def _event(when: datetime, good: bool, text: str) -> Line:
    mark, tone = ("✓", Tone.GOOD) if good else ("✗", Tone.BAD)
    return Line(f"  {mark} {moment(when)}  {text}", tone)


def _choice_event(found: ChoiceStatus, otherwise: datetime, names: Names) -> tuple[datetime, Line]:
    who, when = _name(found.reader, found.reader_name or names.get(found.reader, "")), found.recorded_at or otherwise
    if found.verdict is Signing.ACCEPTED:
        return when, _event(when, True, f"signed for by {who} with their Citizen Card, verified now")
    if found.verdict is Signing.REFUSED:
        why = f": {safe_text(found.reason)}" if found.reason else ""
        return when, _event(when, True, f"refused by {who} with their Citizen Card, verified now{why}")
    if found.verdict is Signing.EXPIRED:
        return when, Line(f"  - {moment(when)}  {who} has not signed for it in time")
    failed = "; ".join(f"{check.name}: {safe_text(check.reason)}" for check in found.checks if not check.passed)
    return when, _event(when, False, f"FAILED: what is said of {who}'s signature does not hold. ({failed})")


def _receipt_event(found: ReceiptStatus, otherwise: datetime, names: Names) -> tuple[datetime, Line]:
    who, when = _reader(found, names), found.read_at or found.accepted_at or otherwise
    if found.verdict is Verdict.VERIFIED:
        return when, _event(when, True, f"read by {who}: receipt signed by their Citizen Card, verified now")
    failed = "; ".join(f"{check.name}: {safe_text(check.reason)}" for check in found.checks if not check.passed)
    return when, _event(
        when, False, f"FAILED: a receipt in the name of {who} does not hold. Do not rely on it. ({failed})"
    )


def _reader(found: ReceiptStatus, names: Names) -> str:
    return _name(found.reader, found.reader_name or names.get(found.reader, ""))


def problem(error: ClientError) -> Lines:
    """What happened, why it matters, what to do next, and every check where there were several."""
    failed = isinstance(error, CheckFailed)
    rest = tuple(Line(safe_text(text)) for text in (error.why, error.action) if text)
    checks = _checks(error.checks) if isinstance(error, CheckFailed) else ()
    return (Line(safe_text(error.what), Tone.BAD if failed else Tone.HEADING), *rest, *checks)


def refused(error: ClientError) -> Lines:
    """What stands in the place of a letter that was not opened."""
    if not isinstance(error, CheckFailed):
        return problem(error)
    return (Line("REFUSED: this is not shown as a letter.", Tone.BAD), *problem(error))


def unforeseen(error: BaseException) -> Lines:
    """An error of this program."""
    return problem(
        ClientError(
            f"An error of this program: {type(error).__name__}.",
            "What was begun is kept.",
            "Report it, with what smr --verbose shows for the same command.",
        )
    )


def signature_question(found: SignatureRequest) -> Lines:
    """Before a letter is signed for that opens only then."""
    return (
        Line("Sign for this letter?", Tone.HEADING),
        *(Line(f"{name:<8}  {value}") for name, value in signature_lines(found)),
        Line("It opens when your card has signed; its sender gets that signature before you can read it."),
        Line("No leaves it as it is; x, in the list, refuses it for good."),
    )


def refusal_question(row: LetterRow, reason: str) -> Lines:
    """Before a refusal to sign for a letter is signed."""
    return (
        Line("Refuse to sign for this letter?", Tone.HEADING),
        Line(f"From      {row.who}"),
        Line(f"Letter    {row.name.partition('@')[0]}, received {row.when}"),
        Line(f"Reason    {safe_text(reason) or '(none)'}"),
        Line("Your card signs that you do not take it. Its sender gets that, with the reason."),
        Line("It cannot be taken back: you will never be able to open this letter."),
    )


def receipt_question(found: ReadLetter) -> Lines:
    """Before a receipt is signed."""
    return (
        Line("Send a reading receipt?", Tone.HEADING),
        Line(f"Your card signs for {shown_name(found.author_name)} that you opened this letter:"),
        Line(safe_text(found.subject)),
        Line("It cannot be taken back."),
    )


def deletion_question(found: ListedLetter) -> Lines:
    """Before a letter is deleted."""
    return (
        Line("Delete this letter?", Tone.HEADING),
        *(Line(text) for text in deletion_lines(found)),
        Line("It goes from your mailbox, for good. Others keep theirs, and what was signed stays as evidence."),
    )


def deleted(found: Deleted) -> str:
    """One line about a letter that is gone."""
    return f"Letter {found.letter_id} {'was deleted before' if found.before else 'is deleted'}."


def addressees_of(found: ReadLetter, *, everybody: bool) -> tuple[Addressee, ...]:
    """Who gets an answer to this letter, its author first."""
    names = dict(zip(found.to, found.to_names, strict=True)) | {found.author: found.author_name}
    users = addressees(found.author, found.to, found.owner, everybody=everybody)
    ordered = sorted(users, key=lambda user: (user != found.author, names.get(user, "").casefold(), user))
    return tuple(Addressee(user, _name(user, names.get(user, ""))) for user in ordered)


def answer_subject(found: ReadLetter) -> str:
    """The subject that stands there before an answer is written: what is signed is what is shown."""
    return answering(safe_text(found.subject))


def beside(files: Sequence[LocalFile], days: int | None) -> str:
    """What goes with a letter that is being written; empty when it is the letter alone."""
    parts = []
    if files:
        names = ", ".join(safe_text(each.name) for each in files)
        parts.append(f"{len(files)} file{'s' * (len(files) > 1)}, {size(sum(each.size for each in files))}: {names}")
    if days is not None:
        parts.insert(0, f"Opens when signed for, within {days} day{'s' * (days > 1)}")
    return "; ".join(parts)


def file_cells(found: LocalFile) -> tuple[str, str, str]:
    """A file in the list of those that go with a letter."""
    return safe_text(found.name), size(found.size), safe_text(str(found.path.parent))


def folder_question(found: ReadLetter) -> Lines:
    """Before attachments are saved."""
    total = size(sum(each.size for each in found.attachments))
    names = ", ".join(safe_text(each.name) for each in found.attachments)
    return (
        Line(f"Save {names} ({total}) in which folder?", Tone.HEADING),
        Line("It is made when it is missing. No file that is there is written over."),
    )


def saved(found: ReadLetter) -> str:
    """One line about attachments that were saved."""
    folders = {each.path.parent for each in found.attachments if each.path is not None}
    where = ", ".join(safe_text(str(Path(each))) for each in sorted(folders))
    return f"Checked and saved in {where}."


def transfer(found: Transfer, rate: float) -> str:
    """How far an attachment is, its rate and the time left."""
    doing = "Sending" if found.upload else "Fetching"
    text = f"{doing} {_short(safe_text(found.name))}: {size(found.done)} of {size(found.size)}"
    if not rate or found.done >= found.size:
        return text
    return f"{text}, {size(int(rate))}/s, {_duration((found.size - found.done) / rate)} left"


def _short(text: str) -> str:
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 3]}..."


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds) + 1, 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def news(found: Arrival, names: Names) -> str:
    """One line about something that came; empty for what the person has just done."""
    if found.kind == "sent":
        return "" if found.good else _ALARMING
    if found.letter is not None or found.kind == "letter":
        return _letter_news(found, names)
    about = f"letter {safe_text(found.name)}"
    if not found.good:
        return f"A {found.kind} came for {about} that does not hold. Do not rely on it; t tells more."
    if found.receipt is not None:
        return f"New: {_reader(found.receipt, names)} has read {about}; t shows the receipt."
    return f"New: {_CHOSEN.get(found.kind, found.kind)} for {about}; t verifies and shows it."


def _letter_news(found: Arrival, names: Names) -> str:
    if found.letter is None or not found.good or not found.letter.good:
        return _ALARMING
    row = _letter_row(found.letter, names)
    return f"New: letter from {row.who}: {row.subject}"


def trouble(error: ClientError) -> str:
    """One line while what comes cannot be heard of."""
    return f"{safe_text(error.what)} It is tried again."


def unwatched(error: BaseException) -> str:
    """One line when what comes is not shown by itself any more."""
    if isinstance(error, CheckFailed):
        return f"A CHECK FAILED while watching: {safe_text(error.what)} g looks again."
    return "What comes is not shown by itself now: g looks."


def help_lines(title: str, keys: Sequence[Key]) -> Lines:
    """What the keys do."""
    return (Line(f"Keys: {title}", Tone.HEADING), *(Line(f"  {each.name:<4}  {each.does}") for each in keys))


def sent(found: Sent) -> str:
    """One line about a letter that was accepted."""
    names = ", ".join(shown_name(each.name) for each in found.to)
    return f"Letter {found.name} to {names} was accepted, entry {found.number} of your mailbox."


def refusal_sent(found: Refused) -> str:
    """One line about a refusal that the repository has."""
    return f"You refused to sign for letter {found.letter_id}; its sender gets that."


def receipt_sent(found: ReceiptSent) -> str:
    """One line about a receipt that the repository has."""
    return f"The receipt for {found.letter_id} was accepted." if found.accepted_at else "It had a receipt before."


def resumed(found: Sequence[Resumed]) -> Lines:
    """What an earlier run could not finish, and how it ended now."""
    return tuple(
        Line(
            f"{each.command} of letter {each.letter_id}, which had no answer before, "
            + (f"was refused: {safe_text(each.problem)}" if each.problem else "was accepted now")
        )
        for each in found
    )
