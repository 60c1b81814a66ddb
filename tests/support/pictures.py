"""Makes docs/pictures/*.svg: screens of `smr ui` over a recorded mailbox.

    python -m tests.support.pictures

A test compares the kept pictures with what this module makes.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client.ui.app import MailboxApp
from tests.support.recorded_mailbox import RecordedMailbox
from tests.support.screens import Keyboard, at_keyboard

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
_VARIABLES = {"TZ": "UTC", "NO_COLOR": None, "TEXTUAL_THEME": None}


def pictures() -> dict[str, str]:
    """Each picture by the name of its file."""
    with _fixed_environment():
        return asyncio.run(_made())


async def _made() -> dict[str, str]:
    made = {}
    async with at_keyboard(MailboxApp(RecordedMailbox)) as keyboard:
        made["ui-letters.svg"] = keyboard.picture()
        await _press(keyboard, "enter")
        made["ui-reading.svg"] = keyboard.picture()
        await _press(keyboard, "r")
        await keyboard.write("Obrigado, Maria. Assino amanhã.")
        made["ui-answering.svg"] = keyboard.picture()
        await _press(keyboard, "escape", "y", "question_mark")
        made["ui-help.svg"] = keyboard.picture()
        await _press(keyboard, "escape", "escape", "down", "down", "enter")
        made["ui-refused.svg"] = keyboard.picture()
        await _press(keyboard, "escape", "down", "t")
        made["ui-receipts.svg"] = keyboard.picture()
        await _press(keyboard, "escape", "c", "down", "space")
        made["ui-writing.svg"] = keyboard.picture()
        await _press(keyboard, "escape", "p")
        made["ui-people.svg"] = keyboard.picture()
    return made


async def _press(keyboard: Keyboard, *keys: str) -> None:
    for key in keys:
        await keyboard.press(key)
        await keyboard.idle()


@contextmanager
def _fixed_environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _VARIABLES}
    _set(_VARIABLES)
    try:
        yield
    finally:
        _set(before)


def _set(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    time.tzset()


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, picture in pictures().items():
        (FOLDER / name).write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
