"""The commands of `smr` and their arguments. What they do is in the library; what they show, in `views`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from client.cli.run import (
    CardChoice,
    CardOption,
    CertificateOption,
    HomeOption,
    JsonOption,
    ModuleOption,
    Options,
    Run,
    SlotOption,
    VerboseOption,
    command,
)

if TYPE_CHECKING:
    from client.cli.views import View
    from client.commands.choose import SignatureRequest
    from client.commands.init import Installed, OperatorRoot

_EPILOG: Final = (
    "Exit codes: 0 done, 2 usage, 3 refused by a check, 4 not allowed, 5 not found, 6 unreachable, 7 card problem, "
    "1 anything else.  Environment: SMR_HOME, SMR_PASSPHRASE_FILE, SMR_PIN_FILE, SMR_PKCS11_MODULE, SMR_CARD_LABEL, "
    "SMR_CARD_SLOT, SMR_CARD_CERTIFICATE, SMR_TRUST_STORE, SMR_REPLY_SECONDS, SMR_NEW_PASSPHRASE_FILE, "
    "SMR_BACKUP_PASSPHRASE_FILE, SMR_ALLOW_PRIVATE_CRL_HOSTS (development only), NO_COLOR."
)
_SETTINGS: Final = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="smr",
    help="Sealed letters between citizens, with signed receipts, through a repository that cannot read them.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=_SETTINGS,
)
session_app = typer.Typer(help="One PIN and passphrase for the next hours.", no_args_is_help=True)
key_app = typer.Typer(help="The sealing key's life; old keys keep opening old letters.", no_args_is_help=True)
app.add_typer(session_app, name="session")
app.add_typer(key_app, name="key")

FormerOption = Annotated[
    str | None,
    typer.Option(
        "--former", metavar="ID", help="In the mailbox of your card before its renewal; a beginning of its id."
    ),
]
Letter = Annotated[str, typer.Argument(metavar="LETTER", help="The id of a letter, or an unambiguous beginning of it.")]

BodyFile = Annotated[str, typer.Argument(metavar="FILE", help="The body; - is standard input.")]
AttachOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--attach",
        metavar="FILE",
        help="A file beside the letter, up to 2 GiB. Repeatable; interrupted, the same command goes on.",
    ),
]
SignForOption = Annotated[
    bool, typer.Option("--sign-for", help="It opens for each recipient when their card signs for it.")
]
ExpiresOption = Annotated[
    int | None,
    typer.Option("--expires", metavar="DAYS", help="How long it waits for their signatures; 30 days by default."),
]

Person = Annotated[str, typer.Argument(metavar="WHO", help="An id, or the name of a confirmed person.")]


@app.callback()
def common(
    ctx: typer.Context,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
    module: ModuleOption = None,
    card_label: CardOption = None,
    slot: SlotOption = None,
    card_certificate: CertificateOption = None,
) -> None:
    """Options before the command."""
    ctx.obj = Options(home, as_json, verbose, CardChoice(module, card_label, slot, card_certificate))


@command(app, "init")
def init(
    run: Run,
    descriptor: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The repository's descriptor, from its operator.")
    ] = None,
    root_fingerprint: Annotated[
        str | None, typer.Option(metavar="HEX", help="SHA-256 of the operator's root, from another source.")
    ] = None,
    enrolment: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="This installation's account at the broker, once the operator enrolled it."),
    ] = None,
) -> View:
    """Set this home up: keys, and the repository whose operator you approve; then its account at the broker."""
    from client.cli import views
    from client.errors import Usage

    if descriptor is not None and enrolment is None:
        found = _install(run, _read_file(descriptor), root_fingerprint)
        return views.installed(found, str(run.trust_store))
    if enrolment is not None and descriptor is None:
        return views.enrolled(run.repository.enrol(_read_file(enrolment)))
    raise Usage(
        "Either the repository's descriptor or this installation's enrolment is needed.",
        "The operator enrols an installation by its name, which the first step shows.",
        "First smr init --descriptor FILE, then smr init --enrolment FILE.",
    )


def _install(run: Run, descriptor: bytes, root_fingerprint: str | None) -> Installed:
    from client.errors import Usage

    if root_fingerprint is None and not sys.stdin.isatty():
        raise Usage(
            "The fingerprint of the operator's root is needed.",
            "Without a terminal nobody can be asked whether the root is the right one.",
            "Give it: --root-fingerprint HEX.",
        )

    def approve(root: OperatorRoot) -> bool:
        grouped = " ".join(root.fingerprint[at : at + 4] for at in range(0, len(root.fingerprint), 4))
        run.screen.note(f"Repository {root.repository_name!r}, operator {root.operator!r}, root SHA-256:")
        run.screen.note(f"  {grouped}")
        return run.ask("Is this the fingerprint that the operator publishes?")

    return run.repository.init(descriptor, root_fingerprint=root_fingerprint, approve=approve)


@command(app, "card")
def card(run: Run) -> View:
    """Show readers and cards: holder, keys, validity, and whether they may be believed."""
    from client.cli import views

    return views.cards(run.repository.cards())


@command(app, "register")
def register(run: Run) -> View:
    """Register with the card in the reader."""
    from client.cli import views

    return views.registered(run.repository.register())


@command(app, "renew")
def renew(
    run: Run,
    former: Annotated[
        str | None, typer.Option(metavar="ID", help="The card that was renewed; by default the one of this home.")
    ] = None,
    new_card_only: Annotated[
        bool, typer.Option("--new-card-only", help="The former card is gone: do not ask.")
    ] = False,
) -> View:
    """Bind a renewed card to the registration of the card before it."""
    from client.cli import views

    def former_card() -> bool:
        asked = "Is the former card at hand? Put it into a reader, then say yes; no renews with the new card alone."
        return not new_card_only and run.ask(asked)

    return views.renewed(run.repository.renew(former, former_card))


@command(app, "history")
def history(
    run: Run,
    what: Annotated[
        str, typer.Argument(metavar="LETTER|WHO", help="The id of a letter or its beginning, or a person's id or name.")
    ],
) -> View:
    """Show what became of a letter, event by event; or a person's cards, the earlier ones too. All is verified here."""
    from client.cli import views
    from client.errors import Ambiguous, NotFound, Usage

    # A letter first; what names none is a person. A beginning that fits several letters is neither.
    try:
        return views.letter_history(run.repository.letter_history(what))
    except Ambiguous:
        raise
    except (NotFound, Usage):
        return views.history(run.repository.history(what))


