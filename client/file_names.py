"""Names of files that others chose, made harmless: what comes out is one name in one folder, on every system.

A sender may name an attachment as they like. Of such a name nothing is left that separates folders, hides, turns or
imitates other text, means a device, or is too long. Whether the name is free is not decided here: whoever writes the
file never writes over another.
"""

from __future__ import annotations

import unicodedata
from typing import Final

#: Shorter than the 255 bytes of common file systems, so that there is room for a number.
NAME_BYTES: Final = 200
#: Kept when a name is cut; bytes.
SUFFIX_BYTES: Final = 20
FALLBACK: Final = "attachment"
#: Not allowed in names, or with a meaning, on some system.
_SEPARATORS: Final = frozenset('/\\:*?"<>|')
#: Controls, formats (they turn or hide text), surrogates, private use, unassigned, and separators of lines.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_DEVICES: Final = frozenset(
    {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {f"{port}{n}" for port in ("COM", "LPT") for n in "0123456789"}
)


def harmless(name: str) -> str:
    """The name under which an attachment called `name` may be written into a folder."""
    text = unicodedata.normalize("NFC", "".join(map(_replaced, name)))
    # In front: hidden files, the folders `.` and `..`, options and homes. At the end some systems drop dots and spaces.
    text = _shortened(text.lstrip(". -~").rstrip(". "), NAME_BYTES).rstrip(". ") or FALLBACK
    # Compatibility forms too: some systems take ¹ for 1 in the names of devices.
    stem = unicodedata.normalize("NFKC", text).split(".")[0].strip().upper()
    return "_" + _shortened(text, NAME_BYTES - 1).rstrip(". ") if stem in _DEVICES else text


def numbered(name: str, number: int) -> str:
    """The same name for when it is taken: `ata (2).pdf`."""
    stem, suffix = _divided(name)
    return f"{stem} ({number}){suffix}"


def _replaced(character: str) -> str:
    if unicodedata.category(character) in _UNSEEN:
        return ""
    if character in _SEPARATORS:
        return "_"
    return " " if character.isspace() else character


def _shortened(text: str, most: int) -> str:
    """At most so many bytes of it, with its suffix."""
    if len(text.encode("utf-8")) <= most:
        return text
    stem, suffix = _divided(text)
    room = most - len(suffix.encode("utf-8"))
    return stem.encode("utf-8")[:room].decode("utf-8", "ignore") + suffix


def _divided(name: str) -> tuple[str, str]:
    """What stands before the last dot, and the rest from there, where that is short enough to be a suffix."""
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix.encode("utf-8")) >= SUFFIX_BYTES:
        return name, ""
    return stem, dot + suffix
