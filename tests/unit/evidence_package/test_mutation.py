"""Every changed byte of a package ends in a failed verdict: no byte of the file is without meaning."""

from __future__ import annotations

import pytest

from evidence_package import container, contents, manifest
from evidence_package.errors import PackageRefused
from evidence_package.verdict import Indication
from evidence_package.verify import verify
from tests.support.packages import EXPORTED

#: Every so many bytes of each file inside are changed under right checksums; a prime, so that all bits take part.
STRIDE = 61
SIGNATURE_STRIDE = 331


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1 << at % 8
    return bytes(changed)


def test_every_byte_of_the_file(world, sealed):
    for at in range(len(sealed)):
        report = verify(flipped(sealed, at), world.trust, EXPORTED)
        assert report.indication is Indication.TOTAL_FAILED, at


def test_every_shorter_file(world, sealed):
    for size in range(0, len(sealed), STRIDE):
        assert verify(sealed[:size], world.trust, EXPORTED).indication is Indication.TOTAL_FAILED


def test_bytes_of_each_file_inside_under_right_checksums(sealed):
    files = container.read(sealed)
    for name, data in files.items():
        if name == manifest.SIGNATURE_NAME:
            continue
        for at in range(0, len(data), min(STRIDE, max(1, len(data) // 3))):
            changed = container.write({**files, name: flipped(data, at)})
            with pytest.raises(PackageRefused):
                contents.open_(changed)


def test_bytes_of_the_exporters_signature_under_right_checksums(world, sealed):
    files = container.read(sealed)
    signature = files[manifest.SIGNATURE_NAME]
    for at in range(0, len(signature), SIGNATURE_STRIDE):
        changed = container.write({**files, manifest.SIGNATURE_NAME: flipped(signature, at)})
        assert verify(changed, world.trust, EXPORTED).indication is Indication.TOTAL_FAILED, at
