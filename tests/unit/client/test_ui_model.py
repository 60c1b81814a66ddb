"""What the mailbox shows of the library's values: words, order, and nothing of others that could steer or deceive."""

from __future__ import annotations

import dataclasses
import unicodedata
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.commands.box import Signature
from client.commands.read import AttachedFile
from client.commands.status import ChoiceStatus, LetterStatus, ReceiptStatus, Signing, Verdict
from client.commands.watch import Arrival
from client.errors import CheckFailed, NotFound
from client.settings import Front, Transfer
from client.ui import model
from client.ui.model import Tone
from client.uploads import LocalFile
from tests.support.recorded_mailbox import BAD, BRUNO, ENTRY, GOOD, JOAO, KNOWN, LETTERS, MARIA, RecordedMailbox, at

NAMES = model.names_of(KNOWN)
HOSTILE = "a\x1b[2Jb\x07c\u202ed\x9be\nf\u200bg"


MAILBOX = RecordedMailbox(Front(lambda _: None, lambda _: False))


def recorded(**changes):
    found = MAILBOX.read(f"{LETTERS[-1].letter_id}@{MARIA.hex()}")
    return dataclasses.replace(found, **changes)


def arrival(kind, letter=None, receipt=None, *, good=True):
    return Arrival(kind, 9, at(1, 1), "k7d2", "k7d2", MARIA, good, letter, receipt)


def harmless(text: str) -> bool:
    return all(unicodedata.category(each) not in ("Cc", "Cf", "Zl", "Zp") for each in text.replace("\n", ""))


def test_letters_stand_newest_first_with_a_word_for_each_state():
    rows = model.letter_rows(LETTERS, NAMES)
    assert [row.state for row in rows] == ["new", "new", "REFUSED", "sent", "read"]
    assert [row.who for row in rows][3] == "to Maria Conceição Reis, Bruno Antunes"
    assert model.count(rows) == "5 letters, 2 new, 1 REFUSED"
    assert model.count(()) == "0 letters, 0 new"


def test_a_refused_letter_has_nothing_of_a_letter():
    evil = dataclasses.replace(LETTERS[2], author_name="Banco de Portugal", subject="Pague já")
    (row,) = model.letter_rows([evil], NAMES)
    assert not row.good
    assert "Banco" not in "".join(row.cells)
    assert "Pague" not in "".join(row.cells)


def test_who_is_not_known_is_called_by_the_beginning_of_the_id():
    (row,) = model.letter_rows([dataclasses.replace(LETTERS[1], to=(JOAO,))], {})
    assert row.who == f"to {JOAO.hex()[:12]}..."


def test_every_text_of_others_is_made_safe():
    letter = dataclasses.replace(LETTERS[-1], author_name=HOSTILE, subject=HOSTILE)
    texts = [*model.letter_rows([letter], NAMES)[0].cells]
    shown = recorded(
        author_name=HOSTILE,
        subject=HOSTILE,
        civil_number=HOSTILE,
        body=HOSTILE.encode(),
        to=(JOAO, MARIA),
        to_names=(HOSTILE, ""),
    )
    texts += [line.text for line in (*model.reading(shown), *model.receipt_question(shown))]
    check = dataclasses.replace(BAD[-1], meaning=HOSTILE, reason=HOSTILE)
    error = CheckFailed(HOSTILE, HOSTILE, HOSTILE, checks=(check,))
    texts += [line.text for line in model.refused(error)]
    evil = dataclasses.replace(
        MAILBOX.people("")[0], name=HOSTILE, civil_number=HOSTILE, issuer=HOSTILE, reason=HOSTILE
    )
    texts += [*model.people_rows([evil])[0].cells]
    texts += [*model.people_rows([dataclasses.replace(evil, verified=False)])[0].cells]
    texts += [line.text for line in model.certificate(evil)]
    texts += [*model.known_rows([dataclasses.replace(KNOWN[0], name=HOSTILE)])[0].cells]
    receipt = ReceiptStatus(BRUNO, HOSTILE, Verdict.FAILED, None, at(1, 1), 1, error.checks)
    texts += [line.text for line in model.timeline(status(receipt, subject=HOSTILE), NAMES)]
    file = LocalFile(Path("/home") / HOSTILE, HOSTILE, 1)
    saved = recorded(attachments=(AttachedFile(HOSTILE, "text/plain", 1, Path("/home") / HOSTILE),))
    row = dataclasses.replace(model.letter_rows([letter], NAMES)[0], waits=True)
    for lines in (
        model.folder_question(saved),
        model.reading(saved),
        model.refusal_question(row, HOSTILE),
        model.deletion_question(letter),
    ):
        texts += [line.text for line in lines]
    texts += [each.name for each in model.addressees_of(shown, everybody=True)]
    said = [model.beside([file], 3), *model.file_cells(file), model.saved(saved), model.answer_subject(shown)]
    said += [model.transfer(Transfer(HOSTILE, upload, 1, 2), 1.0) for upload in (True, False)]
    said += [model.trouble(error), model.unwatched(error), *model.letter_rows([letter], NAMES)[0].cells]
    for kind in ("letter", "sent", "receipt", "refusal"):
        said += [model.news(arrival(kind, about, who), {}) for about in (letter, None) for who in (receipt, None)]
    assert all(harmless(text) for text in (*texts, *said))
    assert "\\x1b" in "".join(texts)
    assert "\n" not in "".join(said)  # where there is one line


