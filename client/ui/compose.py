"""Writing a letter to people who are confirmed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Input, TextArea

from client.errors import LetterKept
from client.state.people import KnownPerson
from client.ui import model
from client.ui.host import HostScreen
from client.ui.model import Line
from client.ui.prompts import Notice, Question
from client.ui.widgets import Rows, State, Title
from crypto_core.ids import UserId

_DISCARD = (Line("Throw this letter away?"), Line("It was not sent, and it is kept nowhere."))
_COLUMNS = (("to", 3), ("name", 55), ("id", model.ID_DIGITS))


class Choices(Rows):
    """People, of whom any number can be chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("space,enter", "select_cursor", "Choose", key_display="space")]


class Compose(HostScreen):
    """A letter that is not signed yet. It leaves this screen signed and sealed, or not at all."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "send", "Sign and send", priority=True),
        Binding("tab", "app.focus_next", "Next field"),
        Binding("escape", "back", "Throw away"),
    ]

    def __init__(self, known: Sequence[KnownPerson], to: UserId | None) -> None:
        super().__init__()
        self._people = [row for row in model.known_rows(known) if row.confirmed]
        self._to = {to} if to is not None else set()

    def compose(self) -> ComposeResult:
        yield Title("smr  New letter")
        yield Choices(_COLUMNS, id="to")
        yield Input(placeholder="subject", compact=True)
        yield TextArea(compact=True)
        yield State()
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self._show_people()
        if not self._people:
            self.host.say("Nobody is confirmed yet: Esc, then p finds people, and Enter confirms them.")
        self.query_one(Input if self._to else Choices).focus()

    def _show_people(self) -> None:
        marks = {True: "[x]", False: "[ ]"}
        rows = [(marks[row.user in self._to], row.name, row.user.hex()[: model.ID_DIGITS]) for row in self._people]
        self.query_one(Choices).fill(rows)

    def on_data_table_row_selected(self) -> None:
        at = self.query_one(Choices).cursor_row
        if 0 <= at < len(self._people):
            self._to ^= {self._people[at].user}
            self._show_people()

    def leave(self) -> None:
        """Back, after a question if something was written."""
        if not self.query_one(TextArea).text and not self.query_one(Input).value:
            self.dismiss()
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self.dismiss()

        self.app.push_screen(Question(_DISCARD), answered)

    def action_send(self) -> None:
        """Signs, seals and sends."""
        if not self._to:
            self.host.say("Choose somebody to write to, with Space in the list of people.")
        else:
            self.host.start(self._send)

    async def _send(self) -> None:
        to = [user.hex() for user in sorted(self._to)]
        subject, body = self.query_one(Input).value, self.query_one(TextArea).text.encode("utf-8")
        try:
            sent = await self.host.desk.call(lambda repository: repository.send(to, body, subject))
        except LetterKept as kept:
            # It is signed and in the outbox: whoever sends it from here again sends it twice.
            self.dismiss()
            self.app.push_screen(Notice(model.problem(kept)))
            return
        self.host.say(model.sent(sent))
        self.dismiss()
