"""What every command of `smr-repository` shares: settings, the passphrase, and how results and errors are shown."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console

from broker_config.connection import parse_amqp_url, to_url
from crypto_core import moments
from crypto_core.descriptor import Descriptor
from repository_worker import logs
from repository_worker.errors import HomeError
from repository_worker.keys import Home, RepositoryKeystore
from repository_worker.settings import PASSPHRASE_FILE, Settings

FAILED: Final = 1

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def start() -> tuple[Settings, Home]:
    """The settings and the home folder; logging is set up."""
    settings = Settings()
    logs.configure(settings.log_format, settings.log_level)
    return settings, Home(settings.home)


def opened(home: Home) -> RepositoryKeystore:
    """The keystore, opened with the passphrase. Raises HomeError."""
    if not home.exists:
        raise HomeError(f"There is no repository in {home.folder}; run `smr-repository init` first.")
    return home.keystore(passphrase())


def passphrase() -> str:
    """The passphrase, from its file or from a prompt. Raises HomeError."""
    named = os.environ.get(PASSPHRASE_FILE)
    if named:
        try:
            return Path(named).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise HomeError(f"The file that {PASSPHRASE_FILE} names cannot be read; check {named}.") from error
    if not sys.stdin.isatty():
        raise HomeError(f"A passphrase is needed and nobody can be asked; name a file in {PASSPHRASE_FILE}.")
    asked: str = typer.prompt("Passphrase of the repository", hide_input=True, err=True)
    return asked


def new_passphrase() -> str:
    """As `passphrase`, asked for twice where a person types it."""
    if os.environ.get(PASSPHRASE_FILE) or not sys.stdin.isatty():
        return passphrase()
    asked: str = typer.prompt("New passphrase of the repository", hide_input=True, confirmation_prompt=True, err=True)
    return asked


def facts(shown: Descriptor, root: str, home: Home) -> dict[str, Any]:
    """What is told of a descriptor."""
    return {
        "repository_id": shown.repository,
        "name": shown.name,
        "root_fingerprint": root,
        "epoch": shown.epoch,
        "broker": without_password(shown.broker),
        "expires": moments.to_text(shown.expires),
        "descriptor": str(home.descriptor_path),
    }


def without_password(url: str) -> str:
    """The same address, fit to be shown."""
    return to_url(parse_amqp_url(url, password=""))


def show(facts: dict[str, Any], as_json: bool, *, title: str) -> None:
    """A result: one JSON document, or a title and lines."""
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(title, style="bold")
    width = max(map(len, facts))
    for key, value in facts.items():
        console.print(f"  {key.replace('_', ' '):{width}}  {value}", markup=False)


def announce() -> None:
    """Tells the program that started this one that messages flow."""
    typer.echo("ready")
    sys.stdout.flush()


def nothing() -> None:
    """For who need not be told."""
    return


def fail(message: str) -> NoReturn:
    """Shows an error and ends the program."""
    if "--json" in sys.argv:
        typer.echo(json.dumps({"error": {"message": message}}, ensure_ascii=False))
    else:
        typer.echo(f"smr-repository: {message}", err=True)
    sys.exit(FAILED)
