"""Detached signatures: what we make, and that nothing altered passes. The card is a software key here."""

from __future__ import annotations

import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from pki import cades
from pki.cades import SignatureAlgorithm, sign_document, verify_document
from pki.errors import SignatureInvalid
from pki.tokens.profiles import CardKeyUse
from tests.support.cms_forge import DOCUMENT, Forge, OurCard
from tests.support.small_pki import SmallPki, name, usage

KEYS = {
    "RSA-2048": lambda: rsa.generate_private_key(65537, 2048),
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
}


@pytest.fixture(scope="module")
def pki():
    return SmallPki()


def signer_with(pki, key):
    extensions = [(usage("digital_signature", "content_commitment"), True)]
    return OurCard(Forge(pki.issue("ca", name("João Sá"), key.public_key(), extensions), key))


@pytest.fixture(scope="module")
def signers(pki):
    return {kind: signer_with(pki, make()) for kind, make in KEYS.items()}


@pytest.fixture(scope="module")
def signer(signers):
    return signers["P-256"]


@pytest.fixture(scope="module")
def signature(signer):
    return sign_document(DOCUMENT, signer, CardKeyUse.SIGNATURE)


@pytest.mark.parametrize("kind", ["RSA-2048", "P-256"])
def test_a_flipped_bit_anywhere_is_refused(signers, kind):
    """In every fourth byte of a fresh signature, another bit each time."""
    made = sign_document(DOCUMENT, signers[kind], CardKeyUse.SIGNATURE)
    for position in range(made[-1] % 4, len(made), 4):
        flipped = bytearray(made)
        flipped[position] ^= 1 << (position // 4 % 8)
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


def test_more_bytes_than_the_limit_are_refused_before_parsing(signature):
    with pytest.raises(SignatureInvalid, match="over the limit"):
        verify_document(DOCUMENT, signature + bytes(cades.SIGNATURE_BYTES_MAX))


def test_another_signer_than_the_expected_one_is_refused(signers, signature):
    verify_document(DOCUMENT, signature, certificate=signers["P-256"].certificate(None))
    with pytest.raises(SignatureInvalid, match="another certificate"):
        verify_document(DOCUMENT, signature, certificate=signers["P-384"].certificate(None))


def test_a_card_that_signs_with_another_key_is_found_out_at_once(signers):
    wrong = OurCard(Forge(signers["P-256"].certificate(None), ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(SignatureInvalid, match="does not hold"):
        sign_document(DOCUMENT, wrong, CardKeyUse.SIGNATURE)


# --- other makers ---------------------------------------------------------------------------------------------------


def test_a_cades_signature_of_openssl_with_pss_is_accepted(signers, tmp_path):
    """An independent maker: openssl's own CAdES with RSA-PSS, and no S/MIME capabilities."""
    signer = signers["RSA-2048"]
    pem = signer.forge.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
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


def test_every_certificate_accompanying_is_kept_apart_from_the_signer(pki, signer):
    made = sign_document(DOCUMENT, signer, CardKeyUse.SIGNATURE, chain=[signer.certificate(None), pki.ca])
    others = verify_document(DOCUMENT, made).other_certificates
    assert others == (pki.ca,)


def test_a_card_without_a_certificate_for_that_use_signs_nothing():
    class Empty:
        def certificate(self, use):
            return None

    with pytest.raises(SignatureInvalid, match="the card has no signature certificate"):
        sign_document(DOCUMENT, Empty(), CardKeyUse.SIGNATURE)


def test_a_card_with_a_key_of_another_kind_signs_nothing(pki):
    class Modern(OurCard):
        def sign(self, use, data):
            return self.forge.key.sign(data)

    key = ed25519.Ed25519PrivateKey.generate()
    card = Modern(Forge(pki.issue("ca", name("João Sá"), key.public_key(), [(usage("digital_signature"), True)]), key))
    with pytest.raises(SignatureInvalid, match="neither RSA nor ECDSA"):
        sign_document(DOCUMENT, card, CardKeyUse.SIGNATURE)
