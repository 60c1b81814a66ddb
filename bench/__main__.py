"""`python -m bench`: measures, shows a table, writes one JSON file.

    ONLY=name    one row, or several with commas between them (the beginning of a name serves too)
    FULL=1       also the rows that take an hour

Ends with 0 when everything could be measured, whatever the figures are.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from bench import report
from bench.figures import Measure
from bench.rows import ROWS, Plan, Row
from bench.world import World

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """One run."""
    console = Console(width=None if sys.stdout.isatty() else report.WIDTH, highlight=False)
    plan = Plan(full=os.environ.get("FULL", "") not in {"", "0"})
    chosen = choose(os.environ.get("ONLY", ""))
    if not chosen:
        console.print(f"ONLY names no row. There are: {', '.join(ROWS)}.")
        return 2
    began = time.perf_counter()
    measures: list[Measure] = []
    with (
        tempfile.TemporaryDirectory(prefix="smr-bench-") as folder,
        console.status("starting") as status,
        World(Path(folder), lambda text: _tell(console, status.update, text)) as world,
    ):
        for row in chosen.values():
            for measure in row(world, plan):
                console.print(report.line(measure))
                measures.append(measure)
    report.show(console, measures)
    written = report.write(RESULTS, measures, plan, time.perf_counter() - began)
    console.print(f"\n{len(measures)} figures in {time.perf_counter() - began:.0f} s; they are in {written}")
    return 0


def choose(only: str) -> dict[str, Row]:
    """The rows whose names begin with one of the names in `only`; all of them when it is empty."""
    wanted = tuple(each.strip() for each in only.split(",") if each.strip())
    return {name: row for name, row in ROWS.items() if not wanted or name.startswith(wanted)}


def _tell(console: Console, update: object, text: str) -> None:
    if console.is_terminal and callable(update):
        update(text)
    elif not console.is_terminal:
        console.print(f"  … {text}", style="dim")


if __name__ == "__main__":
    sys.exit(main())
