"""What a run leaves: a line for each figure while it goes on, a table at its end, one JSON file."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.figures import Judgement, Measure
from bench.plan import Plan

WIDTH = 130  #: columns, where nobody looks on a terminal
_MARKS = {Judgement.AIM: "✓", Judgement.DONE: "~", Judgement.MISSED: "✗", Judgement.NONE: " "}


def line(measure: Measure) -> str:
    """One figure in a line of text."""
    beside = f"; floor {number(measure.floor)}, ratio {measure.ratio:.2f}" if measure.ratio is not None else ""
    return f"  {_MARKS[measure.judgement]} {measure.name}: {number(measure.value)} {measure.unit}{beside}"


def number(value: float | None) -> str:
    """Three or four figures that mean something."""
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def show(console: Console, measures: Sequence[Measure]) -> None:
    """The table."""
    table = Table(title="Medians; the floor was measured in the same run, in turns")
    for name in ("measure", "value", "unit", "floor", "ratio", "aim", "bound", "runs from … to", "judgement"):
        table.add_column(name, justify="left" if name in {"measure", "unit", "judgement"} else "right")
    for each in measures:
        table.add_row(
            each.name,
            number(each.value),
            each.unit,
            number(each.floor),
            f"{each.ratio:.2f}" if each.ratio is not None else "–",
            number(each.aim),
            number(each.bound),
            f"{number(min(each.runs))} … {number(max(each.runs))}",
            f"{_MARKS[each.judgement]} {each.judgement.value}",
        )
    console.print(table)


def write(folder: Path, measures: Sequence[Measure], plan: Plan, seconds: float) -> Path:
    """The JSON file of a run, under a name of its own and as `latest.json`. Gives the first."""
    folder.mkdir(parents=True, exist_ok=True)
    moment = datetime.now(UTC)
    document: dict[str, Any] = {
        "time": moment.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "repetitions": plan.repetitions,
        "full": plan.full,
        "machine": {"system": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()},
        "measures": [each.as_json() for each in measures],
    }
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    path = folder / f"bench-{moment:%Y%m%d-%H%M%S}.json"
    path.write_text(text, encoding="utf-8")
    (folder / "latest.json").write_text(text, encoding="utf-8")
    return path
