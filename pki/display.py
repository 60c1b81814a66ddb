"""Texts and names of other people, as they may stand on a terminal or in a message.

A name says nothing about who somebody is: identity is a certificate, and two people may have one name. What is shown
here keeps a name from passing for something else:

  * control and direction characters, and all that takes no room, are shown as escapes (general category; UAX #44)
  * letters of other scripts than Latin are named: `Аna (Cyrillic, Latin)`, since many look like Latin ones (UTS #39)
  * at most a few marks stand over one letter, and a long name is cut

    safe_text(subject)         # whatever somebody wrote
    shown_name(name)           # what somebody is called
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Final

NAME_CHARACTERS_SHOWN: Final = 100
MARKS_MAX: Final = 3  #: over one letter; no written language needs more
#: Categories of characters that could move the cursor, hide text or turn its direction
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
#: Letters, marks and signs that show nothing: combining grapheme joiner, fillers, inherent vowels, selectors, blank
_BLANK: Final = frozenset(
    map(chr, [0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x2800, 0x3164, 0xFFA0])
) | frozenset(map(chr, [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]))
_EMOJI_STYLE: Final = "\ufe0f"  #: asks for the coloured form of the sign before it
_JOINERS: Final = frozenset({"\u200c", "\u200d"})  #: words of some scripts need them
_LATIN: Final = "Latin"
_ORDINALS: Final = frozenset("ªº")


def safe_text(text: str, *, multiline: bool = False) -> str:
    """A text of somebody else, fit for a terminal: what could steer it or hide in it is shown as an escape."""
    allowed = _JOINERS | {_EMOJI_STYLE} | ({"\n", "\t"} if multiline else set())
    return "".join(each if each in allowed or not _is_hidden(each) else _escape(each) for each in text)


def shown_name(name: str) -> str:
    """A name of a person or an authority, on one line, with the scripts it is written in unless that is Latin alone."""
    text = " ".join(unicodedata.normalize("NFC", name).split())
    scripts = sorted({script for each in text if (script := _script(each))})
    shown = "".join(_escape(each) if _is_hidden(each) else each for each in _few_marks(text))
    if len(shown) > NAME_CHARACTERS_SHOWN:
        shown = f"{shown[: NAME_CHARACTERS_SHOWN - 3]}..."
    return shown if set(scripts) <= {_LATIN} else f"{shown} ({', '.join(scripts)})"


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN or character in _BLANK


def _few_marks(text: str) -> Iterator[str]:
    marks = 0
    for each in text:
        marks = marks + 1 if unicodedata.category(each) in ("Mn", "Me") else 0
        if marks <= MARKS_MAX:
            yield each


def _script(character: str) -> str:
    """The script of a letter: the first word of its name, which for letters is the script's; "" for all else."""
    if not character.isalpha():
        return ""
    if character in _ORDINALS:
        return _LATIN
    return unicodedata.name(character, "UNNAMED").split()[0].capitalize()


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
