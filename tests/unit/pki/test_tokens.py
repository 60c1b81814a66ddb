"""The parts of token handling that need no token: mechanisms, choice of certificates, signature forms, frames."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from datetime import UTC, datetime, timedelta

import PyKCS11
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from pki.errors import CertificateError, CertificateMissing
from pki.identity import fingerprint
from pki.tokens import choice, mechanisms, profiles, token, wire
from pki.tokens.child import _MESSAGES, _card_error
from pki.tokens.choice import Found
from pki.tokens.profiles import CardKeyUse
from pki.tokens.serve import TokenFailure
from tests.support.hierarchy import name

HASHED = hashlib.sha256(b"data").digest()
ALL_RSA = {each.name for each in mechanisms.RSA}
ALL_EC = {each.name for each in mechanisms.ELLIPTIC}


@pytest.mark.parametrize(
    ("kind", "offered", "mechanism", "message"),
    [
        (PyKCS11.CKK_RSA, ALL_RSA, "CKM_SHA256_RSA_PKCS", b"data"),
        (PyKCS11.CKK_RSA, {"CKM_RSA_PKCS", "CKM_RSA_PKCS_PSS"}, "CKM_RSA_PKCS", mechanisms.SHA256_DIGEST_INFO + HASHED),
        (PyKCS11.CKK_RSA, {"CKM_SHA256_RSA_PKCS_PSS", "CKM_RSA_PKCS_PSS"}, "CKM_SHA256_RSA_PKCS_PSS", b"data"),
        (PyKCS11.CKK_RSA, {"CKM_RSA_PKCS_PSS", "CKM_ECDSA"}, "CKM_RSA_PKCS_PSS", HASHED),
        (PyKCS11.CKK_EC, ALL_EC, "CKM_ECDSA", HASHED),
        (PyKCS11.CKK_EC, {"CKM_ECDSA_SHA256", "CKM_RSA_PKCS"}, "CKM_ECDSA_SHA256", b"data"),
    ],
)
def test_the_mechanism_follows_from_key_and_token(kind, offered, mechanism, message):
    chosen = token.choose_mechanism(kind, offered)
    assert (chosen.name, chosen.message(b"data")) == (mechanism, message)
    assert token.native_mechanism(chosen).to_native().mechanism == getattr(PyKCS11, mechanism)


@pytest.mark.parametrize(
    ("kind", "offered"),
    [
        (PyKCS11.CKK_RSA, ALL_EC | {"CKM_MD5_RSA_PKCS", "CKM_SHA1_RSA_PKCS"}),
        (PyKCS11.CKK_EC, ALL_RSA | {"CKM_ECDSA_SHA1"}),
        (PyKCS11.CKK_DSA, ALL_RSA | ALL_EC),
    ],
)
def test_a_token_without_a_known_mechanism_is_refused(kind, offered):
    with pytest.raises(TokenFailure, match="NO_MECHANISM"):
        token.choose_mechanism(kind, offered)


@pytest.mark.parametrize(
    ("kind", "known"),
    [("RSA-3072", mechanisms.RSA), ("P-256", mechanisms.ELLIPTIC), ("secp521r1", mechanisms.ELLIPTIC), ("DSAKey", ())],
)
def test_the_kind_of_a_key_says_which_mechanisms_fit(kind, known):
    assert mechanisms.for_key_kind(kind) == known


@pytest.mark.parametrize("value", [profiles.CITIZEN_CARD, mechanisms.RSA[0]])
def test_profiles_and_mechanisms_cannot_be_changed(value):
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.name = "other"


def test_generations_are_told_by_their_keys():
    assert profiles.generation_of(profiles.CITIZEN_CARD, "RSA-3072").holds_issuers
    assert not profiles.generation_of(profiles.CITIZEN_CARD, "P-256").holds_issuers
    assert profiles.generation_of(profiles.CITIZEN_CARD, "P-521") is None


# ------------------------------------------------------------ which certificate is whose


def found(label, *, signing=False, ca=False, usage=True):
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name("João Sá"))
        .issuer_name(name("João Sá"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    if usage:
        allowed = x509.KeyUsage(not signing, signing, False, False, False, ca, ca, False, False)
        builder = builder.add_extension(allowed, critical=True)
    return Found(label, b"\x01", builder.sign(key, hashes.SHA256()))


AUTHENTICATION, SIGNATURE = CardKeyUse.AUTHENTICATION, CardKeyUse.SIGNATURE


@pytest.mark.parametrize("profile", [profiles.CITIZEN_CARD, profiles.PIV])
def test_a_card_is_told_by_its_labels(profile):
    for at in range(len(profile.certificate_labels[AUTHENTICATION])):
        authentication = found(profile.certificate_labels[AUTHENTICATION][at])
        signature = found(profile.certificate_labels[SIGNATURE][at], signing=True)
        told, chosen = choice.choose([found("Card Authentication"), signature, authentication])
        assert told is profile
        assert (chosen[AUTHENTICATION].one(), chosen[SIGNATURE].one()) == (authentication, signature)


def test_an_unknown_eid_is_read_by_what_its_keys_are_for():
    authentication, signature = found("Isikutuvastus"), found("Allkirjastamine", signing=True)
    others = [found("CA", ca=True), found("old", usage=False), Found("rubbish", b"", None)]
    told, chosen = choice.choose([*others, signature, authentication])
    assert told is profiles.GENERIC
    assert (chosen[AUTHENTICATION].one(), chosen[SIGNATURE].one()) == (authentication, signature)


def test_two_candidates_are_never_guessed_between():
    one, two = found("one"), found("two")
    _, chosen = choice.choose([one, two])
    with pytest.raises(CertificateMissing, match="--card-certificate"):
        chosen[AUTHENTICATION].one()
    _, chosen = choice.choose([one, two], fingerprint(two.certificate)[:8])
    assert chosen[AUTHENTICATION].one() == two


def test_a_certificate_that_was_named_and_is_not_there_is_none():
    _, chosen = choice.choose([found("CITIZEN AUTHENTICATION CERTIFICATE")], "00000000")
    assert chosen[AUTHENTICATION].one() is None


def test_two_certificates_of_one_label_are_refused():
    _, chosen = choice.choose([found("CITIZEN AUTHENTICATION CERTIFICATE") for _ in range(2)])
    with pytest.raises(CertificateMissing, match="unclear"):
        chosen[AUTHENTICATION].one()


def test_an_unreadable_certificate_of_the_citizen_is_refused():
    _, chosen = choice.choose([Found("CITIZEN AUTHENTICATION CERTIFICATE", b"", None)])
    with pytest.raises(CertificateError, match="cannot be read"):
        chosen[AUTHENTICATION].one()


# ------------------------------------------------------------ messages and signatures


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
        (PyKCS11.CKR_PIN_EXPIRED, False, "PIN_NOT_SET"),
        (PyKCS11.CKR_FUNCTION_CANCELED, False, "PIN_CANCELLED"),
        (PyKCS11.CKR_DEVICE_REMOVED, True, "CARD_REMOVED"),
        (PyKCS11.CKR_MECHANISM_INVALID, False, "NO_MECHANISM"),
        (PyKCS11.CKR_USER_NOT_LOGGED_IN, False, "NOT_LOGGED_IN"),
        (PyKCS11.CKR_GENERAL_ERROR, False, "FAILED"),
    ],
)
def test_return_values_become_codes(value, final, code):
    failure = token.failure(PyKCS11.PyKCS11Error(value), final)
    assert failure.code == code
    assert code in _MESSAGES


@pytest.mark.parametrize("code", [*_MESSAGES, "something new"])
def test_every_message_says_what_why_and_what_next(code):
    error = _card_error(code, "a detail {with} braces")
    assert error.what.endswith(".")
    assert error.why.endswith(".")
    assert error.action.endswith(".")
    assert "{reason}" not in str(error)


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
