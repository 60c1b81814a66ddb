"""The first screen: all letters above, the one that was opened below."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from platformdirs import user_downloads_path
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer

from client.api import Repository
from client.commands.box import ListedLetter
from client.commands.choose import SignatureRequest
from client.commands.read import ReadLetter
from client.errors import CheckFailed, ClientError, NotAllowed, Stopped
from client.state.people import KnownPerson
from client.ui import model
from client.ui.compose import Answer, Compose
from client.ui.files import typed_path
from client.ui.host import HostScreen
from client.ui.model import LetterRow, Line, Lines
from client.ui.people import PeopleScreen
from client.ui.prompts import Entry, Field, Question
from client.ui.widgets import Pane, Rows, State, Title

_COLUMNS = (("state", 7), ("from", 21), ("subject", 24), ("received", 16))
_WELCOME = (
    Line("Enter reads a letter; nothing is confirmed to its sender unless you press k."),
    Line("t shows the receipts of a letter that you sent; Tab goes between list and letter; ? tells all keys."),
)


class Letters(HostScreen):
    """Letters received and sent."""

    NAME = "letters"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "read", "Read", show=False, tooltip="opens the chosen letter, after all of it was checked"),
        Binding("r", "reply", "Reply", tooltip="answers the letter that is open"),
        Binding("k", "receipt", "Receipt", tooltip="your card signs for its sender that you opened it"),
        Binding("s", "save", "Save", tooltip="saves the files beside it in a folder"),
        Binding("t", "timeline", "Timeline", tooltip="what became of the chosen letter, if it is yours"),
        Binding("x", "refuse", "Refuse", show=False, tooltip="refuses to sign for the chosen letter"),
        Binding("d", "delete", "Delete", show=False, tooltip="deletes the chosen letter from your mailbox, for good"),
        Binding("c", "compose", "Compose", tooltip="writes a letter"),
        Binding("p", "people", "People", tooltip="finds people, and confirms them"),
        Binding("a", "only_new", "All/new", show=False, tooltip="all letters, or only those that were not read"),
        Binding("g", "reload", "Get", show=False, tooltip="asks for the letters now; they come by themselves, too"),
        Binding("question_mark,f1", "help", "Help", key_display="?", tooltip="this list"),
        Binding("escape", "back", "Back", show=False, tooltip="stops what is under way; else back to the list"),
        Binding("q", "app.quit", "Quit", tooltip="leaves; what is under way goes on with the next start"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._all: tuple[LetterRow, ...] = ()
        self._only_new = False
        self._opened: ReadLetter | None = None
        self._came: dict[str, ListedLetter] = {}  #: since the list was asked for
        self._folder: Path | None = None  #: where attachments were saved last

    def compose(self) -> ComposeResult:
        yield Title("smr  Letters")
        yield Rows(_COLUMNS, id="letters")
        yield Pane(id="letter")
        yield State()
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one(Pane).show(_WELCOME)
        self.query_one(Rows).focus()
        self.action_reload()

    def leave(self) -> None:
        """There is no screen before: back to the list."""
        self.remove_class("reading")
        self.query_one(Rows).focus()

    def on_data_table_row_selected(self) -> None:
        self.action_read()

    @property
    def _rows(self) -> tuple[LetterRow, ...]:
        return tuple(row for row in self._all if row.state == "new" or not row.good or not self._only_new)

    @property
    def _chosen(self) -> LetterRow | None:
        rows, at = self._rows, self.query_one(Rows).cursor_row
        return rows[at] if 0 <= at < len(rows) else None

    def _show(self, rows: tuple[LetterRow, ...]) -> None:
        """These rows in the place of others; the cursor stays on its letter."""
        chosen = self._chosen
        self._all = rows
        names = [row.name for row in self._rows]
        at = names.index(chosen.name) if chosen is not None and chosen.name in names else None
        self.query_one(Rows).fill([row.cells for row in self._rows], at)
        which = "new letters only: " if self._only_new else ""
        self.query_one(Title).update(f"smr  Letters  {which}{model.count(rows)}")

    def take_in(self, letters: tuple[ListedLetter, ...]) -> None:
        """Letters that came: above the others, without taking the keyboard or the cursor."""
        self._came = {**self._came, **{each.full_name: each for each in letters}}
        there = {row.name for row in self._all}
        new = [each for each in letters if each.full_name not in there]
        if new:
            self._show(model.letter_rows(new, self.host.names) + self._all)

    def _show_below(self, lines: Lines) -> None:
        """In the lower part, which gets most of the room until Esc."""
        self.add_class("reading")
        pane = self.query_one(Pane)
        pane.show(lines)
        pane.focus()

    def action_only_new(self) -> None:
        """All letters, or only those that were not read."""
        self._only_new = not self._only_new
        self._show(self._all)

    def action_reload(self) -> None:
        """Asks the repository for the letters."""
        self.host.start(self.load)

    async def load(self) -> None:
        """The list anew."""
        self._came = {}
        listed, self.host.known = await self.host.desk.call(_letters_and_people)
        # What came while the list was made may be missing in it.
        late = [each for name, each in self._came.items() if all(name != there.full_name for there in listed)]
        self._show(model.letter_rows((*listed, *late), self.host.names))
        self.host.watcher.start()

    def action_read(self) -> None:
        """Opens the chosen letter."""
        row = self._chosen
        if row is not None:
            self.host.start(lambda: self._read(row))

    async def _read(self, row: LetterRow) -> None:
        self._opened = None
        self.query_one(Pane).show(())
        try:
            found = await self.host.desk.call(lambda repository: repository.read(row.name, sign=self._agree_to_sign))
        except Stopped:
            raise
        except ClientError as error:
            if isinstance(error, CheckFailed):
                self._change(row, model.refused_row(row))
            self._show_below(model.refused(error))
            return
        self._opened = found
        self._show_below(model.reading(found))
        self._change(row, model.read_row(row, found))

    def _agree_to_sign(self, request: SignatureRequest) -> bool:
        return self.host.desk.agree(model.signature_question(request))

    def _change(self, row: LetterRow, to: LetterRow) -> None:
        self._show(tuple(to if each == row else each for each in self._all))

    def action_timeline(self) -> None:
        """What became of a letter of one's own."""
        row = self._chosen
        if row is None or not row.mine:
            self.host.say("Only letters that you sent have receipts to show.")
        else:
            self.host.start(lambda: self._timeline(row))

    async def _timeline(self, row: LetterRow) -> None:
        self._opened = None
        self.query_one(Pane).show(())
        try:
            found = await self.host.desk.call(lambda repository: repository.status(row.name))
        except Stopped:
            raise
        except ClientError as error:
            self._show_below(model.refused(error))
            return
        self._show_below(model.timeline(found, self.host.names))

    def action_receipt(self) -> None:
        """Confirms the opened letter to its sender, if the person says yes."""
        opened = self._opened
        if opened is None or not opened.receipt_possible:
            self.host.say("Read a letter that you received; then it can be confirmed to its sender.")
        elif opened.receipt_sent:
            self.host.say("Its receipt was sent already.")
        else:
            self.host.start(lambda: self._receipt(opened))

    async def _receipt(self, opened: ReadLetter) -> None:
        if not await self.app.push_screen_wait(Question(model.receipt_question(opened))):
            self.host.say("No receipt was sent.")
            return
        sent = await self.host.desk.call(lambda repository: repository.send_receipt(opened.full_name))
        self.host.say(model.receipt_sent(sent))
        if self._opened is opened:
            self._opened = replace(opened, receipt_sent=True)
            self.query_one(Pane).show(model.reading(self._opened))

    def action_save(self) -> None:
        """Saves the files beside the opened letter, where the person says."""
        opened = self._opened
        if opened is None or not opened.attachments:
            self.host.say("Read a letter that has files beside it; then s saves them.")
        else:
            self.host.start(lambda: self._save(opened))

    async def _save(self, opened: ReadLetter) -> None:
        start = str(self._folder or user_downloads_path())
        answer = await self.app.push_screen_wait(Entry(model.folder_question(opened), Field(start)))
        if not answer:
            self.host.say("Nothing was saved.")
            return
        folder = typed_path(answer)
        try:
            found = await self.host.desk.call(lambda repository: repository.read(opened.full_name, folder))
        except CheckFailed as error:
            # The letter is read and checked anew: what was shown of it before counts for nothing then.
            self._opened = None
            self._show_below(model.refused(error))
            return
        self._folder = folder
        self.host.say(model.saved(found))
        if self._opened is opened:
            self._opened = found
            self.query_one(Pane).show(model.reading(found))

    def action_refuse(self) -> None:
        """Refuses to sign for the chosen letter, if the person says why and yes."""
        row = self._chosen
        if row is None or not row.waits:
            self.host.say("Only a letter that asks for your signature can be refused.")
        else:
            self.host.start(lambda: self._refuse(row))

    async def _refuse(self, row: LetterRow) -> None:
        reason = await self.app.push_screen_wait(Entry(model.REASON_QUESTION, Field()))
        if reason is None or not await self.app.push_screen_wait(Question(model.refusal_question(row, reason))):
            self.host.say("Nothing was signed.")
            return
        refused = await self.host.desk.call(lambda repository: repository.refuse(row.name, reason))
        await self.load()
        self.host.say(model.refusal_sent(refused))

    def action_delete(self) -> None:
        """Deletes the chosen letter, if the person says yes."""
        row = self._chosen
        if row is not None:
            self.host.start(lambda: self._delete(row))

    async def _delete(self, row: LetterRow) -> None:
        declined = False

        def approve(found: ListedLetter) -> bool:
            nonlocal declined
            declined = not self.host.desk.agree(model.deletion_question(found))
            return not declined

        try:
            deleted = await self.host.desk.call(lambda repository: repository.delete(row.name, approve))
        except NotAllowed:
            if not declined:
                raise
            self.host.say("Nothing was deleted.")
            return
        if self._opened is not None and self._opened.full_name == row.name:
            self._opened = None
            self.query_one(Pane).show(_WELCOME)
            self.leave()
        await self.load()
        self.host.say(model.deleted(deleted))

    def action_reply(self) -> None:
        """Writes an answer to the opened letter."""
        if self._opened is None:
            self.host.say("Read a letter; then r answers it.")
        else:
            self._open(Answer(self._opened))

    def action_compose(self) -> None:
        """Writes a letter."""
        self._open(Compose(self.host.known, None))

    def action_people(self) -> None:
        """Looks for people."""
        self._open(PeopleScreen())

    def _open(self, screen: HostScreen) -> None:
        if self.host.working:
            self.app.bell()
            return
        self.app.push_screen(screen, lambda _: self.action_reload())


def _letters_and_people(repository: Repository) -> tuple[tuple[ListedLetter, ...], tuple[KnownPerson, ...]]:
    return repository.letters(), repository.known_people()
