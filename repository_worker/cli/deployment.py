"""`smr-repository compose-secrets` and `prepare-database`: what docker-compose.yml asks for before and at its start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from repository_worker.cli import common
from repository_worker.cli.common import Json


def compose_secrets(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An empty folder, or one to be made.")],
    organisation: Annotated[
        str, typer.Option(help="The operator's name, which goes into certificates; needed to make them first.")
    ] = "",
    host: Annotated[
        list[str] | None, typer.Option(help="A name or address by which clients reach the broker; repeatable.")
    ] = None,
    cluster: Annotated[bool, typer.Option("--cluster", help="For deploy/cluster.yml: three of each.")] = False,
    renew_certificates: Annotated[
        bool, typer.Option("--renew-certificates", help="Only issue the servers' certificates anew.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make every secret and certificate that docker-compose.yml mounts, once. Nothing there is ever overwritten."""
    from repository_worker.compose_secrets import Deployment, create
    from repository_worker.compose_secrets import renew_certificates as renew

    hosts = tuple(host or ())
    if renew_certificates:
        made = renew(folder, hosts)
        title = "Certificates renewed. RabbitMQ reads them within minutes; restart mongo, one member after the other."
    else:
        if not organisation:
            raise typer.BadParameter("the certificates need the operator's name: add --organisation")
        made = create(folder, Deployment(organisation, hosts, cluster))
        title = "Secrets made. Keep a copy of the folder where only you can read it."
    common.show({"folder": str(folder), "files": ", ".join(made)}, as_json, title=title)


def prepare_database(
    member: Annotated[list[str], typer.Option(help="host:port of a member; repeatable, this machine's first.")],
    accounts: Annotated[Path, typer.Option(help="The file database-accounts.json of `compose-secrets`.")],
    ca: Annotated[Path, typer.Option(help="The CA of the members' certificates.")],
    as_json: Json = False,
) -> None:
    """Make the replica set and its accounts, on the machine of its first member; repeating it harms nothing."""
    from repository_worker.database_setup import Accounts, DatabaseSetup

    DatabaseSetup(member, Accounts.read(accounts), ca).run()
    common.show({"members": ", ".join(member)}, as_json, title="Database ready.")
