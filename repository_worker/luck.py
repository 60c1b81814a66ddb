"""Whether what may fail is worth trying."""

from __future__ import annotations

from typing import Final

#: So many times something is left out after it failed once, and twice as many after each further failure.
PAUSE_MIN: Final = 2
PAUSE_MAX: Final = 64


class Luck:
    """Something is worth trying until it fails, and then not for a while. Not thread-safe."""

    def __init__(self) -> None:
        self._pause = 0
        self._left = 0

    def holds(self) -> bool:
        """Whether to try this time. Asked once each time."""
        if self._left:
            self._left -= 1
            return False
        return True

    def note(self, *, failed: bool) -> None:
        """What came of it."""
        self._pause = min(max(2 * self._pause, PAUSE_MIN), PAUSE_MAX) if failed else 0
        self._left = self._pause
