"""The library: one class, `Repository`, whose methods are the verbs.

    settings = Settings(home=Path("~/.local/share/smr").expanduser(), passphrase=ask, pin=ask)
    with Repository(settings) as repository:
        sent = repository.send(["Bruno Antunes"], "Olá!".encode(), subject="Ata")
        repository.status(sent.letter_id)

Needs no terminal: secrets and approvals come through callbacks. Every method raises `ClientError` and nothing else.
Before a method does its own work, what an earlier run could not finish is sent again; how that ended is in `resumed`.
Not thread-safe; several processes may share one home.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from client import commands, session, uploads
from client.context import Context
from client.errors import ClientError, boundary

if TYPE_CHECKING:
    from client.commands.block import BlockedPerson
    from client.commands.box import ListedLetter
    from client.commands.card import CardsReport
    from client.commands.choose import Refused, SignatureRequest
    from client.commands.delete import Deleted
    from client.commands.doctor import Finding
    from client.commands.export import Exported
    from client.commands.history import LetterHistory
    from client.commands.init import Enrolled, Installed, OperatorRoot
    from client.commands.key import KeySummary
    from client.commands.pending import Resumed
    from client.commands.people import FoundPerson
    from client.commands.proof import Judgement, KeptAlarm, Proof
    from client.commands.read import ReadLetter
    from client.commands.receipt import ReceiptSent
    from client.commands.register import Registered
    from client.commands.renew import Renewed
    from client.commands.send import Sent
    from client.commands.slip_proof import CheatedSlip
    from client.commands.status import LetterStatus
    from client.commands.thread import ThreadLetter
    from client.commands.watch import Arrival
    from client.session import SessionInfo
    from client.settings import Settings
    from client.state.people import KnownPerson
    from client.uploads import LocalFile
    from evidence_package.verdict import Report


class Repository:
    """One citizen's view of one repository, from one home."""

    def __init__(self, settings: Settings) -> None:
        self._context = Context(settings)
        self.resumed: tuple[Resumed, ...] = ()

    def init(
        self,
        descriptor: bytes,
        *,
        root_fingerprint: str | None = None,
        approve: Callable[[OperatorRoot], bool] = lambda _: False,
    ) -> Installed:
        """Sets this home up: app key, keystore, and the operator root, by its fingerprint or by approval."""
        with boundary():
            return commands.init.init(self._context, descriptor, root_fingerprint, approve)

    def enrol(self, enrolment: bytes) -> Enrolled:
        """Takes the account at the broker that the operator gave this installation, as the bytes of their file."""
        with boundary():
            self._context.home.require_ready()
            return commands.init.enrol(self._context, enrolment)

    def cards(self) -> CardsReport:
        """Readers and cards, with what each key is good for now."""
        with boundary():
            return commands.card.cards(self._context)

    def examine(self) -> tuple[Finding, ...]:
        """Looks this installation over: home, roots, card, repository, clock. Says what is wrong and what to do."""
        with boundary():
            return commands.doctor.examine(self._context)

    def register(self) -> Registered:
        """Makes the citizen of the card known to the repository."""
        with boundary():
            return commands.register.register(self._context)

    def renew(self, former: str | None = None, former_card: Callable[[], bool] = lambda: False) -> Renewed:
        """Binds the new card in the reader to the registration of the card before it.

        `former_card` is called when that one is in no reader, and answers whether it is now.
        """
        with boundary():
            return commands.renew.renew(self._context, former, former_card)

    def history(self, who: str) -> FoundPerson:
        """A person, by exact id or confirmed name, with all earlier cards: each renewal is verified here."""
        with self._work():
            return commands.people.history(self._context, who)

    def people(self, query: str = "") -> tuple[FoundPerson, ...]:
        """Registered people whose name contains `query`, each verified here."""
        with self._work():
            return commands.people.people(self._context, query)

    def known_people(self) -> tuple[KnownPerson, ...]:
        """Everybody whose record was verified here once: names, and who is confirmed. Asks nobody."""
        with boundary():
            self._context.home.require_ready()
            return commands.people.known(self._context)

    def confirm(self, user_id: str, approve: Callable[[FoundPerson], bool]) -> FoundPerson:
        """From now on this person's name can be used, if `approve` agrees with the certificate's details."""
        with self._work():
            return commands.people.confirm(self._context, user_id, approve)

    def block(self, who: str) -> BlockedPerson:
        """The repository takes no letters of this person for the citizen any more. Receipts come in any case."""
        with self._work():
            return commands.block.block(self._context, who, blocked=True)

    def unblock(self, who: str) -> BlockedPerson:
        """Letters of this person are taken again."""
        with self._work():
            return commands.block.block(self._context, who, blocked=False)

    def blocked(self) -> tuple[BlockedPerson, ...]:
        """Everybody whom the citizen blocks."""
        with self._work():
            return commands.block.blocked(self._context)

    def new(self) -> tuple[ListedLetter, ...]:
        """Unread letters, judged by their heads; nothing is marked."""
        with self._work():
            return commands.box.new(self._context)

    def letters(self) -> tuple[ListedLetter, ...]:
        """All letters received and sent, judged by their heads."""
        with self._work():
            return commands.box.everything(self._context)

    def watch(
        self,
        seconds: float | None = None,
        *,
        stopped: Callable[[], bool] = lambda: False,
        trouble: Callable[[ClientError], None] = lambda _: None,
    ) -> Iterator[Arrival]:
        """What comes into the mailbox from now on: letters, acceptances of own ones, receipts; each checked.

        Ends after so many seconds, or when `stopped`, which is asked every second. A lost connection does not end it:
        `trouble` is told each time, and it goes on.
        """
        with self._work():
            pass
        return commands.watch.watch(self._context, seconds, stopped, trouble)

    def send(
        self,
        to: Sequence[str],
        body: bytes,
        subject: str = "",
        attachments: Sequence[Path] = (),
        *,
        sign_for_days: int | None = None,
    ) -> Sent:
        """Sends a letter to people, each by exact id or confirmed name, with files beside it.

        With `sign_for_days` it opens for each of them when they sign for it, within so many days. Interrupted before
        its end, the same call goes on with the files where it was.
        """
        with self._work():
            return commands.send.send(self._context, to, body, subject, attachments, sign_for_days=sign_for_days)

    def attachable(self, paths: Sequence[Path]) -> tuple[LocalFile, ...]:
        """These files as a letter would take them now. Raises NotFound, Usage, TooLarge; sends nothing."""
        with boundary():
            return uploads.attachable(paths)

    def reply(
        self,
        letter: str,
        body: bytes,
        *,
        everybody: bool = False,
        subject: str | None = None,
        attachments: Sequence[Path] = (),
        sign_for_days: int | None = None,
    ) -> Sent:
        """Answers a letter, without marking it read: to its author, with `everybody` to its other recipients too.

        Attachments and `sign_for_days` as in `send`; so is going on after an interruption.
        """
        with self._work():
            return commands.thread.reply(
                self._context,
                letter,
                body,
                everybody=everybody,
                subject=subject,
                attachments=attachments,
                sign_for_days=sign_for_days,
            )

    def thread(self, letter: str) -> tuple[ThreadLetter, ...]:
        """The conversation that a letter belongs to, answers below what they answer."""
        with self._work():
            return commands.thread.thread(self._context, letter)

    def read(
        self,
        letter: str,
        attachments: Path | None = None,
        *,
        sign: Callable[[SignatureRequest], bool] = lambda _: False,
    ) -> ReadLetter:
        """A letter by its id or an unambiguous beginning of it; marks it read.

        Saves its attachments in the folder `attachments`, never over another file. Interrupted, the same call goes on.
        `sign` is asked whether to sign for a letter that opens against a signature; nobody signs by default.
        """
        with self._work():
            return commands.read.read(self._context, letter, attachments, sign)

    def refuse(self, letter: str, reason: str = "") -> Refused:
        """Signs that a letter which asks for a signature is not taken. Its sender alone reads the reason."""
        with self._work():
            return commands.choose.refuse(self._context, letter, reason)

    def delete(self, letter: str, approve: Callable[[ListedLetter], bool] | None = None) -> Deleted:
        """A letter goes from the citizen's own mailbox, for good; its other people keep theirs.

        `approve`, if given, is shown the letter first. One that waits for a signature must be refused before.
        """
        with self._work():
            return commands.delete.delete(self._context, letter, approve)

    def send_receipt(self, letter: str) -> ReceiptSent:
        """Confirms to its sender a letter that was opened here."""
        with self._work():
            return commands.receipt.send_receipt(self._context, letter)

    def status(self, letter: str) -> LetterStatus:
        """What became of an own letter: acceptance and every receipt, verified now."""
        with self._work():
            return commands.status.status(self._context, letter)

    def letter_history(self, letter: str) -> LetterHistory:
        """What became of a letter that was sent or received, event by event."""
        with self._work():
            return commands.history.history(self._context, letter)

    def open_session(self) -> SessionInfo:
        """A new session, with one PIN and one passphrase for the next hours."""
        with boundary():
            return session.info(self._context, session.open_anew(self._context))

    def show_session(self) -> SessionInfo | None:
        """The kept session, None when there is none."""
        with boundary():
            self._context.home.require_ready()
            return session.show(self._context)

    def close_session(self) -> bool:
        """Ends the kept session here; true if the repository has ended it too."""
        with boundary():
            self._context.home.require_ready()
            return session.close(self._context)

    def backup_keys(self, target: Path) -> KeySummary:
        """Writes the keystore to a file, under a passphrase of its own."""
        with boundary():
            return commands.key.backup(self._context, target)

    def restore_keys(self, source: Path) -> KeySummary:
        """Adds the sealing keys of a backup."""
        with boundary():
            return commands.key.restore(self._context, source)

    def rotate_key(self) -> Registered:
        """A new sealing key, registered; the old ones keep opening old letters."""
        with self._work():
            return commands.key.rotate(self._context)

    def change_passphrase(self) -> KeySummary:
        """The same keys under another passphrase."""
        with boundary():
            return commands.key.change_passphrase(self._context)

    def alarms(self) -> tuple[KeptAlarm, ...]:
        """The contradictions of the repository that this home kept, each judged now."""
        with boundary():
            return commands.proof.alarms(self._context.home)

    def export_proof(self, name: str, target: Path) -> KeptAlarm:
        """Writes the proof of one alarm to a new file, for others to judge."""
        with boundary():
            return commands.proof.export(self._context.home, name, target)

    def judge_proof(self, data: bytes) -> tuple[Proof, Judgement, bool | None]:
        """A proof from anybody, judged; and whether it is about the operator that this home approved, if any."""
        with boundary():
            found, judgement = commands.proof.verify(data)
            return found, judgement, commands.proof.approved(self._context.home, judgement)

    def export(self, letter: str, *, redact: bool = False) -> Exported:
        """An evidence package of a letter; with `redact` a proof of delivery without its subject and body."""
        with self._work():
            return commands.export.export(self._context, letter, redact=redact)

    def verify_package(
        self,
        data: bytes,
        roots: Sequence[Path] = (),
        operators: Sequence[str] = (),
        stamp_roots: Sequence[Path] = (),
    ) -> Report:
        """An evidence package from anybody, judged offline; also in a home that was never set up."""
        with boundary():
            return commands.verify.verify_package(self._context, data, roots, operators, stamp_roots)

    def judge_slip(self, data: bytes) -> CheatedSlip:
        """A proof from anybody that a letter to be signed for opens to nobody. Raises CheckFailed if it is none."""
        with boundary():
            return commands.slip_proof.judge(data)

    def close(self) -> None:
        """Drops the connection; the kept session stays."""
        self._context.close()

    @contextmanager
    def _work(self) -> Iterator[None]:
        with boundary():
            self._context.home.require_ready()
            self.resumed += commands.pending.resume(self._context)
            yield

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
