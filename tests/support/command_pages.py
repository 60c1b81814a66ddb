"""Writes docs/CLI.md and the man pages docs/man/*.1 from the programs themselves.

    python -m tests.support.command_pages

Every command, argument and option comes from the parser that the program runs with, so that a new one appears by
running this again; a test compares the kept pages with what this module writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from platformdirs import user_data_path

import client.cli.app
import pki.cli
import repository_worker.cli.app

DOCS = Path(__file__).parents[2] / "docs"
SECTION = 1  #: of the manual: programs that people run

_HEAD = """# The command lines

Every command of `smr`, `smr-repository` and `smr-pki`. This page and the man pages in `docs/man/` are made from the
programs: `make pages`.

"""


@dataclass(frozen=True)
class Parameter:
    """An option or an argument, as the parser knows it."""

    names: tuple[str, ...]  #: of an option; of an argument none
    value: str  #: what stands for its value, empty for a flag
    help: str
    default: str
    variable: str
    required: bool
    repeatable: bool

    @property
    def shown(self) -> str:
        """As in a synopsis, without brackets."""
        return " ".join(filter(None, (", ".join(self.names), self.value)))

    @property
    def notes(self) -> str:
        """What is to be known beside its meaning."""
        found = (
            "Required." if self.required and self.names else "",
            "Repeatable." if self.repeatable and "epeatable" not in self.help else "",
            f"Default: {self.default}." if self.default else "",
            f"Environment: {self.variable}." if self.variable else "",
        )
        return " ".join(filter(None, (self.help, *found)))


@dataclass(frozen=True)
class Command:
    """A program, a group of commands or a command."""

    path: tuple[str, ...]
    help: str
    epilog: str
    arguments: tuple[Parameter, ...]
    options: tuple[Parameter, ...]
    commands: tuple[Command, ...]

    @property
    def name(self) -> str:
        return " ".join(self.path)

    @property
    def synopsis(self) -> str:
        """How it is called: what must be given by name, the rest in short."""
        named = [f"{each.names[0]} {each.value}" for each in self.options if each.required]
        placed = [
            (each.value if each.required else f"[{each.value}]") + ("…" if each.repeatable else "")
            for each in self.arguments
        ]
        optional = "[OPTIONS]" if any(not each.required for each in self.options) else ""
        return " ".join(filter(None, (*self.path, optional, *named, *placed, "COMMAND …" if self.commands else "")))

    def walk(self) -> Iterator[Command]:
        """Itself, then everything below, in the order of the program."""
        yield self
        for each in self.commands:
            yield from each.walk()


def programs() -> tuple[Command, ...]:
    """The three programs."""
    apps = (
        ("smr", client.cli.app.app),
        ("smr-repository", repository_worker.cli.app.app),
        ("smr-pki", pki.cli.app),
    )
    return tuple(_command((name,), typer.main.get_command(app), ()) for name, app in apps)


def _command(path: tuple[str, ...], found: Any, common: tuple[Parameter, ...]) -> Command:
    """`common` are the options of the program, which may stand after its commands too and are told once."""
    all_of_them = [(each, _parameter(each)) for each in found.params if not getattr(each, "hidden", False)]
    parameters = [(each, made) for each, made in all_of_them if made not in common]
    options = tuple(made for each, made in parameters if each.param_type_name == "option")
    below = getattr(found, "commands", {})
    return Command(
        path=path,
        help=_plain(found.help or ""),
        epilog=_plain(getattr(found, "epilog", None) or ""),
        arguments=tuple(made for each, made in parameters if each.param_type_name == "argument"),
        options=options,
        commands=tuple(
            _command((*path, name), each, common or options) for name, each in below.items() if not each.hidden
        ),
    )


def _parameter(found: Any) -> Parameter:
    option = found.param_type_name == "option"
    flag = option and found.is_flag
    name = found.metavar or found.name.upper().replace("_", "-")
    return Parameter(
        names=(*found.opts, *found.secondary_opts) if option else (),
        value="" if flag else name,
        help=_plain(found.help or ""),
        default=_default(found.default) if not flag else "",
        variable=found.envvar if isinstance(found.envvar, str) else "",
        required=found.required,
        repeatable=bool(found.multiple or found.nargs == -1),
    )


def _default(value: Any) -> str:
    """A default as people read it; folders without the name of who makes the page."""
    if value is None or callable(value) or value in ("", [], ()):
        return ""
    return str(value).replace(str(user_data_path("smr")), "~/.local/share/smr")


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


# --- Markdown ---------------------------------------------------------------------------------------------------------


def markdown() -> str:
    """docs/CLI.md."""
    return _HEAD + "\n".join(_markdown_program(each) for each in programs())


def _markdown_program(program: Command) -> str:
    lines = [f"## {program.name}", "", program.help, "", f"    {program.synopsis}", ""]
    lines += _markdown_parameters(program)
    lines += ["| command | does |", "|---|---|"]
    inner = [each for each in program.walk() if not each.commands]
    lines += [f"| [`{each.name}`](#{_anchor(each)}) | {_cell(each.help)} |" for each in inner]
    lines.append("")
    if program.epilog:
        lines += [program.epilog, ""]
    for each in inner:
        lines += [f"### {each.name}", "", each.help, "", f"    {each.synopsis}", "", *_markdown_parameters(each)]
    return "\n".join(lines)


def _markdown_parameters(command: Command) -> list[str]:
    lines = [f"* `{each.shown}`: {_prose(each.notes)}" for each in (*command.arguments, *command.options)]
    return [*lines, ""] if lines else []


def _anchor(command: Command) -> str:
    return command.name.replace(" ", "-")


def _cell(text: str) -> str:
    return _prose(text).replace("|", "\\|")


def _prose(text: str) -> str:
    return text.replace("<", "\\<").replace("*", "\\*")


# --- roff -------------------------------------------------------------------------------------------------------------


def man_pages() -> dict[str, str]:
    """The man pages by the names of their files."""
    made = programs()
    return {f"{program.name}.{SECTION}": _man(program, made) for program in made}


def _man(program: Command, others: Sequence[Command]) -> str:
    lines = [
        r".\" Made from the program by tests/support/command_pages.py.",
        f'.TH {_quoted(program.name.upper())} {SECTION} "" "Secure Messaging Repository" "User Commands"',
        ".SH NAME",
        f"{_roff(program.name)} \\- {_roff(program.help.rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_roff(program.name)}",
        _roff(program.synopsis.removeprefix(program.name).strip()),
        *_man_section("OPTIONS", program),
        ".SH COMMANDS",
    ]
    for each in program.walk():
        if each.commands:
            continue
        lines += [f".SS {_quoted(each.synopsis)}", _roff(each.help)]
        lines += _man_parameters(each)
    if program.epilog:
        lines += [".SH NOTES", _roff(program.epilog)]
    also = ", ".join(rf"\fB{_roff(each.name)}\fR({SECTION})" for each in others if each is not program)
    return "\n".join([*lines, ".SH SEE ALSO", also]) + "\n"


def _man_section(title: str, command: Command) -> list[str]:
    lines = _man_parameters(command)
    return [f".SH {title}", *lines] if lines else []


def _man_parameters(command: Command) -> list[str]:
    lines: list[str] = []
    for each in (*command.arguments, *command.options):
        lines += [".TP", rf"\fB{_roff(each.shown)}\fR", _roff(each.notes) or r"\&"]
    return lines


def _roff(text: str) -> str:
    """Text as roff takes it: nothing of it is a request or an escape."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return r"\&" + escaped if escaped.startswith((".", "'")) else escaped


def _quoted(text: str) -> str:
    return '"' + _roff(text).replace('"', r"\(dq") + '"'


def write() -> None:
    """Writes all pages."""
    (DOCS / "CLI.md").write_text(markdown(), encoding="utf-8")
    for name, text in man_pages().items():
        (DOCS / "man" / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
