"""The COSE layer against published examples: the examples of the COSE working group and of draft-ietf-cose-hpke.

Transcribed from the repository cose-wg/Examples (public domain) and from the draft (IETF Trust, Revised BSD for code).
The examples carry a key id or an IV in unprotected headers, which our profile refuses as malleable. So each of them is
refused as it stands, and its parts, put into our types, verify and open: the structures that are signed and encrypted
are the same.
"""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from crypto_core import cbor, cose
from crypto_core.errors import DecryptionFailed, Malformed, SignatureInvalid
from crypto_core.keys import EcdsaSigningKey, EcdsaVerifyKey, SigningKey
from crypto_core.suite import ContentKey

CONTENT = b"This is the content."

# sign1-tests/sign-pass-02.json and sign-fail-02.json, ecdsa and eddsa examples
P256_D = "V8kgd2ZBRuh2dgyVINBUqpPDr7BOMGcF22CQMIUHtNM"
ED25519_SEED = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
SIGN_PASS_02 = (
    "D28443A10126A10442313154546869732069732074686520636F6E74656E742E5840EAE868ECC176883766C5DC5BA5B8DCA25DAB3C2E56A55"
    "1CE5705B793914348E155388B10C4F1B59A6733EAB416870A945111A4B2FBDBEF33A77234B1DEFF2F9B"
)
SIGN_PASS_02_EXTERNAL = "11aa22bb33cc44dd55006699"
SIGN_PASS_02_TO_BE_SIGNED = (
    "846A5369676E61747572653143A101264C11AA22BB33CC44DD5500669954546869732069732074686520636F6E74656E742E"
)
SIGN_FAIL_02 = (
    "D28443A10126A10442313154546869732069732074686520636F6E74656E742F5840EAE868ECC176883766C5DC5BA5B8DCA25DAB3C2E56A55"
    "1CE5705B793914348E19F43D6C6BA654472DA301B645B293C9BA939295B97C4BDB847782BFF384C5794"
)
EDDSA_SIG_01 = (
    "D28445A201270300A10442313154546869732069732074686520636F6E74656E742E58407142FD2FF96D56DB85BEE905A76BA1D0B7321A95C8"
    "C4D3607C5781932B7AFB8711497DFA751BF40B58B3BCC32300B1487F3DB34085EEF013BF08F4A44D6FEF0D"
)

# aes-gcm-examples/aes-gcm-enc-03.json and aes-gcm-03.json
GCM_KEY = "0F1E2D3C4B5A69788796A5B4C3D2E1F01F2E3D4C5B6A798897A6B5C4D3E2F100"
GCM_IV = "02D1F7E6F26C43D4868D87CE"
GCM_ENC_03 = (
    "D08343A10103A1054C02D1F7E6F26C43D4868D87CE58249D64A5A59A3B04867DCCF6B8EF82F7D1A3B25EF84ECA2BC5D7593A96E943859A9CC2"
    "4AD3"
)
GCM_03 = (
    "D8608443A10103A1054C02D1F7E6F26C43D4868D87CE58249D64A5A59A3B04867DCCF6B8EF82F7D1A3B25EF862B6EDDB29DF2EF16582172E5B"
    "5FC757818340A2012504467365632D363440"
)
GCM_ENC_03_AAD = "8368456E63727970743043A1010340"

# draft-ietf-cose-hpke, "COSE HPKE Key Encryption Mode": HPKE-0-KE, Alice's key, the message
ALICE_D = "31e9ff686ed68feafa8774d2fb88370da73b4de5a8a8104545c2c3db412b8202"
HPKE_KE = (
    "d8608443a10101a10550311aa7cc6cf87c1068a2ca671ede2cc758253e17fb3a5e244dc66e4d175424d364c24c6f85945b75f3788cf35116c6"
    "7bc7b845df5757c381834ba201182e0445616c696365a123584104a97992eb783474b632289699b5b97218595f82c0fe2ed9097d505f6a64c8"
    "c530775a66fa36b8728ae329a24c8c6580a59c80e7c5d583b197cd42222cdb4f674c5820649f31f9e647c3d7ded69f8cd6ed1ca4e5171f681c"
    "39eed1f077a1d1a01bf784"
)
HPKE_0_KE = 46
A128GCM = 1


def parts(message: str) -> list[Any]:
    return list(cbor.decode(bytes.fromhex(message)).value)


def sign1_of(message: str) -> cose.Sign1:
    """The signed parts of an example, without its unprotected headers."""
    protected, _, payload, signature = parts(message)
    return cose.Sign1(protected, cbor.decode(protected), payload, signature)


def p256() -> EcdsaVerifyKey:
    number = int.from_bytes(base64.urlsafe_b64decode(P256_D + "="))
    return EcdsaVerifyKey(ec.derive_private_key(number, ec.SECP256R1()).public_key())


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (cose.read_sign1, SIGN_PASS_02),
        (cose.read_sign1, EDDSA_SIG_01),
        (cose.read_encrypt0, GCM_ENC_03),
        (cose.read_encrypt, HPKE_KE),
    ],
)
def test_unprotected_headers_of_the_examples_are_refused(read, message):
    with pytest.raises(Malformed, match="unprotected"):
        read(bytes.fromhex(message))


