"""The parts of the screens. They take what `model` made and show it character by character: nothing is markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content, Span
from textual.widgets import DataTable, Static

from client.ui.model import Line, Tone

_STYLES: Final = {
    Tone.PLAIN: "",
    Tone.HEADING: "bold",
    Tone.GOOD: "ansi_green",
    Tone.BAD: "bold reverse",
    Tone.QUOTED: "",
}


def content(lines: Iterable[Line]) -> Content:
    """Lines as a widget takes them."""
    text, spans = "", []
    for line in lines:
        start = len(text)
        text += line.text + "\n"
        if line.text and _STYLES[line.tone]:
            spans.append(Span(start, start + len(line.text), _STYLES[line.tone]))
    return Content(text.removesuffix("\n"), spans)


class Pane(VerticalScroll):
    """Lines that can be scrolled with the arrows. A bar stands beside what is quoted."""

    def compose(self) -> ComposeResult:
        yield Static(markup=False, id="before")
        yield Static(markup=False, id="quoted")
        yield Static(markup=False, id="after")

    def show(self, lines: Sequence[Line]) -> None:
        """Puts these lines in the place of others, and begins at their beginning."""
        quoted = [at for at, line in enumerate(lines) if line.tone is Tone.QUOTED]
        first, last = (quoted[0], quoted[-1] + 1) if quoted else (len(lines), len(lines))
        parts = {"before": lines[:first], "quoted": lines[first:last], "after": lines[last:]}
        for name, part in parts.items():
            shown = self.query_one(f"#{name}", Static)
            shown.update(content(part))
            shown.display = bool(part)
        self.scroll_home(animate=False)


class Rows(DataTable[Text]):
    """A table of which one row is chosen. `columns`: a heading and the number of characters of each."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "Choose")]

    def __init__(self, columns: Sequence[tuple[str, int]], id: str) -> None:  # noqa: A002 - the widget's own word
        super().__init__(id=id, cursor_type="row", zebra_stripes=False)
        self._headings = columns

    def on_mount(self) -> None:
        for heading, width in self._headings:
            self.add_column(Text(heading), width=width)

    def fill(self, rows: Sequence[Sequence[str]], cursor: int | None = None) -> None:
        """Puts these rows in the place of others; the cursor goes to a row, or stays where it was as far as it can."""
        row = self.cursor_row if cursor is None else cursor
        self.clear()
        for cells in rows:
            shown = (_cut(cell, width) for cell, (_, width) in zip(cells, self._headings, strict=True))
            self.add_row(*shown)
        self.move_cursor(row=min(row, max(len(rows) - 1, 0)))


def _cut(cell: str, width: int) -> Text:
    text = Text(cell, no_wrap=True)
    text.truncate(width, overflow="ellipsis")
    return text


class Title(Static):
    """The first line of a screen."""

    def __init__(self, text: str) -> None:
        super().__init__(text, markup=False)


class State(Static):
    """The line that says what is awaited, or what was done last."""

    def __init__(self) -> None:
        super().__init__(markup=False)
