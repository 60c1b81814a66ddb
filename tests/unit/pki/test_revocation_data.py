"""Revocation data is put together without repeating items."""

from __future__ import annotations

from pki.revocation_data import RevocationData


def test_together_each_item_stands_once_in_order() -> None:
    ours = RevocationData(crls=(b"a", b"b"), ocsp=(b"x",))
    theirs = RevocationData(crls=(b"b", b"c", b"c"), ocsp=(b"x", b"y"))
    assert ours + theirs == RevocationData(crls=(b"a", b"b", b"c"), ocsp=(b"x", b"y"))
