"""Evidence of delivery: one form, of one repository, and nothing that a card signs is taken for it."""

from __future__ import annotations

import dataclasses

import pytest

from crypto_core import canonical_json, delivery, documents
from crypto_core.delivery import DeliveryEvidence, RecordedEntry
from crypto_core.documents import ReadingReceipt
from crypto_core.errors import BindingMismatch, LimitExceeded, Malformed, ProtocolError
from crypto_core.limits import DELIVERY_ENTRIES
from crypto_core.mailbox import EntryKind
from tests.support.protocol import JOAO, LETTER, MARIA, NOW, OTHER_REPOSITORY, REPOSITORY, digest, make_draft

ENTRY = RecordedEntry(MARIA, 1, digest("entry"), EntryKind.SENT, NOW, MARIA, digest("document"), digest("signature"))
EVIDENCE = DeliveryEvidence(REPOSITORY, MARIA, LETTER, (ENTRY, dataclasses.replace(ENTRY, mailbox=JOAO)), NOW)


def changed(**changes):
    members = canonical_json.decode(delivery.encode(EVIDENCE))
    return canonical_json.encode({**members, **changes})


def test_an_expiry_records_no_document():
    expiry = dataclasses.replace(ENTRY, kind=EntryKind.EXPIRY, document=None, signature=None, slip=digest("slip"))
    made = dataclasses.replace(EVIDENCE, entries=(expiry,))
    assert delivery.decode(delivery.encode(made), REPOSITORY) == made


def test_it_comes_back():
    assert delivery.decode(delivery.encode(EVIDENCE), REPOSITORY) == EVIDENCE


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"type": "letter"}, BindingMismatch),
        ({"version": 2}, BindingMismatch),
        ({"version": True}, BindingMismatch),
        ({"repository": OTHER_REPOSITORY}, BindingMismatch),
        ({"entries": []}, Malformed),
        ({"entries": [{}]}, Malformed),
        ({"more": 1}, Malformed),
        ({"time": 0}, Malformed),
    ],
    ids=repr,
)
def test_another_document_is_refused(changes, error):
    with pytest.raises(error):
        delivery.decode(changed(**changes), REPOSITORY)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"1", b" " + delivery.encode(EVIDENCE)])
def test_other_bytes_are_refused(data):
    with pytest.raises(ProtocolError):
        delivery.decode(data, REPOSITORY)


def test_what_a_card_signs_is_none_and_it_is_no_document_of_a_card():
    with pytest.raises(BindingMismatch):
        delivery.decode(make_draft().document, REPOSITORY)
    for kind in (documents.Letter, ReadingReceipt):
        with pytest.raises(BindingMismatch):
            documents.decode(kind, delivery.encode(EVIDENCE), REPOSITORY)


def test_the_number_of_entries_is_limited():
    most = dataclasses.replace(EVIDENCE, entries=(ENTRY,) * DELIVERY_ENTRIES)
    assert len(delivery.decode(delivery.encode(most), REPOSITORY).entries) == DELIVERY_ENTRIES
    with pytest.raises(LimitExceeded):
        delivery.encode(dataclasses.replace(EVIDENCE, entries=(ENTRY,) * (DELIVERY_ENTRIES + 1)))
