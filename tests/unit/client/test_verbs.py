"""The verbs of the library: each is there by its name, and none is imported before it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from client import commands

FILES = {path.stem for path in Path(commands.__file__).parent.glob("*.py")} - {"__init__"}


def test_every_file_is_a_verb_and_every_verb_a_file():
    assert set(commands.__all__) == FILES
    assert len(commands.__all__) == len(FILES)
    for name in FILES:
        assert getattr(commands, name).__name__ == f"client.commands.{name}"


def test_what_is_no_verb_is_not_there():
    with pytest.raises(AttributeError, match="'shout'"):
        _ = commands.shout


@pytest.mark.parametrize("late", ["client.commands.export", "client.commands.send", "evidence_package.verify"])
def test_the_library_imports_no_verb_by_itself(late):
    code = f"import sys, client.api; sys.exit({late!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
