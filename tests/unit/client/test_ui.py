"""`smr ui` at a keyboard, over a recorded mailbox: what stands there, what is asked, and that it never waits."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import ClassVar

import pytest
from textual.widgets import Input, TextArea

from client.commands.pending import Resumed
from client.errors import LetterKept, Stopped, Unreachable
from client.settings import Front
from client.ui.app import MailboxApp
from client.ui.compose import Compose
from client.ui.desk import Library
from client.ui.prompts import Notice, Secret
from client.ui.widgets import Rows
from tests.support.recorded_mailbox import LETTERS, RecordedMailbox
from tests.support.screens import Keyboard, at_keyboard


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
        await keyboard.press("r")
        assert "[bold]a[/bold]" in keyboard.words()
        strips = keyboard.app.screen._compositor.render_strips()
        assert not [each for strip in strips for each in strip if each.style and each.style.meta.get("@click")]
        assert not set(keyboard.text()) & {"\x1b", "\x07", "\u202e"}

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
        await keyboard.press("r")
        await keyboard.idle()
        assert "Read a letter that you received" in keyboard.text()

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

    taken: ClassVar[list[tuple[list[str], bytes, str]]] = []
    error: ClassVar[Exception | None] = None

    def send(self, to, body, subject):
        if self.error is not None:
            raise self.error
        self.taken.append((to, body, subject))
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
        assert Sending.taken == [([maria.hex()], b"Um\nDois", "[b]o[/b]")]

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


def test_a_fault_of_the_program_is_told_without_its_words():
    async def act(keyboard: Keyboard) -> None:
        await write_letter(keyboard)
        await keyboard.press("ctrl+s")
        await keyboard.until("An error of this program: ValueError.")
        assert "the secret" not in keyboard.text()

    Sending.error = ValueError("the secret")
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