@command(app, "people")
def people(
    run: Run, query: Annotated[str, typer.Argument(metavar="QUERY", help="Part of a name, or an exact id.")] = ""
) -> View:
    """Find registered people; every record is verified here."""
    from client.cli import views

    return views.people(run.repository.people(query))


@command(app, "confirm")
def confirm(
    run: Run,
    user_id: Annotated[str, typer.Argument(metavar="ID", help="The person's id, 56 hexadecimal digits.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: the id was compared already.")] = False,
) -> View:
    """Show a person's certificate once; from then on the name can be used."""
    from client.cli import views
    from client.commands.people import FoundPerson

    def approve(person: FoundPerson) -> bool:
        for name, value in views.person_lines(person):
            run.screen.note(f"  {name:<13} {value}")
        # Without a terminal the exact id on the command line is the decision.
        return yes or not sys.stdin.isatty() or run.ask("Is this the person you mean?")

    return views.person(run.repository.confirm(user_id, approve))


@command(app, "block")
def block(run: Run, who: Person) -> View:
    """Take no more letters from somebody. They are told that their letters cannot go to you."""
    from client.cli import views

    return views.blocked((run.repository.block(who),))


@command(app, "unblock")
def unblock(run: Run, who: Person) -> View:
    """Take letters from somebody again."""
    from client.cli import views

    return views.blocked((run.repository.unblock(who),))


@command(app, "blocked")
def blocked(run: Run) -> View:
    """List whom you block. The repository knows this list, and nobody else."""
    from client.cli import views

    return views.blocked(run.repository.blocked())


@command(app, "new")
def new(run: Run, former: FormerOption = None) -> View:
    """List letters that were not read yet, without fetching or marking them."""
    from client.cli import views

    run.former = former
    return views.letters(run.repository.new(), only_new=True)


@command(app, "list")
def list_(run: Run, former: FormerOption = None) -> View:
    """List all letters, received and sent."""
    from client.cli import views

    run.former = former
    return views.letters(run.repository.letters(), only_new=False)


