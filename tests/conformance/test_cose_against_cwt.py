"""Our COSE layer against python-cwt, both ways: what one side makes, the other verifies or opens.

python-cwt knows only the classical HPKE suites, so the layer is compared with those; small adapters put them behind
the protocols that our sealing keys implement. The post-quantum KEM itself is checked in `tests/vectors/test_hpke.py`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cbor2 import CBORTag
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from crypto_core import cbor, cose
from crypto_core.errors import DecryptionFailed, Malformed, SignatureInvalid
from crypto_core.suite import ContentKey
from tests.support.protocol import p256_key, p256_public, seed, signing_key

PEER_PYTHON = Path(__file__).parents[2] / ".venv" / "cwt-env" / "bin" / "python"
PEER_PROGRAM = Path(__file__).with_name("cwt_peer.py")
ANSWER_SECONDS = 30

PAYLOAD = "Olá! Segue a ata da reunião.".encode()
AAD = b"external data"
CONTENT = ContentKey(seed("content key", 32), seed("content iv", 12))
IV = 5


class Refused(Exception):
    """python-cwt refuses."""


class Peer:
    """python-cwt in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [PEER_PYTHON, PEER_PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def ask(self, do: str, **request: Any) -> bytes:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"do": do, **request}, default=as_json) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "refused" in answer:
            raise Refused(answer["refused"])
        return bytes.fromhex(answer["result"])

    def close(self) -> None:
        self._process.communicate(timeout=ANSWER_SECONDS)


def as_json(value: Any) -> str:
    return value.hex()


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    if not PEER_PYTHON.exists():
        pytest.fail(f"{PEER_PYTHON} is missing; `./bootstrap.sh test` makes it")
    process = Peer()
    yield process
    process.close()


def raw(data: bytes) -> dict[str, str]:
    return {"hex": data.hex()}


def peer_headers(headers: dict[int, Any]) -> dict[str, Any]:
    return {str(name): raw(value) if isinstance(value, bytes) else value for name, value in headers.items()}


# ---------------------------------------------------------------------------------------------------------- COSE_Sign1


def ed25519_key(*, private: bool) -> dict[str, Any]:
    key = signing_key("conformance")
    secret = {"-4": raw(key.seed)} if private else {}
    return {"1": 1, "3": cose.ALG_ED25519, "-1": 6, "-2": raw(key.public.raw), **secret}


def p256_cose_key(*, private: bool) -> dict[str, Any]:
    key = p256_key("conformance").key
    numbers = key.private_numbers()
    secret = {"-4": raw(numbers.private_value.to_bytes(32))} if private else {}
    point = numbers.public_numbers
    return {
        "1": 2,
        "3": cose.ALG_ESP256,
        "-1": 1,
        "-2": raw(point.x.to_bytes(32)),
        "-3": raw(point.y.to_bytes(32)),
        **secret,
    }


SIGNATURES = {
    "Ed25519": (
        cose.ALG_ED25519,
        lambda: signing_key("conformance"),
        lambda: signing_key("conformance").public,
        ed25519_key,
    ),
    "ESP256": (cose.ALG_ESP256, lambda: p256_key("conformance"), lambda: p256_public("conformance"), p256_cose_key),
}


@pytest.mark.parametrize("name", SIGNATURES)
@pytest.mark.parametrize("aad", [b"", AAD], ids=["no external data", "external data"])
def test_what_we_sign_cwt_verifies(peer, name, aad):
    alg, signer, _, key = SIGNATURES[name]
    message = cose.sign1(signer(), {cose.ALG: alg, cose.LABEL: "smr/1 test", cose.COUNTER: 7}, PAYLOAD, aad)
    assert peer.ask("decode", message=message, key=key(private=False), external_aad=aad) == PAYLOAD


@pytest.mark.parametrize("name", SIGNATURES)
def test_cwt_refuses_what_we_signed_when_it_was_changed(peer, name):
    alg, signer, _, key = SIGNATURES[name]
    message = cose.sign1(signer(), {cose.ALG: alg, cose.LABEL: "smr/1 test"}, PAYLOAD)
    changed = message.replace(b"smr/1 test", b"smr/1 Test")
    with pytest.raises(Refused):
        peer.ask("decode", message=changed, key=key(private=False))
    with pytest.raises(Refused):
        peer.ask("decode", message=message, key=key(private=False), external_aad=AAD)


