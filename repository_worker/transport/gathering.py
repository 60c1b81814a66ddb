"""Whether a worker awaits more messages before it begins with those that it has.

A full batch costs worker, broker and database less for each message than two halves, and two workers that take turns
at full batches seldom meet at the ends of mailboxes. A message that comes alone is never kept waiting: only a worker
that has just handled many awaits as many again, for a moment, and does so less often where nothing comes of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sized
from typing import Final

from repository_worker.luck import Luck

#: A batch of so many messages says that more are under way …
CROWD: Final = 8
#: … for so long after its end; seconds.
CROWDED_SECONDS: Final = 0.1
#: A full batch is awaited for so long at most; seconds.
AWAIT_SECONDS: Final = 0.02
#: … and no longer when nothing came in this time; seconds.
SILENCE_SECONDS: Final = 0.006


class Gathering:
    """What one worker awaits. Only for the thread that speaks to the broker."""

    def __init__(self, full: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`full`: messages of a full batch; `clock`: seconds."""
        self._full = full
        self._clock = clock
        self._crowded = clock()  #: until when more messages are likely
        self._luck = Luck()

    def gather(self, taken: Sized, wait: Callable[[float], None]) -> None:
        """Has `wait(seconds)` take more messages to those `taken`, as long as that is worth it."""
        began = now = self._clock()
        before = have = len(taken)
        if now >= self._crowded or have >= self._full or not self._luck.holds():
            return
        while have < self._full and now < began + AWAIT_SECONDS:
            wait(min(SILENCE_SECONDS, began + AWAIT_SECONDS - now))
            if len(taken) == have:
                break
            have, now = len(taken), self._clock()
        self._luck.note(failed=have < self._full and have - before < CROWD)

    def handled(self, messages: int) -> None:
        """A batch of so many has come to its end."""
        self._crowded = self._clock() + (CROWDED_SECONDS if messages >= CROWD else 0)
