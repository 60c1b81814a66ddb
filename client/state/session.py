"""The kept session: what the next commands need, so that neither PIN nor passphrase is asked at every command.

    HOME/session.cose             the session, sealed with AES-256-GCM
    MEMORY/<random>.key           the key to it: 32 random bytes in a folder that lies in memory only

MEMORY is `$XDG_RUNTIME_DIR/smr`, else `/dev/shm/smr-<uid>`; the folder must be this user's alone. A thief of the disk
gets nothing, and after a restart of the machine the session is gone; RENEW_MS before the
repository would end it (limits.SESSION_MS at most), it is not used any more.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

from client.state import files
from client.state.home import Home
from client.state.keystore import SEALING_KEYS, BrokerAccount
from crypto_core import cbor, cose, labels, limits, schema, suite
from crypto_core.documents import SignedDocument
from crypto_core.envelope import TrafficKeys
from crypto_core.errors import ProtocolError
from crypto_core.ids import (
    SALT_BYTES,
    DigestField,
    Milliseconds,
    MomentField,
    RepositoryIdField,
    SessionIdField,
    UserIdField,
)
from crypto_core.keys import (
    ED25519_BYTES,
    SEALING_PUBLIC_BYTES,
    SEALING_SEED_BYTES,
    SealingKey,
    SealingPublicKey,
    SigningKey,
    VerifyKey,
)
from crypto_core.records import SecretField
from crypto_core.schema import Range, Size
from crypto_core.suite import ContentKey

RENEW_MS: Final = 10 * limits.MINUTE_MS  #: a session this near to its end is not used for another command
RENEW_COMMANDS: Final = 100  #: … nor one with so few commands left
_KEY_ID_BYTES: Final = 16
_KEY_NAME: Final = re.compile(r"[0-9a-f]{32}")
_SESSION_BYTES: Final = limits.MIB


@dataclass(frozen=True, slots=True)
class OwnRegistration:
    """The citizen's own registration, as it was verified when the session was opened."""

    document: DigestField
    revision: Annotated[int, Range(1, 2**31 - 1)]
    sealing_key: Annotated[bytes, Size(SEALING_PUBLIC_BYTES, SEALING_PUBLIC_BYTES)]
    signs_with_signature_key: bool


@dataclass(frozen=True, slots=True)
class LiveSession:
    """An active session with all that commands need. `user` and `own` are absent in a session without a login."""

    repository: RepositoryIdField
    epoch: Annotated[int, Range(1, 2**31 - 1)]
    repository_key: Annotated[bytes, Size(ED25519_BYTES, ED25519_BYTES)]
    session: SessionIdField
    client_to_repository: SecretField = field(repr=False)
    repository_to_client: SecretField = field(repr=False)
    app_seed: Annotated[bytes, Size(ED25519_BYTES, ED25519_BYTES)] = field(repr=False)
    account: BrokerAccount | None
    user: UserIdField | None
    own: OwnRegistration | None
    sealing_seeds: Annotated[
        tuple[Annotated[bytes, Size(SEALING_SEED_BYTES, SEALING_SEED_BYTES)], ...], Size(0, SEALING_KEYS)
    ] = field(repr=False)
    expires: MomentField
    command_limit: Annotated[int, Range(1, limits.SESSION_COMMANDS)]
    body_limit: Annotated[int, Range(1, limits.BODY_BYTES)]
    recipient_limit: Annotated[int, Range(1, limits.RECIPIENTS)]
    login: SignedDocument | None = None  #: what the card signed for this session

    @property
    def keys(self) -> TrafficKeys:
        return TrafficKeys(self.session, self.client_to_repository, self.repository_to_client)

    @property
    def app_key(self) -> SigningKey:
        return SigningKey(self.app_seed)

    @property
    def verify_key(self) -> VerifyKey:
        return VerifyKey(self.repository_key)

    def sealing_keys(self) -> Mapping[bytes, SealingKey]:
        """The citizen's sealing keys by key id."""
        keys = (SealingKey(seed) for seed in self.sealing_seeds)
        return {key.public.key_id: key for key in keys}

    def own_sealing_key(self) -> SealingPublicKey | None:
        return SealingPublicKey(self.own.sealing_key) if self.own else None

    def usable(self, now: Milliseconds, counters_used: int) -> bool:
        """Whether it has time and commands left."""
        return now < self.expires - RENEW_MS and counters_used < self.command_limit - RENEW_COMMANDS


