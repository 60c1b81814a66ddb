"""What others are called, and what they write, is shown so that it passes for nothing else."""

from __future__ import annotations

import unicodedata

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from pki.display import MARKS_MAX, NAME_CHARACTERS_SHOWN, safe_text, shown_name
from pki.identity import display_name

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
INVISIBLE = "\u00ad\u034f\u115f\u1160\u17b4\u180e\u200b\u2060\u2064\u2800\u3164\ufeff\uffa0\U000e0041\U000e0100"
HIDDEN = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    "name",
    ["Maria Conceição Reis", "João Sá", "Bruno Antunes", "D'Ávila-Gonçalves Jr.", "EC 0007", "2ª Classe"],
)
def test_a_name_is_shown_as_it_is_written(name):
    assert shown_name(name) == name
    assert shown_name(unicodedata.normalize("NFD", name)) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Аna Sá", "Аna Sá (Cyrillic, Latin)"),  # the first letter is Cyrillic
        ("Аса", "Аса (Cyrillic)"),  # all of it is, and looks like Latin
        ("Αna", "Αna (Greek, Latin)"),
        ("Ｍaria", "Ｍaria (Fullwidth, Latin)"),
        ("𝐌aria", "𝐌aria (Latin, Mathematical)"),
        ("山田 太郎", "山田 太郎 (Cjk)"),
        ("Maria\u202eseiR", "Maria\\u202eseiR"),
        ("Ma\u200bria", "Ma\\u200bria"),
        ("Ma\u200dria", "Ma\\u200dria"),
        ("Maria\n  Reis\t", "Maria Reis"),
        ("Maria\u00a0Reis", "Maria Reis"),
        ("Maria\x1b[2J", "Maria\\x1b[2J"),
        ("Maria\u3164", "Maria\\u3164 (Hangul, Latin)"),
        ("", ""),
    ],
)
def test_what_could_pass_for_another_name_is_told(name, shown):
    assert shown_name(name) == shown


def test_a_tower_of_marks_is_kept_low():
    assert shown_name("M" + "\u0321" * 50 + "aria") == "M" + "\u0321" * MARKS_MAX + "aria"


def test_a_long_name_is_cut():
    assert shown_name("M" * 1000) == "M" * (NAME_CHARACTERS_SHOWN - 3) + "..."


@pytest.mark.parametrize("character", [*BIDI, *INVISIBLE])
def test_nothing_hides(character):
    for show in (safe_text, shown_name):
        assert character not in show(f"Mar{character}ia")
        assert "\\" in show(f"Mar{character}ia")


TEXTS = st.text(st.one_of(st.characters(codec=None), st.sampled_from([*BIDI, *INVISIBLE, "\n", "\t", "\x1b", "\x9b"])))


@given(TEXTS)
def test_a_shown_name_never_holds_what_controls_or_hides(name):
    shown = shown_name(name)
    assert not {unicodedata.category(each) for each in shown} & HIDDEN
    assert not set(shown) & {*BIDI, *INVISIBLE, "\u200c", "\u200d"}
    assert "\n" not in shown


@given(TEXTS)
def test_a_shown_text_never_holds_what_controls_or_turns(text):
    shown = safe_text(text, multiline=True)
    assert not {unicodedata.category(each) for each in shown if each not in "\n\t\u200c\u200d"} & HIDDEN
    assert not set(shown) & {*BIDI, *INVISIBLE}
    assert not {"\n", "\t"} & set(safe_text(text))


def test_the_name_of_an_authority_in_a_certificate_is_shown_the_same_way():
    made = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Root\u202e")])
    assert display_name(made) == "Root\\u202e"


@pytest.mark.parametrize(
    "text",
    ["\x1b[2J", "a\rb", "\x07", "\x9b31m", "\u202egnp.exe", "\u2066x", "\u200b", "\u2028", "\x7f", "\ue000", "\ud800"],
)
def test_what_could_steer_a_terminal_is_shown_as_an_escape(text):
    shown = safe_text(text, multiline=True)
    assert shown.isprintable()
    assert "\\" in shown


def test_ordinary_text_stays_as_it_is():
    text = "Olá, Conceição!\n\tSegue a acta — 日本語 🙂"
    assert safe_text(text, multiline=True) == text
    assert safe_text("duas\nlinhas") == "duas\\x0alinhas"


def test_a_name_that_cannot_be_read_is_told_as_such():
    class Unreadable(x509.Name):
        def get_attributes_for_oid(self, oid):
            raise ValueError("not a string")

    assert display_name(Unreadable([])) == "(a name that cannot be read)"
