"""Histograms and totals that are cheap to count, for what is counted at every message.

The library's own look at labels, at exemplars and at each bucket in turn, several dozen calls for a message, which
together took as long as opening it. Here counting is one call; the library's form is made when somebody asks.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Series = TypeVar("Series")


class Tally:
    """One histogram. Thread-safe."""

    __slots__ = ("_bounds", "_counts", "_lock", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` are the highest values of all buckets but the last, which has none, in ascending order."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Counts one value, in the first bucket that it does not pass."""
        bucket = bisect_left(self._bounds, value)
        with self._lock:
            self._counts[bucket] += 1
            self._sum += value

    def standing(self) -> tuple[list[int], float]:
        """For each bucket how many values it and those before it hold; and the sum of all."""
        with self._lock:
            return list(accumulate(self._counts)), self._sum


class Total:
    """A number that only grows. Thread-safe."""

    __slots__ = ("_lock", "_value")

    def __init__(self) -> None:
        self._value = 0.0
        self._lock = threading.Lock()

    def add(self, value: float = 1.0) -> None:
        """Counts."""
        with self._lock:
            self._value += value

    def standing(self) -> float:
        """What it is now."""
        return self._value


class _Family(Collector, Generic[Series]):
    """Series of one name, told apart by the values of their `labels`; made when they are first asked for."""

    def __init__(self, name: str, text: str, labels: Sequence[str], make: Callable[[], Series]) -> None:
        self._name = name
        self._text = text
        self.labels = tuple(labels)
        self._make = make
        self._series: dict[tuple[str, ...], Series] = {}

    def of(self, *values: str) -> Series:
        """The series with these values, in the order of the labels."""
        found = self._series.get(values)
        return self._series.setdefault(values, self._make()) if found is None else found

    def describe(self) -> Iterable[Metric]:
        """As the library asks, so that no two families get one name."""
        return self.collect()

    def _standing(self) -> list[tuple[tuple[str, ...], Series]]:
        if not self.labels:
            self.of()  # shown before it counted anything
        return sorted(self._series.copy().items(), key=lambda each: each[0])


class Tallies(_Family[Tally]):
    """A histogram for each series."""

    def __init__(self, name: str, text: str, bounds: Sequence[float], labels: Sequence[str] = ()) -> None:
        super().__init__(name, text, labels, lambda: Tally(bounds))
        self._names = [*(str(float(bound)) for bound in bounds), "+Inf"]

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._text, labels=self.labels)
        for values, series in self._standing():
            counts, total = series.standing()
            family.add_metric(values, list(zip(self._names, counts, strict=True)), total)
        yield family


class Totals(_Family[Total]):
    """A total for each series."""

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, text, labels, Total)

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._text, labels=self.labels)
        for values, series in self._standing():
            family.add_metric(values, series.standing())
        yield family
