"""The life of a private server, whatever its program: started with ports of its own, probed, ended, started again.

`LocalBroker` and `LocalMongo` say what their program needs and how it is probed; everything else stands here. A server
is known from the moment its process is there, so that another thread can `stop` one that is still starting.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

from broker_config.private_process import PrivateProcess, StartFailed

START_SECONDS: Final = 60
# Other programs may take a port between our choice and the server's start.
START_ATTEMPTS: Final = 3


class PrivateServer(ABC):
    """One private server. Entering it starts it, leaving it stops it; the folder stays for another start."""

    what: ClassVar[str]  #: as in "the private RabbitMQ node did not answer"
    stop_seconds: ClassVar[float]  #: what it gets for ending by itself

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: PrivateProcess | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.running else None

    def start(self) -> None:
        """Starts the server and returns when it serves; the second start uses the same ports and data.

        Raises `ProgramMissing` or `StartFailed`; then nothing is left running.
        """
        if self.pid is not None:
            return
        self._require_program()
        first = not self._has_ports
        for attempt in range(1, START_ATTEMPTS + 1):
            if first:
                self._choose_ports()
            try:
                self._start_once()
            except StartFailed:
                if attempt == START_ATTEMPTS or not self._lost_a_port():
                    raise
            else:
                return

    def stop(self) -> None:
        """Asks the server to end, then makes sure that it is gone with all that it started."""
        process, self._process = self._process, None
        if process is not None:
            process.stop(self.stop_seconds)

    def kill(self) -> None:
        """Ends the server without warning, as a power cut would. `start` brings it back with what was made durable."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def restart(self) -> None:
        """Stops and starts again: same ports, same data."""
        self.stop()
        self.start()

    def _start_once(self) -> None:
        process = self._process = self._launch()
        try:
            process.wait_until(self._serves, seconds=START_SECONDS, what=self.what)
        except BaseException:
            process.kill()
            self._process = None
            raise

    @property
    @abstractmethod
    def _has_ports(self) -> bool:
        """Whether it was started before: then it keeps its ports."""

    @abstractmethod
    def _require_program(self) -> None:
        """Raises `ProgramMissing` when the program is not installed."""

    @abstractmethod
    def _choose_ports(self) -> None:
        """Draws free ports."""

    @abstractmethod
    def _launch(self) -> PrivateProcess:
        """Writes what the program needs and starts it."""

    @abstractmethod
    def _serves(self) -> bool:
        """One probe, in the protocol that it serves."""

    @abstractmethod
    def _lost_a_port(self) -> bool:
        """Whether its log says that somebody else took one of its ports."""
