"""The parts of token handling that need no token: mechanisms, signature forms, frames."""

from __future__ import annotations

import hashlib
import io

import PyKCS11
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from pki.tokens import token, wire
from pki.tokens.serve import TokenFailure

HASHED = hashlib.sha256(b"data").digest()


@pytest.mark.parametrize(
    ("kind", "offered", "mechanism", "message"),
    [
        (PyKCS11.CKK_RSA, {"CKM_RSA_PKCS", "CKM_SHA256_RSA_PKCS"}, PyKCS11.CKM_SHA256_RSA_PKCS, b"data"),
        (PyKCS11.CKK_RSA, {"CKM_RSA_PKCS"}, PyKCS11.CKM_RSA_PKCS, token._SHA256_DIGEST_INFO + HASHED),
        (PyKCS11.CKK_EC, {"CKM_ECDSA"}, PyKCS11.CKM_ECDSA, HASHED),
    ],
)
def test_the_mechanism_follows_from_key_and_token(kind, offered, mechanism, message):
    chosen, handed = token.choose_mechanism(kind, offered, b"data")
    assert (chosen._mech.mechanism, handed) == (mechanism, message)


@pytest.mark.parametrize("kind", [PyKCS11.CKK_RSA, PyKCS11.CKK_EC, PyKCS11.CKK_DSA])
def test_a_token_without_a_known_mechanism_is_refused(kind):
    with pytest.raises(TokenFailure):
        token.choose_mechanism(kind, {"CKM_MD5_RSA_PKCS"}, b"data")


def test_a_raw_ecdsa_signature_becomes_der():
    raw = (1).to_bytes(32, "big") + (2**255 + 5).to_bytes(32, "big")
    assert decode_dss_signature(token.ecdsa_der(raw)) == (1, 2**255 + 5)


@pytest.mark.parametrize("raw", [b"", bytes(63)])
def test_an_ecdsa_signature_of_odd_length_is_refused(raw):
    with pytest.raises(TokenFailure):
        token.ecdsa_der(raw)


@pytest.mark.parametrize(
    ("value", "final", "code"),
    [
        (PyKCS11.CKR_PIN_INCORRECT, False, "WRONG_PIN"),
        (PyKCS11.CKR_PIN_INCORRECT, True, "WRONG_PIN_FINAL_TRY"),
        (PyKCS11.CKR_PIN_LOCKED, False, "PIN_LOCKED"),
        (PyKCS11.CKR_DEVICE_REMOVED, False, "CARD_REMOVED"),
        (PyKCS11.CKR_GENERAL_ERROR, False, "FAILED"),
    ],
)
def test_return_values_become_codes(value, final, code):
    assert token.failure(PyKCS11.PyKCS11Error(value), final).code == code


def test_frames_survive_the_pipe():
    pipe = io.BytesIO()
    wire.write_frame(pipe, {"op": "sign", "data": b"\x00\xff"})
    pipe.seek(0)
    assert wire.read_frame(pipe) == {"op": "sign", "data": b"\x00\xff"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x00\x00\x00\x05\xa0",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xff",
        b"\x00\x00\x00\x01\x01",
        b"\x00\x00\x00\x03\xa1\x01\x01",
    ],
    ids=["closed", "half a length", "half a message", "too long", "no CBOR", "no map", "no text key"],
)
def test_what_is_no_frame_is_refused(data):
    with pytest.raises(wire.WireClosed):
        wire.read_frame(io.BytesIO(data))


def test_a_frame_over_the_limit_is_not_sent():
    with pytest.raises(wire.WireClosed):
        wire.write_frame(io.BytesIO(), {"data": bytes(wire.FRAME_BYTES_MAX)})
