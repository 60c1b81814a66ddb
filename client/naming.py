"""How letters and people are called on the command line, and whom a name means.

A letter is called by a prefix of its id (26 lower-case base32 characters), as short as is unambiguous here. Ids are
chosen by senders, so that a hostile one can repeat somebody else's: then `@` and the beginning of the author's id tell
them apart. A person is called by the full id (56 hexadecimal digits), or by name when exactly one confirmed person has
it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from client.errors import Ambiguous, NotFound, Usage
from client.state.chain import Link
from client.state.people import KnownPerson, People
from crypto_core.ids import LETTER_ID_BYTES, USER_ID_BYTES, LetterId, UserId, base32
from crypto_core.mailbox import EntryKind

if TYPE_CHECKING:
    from client.mailbox import Mailbox

LETTER_CHARACTERS: Final = 26
PREFIX_CHARACTERS_MIN: Final = 4  #: a shorter prefix is a guess
_LETTER: Final = re.compile(r"([a-z2-7]{4,26})(?:@([0-9a-f]{1,56}))?")
_USER: Final = re.compile(rf"[0-9a-f]{{{2 * USER_ID_BYTES}}}")
_LETTERS: Final = (EntryKind.RECEIVED, EntryKind.SENT)

Key = tuple[UserId, LetterId]


def letter_name(letter: LetterId) -> str:
    """The full name of a letter."""
    if len(letter) != LETTER_ID_BYTES:
        raise ValueError("a letter id has 16 bytes")
    return base32(letter, LETTER_CHARACTERS)


def full_name(letter_id: str, author: UserId) -> str:
    """What names exactly one letter, whatever ids others chose: its whole id, and its author's."""
    return f"{letter_id}@{author.hex()}"


def short_names(links: Sequence[Link]) -> dict[Key, str]:
    """The shortest unambiguous name of each letter of a mailbox."""
    keys = {(link.author, link.letter) for link in links if link.kind in _LETTERS}
    ordered = sorted(keys, key=lambda key: (letter_name(key[1]), key[0]))
    names = [letter_name(letter) for _, letter in ordered]
    return {
        key: _short(names[at], names[at - 1] if at else "", names[at + 1] if at + 1 < len(names) else "", key[0])
        for at, key in enumerate(ordered)
    }


def find_letter(mailbox: Mailbox, text: str, kinds: Sequence[EntryKind] = _LETTERS) -> Link:
    """The entry of the letter that `text` names; asks the repository for new ones if it is not known yet.

    Raises Usage for a text that is no name, NotFound, Ambiguous.
    """
    match = _LETTER.fullmatch(text.strip().lower())
    if match is None:
        raise Usage(
            f"{text!r:.60} does not name a letter.",
            f"A letter is named by the first {PREFIX_CHARACTERS_MIN} or more characters of its id.",
            "List them: smr list.",
        )
    prefix, author = match[1], match[2] or ""
    found = _matching(mailbox.chain().links, prefix, author, kinds)
    if not found:
        found = _matching(mailbox.synchronise().links, prefix, author, kinds)
    if not found:
        raise NotFound(f"There is no letter {text} here.", action="List your letters: smr list.")
    if len({(link.author, link.letter) for link in found}) > 1:
        candidates = tuple(f"{letter_name(link.letter)}@{link.author.hex()[:12]}" for link in found)
        raise Ambiguous(
            f"{text} is the beginning of {len(found)} letters: {', '.join(candidates[:5])}.",
            "Nothing was done, since the wrong one could have been meant.",
            "Write more of the id.",
            candidates=candidates,
        )
    return found[0]


def is_called(letter: LetterId, text: str) -> bool:
    """Whether `text` is a beginning of the name of this letter."""
    match = _LETTER.fullmatch(text.strip().lower())
    return match is not None and letter_name(letter).startswith(match[1])


def find_person(people: People, text: str) -> UserId:
    """Whom `text` means: an exact id, or the one confirmed person of this name. Raises NotFound, Ambiguous."""
    if _USER.fullmatch(text.strip().lower()):
        return UserId(bytes.fromhex(text.strip()))
    found = people.confirmed_as(text)
    if not found:
        raise NotFound(
            f"You have not confirmed anybody called {text!r:.80}.",
            "A name is only used for people whose certificate you have seen, so that nobody can slip in a namesake.",
            f"Find them: smr people {text!r:.80}; then smr confirm ID.",
        )
    if len(found) > 1:
        raise _several(text, found)
    return found[0].user


def parse_user(text: str) -> UserId:
    """An exact id. Raises Usage."""
    if not _USER.fullmatch(text.strip().lower()):
        raise Usage(
            f"{text!r:.80} is not a user id.",
            "An id has 56 hexadecimal digits and names exactly one citizen.",
            "Find it: smr people NAME.",
        )
    return UserId(bytes.fromhex(text.strip()))


def _several(text: str, found: Sequence[KnownPerson]) -> Ambiguous:
    candidates = tuple(person.user.hex() for person in found)
    return Ambiguous(
        f"{len(found)} people that you confirmed are called {text!r:.80}: {', '.join(candidates)}.",
        "Nothing was sent, since the wrong one could have been meant.",
        "Use the id.",
        candidates=candidates,
    )


def _matching(links: Sequence[Link], prefix: str, author: str, kinds: Sequence[EntryKind]) -> list[Link]:
    """The entries that fit, one for each letter: of a letter to oneself the one whose kind comes first in `kinds`."""
    found: dict[Key, Link] = {}
    for kind in kinds:
        for link in links:
            if (
                link.kind is kind
                and letter_name(link.letter).startswith(prefix)
                and link.author.hex().startswith(author)
            ):
                found.setdefault((link.author, link.letter), link)
    return list(found.values())


def _short(name: str, before: str, after: str, author: UserId) -> str:
    if name in (before, after):
        return f"{name}@{author.hex()[:12]}"
    shared = max(_shared(name, before), _shared(name, after))
    return name[: max(PREFIX_CHARACTERS_MIN, shared + 1)]


def _shared(name: str, other: str) -> int:
    """How many characters two names have in common at their beginning."""
    return next((at for at, pair in enumerate(zip(name, other, strict=False)) if pair[0] != pair[1]), len(other))