def test_the_signed_structure_is_the_published_one():
    message = sign1_of(SIGN_PASS_02)
    made = cose._sig_structure(message.protected, bytes.fromhex(SIGN_PASS_02_EXTERNAL), message.unverified_payload)
    assert made.hex().upper() == SIGN_PASS_02_TO_BE_SIGNED


def test_ecdsa_p256_example_verifies():
    assert sign1_of(SIGN_PASS_02).verify(p256(), bytes.fromhex(SIGN_PASS_02_EXTERNAL)) == CONTENT


def test_ecdsa_p256_example_without_its_external_data_is_refused():
    with pytest.raises(SignatureInvalid):
        sign1_of(SIGN_PASS_02).verify(p256())


def test_published_failure_is_refused():
    with pytest.raises(SignatureInvalid):
        sign1_of(SIGN_FAIL_02).verify(p256())


def test_ed25519_example_verifies_and_is_made_again():
    key = SigningKey(bytes.fromhex(ED25519_SEED))
    message = sign1_of(EDDSA_SIG_01)
    assert message.verify(key.public) == CONTENT
    # Ed25519 is deterministic, and our encoding differs by the unprotected header alone.
    ours = parts(cose.sign1(key, {1: -8, 3: 0}, CONTENT).hex())
    assert ours == [message.protected, {}, CONTENT, message.signature]


def test_aes_gcm_example_opens_and_is_made_again():
    protected, _, ciphertext = parts(GCM_ENC_03)
    key = ContentKey(bytes.fromhex(GCM_KEY), bytes.fromhex(GCM_IV))
    assert cose._enc_structure("Encrypt0", protected, b"").hex().upper() == GCM_ENC_03_AAD
    assert cose.Encrypt0(protected, {1: 3}, ciphertext).decrypt(key) == CONTENT
    assert parts(cose.encrypt0(key, {cose.ALG: cose.ALG_A256GCM}, CONTENT).hex()) == [protected, {}, ciphertext]


def test_aes_gcm_content_of_an_encrypt_opens():
    protected, _, ciphertext, _ = parts(GCM_03)
    key = ContentKey(bytes.fromhex(GCM_KEY), bytes.fromhex(GCM_IV))
    assert cose.decrypt_content(protected, ciphertext, key) == CONTENT


@pytest.mark.parametrize("position", [0, 19, -1])
def test_aes_gcm_example_changed_is_refused(position):
    protected, _, ciphertext = parts(GCM_ENC_03)
    changed = bytearray(ciphertext)
    changed[position] ^= 1
    key = ContentKey(bytes.fromhex(GCM_KEY), bytes.fromhex(GCM_IV))
    with pytest.raises(DecryptionFailed):
        cose.Encrypt0(protected, {1: 3}, bytes(changed)).decrypt(key)


def test_an_encrypt0_does_not_open_as_the_content_of_an_encrypt():
    # Section 5.3: the context text keeps the two apart.
    protected, _, ciphertext = parts(GCM_ENC_03)
    key = ContentKey(bytes.fromhex(GCM_KEY), bytes.fromhex(GCM_IV))
    with pytest.raises(DecryptionFailed):
        cose.Encrypt(protected, {1: 3}, ciphertext, ()).decrypt(key)


class Alice:
    """HPKE-0-KE: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-128-GCM."""

    def open(self, encapsulated_key: bytes, ciphertext: bytes, info: bytes) -> bytes:
        key = ec.derive_private_key(int(ALICE_D, 16), ec.SECP256R1())
        return Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_128_GCM).decrypt(encapsulated_key + ciphertext, key, info=info)


def test_hpke_key_encryption_example_opens_with_our_recipient_structure():
    protected, unprotected, ciphertext, (recipient,) = parts(HPKE_KE)
    parsed = cose.read_recipient(recipient)
    assert parsed.headers == {cose.ALG: HPKE_0_KE, cose.KID: b"alice"}
    content_key = parsed.unwrap(Alice(), A128GCM, b"")
    assert len(content_key) == 16
    # The IV of the example has 16 bytes, which our ContentKey never has: the library is called directly.
    aad = cose._enc_structure("Encrypt", protected, b"")
    assert AESGCM(content_key).decrypt(unprotected[5], ciphertext, aad) == CONTENT + b"\n"  # as the example has it


def test_recipient_structure_is_the_one_of_the_draft():
    made = cose.recipient_structure(A128GCM, b"\xa1\x01\x18\x2e", b"extra")
    assert cbor.decode(made) == ["HPKE Recipient", A128GCM, b"\xa1\x01\x18\x2e", b"extra"]


def test_signatures_of_es256_have_the_fixed_form():
    # RFC 9053 section 2.1: r and s, 32 bytes each, no DER
    key = EcdsaSigningKey(ec.derive_private_key(12345, ec.SECP256R1()))
    for number in range(8):
        signature = key.sign(bytes([number]))
        assert len(signature) == 64
        EcdsaVerifyKey(key.key.public_key()).verify(signature, bytes([number]))
