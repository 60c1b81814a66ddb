"""Evidence about revocation in letters and receipts: it travels sealed, within its limits, and is only data."""

from __future__ import annotations

import pytest

from crypto_core import cbor, documents, letter, limits, receipt, schema, sealed
from crypto_core.errors import LimitExceeded, Malformed
from crypto_core.evidence import Evidence
from crypto_core.sealed import ContentSecret
from tests.support import protocol
from tests.support.protocol import JOAO, MARIA, REPOSITORY, make_draft, public_of, ring, sealed_receipt

EVIDENCE = Evidence((b"a list", b"its delta"), (b"an answer",), left_out=1)
FULL = Evidence((bytes(limits.EVIDENCE_BYTES - 5),), (b"12345",), left_out=0)


def sealed_head(evidence):
    return letter.seal(make_draft(JOAO), b"a CMS signature", public_of(JOAO, MARIA), evidence).head


def opened(head, user=JOAO):
    return letter.open_head(sealed.read(sealed.LETTER, head).view(user), REPOSITORY, user, ring(user))


def opened_receipt(data, user=MARIA):
    return receipt.open_receipt(sealed.read(sealed.RECEIPT, data).view(user), REPOSITORY, user, ring(user))


def own_receipt(evidence):
    made = opened_receipt(sealed_receipt())
    return receipt.seal(made.signed.document, b"a CMS signature", REPOSITORY, public_of(JOAO, MARIA), evidence)


@pytest.mark.parametrize("evidence", [None, EVIDENCE, FULL, Evidence((), (), 16)])
def test_sender_and_reader_find_what_was_sent_along(evidence):
    head, answer = sealed_head(evidence), own_receipt(evidence)
    for user in (JOAO, MARIA):
        assert opened(head, user).evidence == evidence
        assert opened_receipt(answer, user).evidence == evidence


def test_nothing_of_it_shows():
    assert b"its delta" not in sealed_head(EVIDENCE)
    assert b"its delta" not in own_receipt(EVIDENCE)


def test_the_largest_letter_and_receipt_with_the_most_evidence_fit():
    signature = bytes(limits.SIGNATURE_BYTES)
    parts = letter.seal(make_draft(JOAO), signature, public_of(JOAO, MARIA), FULL)
    assert opened(parts.head).evidence == FULL
    document = opened_receipt(sealed_receipt()).signed.document
    answer = receipt.seal(document, signature, REPOSITORY, public_of(JOAO, MARIA), FULL)
    assert opened_receipt(answer).evidence == FULL


def test_too_much_is_refused_before_it_is_sealed():
    with pytest.raises(LimitExceeded, match="the evidence has"):
        Evidence((bytes(limits.EVIDENCE_BYTES),), (b"1",), 0)


#: name: what stands where evidence should, the refusal
BAD = {
    "too many bytes": ({"crls": [bytes(30_000)], "ocsp": [bytes(30_000)], "left_out": 0}, LimitExceeded),
    "too many items": ({"crls": [b"x"] * 17, "ocsp": [], "left_out": 0}, LimitExceeded),
    "an empty item": ({"crls": [b""], "ocsp": [], "left_out": 0}, Malformed),
    "a text": ({"crls": ["x"], "ocsp": [], "left_out": 0}, Malformed),
    "a negative count": ({"crls": [], "ocsp": [], "left_out": -1}, Malformed),
    "no count": ({"crls": [], "ocsp": []}, Malformed),
    "something more": ({"crls": [], "ocsp": [], "left_out": 0, "keys": []}, Malformed),
    "no map": ([b"x"], Malformed),
}


@pytest.mark.parametrize("name", BAD)
def test_anything_else_where_evidence_should_be_is_refused(name):
    bad, error = BAD[name]
    content = schema.to_map(receipt.Content(opened_receipt(sealed_receipt()).signed.document, b"a signature", None))
    plaintext = cbor.encode({**content, "evidence": bad})
    data = sealed.seal(
        sealed.RECEIPT,
        REPOSITORY,
        protocol.LETTER,
        JOAO,
        public_of(JOAO, MARIA),
        ContentSecret.generate(),
        plaintext,
        documents.SignedDocument(content["document"], content["signature"]),
    )
    with pytest.raises(error):
        opened_receipt(data)
