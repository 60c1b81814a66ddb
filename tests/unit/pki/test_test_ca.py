"""The test CA's book holds every change, whoever makes it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.ocsp import OCSPResponseStatus, load_der_ocsp_response
from cryptography.x509.oid import NameOID

from pki import crls, ocsp
from pki.errors import TestCaError
from pki.test_ca import Holder, TestCa
from pki.test_responder import TestResponder


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


# --- the profile of real cards ------------------------------------------------------------------------------------

GENERATIONS = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RSA-3072": lambda: rsa.generate_private_key(65537, 3072),
}


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return TestCa.create(tmp_path_factory.mktemp("ca") / "ca", "http://127.0.0.1:9", "passphrase")


@pytest.fixture(scope="module", params=GENERATIONS)
def key(request):
    return GENERATIONS[request.param]()


@pytest.mark.parametrize("branch", ["authentication", "signature"])
def test_a_citizens_certificate_has_the_profile_of_a_real_one(ca, branch, key):
    holder = Holder.named("Maria Conceição Reis", "BI123456789")
    made = getattr(ca.issue_card_certificates(holder, key.public_key(), key.public_key()), branch)
    name = {each.rfc4514_attribute_name: each.value for each in made.subject}
    assert (name["C"], name["CN"]) == ("PT", "Maria Conceição Reis")
    values = {oid: made.subject.get_attributes_for_oid(oid)[0].value for oid in (NameOID.GIVEN_NAME, NameOID.SURNAME)}
    assert values == {NameOID.GIVEN_NAME: "Maria Conceição", NameOID.SURNAME: "Reis"}
    assert made.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)[0].value == "BI123456789"
    units = [each.value for each in made.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)]
    assert len(units) == 2
    assert "Cidadão Português" in units
    usage = made.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature == (branch == "authentication")
    assert usage.value.content_commitment == (branch == "signature")
    (policy,) = made.extensions.get_extension_for_class(x509.CertificatePolicies).value
    assert policy.policy_qualifiers
    (point,) = crls.points(made)
    assert point.urls == (f"http://127.0.0.1:9/{branch}.crl",)
    (delta,) = crls.delta_points(made)
    assert delta.urls == (f"http://127.0.0.1:9/{branch}-delta.crl",)
    assert ocsp.responders(made) == [f"http://127.0.0.1:9/ocsp/{branch}"]
    statements = [each for each in made.extensions if each.oid.dotted_string == "1.3.6.1.5.5.7.1.3"]
    assert len(statements) == (branch == "signature")


def test_a_citizens_list_names_its_distribution_point(ca):
    crl = x509.load_der_x509_crl((ca.crl_folder / "signature.crl").read_bytes())
    scope = crls.scope_of(crl)
    assert [name.value for name in scope.full_name] == ["http://127.0.0.1:9/signature.crl"]


def test_a_delta_tells_it_until_the_next_complete_list(ca):
    def lists():
        found = [(ca.crl_folder / f"authentication{end}.crl").read_bytes() for end in ("", "-delta")]
        return [
            x509.load_der_x509_crl(each).get_revoked_certificate_by_serial_number(serial) is not None for each in found
        ]

    serial = issue(ca, "João Sá").serial_number
    assert lists() == [False, False]
    ca.revoke(serial, in_delta=True)
    assert lists() == [False, True]
    ca.publish_crls()
    assert lists() == [True, False]


def test_the_responder_knows_what_another_process_has_revoked(ca):
    certificate = issue(ca, "Bruno Antunes")
    issuer, _ = ca.authority("authentication")
    responder = TestResponder(ca)

    def ask():
        question = ocsp.question(certificate, issuer)
        data = responder.answer("authentication", question.der)
        now = datetime.now(UTC)
        return ocsp.read_answer(data, certificate, issuer, now, skew=timedelta(0), nonce=question.nonce).revoked_at

    assert ask() is None
    line = TestCa.open(ca.folder, "passphrase").revoke(certificate.serial_number)
    assert ask() == datetime.fromisoformat(line.revoked_at)


@pytest.mark.parametrize("authority", ["authentication", "nobody"])
def test_a_question_that_makes_no_sense_is_answered_so(ca, authority):
    answer = load_der_ocsp_response(TestResponder(ca).answer(authority, b"rubbish"))
    assert answer.response_status is OCSPResponseStatus.MALFORMED_REQUEST


def test_a_certificate_that_it_did_not_issue_is_not_judged(ca):
    issuer, _ = ca.authority("authentication")
    question = ocsp.question(ca.root, issuer)
    answer = load_der_ocsp_response(TestResponder(ca).answer("authentication", question.der))
    assert answer.response_status is OCSPResponseStatus.UNAUTHORIZED
