"""Attachments of letters: what header, document and head say of them belongs together, or the letter does not open."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crypto_core import cbor, cose, limits, sealed
from crypto_core.errors import BindingMismatch, LimitExceeded, Malformed
from crypto_core.ids import AttachmentId
from tests.support.protocol import JOAO, MARIA, digest, letter_with, make_attachment, opened_head, sealed_letter

CHUNK = 64
DATA = b"conteudo secreto" * 10


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(limits, "CHUNK_BYTES", CHUNK)


@pytest.fixture
def made(small_chunks):
    return make_attachment(DATA, "relatorio-secreto.pdf")


@pytest.mark.parametrize("reader", [JOAO, MARIA])
def test_all_readers_get_what_was_attached(made, reader):
    attachment, chunks = made
    other, _ = make_attachment(b"", "vazio.txt")
    head = opened_head(reader, letter_with(attachment, other).head)
    assert head.attachments == (attachment, other)
    stream = head.attachments[0].stream(head.letter.id)
    assert b"".join(map(stream.open, chunks)) == DATA
    head.attachments[0].require(stream)


def test_neither_name_nor_content_shows(made):
    attachment, chunks = made
    letter = letter_with(attachment)
    secret = (attachment.secrets.secret, attachment.secrets.salt, b"relatorio-secreto", b"conteudo secreto")
    for data in (letter.head, letter.body, *chunks):
        assert not any(each in data for each in secret)
    assert b"relatorio-secreto" not in opened_head(JOAO, letter.head).signed.document
    assert attachment.secrets.secret.hex() not in repr(attachment)


def test_a_letter_without_attachments_does_not_name_any():
    stored = sealed.read(sealed.LETTER, sealed_letter().head)
    assert stored.routing.attachments == sealed.listed_in(stored.protected) == ()
    assert cose.ATTACHMENTS not in cbor.decode(stored.protected)


def test_the_repository_sees_the_list_alone(made):
    stored = sealed.read(sealed.LETTER, letter_with(made[0]).head)
    assert stored.routing.attachments == sealed.listed_in(stored.protected) == (made[0].listed,)


def test_a_letter_that_lists_another_size_than_the_signed_one_does_not_open(made):
    other = replace(made[0].listed, size=made[0].listed.size + 1)
    with pytest.raises(BindingMismatch, match="another size"):
        opened_head(JOAO, letter_with(replace(made[0], listed=other)).head)


def test_another_ciphertext_than_the_listed_one_is_not_complete(made):
    attachment, chunks = made
    listed = replace(attachment.listed, hash=digest("other"))
    (found,) = opened_head(JOAO, letter_with(replace(attachment, listed=listed)).head).attachments
    stream = found.stream(opened_head(JOAO, letter_with(attachment).head).letter.id)
    for chunk in chunks:
        stream.open(chunk)
    with pytest.raises(BindingMismatch, match="the letter lists"):
        found.require(stream)


ID, HASH = bytes(16), bytes(32)


@pytest.mark.parametrize(
    "value",
    [
        [],
        b"",
        {},
        [[ID, 16]],
        [[ID, 16, HASH, 0]],
        [[ID[1:], 16, HASH]],
        [[ID, 16, HASH[1:]]],
        [[ID, True, HASH]],
        [[ID, 15, HASH]],
        [[ID, 2**40, HASH]],
        [[ID, 16, HASH], [ID, 16, HASH]],
        [[number.to_bytes(16, "big"), 16, HASH] for number in range(limits.ATTACHMENTS + 1)],
    ],
    ids=repr,
)
def test_other_lists_are_refused(value):
    protected = cbor.decode(sealed.read(sealed.LETTER, sealed_letter().head).protected)
    view = sealed.read(sealed.LETTER, sealed_letter().head).view(JOAO)
    changed = replace(view, protected=cbor.encode({**protected, cose.ATTACHMENTS: value}))
    with pytest.raises(Malformed):
        changed.routing(sealed.LETTER)


def test_the_full_list_fits_into_its_header():
    ids = [AttachmentId(number.to_bytes(16, "big")) for number in range(limits.ATTACHMENTS)]
    attachments = [make_attachment(b"x", f"{number}.txt")[0] for number in range(limits.ATTACHMENTS)]
    many = [replace(each, listed=replace(each.listed, id=id_)) for each, id_ in zip(attachments, ids, strict=True)]
    assert len(opened_head(JOAO, letter_with(*many).head).attachments) == limits.ATTACHMENTS
    with pytest.raises(LimitExceeded):
        letter_with(*many, make_attachment(b"x", "one more.txt")[0])


def test_only_letters_have_attachments():
    protected = cbor.decode(sealed.read(sealed.LETTER, sealed_letter().head).protected)
    receipt = {name: value for name, value in protected.items() if name != cose.BODY_HASH}
    headers = {**receipt, cose.LABEL: sealed.RECEIPT.label, cose.ATTACHMENTS: [[ID, 16, HASH]]}
    view = replace(sealed.read(sealed.LETTER, sealed_letter().head).view(JOAO), protected=cbor.encode(headers))
    with pytest.raises(Malformed):
        view.routing(sealed.RECEIPT)
