"""Work in a thread of its own, for as long as a `with` block lasts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Background:
    """A context manager, at work inside of it. Who works derives from it, and looks at `_ended`."""

    def __init__(self, name: str, work: Callable[[], None], *, awaited: bool = True) -> None:
        """`work` ends soon after `_end` was called; unless it is `awaited`, nobody stays for that."""
        self._ended = threading.Event()
        self._awaited = awaited
        self._thread = threading.Thread(target=work, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        if self._awaited:
            self._thread.join()

    def _end(self) -> None:
        """Tells the work that it is over."""
        self._ended.set()
