"""Forged revocation data that one engine alone would believe: it must never reach it.

Both holes are in the second engine (pyhanko-certvalidator 0.33). The tests show them first, so that whoever updates the
library sees when they are closed.
"""

from __future__ import annotations

import pytest
from asn1crypto import crl as asn1_crl
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp

from pki import certvalidator_engine
from pki.authentic import Answer, Evidence
from pki.path import Verdict, validate_path
from pki.policy import ValidationPolicy
from pki.revocation_data import RevocationData
from tests.support.small_pki import DAY, HOUR, NOW, SmallPki, new_key, usage

POLICY = ValidationPolicy()


@pytest.fixture(scope="module")
def pki():
    return SmallPki()


def ask(pki, crls, answers=(), extra=()):
    return validate_path(
        pki.leaf,
        anchors=[pki.root],
        intermediates=[pki.ca, *extra],
        revocation=RevocationData(tuple(crls), tuple(answers)),
        moment=NOW,
        policy=POLICY,
    )


def alone(pki, crls, answers=(), extra=()):
    """What the second engine says when nobody sifts the data."""
    evidence = Evidence(tuple(map(x509.load_der_x509_crl, crls)), tuple(answers), tuple(extra), ())
    return certvalidator_engine.check((pki.leaf, pki.ca, pki.root), evidence, NOW, NOW, POLICY)


def with_another_key(certificate, key):
    """The same issuer, serial number and signature bytes; only the key in it is another."""
    parsed = asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    parsed["tbs_certificate"]["subject_public_key_info"] = asn1_x509.PublicKeyInfo.load(spki)
    return x509.load_der_x509_certificate(parsed.dump(force=True))


def test_a_look_alike_of_the_issuer_cannot_answer_for_a_revoked_card(pki):
    mallory = new_key()
    look_alike = with_another_key(pki.ca, mallory)
    forged = pki.answer(responder=look_alike, key=mallory, brings=[look_alike])
    lists = [pki.crl("root")]

    answer = Answer(ocsp.load_der_ocsp_response(forged), pki.leaf)
    assert alone(pki, lists, [answer]).verdict is Verdict.VALID, "the library has closed this hole"

    result = ask(pki, lists, [forged])
    assert result.verdict is Verdict.COULD_NOT_TELL
    assert "not signed by anybody who may" in result.detail


def list_signer(pki):
    """A certificate of the CA's own name, for signing lists alone, with its own key (RFC 5280 section 4.2.1.3)."""
    return pki.issue("ca", pki.ca.subject, new_key().public_key(), [(usage("crl_sign"), True)])


def unsigned(crl, number):
    """A list with a signature of nobody; all of these have the same one."""
    parsed = asn1_crl.CertificateList.load(crl)
    parsed["tbs_cert_list"]["this_update"] = asn1_x509.Time({"utc_time": NOW.replace(minute=number) - HOUR})
    parsed["signature"] = bytes(64)
    return parsed.dump(force=True)


def test_a_list_cannot_vouch_for_its_own_signer_and_so_for_a_revoked_card(pki):
    """The engine takes an unsigned list's word about the list's signer, and then takes it for verified."""
    signer = list_signer(pki)
    forged = [unsigned(pki.crl("ca"), number) for number in (1, 2)]
    lists = [pki.crl("root"), *forged]
    assert alone(pki, lists, extra=[signer]).verdict is Verdict.VALID, "the library has closed this hole"

    result = ask(pki, lists, extra=[signer])
    assert result.verdict is Verdict.COULD_NOT_TELL
    assert "not signed by anybody who may" in result.detail


def test_a_stranger_with_the_name_of_the_list_signer_cannot_sign_either(pki):
    mallory = new_key()
    stranger = pki.issue("ca", pki.ca.subject, mallory.public_key(), [(usage("crl_sign"), True)], sign_with=mallory)
    forged = pki.crl("ca", key=mallory)
    result = ask(pki, [pki.crl("root"), forged], extra=[stranger, list_signer(pki)])
    assert result.verdict is Verdict.COULD_NOT_TELL
    assert "not signed by anybody who may" in result.detail  # no engine had to find out


def test_a_citizen_cannot_sign_lists(pki):
    forged = pki.crl("ca", key=pki.keys["maria"])
    assert ask(pki, [pki.crl("root"), forged], extra=[pki.leaf]).verdict is Verdict.COULD_NOT_TELL


def test_strangers_in_circles_end(pki):
    """Certificates that issue each other lead nowhere, and looking at them ends."""
    keys = [new_key() for _ in range(4)]
    basic = (x509.BasicConstraints(ca=True, path_length=None), True)
    circle = [
        pki.issue("ca", pki.ca.subject, mine.public_key(), [basic], sign_with=theirs)
        for mine in keys
        for theirs in keys
    ]
    forged = pki.crl("ca", key=keys[0])
    result = ask(pki, [pki.crl("root"), forged], extra=circle)
    assert result.verdict is Verdict.COULD_NOT_TELL


def test_what_was_revoked_is_revoked_whatever_else_is_sent_along(pki):
    mallory = new_key()
    look_alike = with_another_key(pki.ca, mallory)
    lists = [pki.crl("root"), pki.crl("ca", revoked=[(pki.leaf, NOW - DAY)])]
    forged = [
        pki.answer(responder=look_alike, key=mallory, brings=[look_alike]),
        pki.answer(),
    ]
    more = [unsigned(pki.crl("ca"), 1), pki.crl("ca", start=NOW - 2 * HOUR)]
    assert ask(pki, [*more, *lists, *more], forged, extra=[list_signer(pki)]).verdict is Verdict.REVOKED
