"""`smr-repository doctor`: each line of the examination with a mark, and under a bad one what to do."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import typer

from repository_worker.cli import common
from repository_worker.cli.common import FAILED, Json


def doctor(as_json: Json = False) -> None:
    """Look over broker, permissions, topology, database, clock, keys and trust, and say what to do. Changes nothing."""
    from repository_worker.doctor import Doctor

    settings, _ = common.start()
    findings = Doctor(settings).examine()
    bad = sum(not each.ok for each in findings)
    if as_json:
        typer.echo(json.dumps({"ok": not bad, "checks": [asdict(each) for each in findings]}, ensure_ascii=False))
    else:
        good_mark, bad_mark = _marks()
        for each in findings:
            typer.echo(f"{good_mark if each.ok else bad_mark} {each.check}: {each.detail}")
            if each.action:
                typer.echo(f"    {each.action}")
        typer.echo("All is well." if not bad else f"{bad} of {len(findings)} checks failed.")
    if bad:
        raise typer.Exit(FAILED)


def _marks() -> tuple[str, str]:
    try:
        "✓✗".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "[ok]", "[FAILED]"
    return "✓", "✗"
