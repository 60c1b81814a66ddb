"""The repository's home folder: its keys, its descriptor, and the ring of key-encryption keys (KEKs).

    HOME/keystore.cose       id, name, the key for evidence with its certificates, and the secret that wraps all other
                             keys of workers; under a passphrase
    HOME/descriptor.cose     the signed descriptor that clients get
    HOME/epochs/             signing and sealing keys: see `epochs`
    HOME/operator/           root.pem, root.key, signer.pem, signer.key: the operator's; keys under the passphrase
    HOME/kek/ID.cose         one KEK each, sealed under the wrapping secret
    HOME/trust/              the trust store of state roots

Rules: files 0600, folders 0700, written beside and renamed; nothing secret lies in a file without a passphrase or a
secret from one. All workers of a repository share the folder. The operator's keys can be moved away after `init`: no
worker needs them.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from crypto_core import descriptor, keystore, labels, limits, moments, suite
from crypto_core.commands import CertificateField
from crypto_core.descriptor import Descriptor
from crypto_core.ids import Digest, Milliseconds, MomentField, RepositoryId, RepositoryIdField
from crypto_core.keys import (
    EcdsaSigningKey,
    EcdsaVerifyKey,
    SealingKey,
    SigningKey,
)
from crypto_core.records import KEK_ID_BYTES, KeyEncryptionKey
from crypto_core.schema import Size
from crypto_core.session import RepositoryIdentity
from pki import operator
from pki.errors import PkiError
from pki.evidence import EvidenceSigner
from pki.files import PRIVATE_FILE, private_folder, write_atomically
from pki.identity import load_certificate
from pki.operator import Credential
from repository_worker.epochs import Epochs
from repository_worker.errors import HomeError
from repository_worker.home_files import Wrapping, exclusive, files, read_limited

KEK_LIFE_MS: Final = limits.DAY_MS  #: a new KEK is made after this time
#: A KEK is destroyed at the latest when everything sealed under it is over: cookies and sessions, with room for clocks.
KEK_END_MS: Final = KEK_LIFE_MS + limits.SESSION_MS + limits.HANDSHAKE_MS + limits.CLOCK_SKEW_MS
#: Unknown KEK ids make a worker look into the folder, but not more often than this; seconds.
RELOAD_SECONDS: Final = 1.0
DESCRIPTOR_LIFE_MS: Final = 365 * limits.DAY_MS

KEYSTORE_FILE: Final = "keystore.cose"
DESCRIPTOR_FILE: Final = "descriptor.cose"
SecretField = Annotated[bytes, Size(suite.SECRET_BYTES, suite.SECRET_BYTES)]


@dataclass(frozen=True, slots=True)
class EvidenceKey:
    """The key that signs evidence: PKCS#8 in DER, and its certificates in DER, leaf first, root last.

    It lies in the keystore, beside the keys that workers need, and not with the operator's.
    """

    key: Annotated[bytes, Size(1, limits.KIB)] = field(repr=False)
    chain: Annotated[tuple[CertificateField, ...], Size(2, operator.CHAIN_MAX)]

    @classmethod
    def of(cls, credential: Credential) -> EvidenceKey:
        """The same as it is kept."""
        key = credential.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return cls(key, tuple(each.public_bytes(Encoding.DER) for each in credential.chain))

    def credential(self) -> Credential:
        """Key and certificates. Raises HomeError."""
        with _operator():
            return Credential.from_der(self.chain, self.key)


@dataclass(frozen=True, slots=True)
class RepositoryKeystore:
    """What `keystore.cose` holds."""

    repository: RepositoryIdField
    name: Annotated[str, Size(1, 128)]
    wrapping_secret: SecretField = field(repr=False)
    evidence: EvidenceKey | None = None

    def evidence_signer(self) -> EvidenceSigner | None:
        """Who signs evidence; None where no key was made for it. Raises HomeError."""
        return EvidenceSigner(self.evidence.credential()) if self.evidence else None

    @property
    def share_secret(self) -> bytes:
        """What second shares are sealed under in the database (32 bytes). New keys leave it as it is."""
        return suite.expand(self.wrapping_secret, suite.SECRET_BYTES, labels.STORED_SHARE)

    @property
    def ends_key(self) -> bytes:
        """What workers know each other by when they tell where chains end (32 bytes). New keys leave it as it is."""
        return suite.expand(self.wrapping_secret, suite.SECRET_BYTES, labels.CHAIN_ENDS_KEY)


@dataclass(frozen=True, slots=True)
class Home:
    """The folder. Reading its secrets takes a passphrase, and a tenth of a second."""

    folder: Path

    @property
    def trust_folder(self) -> Path:
        """The trust store of state roots."""
        return self.folder / "trust"

    @property
    def descriptor_path(self) -> Path:
        """The signed descriptor, for clients."""
        return self.folder / DESCRIPTOR_FILE

    @property
    def exists(self) -> bool:
        """Whether `create` was here."""
        return (self.folder / KEYSTORE_FILE).exists()

    # --- making -------------------------------------------------------------------------------------------------------

    def create(self, name: str, organisation: str, broker: str, passphrase: str, now: Milliseconds) -> Descriptor:
        """A new repository: operator root and signer, keys, descriptor. Raises HomeError if there is one already."""
        if self.exists:
            raise HomeError(f"{self.folder} holds a repository already; its keys are left as they are.")
        with files(self.folder), _operator():
            for folder in (self.folder, self.folder / "operator", self.folder / "kek", self.trust_folder):
                private_folder(folder)
            root = operator.create_operator_root(organisation, now=moments.to_datetime(now))
            signer = operator.issue_descriptor_signer(root, moments.to_datetime(now))
            self._write_credential("root", root, passphrase)
            self._write_credential("signer", signer, passphrase)
            repository = descriptor.derive_repository_id(_root_digest(root), name)
            made = RepositoryKeystore(
                repository,
                name,
                secrets.token_bytes(suite.SECRET_BYTES),
                EvidenceKey.of(operator.issue_evidence_signer(root, moments.to_datetime(now))),
            )
            # The keystore last: `exists` is true only when everything is there.
            identity = _new_identity(repository, 1)
            issued = self._issue(made, identity, signer, broker, now, oldest=1)
            self._write_keystore(made, passphrase)
        return issued

    def reissue(
        self, broker: str, passphrase: str, now: Milliseconds, *, new_keys: bool, withdraw: bool = False
    ) -> Descriptor:
        """A descriptor with the next epoch, which running workers take within `epochs.LOOK_SECONDS`. Raises HomeError.

        With `new_keys` it names new signing and sealing keys; open sessions go on under the former ones. With
        `withdraw` former keys are destroyed, and clients negotiate anew: for keys that others may know.
        """
        with exclusive(self.folder), _operator():
            opened = self.keystore(passphrase)
            epochs = self.epochs(opened)
            known = epochs.look()
            epoch = known.descriptor.epoch + 1
            identity = _new_identity(opened.repository, epoch) if new_keys else replace(known.current, epoch=epoch)
            oldest = epoch if withdraw else known.descriptor.oldest
            signer = self._read_credential("signer", passphrase)
            issued = self._issue(opened, identity, signer, broker, now, oldest=oldest)
            epochs.destroy_over(now)
        return issued

    def renew_evidence(self, passphrase: str, now: Milliseconds) -> x509.Certificate:
        """A new key for evidence, with a certificate of the operator root. Raises HomeError.

        The former key is forgotten: what it signed stays good, by the dates in its certificate.
        """
        with exclusive(self.folder), _operator():
            known = self.keystore(passphrase)
            issued = operator.issue_evidence_signer(self._read_credential("root", passphrase), moments.to_datetime(now))
            self._write_keystore(replace(known, evidence=EvidenceKey.of(issued)), passphrase)
        return issued.certificate

    def _issue(
        self,
        made: RepositoryKeystore,
        identity: RepositoryIdentity,
        signer: Credential,
        broker: str,
        now: Milliseconds,
        *,
        oldest: int,
    ) -> Descriptor:
        issued = Descriptor(
            repository=made.repository,
            name=made.name,
            operator_root=_root_digest(signer),
            epoch=identity.epoch,
            oldest=oldest,
            broker=broker,
            signing_key=identity.signing.public.raw,
            sealing_key=identity.sealing.public.raw,
            issued=now,
            expires=Milliseconds(now + DESCRIPTOR_LIFE_MS),
        )
        chain = tuple(each.public_bytes(Encoding.DER) for each in signer.chain)
        signed = descriptor.sign(issued, EcdsaSigningKey(signer.key), chain)
        # The keys first: workers take the descriptor as soon as it is there.
        self.epochs(made).keep(identity)
        write_atomically(self.descriptor_path, signed, PRIVATE_FILE)
        return issued

    def _write_credential(self, name: str, credential: Credential, passphrase: str) -> None:
        folder = self.folder / "operator"
        write_atomically(folder / f"{name}.key", credential.key_pem(passphrase.encode()), PRIVATE_FILE)
        write_atomically(folder / f"{name}.pem", credential.chain_pem(), PRIVATE_FILE)

    def _read_credential(self, name: str, passphrase: str) -> Credential:
        folder = self.folder / "operator"
        return Credential.from_pem(
            (folder / f"{name}.pem").read_bytes(), (folder / f"{name}.key").read_bytes(), passphrase.encode()
        )

    def _write_keystore(self, made: RepositoryKeystore, passphrase: str) -> None:
        data = keystore.seal(made, labels.REPOSITORY_KEYSTORE, passphrase)
        write_atomically(self.folder / KEYSTORE_FILE, data, PRIVATE_FILE)

    # --- reading ------------------------------------------------------------------------------------------------------

    def keystore(self, passphrase: str) -> RepositoryKeystore:
        """The private keys. Raises HomeError."""
        with files(self.folder):
            data = read_limited(self.folder / KEYSTORE_FILE, keystore.KEYSTORE_BYTES)
            return keystore.open_(RepositoryKeystore, data, labels.REPOSITORY_KEYSTORE, passphrase)

    def signed_descriptor(self) -> bytes:
        """The descriptor as clients get it. Raises HomeError."""
        with files(self.folder):
            return read_limited(self.descriptor_path, limits.HANDSHAKE_BYTES)

    def descriptor(self, now: Milliseconds) -> tuple[Descriptor, str]:
        """The verified descriptor, and the fingerprint of its operator root. Raises HomeError."""
        with files(self.folder), _operator():
            signed = descriptor.read(self.signed_descriptor())
            chain = [load_certificate(each) for each in signed.chain]
            root = suite.sha256(signed.chain[-1]).hex()
            leaf = operator.verify_descriptor_signer(chain, root_fingerprint=root, moment=moments.to_datetime(now))
            key = leaf.public_key()
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise HomeError("The descriptor's signer has no P-256 key; issue another descriptor.")
            return signed.verify(EcdsaVerifyKey(key), now), root

    def epochs(self, opened: RepositoryKeystore) -> Epochs:
        """The signing and sealing keys, which all workers share."""
        return Epochs(self.folder, RepositoryId(opened.repository), opened.wrapping_secret)

    def ring(self, opened: RepositoryKeystore) -> KekRing:
        """The ring of KEKs, which all workers share."""
        return KekRing(self.folder / "kek", opened.wrapping_secret)


# --- key-encryption keys --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _KekFile:
    id: Annotated[bytes, Size(KEK_ID_BYTES, KEK_ID_BYTES)]
    key: SecretField = field(repr=False)
    made: MomentField


class KekRing:
    """The KEKs on disk. Any worker makes the new one of a day, under a lock; old ones go when nothing lives under them.

    Thread-safe.
    """

    def __init__(
        self, folder: Path, wrapping_secret: bytes, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._wrapping = Wrapping(labels.KEY_ENCRYPTION_KEY, wrapping_secret)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: dict[bytes, _KekFile] = {}
        self._looked_at = float("-inf")

    def current(self, now: Milliseconds) -> KeyEncryptionKey:
        """The KEK to seal under now; makes one when the newest is a day old. Raises HomeError."""
        with self._lock:
            newest = self._newest()
            if newest is None or not newest.made <= now < newest.made + KEK_LIFE_MS:
                newest = self._renew(now)
            return KeyEncryptionKey(newest.id, newest.key)

    def holding(self, kek: bytes) -> Mapping[bytes, KeyEncryptionKey]:
        """The KEKs by id; looks into the folder when `kek` is not among those known here. Raises HomeError."""
        with self._lock:
            if kek not in self._known and self._monotonic() - self._looked_at >= RELOAD_SECONDS:
                self._load()
            return {each.id: KeyEncryptionKey(each.id, each.key) for each in self._known.values()}

    def destroy_unused(self, now: Milliseconds, in_use: Collection[bytes]) -> int:
        """Destroys the KEKs that nothing lives under any more; tells how many. Raises HomeError.

        The files are unlinked: on a medium that keeps old blocks they are gone only when it is overwritten, and the
        wrapping secret protects them until then.
        """
        with self._lock, exclusive(self._folder):
            self._load()
            newest = self._newest()
            doomed = [each for each in self._known.values() if each is not newest and _is_over(each, now, in_use)]
            for each in doomed:
                self._path(each.id).unlink(missing_ok=True)
                del self._known[each.id]
            return len(doomed)

    def _renew(self, now: Milliseconds) -> _KekFile:
        with exclusive(self._folder):
            self._load()
            newest = self._newest()  # another worker may have made it while this one waited
            if newest is not None and newest.made <= now < newest.made + KEK_LIFE_MS:
                return newest
            fresh = KeyEncryptionKey.generate()
            made = _KekFile(fresh.id, fresh.key, now)
            write_atomically(self._path(made.id), self._wrapping.seal(made), PRIVATE_FILE)
            self._known[made.id] = made
            return made

    def _newest(self) -> _KekFile | None:
        return max(self._known.values(), key=lambda each: (each.made, each.id), default=None)

    def _load(self) -> None:
        with files(self._folder):
            private_folder(self._folder)
            known = [self._wrapping.open(_KekFile, path) for path in sorted(self._folder.glob("*.cose"))]
        self._known = {each.id: each for each in known}
        self._looked_at = self._monotonic()

    def _path(self, kek: bytes) -> Path:
        return self._folder / f"{kek.hex()}.cose"


def _is_over(kek: _KekFile, now: Milliseconds, in_use: Collection[bytes]) -> bool:
    if now >= kek.made + KEK_END_MS:
        return True
    # Before that: its last cookie can no longer be confirmed, and no session record names it.
    last_cookie = kek.made + KEK_LIFE_MS + limits.HANDSHAKE_MS + limits.CLOCK_SKEW_MS
    return now >= last_cookie and kek.id not in in_use


# --- small helpers ----------------------------------------------------------------------------------------------------


def now_ms() -> Milliseconds:
    """The clock of this machine, in milliseconds."""
    return Milliseconds(time.time_ns() // 1_000_000)


def _root_digest(credential: Credential) -> Digest:
    return suite.sha256(credential.chain[-1].public_bytes(Encoding.DER))


def _new_identity(repository: str, epoch: int) -> RepositoryIdentity:
    return RepositoryIdentity(RepositoryId(repository), epoch, SigningKey.generate(), SealingKey.generate())


@contextmanager
def _operator() -> Iterator[None]:
    try:
        yield
    except PkiError as error:
        raise HomeError(str(error)) from error
