"""What the Tab key offers: in the shells that this machine has, at a terminal, and nothing personal while locked."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.cli.completion import SHELLS, expected, script, split
from client.mailbox import Mailbox
from client.state import files
from client.state.home import Home
from client.state.people import People
from client.state.session import SessionStore
from tests.support import protocol
from tests.unit.client.conftest import PlayedRepository, live_session

PATIENCE = 60.0  #: seconds for a shell on a busy machine
INTERACTIVE = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
PREPARE = {
    "bash": "source {script}",
    "zsh": "autoload -U compinit; compinit -D -u; source {script}",
    "fish": "source {script}",
}
NAME = "João Sá d'Orey"


@pytest.fixture
def unlocked(home: Home, own: Mailbox, repository: PlayedRepository, monkeypatch: pytest.MonkeyPatch) -> SessionStore:
    """A home with two letters, a confirmed person, one who is not, and an open session."""
    runtime = home.path.parent / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("SMR_HOME", str(home.path))
    repository.add(letter=bytes(16))
    repository.add(letter=b"\xff" * 16)
    own.synchronise()
    people = People(home)
    people.note(protocol.JOAO, NAME, 1, protocol.digest("one"))
    people.confirm(protocol.JOAO)
    people.note(protocol.MARIA, "Maria Conceição Reis", 1, protocol.digest("two"))
    store = SessionStore(home, files.private_folder(runtime / "smr"))
    store.save(live_session(expires=time.time_ns() // 1_000_000 + 8 * protocol.HOUR_MS))
    return store


def values(*words: str) -> list[str]:
    return [each.value for each in expected(words[:-1], words[-1]).candidates]


def test_commands_and_options_come_from_the_program():
    assert {"send", "session", "status"} <= set(values(""))
    assert values("se") == ["send", "session"] or "send" in values("se")
    assert values("session", "") == ["open", "show", "close"]
    assert values("send", "--su") == ["--subject"]
    assert "--module" in values("--")


def test_letters_and_confirmed_people_are_offered_while_a_session_is_open(unlocked):
    assert set(values("read", "")) == {"aaaa", "7777"}
    assert values("read", "7") == ["7777"]
    assert values("send", "--to", "") == values("send", "--to", "joão") == [NAME]
    assert values("block", "J") == [NAME]


@pytest.mark.parametrize("words", [("read", ""), ("send", "--to", ""), ("block", "")])
def test_nothing_personal_is_offered_without_a_session(unlocked, words):
    assert values(*words)
    unlocked.remove()
    assert not values(*words)


def test_nothing_personal_is_offered_once_the_session_is_over(unlocked):
    unlocked.save(live_session(expires=time.time_ns() // 1_000_000))
    assert not values("read", "")


def test_a_name_that_would_do_something_to_a_terminal_is_not_offered(unlocked, home):
    People(home).note(protocol.BRUNO, "Bruno\x1b[2J", 1, protocol.digest("three"))
    People(home).confirm(protocol.BRUNO)
    assert values("send", "--to", "B") == []


@pytest.mark.parametrize("words", [("read", "aaaa", "--output", ""), ("--home", ""), ("send", "")])
def test_files_are_left_to_the_shell(words):
    found = expected(words[:-1], words[-1])
    assert found.files
    assert not found.candidates


def test_after_the_last_argument_nothing_is_expected(unlocked):
    assert not values("read", "aaaa", "")


@pytest.mark.parametrize(
    ("line", "words", "unfinished", "quote"),
    [
        ("smr send", ["smr"], "send", ""),
        ("smr send ", ["smr", "send"], "", ""),
        ("smr send --to 'João S", ["smr", "send", "--to"], "João S", "'"),
        ('smr send --to "João S', ["smr", "send", "--to"], "João S", '"'),
        (r"smr send --to João\ S", ["smr", "send", "--to"], "João S", ""),
        (r"smr send --to João\ ", ["smr", "send", "--to"], "João ", ""),
        ("smr send --to João\\", ["smr", "send", "--to"], "João", ""),
        ("smr read k7d2@9f", ["smr", "read"], "k7d2@9f", ""),
    ],
)
def test_a_line_of_bash_is_taken_apart_as_bash_does(line, words, unfinished, quote):
    assert split(line) == (words, unfinished, quote)


def test_the_rest_of_the_client_is_not_loaded_for_an_answer(unlocked):
    program = (
        "import sys; sys.argv = ['smr', 'read', '7']; from client.cli import main; main();"
        "print([name for name in ('client.api', 'client.context', 'pki.validator', 'PyKCS11', 'pydantic', 'pika')"
        " if name in sys.modules])"
    )
    asked = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "SMR_COMPLETE": "zsh"},
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )
    assert asked.stdout.decode().splitlines() == ["7777\t", "[]"]


# --- at a terminal ----------------------------------------------------------------------------------------------------


class Terminal:
    """A shell at a terminal. `smr` is a program there that shows which arguments it got."""

    def __init__(self, shell: str, folder: Path) -> None:
        programs = folder / "programs"
        programs.mkdir()
        (programs / "smr").write_text(
            f'#!/bin/sh\n[ -z "$SMR_COMPLETE" ] || exec {sys.executable} -m client "$@"\n'
            'printf "got"; for each in "$@"; do printf " <%s>" "$each"; done; printf " end\\n"\n'
        )
        (programs / "smr").chmod(0o755)
        (folder / "script").write_text(script(shell), encoding="utf-8")
        environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "HOME": str(folder),
            "TERM": "dumb",
            "LC_ALL": "C.UTF-8",
        }
        self._output = b""
        self._child, self._master = pty.fork()
        if self._child == 0:
            os.execvpe(INTERACTIVE[shell][0], INTERACTIVE[shell], environment)
        self.type(PREPARE[shell].format(script=folder / "script") + "; printf 'rea%s\\n' dy\n")
        self.read("ready")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def read(self, wanted: str) -> str:
        """What the screen shows up to the first thing that `wanted` (a pattern) finds, which is taken off."""
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(wanted, self._output.decode(errors="replace"))) is None:
            assert time.monotonic() < deadline, self._output
            if select.select([self._master], [], [], 1.0)[0]:
                self._output += os.read(self._master, 4096)
        self._output = b""
        return found[0]

    def close(self) -> None:
        os.close(self._master)
        os.waitpid(self._child, 0)


@pytest.fixture(params=[shell for shell in SHELLS if shell == "bash" or shutil.which(shell)])
def terminal(request: pytest.FixtureRequest, tmp_path: Path, unlocked: SessionStore) -> Iterator[Terminal]:
    opened = Terminal(request.param, tmp_path)
    yield opened
    opened.close()


def test_the_tab_key_completes_commands_letters_and_names_in_quotes_and_without(terminal):
    for typed, got in (
        ("smr stat\t", "got <status> end"),
        ("smr read 77\t", "got <read> <7777> end"),
        ("smr send --to Jo\t", f"got <send> <--to> <{NAME}> end"),
        ('smr send --to "João S\t', f"got <send> <--to> <{NAME}> end"),
    ):
        terminal.type(typed + "\r")
        assert terminal.read("got .* end") == got
