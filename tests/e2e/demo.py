"""`make demo`: two citizens exchange a sealed letter and its receipt, with the real programs on a private stack.

Every line that starts with a name is a command that was really run, and what follows is its output. What only prepares
the play goes through the same libraries as the programs, without one: starting an interpreter for each of eighteen
such errands would take a third of the time. A step that does not end as it should stops the demonstration with exit
code 1.
Whatever happens, also Ctrl-C, everything that was started is ended, and that is checked.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from broker_config.private_process import StartFailed
from client.api import Repository
from client.errors import ClientError, ExitCode
from client.settings import Settings
from pki.errors import PkiError
from pki.trust_store import TrustStore
from pki.virtual_card import VirtualCard, create_virtual_card, folder_name
from repository_worker.processes import Stopped, StopRequest
from repository_worker.stack import PrivateStack

LETTER = """\
Caro João,

Segue a ata da reunião de ontem. A eleição ficou marcada para terça-feira, às nove,
na Câmara Municipal: não te esqueças do cartão de cidadão!

Até amanhã, com um abraço,
Maria da Conceição
"""
SUBJECT = "Ata da reunião de ontem"
WORDS = ("reunião", "eleição", "Câmara", "abraço", SUBJECT)
PASSPHRASE, PIN = "uma frase longa, só para a demonstração", "1234"
COMMAND_SECONDS = 60.0
WIDTH = 118  #: columns, where nobody looks on a terminal
MARGIN = 4  #: columns before what a command printed
PROGRAMS = Path(sys.executable).parent


class DemoFailed(Exception):
    """A step did not end as it should."""


@dataclass
class Person:
    """A citizen with a home and a card of their own."""

    name: str
    key: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    card: VirtualCard | None = None

    @property
    def short(self) -> str:
        return self.name.split()[0].lower()

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def trust(self) -> Path:
        return self.folder / "trust"

    @property
    def runtime(self) -> Path:
        return self.folder / "runtime"


class Stage:
    """What the audience sees: titles, commands with their output, and at the end the summary."""

    def __init__(self, checkpoint: Callable[[], None]) -> None:
        """What `checkpoint` raises ends the play; it is called before each step and after each program."""
        self.checkpoint = checkpoint
        self.console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
        self.results: list[tuple[str, str, float]] = []

    @contextlib.contextmanager
    def step(self, title: str, shows: str) -> Iterator[None]:
        self.checkpoint()
        number = len(self.results) + 1
        self.console.print()
        self.console.print(Rule(f"[bold]{number}. {escape(title)}", align="left"))
        started = time.perf_counter()
        yield
        self.results.append((title, shows, time.perf_counter() - started))

    def say(self, text: str) -> None:
        self.console.print(f"  {escape(text)}", style="italic")

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        started = time.perf_counter()
        with self.console.status(f"{what} …"):
            yield
        self.console.print(f"  [green]✓[/] {escape(what)} [dim]({time.perf_counter() - started:.1f} s)")

    def command(self, who: str, words: Sequence[str], output: str) -> None:
        self.console.print()
        self.console.print(Text.assemble(("  " + who, "cyan"), (" $ ", "dim"), (shlex.join(words), "bold")))
        for line in output.rstrip().splitlines():
            self.console.print(Text(" " * MARGIN + line), soft_wrap=True)

    def summary(self, seconds: float) -> None:
        table = Table(title="What was shown", box=box.SIMPLE_HEAD, title_justify="left")
        for column in ("step", "result", "seconds"):
            table.add_column(column, justify="right" if column == "seconds" else "left")
        for title, shows, took in self.results:
            table.add_row(title, f"[green]✓[/] {escape(shows)}", f"{took:.1f}")
        self.console.print()
        self.console.print(table)
        self.console.print(f"All of it took {seconds:.1f} s.")


class Demo:
    """The play, in one folder."""

    def __init__(self, stage: Stage, stack: PrivateStack, folder: Path) -> None:
        self.stage = stage
        self.stack = stack
        self.folder = folder
        self.pin, self.passphrase = folder / "pin", folder / "passphrase"
        self.maria = Person("Maria Conceição Reis", "RSA-3072", folder / "maria")
        self.joao = Person("João Sá", "P-256", folder / "joao")
        self.rui = Person("Rui Almeida", "P-256", folder / "rui")
        self.people = (self.maria, self.joao, self.rui)

    # ------------------------------------------------------------------------------------------------ programs

    def run(
        self,
        person: Person,
        *words: str,
        expect: ExitCode = ExitCode.OK,
        shown: Sequence[str] | None = None,
    ) -> str:
        """Runs a program as this person; fails when it ends with another exit code than `expect`."""
        return self._show(person, shown or words, expect, self._program(person, words))

    def run_at_once(self, person: Person, *commands: tuple[Sequence[str], ExitCode]) -> list[str]:
        """As `run`, several that do not need each other: at the same time, shown one after the other."""
        with self._crew() as crew:
            running = [crew.submit(self._program, person, words) for words, _ in commands]
        return [
            self._show(person, words, expect, done.result())
            for (words, expect), done in zip(commands, running, strict=True)
        ]

    def _program(self, person: Person, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(PROGRAMS / words[0]), *words[1:]],
            env=person.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def _show(
        self, person: Person, words: Sequence[str], expect: ExitCode, done: subprocess.CompletedProcess[str]
    ) -> str:
        self.stage.checkpoint()  # a program that Ctrl-C ended has not failed
        output = (done.stdout + done.stderr).replace(str(self.folder), "…")
        self.stage.command(person.short, [word.replace(str(self.folder), "…") for word in words], output)
        if done.returncode != expect:
            raise DemoFailed(f"{shlex.join(words)} ended with {done.returncode} instead of {int(expect)}:\n{output}")
        return done.stdout

    def off_stage(self, person: Person) -> Repository:
        """This person's home, as the library sees it, for what is not shown."""
        if person.card is None:
            raise DemoFailed(f"{person.name} has no card yet")
        settings = Settings(
            home=person.home,
            trust_store=person.trust,
            card=person.card.settings,
            passphrase=lambda _: PASSPHRASE,
            pin=lambda _: PIN,
            memory=person.runtime / "smr",
            allow_private_crl_hosts=True,
        )
        return Repository(settings)

    # --------------------------------------------------------------------------------------------------- steps

    def prepare(self) -> None:
        self.passphrase.write_text(PASSPHRASE)
        self.pin.write_text(PIN)
        for path in (self.passphrase, self.pin):
            path.chmod(0o600)
        with self.stage.step("A private stack", "broker, database, 2 workers, on loopback"), self._crew() as crew:
            self.stack.start_ca()
            cards = [crew.submit(self._issue_card, person) for person in self.people]  # while the servers start
            with self.stage.waiting("RabbitMQ, MongoDB (replica set of one), test CA with its CRLs, two workers"):
                self.stack.__enter__()
            self.stage.say(f"Repository {self.stack.descriptor.repository}, on free ports of 127.0.0.1.")
        with self.stage.step("Three virtual Citizen Cards", "RSA-3072, P-256, and one to be revoked"):
            with self.stage.waiting("Keys in SoftHSM tokens, certificates of the test CA, its root in trust stores"):
                for card in cards:
                    card.result()
            with self.stage.waiting("A home for each: app key, keystore, operator root pinned, its own broker account"):
                self._each(self._set_up, self.people)
            self.run(self.maria, "smr", "card")

    @contextlib.contextmanager
    def _crew(self) -> Iterator[ThreadPoolExecutor]:
        """Threads for what can be done at the same time, which ends before the stack does."""
        crew = ThreadPoolExecutor(len(self.people))
        try:
            yield crew
        finally:
            crew.shutdown(cancel_futures=True)

    def _each(self, step: Callable[[Person], object], people: Sequence[Person]) -> None:
        with self._crew() as crew:
            for done in [crew.submit(step, person) for person in people]:
                done.result()

    def _issue_card(self, person: Person) -> None:
        inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        person.environment = {
            **inherited,
            "HOME": str(person.folder),
            "PYTHONIOENCODING": "utf-8",
            "XDG_RUNTIME_DIR": str(person.runtime),  # so that the keys of open sessions vanish with the folder
            "COLUMNS": str(self.stage.console.width - MARGIN),
            "SMR_HOME": str(person.home),
            "SMR_TRUST_STORE": str(person.trust),
            "SMR_PASSPHRASE_FILE": str(self.passphrase),
            "SMR_PIN_FILE": str(self.pin),
            "SMR_ALLOW_PRIVATE_CRL_HOSTS": "1",
        }
        for folder in (person.folder, person.runtime, person.runtime / "smr"):
            folder.mkdir(mode=0o700)
        card = self.folder / "cards" / folder_name(person.name)
        person.card = create_virtual_card(self.stack.ca, card, person.name, key_kind=person.key, pin=PIN)
        person.environment["SOFTHSM2_CONF"] = str(person.card.softhsm_conf)
        TrustStore.open(person.trust).import_certificates(
            self.stack.ca_certificates, root_fingerprints={self.stack.ca_fingerprint}
        )

    def _set_up(self, person: Person) -> None:
        with self.off_stage(person) as repository:
            descriptor = self.stack.descriptor_path.read_bytes()
            made = repository.init(descriptor, root_fingerprint=self.stack.root_fingerprint)
            repository.enrol(self.stack.enrol(made.installation))

    def _register(self, person: Person) -> None:
        with self.off_stage(person) as repository:
            repository.register()

    def _close_session(self, person: Person) -> None:
        with self.off_stage(person) as repository:
            repository.close_session()

    def register(self) -> None:
        with self.stage.step("Registration", "signed by each card, checked by the repository"):
            with self._crew() as crew:
                others = [crew.submit(self._register, person) for person in (self.joao, self.rui)]
                self.run(self.maria, "smr", "register")
            for other in others:
                other.result()
            self.stage.say("João and Rui register too.")
        with self.stage.step("A session", "four phases: hello, answer, confirm, active"):
            self.run(self.maria, "smr", "session", "open")
            self.run(self.maria, "smr", "session", "show")

    def confirm(self) -> None:
        with self.stage.step("People", "every record verified by the client"):
            found = self.run(self.maria, "smr", "people", "joao")
            self.run(self.maria, "smr", "confirm", self._find(r"[0-9a-f]{56}", found))

    def letter(self) -> None:
        path = self.folder / "ata.txt"
        path.write_text(LETTER, "utf-8")
        with self.stage.step("Maria writes", "signed by her card, sealed for João and for herself"):
            self.run(
                self.maria, "smr", "send", "--to", self.joao.name, "--subject", SUBJECT, str(path),
            )  # fmt: skip
        with self.stage.step("João reads", "opened, seven checks, receipt signed by his card"):
            self.letter_id = self._find(r"([a-z2-7]{4,26}) +Maria", self.run(self.joao, "smr", "new"))
            shown = [line.strip() for line in self.run(self.joao, "smr", "read", self.letter_id).splitlines()]
            missing = [line for line in LETTER.splitlines() if line and line not in shown]
            self._require(not missing, f"the letter that João reads is not the one that Maria wrote: {missing}")
        with self.stage.step("Maria asks what became of it", "receipt verified, own copy read back"):
            shown, _ = self.run_at_once(
                self.maria,
                (("smr", "status", self.letter_id), ExitCode.OK),
                (("smr", "read", self.letter_id), ExitCode.OK),
            )
            self._find(r"receipt signed by .* Citizen Card, verified now", shown)

    def strangers(self) -> None:
        with self.stage.step("A third citizen", "cannot read it, not even see it"):
            self.run_at_once(
                self.rui,
                (("smr", "list"), ExitCode.OK),
                (("smr", "read", self.letter_id), ExitCode.NOT_FOUND),
            )
        with self.stage.step("A revoked card", "refused by the repository"):
            issuer = {**self.rui.environment, "SMR_PASSPHRASE_FILE": str(self.stack.ca_passphrase_file)}
            with self._crew() as crew:
                closed = crew.submit(self._close_session, self.rui)
                self.run(
                    Person("ca", "", self.folder, issuer),
                    *("smr-pki", "virtual-card", "revoke", self.rui.name),
                    *("--ca", str(self.stack.ca_folder), "--cards", str(self.folder / "cards")),
                    shown=("smr-pki", "virtual-card", "revoke", self.rui.name),
                )
                closed.result()
            self.run(self.rui, "smr", "session", "open", expect=ExitCode.CHECK_FAILED)

    def stored(self) -> None:
        with self.stage.step("What the repository has stored", "nothing readable"):
            table = Table(box=box.SIMPLE_HEAD)
            for column in ("collection", "documents", "bytes", "words of the letter in it"):
                table.add_column(column, justify="left" if column == "collection" else "right")
            for name, documents, size, hits in self._look_into_the_database():
                table.add_row(name, str(documents), f"{size:,}", str(hits))
                self._require(hits == 0, f"the database holds readable words in {name}")
            self.stage.console.print(table)
            self.stage.say(
                "Letters, receipts and sessions are ciphertext; names are there, since people are found by name."
            )

    def _look_into_the_database(self) -> Iterator[tuple[str, int, int, int]]:
        import bson
        import pymongo

        with pymongo.MongoClient[dict[str, Any]](self.stack.mongo_url) as client:
            database = client["smr"]
            for name in sorted(database.list_collection_names()):
                raw = [bson.encode(document) for document in database[name].find()]
                joined = b"".join(raw)
                yield name, len(raw), len(joined), sum(joined.count(word.encode()) for word in WORDS)

    def _find(self, pattern: str, output: str) -> str:
        """What a command printed for this pattern: its group, if it has one. Fails when it is not there."""
        found = re.search(pattern, output)
        if found is None:
            raise DemoFailed(f"{pattern!r} is not in what was printed:\n{output}")
        return found[found.lastindex or 0]

    def _require(self, condition: bool, otherwise: str) -> None:
        if not condition:
            raise DemoFailed(otherwise)

    def how_to_use(self) -> None:
        lines = ["", "The stack stays up until you press Ctrl-C here. In another terminal:", ""]
        for person in self.people[:2]:
            names = [name for name in person.environment if name.startswith(("SMR_", "SOFTHSM2_", "XDG_"))]
            lines.append(f"  # {person.name}")
            lines += [f"  export {name}={shlex.quote(person.environment[name])}" for name in names]
            lines += [f"  {PROGRAMS / 'smr'} new", ""]
        self.stage.console.print("\n".join(escape(line) for line in lines), soft_wrap=True)


