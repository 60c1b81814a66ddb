"""What the repository keeps sealed: sessions, under a key-encryption key (KEK), and shares of letters.

Cookies travel through the client between answer and confirm; records lie in the database afterwards. Both are sealed
with the session id in the protected header, so that who writes the database cannot move a record to another session.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

from crypto_core import cbor, cose, labels, schema, suite
from crypto_core.descriptor import EPOCH_MAX
from crypto_core.envelope import COOKIE_BYTES, TrafficKeys
from crypto_core.errors import DecryptionFailed
from crypto_core.ids import (
    LETTER_ID_BYTES,
    SALT_BYTES,
    SESSION_ID_BYTES,
    USER_ID_BYTES,
    DigestField,
    LetterId,
    MomentField,
    SessionId,
    SessionIdField,
    UserId,
    UserIdField,
)
from crypto_core.keys import ED25519_BYTES, VerifyKey
from crypto_core.schema import Range, Size
from crypto_core.suite import ContentKey

KEK_ID_BYTES: Final = 16
SecretField = Annotated[bytes, Size(suite.SECRET_BYTES, suite.SECRET_BYTES)]
EpochField = Annotated[int, Range(1, EPOCH_MAX)]


@dataclass(frozen=True, slots=True)
class KeyEncryptionKey:
    """A KEK with its id (16 bytes). Rotates daily; a record names the id that it is sealed under."""

    id: bytes
    key: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> KeyEncryptionKey:
        return cls(secrets.token_bytes(KEK_ID_BYTES), secrets.token_bytes(suite.SECRET_BYTES))


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as the workers share it. `user` is absent in a session without a login.

    `epoch` is the one in which it was negotiated: its replies are signed with that epoch's key.
    `confirm_hash` is the hash of the confirm envelope, so that a repeated confirm is known from another one.
    """

    session: SessionIdField
    app_key: Annotated[bytes, Size(ED25519_BYTES, ED25519_BYTES)]
    user: UserIdField | None
    epoch: EpochField
    client_to_repository: SecretField = field(repr=False)
    repository_to_client: SecretField = field(repr=False)
    confirm_hash: DigestField
    expires: MomentField

    @property
    def keys(self) -> TrafficKeys:
        return TrafficKeys(self.session, self.client_to_repository, self.repository_to_client)

    @property
    def verify_key(self) -> VerifyKey:
        return VerifyKey(self.app_key)


@dataclass(frozen=True, slots=True)
class Cookie:
    """What the repository needs at confirm, and keeps nowhere else until then."""

    session: SessionIdField
    app_key: Annotated[bytes, Size(ED25519_BYTES, ED25519_BYTES)]
    transcript: DigestField
    epoch: EpochField
    client_to_repository: SecretField = field(repr=False)
    repository_to_client: SecretField = field(repr=False)
    finished: SecretField = field(repr=False)
    expires: MomentField

    @property
    def keys(self) -> TrafficKeys:
        return TrafficKeys(self.session, self.client_to_repository, self.repository_to_client)

    @property
    def verify_key(self) -> VerifyKey:
        return VerifyKey(self.app_key)


def seal_cookie(kek: KeyEncryptionKey, cookie: Cookie) -> bytes:
    return _seal(kek, labels.COOKIE, cookie.session, cbor.encode(schema.to_map(cookie)))


def open_cookie(keks: Mapping[bytes, KeyEncryptionKey], session: SessionId, data: bytes) -> Cookie:
    """Raises Malformed, or DecryptionFailed for a cookie of another session, of another repository, or too old."""
    return schema.from_map(Cookie, cbor.decode(_open(keks, labels.COOKIE, session, data), COOKIE_BYTES))


def seal_record(kek: KeyEncryptionKey, record: SessionRecord) -> bytes:
    return _seal(kek, labels.SESSION_RECORD, record.session, cbor.encode(schema.to_map(record)))


