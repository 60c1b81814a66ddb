"""COSE (RFC 9052) as this protocol uses it: Sign1, Encrypt0 and Encrypt with HPKE key encryption.

Rules kept here for every object:

- the encoding is deterministic and tagged; protected headers are never empty;
- every header is protected, except the HPKE encapsulated key (others would be malleable);
- each object has exactly the headers that its kind names: unknown and missing ones are refused;
- the `LABEL` header says what the object is, so that no object can be taken for another.

`read_*` functions only take the bytes apart; nothing of the result may be believed before `verify` or `decrypt`.
HPKE algorithms are parameters (`HpkeAlgorithm`), so that this layer can be checked with other suites too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cbor2 import CBORTag

from crypto_core import cbor, limits
from crypto_core.errors import Malformed
from crypto_core.suite import ContentKey

Headers = Mapping[int, Any]

# Header parameters (RFC 9052 section 3.1, RFC 9360 section 2, draft-ietf-cose-hpke)
ALG: Final = 1
KID: Final = 4
X5CHAIN: Final = 33
ENCAPSULATED_KEY: Final = -4
# Private use (below -65536)
LABEL: Final = -70000
SESSION: Final = -70001
COUNTER: Final = -70002
SALT: Final = -70003
REQUEST_HASH: Final = -70004
LETTER: Final = -70005
SENDER: Final = -70006
RECIPIENT: Final = -70007
COMMITMENT: Final = -70008
BODY_HASH: Final = -70009
COOKIE: Final = -70010
KDF: Final = -70011
DOCUMENT: Final = -70012
DOCUMENT_SIGNATURE: Final = -70013
ATTACHMENTS: Final = -70014

# Algorithms
ALG_ED25519: Final = -19  # RFC 9864
ALG_ESP256: Final = -9  # RFC 9864
ALG_A256GCM: Final = 3  # RFC 9053 section 4.1
#: Private use: A256GCM whose key and IV come from the content key by HKDF, with a key commitment (see sealed.py)
ALG_A256GCM_COMMITTING: Final = -71001
#: Private use, until HPKE-9-KE of the post-quantum COSE-HPKE draft has its registered number
ALG_HPKE_9_KE: Final = -71009

_NAMES: Final = frozenset({int})  #: types of a header's name
_TAG_ENCRYPT0: Final = 16
_TAG_SIGN1: Final = 18
_TAG_ENCRYPT: Final = 96


class Signer(Protocol):
    """Anything that signs bytes as its COSE algorithm wants it."""

    def sign(self, data: bytes) -> bytes: ...


class Verifier(Protocol):
    """Anything that verifies; raises SignatureInvalid."""

    def verify(self, signature: bytes, data: bytes) -> None: ...


class HpkeSealer(Protocol):
    """HPKE SealBase to one public key: (encapsulated key, ciphertext)."""

    def seal(self, plaintext: bytes, info: bytes) -> tuple[bytes, bytes]: ...


class HpkeOpener(Protocol):
    """HPKE OpenBase; raises DecryptionFailed."""

    def open(self, encapsulated_key: bytes, ciphertext: bytes, info: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Sign1:
    """A parsed COSE_Sign1 (section 4.2). Its payload is to be used only after `verify`."""

    protected: bytes
    headers: Headers
    unverified_payload: bytes
    signature: bytes

    def verify(self, key: Verifier, external_aad: bytes = b"") -> bytes:
        """The payload. Raises SignatureInvalid."""
        key.verify(self.signature, _sig_structure(self.protected, external_aad, self.unverified_payload))
        return self.unverified_payload


@dataclass(frozen=True, slots=True)
class Encrypt0:
    """A parsed COSE_Encrypt0 (section 5.2)."""

    protected: bytes
    headers: Headers
    ciphertext: bytes

    def decrypt(self, key: ContentKey, external_aad: bytes = b"") -> bytes:
        """The plaintext. Raises DecryptionFailed."""
        return key.decrypt(self.ciphertext, _enc_structure("Encrypt0", self.protected, external_aad))


@dataclass(frozen=True, slots=True)
class Recipient:
    """A parsed COSE_recipient (section 5.1) in HPKE key-encryption mode."""

    protected: bytes
    headers: Headers
    encapsulated_key: bytes
    ciphertext: bytes

    def unwrap(self, key: HpkeOpener, next_layer_alg: int, extra_info: bytes) -> bytes:
        """The content-encryption key. Raises DecryptionFailed."""
        info = recipient_structure(next_layer_alg, self.protected, extra_info)
        return key.open(self.encapsulated_key, self.ciphertext, info)

    def encode(self) -> list[Any]:
        return [self.protected, {ENCAPSULATED_KEY: self.encapsulated_key}, self.ciphertext]


@dataclass(frozen=True, slots=True)
class Encrypt:
    """A parsed COSE_Encrypt (section 5.1) with HPKE recipients."""

    protected: bytes
    headers: Headers
    ciphertext: bytes
    recipients: tuple[Recipient, ...]

    def decrypt(self, key: ContentKey, external_aad: bytes = b"") -> bytes:
        """The plaintext. Raises DecryptionFailed."""
        return decrypt_content(self.protected, self.ciphertext, key, external_aad)


def sign1(key: Signer, headers: Headers, payload: bytes, external_aad: bytes = b"") -> bytes:
    """An encoded COSE_Sign1. `headers` are protected and include ALG."""
    protected = cbor.encode(dict(headers))
    signature = key.sign(_sig_structure(protected, external_aad, payload))
    return cbor.encode(CBORTag(_TAG_SIGN1, [protected, {}, payload, signature]))


def read_sign1(data: bytes, max_bytes: int = limits.ENVELOPE_BYTES) -> Sign1:
    """Takes a COSE_Sign1 apart. Raises Malformed."""
    protected, unprotected, payload, signature = _array(cbor.decode(data, max_bytes), _TAG_SIGN1, 4)
    _require_empty(unprotected)
    return Sign1(_bytes(protected), _headers(protected), _bytes(payload), _bytes(signature))


def encrypt0(key: ContentKey, headers: Headers, plaintext: bytes, external_aad: bytes = b"") -> bytes:
    """An encoded COSE_Encrypt0. `headers` are protected and include ALG."""
    protected = cbor.encode(dict(headers))
    ciphertext = key.encrypt(plaintext, _enc_structure("Encrypt0", protected, external_aad))
    return cbor.encode(CBORTag(_TAG_ENCRYPT0, [protected, {}, ciphertext]))


def read_encrypt0(data: bytes, max_bytes: int = limits.ENVELOPE_BYTES) -> Encrypt0:
    """Takes a COSE_Encrypt0 apart. Raises Malformed."""
    protected, unprotected, ciphertext = _array(cbor.decode(data, max_bytes), _TAG_ENCRYPT0, 3)
    _require_empty(unprotected)
    return Encrypt0(_bytes(protected), _headers(protected), _bytes(ciphertext))


def wrap(key: HpkeSealer, content_key: bytes, headers: Headers, next_layer_alg: int, extra_info: bytes) -> Recipient:
    """One COSE_recipient that holds `content_key` sealed with HPKE (draft-ietf-cose-hpke, key encryption).

    `headers` are the protected headers of this recipient; `extra_info` is the recipient_extra_info.
    """
    protected = cbor.encode(dict(headers))
    enc, ciphertext = key.seal(content_key, recipient_structure(next_layer_alg, protected, extra_info))
    return Recipient(protected, headers, enc, ciphertext)


def encrypt(
    key: ContentKey,
    protected: bytes,
    plaintext: bytes,
    recipients: Sequence[Recipient],
    external_aad: bytes = b"",
) -> bytes:
    """An encoded COSE_Encrypt over already wrapped recipients. `protected` is the encoded protected header."""
    ciphertext = key.encrypt(plaintext, _enc_structure("Encrypt", protected, external_aad))
    return cbor.encode(CBORTag(_TAG_ENCRYPT, [protected, {}, ciphertext, [each.encode() for each in recipients]]))


def read_encrypt(data: bytes, max_bytes: int = limits.ENVELOPE_BYTES) -> Encrypt:
    """Takes a COSE_Encrypt apart. Raises Malformed."""
    protected, unprotected, ciphertext, recipients = _array(cbor.decode(data, max_bytes), _TAG_ENCRYPT, 4)
    _require_empty(unprotected)
    if type(recipients) is not list or not recipients:
        raise Malformed("a COSE_Encrypt without recipients")
    return Encrypt(
        _bytes(protected),
        _headers(protected),
        _bytes(ciphertext),
        tuple(read_recipient(each) for each in recipients),
    )


def read_recipient(value: Any) -> Recipient:
    """Takes a decoded COSE_recipient apart. Raises Malformed."""
    if type(value) is not list or len(value) != 3:
        raise Malformed("not a COSE_recipient")
    protected, unprotected, ciphertext = value
    if type(unprotected) is not dict or list(unprotected) != [ENCAPSULATED_KEY]:
        raise Malformed("the only unprotected header of an HPKE recipient is its encapsulated key")
    return Recipient(_bytes(protected), _headers(protected), _bytes(unprotected[ENCAPSULATED_KEY]), _bytes(ciphertext))


def decrypt_content(protected: bytes, ciphertext: bytes, key: ContentKey, external_aad: bytes = b"") -> bytes:
    """The plaintext of the content layer of a COSE_Encrypt. Raises DecryptionFailed."""
    return key.decrypt(ciphertext, _enc_structure("Encrypt", protected, external_aad))


def recipient_structure(next_layer_alg: int, protected: bytes, extra_info: bytes) -> bytes:
    """The Recipient_structure of draft-ietf-cose-hpke, encoded: it is the HPKE info of key-encryption mode."""
    return cbor.encode(["HPKE Recipient", next_layer_alg, protected, extra_info])


def expect(headers: Headers, alg: int, label: str, **kinds: tuple[int, type[Any], int, int]) -> dict[str, Any]:
    """Checks that `headers` are exactly ALG, LABEL and the named ones, and returns those by name.

    Each of `kinds` is (header, type, lowest, highest): size in bytes for bytes and texts, value for integers.
    Raises Malformed.
    """
    # A loop and no smaller functions: every message has several of these, and a call takes longer than a check.
    if len(headers) != len(kinds) + 2 or ALG not in headers or LABEL not in headers:
        raise Malformed(f"{label}: the headers are not the ones of this object")
    # bool is a subclass of int: compare types too, so that an algorithm of `true` is not taken for 1
    if type(headers[ALG]) is not int or headers[ALG] != alg or headers[LABEL] != label:
        raise Malformed(f"not a {label}")
    found: dict[str, Any] = {}
    for name, (header, kind, low, high) in kinds.items():
        if header not in headers:
            raise Malformed(f"{label}: the headers are not the ones of this object")
        value = headers[header]
        if type(value) is not kind:
            raise Malformed(f"{label}: a header of the wrong type")
        if not low <= (value if kind is int else len(value)) <= high:
            raise Malformed(f"{label}: a header out of its bounds")
        found[name] = value
    return found


def label_of(headers: Headers) -> str:
    """The LABEL header, for dispatch; says nothing about authenticity. Raises Malformed."""
    label = headers.get(LABEL)
    if type(label) is not str:
        raise Malformed("a COSE object without a label")
    return label


def _sig_structure(protected: bytes, external_aad: bytes, payload: bytes) -> bytes:
    return cbor.encode(["Signature1", protected, external_aad, payload])


def _enc_structure(context: str, protected: bytes, external_aad: bytes) -> bytes:
    return cbor.encode([context, protected, external_aad])


def _array(value: Any, tag: int, length: int) -> list[Any]:
    if type(value) is not CBORTag or value.tag != tag:
        raise Malformed(f"not a COSE object with tag {tag}")
    if type(value.value) is not list or len(value.value) != length:
        raise Malformed("a COSE object with the wrong number of fields")
    return value.value


def _headers(protected: Any) -> Headers:
    headers = cbor.decode(_bytes(protected), limits.HANDSHAKE_BYTES)
    if type(headers) is not dict or not headers:
        raise Malformed("protected headers are a map that is not empty")
    if not _NAMES.issuperset(map(type, headers)):
        raise Malformed("a header with a name in text")
    return headers


def _bytes(value: Any) -> bytes:
    if type(value) is not bytes:
        raise Malformed("a byte string is missing")
    return value


def _require_empty(unprotected: Any) -> None:
    if type(unprotected) is not dict or unprotected:
        raise Malformed("unprotected headers are not allowed here")
