"""The repository as this home knows it: the approved operator root, and the current descriptor under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from client.errors import LocalState
from client.state import files
from client.state.home import Home
from crypto_core import descriptor as descriptors
from crypto_core.descriptor import Descriptor, SignedDescriptor
from crypto_core.errors import Malformed
from crypto_core.ids import DigestField, Milliseconds, MomentField, RepositoryIdField
from crypto_core.keys import EcdsaVerifyKey
from crypto_core.moments import to_datetime

_LOCK: Final = "descriptor"


@dataclass(frozen=True, slots=True)
class Pin:
    """What the citizen approved at `init`, and when the kept descriptor was last verified."""

    operator_root: DigestField
    repository: RepositoryIdField
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
    """The pin and the descriptor, verified again as of when it was kept. Raises LocalState when damaged."""
    home.require_ready()
    pin, data = files.load_document(home.pin, Pin), files.read(home.descriptor)
    if pin is None or data is None:
        raise LocalState(
            f"The repository descriptor in {home.path} is missing.", action="Set the home up again: smr init."
        )
    kept = verify(descriptors.read(data), pin.operator_root, Milliseconds(pin.verified))
    if kept.repository != pin.repository:
        raise files.unusable(home.descriptor, "it is of another repository than the one that was approved")
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
            # In this order: after a crash in between, the old moment still lies in the new descriptor's life or
            # the next negotiation fetches it once more.
            files.write(home.descriptor, signed.raw)
            files.save_document(home.pin, Pin(pin.operator_root, pin.repository, max(now, newer.issued)))
    return newer


def create(home: Home, signed: SignedDescriptor, found: Descriptor, now: Milliseconds) -> None:
    """The last step of `init`: from here on the home is ready."""
    with home.lock(_LOCK):
        files.write(home.descriptor, signed.raw)
        files.save_document(home.pin, Pin(found.operator_root, found.repository, now))
