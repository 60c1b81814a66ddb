"""Sheds what one installation sends beyond its rate, before any of it is looked at.

A token bucket for each broker account, whose name the broker has checked: it holds `burst` messages and fills with
`rate` a second. What finds it empty is acknowledged and forgotten: no reply, no dead letter, no cryptography. A client
that was shed gets no answer and sends again, which its outbox does by itself; nothing that was accepted is lost. Each
worker counts what comes to it, so that a repository of n workers takes up to n times the rate.

One thread uses it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

#: Buckets in memory, about 200 bytes each. Forgetting the oldest one gives its account a full bucket again.
ACCOUNTS_MAX: Final = 100_000


class Gate:
    """The buckets of one worker."""

    def __init__(self, rate: float, burst: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`rate` in messages a second, `burst` in messages."""
        self._rate = rate
        self._burst = burst
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admits(self, account: str | None) -> bool:
        """Whether one more message of this account is taken. Messages without an account share a bucket."""
        now, name = self._monotonic(), account or ""
        level, since = self._buckets.pop(name, (self._burst, now))
        level = min(self._burst, level + (now - since) * self._rate)
        admitted = level >= 1
        self._buckets[name] = (level - admitted, now)
        if len(self._buckets) > ACCOUNTS_MAX:
            self._buckets.popitem(last=False)
        return admitted
