"""What comes into the mailbox while it is shown: the library's watch in a thread and over a connection of its own.

It asks nobody for anything, and wakes no card: it goes on while a session is open and usable, ends with it, and begins
again when the person has looked for letters by themselves. What it hears is told to a `Listener` in the terminal's
thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import Any, Protocol

from client.api import Repository
from client.commands.box import ListedLetter
from client.commands.watch import Arrival
from client.errors import ClientError, LocalState, Stopped, Unreachable
from client.settings import Front
from client.ui.desk import Library, tell


class Listener(Protocol):
    """Who is told, in the terminal's thread."""

    def show_unread(self, letters: tuple[ListedLetter, ...]) -> None:
        """What was unread when watching began: some of it may have come since the list was made."""

    def show_arrival(self, arrival: Arrival) -> None:
        """Something that came."""

    def show_trouble(self, error: ClientError) -> None:
        """The repository cannot be reached at the moment; it is tried again."""

    def show_unwatched(self, error: BaseException) -> None:
        """What comes is not heard of any more."""


class Watcher:
    """One watch at a time. Used from the terminal's thread."""

    def __init__(self, library: Library, listener: Listener) -> None:
        self._library = library
        self._listener = listener
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to watch, unless that is under way."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stop = threading.Event()
        watch = _Watch(self._library, self._listener, asyncio.get_running_loop(), self._stop)
        # In this context, so that what is told finds the program that it belongs to.
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(watch.run,), name="smr watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the watch, as soon as it looks; nobody waits for that."""
        self._stop.set()


class _Watch:
    """One watch, in its thread."""

    def __init__(
        self, library: Library, listener: Listener, loop: asyncio.AbstractEventLoop, stop: threading.Event
    ) -> None:
        self._library = library
        self._listener = listener
        self._loop = loop
        self._stop = stop

    def run(self) -> None:
        front = Front(secret=lambda _: None, agree=lambda _: False, stopped=self._stop.is_set)
        try:
            with self._library(front) as repository:
                self._listen(repository)
        except Stopped:
            return
        except Exception as error:  # noqa: BLE001 - handed to who shows it
            self._tell(self._listener.show_unwatched, error)

    def _listen(self, repository: Repository) -> None:
        def over() -> bool:
            return self._stop.is_set() or repository.show_session() is None

        if over():
            raise LocalState("No session is open.")
        arrivals = repository.watch(stopped=over, trouble=self._trouble)
        with contextlib.suppress(Unreachable):
            self._tell(self._listener.show_unread, repository.new())
        for arrival in arrivals:
            self._tell(self._listener.show_arrival, arrival)
        raise LocalState("No session is open.")

    def _trouble(self, error: ClientError) -> None:
        self._tell(self._listener.show_trouble, error)

    def _tell(self, function: Callable[..., None], *arguments: Any) -> None:
        if not self._stop.is_set():
            tell(self._loop, function, *arguments)
