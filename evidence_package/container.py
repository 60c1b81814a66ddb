"""The ZIP file (APPNOTE 6.3, in the subset of ETSI EN 319 162-1 annex A): files stored as they are, in one form.

Reading walks the local headers from the first byte on, then writes the same files again: any difference to what came is
a refusal. So there is no compression and no ratio, no data descriptor, no zip64, no comment, no extra field, no gap, no
prepended or appended byte, no second name, no link, and no central header that says something else than the local one.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import Final

from evidence_package.errors import PackageRefused

MEDIA_TYPE: Final = "application/vnd.etsi.asic-e+zip"
PACKAGE_BYTES: Final = 32 * 1024 * 1024  #: a whole container
FILES: Final = 1024  #: in one container
NAME_BYTES: Final = 120
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?\Z", re.ASCII)

_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
FILE_BYTES: Final = PACKAGE_BYTES + FILES * (_CENTRAL.size + NAME_BYTES) + _END.size  #: with the list at its end
_VERSION: Final = 20  #: 2.0, which knows folders
_TIME, _DATE = 0, 0x21  #: midnight of 1980-01-01, the first day of the format: no clock is told


def write(files: Mapping[str, bytes]) -> bytes:
    """A container of these files, in their order. Raises PackageRefused for what cannot be read again."""
    if len(files) > FILES:
        raise PackageRefused(f"it would hold {len(files)} files; the limit is {FILES}")
    for name in files:
        _require_name(name)
    locals_, central, at = [], [], 0
    for name, data in files.items():
        named, checks = name.encode(), (zlib.crc32(data), len(data), len(data))
        local = _LOCAL.pack(b"PK\x03\x04", _VERSION, 0, 0, _TIME, _DATE, *checks, len(named), 0) + named
        central.append(
            _CENTRAL.pack(b"PK\x01\x02", _VERSION, _VERSION, 0, 0, _TIME, _DATE, *checks, len(named), 0, 0, 0, 0, 0, at)
            + named
        )
        locals_ += [local, data]
        at += len(local) + len(data)
        if at > PACKAGE_BYTES:
            raise PackageRefused(f"it would have more than {PACKAGE_BYTES} bytes")
    size = sum(map(len, central))
    end = _END.pack(b"PK\x05\x06", 0, 0, len(files), len(files), size, at, 0)
    return b"".join([*locals_, *central, end])


def read(data: bytes) -> dict[str, bytes]:
    """The files of a container in their order. Raises PackageRefused unless `write` would give exactly these bytes."""
    if len(data) > FILE_BYTES:
        raise PackageRefused(f"it has {len(data)} bytes, over the limit")
    files: dict[str, bytes] = {}
    at = 0
    while data[at : at + 4] == b"PK\x03\x04":
        name, content, at = _read_one(data, at)
        if name in files:
            raise PackageRefused(f"two files in it have the name {name}")
        if len(files) == FILES:
            raise PackageRefused(f"it holds more than {FILES} files")
        files[name] = content
    if write(files) != data:
        raise PackageRefused("it is not the one form of ZIP that is written here: something was added, or changed")
    return files


def _read_one(data: bytes, at: int) -> tuple[str, bytes, int]:
    """Name and content of the local file at this place, and where it ends. The rest is compared by `read`."""
    start = at + _LOCAL.size
    if start > len(data):
        raise PackageRefused("it is cut off")
    *_, size, _, named, extra = _LOCAL.unpack_from(data, at)
    if extra or named > NAME_BYTES:
        raise PackageRefused("a file in it has an extra field, or a name over the limit")
    begin = start + named
    end = begin + size
    if end > len(data):
        raise PackageRefused("it is cut off")
    name = data[start:begin].decode("latin-1")
    _require_name(name)
    return name, data[begin:end], end


def _require_name(name: str) -> None:
    if len(name) > NAME_BYTES or not _NAME.match(name):
        raise PackageRefused(f"a file in it has the name {name!r:.80}, which no package uses")


def names(files: Iterable[str]) -> str:
    """Some names for a message."""
    return ", ".join(sorted(files)[:3])
