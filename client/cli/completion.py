"""What may come next on a command line of `smr`: commands, options, letters and confirmed people.

A shell asks by the environment, through the scripts in `shells/`:

    SMR_COMPLETE=bash   COMP_LINE, COMP_POINT (bytes) and COMP_WORD as bash has them; answers are quoted for bash
    SMR_COMPLETE=zsh    the words after the program as arguments, the unfinished one last; answers are plain
    SMR_COMPLETE=fish   as zsh

Each line of the answer is a candidate, for zsh and fish with a tab and a few words about it; a line of a tab and
`files` asks the shell for names of files. What is expected is read from the commands themselves: LETTER, WHO, FILE …

Nothing is asked, fetched or signed, and nothing personal is told while no session is open here: who finds a machine
unattended learns no more from the Tab key than from the rest of `smr`. Names that hold anything but printable
characters are left out; their owners' ids do as well.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SHELLS: Final = ("bash", "zsh", "fish")
VARIABLE: Final = "SMR_COMPLETE"
_FILES: Final = "\tfiles"
#: What an unquoted word of bash may hold without a backslash.
_PLAIN: Final = re.compile(r"[\w%+,./:@^-]", re.UNICODE)
_QUOTES: Final = "\"'"


@dataclass(frozen=True, slots=True)
class Candidate:
    """What could stand there, with a few words about it."""

    value: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """What is expected after some words: candidates, names of files, or both."""

    candidates: tuple[Candidate, ...] = ()
    files: bool = False


def script(shell: str) -> str:
    """What a shell (of `SHELLS`) must read, so that it asks here."""
    return (Path(__file__).parent / "shells" / f"smr.{shell}").read_text(encoding="utf-8")


def answer() -> None:
    """Answers the shell that asks, on standard output."""
    shell = os.environ.pop(VARIABLE)
    if shell == "bash":
        lines = _for_bash(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]), os.environ.get("COMP_WORD", ""))
    else:
        found = expected(sys.argv[1:-1], sys.argv[-1] if sys.argv[1:] else "")
        lines = [f"{each.value}\t{each.about}" for each in found.candidates] + [_FILES] * found.files
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def expected(words: Sequence[str], unfinished: str) -> Expected:
    """What may stand for the `unfinished` word after `words`, which begin after the program's name."""
    import typer

    from client.cli.app import app
    from client.cli.run import home_folder

    command: Any = typer.main.get_command(app)
    given: dict[str, str] = {}
    placed, awaited = 0, None
    for word in words:
        if awaited is not None:
            given[awaited.opts[0]], awaited = word, None
        elif word.startswith("-"):
            option = _option(command, word)
            awaited = option if option is not None and not option.is_flag else None
        elif word in getattr(command, "commands", {}):
            command, placed = command.commands[word], 0
        else:
            placed += 1
    known = _Known(home_folder(Path(given["--home"]) if "--home" in given else None))
    if awaited is not None:
        return _values(awaited, unfinished, known)
    if unfinished.startswith("-"):
        return Expected(tuple(_options(command, unfinished)))
    if getattr(command, "commands", {}):
        return Expected(tuple(_commands(command, unfinished)))
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    if placed >= len(arguments) and not (arguments and arguments[-1].nargs == -1):
        return Expected()
    return _values(arguments[min(placed, len(arguments) - 1)], unfinished, known)


def _option(command: Any, word: str) -> Any:
    return next((each for each in command.params if word in each.opts and each.param_type_name == "option"), None)


def _options(command: Any, unfinished: str) -> Iterator[Candidate]:
    for each in command.params:
        if each.param_type_name == "option" and not each.hidden:
            yield from (Candidate(name, each.help or "") for name in each.opts if name.startswith(unfinished))
    if "--help".startswith(unfinished):
        yield Candidate("--help", "Show what this command does.")


def _commands(command: Any, unfinished: str) -> Iterator[Candidate]:
    for name, each in command.commands.items():
        if name.startswith(unfinished) and not each.hidden:
            yield Candidate(name, (each.help or "").splitlines()[0])


def _values(parameter: Any, unfinished: str, known: _Known) -> Expected:
    """By what the help calls it."""
    match parameter.metavar:
        case "FILE" | "DIR":
            return Expected(files=True)
        case "LETTER":
            return Expected(tuple(_beginning(unfinished, known.letters)))
        case "WHO":
            return Expected(tuple(_beginning(unfinished, known.people)))
        case "SHELL":
            return Expected(tuple(_beginning(unfinished, lambda: map(Candidate, SHELLS))))
        case _:
            return Expected()


def _beginning(unfinished: str, candidates: Callable[[], Iterable[Candidate]]) -> Iterator[Candidate]:
    return (each for each in candidates() if each.value.casefold().startswith(unfinished.casefold()))


@dataclass(frozen=True, slots=True)
class _Known:
    """Letters and people of a home, for who has a session open in it; for others none."""

    home: Path

    def letters(self) -> Iterator[Candidate]:
        from client.naming import short_names
        from client.state.chain import ChainStore
        from client.state.home import Home

        session = self._session()
        if session is None or session.user is None:
            return
        chain = ChainStore(Home(self.home), session.repository, session.user).load()
        gone = chain.tombstones
        names = short_names(chain.links).items()
        yield from (Candidate(name) for key, name in reversed(names) if key not in gone)

    def people(self) -> Iterator[Candidate]:
        from client.state.home import Home
        from client.state.people import People

        if self._session() is None:
            return
        for person in People(Home(self.home)).all().values():
            if person.confirmed and person.name.isprintable():
                yield Candidate(person.name, person.user.hex())

    def _session(self) -> Any:
        from client.settings import system_clock
        from client.state import counters
        from client.state.home import Home
        from client.state.session import SessionStore, memory_folder

        home = Home(self.home)
        found = SessionStore(home, memory_folder()).load() if home.session.exists() else None
        if found is None or not found.usable(system_clock(), counters.used(home, found.session)):
            return None
        return found


# --- bash -------------------------------------------------------------------------------------------------------------


def _for_bash(line: str, point: int, word: str) -> list[str]:
    """Candidates in the place of `word`, which is the part of the last word that bash would replace."""
    words, unfinished, quote = split(line.encode()[:point].decode(errors="replace"))
    found = expected(words[1:], unfinished)
    whole = [_quoted(each.value, quote) for each in found.candidates]
    # bash takes a word apart at `:`, `=` and `@`, and replaces what stands after the last of them.
    typed = _quoted(unfinished, quote)
    before = typed.removesuffix(word.lstrip(_QUOTES)) if not quote else ""
    shown = [each.removeprefix(before) for each in whole if each.startswith(before) or quote]
    return shown + [_FILES] * found.files


def split(text: str) -> tuple[list[str], str, str]:
    """The finished words of a line, the unfinished last one without its quotes, and the quote that is open in it."""
    if (len(text) - len(text.rstrip("\\"))) % 2:
        text = text[:-1]  # the escape of a character that is not typed yet
    if not text or (text[-1].isspace() and not text.endswith("\\ ")):
        text += '""'  # the word that is about to begin
    for quote in ("", *_QUOTES):
        lexer = shlex.shlex(text + quote, posix=True, punctuation_chars="")
        lexer.whitespace_split, lexer.commenters = True, ""
        try:
            *words, unfinished = lexer
        except ValueError:  # this quote is not the one that is open
            continue
        return words, unfinished, quote
    return [], "", ""


def _quoted(value: str, quote: str) -> str:
    if quote:
        return value
    return "".join(each if _PLAIN.match(each) else f"\\{each}" for each in value)
