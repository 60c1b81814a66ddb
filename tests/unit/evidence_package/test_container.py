"""The ZIP file: what export writes is read, and any other ZIP of the same files is refused."""

from __future__ import annotations

import io
import subprocess
import zipfile

import pytest

from evidence_package import container
from evidence_package.errors import PackageRefused

FILES = {"mimetype": container.MEDIA_TYPE.encode(), "a.txt": b"first", "b/c.bin": b"", "b/d.txt": bytes(range(256))}
GOOD = container.write(FILES)


def test_it_comes_back_in_its_order():
    assert list(container.read(GOOD).items()) == list(FILES.items())


def test_the_media_type_stands_where_asic_wants_it():
    assert GOOD[30:38] == b"mimetype"
    assert GOOD[38 : 38 + len(container.MEDIA_TYPE)] == container.MEDIA_TYPE.encode()


def test_two_writings_are_equal():
    assert container.write(dict(FILES)) == GOOD


def test_other_programs_read_it(tmp_path):
    with zipfile.ZipFile(io.BytesIO(GOOD)) as found:
        assert found.testzip() is None
        assert {name: found.read(name) for name in found.namelist()} == FILES
    (tmp_path / "package.asice").write_bytes(GOOD)
    subprocess.run(["unzip", "-q", "package.asice"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "b" / "d.txt").read_bytes() == FILES["b/d.txt"]


def zipped(files=None, comment=b"", **info):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = comment
        for name, data in files or FILES.items():
            entry = zipfile.ZipInfo(name)
            for key, value in info.items():
                setattr(entry, key, value)
            archive.writestr(entry, data)
    return made.getvalue()


def streamed():
    """Written to a pipe: sizes follow in data descriptors."""

    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *_):
            raise OSError

        def tell(self):
            raise OSError

    made = Pipe()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    return made.getvalue()


def zip64():
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive, archive.open("a.txt", "w", force_zip64=True) as file:
        file.write(b"first")
    return made.getvalue()


AT = GOOD.index(b"PK\x01\x02")
HOSTILE = {
    "nothing": b"",
    "no zip": b"x" * 100,
    "the end alone": GOOD[-22:],
    "compressed": zipped(compress_type=zipfile.ZIP_DEFLATED),
    "a bomb": zipped([("a.txt", bytes(10_000_000))], compress_type=zipfile.ZIP_DEFLATED),
    "with times": zipped(date_time=(2026, 11, 22, 14, 0, 0)),
    "with a comment": zipped(comment=b"more"),
    "with extra fields": zipped(extra=b"\x01\x00\x00\x00"),
    "with a link": zipped(external_attr=0o120777 << 16, create_system=3),
    "streamed": streamed(),
    "zip64": zip64(),
    "bytes before": b"MZ" + GOOD,
    "bytes after": GOOD + b"\0",
    "another zip after": GOOD + GOOD,
    "another zip before": zipped() + GOOD,
    "bytes between files and list": GOOD[:AT] + b"hidden" + GOOD[AT:],
    "cut off in a file": GOOD[:60],
    "cut off in a header": GOOD[:20],
    "cut off at the end": GOOD[:-1],
    "no list": GOOD[:AT],
    "a name twice": GOOD.replace(b"b/c.bin", b"b/d.txt"),
    "another name in the list": GOOD[:AT] + GOOD[AT:].replace(b"a.txt", b"b.txt"),
    "another checksum in the list": GOOD[: AT + 16] + bytes(4) + GOOD[AT + 20 :],
    "another checksum in the file": GOOD[:14] + bytes(4) + GOOD[18:],
    "a size that points outside": GOOD[:18] + b"\xff\xff\xff\x7f" + GOOD[22:],
    "encrypted": GOOD[:6] + b"\x01\x00" + GOOD[8:],
}
NAMES = ["../x", "/x", "a/../x", "a//x", "a\\x", ".x", "a/.x", "x/", "a/b/c", "ç", "a b", "", "a\0b", "x" * 121]


@pytest.mark.parametrize("name", HOSTILE)
def test_another_form_is_refused(name):
    with pytest.raises(PackageRefused):
        container.read(HOSTILE[name])


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_names_that_lead_elsewhere_are_neither_written_nor_read(name):
    with pytest.raises(PackageRefused):
        container.write({name: b""})
    with pytest.raises(PackageRefused):
        container.read(zipped([(name or "?", b"")]))


def test_limits(monkeypatch):
    monkeypatch.setattr(container, "FILES", 4)
    assert container.read(GOOD)
    monkeypatch.setattr(container, "FILES", 3)
    with pytest.raises(PackageRefused, match=r"limit|more than"):
        container.write(FILES)
    with pytest.raises(PackageRefused, match="more than"):
        container.read(GOOD)
    monkeypatch.setattr(container, "FILE_BYTES", len(GOOD) - 1)
    with pytest.raises(PackageRefused, match="limit"):
        container.read(GOOD)
    monkeypatch.setattr(container, "PACKAGE_BYTES", 10)
    with pytest.raises(PackageRefused, match="bytes"):
        container.write({"a": bytes(11)})


def test_every_changed_byte_is_refused_or_belongs_to_a_file():
    for at in range(len(GOOD)):
        changed = bytearray(GOOD)
        changed[at] ^= 1 << at % 8
        with pytest.raises(PackageRefused):
            container.read(bytes(changed))
