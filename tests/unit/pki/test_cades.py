"""Detached signatures: one form, and every other one refused. The card is a software key here; cards are elsewhere."""

from __future__ import annotations

import hashlib
import subprocess
from datetime import UTC, datetime

import pytest
from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7
from hypothesis import given, settings
from hypothesis import strategies as st

from pki import cades
from pki.cades import SignatureAlgorithm, sign_document, verify_document
from pki.errors import SignatureInvalid
from pki.test_ca import Holder, TestCa
from pki.tokens.profiles import CardKeyUse

DOCUMENT = b'{"type":"letter","version":1}'


class SoftwareSigner:
    """Stands for a card where the question is the form of what it signs."""

    def __init__(self, key, certificate):
        self.key, self._certificate = key, certificate

    def certificate(self, use):
        return self._certificate

    def sign(self, use, data):
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return TestCa.create(tmp_path_factory.mktemp("ca") / "ca", "http://127.0.0.1:1", "only for tests")


def signer_with(ca, key):
    issued = ca.issue_card_certificates(Holder.named("João Sá"), key.public_key(), key.public_key())
    return SoftwareSigner(key, issued.signature)


@pytest.fixture(scope="module")
def signers(ca):
    return {
        "RSA-2048": signer_with(ca, rsa.generate_private_key(65537, 2048)),
        "P-256": signer_with(ca, ec.generate_private_key(ec.SECP256R1())),
        "P-384": signer_with(ca, ec.generate_private_key(ec.SECP384R1())),
    }


@pytest.fixture(scope="module")
def signer(signers):
    return signers["P-256"]


@pytest.fixture(scope="module")
def signature(signer):
    return sign_document(DOCUMENT, signer, CardKeyUse.SIGNATURE)