@pytest.mark.parametrize("name", SIGNATURES)
@pytest.mark.parametrize("aad", [b"", AAD], ids=["no external data", "external data"])
def test_what_cwt_signs_we_verify(peer, name, aad):
    alg, _, verifier, key = SIGNATURES[name]
    message = peer.ask(
        "sign1", payload=PAYLOAD, key=key(private=True), protected=peer_headers({cose.ALG: alg}), external_aad=aad
    )
    parsed = cose.read_sign1(message)
    assert parsed.headers == {cose.ALG: alg}
    assert parsed.verify(verifier(), aad) == PAYLOAD
    with pytest.raises(SignatureInvalid):
        parsed.verify(verifier(), aad + b"x")


def test_ed25519_messages_are_the_same_bytes(peer):
    headers = {cose.ALG: cose.ALG_ED25519}
    theirs = peer.ask(
        "sign1", payload=PAYLOAD, key=ed25519_key(private=True), protected=peer_headers(headers), external_aad=b""
    )
    assert cose.sign1(signing_key("conformance"), headers, PAYLOAD) == theirs


# -------------------------------------------------------------------------------------------------------- COSE_Encrypt0

# Key operations: encrypt, decrypt (RFC 9052 section 7.1)
AES_KEY = {"1": 4, "3": cose.ALG_A256GCM, "4": [3, 4], "-1": raw(CONTENT.key)}


def with_iv(message: bytes) -> bytes:
    """Our IVs are derived and never sent; the other side wants to see one, unprotected."""
    found = cbor.decode(message)
    protected, _, *rest = found.value
    return cbor.encode(CBORTag(found.tag, [protected, {IV: CONTENT.iv}, *rest]))


def test_what_we_encrypt_cwt_opens(peer):
    headers = {cose.ALG: cose.ALG_A256GCM, cose.LABEL: "smr/1 test", cose.SALT: b"s" * 32}
    message = cose.encrypt0(CONTENT, headers, PAYLOAD, AAD)
    assert peer.ask("decode", message=with_iv(message), key=AES_KEY, external_aad=AAD) == PAYLOAD
    with pytest.raises(Refused):
        peer.ask("decode", message=with_iv(message), key=AES_KEY, external_aad=b"")
    with pytest.raises(Refused):
        changed = message.replace(b"smr/1 test", b"smr/1 Test")
        peer.ask("decode", message=with_iv(changed), key=AES_KEY, external_aad=AAD)


def test_what_cwt_encrypts_we_open(peer):
    message = peer.ask(
        "encrypt0",
        payload=PAYLOAD,
        key=AES_KEY,
        protected=peer_headers({cose.ALG: cose.ALG_A256GCM}),
        unprotected=peer_headers({IV: CONTENT.iv}),
        external_aad=AAD,
    )
    with pytest.raises(Malformed, match="unprotected"):
        cose.read_encrypt0(message)
    # The same object without its unprotected IV is the one that we would have made.
    found = cbor.decode(message)
    bare = cbor.encode(CBORTag(found.tag, [found.value[0], {}, found.value[2]]))
    assert cose.read_encrypt0(bare).decrypt(CONTENT, AAD) == PAYLOAD
    assert bare == cose.encrypt0(CONTENT, {cose.ALG: cose.ALG_A256GCM}, PAYLOAD, AAD)


# ------------------------------------------------------------------------------------ COSE_Encrypt with HPKE recipients