def test_reading_shows_the_checks_and_sets_the_words_of_the_letter_apart():
    lines = model.reading(recorded())
    checks = next(line.text for line in lines if line.text.startswith("Checks"))
    assert checks.count("✓") == len(GOOD)
    (quoted,) = [line for line in lines if line.tone is Tone.QUOTED]
    assert quoted.text.startswith("Olá João!\n")
    assert lines[-1].text == "Reading receipt: not sent. k signs and sends one."


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"receipt_sent": True}, "Reading receipt: sent."),
        ({"receipt_possible": False}, "not possible"),
        ({"mine": True, "receipt_possible": False}, "own copy"),
    ],
)
def test_what_is_said_of_the_receipt(changes, words):
    assert words in model.reading(recorded(**changes))[-1].text


def test_bytes_are_not_shown_as_text():
    (body,) = [line.text for line in model.reading(recorded(body=bytes(range(256)))) if line.tone is Tone.QUOTED]
    assert "256 bytes that are no text" in body


def status(*receipts: ReceiptStatus, subject: str = "Ata") -> LetterStatus:
    return LetterStatus("k7d2", subject, (MARIA, BRUNO), at(9, 0), at(9, 1), 118, GOOD, receipts, ENTRY)


def test_the_timeline_goes_by_time_and_says_who_has_not_answered():
    late = ReceiptStatus(MARIA, "Maria", Verdict.VERIFIED, at(12, 0), at(12, 1), 7, GOOD)
    early = ReceiptStatus(JOAO, "João", Verdict.VERIFIED, at(10, 0), at(10, 1), 7, GOOD)
    silent = ReceiptStatus(BRUNO, "", Verdict.NOT_CONFIRMED, None, None, 9, ())
    texts = [line.text for line in model.timeline(status(late, silent, early), NAMES)]
    order = ["signed by your", "accepted by the", "read by João", "read by Maria", "Bruno Antunes has sent no receipt"]
    assert [next(at for at, text in enumerate(texts) if words in text) for words in order] == [1, 2, 3, 4, 5]


def test_a_letter_that_opens_against_a_signature_says_so():
    waiting = dataclasses.replace(LETTERS[-1], subject="", signature=Signature.WAITING)
    (row,) = model.letter_rows([waiting], NAMES)
    assert (row.state, row.who, row.subject) == ("sign-for", "Maria Conceição Reis", "(opens when you sign)")
    opened = model.read_row(row, recorded(subject="Ata\x1b"))
    assert (opened.state, opened.subject) == ("read", "Ata\\x1b")


def test_the_timeline_shows_who_signed_for_a_letter():
    def chose(reader, verdict, when=None, reason=""):
        return ChoiceStatus(reader, "", verdict, when, when, reason, BAD if verdict is Signing.FAILED else GOOD)

    def texts(*choices: ChoiceStatus) -> str:
        silent = tuple(ReceiptStatus(each.reader, "", Verdict.NOT_CONFIRMED, None, None, 9, ()) for each in choices)
        found = dataclasses.replace(status(*silent), choices=choices, expires_at=at(23, 0))
        return "\n".join(line.text for line in model.timeline(found, NAMES))

    assert "signed for by Maria Conceição Reis" in texts(chose(MARIA, Signing.ACCEPTED, at(10, 0)))
    assert "Maria Conceição Reis has sent no receipt" in texts(chose(MARIA, Signing.ACCEPTED, at(10, 0)))
    refused = texts(chose(BRUNO, Signing.REFUSED, at(10, 0), HOSTILE))
    assert "refused by Bruno Antunes" in refused
    assert "has sent no receipt" not in refused  # who has not signed cannot have read it
    assert harmless(refused)
    assert "has not signed for it in time" in texts(chose(BRUNO, Signing.EXPIRED, at(10, 0)))
    assert "has not signed for it yet (until " in texts(chose(BRUNO, Signing.WAITING))
    failed = texts(chose(BRUNO, Signing.FAILED, at(10, 0)))
    assert "FAILED" in failed
    assert "signed for by" not in failed