KINDS = {
    "RSA-2048": SignatureAlgorithm.RSA_PKCS1_SHA256,
    "P-256": SignatureAlgorithm.ECDSA_SHA256,
    "P-384": SignatureAlgorithm.ECDSA_SHA256,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("year", [None, 2026, 2051])
def test_openssl_accepts_what_we_sign_and_so_do_we(ca, signers, kind, year, tmp_path):
    time = year and datetime(year, 11, 22, 14, 1, 57, tzinfo=UTC)
    made = sign_document(DOCUMENT, signers[kind], CardKeyUse.SIGNATURE, chain=ca.intermediates, signing_time=time)
    verified = verify_document(DOCUMENT, made)
    assert verified.certificate == signers[kind].certificate(None)
    assert set(verified.other_certificates) == set(ca.intermediates)
    assert (verified.algorithm, verified.claimed_time) == (KINDS[kind], time)

    (tmp_path / "signature").write_bytes(made)
    (tmp_path / "document").write_bytes(DOCUMENT)
    (tmp_path / "root").write_bytes(ca.root.public_bytes(Encoding.PEM))
    command = "openssl cms -verify -binary -purpose any -inform DER -in signature -content document -CAfile root"
    done = subprocess.run([*command.split(), "-out", "copy"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy").read_bytes() == DOCUMENT


@pytest.mark.parametrize("kind", ["RSA-2048", "P-256"])
def test_every_flipped_bit_is_refused(signers, kind):
    made = sign_document(DOCUMENT, signers[kind], CardKeyUse.SIGNATURE)
    for position in range(len(made)):
        flipped = bytearray(made)
        flipped[position] ^= 1 << (position % 8)
        with pytest.raises(SignatureInvalid):
            verify_document(DOCUMENT, bytes(flipped))


def test_every_truncation_is_refused(signature):
    for length in range(len(signature)):
        with pytest.raises(SignatureInvalid):
            verify_document(DOCUMENT, signature[:length])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_end_in_one_family_of_error(data):
    with pytest.raises(SignatureInvalid):
        verify_document(DOCUMENT, data)


@pytest.mark.parametrize("document", [b"", DOCUMENT + b" ", DOCUMENT[:-1], DOCUMENT.upper()])
def test_another_document_is_refused(signature, document):
    with pytest.raises(SignatureInvalid, match="changed after it was signed"):
        verify_document(document, signature)


def test_trailing_bytes_are_refused(signature):
    with pytest.raises(SignatureInvalid):
        verify_document(DOCUMENT, signature + b"\x00")


def test_an_indefinite_length_is_refused(signature):
    assert signature[:2] == b"\x30\x82"
    ber = b"\x30\x80" + signature[4:] + b"\x00\x00"
    with pytest.raises(SignatureInvalid):
        verify_document(DOCUMENT, ber)


def test_more_bytes_than_the_limit_are_refused_before_parsing(signature):
    with pytest.raises(SignatureInvalid, match="over the limit"):
        verify_document(DOCUMENT, signature + bytes(cades.SIGNATURE_BYTES_MAX))


def test_another_signer_than_the_expected_one_is_refused(signers, signature):
    verify_document(DOCUMENT, signature, certificate=signers["P-256"].certificate(None))
    with pytest.raises(SignatureInvalid, match="another certificate"):
        verify_document(DOCUMENT, signature, certificate=signers["P-384"].certificate(None))


def test_a_card_that_signs_with_another_key_is_found_out_at_once(signers):
    wrong = SoftwareSigner(ec.generate_private_key(ec.SECP256R1()), signers["P-256"].certificate(None))
    with pytest.raises(SignatureInvalid, match="does not hold"):
        sign_document(DOCUMENT, wrong, CardKeyUse.SIGNATURE)


# --- forgeries that are well signed, in a form that is not ours ---------------------------------------------------


def forged(signer, change=lambda parts: parts, *, drop=(), extra=(), values=None):
    """A signature made by the right key over altered attributes."""
    certificate = signer.certificate(None)
    attributes = [
        {"type": "content_type", "values": ["data"]},
        {"type": "message_digest", "values": [hashlib.sha256(DOCUMENT).digest()]},
        {"type": "signing_certificate_v2", "values": [cades._signing_certificate(certificate)]},
    ]
    attributes = [{**a, **(values or {}).get(a["type"], {})} for a in attributes if a["type"] not in drop]
    made = [cms.CMSAttribute(a) for a in (*attributes, *extra)]
    signed = cms.CMSAttributes(sorted(made, key=lambda a: a.dump()))
    info = cms.ContentInfo.load(sign_document(DOCUMENT, signer, CardKeyUse.SIGNATURE))
    signer_info = info["content"]["signer_infos"][0]
    signer_info["signed_attrs"] = signed
    signer_info["signature"] = signer.sign(None, signed.dump())
    change(info)
    return info.dump(force=True)


def test_the_forger_makes_a_good_signature_when_nothing_is_altered(signer):
    verify_document(DOCUMENT, forged(signer))


@pytest.mark.parametrize("kind", ["content_type", "message_digest", "signing_certificate_v2"])
def test_a_missing_attribute_is_refused(signer, kind):
    with pytest.raises(SignatureInvalid):
        verify_document(DOCUMENT, forged(signer, drop=[kind]))


def test_an_attribute_twice_is_refused(signer):
    twice = {"type": "message_digest", "values": [hashlib.sha256(b"other").digest()]}
    with pytest.raises(SignatureInvalid):
        verify_document(DOCUMENT, forged(signer, extra=[twice]))


def test_an_attribute_with_two_values_is_refused(signer):
    digests = [hashlib.sha256(DOCUMENT).digest(), hashlib.sha256(b"other").digest()]
    with pytest.raises(SignatureInvalid):
        verify_document(DOCUMENT, forged(signer, values={"message_digest": {"values": digests}}))


def test_an_unknown_attribute_is_refused(signer):
    unknown = {"type": "1.2.3.4.5", "values": [cms.OctetString(b"x")]}
    with pytest.raises(SignatureInvalid):
        verify_document(DOCUMENT, forged(signer, extra=[unknown]))


def test_another_content_type_is_refused(signer):
    with pytest.raises(SignatureInvalid, match="content-type"):
        verify_document(DOCUMENT, forged(signer, values={"content_type": {"values": ["signed_data"]}}))


def test_the_signing_certificate_attribute_binds_the_certificate(signers, signer):
    other = cades._signing_certificate(signers["P-384"].certificate(None))
    with pytest.raises(SignatureInvalid, match="signing-certificate"):
        verify_document(DOCUMENT, forged(signer, values={"signing_certificate_v2": {"values": [other]}}))


def test_content_inside_is_refused(signer):
    def enclose(info):
        info["content"]["encap_content_info"] = {"content_type": "data", "content": DOCUMENT}

    with pytest.raises(SignatureInvalid):
        verify_document(DOCUMENT, forged(signer, enclose))


def test_two_signers_are_refused(signer):
    def twice(info):
        infos = info["content"]["signer_infos"]
        infos.append(infos[0].copy())

    with pytest.raises(SignatureInvalid):
        verify_document(DOCUMENT, forged(signer, twice))


def test_unsigned_attributes_are_refused(signer):
    def add(info):
        info["content"]["signer_infos"][0]["unsigned_attrs"] = [
            {"type": "message_digest", "values": [hashlib.sha256(DOCUMENT).digest()]}
        ]

    with pytest.raises(SignatureInvalid):
        verify_document(DOCUMENT, forged(signer, add))


def test_sha1_is_refused(signer):
    def weaken(info):
        info["content"]["signer_infos"][0]["digest_algorithm"] = {"algorithm": "sha1"}

    with pytest.raises(SignatureInvalid):
        verify_document(DOCUMENT, forged(signer, weaken))


def test_an_algorithm_that_does_not_fit_the_key_is_refused(signer):
    def pretend(info):
        info["content"]["signer_infos"][0]["signature_algorithm"] = {"algorithm": "sha256_rsa"}

    with pytest.raises(SignatureInvalid, match="fit"):
        verify_document(DOCUMENT, forged(signer, pretend))


def test_without_signed_attributes_it_is_refused(signer):
    def strip(info):
        signer_info = info["content"]["signer_infos"][0]
        signer_info["signed_attrs"] = None
        signer_info["signature"] = signer.sign(None, DOCUMENT)

    with pytest.raises(SignatureInvalid):
        verify_document(DOCUMENT, forged(signer, strip))


def test_a_plain_cms_signature_of_another_tool_is_refused(signer):
    """Valid CMS, but without signing-certificate-v2: the certificate is not bound."""
    options = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary]
    builder = pkcs7.PKCS7SignatureBuilder().set_data(DOCUMENT)
    made = builder.add_signer(signer.certificate(None), signer.key, hashes.SHA256()).sign(Encoding.DER, options)
    with pytest.raises(SignatureInvalid):
        verify_document(DOCUMENT, made)


def test_a_short_rsa_key_is_refused(ca):
    key = rsa.generate_private_key(65537, 1024)
    with pytest.raises(SignatureInvalid, match="1024 bits"):
        sign_document(DOCUMENT, signer_with(ca, key), CardKeyUse.SIGNATURE)


def test_a_cades_signature_of_openssl_with_pss_is_accepted(ca, signers, tmp_path):
    """An independent maker: openssl's own CAdES with RSA-PSS, no signing-time and no S/MIME capabilities."""
    signer = signers["RSA-2048"]
    pem = signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key").write_bytes(pem)
    (tmp_path / "certificate").write_bytes(signer.certificate(None).public_bytes(Encoding.PEM))
    (tmp_path / "document").write_bytes(DOCUMENT)
    command = (
        "openssl cms -sign -binary -in document -signer certificate -inkey key -outform DER -out signature"
        " -cades -md sha256 -nosmimecap -keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:32"
        " -keyopt rsa_mgf1_md:sha256"
    )
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    verified = verify_document(DOCUMENT, (tmp_path / "signature").read_bytes())
    assert verified.algorithm is SignatureAlgorithm.RSA_PSS_SHA256
    assert verified.claimed_time is not None


def test_every_certificate_accompanying_is_kept_apart_from_the_signer(ca, signer):
    made = sign_document(DOCUMENT, signer, CardKeyUse.SIGNATURE, chain=[signer.certificate(None), *ca.intermediates])
    others = verify_document(DOCUMENT, made).other_certificates
    assert all(isinstance(c, x509.Certificate) for c in others)
    assert signer.certificate(None) not in others
