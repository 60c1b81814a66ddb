"""The test CA's book holds every change, whoever makes it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from pki.errors import TestCaError
from pki.test_ca import Holder, TestCa


@pytest.fixture
def folder(tmp_path):
    TestCa.create(tmp_path / "ca", "http://127.0.0.1:9", "passphrase")
    return tmp_path / "ca"


def issue(ca: TestCa, name: str) -> x509.Certificate:
    keys = [ec.generate_private_key(ec.SECP256R1()).public_key() for _ in range(2)]
    return ca.issue_card_certificates(Holder.named(name), *keys).authentication


def test_several_who_issue_at_a_time_lose_no_line(folder):
    """Each opens the CA on its own, as processes of `smr-pki` do."""
    offices = [TestCa.open(folder, "passphrase") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda office: issue(office, "Rui Almeida"), offices))
    book = {line.serial for line in TestCa.open(folder, "passphrase").issued}
    assert {certificate.serial_number for certificate in made} <= book
    assert len(book) == 8


def test_what_another_has_issued_can_be_revoked(folder):
    first, second = (TestCa.open(folder, "passphrase") for _ in range(2))
    certificate = issue(first, "Rui Almeida")
    second.revoke(certificate.serial_number)
    crl = x509.load_der_x509_crl((folder / "crls" / "authentication.crl").read_bytes())
    assert crl.get_revoked_certificate_by_serial_number(certificate.serial_number)


def test_a_certificate_of_somebody_else_is_not_revoked(folder):
    with pytest.raises(TestCaError, match="issued no certificate"):
        TestCa.open(folder, "passphrase").revoke(12345)


def test_a_wrong_passphrase_opens_nothing(folder):
    with pytest.raises(TestCaError, match="could not be opened"):
        TestCa.open(folder, "another")
