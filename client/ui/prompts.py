"""Questions that stand before everything else: a secret, a line, a yes or no, something that must be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from client.ui.model import Line, Tone
from client.ui.widgets import Pane, content

T = TypeVar("T")


class Field(Input):
    """A line to be written."""

    def __init__(self, value: str = "", *, secret: bool = False) -> None:
        super().__init__(value, password=secret, compact=True)

    def take(self) -> str:
        """What was typed, which is gone from here then."""
        value, self.value = self.value, ""
        return value


class SecretField(Field):
    """A line of which nothing is shown, copied or kept."""

    def __init__(self) -> None:
        super().__init__(secret=True)

    def action_copy(self) -> None:
        """Nothing: a secret goes to no clipboard."""

    def action_cut(self) -> None:
        """Nothing: a secret goes to no clipboard."""

    def on_unmount(self) -> None:
        self.value = ""


class Entry(ModalScreen[str | None]):
    """Asks for a line, which may be there already; None when it is declined."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "decline", "Do not answer")]

    def __init__(self, question: Sequence[Line], field: Field) -> None:
        super().__init__()
        self._question = question
        self._field = field

    def compose(self) -> ComposeResult:
        with Vertical(classes="prompt"):
            yield Static(content(self._question))
            yield self._field
            yield Static("Enter: go on   Esc: stop", markup=False)

    def on_input_submitted(self) -> None:
        self.dismiss(self._field.take())

    def action_decline(self) -> None:
        self._field.take()
        self.dismiss(None)


class Secret(Entry):
    """Asks for a PIN or a passphrase."""

    def __init__(self, question: str) -> None:
        super().__init__([Line(f"{question}:", Tone.HEADING)], SecretField())


class _Shown(ModalScreen[T]):
    """Lines to look at, and below them the keys that go on from there."""

    KEYS: ClassVar[str]

    def __init__(self, lines: Sequence[Line]) -> None:
        super().__init__()
        self._lines = lines

    def compose(self) -> ComposeResult:
        with Vertical(classes="prompt"):
            yield Pane()
            yield Static(self.KEYS, markup=False)

    def on_mount(self) -> None:
        self.query_one(Pane).show(self._lines)


class Question(_Shown[bool]):
    """Asks for yes or no. No key but y means yes."""

    KEYS = "y: yes   n: no"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape", "answer(False)", "No"),
    ]

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


class Notice(_Shown[None]):
    """Something that must be seen."""

    KEYS = "Enter: go on"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,escape", "dismiss", "Go on")]
