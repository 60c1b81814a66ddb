"""Files that go with a letter: added by their names, taken out again. Each is looked at before it is in the list."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Input

from client.ui import model
from client.ui.host import HostScreen
from client.ui.widgets import Rows, State, Title
from client.uploads import LocalFile

_COLUMNS = (("name", 34), ("size", 10), ("folder", 28))


class FilesScreen(HostScreen):
    """A list that it changes: the caller's."""

    NAME = "files beside a letter"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "take_out", "Take out", tooltip="in the list: the chosen file does not go with the letter"),
        Binding("tab", "app.focus_next", "Next", tooltip="between the name (Enter adds it) and the list"),
        Binding("f1", "help", "Help", tooltip="this list"),
        Binding("escape", "back", "Back", tooltip="back to the letter"),
    ]

    def __init__(self, files: list[LocalFile]) -> None:
        super().__init__()
        self._files = files

    def compose(self) -> ComposeResult:
        yield Title("smr  Files beside the letter")
        yield Input(placeholder="a file, as /home/... or ~/...; Enter adds it", compact=True)
        yield Rows(_COLUMNS, id="files")
        yield State()
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self._show()
        self.query_one(Input).focus()

    def _show(self) -> None:
        self.query_one(Rows).fill([model.file_cells(each) for each in self._files])

    def on_input_submitted(self) -> None:
        if self.query_one(Input).value:
            self.host.start(self._add)

    async def _add(self) -> None:
        path = typed_path(self.query_one(Input).value)
        paths = [each.path for each in self._files]
        found = await self.host.desk.call(lambda repository: repository.attachable([*paths, path]))
        new = found[-1]
        if new.path in paths:
            self.host.say("That file is there already.")
            return
        self._files[:] = found
        self._show()
        self.query_one(Input).clear()
        self.host.say(f"{model.file_cells(new)[0]} goes with the letter; Esc goes back to it.")

    def action_take_out(self) -> None:
        """Takes the chosen file out of the list."""
        at = self.query_one(Rows).cursor_row
        if 0 <= at < len(self._files) and not self.host.working:
            del self._files[at]
            self._show()


def typed_path(text: str) -> Path:
    """The path that a person typed, from the current folder or, after ~, from a home. Looks at no file."""
    return Path(os.path.abspath(os.path.expanduser(text)))  # noqa: PTH100, PTH111 - pathlib's would raise
