"""Secrets at rest: one file format for every keystore.

    COSE_Encrypt0, key and IV from Argon2id(passphrase, salt) (RFC 9106) through HKDF-Expand

Every writing draws a new salt, so that no key ever meets two plaintexts. Cost parameters stand in the protected header
and are bounded when read, so that a hostile file cannot ask for all memory.
"""

from __future__ import annotations

import secrets
import threading
import unicodedata
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from crypto_core import cbor, cose, limits, schema, suite
from crypto_core.errors import DecryptionFailed, Malformed, WrongPassphrase
from crypto_core.ids import SALT_BYTES
from crypto_core.suite import ContentKey

T = TypeVar("T")

#: RFC 9106 section 4, second recommended option: 3 passes, 4 lanes, 64 MiB
ITERATIONS: Final = 3
LANES: Final = 4
MEMORY_KIB: Final = 64 * limits.KIB
ITERATIONS_MAX: Final = 10
LANES_MAX: Final = 16
MEMORY_KIB_MAX: Final = limits.MIB  #: 1 GiB
KEYSTORE_BYTES: Final = 4 * limits.MIB
PASSPHRASE_BYTES: Final = 1024
#: One derivation of a process at a time: OpenSSL has one pool of threads for the lanes of all of them, and two that
#: meet there may wait for each other for ever. It also bounds the memory.
_TURN: Final = threading.Lock()


def seal(value: Any, label: str, passphrase: str) -> bytes:
    """The encrypted file of a schema value. `label` says which keystore it is."""
    salt = secrets.token_bytes(SALT_BYTES)
    headers = {
        cose.ALG: cose.ALG_A256GCM,
        cose.LABEL: label,
        cose.SALT: salt,
        cose.KDF: [ITERATIONS, LANES, MEMORY_KIB],
    }
    key = _key(label, passphrase, salt, ITERATIONS, LANES, MEMORY_KIB)
    return cose.encrypt0(key, headers, cbor.encode(schema.to_map(value)))


def open_(kind: type[T], data: bytes, label: str, passphrase: str) -> T:
    """The schema value of an encrypted file. Raises WrongPassphrase, Malformed or LimitExceeded."""
    message = cose.read_encrypt0(data, KEYSTORE_BYTES)
    headers = dict(message.headers)
    cost = _cost(headers.pop(cose.KDF, None))
    found = cose.expect(headers, cose.ALG_A256GCM, label, salt=(cose.SALT, bytes, SALT_BYTES, SALT_BYTES))
    try:
        plaintext = message.decrypt(_key(label, passphrase, found["salt"], *cost))
    except DecryptionFailed as error:
        raise WrongPassphrase("the passphrase is wrong, or the keystore file was changed") from error
    return schema.from_map(kind, cbor.decode(plaintext, KEYSTORE_BYTES))


def _cost(value: Any) -> tuple[int, int, int]:
    bounds = (ITERATIONS_MAX, LANES_MAX, MEMORY_KIB_MAX)
    if type(value) is not list or len(value) != 3 or any(type(each) is not int for each in value):
        raise Malformed("a keystore without its cost parameters")
    if any(not 1 <= each <= bound for each, bound in zip(value, bounds, strict=True)):
        raise Malformed("a keystore whose cost parameters are out of bounds")
    iterations, lanes, memory = value
    if memory < 8 * lanes:
        raise Malformed("a keystore whose cost parameters are out of bounds")
    return iterations, lanes, memory


def _key(label: str, passphrase: str, salt: bytes, iterations: int, lanes: int, memory_kib: int) -> ContentKey:
    # é has two spellings in Unicode: keyboards differ in which they give, and both must open the file.
    try:
        data = unicodedata.normalize("NFC", passphrase).encode("utf-8")
    except UnicodeEncodeError as error:
        raise WrongPassphrase("a passphrase is text that can be written in UTF-8") from error
    if not 1 <= len(data) <= PASSPHRASE_BYTES:
        raise WrongPassphrase(f"a passphrase has 1 to {PASSPHRASE_BYTES} bytes")
    argon2id = Argon2id(
        salt=salt, length=suite.SECRET_BYTES, iterations=iterations, lanes=lanes, memory_cost=memory_kib
    )
    with _TURN:
        derived = argon2id.derive(data)
    return ContentKey.derive(derived, label, salt)
