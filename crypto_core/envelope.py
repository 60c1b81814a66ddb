"""Command and reply envelopes.

    command = Sign1(app key,        Encrypt0(command key n, body))   header: session, n, salt[, cookie]
    reply   = Sign1(repository key, Encrypt0(reply key n, body))     header: session, n, salt, hash of the request

Both inner parts have the outer protected header as associated data. The key of a command comes from the
client-to-repository secret with session, counter and salt; the key of a reply also from the request's hash, with a
salt that is new for every reply made, so that two workers that answer one envelope never use one key twice.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any, Final

from crypto_core import cbor, cose, labels, limits, suite
from crypto_core.errors import BindingMismatch, Malformed
from crypto_core.ids import DIGEST_BYTES, SALT_BYTES, SESSION_ID_BYTES, Digest, SessionId
from crypto_core.keys import SigningKey, VerifyKey
from crypto_core.suite import ContentKey

COOKIE_BYTES: Final = 2 * limits.KIB
CONFIRM_COUNTER: Final = 0


@dataclass(frozen=True, slots=True)
class TrafficKeys:
    """The two traffic secrets of a session, 32 bytes each."""

    session: SessionId
    client_to_repository: bytes = field(repr=False)
    repository_to_client: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CommandEnvelope:
    """A parsed command envelope: nothing but its form is checked before `open`."""

    label: str
    session: SessionId
    counter: int
    salt: bytes
    cookie: bytes | None
    request_hash: Digest
    _message: cose.Sign1

    def verify(self, app_key: VerifyKey) -> VerifiedCommand:
        """The envelope as its app signed it. Raises SignatureInvalid."""
        return VerifiedCommand(self, self._message.verify(app_key), self._message.protected)

    def open(self, app_key: VerifyKey, keys: TrafficKeys) -> bytes:
        """The body. Raises BindingMismatch, then SignatureInvalid, then DecryptionFailed, or Malformed."""
        self.require_session(keys)
        return self.verify(app_key).open(keys)

    def require_session(self, keys: TrafficKeys) -> None:
        """Raises BindingMismatch unless these are the keys of the session that the envelope names."""
        if keys.session != self.session:
            raise BindingMismatch("the envelope belongs to another session")


@dataclass(frozen=True, slots=True)
class VerifiedCommand:
    """A command envelope whose signature holds."""

    envelope: CommandEnvelope
    _payload: bytes = field(repr=False)
    _protected: bytes = field(repr=False)

    def open(self, keys: TrafficKeys) -> bytes:
        """The body. Raises DecryptionFailed, BindingMismatch or Malformed."""
        envelope = self.envelope
        envelope.require_session(keys)
        inner = cose.read_encrypt0(self._payload)
        cose.expect(inner.headers, cose.ALG_A256GCM, labels.COMMAND_SEAL)
        return inner.decrypt(_command_key(keys, envelope.label, envelope.counter, envelope.salt), self._protected)


def seal_command(app_key: SigningKey, keys: TrafficKeys, counter: int, body: bytes) -> bytes:
    """An encoded command envelope under counter `counter`, from 1. A counter is used for one envelope only."""
    if not 1 <= counter <= limits.COUNTER_MAX:
        raise Malformed("the counter is out of its bounds: negotiate a new session")
    return _seal(app_key, keys, labels.COMMAND, counter, body, {})


def seal_confirm(app_key: SigningKey, keys: TrafficKeys, cookie: bytes, body: bytes) -> bytes:
    """The confirm envelope: command 0, which returns the repository's cookie."""
    return _seal(app_key, keys, labels.CONFIRM, CONFIRM_COUNTER, body, {cose.COOKIE: cookie})


def read_command(data: bytes) -> CommandEnvelope:
    """Takes a command or confirm envelope apart. Raises Malformed or LimitExceeded."""
    return from_message(cose.read_sign1(data, limits.ENVELOPE_BYTES), suite.sha256(data))


