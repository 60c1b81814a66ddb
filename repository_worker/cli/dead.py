"""`smr-repository dead`: the messages that no worker brought to an end, listed, shown, given back or destroyed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from crypto_core import moments
from repository_worker.cli import common
from repository_worker.cli.common import Json
from repository_worker.dead_letters import REASONS, DeadLetter, DeadLetters, choose

app = typer.Typer(
    help="Messages that no worker brought to an end. Needs the operator's account at the broker.", no_args_is_help=True
)
Named = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids, or unambiguous beginnings of them.")]
All = Annotated[bool, typer.Option("--all", help="Every one that lies there now.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List them, the oldest first. Looking changes nothing."""
    found = _queue().all()
    if as_json:
        typer.echo(json.dumps({"dead": [_facts(each) for each in found]}))
        return
    if not found:
        typer.echo("There are no dead letters.")
        return
    table = Table(box=None, header_style="bold")
    for heading in ("id", "reason", "age", "bytes", "kind", "session", "counter"):
        table.add_column(heading, no_wrap=True, justify="right" if heading in {"bytes", "counter"} else "left")
    for each in found:
        counter = "" if each.counter is None else str(each.counter)
        table.add_row(
            each.name, each.reason, _age(each.died), str(each.size), each.kind, (each.session or "")[:8], counter
        )
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(table)


@app.command("show")
def show(
    named: Annotated[str, typer.Argument(metavar="ID", help="An id, or an unambiguous beginning of it.")],
    as_json: Json = False,
) -> None:
    """Show what can be told of one without any key. What it says stays sealed."""
    found = _queue().all()
    digests = choose(found, [named])
    letter = next(each for each in found if each.digest in digests)
    facts = _facts(letter)
    if not as_json:
        facts["why"] = REASONS.get(letter.reason, "the broker left no reason")
        facts["next"] = f"smr-repository dead requeue {letter.name}, once what was wrong is mended"
    common.show(facts, as_json, title="Dead letter. Nobody has verified what its envelope says.")


@app.command("requeue")
def requeue(named: Named = None, everything: All = False, as_json: Json = False) -> None:
    """Give some back to the workers. Each leaves this queue only when the broker confirmed it in the other."""
    queue = _queue()
    done = queue.requeue(_wanted(queue, named, everything))
    _tell("requeued", done, as_json)


@app.command("drop")
def drop(
    named: Named = None,
    everything: All = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Destroy some, for good. A client that still waits sends its command again."""
    queue = _queue()
    wanted = _wanted(queue, named, everything)
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("this destroys messages and nobody can be asked: add --yes")
        count = sum(map(wanted, queue.all()))
        typer.confirm(f"Destroy {count} dead letters for good?", abort=True, err=True)
    _tell("dropped", queue.drop(wanted), as_json)


def _queue() -> DeadLetters:
    settings, _ = common.start()
    return DeadLetters(settings.operator_broker())


def _wanted(queue: DeadLetters, named: list[str] | None, everything: bool) -> Callable[[DeadLetter], bool]:
    if bool(named) == everything:
        raise typer.BadParameter("name dead letters by their ids, or say --all")
    if everything:
        return lambda _: True
    digests = choose(queue.all(), named or [])
    return lambda letter: letter.digest in digests


def _tell(what: str, done: tuple[DeadLetter, ...], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({what: [each.digest for each in done]}))
        return
    for each in done:
        typer.echo(f"{what} {each.name}")
    typer.echo(f"{len(done)} {what}")


def _facts(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.digest,
        "reason": letter.reason,
        "died": moments.to_text(moments.from_datetime(letter.died)) if letter.died else None,
        "bytes": letter.size,
        "kind": letter.kind,
        "session": letter.session,
        "counter": letter.counter,
        "reply_to": letter.reply_to,
    }


def _age(died: datetime | None) -> str:
    """How long ago, in the largest unit that says something."""
    if died is None:
        return "?"
    seconds = max(0, int((datetime.now(UTC) - died).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
