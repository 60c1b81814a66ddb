"""What the workers of one repository tell each other: where chains of mailboxes end now.

    message = MAC (32 bytes) ‖ deterministic CBOR [label, repository, told, [[mailbox, number, hash, time, bytes], …]]

The MAC is HMAC-SHA256 (RFC 2104) of everything behind it, under a key that only workers of this repository have. It is
verified before anything is decoded. A message is true for ever, but for the database that it is about: `told`, when it
was sealed by the clock of its worker, lets who hears it pass over what may be older than the database itself.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from crypto_core import cbor, labels, suite
from crypto_core.errors import Malformed, SignatureInvalid
from crypto_core.ids import DIGEST_BYTES, USER_ID_BYTES, Digest, Milliseconds, RepositoryId, UserId
from crypto_core.limits import KIB

MAC_BYTES: Final = 32
#: The largest message; bytes. An end takes about 90.
ENDS_BYTES: Final = 64 * KIB


class End(NamedTuple):
    """The newest entry of a mailbox: its number, hash and time, and the bytes of all entries up to it."""

    mailbox: UserId
    number: int
    hash: Digest
    time: int
    bytes: int


def seal(key: bytes, repository: RepositoryId, told: Milliseconds, ends: Sequence[End]) -> bytes:
    """The message. `key`: 32 bytes. Raises Malformed for numbers of more than 64 bits."""
    body = cbor.encode([labels.CHAIN_ENDS, repository, told, [list(each) for each in ends]])
    return hmac.digest(key, body, "sha256") + body


def read(key: bytes, repository: RepositoryId, message: bytes) -> tuple[Milliseconds, tuple[End, ...]]:
    """When it was told, and what. Raises SignatureInvalid for whatever no worker of this repository made, Malformed."""
    if len(message) > ENDS_BYTES:
        raise Malformed(f"ends of chains in more than {ENDS_BYTES} bytes")
    mac, body = message[:MAC_BYTES], message[MAC_BYTES:]
    if not suite.equal(mac, hmac.digest(key, body, "sha256")):
        raise SignatureInvalid("ends of chains that no worker of this repository told")
    match cbor.decode(body, ENDS_BYTES):
        case [labels.CHAIN_ENDS, named, told, list(found)] if named == repository and _is_number(told):
            return Milliseconds(told), tuple(map(_end, found))
    raise Malformed("not the ends of chains of this repository")


def _end(found: Any) -> End:
    match found:
        case [bytes(mailbox), int(number), bytes(digest), int(time), int(size)] if (
            len(mailbox) == USER_ID_BYTES and len(digest) == DIGEST_BYTES and all(map(_is_number, (number, time, size)))
        ):
            return End(UserId(mailbox), number, Digest(digest), time, size)
    raise Malformed("not the end of a chain")


def _is_number(value: object) -> bool:
    return type(value) is int and value >= 0
