"""The programs of this project in child processes that need not import everything anew.

    done = run("client.cli", "list", "--json", env={…}, stdin=b"")      # as `smr list --json`, a CompletedProcess

Half of what a short command costs is the start of an interpreter and the imports. Here one process imports the programs
once and forks a child for each run, with the arguments, environment, standard streams and exit status of that run. The
keystores that it writes are cheap ones (`tests/support/keystores.py`). What depends on a real start (what is imported
when, encodings, signals) is tested with real starts: `tests/unit/client`, the demonstration, the workers.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.support import keystores

IMPORTED = [
    *("client.cli.app", "client.cli.views", "client.api"),
    *("repository_worker.cli", "repository_worker.cli.doctor", "repository_worker.storage.mongo"),
    *("pki.cli", "pki.virtual_card", "pki.certvalidator_engine"),
]
STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}  #: in the order of their file descriptors
LIMIT_SECONDS = 120


def run(
    program: str, *arguments: str, env: Mapping[str, str], stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Runs `main()` of that module to its end. Raises `subprocess.TimeoutExpired`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with tempfile.TemporaryDirectory(prefix="smr-program-") as name:
        folder = Path(name)
        (folder / "stdin").write_bytes(stdin)
        child = context.Process(target=_play, args=(folder, program, arguments, dict(env), str(Path.cwd())))
        child.start()
        child.join(LIMIT_SECONDS)
        if child.exitcode is None:
            child.kill()
            child.join()
            raise subprocess.TimeoutExpired([program, *arguments], LIMIT_SECONDS)
        output, errors = ((folder / stream).read_bytes() for stream in ("stdout", "stderr"))
        return subprocess.CompletedProcess([program, *arguments], child.exitcode, output, errors)


def run_for_text(program: str, *arguments: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """As `run`, with what it printed as text."""
    done = run(program, *arguments, env=env)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def _play(folder: Path, program: str, arguments: tuple[str, ...], environment: dict[str, str], where: str) -> None:
    """In the child: becomes the program."""
    for number, (stream, mode) in enumerate(STREAMS.items()):
        with (folder / stream).open(mode) as file:
            os.dup2(file.fileno(), number)
        setattr(sys, stream, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    os.chdir(where)
    os.environ.clear()
    os.environ.update(environment)
    keystores.set_cost()
    sys.argv = [program, *arguments]
    importlib.import_module(program).main()
