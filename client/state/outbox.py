"""The outbox: envelopes with an effect that were published, or are about to be, and have no valid reply yet.

    outbox/<hash>/command    the command as it was sealed into the envelope (a sealed letter, a sealed receipt or a
                             public document: nothing that the repository may not see), for a later session
    outbox/<hash>/envelope   the envelope, session and counter; the nonce, sealed under the session's own secret

Both are on disk before the envelope is published, and go after a valid reply. A retry sends the same bytes; only when
the session is over is the same command put into a new envelope. Nothing is ever sealed twice for its readers.

Two processes in one home may send the same command again at the same time: it has its effect once, both get an
equivalent reply, and the first one to have it removes the entry. So an entry may vanish at any moment.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from client.state import files
from client.state.home import Home
from crypto_core import cbor, commands, cose, labels, limits, schema, suite
from crypto_core.commands import Command
from crypto_core.envelope import TrafficKeys
from crypto_core.errors import ProtocolError
from crypto_core.ids import SALT_BYTES, Digest, LetterIdField, NonceField, SessionId, SessionIdField, UserIdField
from crypto_core.schema import Range, Size
from crypto_core.suite import ContentKey

SEALED_NONCE_BYTES: Final = 512
_COMMAND: Final = "command"
_ENVELOPE: Final = "envelope"


@dataclass(frozen=True, slots=True)
class Sealed:
    """An envelope that is ready to be published, with what is needed to take its reply.

    `digest`: its SHA-256, which the reply is bound to.
    """

    session: SessionId
    counter: int
    nonce: bytes = field(repr=False)
    envelope: bytes = field(repr=False)
    digest: Digest = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", suite.sha256(self.envelope))


@dataclass(frozen=True, slots=True)
class _EnvelopeFile:
    session: SessionIdField
    counter: Annotated[int, Range(1, limits.COUNTER_MAX)]
    nonce: Annotated[bytes, Size(1, SEALED_NONCE_BYTES)]
    envelope: Annotated[bytes, Size(1, limits.ENVELOPE_BYTES)]


@dataclass(frozen=True, slots=True)
class _CommandFile:
    user: UserIdField
    letter: LetterIdField | None
    name: Annotated[str, Size(1, 16)]


@dataclass(frozen=True, slots=True)
class _Nonce:
    nonce: NonceField


@dataclass(frozen=True, slots=True)
class Pending:
    """A command without its reply. `user` is who gave it; `letter` is the letter that it is about, if any."""

    folder: Path
    user: bytes
    letter: bytes | None
    command: Command


class Outbox:
    """The outbox of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def put(self, user: bytes, letter: bytes | None, command: Command, sealed: Sealed, keys: TrafficKeys) -> Pending:
        """Keeps command and envelope, on disk when this returns. Raises OSError."""
        folder = self._home.outbox / sealed.digest.hex()
        pending = Pending(folder, user, letter, command)
        self.renew(pending, sealed, keys)
        # The command comes last: with it the entry begins to count, and another process may take it up.
        head = schema.to_map(_CommandFile(user, letter, commands.name_of(command)))  # type: ignore[arg-type]
        files.write(folder / _COMMAND, cbor.encode({**head, "arguments": schema.to_map(command)}))
        files.sync_folder(self._home.outbox)
        return pending

    def renew(self, pending: Pending, sealed: Sealed, keys: TrafficKeys) -> None:
        """Keeps another envelope for the same command, in a later session."""
        nonce = _seal(keys, sealed.nonce)
        found = _EnvelopeFile(sealed.session, sealed.counter, nonce, sealed.envelope)
        files.write(pending.folder / _ENVELOPE, cbor.encode(schema.to_map(found)))

    def all(self) -> list[Pending]:
        """What has no reply yet, oldest first. Raises LocalState for a damaged file."""
        found = []
        for folder in self._home.outbox.glob("*"):
            with contextlib.suppress(FileNotFoundError):
                written = (folder / _COMMAND).stat().st_mtime_ns
                data = files.read(folder / _COMMAND)
                if data is not None:
                    found.append((written, _load(folder, data)))
        return [pending for _, pending in sorted(found, key=lambda each: each[0])]

    def envelope(self, pending: Pending, keys: TrafficKeys) -> Sealed | None:
        """The envelope of this session; None when it was sealed in another one."""
        data = files.read(pending.folder / _ENVELOPE)
        if data is None:
            return None
        try:
            found = schema.from_map(_EnvelopeFile, cbor.decode(data, files.STATE_FILE_BYTES))
            if found.session != keys.session:
                return None
            return Sealed(found.session, found.counter, _open(keys, found.nonce), found.envelope)
        except ProtocolError as error:
            raise files.unusable(pending.folder / _ENVELOPE, str(error)) from error

    def remove(self, pending: Pending) -> None:
        """After a valid reply. The command goes first: without it the folder means nothing."""
        try:
            files.remove(pending.folder / _COMMAND)
            files.remove(pending.folder / _ENVELOPE)
            pending.folder.rmdir()
        except OSError as error:
            # Another process removed it first, or is just writing another envelope, which it will remove itself.
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise


def _load(folder: Path, data: bytes) -> Pending:
    try:
        value: Any = cbor.decode(data, files.STATE_FILE_BYTES)
        arguments = value.pop("arguments", None) if type(value) is dict else None
        head = schema.from_map(_CommandFile, value)
        command = schema.from_map(commands.COMMANDS[head.name], arguments)
    except (ProtocolError, KeyError) as error:
        raise files.unusable(folder / _COMMAND, str(error)) from error
    return Pending(folder, head.user, head.letter, command)


def _seal(keys: TrafficKeys, nonce: bytes) -> bytes:
    salt = secrets.token_bytes(SALT_BYTES)
    headers = {cose.ALG: cose.ALG_A256GCM, cose.LABEL: labels.CLIENT_SESSION, cose.SALT: salt}
    return cose.encrypt0(_key(keys, salt), headers, cbor.encode(schema.to_map(_Nonce(nonce))))


def _open(keys: TrafficKeys, data: bytes) -> bytes:
    message = cose.read_encrypt0(data, SEALED_NONCE_BYTES)
    found = cose.expect(
        message.headers, cose.ALG_A256GCM, labels.CLIENT_SESSION, salt=(cose.SALT, bytes, SALT_BYTES, SALT_BYTES)
    )
    plaintext = message.decrypt(_key(keys, found["salt"]))
    return schema.from_map(_Nonce, cbor.decode(plaintext, SEALED_NONCE_BYTES)).nonce


def _key(keys: TrafficKeys, salt: bytes) -> ContentKey:
    return ContentKey.derive(keys.client_to_repository, labels.CLIENT_SESSION, keys.session, salt)
