"""Questions that stand before everything else: a secret, a yes or no, an error that must be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from client.ui.model import Line, Tone
from client.ui.widgets import Pane, content


class SecretInput(Input):
    """A line of which nothing is shown, copied or kept."""

    def __init__(self) -> None:
        super().__init__(password=True, compact=True)

    def action_copy(self) -> None:
        """Nothing: a secret goes to no clipboard."""

    def action_cut(self) -> None:
        """Nothing: a secret goes to no clipboard."""

    def on_unmount(self) -> None:
        self.value = ""

    def take(self) -> str:
        """What was typed, which is gone from here then."""
        value, self.value = self.value, ""
        return value


class Secret(ModalScreen[str | None]):
    """Asks for a PIN or a passphrase; None when it is declined."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "decline", "Do not answer")]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        with Vertical(classes="prompt"):
            yield Static(content([Line(f"{self._question}:", Tone.HEADING)]))
            yield SecretInput()
            yield Static("Enter: go on   Esc: stop", markup=False)

    def on_input_submitted(self) -> None:
        self.dismiss(self.query_one(SecretInput).take())

    def action_decline(self) -> None:
        self.query_one(SecretInput).take()
        self.dismiss(None)


class Question(ModalScreen[bool]):
    """Asks for yes or no. No key but y means yes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape", "answer(False)", "No"),
    ]

    def __init__(self, lines: Sequence[Line]) -> None:
        super().__init__()
        self._lines = lines

    def compose(self) -> ComposeResult:
        with Vertical(classes="prompt"):
            yield Pane()
            yield Static("y: yes   n: no", markup=False)

    def on_mount(self) -> None:
        self.query_one(Pane).show(self._lines)

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


class Notice(ModalScreen[None]):
    """Something that must be seen."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,escape", "dismiss", "Go on")]

    def __init__(self, lines: Sequence[Line]) -> None:
        super().__init__()
        self._lines = lines

    def compose(self) -> ComposeResult:
        with Vertical(classes="prompt"):
            yield Pane()
            yield Static("Enter: go on", markup=False)

    def on_mount(self) -> None:
        self.query_one(Pane).show(self._lines)
