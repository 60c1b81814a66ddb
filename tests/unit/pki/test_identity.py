"""Ids, names and civil numbers out of certificates."""

from __future__ import annotations

import hashlib
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from pki import identity
from pki.errors import CertificateError
from pki.test_ca import Holder, TestCa


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return TestCa.create(tmp_path_factory.mktemp("ca") / "ca", "http://127.0.0.1:1", "only for tests")


@pytest.fixture(scope="module")
def issued(ca):
    return card_certificates(ca, "Maria Conceição Reis", "BI123456789")


def card_certificates(ca, name, number):
    keys = [ec.generate_private_key(ec.SECP256R1()).public_key() for _ in range(2)]
    return ca.issue_card_certificates(Holder.named(name, number), *keys)


def with_subject(ca, attributes):
    """A certificate with any subject at all, signed by the test CA's authentication authority."""
    issuer, key = ca.authority("authentication")
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(77)
        .not_valid_before(issuer.not_valid_before_utc)
        .not_valid_after(issuer.not_valid_after_utc)
        .sign(key, hashes.SHA256())
    )


def test_user_id_is_sha224_of_what_openssl_writes_as_pem(issued):
    der = issued.authentication.public_bytes(Encoding.DER)
    pem = subprocess.run(
        ["openssl", "x509", "-inform", "DER", "-outform", "PEM"], input=der, capture_output=True, check=True
    ).stdout
    assert identity.user_id(issued.authentication) == hashlib.sha224(pem).digest()
    lines = pem.split(b"\n")
    assert lines[0] == b"-----BEGIN CERTIFICATE-----"
    assert lines[-2:] == [b"-----END CERTIFICATE-----", b""]
    assert all(len(line) == 64 for line in lines[1:-3])
    assert b"\r" not in pem


def test_the_summary_shows_whose_certificate_it_is(issued):
    shown = identity.summary(issued.authentication)
    assert (shown.name, shown.civil_number, shown.key_kind) == ("Maria Conceição Reis", "BI123456789", "P-256")
    assert shown.issuer == "EC de Autenticação do Cartão de Cidadão TEST 0001"


BAD_SUBJECTS = {
    "no name": [(NameOID.COUNTRY_NAME, "PT"), (NameOID.SERIAL_NUMBER, "BI1")],
    "two names": [(NameOID.COMMON_NAME, "Maria"), (NameOID.COMMON_NAME, "João")],
    "a name that turns the text around": [(NameOID.COMMON_NAME, "Maria \u202esieR")],
    "a name with a control character": [(NameOID.COMMON_NAME, "Maria\x1b[2J")],
    "a name of spaces": [(NameOID.COMMON_NAME, "   ")],
}


@pytest.mark.parametrize("attributes", BAD_SUBJECTS.values(), ids=BAD_SUBJECTS)
def test_a_name_that_cannot_be_shown_without_doubt_is_refused(ca, attributes):
    with pytest.raises(CertificateError, match="common name"):
        identity.holder_name(with_subject(ca, attributes))


@pytest.mark.parametrize("number", ["123456789", "BI", "BI12345678A", "PASSPT-1"])
def test_what_is_no_civil_number_is_refused(ca, number):
    with pytest.raises(CertificateError):
        identity.civil_number(with_subject(ca, [(NameOID.COMMON_NAME, "M"), (NameOID.SERIAL_NUMBER, number)]))


def test_both_certificates_of_one_card_are_one_citizen(ca, issued):
    root = [ca.root]
    identity.same_citizen(issued.authentication, issued.signature)
    identity.same_citizen(issued.authentication, issued.signature, (root, root))


def test_a_namesake_with_another_number_is_another_citizen(ca, issued):
    other = card_certificates(ca, "Maria Conceição Reis", "BI987654321")
    with pytest.raises(CertificateError, match="different citizens"):
        identity.same_citizen(issued.authentication, other.signature)


def test_the_same_number_under_another_root_is_another_citizen(ca, issued, tmp_path):
    foreign = TestCa.create(tmp_path / "ca", "http://127.0.0.1:1", "x")
    other = card_certificates(foreign, "Maria Conceição Reis", "BI123456789")
    with pytest.raises(CertificateError, match="different hierarchies"):
        identity.same_citizen(issued.authentication, other.signature, ([ca.root], [foreign.root]))


@pytest.mark.parametrize("data", [b"", b"\x30\x00", b"not a certificate", b"\x30\x82\xff\xff"])
def test_what_is_no_certificate_is_refused(data):
    with pytest.raises(CertificateError):
        identity.load_certificate(data)
