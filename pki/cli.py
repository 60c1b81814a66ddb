"""`smr-pki`: the trust store, CRLs, virtual cards and the test CA, from a terminal.

Rules: text for people, or with `--json` one JSON document on standard output; errors go to standard error. PINs and
passphrases come from a prompt, or from the files that SMR_PIN_FILE and SMR_PASSPHRASE_FILE name; never from arguments,
which other users of the machine can read. This is the only file of the room that prints.

Exit codes: 0 done; 1 refused or impossible (the message says why); 2 wrong usage.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer
from cryptography import x509
from platformdirs import user_data_path
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from pki import crl_server, trust_tree
from pki.certificate_files import read_certificates
from pki.errors import PkiError, TestCaError
from pki.fetchers import HttpFetcher
from pki.identity import display_name, fingerprint
from pki.revocation import RevocationCache
from pki.test_ca import TestCa
from pki.test_responder import TestResponder
from pki.tokens.profiles import CardKeyUse
from pki.trust_store import ImportReport, TrustStore
from pki.virtual_card import (
    KEY_KINDS,
    VirtualCard,
    create_virtual_card,
    folder_name,
    list_virtual_cards,
    open_virtual_card,
)

PIN_FILE: Final = "SMR_PIN_FILE"
PASSPHRASE_FILE: Final = "SMR_PASSPHRASE_FILE"  # noqa: S105 - the name of a variable, not a secret
SECRET_FILE_BYTES_MAX: Final = 4096
_DEFAULT: Final = user_data_path("smr")

app = typer.Typer(help="Who is who: trust store, revocation lists, virtual cards.", no_args_is_help=True)
cards_app = typer.Typer(help="Virtual Citizen Cards, for development and tests.", no_args_is_help=True)
trust_app = typer.Typer(help="The roots that you trust to say who a citizen is.", no_args_is_help=True)
crl_app = typer.Typer(help="Lists of revoked certificates.", no_args_is_help=True)
ca_app = typer.Typer(help="A CA shaped like the state's, for development and tests.", no_args_is_help=True)
app.add_typer(cards_app, name="virtual-card")
app.add_typer(trust_app, name="trust")
app.add_typer(crl_app, name="crl")
app.add_typer(ca_app, name="test-ca")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
CaFolder = Annotated[Path, typer.Option("--ca", envvar="SMR_TEST_CA", help="Folder of the test CA.")]
StoreFolder = Annotated[
    Path, typer.Option("--trust-store", envvar="SMR_TRUST_STORE", help="Folder of the trust store.")
]
CardsFolder = Annotated[Path, typer.Option("--cards", envvar="SMR_CARDS", help="Folder of the virtual cards.")]


# --- virtual cards ----------------------------------------------------------------------


@cards_app.command("create")
def virtual_card_create(
    name: Annotated[str, typer.Argument(help="The citizen's whole name.")],
    key: Annotated[str, typer.Option(help=f"Kind of keys: {', '.join(KEY_KINDS)}.")] = "P-256",
    ca: CaFolder = _DEFAULT / "test-ca",
    cards: CardsFolder = _DEFAULT / "cards",
    as_json: AsJson = False,
) -> None:
    """Make a card with new keys and have them certified."""
    authority = TestCa.open(ca, _passphrase("Passphrase of the test CA"))
    pin = _secret(PIN_FILE, "PIN of the new card", confirm=True)
    card = create_virtual_card(authority, cards / folder_name(name), name, key_kind=key, pin=pin)
    _print(as_json, _card_json(card), lambda console: _card_text(console, card))


@cards_app.command("revoke")
def virtual_card_revoke(
    card: Annotated[str, typer.Argument(help="The citizen's name, or the card's folder.")],
    reason: Annotated[str, typer.Option(help="Reason, as RFC 5280 names it.")] = x509.ReasonFlags.key_compromise.value,
    in_delta: Annotated[bool, typer.Option("--in-delta", help="Publish it in the delta lists alone.")] = False,
    ca: CaFolder = _DEFAULT / "test-ca",
    cards: CardsFolder = _DEFAULT / "cards",
    as_json: AsJson = False,
) -> None:
    """Revoke both certificates of a card and publish new lists."""
    authority = TestCa.open(ca, _passphrase("Passphrase of the test CA"))
    found = open_virtual_card(Path(card) if Path(card).is_dir() else cards / folder_name(card))
    why = _reason(reason)
    lines = [authority.revoke(serial, why, in_delta=in_delta) for serial in found.serials.values()]
    data = {"holder": found.holder, "revoked_at": lines[0].revoked_at, "reason": lines[0].reason}
    text = f"Revoked the card of {found.holder} ({data['reason']}) at {data['revoked_at']}."
    _print(as_json, data, lambda console: console.print(text))


@cards_app.command("list")
def virtual_card_list(cards: CardsFolder = _DEFAULT / "cards", as_json: AsJson = False) -> None:
    """Show the virtual cards."""
    found = list_virtual_cards(cards)
    _print(as_json, {"cards": [_card_json(card) for card in found]}, lambda console: _cards_text(console, found))


# --- trust store ----------------------------------------------------------------------


@trust_app.command("import")
def trust_import(
    paths: Annotated[
        list[Path], typer.Argument(help="Files (PEM, DER, PKCS#7) and folders with CA certificates.", metavar="PATH")
    ],
    root: Annotated[
        list[str] | None,
        typer.Option("--root", "--root-fingerprint", help="SHA-256 of a root to trust; without it you are asked."),
    ] = None,
    trust_store: StoreFolder = _DEFAULT / "trust",
    as_json: AsJson = False,
) -> None:
    """Import CA certificates. A root is trusted only by its fingerprint."""
    store = TrustStore.open(trust_store)
    confirm = _ask_root if root is None and sys.stdin.isatty() else None
    report = store.import_certificates(paths, root_fingerprints=root or (), confirm=confirm)

    def text(console: Console) -> None:
        for title, found in (("Roots", report.roots), ("Intermediates", report.intermediates)):
            console.print(f"{title}: {', '.join(_name(c) for c in found) or 'none'}", markup=False)
        for left in report.left_out:
            console.print(f"Left out: {_name(left.certificate)}: {left.reason}", markup=False)
            console.print(f"  SHA-256 {fingerprint(left.certificate)}", soft_wrap=True)
        for problem in report.problems:
            console.print(f"Note: {problem}.", markup=False, soft_wrap=True)
        if not store.roots:
            console.print("No root is trusted yet. Compare its fingerprint with the state's, then: --root SHA256")

    _print(as_json, _import_json(report), text)


@trust_app.command("show")
def trust_show(trust_store: StoreFolder = _DEFAULT / "trust", as_json: AsJson = False) -> None:
    """Show the roots and the CAs below them, and which chains complete today."""
    forest = trust_tree.tree(TrustStore.open(trust_store), datetime.now(UTC))

    def text(console: Console) -> None:
        for branch in forest:
            console.print(_drawn(branch))
        if not forest:
            console.print("The trust store is empty. Import the state's root: smr-pki trust import PATH")

    data = {"trust_store": str(trust_store), "certificates": [trust_tree.as_json(branch) for branch in forest]}
    _print(as_json, data, text)


@trust_app.command("remove")
def trust_remove(
    fingerprint_: Annotated[
        str, typer.Argument(metavar="SHA256", help="The certificate's fingerprint, or the first 8 or more digits.")
    ],
    trust_store: StoreFolder = _DEFAULT / "trust",
    as_json: AsJson = False,
) -> None:
    """Remove a root or a CA. What stands below a removed root is trusted no longer."""
    removed = TrustStore.open(trust_store).remove(fingerprint_)
    data = {"name": _name(removed), "sha256": fingerprint(removed)}
    _print(as_json, data, lambda console: console.print(f"Removed {data['name']}.", markup=False))


@crl_app.command("refresh")
def crl_refresh(
    certificates: Annotated[
        list[Path] | None, typer.Argument(help="Certificates whose lists to fetch too, e.g. a card's.")
    ] = None,
    trust_store: StoreFolder = _DEFAULT / "trust",
    allow_private_addresses: Annotated[bool, typer.Option(help="For test CAs on this machine.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch the revocation lists of the trust store's CAs anew, and those seen before."""
    store = TrustStore.open(trust_store)
    extra = [c for path in certificates or () for c in read_certificates(path)]
    fetcher = HttpFetcher(allow_private_addresses=allow_private_addresses)
    with Console(stderr=True).status("Fetching revocation lists ..."):
        done = RevocationCache(store.crl_folder, fetcher).refresh_all([*store.roots, *store.intermediates, *extra])
    lines = [
        {
            "url": line.url,
            "issuer": line.issuer,
            "next_update": line.next_update.isoformat() if line.next_update else None,
            "problem": line.problem,
        }
        for line in done
    ]

    def text(console: Console) -> None:
        for line in lines:
            state = line["problem"] or f"good until {line['next_update']}"
            console.print(f"{line['issuer']}: {state}")
        if not lines:
            console.print("No list is known yet: give a certificate, or import CA certificates first.")

    _print(as_json, {"crls": lines}, text)
    if any(line["problem"] for line in lines):
        raise typer.Exit(1)


