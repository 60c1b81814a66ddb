"""`smr watch`: shows each arrival at once, and runs a command for it.

The command is a program with fixed arguments, split as a shell would, but no shell sees it. Nothing that a peer wrote
is an argument or in the environment: there are ids and fixed words alone; texts come as JSON on standard input.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from client.cli import views
from client.errors import ClientError, Usage

if TYPE_CHECKING:
    from client.cli.run import Run
    from client.commands.watch import Arrival


def show_arrivals(run: Run, command: str | None, seconds: float | None) -> None:
    """Until Ctrl-C, or for so many seconds. Raises Usage for a command that cannot be run."""
    program = _program(command) if command is not None else ()

    def trouble(error: ClientError) -> None:
        run.screen.quiet()
        run.screen.note(f"{error.what} Trying again.")

    try:
        arrivals = run.repository.watch(seconds, trouble=trouble)
        run.screen.note("Watching; Ctrl-C ends it.")
        for arrival in arrivals:
            view = views.arrival(arrival)
            if run.options.as_json:
                run.screen.json_line(view.json)
            else:
                view.show(run.screen)
            if program:
                _tell(run, program, arrival, view.json)
    except KeyboardInterrupt:
        run.screen.quiet()


def _program(command: str) -> Sequence[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Usage(f"The command cannot be read: {error}.", action="Close its quotes.") from error
    if not words or shutil.which(words[0]) is None:
        raise Usage(f"There is no program {words[0] if words else command!r}.", action="Check its name and the PATH.")
    return words


def _tell(run: Run, program: Sequence[str], arrival: Arrival, data: dict[str, Any]) -> None:
    environment = {
        **os.environ,
        "SMR_KIND": arrival.kind,
        "SMR_LETTER": arrival.letter_id,
        "SMR_AUTHOR": arrival.author.hex(),
        "SMR_GOOD": "1" if arrival.good else "0",
    }
    # With --json, standard output is for our lines alone.
    output = sys.stderr if run.options.as_json else None
    try:
        done = subprocess.run(program, input=json.dumps(data).encode(), env=environment, stdout=output, check=False)
    except OSError as error:
        run.screen.note(f"{program[0]} cannot be run: {error.strerror}.")
    else:
        if done.returncode:
            run.screen.note(f"{program[0]} ended with {done.returncode} for {arrival.kind} {arrival.name}.")