def open_record(keks: Mapping[bytes, KeyEncryptionKey], session: SessionId, data: bytes) -> SessionRecord:
    """Raises Malformed, or DecryptionFailed for a record of another session or under a destroyed KEK."""
    return schema.from_map(SessionRecord, cbor.decode(_open(keks, labels.SESSION_RECORD, session, data), COOKIE_BYTES))


def kek_id_of(data: bytes) -> bytes:
    """The id of the KEK that a cookie or record names. Raises Malformed, or DecryptionFailed when it names none."""
    found = cose.read_encrypt0(data, COOKIE_BYTES).headers.get(cose.KID)
    if type(found) is not bytes or len(found) != KEK_ID_BYTES:
        raise DecryptionFailed("a record without the id of its key")
    return found


def seal_share(secret: bytes, letter: LetterId, author: UserId, recipient: UserId, share: bytes) -> bytes:
    """A second share as it lies in the database, under a secret (32 bytes) that does not lie there.

    Bound to letter, author and recipient: who writes the database cannot have it released for another one.
    """
    salt = secrets.token_bytes(SALT_BYTES)
    headers = {
        cose.ALG: cose.ALG_A256GCM,
        cose.LABEL: labels.STORED_SHARE,
        cose.LETTER: letter,
        cose.SENDER: author,
        cose.RECIPIENT: recipient,
        cose.SALT: salt,
    }
    return cose.encrypt0(_share_key(secret, letter, author, recipient, salt), headers, share)


def open_share(secret: bytes, letter: LetterId, author: UserId, recipient: UserId, data: bytes) -> bytes:
    """Raises Malformed, or DecryptionFailed for a share of another letter or person, or under another secret."""
    message = cose.read_encrypt0(data, COOKIE_BYTES)
    found = cose.expect(
        message.headers,
        cose.ALG_A256GCM,
        labels.STORED_SHARE,
        letter=(cose.LETTER, bytes, LETTER_ID_BYTES, LETTER_ID_BYTES),
        author=(cose.SENDER, bytes, USER_ID_BYTES, USER_ID_BYTES),
        recipient=(cose.RECIPIENT, bytes, USER_ID_BYTES, USER_ID_BYTES),
        salt=(cose.SALT, bytes, SALT_BYTES, SALT_BYTES),
    )
    if (found["letter"], found["author"], found["recipient"]) != (letter, author, recipient):
        raise DecryptionFailed("a share of another letter, or of somebody else")
    return message.decrypt(_share_key(secret, letter, author, recipient, found["salt"]))


def _share_key(secret: bytes, letter: LetterId, author: UserId, recipient: UserId, salt: bytes) -> ContentKey:
    return ContentKey.derive(secret, labels.STORED_SHARE, letter, author, recipient, salt)


def _seal(kek: KeyEncryptionKey, label: str, session: SessionId, plaintext: bytes) -> bytes:
    salt = secrets.token_bytes(SALT_BYTES)
    headers = {
        cose.ALG: cose.ALG_A256GCM,
        cose.LABEL: label,
        cose.KID: kek.id,
        cose.SESSION: session,
        cose.SALT: salt,
    }
    return cose.encrypt0(ContentKey.derive(kek.key, label, kek.id, session, salt), headers, plaintext)


def _open(keks: Mapping[bytes, KeyEncryptionKey], label: str, session: SessionId, data: bytes) -> bytes:
    message = cose.read_encrypt0(data, COOKIE_BYTES)
    found = cose.expect(
        message.headers,
        cose.ALG_A256GCM,
        label,
        kek=(cose.KID, bytes, KEK_ID_BYTES, KEK_ID_BYTES),
        session=(cose.SESSION, bytes, SESSION_ID_BYTES, SESSION_ID_BYTES),
        salt=(cose.SALT, bytes, SALT_BYTES, SALT_BYTES),
    )
    kek = keks.get(found["kek"])
    if kek is None or found["session"] != session:
        raise DecryptionFailed("a record of another session, or its key was destroyed")
    return message.decrypt(ContentKey.derive(kek.key, label, kek.id, session, found["salt"]))
