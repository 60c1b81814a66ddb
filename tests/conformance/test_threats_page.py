"""docs/THREATS.md names files and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    line
    for line in (ROOT / "docs" / "THREATS.md").read_text("utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| threat")
]


def test_there_are_rows():
    assert len(ROWS) > 40


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:60])
def test_every_row_names_a_control_in_a_file_and_a_test(row):
    _, threat, control, where, tests, _ = row.split("|")
    assert threat.strip()
    assert control.strip()
    files = re.findall(r"`([^`]+)`", where)
    assert files
    for name in files:
        assert (ROOT / name).is_file(), name
    named = re.findall(r"`([^`:]+)::(\w+)`", tests)
    assert named
    for name, test in named:
        assert re.search(rf"^ *def {test}\(", (ROOT / name).read_text("utf-8"), re.MULTILINE), f"{name}::{test}"
