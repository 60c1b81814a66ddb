"""The repository descriptor: which keys a repository has now, signed under its operator's root.

    Descriptor → COSE_Sign1 by the descriptor signer (P-256), whose certificate chain travels in x5chain

This module checks the signature under the leaf's key; the caller checks the chain (room `pki`). The repository id is
derived from the operator root and the repository's name, so that no other operator can make a repository with this id:
what a card signed for one repository can never serve at another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from crypto_core import cbor, cose, labels, limits, schema, suite
from crypto_core.errors import BindingMismatch, Malformed, OutOfTime
from crypto_core.ids import (
    REPOSITORY_ID_CHARACTERS,
    Digest,
    DigestField,
    Milliseconds,
    MomentField,
    NonceField,
    RepositoryId,
    RepositoryIdField,
    base32,
)
from crypto_core.keys import (
    ED25519_BYTES,
    SEALING_PUBLIC_BYTES,
    EcdsaSigningKey,
    EcdsaVerifyKey,
    SealingPublicKey,
    SigningKey,
    VerifyKey,
)
from crypto_core.moments import to_text
from crypto_core.schema import Range, Size

EPOCH_MAX = 2**31 - 1
CHAIN_MAX = 3  #: certificates in x5chain: descriptor signer, at most one intermediate, operator root


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a client must know of a repository. Valid from `issued` to `expires`; a higher epoch replaces a lower.

    A session goes on under the key of the epoch in which it was negotiated, unless that is lower than `oldest`.
    """

    repository: RepositoryIdField
    name: Annotated[str, Size(1, 128)]
    operator_root: DigestField
    epoch: Annotated[int, Range(1, EPOCH_MAX)]
    oldest: Annotated[int, Range(1, EPOCH_MAX)]
    broker: Annotated[str, Size(1, 512)]
    signing_key: Annotated[bytes, Size(ED25519_BYTES, ED25519_BYTES)]
    sealing_key: Annotated[bytes, Size(SEALING_PUBLIC_BYTES, SEALING_PUBLIC_BYTES)]
    issued: MomentField
    expires: MomentField

    @property
    def verify_key(self) -> VerifyKey:
        return VerifyKey(self.signing_key)

    @property
    def sealing(self) -> SealingPublicKey:
        return SealingPublicKey(self.sealing_key)


@dataclass(frozen=True, slots=True)
class SignedDescriptor:
    """A parsed descriptor: `chain` holds DER certificates, leaf first, operator root last. Nothing is verified yet."""

    raw: bytes
    chain: tuple[bytes, ...]
    _message: cose.Sign1

    @property
    def unverified(self) -> Descriptor:
        """What it says, for whoever made it and keeps it in a place of their own. Raises ProtocolError."""
        return _decode(self._message.unverified_payload)

    def verify(self, signer: EcdsaVerifyKey, now: Milliseconds) -> Descriptor:
        """The descriptor, if `signer` (the key of the checked leaf) signed it and it is valid now.

        Raises SignatureInvalid, Malformed, OutOfTime, or BindingMismatch when its id is not derived from this root.
        """
        descriptor = _decode(self._message.verify(signer))
        root = suite.sha256(self.chain[-1])
        expected = derive_repository_id(root, descriptor.name)
        if descriptor.operator_root != root or descriptor.repository != expected:
            raise BindingMismatch("the descriptor's repository id does not belong to its operator root")
        if descriptor.oldest > descriptor.epoch:
            raise Malformed("a descriptor whose own epoch does not count")
        if not 0 < descriptor.expires - descriptor.issued <= limits.DESCRIPTOR_MS:
            raise Malformed("a descriptor that is valid for too long")
        if not descriptor.issued - limits.CLOCK_SKEW_MS <= now < descriptor.expires:
            raise OutOfTime(
                f"the repository descriptor is valid from {to_text(descriptor.issued)} to "
                f"{to_text(descriptor.expires)}; get a newer one from the operator, or set the clock"
            )
        return descriptor


def _decode(payload: bytes) -> Descriptor:
    return schema.from_map(Descriptor, cbor.decode(payload, limits.HANDSHAKE_BYTES))


def derive_repository_id(operator_root: Digest, name: str) -> RepositoryId:
    """The id of the repository `name` under the operator root with this SHA-256 fingerprint."""
    return RepositoryId(
        base32(suite.labelled_hash(labels.REPOSITORY_ID, operator_root, name), REPOSITORY_ID_CHARACTERS)
    )


def sign(descriptor: Descriptor, key: EcdsaSigningKey, chain: tuple[bytes, ...]) -> bytes:
    """An encoded signed descriptor; `chain` as in SignedDescriptor."""
    headers = {cose.ALG: cose.ALG_ESP256, cose.LABEL: labels.DESCRIPTOR, cose.X5CHAIN: list(chain)}
    return cose.sign1(key, headers, cbor.encode(schema.to_map(descriptor)))


