"""The repository's signing and sealing keys, one pair for each epoch, as all its workers share them.

    HOME/epochs/EPOCH.cose   the seeds of one epoch, sealed under the wrapping secret
    HOME/descriptor.cose     names the epoch that is current: writing it is what switches

New keys are there before a descriptor names them, and running workers look, so that a rotation restarts nobody. Former
keys stay until the last session is over that was negotiated under them (`FORMER_MS`): they go on signing the replies
of these sessions, and for a shorter time (`HANDSHAKE_MS`) a hello that was sealed to them is answered. A descriptor
whose `oldest` is its own epoch withdraws them at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

from crypto_core import descriptor as descriptors
from crypto_core import labels, limits
from crypto_core.descriptor import EPOCH_MAX, Descriptor
from crypto_core.ids import Milliseconds, RepositoryId
from crypto_core.keys import ED25519_BYTES, SEALING_SEED_BYTES, SealingKey, SigningKey
from crypto_core.schema import Range, Size
from crypto_core.session import RepositoryIdentity
from pki.files import PRIVATE_FILE, private_folder, write_atomically
from repository_worker.errors import HomeError
from repository_worker.home_files import Wrapping, exclusive, files, read_limited

#: How long former keys are kept after the descriptor that succeeds them: until no session of theirs can be open.
FORMER_MS: Final = limits.SESSION_MS + limits.HANDSHAKE_MS + limits.CLOCK_SKEW_MS
#: How old what a worker knows may be when it signs in an open session; seconds.
LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Seeds:
    epoch: Annotated[int, Range(1, EPOCH_MAX)]
    signing: Annotated[bytes, Size(ED25519_BYTES, ED25519_BYTES)] = field(repr=False)
    sealing: Annotated[bytes, Size(SEALING_SEED_BYTES, SEALING_SEED_BYTES)] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands now: the signed descriptor, what it says, and the keys that count, by epoch."""

    signed: bytes = field(repr=False)
    descriptor: Descriptor
    identities: dict[int, RepositoryIdentity] = field(repr=False)

    @property
    def current(self) -> RepositoryIdentity:
        """The keys that the descriptor names."""
        return self.identities[self.descriptor.epoch]

    def answering(self, now: Milliseconds) -> tuple[RepositoryIdentity, ...]:
        """To whom a hello may be sealed, the newest first. Former keys count while their descriptor may be underway."""
        if now >= self.descriptor.issued + limits.HANDSHAKE_MS:
            return (self.current,)
        return tuple(self.identities[epoch] for epoch in sorted(self.identities, reverse=True))

    def of(self, epoch: int) -> RepositoryIdentity:
        """Who signs in a session of this epoch. Where its keys were withdrawn, the current ones, which tell it."""
        return self.identities.get(epoch, self.current)


class Epochs:
    """The keys on disk, and what was last seen of them. Thread-safe. The methods raise HomeError."""

    def __init__(
        self, home: Path, repository: RepositoryId, secret: bytes, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = home / "epochs"
        self._descriptor = home / "descriptor.cose"
        self._repository = repository
        self._wrapping = Wrapping(labels.EPOCH_KEYS, secret)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._names: frozenset[str] = frozenset()
        self._seen: Standing | None = None
        self._looked_at = float("-inf")

    def look(self) -> Standing:
        """What stands at this moment."""
        with self._lock:
            return self._look()

    def recent(self) -> Standing:
        """What stood at most `LOOK_SECONDS` ago; what was seen last, where the folder cannot be read now."""
        with self._lock:
            if self._seen is None:
                return self._look()
            if self._monotonic() - self._looked_at >= LOOK_SECONDS:
                # Open sessions need nothing that is not known: a folder that is away for a moment stops only hellos.
                with suppress(HomeError):
                    self._look()
            return self._seen

    def keep(self, identity: RepositoryIdentity) -> None:
        """Writes the keys of an epoch. They count when a descriptor names it."""
        seeds = _Seeds(identity.epoch, identity.signing.seed, identity.sealing.seed)
        with exclusive(self._folder):
            write_atomically(self._path(identity.epoch), self._wrapping.seal(seeds), PRIVATE_FILE)

    def destroy_over(self, now: Milliseconds) -> int:
        """Destroys the keys that sign nothing any more, and tells how many."""
        with self._lock, exclusive(self._folder):
            standing = self._look()
            current = standing.descriptor
            kept = current.epoch if now >= current.issued + FORMER_MS else current.oldest
            doomed = [path for path in self._folder.glob("*.cose") if int(path.stem) < kept]
            for path in doomed:
                path.unlink(missing_ok=True)
            self._look()
            return len(doomed)

    def _look(self) -> Standing:
        with files(self._folder):
            private_folder(self._folder)
            signed = read_limited(self._descriptor, limits.HANDSHAKE_BYTES)
            names = frozenset(path.name for path in self._folder.glob("*.cose"))
            if self._seen is None or (signed, names) != (self._seen.signed, self._names):
                self._seen, self._names = self._load(signed, names), names
        self._looked_at = self._monotonic()
        return self._seen

    def _load(self, signed: bytes, names: frozenset[str]) -> Standing:
        found = descriptors.read(signed).unverified
        identities = {}
        for name in names:
            with suppress(FileNotFoundError):  # another worker has just destroyed it
                each = self._wrapping.open(_Seeds, self._folder / name)
                if found.oldest <= each.epoch <= found.epoch:
                    identities[each.epoch] = RepositoryIdentity(
                        self._repository, each.epoch, SigningKey(each.signing), SealingKey(each.sealing)
                    )
        current = identities.get(found.epoch)
        if current is None or current.signing.public.raw != found.signing_key:
            raise HomeError(f"The keys of epoch {found.epoch}, which the descriptor names, are missing; restore them.")
        return Standing(signed, found, identities)

    def _path(self, epoch: int) -> Path:
        return self._folder / f"{epoch}.cose"