def test_attachments_are_named_safely():
    files = (AttachedFile(HOSTILE, "text/plain", 12), AttachedFile("[b]a[/b].pdf", "application/pdf", 3))
    (line,) = [line.text for line in model.reading(recorded(attachments=files)) if line.text.startswith("Attached")]
    assert harmless(line)
    assert "[b]a[/b].pdf (3 bytes)" in line


def test_a_receipt_that_does_not_hold_is_no_reading():
    forged = ReceiptStatus(MARIA, "Maria", Verdict.FAILED, at(12, 0), at(12, 1), 7, BAD)
    (line,) = [line for line in model.timeline(status(forged), NAMES) if "Maria" in line.text]
    assert line.tone is Tone.BAD
    assert "does not hold" in line.text
    assert "read by" not in line.text


def test_only_a_failed_check_is_called_refused():
    assert "REFUSED" in model.refused(CheckFailed("a", checks=BAD))[0].text
    assert all("REFUSED" not in line.text for line in model.refused(NotFound("b", "c", "d")))


def test_people_who_can_be_written_to_come_first():
    rows = model.known_rows([KNOWN[2], KNOWN[0]])
    assert [(row.state, row.confirmed) for row in rows] == [("confirmed", True), ("-", False)]
    (person,) = MAILBOX.people("bruno")
    rows = model.people_rows([dataclasses.replace(person, verified=False, confirmed=True, reason="older"), person])
    standing = {(row.state, row.confirmed, row.verified) for row in rows}
    assert standing == {("confirmed", True, True), ("REFUSED", False, False)}


def test_moments_are_of_this_machine():
    when = datetime(2026, 11, 22, 14, 2, tzinfo=UTC)
    (row,) = model.letter_rows([dataclasses.replace(LETTERS[-1], received_at=when)], NAMES)
    assert row.when == f"{when.astimezone():%Y-%m-%d %H:%M}"


def test_what_came_is_told_in_one_line_and_what_fails_is_told_as_that():
    letter, receipt = LETTERS[-1], ReceiptStatus(BRUNO, "Bruno", Verdict.VERIFIED, at(1, 1), at(1, 1), 7, GOOD)
    assert model.news(arrival("letter", letter), NAMES) == (
        "New: letter from Maria Conceição Reis: Ata da reunião de ontem"
    )
    waiting = dataclasses.replace(letter, signature=Signature.WAITING)
    assert "(opens when you sign)" in model.news(arrival("letter", waiting), NAMES)
    assert model.news(arrival("receipt", None, receipt), NAMES).startswith("New: Bruno has read letter k7d2")
    assert model.news(arrival("expiry"), NAMES) == "New: an expiry for letter k7d2; t verifies and shows it."
    assert model.news(arrival("sent", letter), NAMES) == ""  # the person has just done that
    bad = dataclasses.replace(letter, good=False)
    for found in (
        arrival("letter", bad),
        arrival("letter", letter, good=False),
        arrival("letter"),
        arrival("sent", good=False),
    ):
        assert model.news(found, NAMES) == "A letter came that a check refused: do not trust it."
    assert "does not hold" in model.news(arrival("receipt", None, receipt, good=False), NAMES)
    assert "CHECK FAILED" in model.unwatched(CheckFailed("The mailbox contradicts itself."))
    assert "CHECK FAILED" not in model.unwatched(NotFound("No session."))


def test_an_answer_goes_to_whom_the_library_sends_it():
    def names(found, *, everybody: bool = False):
        return [each.name for each in model.addressees_of(found, everybody=everybody)]

    to_three = recorded(to=(JOAO, BRUNO), to_names=("João Sá", "Bruno Antunes"))
    assert names(to_three) == ["Maria Conceição Reis"]
    assert names(to_three, everybody=True) == ["Maria Conceição Reis", "Bruno Antunes"]
    own = dataclasses.replace(to_three, author=JOAO, author_name="João Sá", mine=True)
    assert names(own) == names(own, everybody=True) == ["Bruno Antunes"]
    assert names(dataclasses.replace(own, to=(JOAO,), to_names=("João Sá",))) == ["João Sá"]
    assert model.answer_subject(recorded(subject="re: ata")) == "re: ata"


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3072.0 GiB")],
)
def test_sizes_for_people(count, shown):
    assert model.size(count) == shown


def test_a_transfer_tells_rate_and_time_left_once_they_are_known():
    found = Transfer("a" * 40 + ".pdf", True, 25 << 20, 100 << 20)
    name = "a" * 27 + "..."
    assert model.transfer(found, 0.0) == f"Sending {name}: 25.0 MiB of 100.0 MiB"
    text = model.transfer(found, 1 << 20)
    assert text == f"Sending {name}: 25.0 MiB of 100.0 MiB, 1.0 MiB/s, 1 min 16 s left"
    assert "left" not in model.transfer(dataclasses.replace(found, done=found.size), 1 << 20)
