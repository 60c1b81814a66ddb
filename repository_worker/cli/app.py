"""The commands of `smr-repository`.

    init         make a repository: operator root, keys, descriptor, the broker's topology, the database's indexes
    run          work: take commands until told to stop
    descriptor   show, export or issue anew what clients need to know
    doctor       look everything over and say what to do
    dead         dead letters: list, show, requeue, drop
    clients      which installations may use the broker: enrol, block, unblock, list
    guard        cut off installations that flood the broker
    evidence     show the certificate that evidence is signed with, or issue another
    settings     every setting with its unit and default
    dev          a whole private stack in the foreground
    compose-secrets, prepare-database   what docker-compose.yml asks for before and at its start

Exit codes: 0 done, 1 failed, 2 wrong usage. Every command has `--json`. Passphrases come from a prompt or from the file
that SMR_PASSPHRASE_FILE names, never from an argument; everything else that is set is in `repository_worker.settings`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import ValidationError

from broker_config import topology
from broker_config.connection import connect as connect_broker
from broker_config.connection import parse_amqp_url
from broker_config.errors import BrokerError
from broker_config.private_process import LocalServerError
from crypto_core.descriptor import Descriptor
from crypto_core.errors import ProtocolError
from pki.errors import PkiError
from pki.identity import fingerprint
from repository_worker import logs
from repository_worker.cli import clients, common, dead, deployment, doctor
from repository_worker.cli.common import Json
from repository_worker.errors import HomeError, WorkerError
from repository_worker.keys import now_ms
from repository_worker.settings import Settings

PROCESSES_MAX: Final = 64

app = typer.Typer(
    name="smr-repository",
    help="The Secure Messaging Repository, for its operator.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(dead.app, name="dead")
app.add_typer(clients.app, name="clients")
app.command()(doctor.doctor)
app.command("compose-secrets")(deployment.compose_secrets)
app.command("prepare-database")(deployment.prepare_database)


@app.command()
def init(
    name: Annotated[str, typer.Option(help="The repository's name, as clients show it.")],
    organisation: Annotated[str, typer.Option(help="The operator's name, which goes into the operator root.")],
    broker: Annotated[str, typer.Option(help="The broker's address as clients reach it (amqps://account@host/vhost).")],
    as_json: Json = False,
) -> None:
    """Make a repository, or complete one that was begun; repeating it harms nothing."""
    settings, home = common.start()
    if not home.exists:
        parse_amqp_url(broker, password="")
        home.create(name, organisation, broker, common.new_passphrase(), now_ms())
    shown, root = home.descriptor(now_ms())
    _prepare(settings, shown)
    common.show(
        common.facts(shown, root, home),
        as_json,
        title="Repository ready. Publish the root fingerprint where people trust it.",
    )


@app.command()
def run(
    processes: Annotated[int, typer.Option(min=1, max=PROCESSES_MAX, help="Worker processes.")] = 1,
    announce: Annotated[bool, typer.Option(hidden=True, help="Say `ready` on standard output.")] = False,
    on_word: Annotated[bool, typer.Option(hidden=True, help="Begin at a line on standard input.")] = False,
) -> None:
    """Take commands until SIGTERM or Ctrl-C."""
    from repository_worker import worker
    from repository_worker.processes import Team

    if on_word and not sys.stdin.readline():
        return  # whoever was to say it is gone
    settings, home = common.start()
    opened = common.opened(home)
    if processes == 1:
        worker.run(settings, opened, on_ready=common.announce if announce else common.nothing)
        return
    Team(processes, lambda number: worker.run(settings, opened, number=number)).run()


@app.command()
def guard() -> None:
    """Block for a time who floods the broker, until SIGTERM or Ctrl-C. Needs the management credential."""
    from repository_worker.processes import at_end

    settings, _ = common.start()
    ended = threading.Event()
    at_end(ended.set)
    settings.guard().run(ended)


@app.command()
def descriptor(
    export: Annotated[Path | None, typer.Option(help="Write the signed descriptor to this file.")] = None,
    reissue: Annotated[bool, typer.Option("--reissue", help="Issue it anew, with a higher epoch.")] = False,
    new_keys: Annotated[
        bool, typer.Option("--new-keys", help="With new signing and sealing keys; needs --reissue.")
    ] = False,
    withdraw: Annotated[
        bool,
        typer.Option("--withdraw", help="Former keys end at once, since others may know them; needs --new-keys."),
    ] = False,
    broker: Annotated[str | None, typer.Option(help="With another broker address; needs --reissue.")] = None,
    as_json: Json = False,
) -> None:
    """Show the repository's descriptor, export it, or issue it anew. Running workers take a new one by themselves."""
    _, home = common.start()
    if (new_keys or broker) and not reissue:
        raise typer.BadParameter("this changes the descriptor: add --reissue")
    if withdraw and not new_keys:
        raise typer.BadParameter("without new keys there would be none left: add --new-keys")
    shown, root = home.descriptor(now_ms())
    if reissue:
        home.reissue(broker or shown.broker, common.passphrase(), now_ms(), new_keys=new_keys, withdraw=withdraw)
        shown, root = home.descriptor(now_ms())
    if export is not None:
        export.write_bytes(home.signed_descriptor())
    common.show(common.facts(shown, root, home), as_json, title="Descriptor")


@app.command()
def evidence(
    renew: Annotated[
        bool, typer.Option("--renew", help="Make a new key and certificate; needs the operator root's key.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the certificate that evidence is signed with, or issue another. Workers take a new one when they start."""
    _, home = common.start()
    passphrase = common.passphrase()
    if renew:
        home.renew_evidence(passphrase, now_ms())
    kept = home.keystore(passphrase).evidence
    if kept is None:
        raise HomeError("There is no key for evidence yet; make one: `smr-repository evidence --renew`.")
    certificate = kept.credential().certificate
    shown = {
        "subject": certificate.subject.rfc4514_string(),
        "sha256": fingerprint(certificate),
        "until": f"{certificate.not_valid_after_utc:%Y-%m-%d}",
    }
    common.show(shown, as_json, title="Evidence")


@app.command()
def settings() -> None:
    """Print the page that lists every setting with its unit, default and meaning."""
    from repository_worker.settings_page import page

    typer.echo(page(), nl=False)


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
    run_stack(folder, workers, lambda facts: common.show(facts, as_json, title="Private stack. Ctrl-C ends it."))


def _prepare(settings: Settings, shown: Descriptor) -> None:
    from repository_worker import worker
    from repository_worker.storage.driver import connect
    from repository_worker.storage.mongo import MongoStorage

    with connect_broker(settings.operator_broker(), name="smr-repository init") as connection:
        topology.declare(connection.channel())
    storage = MongoStorage(connect(settings.mongo()), settings.mongo_database, shown.repository)
    operations = worker.open_operations(settings)
    try:
        worker.prepare(operations, storage)
    finally:
        operations.close()
        storage.close()


def main(program: Callable[[], None] = app) -> None:
    """The program."""
    try:
        program()
    except (WorkerError, BrokerError, PkiError, ProtocolError, LocalServerError) as error:
        common.fail(str(error))
    except ValidationError as error:
        # Names and reasons only: a value may hold a password.
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        common.fail(f"A setting cannot be used: {wrong}.")
