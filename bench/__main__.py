"""`python -m bench`: measures, shows a table, writes one JSON file.

    ONLY=name    one row, or several with commas between them (the beginning of a name serves too)
    FULL=1       also the rows that take long: a mailbox of a million letters, a million commands

Ends with 0 when everything could be measured, whatever the figures are. Stopped before (Ctrl-C, SIGTERM) it ends what
it started and writes nothing.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from rich.console import Console

from bench import report
from bench.figures import Measure
from bench.plan import Plan, Row
from bench.rows import ROWS
from bench.world import World
from repository_worker.processes import Stopped

#: An environment with matplotlib alone, which `make bench` makes.
PLOTTER = Path(sys.prefix) / "bench-env" / "bin" / "python"
PLOT_SECONDS = 120.0
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """One run."""
    # It takes its choices from the environment alone: whoever asks for help must not wait for a whole run.
    argparse.ArgumentParser("bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
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
    _plot(console, written)
    console.print(f"\n{len(measures)} figures in {time.perf_counter() - began:.0f} s; they are in {written}")
    return 0


def _plot(console: Console, results: Path) -> None:
    """Draws the plots beside the JSON file, where there is an interpreter that can."""
    if not PLOTTER.exists():
        console.print("No plots were drawn: matplotlib is not installed. `make bench` installs it beside .venv/.")
        return
    program = Path(__file__).with_name("plots.py")
    subprocess.run([PLOTTER, program, results, results.with_suffix("")], check=True, timeout=PLOT_SECONDS)
    console.print(f"plots: {results.with_suffix('')}/")


def choose(only: str) -> dict[str, Row]:
    """The rows whose names begin with one of the names in `only`; all of them when it is empty."""
    wanted = tuple(each.strip() for each in only.split(",") if each.strip())
    return {name: row for name, row in ROWS.items() if not wanted or name.startswith(wanted)}


def _tell(console: Console, update: object, text: str) -> None:
    if console.is_terminal and callable(update):
        update(text)
    elif not console.is_terminal:
        console.print(f"  … {text}", style="dim")


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    try:
        sys.exit(main())
    except (KeyboardInterrupt, Stopped):
        sys.exit("stopped: nothing was written")
