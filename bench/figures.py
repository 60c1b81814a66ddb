"""The arithmetic of the measurements: medians, percentiles, ratios, judgements. Nothing here measures anything."""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

MILLISECOND: Final = 1e-3  #: seconds


class Better(enum.Enum):
    """Which way a figure should go."""

    HIGHER = "higher"
    LOWER = "lower"


class Judgement(enum.Enum):
    """How a ratio stands to its bounds."""

    AIM = "aim reached"
    DONE = "within the bound"
    MISSED = "not there yet"
    NONE = "for information"


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure with its floor. `runs` and `floor_runs` are the repetitions; `value` and `floor` their medians."""

    name: str
    unit: str
    runs: tuple[float, ...]
    floor_runs: tuple[float, ...]
    better: Better
    aim: float | None = None
    bound: float | None = None
    floor_name: str = ""
    note: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The median of the repetitions."""
        return statistics.median(self.runs)

    @property
    def floor(self) -> float | None:
        """The median of the floor's repetitions; None where there is no floor."""
        return statistics.median(self.floor_runs) if self.floor_runs else None

    @property
    def ratio(self) -> float | None:
        """Value over floor; None without a floor, or where the floor is nothing."""
        floor = self.floor
        return self.value / floor if floor else None

    @property
    def judgement(self) -> Judgement:
        """Whether the ratio keeps its aim, its bound, or neither."""
        ratio = self.ratio
        if ratio is None or self.aim is None or self.bound is None:
            return Judgement.NONE
        if _keeps(ratio, self.aim, self.better):
            return Judgement.AIM
        return Judgement.DONE if _keeps(ratio, self.bound, self.better) else Judgement.MISSED

    def as_json(self) -> dict[str, Any]:
        """What the JSON file holds of it."""
        return {
            "name": self.name,
            "unit": self.unit,
            "value": self.value,
            "floor": self.floor,
            "ratio": self.ratio,
            "runs": list(self.runs),
            "floor_runs": list(self.floor_runs),
            "better": self.better.value,
            "aim": self.aim,
            "bound": self.bound,
            "judgement": self.judgement.value,
            "floor_is": self.floor_name,
            "note": self.note,
            **({"extra": self.extra} if self.extra else {}),
        }


def _keeps(ratio: float, limit: float, better: Better) -> bool:
    return ratio >= limit if better is Better.HIGHER else ratio <= limit


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of a hundred values do not exceed (nearest rank)."""
    if not values:
        raise ValueError("no values, no percentile")
    if not 0 < percent <= 100:
        raise ValueError("a percentile lies above 0 and not above 100")
    return sorted(values)[math.ceil(percent / 100 * len(values)) - 1]


@dataclass(frozen=True, slots=True)
class Played:
    """What all load processes together did in one repetition."""

    messages: int
    began: float
    ended: float
    seconds: tuple[float, ...]  #: latencies
    reply_bytes: int

    @property
    def throughput(self) -> float:
        """Messages a second, from the first publication to the last reply of any process."""
        return self.messages / (self.ended - self.began)


def together(parts: Sequence[dict[str, Any]]) -> Played:
    """Several load processes as one. Their clock is the same."""
    seconds = tuple(value for part in parts for value in part["seconds"])
    return Played(
        messages=len(seconds),
        began=min(part["began"] for part in parts),
        ended=max(part["ended"] for part in parts),
        seconds=seconds,
        reply_bytes=int(statistics.mean(part["reply_bytes"] for part in parts)),
    )
