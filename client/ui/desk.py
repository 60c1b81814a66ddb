"""The library at work in a thread of its own, one call at a time; the terminal's thread never waits for it.

    letters = await desk.call(lambda repository: repository.letters())

What the library asks meanwhile is asked of an `Attendant` in the terminal's thread; the library's thread waits for the
answer. `stop` ends the call as soon as the library looks: then it raises Stopped.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypeVar

from client.api import Repository
from client.commands.pending import Resumed
from client.errors import Stopped, Usage
from client.settings import Front, Transfer
from client.ui.model import Line, Lines

T = TypeVar("T")
Library = Callable[[Front], Repository]

_LOOK_SECONDS: Final = 0.2  #: how often a question looks whether it was withdrawn
_TOLD_SECONDS: Final = 0.2  #: how often a transfer is told at most: an event for each chunk would bury the keyboard


class Attendant(Protocol):
    """Who asks and tells, in the terminal's thread."""

    async def ask_secret(self, question: str) -> str | None:
        """What was typed; None when it was declined."""

    async def ask_agreement(self, question: Lines) -> bool:
        """Yes or no."""

    def show_waiting(self, what: str) -> None:
        """What is awaited now; empty when nothing is."""

    def show_transfer(self, transfer: Transfer, rate: float) -> None:
        """How far an attachment is. `rate`: bytes a second since it began here, 0 while that is not known."""

    def show_resumed(self, resumed: tuple[Resumed, ...]) -> None:
        """What an earlier run could not finish, and how it ended now."""


class Desk:
    """One call at a time. Used from the terminal's thread, but for `agree`."""

    def __init__(self, library: Library, attendant: Attendant) -> None:
        self._library = library
        self._attendant = attendant
        self._call: _Call | None = None

    @property
    def busy(self) -> bool:
        return self._call is not None

    def stop(self) -> None:
        """Ends the call that is under way, if there is one."""
        if self._call is not None:
            self._call.stop.set()

    def agree(self, question: Lines) -> bool:
        """Asks yes or no: for callbacks of the library, in its thread, while a call is under way."""
        return self._call is not None and self._call.agree(question)

    async def call(self, act: Callable[[Repository], T]) -> T:
        """What `act` gives. Raises what it raises: ClientError; Usage when another call is under way."""
        if self._call is not None:
            raise Usage("Something else is still under way.", "One thing is done at a time.", "Wait, or stop it: Esc.")
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[T] = loop.create_future()
        call = self._call = _Call(loop, self._attendant)

        def work() -> None:
            try:
                value = call.perform(self._library, act)
            except BaseException as error:  # noqa: BLE001 - handed to who awaits it
                tell(loop, _fail, ended, error)
            else:
                tell(loop, _succeed, ended, value)

        # In this context, so that questions find the program that they belong to.
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(work,), name="smr library", daemon=True).start()
        try:
            return await ended
        finally:
            call.stop.set()
            self._call = None
            self._attendant.show_waiting("")


class _Call:
    """One call, seen from the library's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, attendant: Attendant) -> None:
        self.stop = threading.Event()
        self._loop = loop
        self._attendant = attendant
        self._awaited: list[str] = []
        self._meter = _Meter()

    def perform(self, library: Library, act: Callable[[Repository], T]) -> T:
        front = Front(
            self._secret, lambda text: self.agree((Line(text),)), self._waiting, self.stop.is_set, self._progress
        )
        with library(front) as repository:
            try:
                return act(repository)
            finally:
                if repository.resumed:
                    tell(self._loop, self._attendant.show_resumed, repository.resumed)

    def _secret(self, question: str) -> str:
        answer = self._ask(self._attendant.ask_secret(question))
        if answer is None:
            raise Stopped
        return answer

    def agree(self, question: Lines) -> bool:
        return self._ask(self._attendant.ask_agreement(question))

    def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        answer = asyncio.run_coroutine_threadsafe(question, self._loop)
        while not self.stop.is_set():
            try:
                return answer.result(_LOOK_SECONDS)
            except concurrent.futures.TimeoutError:
                continue
        answer.cancel()
        raise Stopped

    @contextmanager
    def _waiting(self, what: str) -> Iterator[None]:
        if self.stop.is_set():
            raise Stopped
        self._awaited.append(what)
        tell(self._loop, self._attendant.show_waiting, what)
        try:
            yield
        finally:
            self._awaited.pop()
            tell(self._loop, self._attendant.show_waiting, self._awaited[-1] if self._awaited else "")

    def _progress(self, transfer: Transfer) -> None:
        if self.stop.is_set():
            raise Stopped  # also where chunks come so fast that nothing is waited for
        rate = self._meter.rate(transfer, time.monotonic())
        if rate is not None:
            tell(self._loop, self._attendant.show_transfer, transfer, rate)


class _Meter:
    """How fast one transfer after the other is."""

    def __init__(self) -> None:
        self._of: tuple[str, bool] | None = None
        self._began = self._told = 0.0
        self._first = 0

    def rate(self, transfer: Transfer, now: float) -> float | None:
        """Bytes a second since it began; 0 at its beginning; None when it was told a moment ago."""
        if self._of != (transfer.name, transfer.upload) or transfer.done < self._first:
            self._of, self._began, self._told, self._first = (transfer.name, transfer.upload), now, now, transfer.done
            return 0.0
        if now - self._told < _TOLD_SECONDS and transfer.done < transfer.size:
            return None
        self._told = now
        return (transfer.done - self._first) / max(now - self._began, _TOLD_SECONDS)


def tell(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
    """Has the terminal's thread do something, unless the program has ended meanwhile."""
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        return  # the loop is closed: nobody is there to be told


def _succeed(ended: asyncio.Future[T], value: T) -> None:
    if not ended.done():
        ended.set_result(value)


def _fail(ended: asyncio.Future[Any], error: BaseException) -> None:
    if not ended.done():
        # A future takes no StopIteration: whoever awaits it would wait for ever.
        ended.set_exception(RuntimeError("a StopIteration") if isinstance(error, StopIteration) else error)
