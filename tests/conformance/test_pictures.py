"""The pictures in docs/pictures/ are what `smr ui` shows."""

from __future__ import annotations

from tests.support import pictures


def test_the_kept_pictures_are_what_the_program_shows():
    made = pictures.pictures()
    assert {path.name for path in pictures.FOLDER.iterdir()} == set(made)
    for name, picture in made.items():
        assert (pictures.FOLDER / name).read_text("utf-8") == picture, f"{name} is of another program: make pages"


def test_no_picture_asks_another_machine_for_anything():
    for path in pictures.FOLDER.iterdir():
        assert path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "").count("://") == 0