def from_message(message: cose.Sign1, request_hash: Digest) -> CommandEnvelope:
    """As `read_command`, from a COSE_Sign1 that was taken apart already."""
    label = cose.label_of(message.headers)
    if label not in (labels.COMMAND, labels.CONFIRM):
        raise Malformed("neither a command nor a confirm")
    confirm = label == labels.CONFIRM
    wanted: dict[str, tuple[int, type[Any], int, int]] = {
        "session": (cose.SESSION, bytes, SESSION_ID_BYTES, SESSION_ID_BYTES),
        "counter": (
            cose.COUNTER,
            int,
            0 if confirm else 1,
            CONFIRM_COUNTER if confirm else limits.COUNTER_MAX,
        ),
        "salt": (cose.SALT, bytes, SALT_BYTES, SALT_BYTES),
    }
    if confirm:
        wanted["cookie"] = (cose.COOKIE, bytes, 1, COOKIE_BYTES)
    found = cose.expect(message.headers, cose.ALG_ED25519, label, **wanted)
    return CommandEnvelope(
        label, found["session"], found["counter"], found["salt"], found.get("cookie"), request_hash, message
    )


def seal_reply(key: SigningKey, keys: TrafficKeys, counter: int, request_hash: Digest, body: bytes) -> bytes:
    """An encoded reply to the request with this counter and hash. Every call draws a new salt."""
    salt = secrets.token_bytes(SALT_BYTES)
    headers = {
        cose.ALG: cose.ALG_ED25519,
        cose.LABEL: labels.REPLY,
        cose.SESSION: keys.session,
        cose.COUNTER: counter,
        cose.SALT: salt,
        cose.REQUEST_HASH: request_hash,
    }
    inner = cose.encrypt0(
        _reply_key(keys, counter, salt, request_hash),
        {cose.ALG: cose.ALG_A256GCM, cose.LABEL: labels.REPLY_SEAL},
        body,
        cbor.encode(headers),
    )
    return cose.sign1(key, headers, inner)


def open_reply(data: bytes, repository_key: VerifyKey, keys: TrafficKeys, counter: int, request_hash: Digest) -> bytes:
    """The body of a reply of this repository to this request.

    Raises Malformed, SignatureInvalid, BindingMismatch (a reply to something else) or DecryptionFailed. The caller
    then compares the nonce in the body.
    """
    message = cose.read_sign1(data, limits.ENVELOPE_BYTES)
    payload = message.verify(repository_key)
    found = cose.expect(
        message.headers,
        cose.ALG_ED25519,
        labels.REPLY,
        session=(cose.SESSION, bytes, SESSION_ID_BYTES, SESSION_ID_BYTES),
        counter=(cose.COUNTER, int, 0, limits.COUNTER_MAX),
        salt=(cose.SALT, bytes, SALT_BYTES, SALT_BYTES),
        request=(cose.REQUEST_HASH, bytes, DIGEST_BYTES, DIGEST_BYTES),
    )
    if (found["session"], found["counter"], found["request"]) != (keys.session, counter, request_hash):
        raise BindingMismatch("the reply answers another request")
    inner = cose.read_encrypt0(payload)
    cose.expect(inner.headers, cose.ALG_A256GCM, labels.REPLY_SEAL)
    return inner.decrypt(_reply_key(keys, counter, found["salt"], request_hash), message.protected)


def _seal(app_key: SigningKey, keys: TrafficKeys, label: str, counter: int, body: bytes, more: dict[int, Any]) -> bytes:
    salt = secrets.token_bytes(SALT_BYTES)
    headers = {
        cose.ALG: cose.ALG_ED25519,
        cose.LABEL: label,
        cose.SESSION: keys.session,
        cose.COUNTER: counter,
        cose.SALT: salt,
        **more,
    }
    inner = cose.encrypt0(
        _command_key(keys, label, counter, salt),
        {cose.ALG: cose.ALG_A256GCM, cose.LABEL: labels.COMMAND_SEAL},
        body,
        cbor.encode(headers),
    )
    return cose.sign1(app_key, headers, inner)


def _command_key(keys: TrafficKeys, label: str, counter: int, salt: bytes) -> ContentKey:
    return ContentKey.derive(keys.client_to_repository, label, keys.session, counter, salt)


def _reply_key(keys: TrafficKeys, counter: int, salt: bytes, request_hash: Digest) -> ContentKey:
    return ContentKey.derive(keys.repository_to_client, labels.REPLY, keys.session, counter, salt, request_hash)
