"""`smr ui` at a keyboard, over a recorded mailbox: what stands there, what is asked, and that it never waits."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import ClassVar

import pytest
from textual.widgets import Input, TextArea

from client.commands.box import ListedLetter, Signature
from client.commands.choose import Refused
from client.commands.delete import Deleted
from client.commands.pending import Resumed
from client.commands.send import Recipient, Sent
from client.commands.status import ReceiptStatus, Verdict
from client.commands.watch import Arrival
from client.errors import CheckFailed, ClientError, LetterKept, MailboxAlarm, NotAllowed, Stopped, Unreachable
from client.settings import Front, Transfer
from client.ui.app import MailboxApp
from client.ui.compose import Compose
from client.ui.desk import Library
from client.ui.prompts import Notice, Secret
from client.ui.widgets import Rows
from tests.support.recorded_mailbox import (
    BAD,
    BRUNO,
    GOOD,
    JOAO,
    LETTERS,
    MARIA,
    STRANGER,
    RecordedMailbox,
    at,
    listed,
)
from tests.support.screens import PATIENCE_SECONDS, Keyboard, at_keyboard


def play(library: Library | type[RecordedMailbox], act: Callable[[Keyboard], Awaitable[None]]) -> None:
    async def run() -> None:
        async with at_keyboard(MailboxApp(library)) as keyboard:
            await act(keyboard)

    asyncio.run(run())


@pytest.fixture
def no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


def test_no_text_is_read_as_markup_and_none_steers_the_terminal():
    evil = "[bold]a[/bold] [red]b [@click=app.quit]c[/] \x1b]0;owned\x07 \u202edc [/] $x"
    letters = [dataclasses.replace(LETTERS[-1], subject=evil, author_name="[b]M[/b]")]

    async def act(keyboard: Keyboard) -> None:
        assert "[b]M[/b]" in keyboard.text()
        await keyboard.press("enter")
        await keyboard.idle()
        shown = keyboard.words()
        assert shown.count("[@click=app.quit]c[/]") >= 2  # in the subject and in the body
        assert shown.count("\\x1b]0;owned\\x07 \\u202edc [/] $x") >= 2
        for key in ("k", "r"):  # a question about it, and the beginning of an answer
            await keyboard.press(key)
            await keyboard.until("[bold]a[/bold]")
            strips = keyboard.app.screen._compositor.render_strips()
            assert not [each for strip in strips for each in strip if each.style and each.style.meta.get("@click")]
            assert not set(keyboard.text()) & {"\x1b", "\x07", "\u202e"}
            await keyboard.press("escape")
            await keyboard.idle()

    play(lambda front: RecordedMailbox(front, letters, evil), act)


def test_an_error_is_shown_character_by_character():
    class Lost(RecordedMailbox):
        def letters(self):
            raise Unreachable("[red]No[/red] \x1b[2J", "[b]why[/b]", "[@click=app.quit]what[/]")

    async def act(keyboard: Keyboard) -> None:
        assert isinstance(keyboard.app.screen, Notice)
        for words in ("[red]No[/red] \\x1b[2J", "[b]why[/b]", "[@click=app.quit]what[/]"):
            assert words in keyboard.text()
        await keyboard.press("enter")
        assert not isinstance(keyboard.app.screen, Notice)

    play(Lost, act)


def test_a_refused_letter_is_not_shown_as_one():
    async def act(keyboard: Keyboard) -> None:
        await keyboard.press("enter")
        await keyboard.idle()
        await keyboard.press("escape", "down", "down", "enter")
        await keyboard.until("REFUSED: this is not shown as a letter.")
        assert "✗ FAILED: It was changed after it was signed." in keyboard.text()
        for words in ("From  ", "Subject  ", "Olá João", "Reading receipt"):
            assert words not in keyboard.text()
        for key, words in (("k", "Read a letter that you received"), ("r", "Read a letter; then r answers it.")):
            await keyboard.press(key)
            await keyboard.idle()
            assert words in keyboard.text()

    play(RecordedMailbox, act)


@pytest.mark.usefixtures("no_colour")
def test_without_colour_everything_still_stands_there():
    async def act(keyboard: Keyboard) -> None:
        rows = keyboard.app.screen.query_one(Rows)
        await keyboard.press("down")
        strips = keyboard.app.screen._compositor.render_strips()
        lines = [strip for strip in strips if strip.text.strip()]
        assert all(
            colour is None or colour.is_default
            for strip in lines
            for each in keyboard.app._filters[-1].apply(list(strip), keyboard.app.screen.background_colors[1])
            if each.style is not None
            for colour in (each.style.color, each.style.bgcolor)
        )
        (chosen,) = [strip.text for strip in lines if any(each.style and each.style.reverse for each in strip)][1:]
        assert "Bruno Antunes" in chosen
        assert rows.cursor_row == 1
        for words in ("REFUSED", "sent", "read", "new"):
            assert words in keyboard.text()

    play(RecordedMailbox, act)


class Slow(RecordedMailbox):
    """Answers only when it is told to, or stopped."""

    go_on = threading.Event()

    def read(self, name: str, sign: object = None):
        with self.front.waiting("the card's signature"):
            while not self.go_on.wait(0.01):
                if self.front.stopped():
                    raise Stopped
        return super().read(name)


def test_the_keyboard_works_while_something_is_awaited_and_it_can_be_stopped():
    async def act(keyboard: Keyboard) -> None:
        await keyboard.press("enter")
        await keyboard.until("Waiting for the card's signature ... Esc stops it")
        await keyboard.press("down", "a")
        assert "new letters only" in keyboard.text()
        await keyboard.press("g", "c", "enter")  # one thing at a time: none of them begins
        assert not isinstance(keyboard.app.screen, Compose)
        await keyboard.press("escape")
        await keyboard.idle()
        assert "Stopped. What was begun is kept." in keyboard.text()
        assert "Waiting" not in keyboard.text()
        Slow.go_on.set()
        await keyboard.press("enter")
        await keyboard.until("Segue a ata")

    Slow.go_on.clear()
    play(Slow, act)


def test_leaving_does_not_wait_for_what_is_under_way():
    async def act(keyboard: Keyboard) -> None:
        await keyboard.press("enter")
        await keyboard.until("Waiting for the card's signature")
        await keyboard.press("q")

    Slow.go_on.clear()
    play(Slow, act)


class Asking(RecordedMailbox):
    """Asks for a secret before it gives the letters."""

    given: ClassVar[list[object]] = []

    def read(self, name: str, sign: object = None):
        self.given.append(self.front.secret("PIN of your card [b]signature[/b] key"))
        self.given.append(self.front.agree("Go on?"))
        return super().read(name)


def test_a_secret_is_neither_shown_nor_kept():
    pin = "72-x"

    async def act(keyboard: Keyboard) -> None:
        await keyboard.press("enter")
        await keyboard.until("PIN of your card [b]signature[/b] key:")
        await keyboard.write(pin)
        assert pin not in keyboard.text()
        prompt = keyboard.app.screen.query_one(Input)
        assert prompt.value == pin
        await keyboard.press("shift+home", "super+c", "ctrl+x")
        assert keyboard.app.clipboard == ""
        await keyboard.press("enter")
        assert prompt.value == ""
        await keyboard.until("Go on?")
        assert pin not in keyboard.text()
        await keyboard.press("y")
        await keyboard.until("Segue a ata")
        assert Asking.given == [pin, True]
        Asking.given.clear()
        gc.collect()
        assert not [each for each in gc.get_objects() if isinstance(each, Secret | Input) and pin in str(vars(each))]

    Asking.given.clear()
    play(Asking, act)


def test_a_question_that_is_withdrawn_forgets_what_was_typed():
    async def act(keyboard: Keyboard) -> None:
        await keyboard.press("enter")
        await keyboard.until("PIN of your card")
        await keyboard.write("7261")
        prompt = keyboard.app.screen.query_one(Input)
        await keyboard.press("ctrl+c")
        await keyboard.until("Stopped. What was begun is kept.")
        assert not isinstance(keyboard.app.screen, Secret)
        assert prompt.value == ""
        assert Asking.given == []

    Asking.given.clear()
    play(Asking, act)


def test_declining_a_secret_stops_what_asked_for_it():
    async def act(keyboard: Keyboard) -> None:
        await keyboard.press("enter")
        await keyboard.until("PIN of your card")
        await keyboard.write("12")
        await keyboard.press("escape")
        await keyboard.until("Stopped. What was begun is kept.")
        assert Asking.given == []

    Asking.given.clear()
    play(Asking, act)


class Sending(RecordedMailbox):
    """Takes letters, or fails as it is told."""

    taken: ClassVar[list[tuple[object, ...]]] = []
    error: ClassVar[Exception | None] = None

    def send(self, to, body, subject, attachments, *, sign_for_days):
        if self.error is not None:
            raise self.error
        self.taken.append((to, body, subject, attachments, sign_for_days))
        raise LetterKept("The repository gave no answer.", "The letter k7d2 is signed, sealed and kept here.")


async def write_letter(keyboard: Keyboard) -> None:
    await keyboard.press("c", "down", "space", "tab")
    await keyboard.write("[b]o[/b]")
    await keyboard.press("tab")
    await keyboard.write("Um\nDois")


def test_a_letter_that_is_kept_cannot_be_sent_twice():
    async def act(keyboard: Keyboard) -> None:
        await write_letter(keyboard)
        await keyboard.press("ctrl+s")
        await keyboard.until("is signed, sealed and kept here")
        await keyboard.press("enter")
        assert not isinstance(keyboard.app.screen, Compose)
        maria = next(each.author for each in LETTERS if each.author_name.startswith("Maria"))
        assert Sending.taken == [([maria.hex()], b"Um\nDois", "[b]o[/b]", (), None)]

    Sending.taken.clear()
    Sending.error = None
    play(Sending, act)


def test_a_letter_that_was_not_sent_stays_and_is_thrown_away_only_after_a_question():
    async def act(keyboard: Keyboard) -> None:
        await keyboard.press("c", "ctrl+s")
        assert "Choose somebody to write to" in keyboard.text()
        await keyboard.press("escape")  # nothing was written: nothing is asked
        await keyboard.until(lambda: not isinstance(keyboard.app.screen, Compose))
        await keyboard.idle()
        await write_letter(keyboard)
        await keyboard.press("ctrl+s")
        await keyboard.until("No repository.")
        await keyboard.press("enter")
        assert keyboard.app.screen.query_one(TextArea).text == "Um\nDois"
        await keyboard.press("escape", "n")
        assert isinstance(keyboard.app.screen, Compose)
        await keyboard.press("escape", "y")
        await keyboard.until(lambda: not isinstance(keyboard.app.screen, Compose))

    Sending.taken.clear()
    Sending.error = Unreachable("No repository.")
    play(Sending, act)


@pytest.mark.parametrize("error", [ValueError("the secret"), StopIteration("the secret")])
def test_a_fault_of_the_program_is_told_without_its_words(error):
    async def act(keyboard: Keyboard) -> None:
        await write_letter(keyboard)
        await keyboard.press("ctrl+s")
        await keyboard.until("An error of this program: ")
        assert "the secret" not in keyboard.text()

    Sending.error = error
    play(Sending, act)


def test_what_an_earlier_run_left_is_told():
    class Resuming(RecordedMailbox):
        def __init__(self, front: Front) -> None:
            super().__init__(front)
            self.resumed = (Resumed("send", "k7d2", ""), Resumed("receipt", "q9fm", "[b]no[/b]"))

    async def act(keyboard: Keyboard) -> None:
        await keyboard.until("send of letter k7d2, which had no answer before, was accepted now")
        assert "[b]no[/b]" in keyboard.text()

    play(Resuming, act)


class Answering(RecordedMailbox):
    """Takes answers, or fails as it is told; saves files, or fails as it is told."""

    taken: ClassVar[list[tuple[object, ...]]] = []
    error: ClassVar[Exception | None] = None

    def reply(self, letter, body, *, everybody, subject, attachments, sign_for_days):
        self.taken.append((letter, body, everybody, subject, attachments, sign_for_days))
        if self.error is not None:
            raise self.error
        recipients = (Recipient(MARIA, "Maria Conceição Reis"),)
        return Sent("k7d2", "k7d2", recipients, at(1, 1), 119, True)

    def read(self, name: str, folder: Path | None = None, *, sign: object = None):
        found = super().read(name, sign)
        if folder is None:
            return found
        if self.error is not None:
            raise self.error
        for done in (0, 1, 2):
            self.front.progress(Transfer("a\x1b.pdf", False, done, 2))
        saved = (dataclasses.replace(each, path=folder / each.name) for each in found.attachments)
        return dataclasses.replace(found, attachments=tuple(saved))


def test_an_answer_goes_with_files_to_whom_the_screen_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "planta [b].pdf"
    file.write_bytes(b"12345")
    to_three = [dataclasses.replace(LETTERS[-1], to=(JOAO, BRUNO, STRANGER))]

    async def act(keyboard: Keyboard) -> None:
        await keyboard.press("enter")
        await keyboard.until("From     Maria")
        await keyboard.press("r")
        rows = [line[:30].rstrip() for line in keyboard.text().splitlines()[2:5]]
        assert rows == [" [x]  Maria Conceição Reis", " [ ]  4d4d4d4d4d4d...", " [ ]  Bruno Antunes"]
        assert "Re: Ata da reunião de ontem" in keyboard.text()
        await keyboard.write("Sim.")
        await keyboard.press("ctrl+o")
        for name in ("nada.pdf", "."):  # neither is a file that can be attached
            await keyboard.write(name)
            await keyboard.press("enter")
            await keyboard.until(lambda: isinstance(keyboard.app.screen, Notice))
            await keyboard.press("enter")
            keyboard.app.screen.query_one(Input).clear()
        await keyboard.write(file.name)
        await keyboard.press("enter")
        await keyboard.until("planta [b].pdf goes with the letter")
        await keyboard.write(file.name)
        await keyboard.press("enter")
        await keyboard.until("That file is there already.")
        await keyboard.press("escape", "ctrl+g")
        await keyboard.press("backspace", "backspace", "0", "enter")
        assert "That is no number of days" in keyboard.text()
        await keyboard.press("ctrl+g", "backspace", "backspace", "7", "enter")
        assert "Opens when signed for, within 7 days; 1 file, 5 bytes: planta [b].pdf" in keyboard.text()
        await keyboard.press("ctrl+s")
        await keyboard.until("No repository.")
        await keyboard.press("enter")
        Answering.error = None
        await keyboard.press("shift+tab", "shift+tab", "down", "space")
        rows = [line[:5] for line in keyboard.text().splitlines()[2:5]]
        assert rows == [" [x] ", " [x] ", " [x] "]
        await keyboard.press("ctrl+g", "ctrl+o", "tab", "d", "escape")  # neither signature nor file
        assert "planta" not in keyboard.text()
        await keyboard.press("ctrl+s")
        await keyboard.until("to Maria Conceição Reis was accepted, entry 119")

    Answering.taken.clear()
    Answering.error = Unreachable("No repository.")
    play(lambda front: Answering(front, to_three), act)
    name = LETTERS[-1].full_name
    assert Answering.taken == [
        (name, b"Sim.", False, "Re: Ata da reunião de ontem", (file,), 7),
        (name, b"Sim.", True, "Re: Ata da reunião de ontem", (), None),
    ]


def test_files_are_saved_where_the_person_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def act(keyboard: Keyboard) -> None:
        await keyboard.press("s")
        assert "Read a letter that has files beside it" in keyboard.text()
        await keyboard.press("enter")
        await keyboard.until("Segue a ata")
        await keyboard.press("s")
        await keyboard.until("Save ata.pdf (84.2 KiB) in which folder?")
        await keyboard.press("escape")
        await keyboard.until("Nothing was saved.")
        await keyboard.press("s")
        await keyboard.until("in which folder?")
        keyboard.app.screen.query_one(Input).clear()
        await keyboard.write("aqui")
        await keyboard.press("enter")
        await keyboard.until("Checked and saved in ")
        shown = keyboard.app.screen._opened.attachments
        assert [each.path for each in shown] == [tmp_path / "aqui" / "ata.pdf"]
        Answering.error = CheckFailed("An attachment is not what its author signed, and was not kept.")
        await keyboard.press("s")
        await keyboard.until("in which folder?")
        await keyboard.press("enter")
        await keyboard.until("REFUSED: this is not shown as a letter.")
        assert "Segue a ata" not in keyboard.text()

    Answering.error = None
    play(Answering, act)


def test_a_transfer_tells_how_far_it_is_and_can_be_stopped():
    class Fetching(RecordedMailbox):
        def read(self, name: str, folder: Path | None = None, *, sign: object = None):
            if folder is None:
                return super().read(name, sign)
            for _ in range(6000):  # chunks that come so fast that nothing is waited for
                self.front.progress(Transfer("a\x1b[2J.pdf", False, 3 << 20, 10 << 20))
                time.sleep(0.01)
            raise AssertionError("it was not stopped")

    async def act(keyboard: Keyboard) -> None:
        await keyboard.press("enter")
        await keyboard.until("Segue a ata")
        await keyboard.press("s")
        await keyboard.until("in which folder?")
        await keyboard.press("enter")
        await keyboard.until("Fetching a\\x1b[2J.pdf: 3.0 MiB of 10.0 MiB")
        await keyboard.press("escape")
        await keyboard.until("Stopped. What was begun is kept.")

    play(Fetching, act)


class Arriving(RecordedMailbox):
    """Tells what is put into `coming`; gives the letters when `listing` is set, which are `there` then too."""

    coming: ClassVar[queue.Queue[Arrival | ClientError]] = queue.Queue()
    there: ClassVar[list[ListedLetter]] = []
    listing = threading.Event()

    def watch(self, *, stopped, trouble):
        while not stopped():
            with contextlib.suppress(queue.Empty):
                found = self.coming.get(timeout=0.05)
                if isinstance(found, Unreachable):
                    trouble(found)
                elif isinstance(found, ClientError):
                    raise found
                else:
                    yield found

    def letters(self):
        found = (*super().letters(), *self.there)
        assert self.listing.wait(PATIENCE_SECONDS)
        return found

    def read(self, name: str, sign: object = None):
        if all(each.full_name != name for each in self._letters):
            raise CheckFailed("This letter is not what it seems.", checks=BAD)
        return super().read(name)


@pytest.fixture
def arriving() -> type[Arriving]:
    Arriving.coming = queue.Queue()
    Arriving.there = []
    Arriving.listing.set()
    return Arriving


def arrived(about: ListedLetter, **changes: object) -> Arrival:
    values = {"kind": "letter", "letter_id": about.letter_id, "name": about.name, "author": about.author}
    return Arrival(**{"number": 9, "at": about.received_at, "good": True, "letter": about, **values, **changes})


def test_what_comes_is_shown_at_once_and_takes_nothing_from_who_is_writing(arriving):
    evil = listed("w5w5", BRUNO, "[b]Bruno[/b]", "[@click=app.quit]x[/]\x1b[2J", at(15, 0), read=False)
    bad = listed("y6y6", STRANGER, "Banco", "Pague já", at(15, 1), good=False, checks=BAD, read=False, to=())

    async def act(keyboard: Keyboard) -> None:
        await keyboard.press("down", "c", "tab")
        await keyboard.write("Assu")
        arriving.there.append(evil)
        arriving.coming.put(arrived(evil))
        await keyboard.until("New: letter from [b]Bruno[/b]: [@click=app.quit]x[/]\\x1b[2J")
        await keyboard.write("nto")
        assert keyboard.app.screen.query_one(Input).value == "Assunto"
        # The next list is made before another one comes, and has it not.
        arriving.listing.clear()
        await keyboard.press("escape", "y")
        await keyboard.until("At work")
        arriving.coming.put(arrived(bad, good=False))
        await keyboard.until("A letter came that a check refused: do not trust it.")
        arriving.listing.set()
        await keyboard.idle()
        assert "7 letters, 3 new, 2 REFUSED" in keyboard.text()
        assert "Banco" not in keyboard.text()
        assert "Pague" not in keyboard.text()
        assert keyboard.app.screen.query_one(Rows).cursor_row == 3  # on the letter that it was on
        await keyboard.press("up", "up", "up", "enter")
        await keyboard.until("REFUSED: this is not shown as a letter.")

    play(arriving, act)


def test_a_watch_that_ends_says_so_and_begins_again_with_the_next_look(arriving):
    receipt = ReceiptStatus(BRUNO, "Bruno Antunes", Verdict.VERIFIED, at(1, 1), at(1, 1), 7, GOOD)

    async def act(keyboard: Keyboard) -> None:
        arriving.coming.put(Unreachable("The connection to the broker was lost [b].", "Why.", "What."))
        await keyboard.until("The connection to the broker was lost [b]. It is tried again.")
        arriving.coming.put(arrived(LETTERS[1], kind="receipt", letter=None, receipt=receipt))
        await keyboard.until("New: Bruno Antunes has read letter 3xw1; t shows the receipt. (and 1 more)")
        assert not isinstance(keyboard.app.screen, Notice)
        await keyboard.press("a", "a")
        arriving.coming.put(MailboxAlarm("The mailbox contradicts itself \x1b[2J."))
        await keyboard.until("A CHECK FAILED while watching: The mailbox contradicts itself \\x1b[2J.")
        assert not isinstance(keyboard.app.screen, Notice)
        await keyboard.press("g")
        await keyboard.idle()
        await keyboard.until(lambda: "A CHECK FAILED" not in keyboard.text())
        arriving.coming.put(arrived(LETTERS[1], kind="refusal", letter=None))
        await keyboard.until("New: a refusal for letter 3xw1; t verifies and shows it.")

    play(arriving, act)


def test_without_a_session_nothing_is_watched_and_no_card_is_woken():
    class Closed(RecordedMailbox):
        open = True

        def show_session(self):
            return super().show_session() if Closed.open else None

        def watch(self, *, stopped, trouble):
            assert Closed.open
            return super().watch(stopped=stopped, trouble=trouble)

    async def act(keyboard: Keyboard) -> None:
        assert "What comes" not in keyboard.text()
        Closed.open = False  # it ends while it is watched
        await keyboard.until("What comes is not shown by itself now: g looks.")
        await keyboard.press("g")
        await keyboard.until("What comes is not shown by itself now: g looks.")

    play(Closed, act)


def test_a_letter_is_deleted_after_a_question():
    class Deleting(RecordedMailbox):
        gone: ClassVar[set[str]] = set()

        def letters(self):
            return tuple(each for each in super().letters() if each.full_name not in self.gone)

        def delete(self, letter, approve):
            if not approve(next(each for each in self._letters if each.full_name == letter)):
                raise NotAllowed("Nothing was deleted.")
            self.gone.add(letter)
            return Deleted("k7d2", MARIA, at(1, 1), before=False)

    async def act(keyboard: Keyboard) -> None:
        await keyboard.press("enter")
        await keyboard.until("Segue a ata")
        await keyboard.press("d")
        await keyboard.until("Delete this letter?")
        assert "by Maria Conceição Reis" in keyboard.text()
        await keyboard.press("enter", "escape")  # no key but y means yes
        await keyboard.until("Nothing was deleted.")
        assert "Segue a ata" in keyboard.text()
        await keyboard.press("d")
        await keyboard.until("Delete this letter?")
        await keyboard.press("y")
        await keyboard.until("Letter k7d2 is deleted.")
        assert "4 letters" in keyboard.text()
        assert "Segue a ata" not in keyboard.text()
        await keyboard.press("down", "d")
        await keyboard.until("which fails a check.")  # whose words stand nowhere
        await keyboard.press("n")
        await keyboard.until("Nothing was deleted.")

    play(Deleting, act)


def test_a_letter_to_be_signed_for_is_refused_after_two_questions():
    taken: list[tuple[str, str]] = []
    waiting = dataclasses.replace(LETTERS[-1], subject="", signature=Signature.WAITING)

    class Refusing(RecordedMailbox):
        def refuse(self, letter, reason):
            taken.append((letter, reason))
            return Refused("k7d2", MARIA, "Maria Conceição Reis", at(1, 1), reason)

    async def act(keyboard: Keyboard) -> None:
        await keyboard.press("x")
        await keyboard.until("Why do you refuse to sign for it?")
        await keyboard.press("escape")
        await keyboard.until("Nothing was signed.")
        await keyboard.press("x")
        await keyboard.until("Why do you refuse")
        await keyboard.write("Errado [b]")
        await keyboard.press("enter")
        await keyboard.until("Refuse to sign for this letter?")
        assert "Reason    Errado [b]" in keyboard.text()
        assert "It cannot be taken back" in keyboard.text()
        await keyboard.press("n")
        await keyboard.until("Nothing was signed.")
        assert not taken
        await keyboard.press("x")
        await keyboard.until("Why do you refuse")
        await keyboard.press("enter")
        await keyboard.until("Reason    (none)")
        await keyboard.press("y")
        await keyboard.until("You refused to sign for letter k7d2")
        await keyboard.press("down", "x")
        assert "Only a letter that asks for your signature can be refused." in keyboard.text()

    play(lambda front: Refusing(front, (LETTERS[0], waiting)), act)
    assert taken == [(waiting.full_name, "")]


@pytest.mark.parametrize(("keys", "help_key"), [((), "question_mark"), (("c",), "f1"), (("p",), "question_mark")])
def test_every_screen_says_what_its_keys_do(keys, help_key):
    async def act(keyboard: Keyboard) -> None:
        await keyboard.press(*keys)
        screen = keyboard.app.screen
        await keyboard.press(help_key)
        assert "Keys: " in keyboard.text()
        words = keyboard.words()
        assert all(each.tooltip and each.tooltip in words for each in type(screen).BINDINGS)

    play(RecordedMailbox, act)


def smr(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    found = {**os.environ, **environment}
    return subprocess.run(arguments, env=found, capture_output=True, text=True, timeout=60, check=False)


def test_without_a_terminal_it_says_what_to_use_instead(tmp_path):
    for arguments in (["ui"], ["ui", "--json"]):
        result = smr(sys.executable, "-m", "client", *arguments, SMR_HOME=str(tmp_path))
        assert result.returncode == 2
        assert "smr list" in result.stdout + result.stderr


def test_no_other_command_loads_the_full_screen(tmp_path):
    code = "import sys, client.cli.app, client.api, client.cli.views; sys.exit('textual' in sys.modules)"
    assert smr(sys.executable, "-c", code).returncode == 0


def test_nothing_records_what_is_typed(tmp_path):
    log = tmp_path / "log"
    code = (
        "import sys, types, client.ui\n"
        "seen = types.ModuleType('client.ui.app')\n"
        "class MailboxApp:\n"
        "    def __init__(self, library): pass\n"
        "    def run(self):\n"
        "        import textual.constants as c, os\n"
        "        sys.exit(c.LOG_FILE is not None or c.DEBUG or c.PRESS or bool(os.environ.get('TEXTUAL')))\n"
        "seen.MailboxApp = MailboxApp\n"
        "sys.modules['client.ui.app'] = seen\n"
        "client.ui.show(None)\n"
    )
    recording = {"TEXTUAL_LOG": str(log), "TEXTUAL": "devtools,debug", "TEXTUAL_DEBUG": "1", "TEXTUAL_PRESS": "q"}
    assert smr(sys.executable, "-c", code, **recording).returncode == 0