class SessionStore:
    """Keeps one session of a home. Where no memory-backed folder is to be had, nothing is kept."""

    def __init__(self, home: Home, memory: Path | None) -> None:
        self._home = home
        self._memory = memory

    def load(self) -> LiveSession | None:
        """The kept session; None when there is none or its key is gone. A damaged one counts as none."""
        data = files.read(self._home.session)
        if data is None or self._memory is None:
            return None
        try:
            message = cose.read_encrypt0(data, _SESSION_BYTES)
            found = cose.expect(
                message.headers,
                cose.ALG_A256GCM,
                labels.CLIENT_SESSION,
                kid=(cose.KID, bytes, _KEY_ID_BYTES, _KEY_ID_BYTES),
                salt=(cose.SALT, bytes, SALT_BYTES, SALT_BYTES),
            )
            secret = _read_key(self._memory, found["kid"].hex())
            if secret is None:
                return None
            plaintext = message.decrypt(ContentKey.derive(secret, labels.CLIENT_SESSION, found["salt"]))
            return schema.from_map(LiveSession, cbor.decode(plaintext, _SESSION_BYTES))
        except ProtocolError:
            return None

    def save(self, session: LiveSession) -> None:
        """Keeps this session in place of any other."""
        if self._memory is None:
            return
        self.remove()
        key_id, secret, salt = (
            secrets.token_bytes(_KEY_ID_BYTES),
            secrets.token_bytes(suite.SECRET_BYTES),
            secrets.token_bytes(SALT_BYTES),
        )
        headers = {cose.ALG: cose.ALG_A256GCM, cose.LABEL: labels.CLIENT_SESSION, cose.KID: key_id, cose.SALT: salt}
        key = ContentKey.derive(secret, labels.CLIENT_SESSION, salt)
        files.write(self._memory / f"{key_id.hex()}.key", secret)
        files.write(self._home.session, cose.encrypt0(key, headers, cbor.encode(schema.to_map(session))))

    def remove(self) -> None:
        """Forgets the kept session: the key first, which is what makes the file worthless."""
        data = files.read(self._home.session)
        if data is None:
            return
        if self._memory is not None:
            name = _key_name(data)
            if name is not None:
                (self._memory / f"{name}.key").unlink(missing_ok=True)
        files.remove(self._home.session)


def memory_folder() -> Path | None:
    """A folder in memory that is this user's alone, made if need be; None where the machine has none."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    candidates = [Path(runtime) / "smr"] if runtime else []
    candidates.append(Path("/dev/shm") / f"smr-{os.getuid()}")  # noqa: S108 - owner and mode are checked below
    return next((folder for folder in candidates if _is_private(folder)), None)


def _is_private(folder: Path) -> bool:
    try:
        folder.mkdir(mode=files.PRIVATE_FOLDER, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    # In /dev/shm anybody may have made this name first, as a link or as a folder of their own.
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077


def _read_key(memory: Path, name: str) -> bytes | None:
    data = files.read(memory / f"{name}.key")
    return data if data is not None and len(data) == suite.SECRET_BYTES else None


def _key_name(data: bytes) -> str | None:
    try:
        found = cose.read_encrypt0(data, _SESSION_BYTES).headers.get(cose.KID)
    except ProtocolError:
        return None
    name = found.hex() if type(found) is bytes else ""
    return name if _KEY_NAME.fullmatch(name) else None
