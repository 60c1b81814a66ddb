"""The primitives behind the suite against published figures: HKDF, AES-GCM, Ed25519, ECDSA P-256, Argon2id.

The figures come with the package cryptography-vectors (Apache License 2.0 or BSD): RFC 5869, NIST CAVP, RFC 8032 and
RFC 9106; those of RFC 6979 are transcribed.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.resources
import itertools
import re

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from crypto_core import cbor, keystore, suite
from crypto_core.errors import DecryptionFailed, SignatureInvalid
from crypto_core.keys import EcdsaVerifyKey, SigningKey, VerifyKey
from crypto_core.suite import ContentKey


def published(*path: str) -> str:
    return importlib.resources.files("cryptography_vectors").joinpath(*path).read_text()


# -------------------------------------------------------------------------------------------- HKDF, from its definition


def hkdf_extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt, secret, "sha256")


def hkdf_expand(key: bytes, info: bytes, length: int) -> bytes:
    block, blocks = b"", b""
    for number in range(1, -(-length // 32) + 1):
        block = hmac.digest(key, block + info + bytes([number]), "sha256")
        blocks += block
    return blocks[:length]


def test_hkdf_written_from_its_definition_gives_the_figures_of_rfc_5869():
    (case,) = re.findall(r"# A\.1\..*?(?=# A\.2\.)", published("KDF", "rfc-5869-HKDF-SHA256.txt"), re.DOTALL)
    field = {name: bytes.fromhex(value) for name, value in re.findall(r"^(\w+) += ([0-9a-f]{2,})$", case, re.MULTILINE)}
    assert hkdf_extract(field["salt"], field["IKM"]) == field["PRK"]
    assert hkdf_expand(field["PRK"], field["info"], 42) == field["OKM"]


def test_the_suite_derives_with_hkdf_over_labelled_arrays():
    key = suite.extract(b"s" * 32, "a label", b"first", b"second")
    assert key == hkdf_extract(b"s" * 32, cbor.encode(["a label", b"first", b"second"]))
    for length in (16, 32, 44, 100):
        info = cbor.encode(["another label", 7, b"context"])
        assert suite.expand(key, length, "another label", 7, b"context") == hkdf_expand(key, info, length)


def test_a_content_key_is_expanded_key_and_iv():
    derived = ContentKey.derive(b"k" * 32, "a label", 1)
    material = hkdf_expand(b"k" * 32, cbor.encode(["a label", 1]), 44)
    assert (derived.key, derived.iv) == (material[:32], material[32:])


def test_hashes_and_macs_are_over_labelled_arrays():
    encoded = cbor.encode(["a label", b"part", 2])
    assert suite.labelled_hash("a label", b"part", 2) == hashlib.sha256(encoded).digest()
    assert suite.labelled_mac(b"key", "a label", b"part", 2) == hmac.digest(b"key", encoded, "sha256")


# --------------------------------------------------------------------------------------------------------- AES-256-GCM


def gcm_cases() -> list[dict[str, bytes]]:
    """The NIST CAVP cases with an IV of 96 bits and a tag of 128 bits: one of each size of plaintext and AAD."""
    cases = []
    sections = published("ciphers", "AES", "GCM", "gcmEncryptExtIV256.rsp").split("[Keylen")[1:]
    for section in sections:
        if "[IVlen = 96]" in section and "[Taglen = 128]" in section:
            count_0 = section.split("Count = ")[1]
            fields = re.findall(r"^(\w+) = ?([0-9a-f]*)\s*$", count_0, re.MULTILINE)
            cases.append({name: bytes.fromhex(value) for name, value in fields})
    return cases


def test_aes_256_gcm_gives_the_figures_of_nist():
    cases = gcm_cases()
    assert len(cases) >= 20
    for case in cases:
        key = ContentKey(case["Key"], case["IV"])
        assert key.encrypt(case["PT"], case["AAD"]) == case["CT"] + case["Tag"]
        assert key.decrypt(case["CT"] + case["Tag"], case["AAD"]) == case["PT"]
        with pytest.raises(DecryptionFailed):
            key.decrypt(case["CT"] + case["Tag"], case["AAD"] + b"x")


# ------------------------------------------------------------------------------------------------------------- Ed25519


def test_ed25519_gives_the_figures_of_rfc_8032():
    lines = published("asymmetric", "Ed25519", "sign.input").splitlines()
    for line in itertools.islice(lines, 64):
        secret, public, message, signed = (bytes.fromhex(part) for part in line.split(":")[:4])
        key = SigningKey(secret[:32])
        assert key.public.raw == public
        assert key.sign(message) == signed[:64]
        VerifyKey(public).verify(signed[:64], message)
        with pytest.raises(SignatureInvalid):
            VerifyKey(public).verify(signed[:64], message + b"x")


def test_ed25519_refuses_the_second_form_of_a_signature():
    # RFC 8032 section 5.1.7: S must be below the group order, else every signature has a second one.
    order = 2**252 + 27742317777372353535851937790883648493
    key = SigningKey(b"\x07" * 32)
    signature = key.sign(b"message")
    other = signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    with pytest.raises(SignatureInvalid):
        key.public.verify(other, b"message")


# --------------------------------------------------------------------------------------------------------- ECDSA P-256


def test_ecdsa_p256_sha256_accepts_the_figures_of_rfc_6979():
    # Section A.2.5, with SHA-256
    x = 0x60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6
    y = 0x7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299
    figures = {
        b"sample": "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
        "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
        b"test": "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367"
        "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083",
    }
    key = EcdsaVerifyKey(ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key())
    for message, signature in figures.items():
        key.verify(bytes.fromhex(signature), message)
        with pytest.raises(SignatureInvalid):
            key.verify(bytes.fromhex(signature), message + b"x")


# ------------------------------------------------------------------------------------------------------------ Argon2id


def test_argon2id_gives_the_figure_of_rfc_9106():
    # Section 5.3; the keystore uses neither secret nor associated data, the figure does
    derived = Argon2id(
        salt=b"\x02" * 16,
        length=32,
        iterations=3,
        lanes=4,
        memory_cost=32,
        ad=b"\x04" * 12,
        secret=b"\x03" * 8,
    ).derive(b"\x01" * 32)
    assert derived.hex() == "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"


def test_the_keystore_key_is_argon2id_through_hkdf():
    derived = Argon2id(salt=b"s" * 32, length=32, iterations=1, lanes=2, memory_cost=64).derive("pássaro".encode())
    material = hkdf_expand(derived, cbor.encode(["a label", b"s" * 32]), 44)
    key = keystore._key("a label", "pássaro", b"s" * 32, 1, 2, 64)
    assert (key.key, key.iv) == (material[:32], material[32:])
