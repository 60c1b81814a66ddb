"""docs/CLI.md and the man pages say what the programs do, and a reader of man pages finds nothing wrong with them."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.support import command_pages
from tests.support.command_pages import DOCS


def test_the_kept_page_is_what_the_programs_say():
    assert (DOCS / "CLI.md").read_text("utf-8") == command_pages.markdown(), "run: make pages"


def test_the_kept_man_pages_are_what_the_programs_say():
    made = command_pages.man_pages()
    assert {path.name for path in (DOCS / "man").iterdir()} == set(made)
    for name, text in made.items():
        assert (DOCS / "man" / name).read_text("utf-8") == text, "run: make pages"


def test_every_command_and_every_option_says_what_it_does():
    for program in command_pages.programs():
        for command in program.walk():
            assert command.help, command.name
            for each in (*command.arguments, *command.options):
                assert each.help, f"{command.name} {each.shown}"


def test_no_page_names_the_folder_of_who_made_it():
    texts = (command_pages.markdown(), *command_pages.man_pages().values())
    assert not any(str(DOCS.home()) in text.replace("~/", "") for text in texts)


@pytest.mark.parametrize("name", ["smr.1", "smr-repository.1", "smr-pki.1"])
def test_a_man_page_is_correct_roff(name):
    page = DOCS / "man" / name
    read = subprocess.run(
        ["groff", "-man", "-Tutf8", "-Kutf8", "-ww", "-P-c", str(page)], capture_output=True, check=True, timeout=60
    )
    assert not read.stderr
    assert "SYNOPSIS" in re.sub(".\b", "", read.stdout.decode())  # bold is a letter over itself
