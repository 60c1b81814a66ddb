"""What goes to the terminal: plain in a pipe, without Unicode where the terminal has none, colour never alone.

Texts and names of other people never reach the terminal raw: they go through `pki.display` first.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TextIO

from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Progress

SPINNER_AFTER_SECONDS: Final = 0.5  #: a shorter wait needs no word
PIPE_COLUMNS: Final = 200


class Screen:
    """Standard output for results, standard error for everything else."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.unicode = _can_unicode(sys.stdout)
        self._out = _console(sys.stdout)
        self._err = _console(sys.stderr)
        self._status: Status | None = None
        self._bar: Progress | None = None
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def line(self, text: str = "", style: str = "") -> None:
        """One line of the result. `text` holds nothing of others that did not go through `pki.display`."""
        self._out.print(Text(text, style=style), soft_wrap=True)

    def note(self, text: str, style: str = "") -> None:
        """One line for the person, outside of the result."""
        self._err.print(Text(text, style=style), soft_wrap=True)

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Names and values in two columns."""
        width = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            self.line(f"  {name:<{width}}  {value}")

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table: with lines on a terminal, aligned columns in a pipe."""
        if not sys.stdout.isatty():
            widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
            for row in (headings, *rows):
                self.line("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
            return
        table = Table(box=box.SQUARE if self.unicode else box.ASCII)
        for heading in headings:
            table.add_column(heading, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self._out.print(table)

    def mark(self, passed: bool | None) -> str:
        """✓, ✗ or a dash, or words where the terminal has no Unicode."""
        if passed is None:
            return "-"
        if self.unicode:
            return "✓" if passed else "✗"
        return "[ok]" if passed else "[FAILED]"

    def json(self, value: Any) -> None:
        """The one JSON document of a command."""
        sys.stdout.write(json.dumps(value, ensure_ascii=not self.unicode, indent=2) + "\n")

    def json_line(self, value: Any) -> None:
        """One of many JSON documents, on a line of its own, there at once for who reads."""
        sys.stdout.write(json.dumps(value, ensure_ascii=not self.unicode) + "\n")
        sys.stdout.flush()

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Says what is awaited, if it takes longer than half a second and somebody looks."""
        if self._timer is not None or not sys.stderr.isatty():
            yield
            return
        self._timer = threading.Timer(SPINNER_AFTER_SECONDS, self._show, [what])
        self._timer.daemon = True
        self._timer.start()
        try:
            yield
        finally:
            self.quiet()
            self._timer = None

    def transferred(self, name: str, done: int, size: int) -> None:
        """How far a transfer is (bytes), with its rate and the time left, if somebody looks."""
        if self.as_json or not sys.stderr.isatty():
            return
        if self._bar is None and done < size:
            self.quiet()
            with self._lock:
                self._bar = _bar(self._err, name, done, size)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done)
            if done >= size:
                self.quiet()

    def quiet(self) -> None:
        """Takes spinner and bar away, before a question or when the wait is over."""
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            if self._status is not None:
                self._status.stop()
                self._status = None
            if self._bar is not None:
                self._bar.stop()
                self._bar = None

    def _show(self, what: str) -> None:
        with self._lock:
            if self._bar is not None:
                return  # a terminal shows one of both
            spinner = "dots" if _can_unicode(sys.stderr) else "line"
            self._status = Status(f"waiting for {what} ...", console=self._err, spinner=spinner)
            self._status.start()


def _bar(console: Console, name: str, done: int, size: int) -> Progress:
    # Imported here: few commands show a bar, and every one would start more slowly.
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    bar.add_task(name, total=size, completed=done)
    bar.start()
    return bar


def fills_terminal() -> bool:
    """Is there a terminal on both sides that can show a whole screen?"""
    return sys.stdin.isatty() and sys.stdout.isatty() and _can_unicode(sys.stdout)


def moment(value: datetime) -> str:
    """A time as people here read it."""
    return value.astimezone().strftime("%d %b %Y %H:%M:%S")


def json_moment(value: datetime | None) -> str | None:
    """A time as programs read it: RFC 3339, UTC."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if value else None


def _console(stream: TextIO) -> Console:
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        # A name that the terminal cannot write is shown as an escape; it must not end the program.
        reconfigure(errors="backslashreplace")
    width = None if stream.isatty() else PIPE_COLUMNS
    return Console(file=stream, highlight=False, markup=False, emoji=False, width=width, no_color=_no_color())


def _no_color() -> bool | None:
    return True if os.environ.get("NO_COLOR") else None


def _can_unicode(stream: TextIO) -> bool:
    try:
        "✓✗─│●".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
