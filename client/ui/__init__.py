"""`smr ui`: a mailbox that fills the terminal, for the keyboard alone.

    app       the program: its first screen and its looks
    host      what is under way, what is asked, what is said: the same for every screen
    desk      the library at work in a thread of its own
    watcher   what comes meanwhile, in another one
    model     what is shown, as plain values made from the library's: pure, and the only place that words it
    prompts   questions: a secret, a line, a yes or no, something to be seen
    widgets   the parts of the screens
    letters, people, compose, files    the screens

Rules. The terminal's thread never waits for a card, the network or a file. Nothing of others is shown that `model` did
not make safe, and no text is read as markup. Nothing rests on colour. A letter that a check refused is never shown as
one. Secrets are asked for, handed on and forgotten. Every call opens the library anew, as a command line does, so that
no passphrase, key or connection lies here between two of them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from client.ui.desk import Library

#: What makes Textual write down or send away keys and screens: a PIN is typed here. Read when it is imported.
_RECORDING: Final = (
    "TEXTUAL",
    "TEXTUAL_DEBUG",
    "TEXTUAL_LOG",
    "TEXTUAL_PRESS",
    "TEXTUAL_SCREENSHOT",
    "TEXTUAL_SCREENSHOT_FILENAME",
    "TEXTUAL_SCREENSHOT_LOCATION",
)


def show(library: Library) -> None:
    """Shows the mailbox until it is left."""
    for name in _RECORDING:
        os.environ.pop(name, None)
    from client.ui.app import MailboxApp

    MailboxApp(library).run()
