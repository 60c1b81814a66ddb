"""Typed keys: sizes, refusals, and secrets that never show."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from crypto_core import labels, suite
from crypto_core.errors import DecryptionFailed, Malformed, SignatureInvalid
from crypto_core.keys import EcdsaSigningKey, EcdsaVerifyKey, SealingKey, SealingPublicKey, SigningKey, VerifyKey
from tests.support.protocol import kek, negotiation, p256_key, p256_public, seed


@pytest.mark.parametrize(
    ("kind", "size"), [(VerifyKey, 32), (SigningKey, 32), (SealingPublicKey, 1216), (SealingKey, 96)]
)
def test_sizes(kind, size):
    assert kind(seed("any", size))
    for wrong in (0, size - 1, size + 1):
        with pytest.raises(Malformed):
            kind(seed("any", wrong))


def test_generated_keys_are_fresh():
    assert SigningKey.generate() != SigningKey.generate()
    assert SealingKey.generate() != SealingKey.generate()


SIGNERS = {
    "Ed25519": (SigningKey(b"1" * 32), SigningKey(b"1" * 32).public, SigningKey(b"2" * 32).public),
    "ESP256": (p256_key("one"), p256_public("one"), p256_public("two")),
}


@pytest.mark.parametrize("name", SIGNERS)
def test_signatures(name):
    key, public, other = SIGNERS[name]
    signature = key.sign(b"data")
    public.verify(signature, b"data")
    for attempt in (
        lambda: public.verify(signature, b"Data"),
        lambda: public.verify(signature[:-1], b"data"),
        lambda: public.verify(signature + b"\x00", b"data"),
        lambda: public.verify(b"", b"data"),
        lambda: public.verify(bytes(64), b"data"),
        lambda: public.verify(b"\xff" * 64, b"data"),
        lambda: other.verify(signature, b"data"),
    ):
        with pytest.raises(SignatureInvalid):
            attempt()


def test_a_der_signature_is_not_a_cose_signature():
    key = p256_key("one")
    der = key.key.sign(b"data", ec.ECDSA(SHA256()))
    assert decode_dss_signature(der)
    with pytest.raises(SignatureInvalid):
        p256_public("one").verify(der, b"data")


def test_bytes_that_are_no_point_verify_nothing():
    for raw in (b"\x02" + bytes(31), b"\xff" * 32):  # y = 2 has no x on the curve; the other is out of the field
        with pytest.raises(SignatureInvalid):
            VerifyKey(raw).verify(SigningKey(b"1" * 32).sign(b"data"), b"data")


@pytest.mark.parametrize("order", [1, 2, 4, 8])
def test_public_keys_of_small_order_are_refused(order):
    # Under the identity, R = identity and S = 0 would verify for every message.
    point = {
        1: "01" + "00" * 31,
        2: "ec" + "ff" * 30 + "7f",
        4: "00" * 32,
        8: "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    }[order]
    with pytest.raises(Malformed, match="small order"):
        VerifyKey(bytes.fromhex(point))


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1()], ids=lambda curve: curve.name)
def test_other_curves_are_refused(curve):
    other = ec.generate_private_key(curve)
    with pytest.raises(Malformed):
        EcdsaSigningKey(other)
    with pytest.raises(Malformed):
        EcdsaVerifyKey(other.public_key())


def test_sealing_key_id_is_a_labelled_hash():
    public = SealingKey(seed("any", 96)).public
    assert public.key_id == suite.labelled_hash(labels.SEALING_KEY_ID, public.raw)[:16]


def test_both_parts_of_a_sealing_key_matter():
    key = SealingKey(seed("any", 96))
    sealed = key.public.seal(b"secret", b"info")
    assert key.open(*sealed, b"info") == b"secret"
    for other in (SealingKey(seed("other", 64) + key.seed[64:]), SealingKey(key.seed[:64] + seed("other", 32))):
        with pytest.raises(DecryptionFailed):
            other.open(*sealed, b"info")


def secrets_of(value, *names):
    return [getattr(value, name) for name in names]


def test_nothing_secret_shows_in_repr():
    made = negotiation()
    keks = kek()
    shown = {
        "signing key": (SigningKey(b"S" * 32), [b"S" * 32]),
        "sealing key": (SealingKey(b"S" * 96), [b"S" * 8]),
        "P-256 key": (p256_key("one"), [p256_key("one").key.private_numbers().private_value.to_bytes(32)]),
        "KEK": (keks, [keks.key]),
        "hello sent": (made.sent, [made.app_key.seed]),
        "answered": (made.answered, [made.app_key.seed, *secrets_of(made.session.keys, "client_to_repository")]),
        "confirm sent": (made.confirm_sent, secrets_of(made.session.keys, "client_to_repository")),
        "session": (made.session, secrets_of(made.session.keys, "client_to_repository", "repository_to_client")),
        "record": (made.record, secrets_of(made.session.keys, "client_to_repository", "repository_to_client")),
        "cookie": (made.opened.cookie, secrets_of(made.opened.cookie, "finished", "client_to_repository")),
        "confirm opened": (made.opened, secrets_of(made.opened.cookie, "finished", "repository_to_client")),
    }
    for name, (value, secret_bytes) in shown.items():
        for secret in secret_bytes:
            for form in (repr(secret)[2:-1], secret.hex(), str(int.from_bytes(secret))):
                assert form not in repr(value), name
                assert form not in str(value), name


def test_keys_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SigningKey(b"1" * 32).seed = b"2" * 32
