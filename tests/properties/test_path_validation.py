"""Altered certificates, lists and answers: path validation always answers, and never with VALID."""

from __future__ import annotations

import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pki.path import Verdict, validate_path
from pki.policy import ValidationPolicy
from pki.revocation_data import RevocationData
from tests.support.small_pki import NOW, SmallPki

PARTS = ("leaf", "ca", "root list", "ca list", "answer")
PKI = SmallPki()
DER = {
    "leaf": PKI.leaf.public_bytes(Encoding.DER),
    "ca": PKI.ca.public_bytes(Encoding.DER),
    "root list": PKI.crl("root"),
    "ca list": PKI.crl("ca"),
    "answer": PKI.answer(),
}
SUBJECT = DER["leaf"].index(PKI.leaf.subject.public_bytes())
UTF8_STRING = b"\x0c"  # its tag (X.680 section 8.4)


def ask(parts, *, by_answer):
    """The verdict on these bytes; None when a certificate among them cannot even be loaded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            leaf, ca = (x509.load_der_x509_certificate(parts[part]) for part in ("leaf", "ca"))
    except (ValueError, x509.InvalidVersion):
        return None
    told = ((parts["root list"],), (parts["answer"],)) if by_answer else ((parts["root list"], parts["ca list"]), ())
    result = validate_path(
        leaf,
        anchors=[PKI.root],
        intermediates=[ca],
        revocation=RevocationData(*told),
        moment=NOW,
        policy=ValidationPolicy(),
    )
    return result.verdict


@pytest.mark.parametrize("by_answer", [False, True])
def test_unaltered_they_are_good(by_answer):
    assert ask(DER, by_answer=by_answer) is Verdict.VALID


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@settings(max_examples=120, deadline=None)
@example("leaf", DER["leaf"].index(UTF8_STRING, SUBJECT), 0)  # a name that OpenSSL reads and `cryptography` does not
@given(st.sampled_from(PARTS), st.integers(min_value=0), st.integers(0, 7))
def test_one_bit_makes_none_of_them_good(part, place, bit):
    altered = bytearray(DER[part])
    altered[place % len(altered)] ^= 1 << bit
    parts = {**DER, part: bytes(altered)}
    assert ask(parts, by_answer=part == "answer") is not Verdict.VALID


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=4), st.lists(st.binary(max_size=200), max_size=4))
def test_rubbish_changes_nothing(lists, answers):
    told = RevocationData((*lists, DER["root list"], DER["ca list"]), tuple(answers))
    kept = {"anchors": [PKI.root], "intermediates": [PKI.ca], "moment": NOW, "policy": ValidationPolicy()}
    assert validate_path(PKI.leaf, revocation=told, **kept).valid
    without = RevocationData(tuple(lists), tuple(answers))
    assert validate_path(PKI.leaf, revocation=without, **kept).verdict is Verdict.COULD_NOT_TELL
