"""The page lists every setting with unit and default, and is the one that is kept."""

from __future__ import annotations

from pathlib import Path

from repository_worker.settings import PREFIX, Settings
from repository_worker.settings_page import page, unit_of

KEPT = Path(__file__).parents[3] / "docs" / "SETTINGS.md"


def test_the_kept_page_is_what_the_program_says():
    assert KEPT.read_text(encoding="utf-8") == page(), "run: smr-repository settings > docs/SETTINGS.md"


def test_every_setting_says_what_it_means_and_every_number_its_unit():
    for name, field in Settings.model_fields.items():
        assert f"`{PREFIX}{name.upper()}`" in page()
        assert field.description, name
        assert field.annotation not in (int, float) or unit_of(name, field), f"{name} has no unit"