@command(app, "watch")
def watch(
    run: Run,
    exec_: Annotated[
        str | None,
        typer.Option(
            "--exec",
            metavar="COMMAND",
            help="Run this for each arrival, without a shell: what came is JSON on its standard input, and "
            "SMR_KIND, SMR_LETTER, SMR_AUTHOR and SMR_GOOD in its environment.",
        ),
    ] = None,
    seconds: Annotated[float | None, typer.Option(metavar="S", help="End after so many seconds.")] = None,
) -> None:
    """Show letters, receipts and acceptances as they come, until Ctrl-C. With --json, one line each."""
    from client.cli.watching import show_arrivals

    show_arrivals(run, exec_, seconds)


@command(app, "send")
def send(
    run: Run,
    to: Annotated[list[str], typer.Option(metavar="WHO", help="An id, or the name of a confirmed person. Repeatable.")],
    file: BodyFile = "-",
    subject: Annotated[str, typer.Option(metavar="S", help="The subject, sealed like the body.")] = "",
    attach: AttachOption = None,
    sign_for: SignForOption = False,
    expires: ExpiresOption = None,
) -> View:
    """Send a letter: signed with your card, sealed for its recipients and for you."""
    from client.cli import views

    days = _sign_for_days(sign_for, expires)
    return views.sent(run.repository.send(to, _read_body(file), subject, attach or (), sign_for_days=days))


@command(app, "reply")
def reply(
    run: Run,
    letter: Letter,
    file: BodyFile = "-",
    everybody: Annotated[bool, typer.Option("--all", help="To its other recipients too.")] = False,
    subject: Annotated[
        str | None, typer.Option(metavar="S", help="Another subject than that of the letter, as an answer.")
    ] = None,
    attach: AttachOption = None,
    sign_for: SignForOption = False,
    expires: ExpiresOption = None,
) -> View:
    """Answer a letter: to its author. Your signed letter names the one that it answers."""
    from client.cli import views

    days = _sign_for_days(sign_for, expires)
    sent = run.repository.reply(
        letter, _read_body(file), everybody=everybody, subject=subject, attachments=attach or (), sign_for_days=days
    )
    return views.sent(sent)


def _sign_for_days(sign_for: bool, expires: int | None) -> int | None:
    from client.commands.send import SIGN_FOR_DAYS
    from client.errors import Usage

    if expires is not None and not sign_for:
        raise Usage("Only a letter that is to be signed for expires.", action="Add --sign-for, or leave --expires out.")
    return (SIGN_FOR_DAYS if expires is None else expires) if sign_for else None


@command(app, "thread")
def thread(run: Run, letter: Letter) -> View:
    """Show the conversation that a letter belongs to, by what the signed letters say that they answer."""
    from client.cli import views

    return views.thread(run.repository.thread(letter))


@command(app, "read")
def read(
    run: Run,
    letter: Letter,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the body to a new file.")] = None,
    attachments: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Save the attachments in this folder, never over another file. Interrupted, the same command goes on.",
        ),
    ] = None,
    no_receipt: Annotated[bool, typer.Option("--no-receipt", help="Do not confirm to the sender.")] = False,
    accept: Annotated[
        bool, typer.Option("--accept", help="Sign for it without being asked, if it opens against your signature.")
    ] = False,
    former: FormerOption = None,
) -> View:
    """Read a letter, and confirm it to its sender unless declined. Asks before it signs for one."""
    from client.cli import views
    from client.cli.views import ReceiptOutcome
    from client.errors import ClientError, Usage

    if output is not None and output.exists():
        raise Usage(f"{output} exists already.", "It is never written over.", "Choose another name.")

    def sign(request: SignatureRequest) -> bool:
        for name, value in views.signature_lines(request):
            run.screen.note(f"  {name:<9} {value}")
        return accept or run.ask("It opens when you sign for it, and the sender gets your signature. Sign?")

    run.former = former
    found = run.repository.read(letter, attachments, sign=sign)
    if output is not None:
        _write_new(output, found.body)
    if not found.receipt_possible:
        outcome = ReceiptOutcome("not due")
    elif found.receipt_sent:
        outcome = ReceiptOutcome("already sent")
    elif no_receipt:
        outcome = ReceiptOutcome("declined")
    else:
        try:
            run.repository.send_receipt(found.full_name)
            outcome = ReceiptOutcome("sent")
        except ClientError as error:
            outcome = ReceiptOutcome("failed", error)
    return views.read_letter(found, outcome, str(output) if output else None)


