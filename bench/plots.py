"""PNG plots of a run, from its JSON file: each figure beside its floor, and all ratios.

    python bench/plots.py RESULTS.json FOLDER

Run by an interpreter that has matplotlib and nothing of this project: it imports none of it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

Measure = dict[str, Any]
OURS, FLOOR, AIM, BOUND = "#1f5f8b", "#b8c4cc", "#2e7d32", "#c62828"
UNITS = {"1/s": "messages a second", "ms": "milliseconds", "1/cpu s": "messages a CPU second", "MiB": "MiB"}


def beside(measures: list[Measure], unit: str, path: Path) -> None:
    """Bars of value and floor for the figures of one unit, with the repetitions as dots."""
    figure, axes = plt.subplots(figsize=(max(6.0, 1.2 * len(measures)), 5), layout="constrained")
    for place, each in enumerate(measures):
        axes.bar(place - 0.2, each["value"], 0.38, color=OURS, label="repository" if not place else None)
        axes.plot([place - 0.2] * len(each["runs"]), each["runs"], "k.", markersize=3)
        if each["floor"] is not None:
            axes.bar(place + 0.2, each["floor"], 0.38, color=FLOOR, label="floor" if not place else None)
            axes.plot([place + 0.2] * len(each["floor_runs"]), each["floor_runs"], "k.", markersize=3)
    axes.set_xticks(range(len(measures)), [each["name"] for each in measures], rotation=35, ha="right")
    axes.set_ylabel(UNITS.get(unit, unit))
    axes.set_title("Medians of the repetitions (dots)")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def ratios(measures: list[Measure], path: Path) -> None:
    """Every ratio with its aim and its bound."""
    figure, axes = plt.subplots(figsize=(9, 0.4 * len(measures) + 1.5), layout="constrained")
    for place, each in enumerate(reversed(measures)):
        axes.barh(place, each["ratio"], color=OURS)
        for limit, colour in ((each["aim"], AIM), (each["bound"], BOUND)):
            if limit is not None:
                axes.plot([limit, limit], [place - 0.4, place + 0.4], color=colour)
    axes.set_yticks(range(len(measures)), [each["name"] for each in reversed(measures)])
    axes.set_xlabel("value over floor; green: aim, red: bound")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """All plots of one file."""
    measures: list[Measure] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["measures"]
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for unit in dict.fromkeys(each["unit"] for each in measures):
        beside(
            [each for each in measures if each["unit"] == unit],
            unit,
            folder / f"values-{unit.replace('/', '-per-').replace(' ', '-').strip('-')}.png",
        )
    with_ratio = [each for each in measures if each["ratio"] is not None]
    if with_ratio:
        ratios(with_ratio, folder / "ratios.png")


if __name__ == "__main__":
    main()
