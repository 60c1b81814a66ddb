"""Writing: a letter to people who are confirmed, or the answer to one that was read; with files, for a signature."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Input, Static, TextArea

from client.api import Repository
from client.commands.read import ReadLetter
from client.commands.send import SIGN_FOR_DAYS, SIGN_FOR_DAYS_MAX, Sent
from client.errors import LetterKept
from client.state.people import KnownPerson
from client.ui import model
from client.ui.files import FilesScreen
from client.ui.host import HostScreen
from client.ui.model import Line
from client.ui.prompts import Entry, Field, Notice, Question
from client.ui.widgets import Rows, State, Title
from client.uploads import LocalFile
from crypto_core.ids import UserId

_DISCARD = (Line("Throw this letter away?"), Line("It was not sent, and it is kept nowhere."))
_COLUMNS = (("to", 3), ("name", 55), ("id", model.ID_DIGITS))
_MARKS = {True: "[x]", False: "[ ]"}


class Choices(Rows):
    """People, of whom any number can be chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("space,enter", "select_cursor", "Choose", key_display="space")]


class Beside(Static):
    """What goes with the letter; nothing where it is the letter alone."""

    def __init__(self) -> None:
        super().__init__(markup=False)


@dataclass(frozen=True, slots=True)
class Written:
    """A letter as it stands on the screen. `days`: within how many it is to be signed for, if it is."""

    subject: str
    text: str
    files: tuple[Path, ...]
    days: int | None

    @property
    def body(self) -> bytes:
        return self.text.encode("utf-8")


class Writing(HostScreen):
    """A letter that is not signed yet. It leaves this screen signed and sealed, or not at all."""

    TITLE_TEXT: ClassVar[str]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "send", "Sign and send", priority=True, tooltip="your card signs it; it is sealed and sent"),
        Binding("ctrl+o", "files", "Files", tooltip="files that go with it, up to 2 GiB each"),
        Binding("ctrl+g", "sign_for", "Sign-for", tooltip="it opens when its readers sign for it; again: it does not"),
        Binding("tab", "app.focus_next", "Next", tooltip="to the next field: people (Space chooses), subject, text"),
        Binding("f1", "help", "Help", tooltip="this list"),
        Binding("escape", "back", "Throw away", tooltip="stops what is under way; else throws the letter away"),
    ]

    def __init__(self, subject: str = "") -> None:
        super().__init__(classes="writing")
        self._subject = subject
        self._files: list[LocalFile] = []
        self._days: int | None = None

    @abc.abstractmethod
    def rows(self) -> Sequence[tuple[str, str, str]]:
        """Who can be written to: a mark, a name, the beginning of an id."""

    @abc.abstractmethod
    def toggle(self, at: int) -> None:
        """Chooses who stands in a row, or does not."""

    @abc.abstractmethod
    def missing(self) -> str:
        """Why it cannot be sent as it is; empty when it can."""

    @abc.abstractmethod
    def post(self, repository: Repository, letter: Written) -> Sent:
        """Has the library send it: in its thread."""

    def compose(self) -> ComposeResult:
        yield Title(self.TITLE_TEXT)
        yield Choices(_COLUMNS, id="to")
        yield Input(self._subject, placeholder="subject", compact=True)
        yield TextArea(compact=True)
        yield Beside()
        yield State()
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self._show_people()
        self._show_beside()

    def _show_people(self) -> None:
        self.query_one(Choices).fill(self.rows())

    def _show_beside(self) -> None:
        shown, text = self.query_one(Beside), model.beside(self._files, self._days)
        shown.update(text)
        shown.display = bool(text)

    def on_data_table_row_selected(self) -> None:
        at = self.query_one(Choices).cursor_row
        if 0 <= at < len(self.rows()):
            self.toggle(at)
            self._show_people()

    def action_files(self) -> None:
        """Chooses files that go with it."""
        if self.host.working:
            self.app.bell()
        else:
            self.app.push_screen(FilesScreen(self._files), lambda _: self._show_beside())

    def action_sign_for(self) -> None:
        """Asks until when it is to be signed for; if it was, it is not any more."""
        if self._days is not None:
            self._set_days(None)
            return

        def answered(text: str | None) -> None:
            if text is None:
                return
            if not text.strip().isdecimal() or not 1 <= int(text) <= SIGN_FOR_DAYS_MAX:
                self.host.say(f"That is no number of days from 1 to {SIGN_FOR_DAYS_MAX}.")
            else:
                self._set_days(int(text))

        self.app.push_screen(Entry(model.SIGN_FOR_QUESTION, Field(str(SIGN_FOR_DAYS))), answered)

    def _set_days(self, days: int | None) -> None:
        self._days = days
        self._show_beside()

    def leave(self) -> None:
        """Back, after a question if something was written."""
        begun = self.query_one(TextArea).text or self.query_one(Input).value != self._subject
        if not begun and not self._files:
            super().leave()
            return

        def answered(yes: bool | None) -> None:
            if yes:
                super(Writing, self).leave()

        self.app.push_screen(Question(_DISCARD), answered)

    def action_send(self) -> None:
        """Signs, seals and sends."""
        missing = self.missing()
        if missing:
            self.host.say(missing)
        else:
            self.host.start(self._send)

    async def _send(self) -> None:
        files = tuple(each.path for each in self._files)
        letter = Written(self.query_one(Input).value, self.query_one(TextArea).text, files, self._days)
        try:
            sent = await self.host.desk.call(lambda repository: self.post(repository, letter))
        except LetterKept as kept:
            # It is signed and in the outbox: whoever sends it from here again sends it twice.
            self.dismiss()
            self.app.push_screen(Notice(model.problem(kept)))
            return
        self.host.say(model.sent(sent))
        self.dismiss()


