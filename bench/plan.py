"""What a run is asked for, and what a row is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bench.figures import Measure
from bench.world import World

RUN_SECONDS = 1.5  #: aimed length of one repetition of a throughput
FEWEST = 64  #: messages a load process in the shortest repetition
WARM_UP = 128  #: messages a load process before what is measured
ALONE = 250  #: messages of one repetition with one in flight


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: repetitions of each figure, and (`full`) the rows that take long."""

    repetitions: int = 5
    full: bool = False


def messages_of_a_run(rate: float, loads: int) -> int:
    """Messages a load process for a repetition of about RUN_SECONDS at `rate` messages a second in all."""
    return max(FEWEST, round(rate * RUN_SECONDS / loads))


Row = Callable[[World, Plan], Iterable[Measure]]