# --- test CA ----------------------------------------------------------------------


@ca_app.command("create")
def ca_create(
    crl_url: Annotated[str, typer.Option(help="Where its revocation lists will be served.")],
    ca: CaFolder = _DEFAULT / "test-ca",
    as_json: AsJson = False,
) -> None:
    """Make the test CA. Its root's fingerprint is what `trust import` asks for."""
    made = TestCa.create(ca, crl_url, _passphrase("Passphrase for the test CA", confirm=True))
    _print_ca(as_json, made)


@ca_app.command("publish")
def ca_publish(ca: CaFolder = _DEFAULT / "test-ca", as_json: AsJson = False) -> None:
    """Make new revocation lists, good for a week."""
    authority = TestCa.open(ca, _passphrase("Passphrase of the test CA"))
    authority.publish_crls()
    _print_ca(as_json, authority)


@ca_app.command("serve")
def ca_serve(
    ca: CaFolder = _DEFAULT / "test-ca",
    port: Annotated[int | None, typer.Option(help="Loopback port; without it, the one in the CA's address.")] = None,
) -> None:
    """Publish new lists and deltas, and serve them and OCSP answers on loopback until Ctrl-C."""
    authority = TestCa.open(ca, _passphrase("Passphrase of the test CA"))
    authority.publish_crls()
    chosen = port if port is not None else urlsplit(authority.crl_base_url).port or 0
    try:
        server = crl_server.CrlServer(authority.crl_folder, chosen)
    except OSError as error:
        raise TestCaError(f"Port {chosen} cannot be used.", "Another program has it.", "Choose another.") from error
    with server:
        server.answer_questions(TestResponder(authority).answer)
        Console().print(f"Serving {authority.crl_folder} and OCSP at {server.url}; Ctrl-C ends it.", soft_wrap=True)
        server.wait()


