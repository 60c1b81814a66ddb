"""The program `smr`: the only place where the library's errors become text and exit codes.

Heavy imports come late, inside of the commands, so that `smr --help` answers at once.
"""

from __future__ import annotations

import os


def main() -> None:
    """Runs the program and ends the process with its exit code; or answers a shell that asks what may come next."""
    if "SMR_COMPLETE" in os.environ:
        from client.cli.completion import answer

        answer()
        return
    from client.cli.app import run

    raise SystemExit(run())