@dataclass(frozen=True)
class Classical:
    """A classical HPKE suite behind the protocols HpkeSealer and HpkeOpener."""

    alg: int
    suite: Suite
    key: Any
    encapsulated_bytes: int

    def seal(self, plaintext: bytes, info: bytes) -> tuple[bytes, bytes]:
        sealed = self.suite.encrypt(plaintext, self.key.public_key(), info=info)
        return sealed[: self.encapsulated_bytes], sealed[self.encapsulated_bytes :]

    def open(self, encapsulated_key: bytes, ciphertext: bytes, info: bytes) -> bytes:
        try:
            return self.suite.decrypt(encapsulated_key + ciphertext, self.key, info=info)
        except InvalidTag as error:
            raise DecryptionFailed("does not open") from error

    def cose_key(self, *, private: bool) -> dict[str, Any]:
        if isinstance(self.key, x25519.X25519PrivateKey):
            made = {"1": 1, "-1": 4, "-2": raw(self.key.public_key().public_bytes_raw())}
            secret = self.key.private_bytes_raw()
        else:
            point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            made = {"1": 2, "-1": 1, "-2": raw(point[1:33]), "-3": raw(point[33:])}
            secret = self.key.private_numbers().private_value.to_bytes(32)
        # Key operations: derive bits, for private keys only
        own = {"4": [8], "-4": raw(secret)} if private else {"4": []}
        return {**made, "3": self.alg, "2": raw(b"kid"), **own}


def p256_private() -> ec.EllipticCurvePrivateKey:
    return p256_key("hpke").key


def x25519_private() -> x25519.X25519PrivateKey:
    return x25519.X25519PrivateKey.from_private_bytes(seed("hpke", 32))


SUITES = {
    "HPKE-0-KE": Classical(46, Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_128_GCM), p256_private(), 65),
    "HPKE-3-KE": Classical(49, Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM), x25519_private(), 32),
    "HPKE-4-KE": Classical(50, Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305), x25519_private(), 32),
    "HPKE-7-KE": Classical(53, Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_256_GCM), p256_private(), 65),
}


@pytest.mark.parametrize("name", SUITES)
@pytest.mark.parametrize("extra", [b"", b"who, to whom, what"], ids=["no extra info", "extra info"])
def test_what_we_wrap_cwt_opens(peer, name, extra):
    suite = SUITES[name]
    protected = cbor.encode({cose.ALG: cose.ALG_A256GCM, cose.LABEL: "smr/1 test"})
    headers = {cose.ALG: suite.alg, cose.KID: b"kid"}
    recipient = cose.wrap(suite, CONTENT.key, headers, cose.ALG_A256GCM, extra)
    message = with_iv(cose.encrypt(CONTENT, protected, PAYLOAD, [recipient]))
    key = suite.cose_key(private=True)
    assert peer.ask("decode", message=message, key=key, extra_info=extra) == PAYLOAD
    with pytest.raises(Refused):
        peer.ask("decode", message=message, key=key, extra_info=extra + b"x")


@pytest.mark.parametrize("name", SUITES)
@pytest.mark.parametrize("extra", [b"", b"who, to whom, what"], ids=["no extra info", "extra info"])
def test_what_cwt_wraps_we_open(peer, name, extra):
    suite = SUITES[name]
    message = peer.ask(
        "encrypt",
        payload=PAYLOAD,
        key=AES_KEY,
        protected=peer_headers({cose.ALG: cose.ALG_A256GCM}),
        unprotected=peer_headers({IV: CONTENT.iv}),
        recipients=[
            {
                "protected": peer_headers({cose.ALG: suite.alg, cose.KID: b"kid"}),
                "key": suite.cose_key(private=False),
                "extra_info": extra,
            }
        ],
    )
    found = cbor.decode(message)
    protected, _, ciphertext, recipients = found.value
    parsed = cose.read_encrypt(cbor.encode(CBORTag(found.tag, [protected, {}, ciphertext, recipients])))
    (recipient,) = parsed.recipients
    assert recipient.unwrap(suite, cose.ALG_A256GCM, extra) == CONTENT.key
    assert parsed.decrypt(CONTENT) == PAYLOAD
    with pytest.raises(DecryptionFailed):
        recipient.unwrap(suite, cose.ALG_A256GCM, extra + b"x")
    with pytest.raises(DecryptionFailed):
        recipient.unwrap(suite, cose.ALG_A256GCM_COMMITTING, extra)