# --- output and input ----------------------------------------------------------------------


def main() -> None:
    """The program. Every refusal of the room becomes one line for people and exit code 1."""
    try:
        app()
    except PkiError as error:
        Console(stderr=True, highlight=False).print(f"[bold]Error:[/bold] {_escape(error)}")
        raise SystemExit(1) from error


def _escape(error: PkiError) -> str:
    return str(error).replace("[", r"\[")


def _print(as_json: bool, data: dict[str, Any], text: Callable[[Console], None]) -> None:
    if as_json:
        sys.stdout.write(json.dumps(data, ensure_ascii=False, indent=2) + "\n")
    else:
        text(Console(highlight=False))


def _print_ca(as_json: bool, ca: TestCa) -> None:
    data = {
        "folder": str(ca.folder),
        "root_sha256": fingerprint(ca.root),
        "crl_base_url": ca.crl_base_url,
        "certificates": [str(path) for path in ca.certificate_files],
    }

    def text(console: Console) -> None:
        console.print(f"Test CA in {ca.folder}, lists at {ca.crl_base_url}", soft_wrap=True)
        console.print(f"Root fingerprint (SHA-256): {data['root_sha256']}", soft_wrap=True)

    _print(as_json, data, text)


def _card_json(card: VirtualCard) -> dict[str, Any]:
    data = asdict(card)
    return {
        **{key: data[key] for key in ("holder", "civil_number", "key_kind", "label")},
        "folder": str(card.folder),
        "module": str(card.module),
        "softhsm_conf": str(card.softhsm_conf),
        "serials": {use.value: f"{serial:x}" for use, serial in card.serials.items()},
    }