@command(app, "refuse")
def refuse(
    run: Run,
    letter: Letter,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; only the sender can read it.")] = "",
) -> View:
    """Sign that you do not take a letter which asks for your signature. That cannot be undone."""
    from client.cli import views

    return views.refused(run.repository.refuse(letter, reason))


@command(app, "delete")
def delete(
    run: Run,
    letter: Letter,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> View:
    """Delete a letter from your own mailbox, for good. Others keep theirs, and what was signed stays as evidence."""
    from client.cli import views
    from client.commands.box import ListedLetter

    def approve(found: ListedLetter) -> bool:
        for line in views.deletion_lines(found):
            run.screen.note(f"  {line}")
        return run.ask("Delete it? That cannot be undone.")

    return views.deleted(run.repository.delete(letter, None if yes else approve))


@command(app, "receipt")
def receipt(run: Run, letter: Letter) -> View:
    """Confirm a letter to its sender, after it was opened here."""
    from client.cli import views

    return views.receipt(run.repository.send_receipt(letter))


@command(app, "status")
def status(run: Run, letter: Letter, former: FormerOption = None) -> View:
    """Show what became of a letter of yours: your copy and every receipt, each verified now."""
    from client.cli import views

    run.former = former
    return views.status(run.repository.status(letter))


@command(app, "export")
def export(
    run: Run,
    letter: Letter,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The package, usually .asice.")],
    redact: Annotated[
        bool,
        typer.Option(
            "--redact", help="Without subject, body and reasons: proves delivery, tells nothing of the content."
        ),
    ] = False,
) -> View:
    """Write what proves a letter to one file, signed with your card, that anybody can verify."""
    from client.cli import views
    from client.errors import Usage

    replace = output.exists()
    if replace and not run.ask(f"{output} exists already. Write over it?"):
        raise Usage(f"{output} exists already.", "It is not written over unasked.", "Choose another name.")
    found = run.repository.export(letter, redact=redact)
    if replace:
        output.unlink()
    _write_new(output, found.data)
    return views.exported(found, str(output))


@command(app, "verify")
def verify(
    run: Run,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An evidence package.")],
    trust: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="The state's root, instead of those of your trust store. Repeatable."),
    ] = None,
    operator_root: Annotated[
        list[str] | None,
        typer.Option(metavar="HEX", help="SHA-256 of the root of an operator whom you trust. Repeatable."),
    ] = None,
    stamp_root: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="The root of a time-stamp authority, to judge time stamps. Repeatable."),
    ] = None,
) -> View:
    """Judge an evidence package from anybody, offline: every check, and what it proves."""
    from client.cli import views
    from evidence_package.container import FILE_BYTES

    data = _read_file(file, FILE_BYTES)
    return views.package(run.repository.verify_package(data, trust or (), operator_root or (), stamp_root or ()))


@command(app, "proof")
def proof(
    run: Run,
    alarm: Annotated[str, typer.Argument(metavar="ALARM", help="The name of an alarm, or a beginning of it.")] = "",
    export: Annotated[Path | None, typer.Option(metavar="FILE", help="Write its proof to a new file.")] = None,
    verify: Annotated[Path | None, typer.Option(metavar="FILE", help="Judge a proof from anybody.")] = None,
) -> View:
    """Show when the repository contradicted what it had signed, and make or judge proof of it."""
    from client.cli import views
    from client.errors import Usage

    if verify is not None:
        from client.commands.proof import PROOF_BYTES

        return views.judged(*run.repository.judge_proof(_read_file(verify, PROOF_BYTES)))
    if (export is None) != (not alarm):
        raise Usage("An alarm and a file are needed together.", action="smr proof ALARM --export FILE.")
    if export is not None:
        return views.alarms((run.repository.export_proof(alarm, export),))
    return views.alarms(run.repository.alarms())


@command(app, "doctor")
def doctor(run: Run) -> View:
    """Look over home, roots, card, repository and clock, and say what to do. Needs no PIN and changes nothing."""
    from client.cli import views

    return views.findings(run.repository.examine())


