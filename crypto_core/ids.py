"""Names for values that must not be mixed, with their sizes."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
import secrets
from typing import Annotated, Final, NewType

from crypto_core.errors import Malformed
from crypto_core.moments import MOMENT_MAX
from crypto_core.schema import Moment, Range, Size

UserId = NewType("UserId", bytes)
"""SHA-224 of a citizen's authentication certificate in PEM: 28 bytes."""
LetterId = NewType("LetterId", bytes)
"""128 random bits, chosen by the sender's client: 16 bytes."""
AttachmentId = NewType("AttachmentId", bytes)
"""128 random bits, chosen anew for every key that an attachment is sealed under: 16 bytes."""
SessionId = NewType("SessionId", bytes)
"""128 random bits, chosen by the repository: 16 bytes."""
Digest = NewType("Digest", bytes)
"""A SHA-256 value: 32 bytes."""
RepositoryId = NewType("RepositoryId", str)
"""32 lower-case base32 characters, derived from the operator root: see `crypto_core.descriptor`."""
Milliseconds = NewType("Milliseconds", int)
"""A moment: milliseconds since 1970-01-01T00:00:00Z."""

USER_ID_BYTES: Final = 28
LETTER_ID_BYTES: Final = 16
ATTACHMENT_ID_BYTES: Final = 16
SESSION_ID_BYTES: Final = 16
DIGEST_BYTES: Final = 32
NONCE_BYTES: Final = 32
SALT_BYTES: Final = 32
REPOSITORY_ID_CHARACTERS: Final = 32
INSTALLATION_CHARACTERS: Final = 26

# The same, as schema fields
UserIdField = Annotated[UserId, Size(USER_ID_BYTES, USER_ID_BYTES)]
LetterIdField = Annotated[LetterId, Size(LETTER_ID_BYTES, LETTER_ID_BYTES)]
AttachmentIdField = Annotated[AttachmentId, Size(ATTACHMENT_ID_BYTES, ATTACHMENT_ID_BYTES)]
SessionIdField = Annotated[SessionId, Size(SESSION_ID_BYTES, SESSION_ID_BYTES)]
DigestField = Annotated[Digest, Size(DIGEST_BYTES, DIGEST_BYTES)]
NonceField = Annotated[bytes, Size(NONCE_BYTES, NONCE_BYTES)]
RepositoryIdField = Annotated[RepositoryId, Size(REPOSITORY_ID_CHARACTERS, REPOSITORY_ID_CHARACTERS)]
MomentField = Annotated[Milliseconds, Range(0, MOMENT_MAX), Moment()]

_BASE32 = re.compile(r"[a-z2-7]+\Z")


def new_letter_id() -> LetterId:
    return LetterId(secrets.token_bytes(LETTER_ID_BYTES))


def new_attachment_id() -> AttachmentId:
    return AttachmentId(secrets.token_bytes(ATTACHMENT_ID_BYTES))


def new_session_id() -> SessionId:
    return SessionId(secrets.token_bytes(SESSION_ID_BYTES))


def new_nonce() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)


def base32(data: bytes, characters: int) -> str:
    """The first `characters` characters of the lower-case base32 form (RFC 4648 section 6, no padding) of `data`."""
    return base64.b32encode(data).decode("ascii").lower().rstrip("=")[:characters]


# Every reply asks for it. Bounded, and nothing in it is secret.
@functools.lru_cache(maxsize=4096)
def installation_of(app_key: bytes) -> str:
    """The name of an installation in queue names: 26 base32 characters of the SHA-256 of its app key (32 bytes raw)."""
    return base32(hashlib.sha256(app_key).digest(), INSTALLATION_CHARACTERS)


def repository_id(text: str) -> RepositoryId:
    """Checks the form of a repository id. Raises Malformed."""
    if len(text) != REPOSITORY_ID_CHARACTERS or not _BASE32.match(text):
        raise Malformed("a repository id is 32 lower-case base32 characters")
    return RepositoryId(text)
