"""What every screen stands on: one thing under way at a time, what is awaited, what was done last, what went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final, TypeVar, cast

from textual.app import App
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen, Screen

from client.commands.box import ListedLetter
from client.commands.pending import Resumed
from client.commands.watch import Arrival
from client.errors import ClientError, Stopped
from client.settings import Transfer
from client.state.people import KnownPerson
from client.ui import model
from client.ui.desk import Desk, Library
from client.ui.model import Key, Lines
from client.ui.prompts import Notice, Question, Secret
from client.ui.watcher import Watcher
from client.ui.widgets import State

T = TypeVar("T")

_STOPS: Final = "Esc stops it"


class Host(App[None]):
    """The program without its looks."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "stop", "Stop", show=False, priority=True),
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True),
    ]

    def __init__(self, library: Library) -> None:
        # The terminal's own colours: readable on any ground, and none at all with NO_COLOR.
        super().__init__(ansi_color=True)
        self.desk = Desk(library, self)
        self.watcher = Watcher(library, self)
        self.known: tuple[KnownPerson, ...] = ()  #: who was met here before
        self.working = False
        self._under_way = ""
        self._said = ""
        self._news = ""
        self._more_news = 0

    @property
    def names(self) -> model.Names:
        return model.names_of(self.known)

    def start(self, job: Callable[[], Awaitable[None]]) -> None:
        """Begins a job, unless one is under way; what it raises is shown."""
        if self.working:
            self.bell()
            return
        self.working = True
        self._news, self._more_news = "", 0  # who goes on has seen it
        self._show_state()
        self.run_worker(self._guard(job), exit_on_error=False)

    async def _guard(self, job: Callable[[], Awaitable[None]]) -> None:
        try:
            await job()
        except Stopped as stopped:
            self.say(f"{stopped.what} {stopped.why}")
        except ClientError as error:
            self.push_screen(Notice(model.problem(error)))
        except Exception as error:  # noqa: BLE001 - the last boundary: a person never gets a bare exception
            self.push_screen(Notice(model.unforeseen(error)))
        finally:
            self.working = False
            self._show_state()

    def say(self, text: str) -> None:
        """One line that stays until the next; of others it holds only what `model` made safe."""
        self._said = text
        self._show_state()

    def action_stop(self) -> None:
        """Ends what is under way."""
        if self.desk.busy:
            self.desk.stop()
            self.show_waiting("the end of what was begun")

    async def ask_secret(self, question: str) -> str | None:
        return await self._answer(Secret(question))

    async def ask_agreement(self, question: Lines) -> bool:
        return await self._answer(Question(question)) is True

    async def _answer(self, screen: ModalScreen[T]) -> T | None:
        """How a question was answered. If it is withdrawn, its screen goes."""
        answered: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()

        def answer(given: T | None) -> None:
            if not answered.done():
                answered.set_result(given)

        self.push_screen(screen, answer)
        try:
            return await answered
        except asyncio.CancelledError:
            if screen.is_current:
                screen.dismiss()
            raise

    def show_waiting(self, what: str) -> None:
        self._under_way = f"Waiting for {what}" if what else ""
        self._show_state()

    def show_transfer(self, transfer: Transfer, rate: float) -> None:
        self._under_way = model.transfer(transfer, rate)
        self._show_state()

    def show_resumed(self, resumed: tuple[Resumed, ...]) -> None:
        self.push_screen(Notice(model.resumed(resumed)))

    def show_unread(self, letters: tuple[ListedLetter, ...]) -> None:
        self._arrived(letters)

    def show_arrival(self, arrival: Arrival) -> None:
        self._tell_news(model.news(arrival, self.names))
        if arrival.letter is not None:
            self._arrived((arrival.letter,))

    def show_trouble(self, error: ClientError) -> None:
        self._tell_news(model.trouble(error))

    def show_unwatched(self, error: BaseException) -> None:
        self._tell_news(model.unwatched(error))

    def _arrived(self, letters: tuple[ListedLetter, ...]) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, HostScreen):
                screen.take_in(letters)

    def _tell_news(self, text: str) -> None:
        """A line that nobody has to answer: whoever is writing goes on writing."""
        if not text or text == self._news:
            return
        self._more_news += bool(self._news)
        self._news = text
        self._show_state()

    def _show_state(self) -> None:
        under_way = self._under_way or ("At work" if self.working else "")
        more = f" (and {self._more_news} more)" if self._more_news else ""
        lines = [f"{under_way} ... {_STOPS}" if under_way else self._said, self._news + more]
        text = "\n".join(line for line in lines if line)
        for screen in self.screen_stack:
            for state in screen.query(State):
                state.update(text)
                state.set_class(bool(under_way), "waiting")

    def on_unmount(self) -> None:
        self.watcher.stop()


class HostScreen(Screen[None]):
    """A screen of the program."""

    NAME: ClassVar[str]  #: what it is called where its keys are explained
    BINDINGS: ClassVar[list[BindingType]] = [Binding("f1", "help", "Help"), Binding("escape", "back", "Back")]

    @property
    def host(self) -> Host:
        return cast(Host, self.app)

    def action_back(self) -> None:
        """Ends what is under way; where nothing is, leaves the screen."""
        if self.host.working:
            self.host.action_stop()
        else:
            self.leave()

    def leave(self) -> None:
        """Goes back to the screen before; what was said here is over."""
        self.host.say("")
        self.dismiss()

    def action_help(self) -> None:
        """Says what the keys do."""
        own = [each for each in type(self).BINDINGS if isinstance(each, Binding)]
        keys = [
            Key(each.key_display or self.app.get_key_display(each), each.tooltip or each.description) for each in own
        ]
        self.app.push_screen(Notice(model.help_lines(self.NAME, keys)))

    def take_in(self, letters: tuple[ListedLetter, ...]) -> None:
        """Letters that came while this screen is there; most screens show none."""