def left_over(folder: Path) -> list[str]:
    """Command lines of processes that still work in the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if entry.name != str(os.getpid()) and (str(folder) in words or _works_in(entry, folder)):
                found.append(f"{entry.name} {words[:120]}")
    return found


def _works_in(entry: Path, folder: Path) -> bool:
    return str(folder).encode() in (entry / "environ").read_bytes()


def play(stage: Stage, folder: Path, stay: Callable[[], None] | None) -> None:
    """The whole play. With `stay` it says at its end how to go on with the stack, and ends that when `stay` returns."""
    started = time.perf_counter()
    stack = PrivateStack(
        folder / "stack",
        workers=2,
        own_accounts=True,
        # The revocation of the last step must count at once.
        settings={"SMR_REPOSITORY_CRL_REFETCH_SECONDS": "0", "SMR_REPOSITORY_CERTIFICATE_MEMORY_SECONDS": "0"},
        checkpoint=stage.checkpoint,
    )
    demo = Demo(stage, stack, folder)
    try:
        for act in (demo.prepare, demo.register, demo.confirm, demo.letter, demo.strangers, demo.stored):
            act()
        stage.summary(time.perf_counter() - started)
        if stay is not None:
            demo.how_to_use()
            stay()
    finally:
        with stage.console.status("Ending everything that was started …"):
            stack.stop()


def perform(stage: Stage, folder: Path, stay: Callable[[], None] | None) -> int:
    """Plays, and tells how it ended; the exit code."""
    try:
        play(stage, folder, stay)
    except Stopped:
        stage.console.print("\nStopped.")
        return 130
    except (DemoFailed, StartFailed, ClientError, PkiError) as error:
        stage.console.print(f"\n[bold red]The demonstration failed:[/] {escape(str(error))}")
        return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the stack up afterwards, until Ctrl-C")
    keep = parser.parse_args().keep
    with StopRequest() as request, tempfile.TemporaryDirectory(prefix="smr-demo-") as name:
        stage = Stage(request.check)
        status = perform(stage, Path(name), request.wait if keep else None)
        remaining = left_over(Path(name))
        if remaining:
            stage.console.print("[bold red]Still running:[/] " + escape("; ".join(remaining)))
            return status or 1
        stage.console.print("Nothing is left running.")
        return status


if __name__ == "__main__":
    sys.exit(main())
