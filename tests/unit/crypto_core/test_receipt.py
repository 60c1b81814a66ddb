"""Reading receipts: bound to one letter, its content, its reader and its sender."""

from __future__ import annotations

import dataclasses

import pytest

from crypto_core import cbor, documents, receipt, schema, sealed
from crypto_core.errors import BindingMismatch, DecryptionFailed, Malformed
from crypto_core.ids import LetterId
from crypto_core.sealed import ContentSecret
from tests.support import protocol
from tests.support.protocol import (
    BRUNO,
    JOAO,
    MARIA,
    NOW,
    OTHER_REPOSITORY,
    POSITION,
    REPOSITORY,
    digest,
    make_receipt,
    opened_head,
    party,
    public_of,
    ring,
    sealed_receipt,
)

OTHER_LETTER = LetterId(b"letter-id-000002")


def open_receipt(data, user=MARIA, repository=REPOSITORY):
    view = sealed.read(sealed.RECEIPT, data).view(user)
    return receipt.open_receipt(view, repository, user, ring(user))


def receipt_of(**changes):
    """João's receipt for the letter, with changes, as an opened one: as if his card had signed it so."""
    opened = open_receipt(sealed_receipt())
    return dataclasses.replace(opened, receipt=dataclasses.replace(opened.receipt, **changes))


def seal_any(document, author=JOAO, letter_id=protocol.LETTER, readers=(JOAO, MARIA), named=None):
    """Any document correctly sealed as a receipt: what a dishonest reader can make."""
    plaintext = cbor.encode(schema.to_map(protocol.signed(document)))
    return sealed.seal(
        sealed.RECEIPT,
        REPOSITORY,
        letter_id,
        author,
        public_of(*readers),
        ContentSecret.generate(),
        plaintext,
        named or protocol.signed(document),
    )


def test_sender_and_reader_open_it():
    for user in (MARIA, JOAO):
        opened = open_receipt(sealed_receipt(), user)
        assert opened.receipt == documents.ReadingReceipt(
            repository=REPOSITORY,
            letter=protocol.LETTER,
            document=opened_head(JOAO).signed.digest,
            body=opened_head(JOAO).letter.body.digest,
            reader=party(JOAO),
            sender=MARIA,
            position=POSITION,
            time=NOW,
        )
        receipt.require_answers(opened, opened_head(MARIA))


def test_nobody_else_opens_it():
    with pytest.raises(BindingMismatch):
        sealed.read(sealed.RECEIPT, sealed_receipt()).view(BRUNO)
    view = sealed.read(sealed.RECEIPT, sealed_receipt()).view(MARIA)
    with pytest.raises(BindingMismatch):
        receipt.open_receipt(view, REPOSITORY, BRUNO, ring(BRUNO))
    with pytest.raises(DecryptionFailed):
        receipt.open_receipt(view, REPOSITORY, MARIA, ring(BRUNO))


def test_nothing_of_it_shows():
    for part in (opened_head(JOAO).signed.digest, POSITION.entry, b"a CMS signature"):
        assert part not in sealed_receipt()


def test_at_another_repository_it_does_not_open():
    with pytest.raises(DecryptionFailed):
        open_receipt(sealed_receipt(), repository=OTHER_REPOSITORY)


@pytest.mark.parametrize(
    "changes",
    [
        {"letter": OTHER_LETTER},
        {"document": digest("other document")},
        {"body": digest("other body")},
        {"sender": BRUNO},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_receipt_for_something_else_does_not_answer(changes):
    with pytest.raises(BindingMismatch, match="another letter"):
        receipt.require_answers(receipt_of(**changes), opened_head(MARIA))


def test_a_receipt_by_somebody_else_does_not_answer():
    with pytest.raises(BindingMismatch, match="not a recipient"):
        receipt.require_answers(receipt_of(reader=party(MARIA)), opened_head(MARIA))


def test_a_receipt_for_an_earlier_letter_with_the_same_id_does_not_answer():
    other = opened_head(MARIA, protocol.make_letter(JOAO, BRUNO).head)
    with pytest.raises(BindingMismatch):
        receipt.require_answers(open_receipt(sealed_receipt()), other)


def test_both_recipients_can_answer():
    opened = open_receipt(make_receipt(BRUNO))
    receipt.require_answers(opened, opened_head(MARIA))
    assert opened.receipt.reader == party(BRUNO)


def document(**changes):
    made = open_receipt(sealed_receipt()).receipt
    return documents.encode(dataclasses.replace(made, **changes))


def test_the_hand_made_receipt_opens():
    assert open_receipt(seal_any(document())).receipt.reader == party(JOAO)


def test_a_receipt_moved_to_another_letter_is_refused():
    with pytest.raises(BindingMismatch, match="another letter or reader"):
        open_receipt(seal_any(document(), letter_id=OTHER_LETTER))


def test_a_receipt_of_another_reader_is_refused():
    # Bruno hands in the receipt that João's card signed.
    with pytest.raises(BindingMismatch, match="another letter or reader"):
        open_receipt(seal_any(document(), author=BRUNO, readers=(BRUNO, MARIA)))


def test_a_document_for_another_repository_is_refused():
    with pytest.raises(BindingMismatch):
        open_receipt(seal_any(document(repository=OTHER_REPOSITORY)))


def test_another_document_of_the_card_is_no_receipt():
    for other in (protocol.make_draft().document, protocol.negotiation().answered.login_document(JOAO, NOW)):
        with pytest.raises(BindingMismatch):
            open_receipt(seal_any(other))


@pytest.mark.parametrize("changes", [{"document": b"{}"}, {"signature": b"another signature"}])
def test_a_header_that_names_another_document_or_signature_is_refused(changes):
    named = dataclasses.replace(protocol.signed(document()), **changes)
    with pytest.raises(BindingMismatch, match="another one than the sealed object names"):
        open_receipt(seal_any(document(), named=named))


@pytest.mark.parametrize("plaintext", [b"", b"\xa0", b"\x80", b"\xff", cbor.encode({"document": b"{}"})])
def test_plaintexts_that_are_none_are_refused(plaintext):
    made = sealed.seal(
        sealed.RECEIPT,
        REPOSITORY,
        protocol.LETTER,
        JOAO,
        public_of(JOAO, MARIA),
        ContentSecret.generate(),
        plaintext,
        protocol.signed(b"{}"),
    )
    with pytest.raises(Malformed):
        open_receipt(made)


@pytest.mark.parametrize("readers", [(JOAO,), (MARIA,), (JOAO, BRUNO), (JOAO, MARIA, BRUNO)])
def test_it_is_sealed_for_exactly_sender_and_reader(readers):
    made = receipt.draft(opened_head(JOAO), party(JOAO), POSITION, NOW)
    with pytest.raises(BindingMismatch):
        receipt.seal(made, b"a CMS signature", REPOSITORY, public_of(*readers))


def test_only_a_receipt_of_this_repository_is_sealed():
    for wrong in (protocol.make_draft().document, document(repository=OTHER_REPOSITORY)):
        with pytest.raises(BindingMismatch):
            receipt.seal(wrong, b"a CMS signature", REPOSITORY, public_of(JOAO, MARIA))
