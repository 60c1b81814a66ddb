"""The commands of `smr-repository`.

    init         make a repository: operator root, keys, descriptor, the broker's topology, the database's indexes
    run          work: take commands until told to stop
    descriptor   show, export or issue anew what clients need to know
    dev          a whole private stack in the foreground

Exit codes: 0 done, 1 failed, 2 wrong usage. Every command has `--json`. Passphrases come from a prompt or from the file
that SMR_PASSPHRASE_FILE names, never from an argument; everything else that is set is in `repository_worker.settings`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console

from broker_config import topology
from broker_config.connection import connect as connect_broker
from broker_config.connection import parse_amqp_url
from broker_config.errors import BrokerError
from broker_config.private_process import LocalServerError
from crypto_core import moments
from crypto_core.descriptor import Descriptor
from crypto_core.errors import ProtocolError
from pki.errors import PkiError
from repository_worker import logs
from repository_worker.errors import HomeError, WorkerError
from repository_worker.keys import Home, RepositoryKeystore, now_ms
from repository_worker.settings import Settings

PASSPHRASE_FILE: Final = "SMR_PASSPHRASE_FILE"  # noqa: S105 - the name of a variable, not a secret
PROCESSES_MAX: Final = 64
FAILED: Final = 1

app = typer.Typer(
    name="smr-repository",
    help="The Secure Messaging Repository, for its operator.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


@app.command()
def init(
    name: Annotated[str, typer.Option(help="The repository's name, as clients show it.")],
    organisation: Annotated[str, typer.Option(help="The operator's name, which goes into the operator root.")],
    broker: Annotated[str, typer.Option(help="The broker's address as clients reach it (amqps://account@host/vhost).")],
    as_json: Json = False,
) -> None:
    """Make a repository, or complete one that was begun; repeating it harms nothing."""
    settings, home = _start()
    if not home.exists:
        parse_amqp_url(broker, password="")
        home.create(name, organisation, broker, _new_passphrase(), now_ms())
    shown, root = home.descriptor(now_ms())
    _prepare(settings, shown)
    _show(
        _facts(shown, root, home),
        as_json,
        title="Repository ready. Publish the root fingerprint where people trust it.",
    )


@app.command()
def run(
    processes: Annotated[int, typer.Option(min=1, max=PROCESSES_MAX, help="Worker processes.")] = 1,
    announce: Annotated[bool, typer.Option(hidden=True, help="Say `ready` on standard output.")] = False,
) -> None:
    """Take commands until SIGTERM or Ctrl-C."""
    from repository_worker import worker
    from repository_worker.processes import Team

    settings, home = _start()
    opened = _opened(home)
    if processes == 1:
        worker.run(settings, opened, on_ready=_announce if announce else _nothing)
        return
    Team(processes, lambda number: worker.run(settings, opened, number=number)).run()


@app.command()
def descriptor(
    export: Annotated[Path | None, typer.Option(help="Write the signed descriptor to this file.")] = None,
    reissue: Annotated[bool, typer.Option("--reissue", help="Issue it anew, with a higher epoch.")] = False,
    new_keys: Annotated[
        bool, typer.Option("--new-keys", help="With new signing and sealing keys; needs --reissue.")
    ] = False,
    broker: Annotated[str | None, typer.Option(help="With another broker address; needs --reissue.")] = None,
    as_json: Json = False,
) -> None:
    """Show the repository's descriptor, export it, or issue it anew. Workers take a new one when they start."""
    _, home = _start()
    if (new_keys or broker) and not reissue:
        raise typer.BadParameter("this changes the descriptor: add --reissue")
    shown, root = home.descriptor(now_ms())
    if reissue:
        home.reissue(broker or shown.broker, _passphrase(), now_ms(), new_keys=new_keys)
        shown, root = home.descriptor(now_ms())
    if export is not None:
        export.write_bytes(home.signed_descriptor())
    _show(_facts(shown, root, home), as_json, title="Descriptor")


@app.command()
def dev(
    folder: Annotated[
        Path | None, typer.Option(help="Where it lies; kept afterwards. Default: a folder that goes.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=PROCESSES_MAX, help="Worker processes.")] = 2,
    as_json: Json = False,
) -> None:
    """A whole private stack on this machine, in the foreground, until Ctrl-C. For development, not for people."""
    from repository_worker.cli.dev import run_stack

    logs.configure("auto", "warning")
    run_stack(folder, workers, lambda facts: _show(facts, as_json, title="Private stack. Ctrl-C ends it."))


# --- shared -----------------------------------------------------------------------------------------------------------


def _start() -> tuple[Settings, Home]:
    settings = Settings()
    logs.configure(settings.log_format, settings.log_level)
    return settings, Home(settings.home)


def _opened(home: Home) -> RepositoryKeystore:
    if not home.exists:
        raise HomeError(f"There is no repository in {home.folder}; run `smr-repository init` first.")
    return home.keystore(_passphrase())


def _prepare(settings: Settings, shown: Descriptor) -> None:
    from repository_worker.storage.mongo import MongoStorage, connect

    with connect_broker(settings.broker(), name="smr-repository init") as connection:
        topology.declare(connection.channel())
    storage = MongoStorage(connect(settings.mongo()), settings.mongo_database, shown.repository)
    try:
        storage.prepare()
    finally:
        storage.close()


def _passphrase() -> str:
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


def _new_passphrase() -> str:
    if os.environ.get(PASSPHRASE_FILE) or not sys.stdin.isatty():
        return _passphrase()
    asked: str = typer.prompt("New passphrase of the repository", hide_input=True, confirmation_prompt=True, err=True)
    return asked


def _facts(shown: Descriptor, root: str, home: Home) -> dict[str, Any]:
    return {
        "repository_id": shown.repository,
        "name": shown.name,
        "root_fingerprint": root,
        "epoch": shown.epoch,
        "broker": _without_password(shown.broker),
        "expires": moments.to_text(shown.expires),
        "descriptor": str(home.descriptor_path),
    }


def _without_password(url: str) -> str:
    from broker_config.connection import to_url

    return to_url(parse_amqp_url(url, password=""))


def _show(facts: dict[str, Any], as_json: bool, *, title: str) -> None:
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(title, style="bold")
    width = max(map(len, facts))
    for key, value in facts.items():
        console.print(f"  {key.replace('_', ' '):{width}}  {value}", markup=False)


def _announce() -> None:
    typer.echo("ready")
    sys.stdout.flush()


def _nothing() -> None:
    return


def _fail(message: str) -> NoReturn:
    if "--json" in sys.argv:
        typer.echo(json.dumps({"error": {"message": message}}, ensure_ascii=False))
    else:
        typer.echo(f"smr-repository: {message}", err=True)
    sys.exit(FAILED)


def main(program: Callable[[], None] = app) -> None:
    """The program."""
    try:
        program()
    except (WorkerError, BrokerError, PkiError, ProtocolError, LocalServerError) as error:
        _fail(str(error))
    except ValidationError as error:
        # Names and reasons only: a value may hold a password.
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        _fail(f"A setting cannot be used: {wrong}.")