def _card_text(console: Console, card: VirtualCard) -> None:
    console.print(f"Made a virtual card for {card.holder} ({card.civil_number}, {card.key_kind}).")
    console.print(f"To use it: export SOFTHSM2_CONF={card.softhsm_conf}", soft_wrap=True)


def _cards_text(console: Console, cards: list[VirtualCard]) -> None:
    if not cards:
        console.print("There are no virtual cards here. Make one: smr-pki virtual-card create NAME")
        return
    table = Table("holder", "civil number", "keys", "uses", "folder")
    for card in cards:
        uses = ", ".join(use.value for use in CardKeyUse if use in card.serials)
        table.add_row(card.holder, card.civil_number, card.key_kind, uses, str(card.folder))
    console.print(table)


def _drawn(branch: trust_tree.Branch) -> Tree:
    certificate = branch.certificate
    mark = "root" if branch.root else "CA"
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    state = "complete today" if branch.complete else f"does not complete: {branch.reason}"
    head = f"{_name(certificate)} ({mark}, {since:%Y-%m-%d} to {until:%Y-%m-%d}), {state}"
    if branch.again:
        return Tree(Text(f"{head}; shown elsewhere in full"))
    tree = Tree(Text(f"{head}\nSHA-256 {fingerprint(certificate)}"))
    for below in branch.issued:
        tree.add(_drawn(below))
    return tree


def _name(certificate: x509.Certificate) -> str:
    return display_name(certificate.subject)


def _import_json(report: ImportReport) -> dict[str, Any]:
    return {
        "roots": [_name(c) for c in report.roots],
        "intermediates": [_name(c) for c in report.intermediates],
        "left_out": [
            {"name": _name(left.certificate), "sha256": fingerprint(left.certificate), "reason": left.reason}
            for left in report.left_out
        ],
        "problems": list(report.problems),
    }


def _ask_root(certificate: x509.Certificate, digest: str) -> bool:
    grouped = " ".join(digest[i : i + 4] for i in range(0, len(digest), 4))
    until = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
    typer.echo(f"{_name(certificate)}, until {until}\nSHA-256 {grouped}", err=True)
    return typer.confirm("Is this fingerprint the one that its owner publishes? Trust it?", err=True)


def _reason(text: str) -> x509.ReasonFlags:
    try:
        return x509.ReasonFlags(text)
    except ValueError as error:
        known = ", ".join(flag.value for flag in x509.ReasonFlags)
        raise TestCaError(f"{text!r} is no reason for a revocation.", "", f"Use one of: {known}.") from error


def _passphrase(prompt: str, *, confirm: bool = False) -> str:
    return _secret(PASSPHRASE_FILE, prompt, confirm=confirm)


def _secret(variable: str, prompt: str, *, confirm: bool = False) -> str:
    """From the file that the variable names, else from a prompt. Raises PkiError."""
    named = os.environ.get(variable)
    secret = _from_file(Path(named), variable) if named else _from_prompt(prompt, variable, confirm)
    if not secret:
        raise PkiError(f"{prompt}: nothing was given.", "It protects a key.", "Try again.")
    return secret


def _from_file(path: Path, variable: str) -> str:
    try:
        with path.open("rb") as file:
            return file.read(SECRET_FILE_BYTES_MAX).decode("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PkiError(f"The file {path} that {variable} names cannot be read.", "", "Check it.") from error


def _from_prompt(prompt: str, variable: str, confirm: bool) -> str:
    if not sys.stdin.isatty():
        raise PkiError(
            f"{prompt}: there is no terminal to ask on.",
            "A secret is never taken from an argument.",
            f"Put it into a file and name that file in {variable}.",
        )
    secret = getpass.getpass(f"{prompt}: ")
    if confirm and getpass.getpass("Again: ") != secret:
        raise PkiError("The two entries differ.", "A slip would lock you out.", "Try again.")
    return secret