def read(data: bytes) -> SignedDescriptor:
    """Takes a signed descriptor apart. Raises Malformed."""
    message = cose.read_sign1(data, limits.HANDSHAKE_BYTES)
    headers = dict(message.headers)
    chain: Any = headers.pop(cose.X5CHAIN, None)
    cose.expect(headers, cose.ALG_ESP256, labels.DESCRIPTOR)
    if type(chain) is not list or not 2 <= len(chain) <= CHAIN_MAX:
        raise Malformed("a descriptor carries its signer's certificate and the operator root")
    if any(type(each) is not bytes or not 0 < len(each) <= limits.CERTIFICATE_BYTES for each in chain):
        raise Malformed("a certificate of a wrong size in the descriptor")
    return SignedDescriptor(data, tuple(chain), message)


@dataclass(frozen=True, slots=True)
class DescriptorRequest:
    """Asks for the current descriptor. Signed by the app key, so that the answer goes to its own reply queue alone."""

    app_key: Annotated[bytes, Size(ED25519_BYTES, ED25519_BYTES)]
    nonce: NonceField
    time: MomentField


@dataclass(frozen=True, slots=True)
class DescriptorAnswer:
    """The current descriptor for this nonce, signed with the signing key that it names: fresh, not only authentic."""

    nonce: NonceField
    descriptor: Annotated[bytes, Size(1, limits.HANDSHAKE_BYTES)]
    time: MomentField


def request(app_key: SigningKey, nonce: bytes, now: Milliseconds) -> bytes:
    body = DescriptorRequest(app_key.public.raw, nonce, now)
    headers = {cose.ALG: cose.ALG_ED25519, cose.LABEL: labels.DESCRIPTOR_REQUEST}
    return cose.sign1(app_key, headers, cbor.encode(schema.to_map(body)))


def read_request(message: cose.Sign1) -> DescriptorRequest:
    """A request that carries its own key: the signature proves only possession of it. Raises ProtocolError."""
    cose.expect(message.headers, cose.ALG_ED25519, labels.DESCRIPTOR_REQUEST)
    found = schema.from_map(DescriptorRequest, cbor.decode(message.unverified_payload, limits.HANDSHAKE_BYTES))
    message.verify(VerifyKey(found.app_key))
    return found


def answer(key: SigningKey, nonce: bytes, descriptor: bytes, now: Milliseconds) -> bytes:
    body = DescriptorAnswer(nonce, descriptor, now)
    headers = {cose.ALG: cose.ALG_ED25519, cose.LABEL: labels.DESCRIPTOR_ANSWER}
    return cose.sign1(key, headers, cbor.encode(schema.to_map(body)))


def read_answer(data: bytes) -> tuple[cose.Sign1, bytes, Milliseconds]:
    """Takes an answer apart: the message, the descriptor in it whose verified key must then verify it, and its time."""
    message = cose.read_sign1(data, 2 * limits.HANDSHAKE_BYTES)
    cose.expect(message.headers, cose.ALG_ED25519, labels.DESCRIPTOR_ANSWER)
    found = schema.from_map(DescriptorAnswer, cbor.decode(message.unverified_payload, 2 * limits.HANDSHAKE_BYTES))
    return message, found.descriptor, Milliseconds(found.time)


def verify_answer(message: cose.Sign1, current: Descriptor, nonce: bytes) -> None:
    """Raises unless the repository that `current` describes signed this answer for this nonce."""
    payload = message.verify(current.verify_key)
    found = schema.from_map(DescriptorAnswer, cbor.decode(payload, 2 * limits.HANDSHAKE_BYTES))
    if not suite.equal(found.nonce, nonce):
        raise BindingMismatch("the descriptor answers another request")


def require_successor(known: Descriptor, newer: Descriptor) -> None:
    """Raises BindingMismatch unless `newer` may replace `known`: same repository, same root, no lower epoch."""
    if (newer.repository, newer.operator_root) != (known.repository, known.operator_root):
        raise BindingMismatch("the descriptor is of another repository or operator")
    if newer.epoch < known.epoch:
        raise BindingMismatch(f"the descriptor has epoch {newer.epoch}, older than {known.epoch} that is known here")
    if newer.oldest < known.oldest:
        raise BindingMismatch("the descriptor takes epochs back that were withdrawn")
    if newer.epoch == known.epoch and (newer.signing_key, newer.sealing_key) != (
        known.signing_key,
        known.sealing_key,
    ):
        raise BindingMismatch("two different descriptors with the same epoch")
