"""How every command runs: common options, secrets, output, errors and exit codes, in this one place."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from client.api import Repository
    from client.cli.screen import Screen
    from client.cli.views import View
    from client.errors import ClientError
    from client.settings import Front, Settings, Transfer

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", metavar="DIR", help="Home folder. Default: SMR_HOME, else the data folder of this user."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
ModuleOption = Annotated[
    Path | None,
    typer.Option("--module", envvar="SMR_PKCS11_MODULE", metavar="FILE", help="The card's PKCS#11 module."),
]
CardOption = Annotated[
    str | None, typer.Option("--card", envvar="SMR_CARD_LABEL", metavar="LABEL", help="The card of this label.")
]
SlotOption = Annotated[
    int | None, typer.Option("--slot", envvar="SMR_CARD_SLOT", metavar="N", help="The card in this slot.")
]
CertificateOption = Annotated[
    str | None,
    typer.Option(
        "--card-certificate",
        envvar="SMR_CARD_CERTIFICATE",
        metavar="HEX",
        help="Beginning of the SHA-256 of your authentication certificate, where a card holds several.",
    ),
]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Errors with their trace.")]


@dataclass(frozen=True, slots=True)
class CardChoice:
    """Which card, where several could be meant."""

    module: Path | None = None
    label: str | None = None
    slot: int | None = None
    certificate: str | None = None


@dataclass(slots=True)
class Options:
    """The common options, wherever on the command line they stood."""

    home: Path | None = None
    as_json: bool = False
    verbose: bool = False
    card: CardChoice = field(default_factory=CardChoice)


class Run:
    """One command at work: the library, ready to be used, and the screen."""

    def __init__(self, options: Options) -> None:
        from client.cli.screen import Screen

        self.options = options
        self.screen: Screen = Screen(as_json=options.as_json)
        self.former: str | None = None  #: the beginning of an earlier card's id, whose mailbox is read
        self._repository: Repository | None = None

    @property
    def repository(self) -> Repository:
        """The library over this home."""
        from client.api import Repository

        if self._repository is None:
            self._repository = Repository(self.settings())
        return self._repository

    @property
    def home(self) -> Path:
        """Where this installation lies."""
        return home_folder(self.options.home)

    @property
    def trust_store(self) -> Path:
        """Where the state's roots lie."""
        named = os.environ.get("SMR_TRUST_STORE")
        return Path(named).expanduser() if named else self.home / "trust"

    def settings(self, front: Front | None = None) -> Settings:
        """The library's settings from options and environment; questions go to `front`, else to the terminal."""
        from client.cli.secrets import Secrets
        from client.settings import REPLY_SECONDS, Front, Settings
        from client.state.session import memory_folder
        from pki.signers import CardSettings

        front = front or Front(self._secret, self.ask, self.screen.waiting, progress=self._transferred)
        secrets = Secrets(front.secret)
        chosen = self.options.card
        return Settings(
            home=self.home,
            trust_store=self.trust_store,
            card=CardSettings(
                module=chosen.module,
                token_label=chosen.label or None,
                slot=chosen.slot,
                certificate=chosen.certificate or None,
            ),
            passphrase=secrets.passphrase,
            pin=secrets.pin,
            risk_last_try=lambda: front.agree("One try of this card's PIN is left; a wrong PIN locks it. Go on?"),
            waiting=front.waiting,
            progress=front.progress,
            stopped=front.stopped,
            memory=memory_folder(),
            former=self.former,
            reply_seconds=_seconds("SMR_REPLY_SECONDS", REPLY_SECONDS),
            allow_private_crl_hosts=os.environ.get("SMR_ALLOW_PRIVATE_CRL_HOSTS") == "1",
        )

    def _transferred(self, transfer: Transfer) -> None:
        from pki.display import safe_text

        self.screen.transferred(safe_text(transfer.name), transfer.done, transfer.size)

    def _secret(self, question: str) -> str | None:
        from client.cli.secrets import from_terminal

        self.screen.quiet()
        return from_terminal(question)

    def ask(self, question: str) -> bool:
        """A question to the person; no, where nobody can be asked."""
        if not sys.stdin.isatty():
            return False
        self.screen.quiet()
        return typer.confirm(question, err=True)

    def close(self) -> None:
        """Tells what was sent again meanwhile, and drops the connection."""
        if self._repository is None:
            return
        for each in self._repository.resumed:
            about = f" of letter {each.letter_id}" if each.letter_id else ""
            ended = f"was refused: {each.problem}" if each.problem else "was accepted now"
            self.screen.note(f"{each.command}{about}, which had no answer before, {ended}")
        self._repository.close()


