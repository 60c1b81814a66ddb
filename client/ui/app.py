"""The program: its first screen and its looks. Colour and symbols help; nothing rests on them."""

from __future__ import annotations

from client.ui.host import Host
from client.ui.letters import Letters


class MailboxApp(Host):
    """A mailbox that fills the terminal, from 80 × 24 on."""

    TITLE = "smr"
    CSS = """
    Title { height: 1; width: 1fr; text-style: reverse bold; padding: 0 1; }
    State { height: auto; min-height: 1; max-height: 2; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    State.waiting { text-style: bold; }
    Rows { height: 1fr; background: ansi_default; color: ansi_default; }
    Rows > .datatable--header { text-style: bold underline; background: ansi_default; color: ansi_default; }
    Rows > .datatable--odd-row, Rows > .datatable--even-row { background: ansi_default; }
    Rows > .datatable--cursor { text-style: underline; background: ansi_default; color: ansi_default; }
    Rows:focus > .datatable--cursor { text-style: reverse; }
    #letters { height: 9; }
    #letter { height: 1fr; border-top: solid ansi_default; padding: 0 1; }
    #letter:focus { border-top: heavy ansi_default; }
    Letters.reading #letters { height: 5; }
    #to { height: auto; max-height: 6; }
    Beside { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    .writing Input { height: 2; border-top: solid ansi_default; padding: 0 1; }
    .writing Input:focus { border-top: heavy ansi_default; }
    TextArea { height: 1fr; border-top: solid ansi_default; padding: 0 1; }
    TextArea:focus { border-top: heavy ansi_default; }
    PeopleScreen Input, FilesScreen Input { padding: 0 1; }
    #quoted { border-left: outer ansi_default; padding: 0 1; margin: 1 0; }
    ModalScreen { align: center middle; }
    .prompt { width: 76; height: auto; max-height: 20; border: heavy ansi_default; padding: 0 1; }
    .prompt Pane { height: auto; max-height: 16; }
    .prompt Static { height: auto; }
    """

    def on_mount(self) -> None:
        self.push_screen(Letters())
