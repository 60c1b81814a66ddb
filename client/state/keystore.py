"""The keystore: the app key, every sealing key and the broker account, one file under the passphrase.

Old sealing keys stay for ever: letters that were sealed to them open with nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Final

from broker_config import enrolment
from client.errors import LocalState, Usage
from client.state import files
from crypto_core import keystore, labels
from crypto_core.ids import Milliseconds, MomentField
from crypto_core.keys import ED25519_BYTES, KEY_ID_BYTES, SEALING_SEED_BYTES, SealingKey, SigningKey
from crypto_core.schema import Size

SEALING_KEYS: Final = 1024  #: more rotations than one life has
PASSPHRASE_CHARACTERS_MIN: Final = 8


@dataclass(frozen=True, slots=True)
class StoredSealingKey:
    """The seed of a sealing key and when it was made."""

    seed: Annotated[bytes, Size(SEALING_SEED_BYTES, SEALING_SEED_BYTES)] = field(repr=False)
    created: MomentField

    @property
    def key(self) -> SealingKey:
        return SealingKey(self.seed)


@dataclass(frozen=True, slots=True)
class BrokerAccount:
    """The account that the operator enrolled for this installation; see `broker_config.enrolment`."""

    password: Annotated[str, Size(1, enrolment.PASSWORD_CHARACTERS_MAX)] = field(repr=False)
    ca: Annotated[str, Size(1, enrolment.CA_CHARACTERS_MAX)] | None
    broker: Annotated[str, Size(1, enrolment.BROKER_CHARACTERS_MAX)] | None


@dataclass(frozen=True, slots=True)
class Keys:
    """What the keystore holds. `current` is the key id of the sealing key for the next registration.

    `account` is absent before the operator's enrolment was taken, and where all installations share an account.
    """

    app_seed: Annotated[bytes, Size(ED25519_BYTES, ED25519_BYTES)] = field(repr=False)
    sealing: Annotated[tuple[StoredSealingKey, ...], Size(1, SEALING_KEYS)]
    current: Annotated[bytes, Size(KEY_ID_BYTES, KEY_ID_BYTES)]
    account: BrokerAccount | None = None

    @classmethod
    def generate(cls, now: Milliseconds) -> Keys:
        first = StoredSealingKey(SealingKey.generate().seed, now)
        return cls(SigningKey.generate().seed, (first,), first.key.public.key_id)

    @property
    def app_key(self) -> SigningKey:
        return SigningKey(self.app_seed)

    @property
    def current_key(self) -> SealingKey:
        """Raises LocalState for a keystore that names a key it does not hold."""
        found = self.by_id().get(self.current)
        if found is None:
            raise LocalState(
                "The keystore does not hold the sealing key that it calls current.",
                "Letters to you could not be opened.",
                "Restore a backup: smr key restore FILE.",
            )
        return found

    def by_id(self) -> Mapping[bytes, SealingKey]:
        """All sealing keys by key id."""
        return {stored.key.public.key_id: stored.key for stored in self.sealing}

    def with_new_key(self, now: Milliseconds) -> Keys:
        """The same with a fresh sealing key that is current."""
        fresh = StoredSealingKey(SealingKey.generate().seed, now)
        return replace(self, sealing=(*self.sealing, fresh), current=fresh.key.public.key_id)

    def merged(self, other: Keys) -> Keys:
        """The same with the other's sealing keys too, whose current key becomes current; the app key stays."""
        known = {stored.seed for stored in self.sealing}
        added = tuple(stored for stored in other.sealing if stored.seed not in known)
        return replace(self, sealing=self.sealing + added, current=other.current)


def load(path: Path, passphrase: str) -> Keys:
    """Raises LocalState when there is none, WrongPassphrase of the protocol room."""
    data = files.read(path)
    if data is None:
        raise LocalState(f"There is no keystore at {path}.", "Without it nothing opens.", "Restore a backup.")
    return keystore.open_(Keys, data, labels.KEYSTORE, passphrase)


def save(path: Path, keys: Keys, passphrase: str) -> None:
    """Writes the keystore under this passphrase. Raises Usage for one that is too short."""
    if len(passphrase) < PASSPHRASE_CHARACTERS_MIN:
        raise Usage(
            f"The passphrase has fewer than {PASSPHRASE_CHARACTERS_MIN} characters.",
            "Who copies this disk could guess it.",
            "Choose a longer one; several words are easy to remember.",
        )
    files.write(path, keystore.seal(keys, labels.KEYSTORE, passphrase))