def home_folder(named: Path | None) -> Path:
    """The home that an option named, else that of the environment, else that of this user."""
    from platformdirs import user_data_path

    named = named or (Path(os.environ["SMR_HOME"]) if os.environ.get("SMR_HOME") else None)
    return (named or user_data_path("smr", appauthor=False)).expanduser()


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., View | None]], Callable[..., None]]:
    """Makes a function `(run, …) -> View` a command of `app`, with the common options after it too.

    One that shows its results by itself, as they come, gives None.
    """

    def decorate(function: Callable[..., View | None]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapper(ctx: typer.Context, **arguments: Any) -> None:
            common: Options = ctx.obj if isinstance(ctx.obj, Options) else Options()
            options = Options(
                arguments.pop("home") or common.home,
                arguments.pop("as_json") or common.as_json,
                arguments.pop("verbose") or common.verbose,
                common.card,
            )
            raise typer.Exit(_perform(options, lambda run: function(run, **arguments)))

        # The result's type is for the type checker alone: importing it here would make every start slow.
        hints = get_type_hints(function, localns={"View": object}, include_extras=True)
        own = list(inspect.signature(function).parameters.values())[1:]
        parameters = [
            inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
            *(each.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[each.name]) for each in own),
            *_COMMON,
        ]
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name)(wrapper)
        return wrapper

    return decorate


_COMMON = [
    inspect.Parameter("home", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=HomeOption),
    inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonOption),
    inspect.Parameter("verbose", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=VerboseOption),
]


def _perform(options: Options, act: Callable[[Run], View | None]) -> int:
    from client.errors import ClientError, ExitCode, Usage

    # The libraries' own words help only who looks for a fault; the errors here say it in ours.
    logging.getLogger("pika").setLevel(logging.WARNING if options.verbose else logging.CRITICAL)
    run = Run(options)
    try:
        view = act(run)
        if view is None:
            return int(ExitCode.OK)
        if options.as_json:
            run.screen.json(view.json)
        else:
            view.show(run.screen)
        return int(view.exit_code)
    except ClientError as error:
        return fail(run.screen, error, verbose=options.verbose)
    except KeyboardInterrupt:
        stopped = Usage("Stopped.", "What was begun is kept.", "The same command goes on from there.")
        fail(run.screen, stopped, verbose=options.verbose)
        return 128 + 2
    except OSError as error:
        lost = ClientError(f"A file could not be used: {error.strerror or error}.", action=f"Check {error.filename}.")
        return fail(run.screen, lost, verbose=options.verbose)
    except Exception as error:  # noqa: BLE001 - the last boundary: a person never gets a bare exception
        report = ClientError(
            f"An error of this program: {type(error).__name__}.",
            "What was begun is kept.",
            "Run it again with --verbose and report what it shows.",
        )
        report.__cause__ = error
        fail(run.screen, report, verbose=options.verbose)
        return int(ExitCode.FAILED)
    finally:
        run.close()


def fail(screen: Screen, error: ClientError, *, verbose: bool) -> int:
    """Shows an error and gives the exit code that it means."""
    from client.cli.views import error_json, show_error

    screen.quiet()
    if screen.as_json:
        screen.json({"error": error_json(error)})
    else:
        show_error(screen, error)
    if verbose:
        screen.note("".join(traceback.format_exception(error)))
    return int(error.exit_code)


def _seconds(variable: str, default: float) -> float:
    from client.errors import Usage

    text = os.environ.get(variable)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise Usage(f"{variable} is not a number of seconds between 0 and 3600.", action="Correct or unset it.")
    return value
