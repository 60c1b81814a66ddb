"""`smr-repository clients`: who may use the broker. Needs the management credential, which no other command does."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from broker_config import enrolment, names
from broker_config.errors import NameRefused
from crypto_core import moments
from crypto_core.ids import Milliseconds
from pki.files import PRIVATE_FILE, write_atomically
from repository_worker.cli import common
from repository_worker.cli.common import Json
from repository_worker.clients import Client
from repository_worker.errors import ClientsError
from repository_worker.keys import now_ms

BLOCK_HOURS_MAX: Final = 24 * 365

app = typer.Typer(help="Which installations may use the broker. Needs the management credential.", no_args_is_help=True)
Named = Annotated[str, typer.Argument(metavar="INSTALLATION", help="As `smr init` shows it.")]


@app.command()
def enrol(
    named: Named,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A new file. Default: INSTALLATION.enrolment.json here.")
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="PEM of the CAs of the broker's certificate. Default: the setting."),
    ] = None,
    broker: Annotated[
        str | None, typer.Option(help="Another address of the broker than the descriptor's, for this installation.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Give an installation an account, in a file for `smr init --enrolment`. Once more: a new password."""
    settings, _ = common.start()
    installation = _installation(named)
    target = output or Path(f"{installation}.enrolment.json")
    if target.exists():
        raise ClientsError(f"{target} exists already; it is never written over, since it may hold a password in use.")
    authorities = ca or settings.client_ca_file
    pem = _read_pem(authorities) if authorities else None
    password = settings.clients().enrol(installation)
    data = enrolment.write(enrolment.Enrolment(installation, password, pem, broker))
    try:
        write_atomically(target, data, PRIVATE_FILE)
    except OSError as error:
        raise ClientsError(f"{target} cannot be written ({error.strerror}); enrol again with another file.") from error
    facts = {"installation": installation, "account": names.client_account(installation), "file": str(target)}
    common.show(facts, as_json, title="Enrolled. Hand the file over in private: smr init --enrolment FILE takes it.")


@app.command()
def block(
    named: Named,
    why: Annotated[str, typer.Option(help="For the list.")] = "blocked by the operator",
    hours: Annotated[
        float | None,
        typer.Option(min=0.01, max=BLOCK_HOURS_MAX, help="For so long; `guard` ends it. Default: until unblocked."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Cut an installation off at once: nothing is let in any more, and its connections are closed."""
    settings, _ = common.start()
    installation = _installation(named)
    until = Milliseconds(now_ms() + int(hours * 3_600_000)) if hours is not None else None
    closed = settings.clients().block(installation, why, until=until)
    common.show({"installation": installation, "connections_closed": closed}, as_json, title="Blocked.")


@app.command()
def unblock(named: Named, as_json: Json = False) -> None:
    """Let a blocked installation in again, with the password that it has."""
    settings, _ = common.start()
    installation = _installation(named)
    settings.clients().unblock(installation)
    common.show({"installation": installation}, as_json, title="Unblocked.")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the installations: enrolled, last seen, connections, blocked."""
    settings, _ = common.start()
    found = settings.clients().all()
    if as_json:
        typer.echo(json.dumps({"clients": [_facts(each) for each in found]}, ensure_ascii=False))
        return
    if not found:
        typer.echo("No installation is enrolled.")
        return
    table = Table(box=None, header_style="bold")
    for heading in ("installation", "enrolled", "last seen", "connections", "blocked"):
        table.add_column(heading, no_wrap=True, justify="right" if heading == "connections" else "left")
    for each in found:
        seen = "now" if each.connections else _moment(each.seen)
        table.add_row(each.installation, _moment(each.enrolled), seen, str(each.connections), _block(each))
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)


def _installation(text: str) -> names.Installation:
    try:
        return names.parse_installation(text)
    except NameRefused as error:
        raise typer.BadParameter(f"{error}; `smr init` shows it") from error


def _read_pem(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ClientsError(f"{path} cannot be read as a PEM file of certificates; check the file.") from error


def _facts(client: Client) -> dict[str, Any]:
    block = client.blocked
    return {
        **asdict(client),
        "account": names.client_account(client.installation),
        "enrolled": _text(client.enrolled),
        "seen": _text(client.seen),
        "blocked": {"since": _text(block.since), "until": _text(block.until), "why": block.why} if block else None,
    }


def _block(client: Client) -> str:
    if client.blocked is None:
        return ""
    until = f" until {_moment(client.blocked.until)}" if client.blocked.until is not None else ""
    return f"since {_moment(client.blocked.since)}{until}: {client.blocked.why}"


def _text(moment: int | None) -> str | None:
    return None if moment is None else moments.to_text(Milliseconds(moment))


def _moment(moment: int | None) -> str:
    return "?" if moment is None else f"{moments.to_datetime(Milliseconds(moment)):%Y-%m-%d %H:%M}"
