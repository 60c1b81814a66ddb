"""`smr-repository`: the operator's program. The only place of this room where errors become text and exit codes."""

from __future__ import annotations

from repository_worker.cli.app import main

__all__ = ["main"]
