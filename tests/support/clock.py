"""A clock that stands still until a test moves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class Clock(Generic[T]):
    """Called, it tells `now`: seconds of a monotonic clock, or a date."""

    now: T

    def __call__(self) -> T:
        return self.now
