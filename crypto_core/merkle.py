"""Merkle trees (RFC 9162 section 2.1): one hash for many values, and a short proof that a value is among them.

Leaves and inner nodes are hashed with different first bytes, so that neither can be taken for the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from crypto_core.errors import BindingMismatch
from crypto_core.ids import Digest


def leaf_hash(data: bytes) -> Digest:
    """SHA-256(0x00 ‖ data)."""
    return Digest(hashlib.sha256(b"\x00" + data).digest())


def node_hash(left: bytes, right: bytes) -> Digest:
    """SHA-256(0x01 ‖ left ‖ right)."""
    return Digest(hashlib.sha256(b"\x01" + left + right).digest())


def levels(leaves: Sequence[Digest]) -> list[list[Digest]]:
    """All nodes from the leaves (at least one) up to the root. A node without a neighbour goes up as it is."""
    found = [list(leaves)]
    while len(found[-1]) > 1:
        row = found[-1]
        above = [node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)]
        found.append(above + row[len(above) * 2 :])
    return found


def path(tree: Sequence[Sequence[Digest]], index: int) -> tuple[Digest, ...]:
    """The inclusion proof of leaf `index` (from 0): the neighbours on the way up to the root (section 2.1.3.1)."""
    found = []
    for row in tree[:-1]:
        neighbour = index ^ 1
        if neighbour < len(row):
            found.append(row[neighbour])
        index //= 2
    return tuple(found)


def root_from(leaf: Digest, index: int, size: int, proof: Sequence[Digest]) -> Digest:
    """The root of a tree of `size` leaves that has this leaf at `index`, by its proof (section 2.1.3.2).

    Raises BindingMismatch for a proof of another length or place.
    """
    if not 0 <= index < size:
        raise BindingMismatch("the proof is for a place outside of its tree")
    found, last, left = leaf, size - 1, list(proof)
    while last:
        if index % 2 or index < last:
            if not left:
                raise BindingMismatch("the proof is too short for its tree")
            neighbour = left.pop(0)
            found = node_hash(neighbour, found) if index % 2 else node_hash(found, neighbour)
        index, last = index // 2, last // 2
    if left:
        raise BindingMismatch("the proof is too long for its tree")
    return found
