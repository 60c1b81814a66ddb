"""The repository as this home knows it: the approved operator root, and the current descriptor under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from cryptography.hazmat.primitives.asymmetric import ec

from client.state import files
from client.state.home import Home
from crypto_core import descriptor as descriptors
from crypto_core import limits
from crypto_core.descriptor import Descriptor, SignedDescriptor
from crypto_core.errors import Malformed
from crypto_core.ids import DigestField, Milliseconds, MomentField, RepositoryIdField
from crypto_core.keys import EcdsaVerifyKey
from crypto_core.moments import to_datetime
from crypto_core.schema import Size

_LOCK: Final = "descriptor"


@dataclass(frozen=True, slots=True)
class Pin:
    """What the citizen approved at `init`, the current descriptor as it came, and when it was verified.

    All in one file, so that no crash can leave a descriptor beside another one's moment.
    """

    operator_root: DigestField
    repository: RepositoryIdField
    descriptor: Annotated[bytes, Size(1, limits.HANDSHAKE_BYTES)]
    verified: MomentField


def verify(signed: SignedDescriptor, operator_root: bytes, now: Milliseconds) -> Descriptor:
    """The descriptor, if its signer stands under this operator root (SHA-256) and it is valid now.

    Raises OperatorError of the room `pki` or ProtocolError.
    """
    from pki.identity import load_certificate
    from pki.operator import verify_descriptor_signer

    chain = [load_certificate(each) for each in signed.chain]
    leaf = verify_descriptor_signer(chain, root_fingerprint=operator_root.hex(), moment=to_datetime(now))
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Malformed("the descriptor's signer has no elliptic curve key")
    return signed.verify(EcdsaVerifyKey(key), now)


def load(home: Home) -> tuple[Pin, Descriptor]:
    """The pin and its descriptor, verified again as of when it was kept. Raises LocalState when damaged."""
    home.require_ready()
    pin = files.load_document(home.pin, Pin)
    if pin is None:
        raise files.unusable(home.pin, "it is gone")
    kept = verify(descriptors.read(pin.descriptor), pin.operator_root, Milliseconds(pin.verified))
    if kept.repository != pin.repository:
        raise files.unusable(home.pin, "its descriptor is of another repository than the one that was approved")
    return pin, kept


def replace(home: Home, signed: SignedDescriptor, now: Milliseconds) -> Descriptor:
    """Takes a descriptor that came from the repository, if it may follow the one that is kept.

    Raises ProtocolError: an older epoch never replaces a newer one.
    """
    with home.lock(_LOCK):
        pin, known = load(home)
        newer = verify(signed, pin.operator_root, now)
        descriptors.require_successor(known, newer)
        if newer != known:
            files.save_document(home.pin, Pin(pin.operator_root, pin.repository, signed.raw, now))
    return newer


def create(home: Home, signed: SignedDescriptor, found: Descriptor, now: Milliseconds) -> None:
    """The last step of `init`: from here on the home is ready."""
    with home.lock(_LOCK):
        files.save_document(home.pin, Pin(found.operator_root, found.repository, signed.raw, now))
