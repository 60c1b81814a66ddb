"""Ids: sizes, forms, freshness."""

from __future__ import annotations

import base64
import hashlib

import pytest

from crypto_core import ids
from crypto_core.errors import Malformed


def test_new_ids_have_their_sizes_and_are_fresh():
    for make, size in ((ids.new_letter_id, 16), (ids.new_session_id, 16), (ids.new_nonce, 32)):
        made = {make() for _ in range(100)}
        assert len(made) == 100
        assert {len(each) for each in made} == {size}


def test_base32_is_the_lower_case_rfc_4648_form():
    data = bytes(range(20))
    assert ids.base32(data, 32) == base64.b32encode(data).decode().lower()
    assert ids.base32(b"f", 8) == "my"  # RFC 4648 section 10, without padding
    assert ids.base32(b"foobar", 10) == "mzxw6ytboi"


def test_installation_is_derived_from_the_app_key():
    assert ids.installation_of(b"k" * 32) == ids.base32(hashlib.sha256(b"k" * 32).digest(), 26)
    assert len(ids.installation_of(b"k" * 32)) == ids.INSTALLATION_CHARACTERS == 26
    assert ids.installation_of(b"k" * 32) != ids.installation_of(b"l" * 32)


def test_repository_id_form():
    assert ids.repository_id("a" * 31 + "7") == "a" * 31 + "7"


@pytest.mark.parametrize(
    "text", ["", "a" * 31, "a" * 33, "A" * 32, "a" * 31 + "1", "a" * 31 + "8", "a" * 31 + "\n", "á" * 32]
)
def test_other_repository_ids_are_refused(text):
    with pytest.raises(Malformed):
        ids.repository_id(text)
