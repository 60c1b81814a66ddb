"""Names that others chose: whatever they are, one file in one folder comes of it."""

from __future__ import annotations

import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from client.file_names import NAME_BYTES, SUFFIX_BYTES, harmless, numbered

#: What separates, hides, turns, means a device or runs away, among ordinary characters.
NASTY = st.lists(
    st.one_of(
        st.sampled_from(
            '/\\:.*?"<>|~-\x00\n\r\t\x1b\x7f \u00a0\u200b\u200e\u202e\u2028\u2066\u2044\u2215\uff0f\ufeff¹'
        ),
        st.sampled_from(["CON", "nul", "COM1", "..", "../", "ata", ".pdf", "é", "e\u0301", "\U0001f600", "x" * 200]),
        st.characters(),
    ),
    max_size=40,
).map("".join)


@settings(max_examples=500, deadline=None)
@given(NASTY)
@example("")
@example("..")
@example("-.~-.a")
@example("../../etc/passwd")
@example("/etc/passwd")
@example("C:\\Windows\\system32\\x.dll")
@example("\\\\server\\share\\x")
@example("x" * 300 + ".pdf")
@example("." * 300)
@example("x." + "y" * 300)
@example("\u202e" * 10)
@example("com¹.txt")
def test_nothing_leads_out_of_the_folder(name):
    made = harmless(name)
    for each in (made, numbered(made, 9999)):
        assert each not in ("", ".", "..")
        assert not each.startswith((".", "-", "~", " "))
        assert not set('/\\:*?"<>|\x00') & set(each)
        assert all(unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for c in each)
        assert len(each.encode()) <= 255 - len(" (9999)")
        assert PurePosixPath(each).name == each
        assert PureWindowsPath(each).name == each
        assert not PureWindowsPath(each).drive
        assert (Path("/a/folder") / each).resolve().parent == Path("/a/folder").resolve()
        assert not each.endswith((".", " "))
    assert len(made.encode()) <= NAME_BYTES
    stem = unicodedata.normalize("NFKC", made).split(".")[0].strip().upper()
    assert stem not in ("CON", "PRN", "AUX", "NUL", "COM1", "COM9", "LPT1", "CONIN$")


@settings(max_examples=200, deadline=None)
@given(NASTY)
@example("e\u200d\u0301")
@example("CON." + "x" * 200)
@example("CON" + " " * 250 + "x.txt")
def test_a_harmless_name_stays_as_it_is(name):
    assert harmless(harmless(name)) == harmless(name)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("Ata da reunião de 22 de novembro.pdf", "Ata da reunião de 22 de novembro.pdf"),
        ("relatório.tar.gz", "relatório.tar.gz"),
        ("../../etc/passwd", "_.._etc_passwd"),
        (".bashrc", "bashrc"),
        ("-rf", "rf"),
        ("aux", "_aux"),
        ("NUL.txt", "_NUL.txt"),
        ("com¹", "_com¹"),
        ("factura\u202efdp.exe", "facturafdp.exe"),
        ("ata\x00.pdf", "ata.pdf"),
        ("a:b", "a_b"),
        ("e\u0301.txt", "é.txt"),
        ("...", "attachment"),
        ("", "attachment"),
    ],
)
def test_examples(name, made):
    assert harmless(name) == made


def test_a_long_name_keeps_its_suffix():
    made = harmless("ã" * 300 + ".pdf")
    assert made.endswith("ã.pdf")
    assert len(made.encode()) <= NAME_BYTES
    assert harmless("x" * 300 + "." + "y" * SUFFIX_BYTES).count(".") <= 1


def test_numbers_stand_before_the_suffix():
    assert numbered("ata.pdf", 2) == "ata (2).pdf"
    assert numbered("ata", 3) == "ata (3)"
