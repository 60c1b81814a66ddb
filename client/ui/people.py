"""People: who was met here before, who else is registered, and confirming them by their certificate."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Input

from client.commands.people import FoundPerson
from client.errors import NotAllowed
from client.ui import model
from client.ui.compose import Compose
from client.ui.host import HostScreen
from client.ui.model import PersonRow
from client.ui.widgets import Rows, State, Title

_COLUMNS = (("state", 9), ("name", 35), ("civil number", 14), ("id", model.ID_DIGITS))


class PeopleScreen(HostScreen):
    """A list that a search replaces. Records are verified before they are here."""

    NAME = "people"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "Confirm", show=False, tooltip="shows the chosen certificate, and confirms it"),
        Binding("c", "compose", "Compose", tooltip="writes to the chosen person, who is confirmed"),
        Binding("slash", "search", "Search", key_display="/", tooltip="in the repository, by name or id"),
        Binding("question_mark,f1", "help", "Help", key_display="?", tooltip="this list"),
        Binding("escape", "back", "Back", tooltip="stops what is under way; else back to the letters"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[PersonRow, ...] = ()

    def compose(self) -> ComposeResult:
        yield Title("smr  People  (whom you met here; / searches the repository)")
        yield Input(placeholder="part of a name, or an exact id; Enter searches", compact=True)
        yield Rows(_COLUMNS, id="people")
        yield State()
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self._show(model.known_rows(self.host.known))
        self.query_one(Rows).focus()

    def _show(self, rows: tuple[PersonRow, ...]) -> None:
        self._rows = rows
        self.query_one(Rows).fill([row.cells for row in rows])

    @property
    def _chosen(self) -> PersonRow | None:
        at = self.query_one(Rows).cursor_row
        return self._rows[at] if 0 <= at < len(self._rows) else None

    def action_search(self) -> None:
        """Goes to where the name is written."""
        self.query_one(Input).focus()

    def on_input_submitted(self) -> None:
        self.host.start(self._search)

    async def _search(self) -> None:
        query = self.query_one(Input).value.strip()
        found = await self.host.desk.call(lambda repository: repository.people(query))
        self._show(model.people_rows(found))
        self.host.say(f"{len(found)} found; every record was verified here." if found else "Nobody was found.")
        self.query_one(Rows).focus()

    def on_data_table_row_selected(self) -> None:
        self.action_choose()

    def action_choose(self) -> None:
        """Confirms the chosen person, after their certificate was looked at."""
        row = self._chosen
        if row is None:
            return
        if row.confirmed:
            self.host.say(f"{row.name} is confirmed. c writes a letter.")
        elif not row.verified:
            self.host.say("This record was refused: nothing can be sent to it.")
        else:
            self.host.start(lambda: self._confirm(row))

    async def _confirm(self, row: PersonRow) -> None:
        refused = False

        def approve(person: FoundPerson) -> bool:
            nonlocal refused
            refused = not self.host.desk.agree(model.certificate(person))
            return not refused

        try:
            await self.host.desk.call(lambda repository: repository.confirm(row.user.hex(), approve))
        except NotAllowed:
            if not refused:
                raise
            self.host.say(f"{row.name} was not confirmed.")
            return
        self.host.known = await self.host.desk.call(lambda repository: repository.known_people())
        self._show(model.known_rows(self.host.known))
        self.host.say(f"{row.name} is confirmed. c writes a letter.")

    def action_compose(self) -> None:
        """Writes to the chosen person."""
        row = self._chosen
        if row is None or not row.confirmed or self.host.working:
            self.host.say("Choose somebody who is confirmed; Enter confirms.")
        else:
            self.app.push_screen(Compose(self.host.known, row.user))
