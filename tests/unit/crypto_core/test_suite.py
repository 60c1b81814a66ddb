"""The suite: labels and inputs separate, and content keys that do not open say so. Figures: `tests/vectors`."""

from __future__ import annotations

import pytest

from crypto_core import labels, suite
from crypto_core.errors import DecryptionFailed
from crypto_core.suite import ContentKey

INPUTS = [
    ("a",),
    ("b",),
    ("a", b""),
    ("a", b"", b""),
    ("a", b"x"),
    ("a", b"xy"),
    ("a", b"x", b"y"),
    ("a", "x"),
    ("a", 1),
]


@pytest.mark.parametrize(
    "derive",
    [
        suite.labelled_hash,
        lambda *parts: suite.labelled_mac(b"k" * 32, *parts),
        lambda *parts: suite.expand(b"k" * 32, 32, *parts),
        lambda *parts: suite.extract(b"s" * 32, *parts),
        lambda *parts: ContentKey.derive(b"k" * 32, *parts).key,
        lambda *parts: ContentKey.derive(b"k" * 32, *parts).iv,
    ],
    ids=["hash", "mac", "expand", "extract", "key", "iv"],
)
def test_no_two_lists_of_inputs_read_alike(derive):
    assert len({derive(*parts) for parts in INPUTS}) == len(INPUTS)


def test_secret_salt_and_key_matter():
    assert suite.extract(b"s" * 32, "a", b"x") != suite.extract(b"t" * 32, "a", b"x")
    assert suite.expand(b"k" * 32, 32, "a") != suite.expand(b"l" * 32, 32, "a")
    assert suite.labelled_mac(b"k", "a") != suite.labelled_mac(b"l", "a")


def test_equal():
    assert suite.equal(b"same", b"same")
    assert not suite.equal(b"same", b"sane")
    assert not suite.equal(b"same", b"sam")


def test_content_key_refuses():
    key = ContentKey.derive(b"k" * 32, "label")
    sealed = key.encrypt(b"plaintext", b"aad")
    assert key.decrypt(sealed, b"aad") == b"plaintext"
    other = ContentKey.derive(b"k" * 32, "other label")
    for attempt in (
        lambda: key.decrypt(sealed, b"AAD"),
        lambda: key.decrypt(sealed[:-1], b"aad"),
        lambda: key.decrypt(sealed[:15], b"aad"),
        lambda: key.decrypt(b"", b"aad"),
        lambda: other.decrypt(sealed, b"aad"),
        lambda: ContentKey(key.key, other.iv).decrypt(sealed, b"aad"),
    ):
        with pytest.raises(DecryptionFailed):
            attempt()


def test_a_content_key_does_not_show_itself():
    key = ContentKey(b"K" * 32, b"I" * 12)
    assert "K" * 4 not in repr(key)
    assert "I" * 4 not in repr(key)


def test_labels_are_different_and_carry_the_version():
    values = [value for name, value in vars(labels).items() if name.isupper() and name != "VERSION"]
    assert len(values) > 30
    assert len(set(values)) == len(values)
    assert all(value.startswith(f"{labels.VERSION} ") for value in values)