@command(app, "ui")
def ui(run: Run) -> View:
    """Show the mailbox on the whole terminal: letters, reading, writing, people, receipts; for the keyboard alone."""
    from client import ui as full_screen
    from client.api import Repository
    from client.cli import views
    from client.cli.screen import fills_terminal
    from client.errors import Usage

    if run.options.as_json or not fills_terminal():
        raise Usage(
            "The mailbox needs a terminal that shows Unicode.",
            "It fills the whole screen and listens to the keyboard.",
            "Use smr list, smr read and smr status instead.",
        )
    full_screen.show(lambda front: Repository(run.settings(front)))
    return views.left()


@command(app, "completion")
def completion(_run: Run, shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]) -> View:
    """Print what makes a shell complete commands, letters and confirmed people, the latter while a session is open."""
    from client.cli import views
    from client.cli.completion import SHELLS, script
    from client.errors import Usage

    if shell not in SHELLS:
        raise Usage(f"There is no completion for {shell!r:.40}.", action=f"Name one of {', '.join(SHELLS)}.")
    return views.script(shell, script(shell))


@command(session_app, "open")
def session_open(run: Run) -> View:
    """Open a session with the card."""
    from client.cli import views

    return views.session(run.repository.open_session())


@command(session_app, "show")
def session_show(run: Run) -> View:
    """Show the open session."""
    from client.cli import views

    return views.session(run.repository.show_session())


@command(session_app, "close")
def session_close(run: Run) -> View:
    """Close the session, here in any case."""
    from client.cli import views

    return views.session_closed(run.repository.close_session())


@command(key_app, "backup")
def key_backup(
    run: Run, file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that does not exist yet.")]
) -> View:
    """Write all keys to a file, under a passphrase of its own."""
    from client.cli import views

    return views.keys(run.repository.backup_keys(file), f"Keys written to {file}")


@command(key_app, "restore")
def key_restore(run: Run, file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")]) -> View:
    """Add the sealing keys of a backup."""
    from client.cli import views

    return views.keys(run.repository.restore_keys(file), f"Keys restored from {file}")


@command(key_app, "rotate")
def key_rotate(run: Run) -> View:
    """Make a new sealing key and register it."""
    from client.cli import views

    return views.registered(run.repository.rotate_key())


@command(key_app, "passphrase")
def key_passphrase(run: Run) -> View:
    """Change the keystore's passphrase."""
    from client.cli import views

    return views.keys(run.repository.change_passphrase(), "The passphrase is changed")


def run() -> int:
    """Parses, runs, and gives the exit code."""
    try:
        result = app(standalone_mode=False)
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        return _usage("Stopped.")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except Exception as error:
        message = _usage_message(error)
        if message is None:
            raise
        return _usage(message)
    return result if isinstance(result, int) else 0


def _usage_message(error: Exception) -> str | None:
    """The text of the parser's own errors, whose classes this version of the parser does not export."""
    show = getattr(error, "format_message", None)
    return str(show()) if callable(show) else None


def _usage(message: str) -> int:
    from client.cli.run import fail
    from client.cli.screen import Screen
    from client.errors import Usage

    error = Usage(message, action="See smr --help, or smr COMMAND --help.")
    return fail(Screen(as_json="--json" in sys.argv), error, verbose=False)


def _read_body(name: str) -> bytes:
    from crypto_core.limits import BODY_BYTES

    if name == "-":
        return sys.stdin.buffer.read(BODY_BYTES + 1)
    return _read_file(Path(name), BODY_BYTES)


def _read_file(path: Path, limit: int = 1 << 20) -> bytes:
    """At most one byte more than the limit, so that who checks it can see that it is passed."""
    from client.errors import NotFound

    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise NotFound(
            f"{path} cannot be read: {error.strerror}.", "Nothing was done.", "Check the name and the permissions."
        ) from error


def _write_new(path: Path, data: bytes) -> None:
    from client.errors import ClientError

    try:
        with path.open("xb") as file:
            path.chmod(0o600)
            file.write(data)
    except OSError as error:
        raise ClientError(
            f"{path} cannot be written: {error.strerror}.",
            "The letter was opened, and it is marked as read.",
            "Read it again with another file name.",
        ) from error