class Compose(Writing):
    """A new letter."""

    NAME = "a new letter"
    TITLE_TEXT = "smr  New letter"

    def __init__(self, known: Sequence[KnownPerson], to: UserId | None) -> None:
        super().__init__()
        self._people = [row for row in model.known_rows(known) if row.confirmed]
        self._to = {to} if to is not None else set()

    def on_mount(self) -> None:
        if not self._people:
            self.host.say("Nobody is confirmed yet: Esc, then p finds people, and Enter confirms them.")
        self.query_one(Input if self._to else Choices).focus()

    def rows(self) -> Sequence[tuple[str, str, str]]:
        return [(_MARKS[row.user in self._to], row.name, row.user.hex()[: model.ID_DIGITS]) for row in self._people]

    def toggle(self, at: int) -> None:
        self._to ^= {self._people[at].user}

    def missing(self) -> str:
        return "" if self._to else "Choose somebody to write to, with Space in the list of people."

    def post(self, repository: Repository, letter: Written) -> Sent:
        to = [user.hex() for user in sorted(self._to)]
        return repository.send(to, letter.body, letter.subject, letter.files, sign_for_days=letter.days)


class Answer(Writing):
    """The answer to a letter that was read: to its author, and to its other readers if they are chosen."""

    NAME = "an answer"
    TITLE_TEXT = "smr  Answer  (your signed letter names the one that it answers)"

    def __init__(self, to: ReadLetter) -> None:
        super().__init__(model.answer_subject(to))
        self._answered = to
        self._everybody = False

    def on_mount(self) -> None:
        self.query_one(TextArea).focus()

    def rows(self) -> Sequence[tuple[str, str, str]]:
        chosen = model.addressees_of(self._answered, everybody=self._everybody)
        all_ = model.addressees_of(self._answered, everybody=True)
        return [(_MARKS[each in chosen], each.name, each.user.hex()[: model.ID_DIGITS]) for each in all_]

    def toggle(self, at: int) -> None:
        """Its author gets it in any case; the others, all or none."""
        if at == 0 or self._answered.mine:
            self.host.say("It goes to them in any case.")
        else:
            self._everybody = not self._everybody

    def missing(self) -> str:
        return ""

    def post(self, repository: Repository, letter: Written) -> Sent:
        return repository.reply(
            self._answered.full_name,
            letter.body,
            everybody=self._everybody,
            subject=letter.subject,
            attachments=letter.files,
            sign_for_days=letter.days,
        )
