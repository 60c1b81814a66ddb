"""HPKE with ML-KEM-768 + X25519 against the published vectors of draft-ietf-hpke-pq, and RFC 9180 for the rest.

The vectors come with the package cryptography-vectors. For this KEM they use another AEAD and associated data, which
our sealing keys have no place for. So the chain of proof is: a key schedule written here from the draft gives the
published keys and ciphertexts; the same schedule, with AES-256-GCM and the published KEM output, makes a ciphertext
that our key opens.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
from typing import Any

import pytest
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from crypto_core.errors import DecryptionFailed, Malformed
from crypto_core.keys import ENCAPSULATED_KEY_BYTES, SealingKey, SealingPublicKey

hpke = openssl.hpke  # the public module leaves out the functions with associated data, which the vectors use

KEM = 0x647A  # MLKEM768-X25519
SHAKE256 = 0x0011
AES_256_GCM = 0x0002
CHACHA20_POLY1305 = 0x0003
AEADS = {AES_256_GCM: AESGCM, CHACHA20_POLY1305: ChaCha20Poly1305}


def published(name: str) -> list[dict[str, Any]]:
    text = importlib.resources.files("cryptography_vectors").joinpath("HPKE", name).read_text()
    return json.loads(text)


def of_our_kem() -> list[dict[str, Any]]:
    return [case for case in published("hpke-pq-test-vectors.json") if (case["mode"], case["kem_id"]) == (0, KEM)]


def of_our_kem_and_kdf() -> dict[str, Any]:
    (case,) = [case for case in of_our_kem() if case["kdf_id"] == SHAKE256]
    return case


def sealing_key(case: dict[str, Any]) -> SealingKey:
    """The published key is a seed of 32 bytes; draft-irtf-cfrg-concrete-hybrid-kems expands it with SHAKE256."""
    return SealingKey(hashlib.shake_256(bytes.fromhex(case["skRm"])).digest(64 + 32))


def with_length(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def key_schedule(secret: bytes, info: bytes, aead: int) -> tuple[bytes, bytes, bytes]:
    """Key, base nonce and exporter secret in base mode, with the one-stage KDF SHAKE256 (draft-ietf-hpke-pq)."""
    suite_id = b"HPKE" + b"".join(number.to_bytes(2, "big") for number in (KEM, SHAKE256, aead))

    def derive(input_key: bytes, label: bytes, context: bytes, length: int) -> bytes:
        labelled = b"HPKE-v1" + suite_id + with_length(label) + length.to_bytes(2, "big") + context
        return hashlib.shake_256(input_key + labelled).digest(length)

    secrets = with_length(b"") + with_length(secret)  # no pre-shared key
    context = b"\x00" + with_length(b"") + with_length(info)  # mode base, no id of a pre-shared key
    material = derive(secrets, b"secret", context, 32 + 12 + 64)
    return material[:32], material[32:44], material[44:]


def seal_by_hand(case: dict[str, Any], plaintext: bytes, info: bytes) -> bytes:
    key, nonce, _ = key_schedule(bytes.fromhex(case["shared_secret"]), info, AES_256_GCM)
    return AESGCM(key).encrypt(nonce, plaintext, b"")


def test_there_are_vectors_for_our_kem():
    assert len(of_our_kem()) >= 2


@pytest.mark.parametrize("number", range(2))
def test_key_pair_of_the_vectors(number):
    case = of_our_kem()[number]
    assert sealing_key(case).public.raw.hex() == case["pkRm"]


def test_key_schedule_of_the_vectors():
    case = of_our_kem_and_kdf()
    made = key_schedule(bytes.fromhex(case["shared_secret"]), bytes.fromhex(case["info"]), CHACHA20_POLY1305)
    assert tuple(part.hex() for part in made) == (case["key"], case["base_nonce"], case["exporter_secret"])


def test_first_ciphertext_of_the_vectors():
    case = of_our_kem_and_kdf()
    first = case["encryptions"][0]
    key, nonce, _ = key_schedule(bytes.fromhex(case["shared_secret"]), bytes.fromhex(case["info"]), CHACHA20_POLY1305)
    sealed = ChaCha20Poly1305(key).encrypt(nonce, bytes.fromhex(first["pt"]), bytes.fromhex(first["aad"]))
    assert sealed.hex() == first["ct"]


@pytest.mark.parametrize("number", range(2))
def test_library_opens_the_vectors_with_the_key_as_we_keep_it(number):
    case = of_our_kem()[number]
    kdf = {1: hpke.KDF.HKDF_SHA256, SHAKE256: hpke.KDF.SHAKE256}[case["kdf_id"]]
    suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, kdf, hpke.AEAD.CHACHA20_POLY1305)
    first = case["encryptions"][0]
    opened = hpke._decrypt_with_aad(
        suite,
        bytes.fromhex(case["enc"] + first["ct"]),
        sealing_key(case)._loaded,
        info=bytes.fromhex(case["info"]),
        aad=bytes.fromhex(first["aad"]),
    )
    assert opened.hex() == first["pt"]


def test_our_key_opens_the_published_encapsulation_under_our_aead():
    case = of_our_kem_and_kdf()
    enc, info = bytes.fromhex(case["enc"]), bytes.fromhex(case["info"])
    assert len(enc) == ENCAPSULATED_KEY_BYTES
    sealed = seal_by_hand(case, b"thirty-two bytes of content key.", info)
    assert sealing_key(case).open(enc, sealed, info) == b"thirty-two bytes of content key."


REFUSED = {
    "wrong info": lambda enc, ct, info: (enc, ct, info + b"x"),
    "no info": lambda enc, ct, info: (enc, ct, b""),
    "ciphertext changed": lambda enc, ct, info: (enc, bytes([ct[0] ^ 1]) + ct[1:], info),
    "tag changed": lambda enc, ct, info: (enc, ct[:-1] + bytes([ct[-1] ^ 1]), info),
    "ciphertext truncated": lambda enc, ct, info: (enc, ct[:-1], info),
    "ciphertext shorter than a tag": lambda enc, ct, info: (enc, ct[:15], info),
    "no ciphertext": lambda enc, _, info: (enc, b"", info),
    "ML-KEM part changed": lambda enc, ct, info: (bytes([enc[0] ^ 1]) + enc[1:], ct, info),
    "X25519 part changed": lambda enc, ct, info: (enc[:-32] + bytes([enc[-32] ^ 1]) + enc[-31:], ct, info),
    "X25519 part of low order": lambda enc, ct, info: (enc[:-32] + bytes(32), ct, info),
    "encapsulated key truncated": lambda enc, ct, info: (enc[:-1], ct, info),
    "encapsulated key extended": lambda enc, ct, info: (enc + b"\x00", ct, info),
    "a byte moved between the two": lambda enc, ct, info: (enc + ct[:1], ct[1:], info),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    case = of_our_kem_and_kdf()
    enc, info = bytes.fromhex(case["enc"]), bytes.fromhex(case["info"])
    changed = REFUSED[name](enc, seal_by_hand(case, b"content key", info), info)
    with pytest.raises(DecryptionFailed):
        sealing_key(case).open(*changed)


def test_another_key_does_not_open():
    case = of_our_kem_and_kdf()
    info = bytes.fromhex(case["info"])
    sealed = seal_by_hand(case, b"content key", info)
    for other in (SealingKey.generate(), SealingKey(sealing_key(case).seed[:64] + b"\x01" * 32)):
        with pytest.raises(DecryptionFailed):
            other.open(bytes.fromhex(case["enc"]), sealed, info)


def test_what_we_seal_opens_and_is_fresh_every_time():
    key = sealing_key(of_our_kem_and_kdf())
    first, second = key.public.seal(b"content key", b"info"), key.public.seal(b"content key", b"info")
    assert first != second
    assert key.open(*first, b"info") == key.open(*second, b"info") == b"content key"


def test_a_public_key_that_fails_the_modulus_check_is_refused():
    # FIPS 203 section 7.2: encoded coefficients of an encapsulation key must be below the modulus.
    good = sealing_key(of_our_kem_and_kdf()).public.raw
    with pytest.raises(Malformed):
        SealingPublicKey(b"\xff" * 384 + good[384:]).seal(b"content key", b"info")


def test_a_public_key_of_low_order_is_refused():
    good = sealing_key(of_our_kem_and_kdf()).public.raw
    with pytest.raises(Malformed):
        SealingPublicKey(good[:-32] + bytes(32)).seal(b"content key", b"info")


def test_the_library_opens_the_vectors_of_rfc_9180():
    suites = {
        (0x0020, 1, 2): (hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM),
        (0x0020, 1, 3): (hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305),
    }
    seen = set()
    for case in published("test-vectors.json"):
        ids = (case["kem_id"], case["kdf_id"], case["aead_id"])
        if case["mode"] or ids not in suites:
            continue
        first = case["encryptions"][0]
        opened = hpke._decrypt_with_aad(
            hpke.Suite(*suites[ids]),
            bytes.fromhex(case["enc"] + first["ct"]),
            X25519PrivateKey.from_private_bytes(bytes.fromhex(case["skRm"])),
            info=bytes.fromhex(case["info"]),
            aad=bytes.fromhex(first["aad"]),
        )
        assert opened.hex() == first["pt"]
        seen.add(ids)
    assert seen == suites.keys()
