"""Driving `smr ui` as a person at a keyboard does, and looking at what stands on the screen.

async with at_keyboard(app) as keyboard:
    await keyboard.press("p", "slash")
    await keyboard.write("joao")
    await keyboard.until("1 found")
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from textual.pilot import Pilot

from client.ui.host import Host

PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.03  # between two looks; drawing the screen at each takes the time that the awaited work needs
SIZE = (80, 24)


class Keyboard:
    """A person before the screen."""

    def __init__(self, app: Host, pilot: Pilot[Any]) -> None:
        self.app = app
        self._pilot = pilot

    async def press(self, *keys: str) -> None:
        """Keys one after the other; what they begin may still be under way."""
        await self._pilot.press(*keys)
        await self._pilot.pause()

    async def write(self, text: str) -> None:
        await self.press(*({" ": "space", "\n": "enter"}.get(each, each) for each in text))

    async def until(self, wanted: str | Callable[[], bool]) -> None:
        """Waits until a text stands on the screen, or until something holds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (wanted in self.text() if isinstance(wanted, str) else wanted()):
            assert time.monotonic() < deadline, f"{wanted} did not come:\n{self.text()}"
            await asyncio.sleep(LOOK_SECONDS)
            await self._pilot.pause()

    async def idle(self) -> None:
        """Waits until nothing is under way."""
        await self.until(lambda: not self.app.working)

    def text(self) -> str:
        """The screen, line by line."""
        return "\n".join(strip.text.rstrip() for strip in self.app.screen._compositor.render_strips())

    def words(self) -> str:
        """The screen without ends of lines and frames, for what may be wrapped."""
        return " ".join(re.sub("[┃┏┓┗┛━─▌▐█]", " ", self.text()).split())

    def picture(self) -> str:
        """The screen as SVG, without addresses of fonts."""
        made = self.app.export_screenshot(title="smr ui", simplify=True)
        return re.sub(r"\s*(@font-face \{.*?\}|<!--.*?-->)", "", made, flags=re.DOTALL).rstrip("\n") + "\n"


@asynccontextmanager
async def at_keyboard(app: Host) -> AsyncIterator[Keyboard]:
    """The program on a screen of 80 × 24, when its first work is done."""
    async with app.run_test(size=SIZE) as pilot:
        keyboard = Keyboard(app, pilot)
        await pilot.pause()
        await keyboard.idle()
        yield keyboard
