"""Merkle trees: the roots of the reference implementation, a proof for every leaf, and no proof that proves another."""

from __future__ import annotations

import pytest

from crypto_core import merkle
from crypto_core.errors import BindingMismatch

#: The leaves of the reference tests of Certificate Transparency (google/certificate-transparency, merkle_tree_test).
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def tree(size):
    return merkle.levels([merkle.leaf_hash(bytes([number])) for number in range(size)])


@pytest.mark.parametrize("size", ROOTS)
def test_roots_of_the_reference(size):
    assert merkle.levels([merkle.leaf_hash(each) for each in LEAVES[:size]])[-1][0].hex() == ROOTS[size]


@pytest.mark.parametrize("size", [*range(1, 18), 31, 32, 33, 100])
def test_every_leaf_has_a_proof_that_proves_it_alone(size):
    made = tree(size)
    (root,) = made[-1]
    for index in range(size):
        proof = merkle.path(made, index)
        assert merkle.root_from(made[0][index], index, size, proof) == root
        other = made[0][index - 1]
        assert size == 1 or merkle.root_from(other, index, size, proof) != root


@pytest.mark.parametrize("size", [1, 2, 5, 8, 13])
def test_proofs_of_another_length_or_place_are_refused(size):
    made = tree(size)
    leaf, proof = made[0][0], merkle.path(made, 0)
    with pytest.raises(BindingMismatch, match="too long"):
        merkle.root_from(leaf, 0, size, (*proof, leaf))
    for index in (-1, size):
        with pytest.raises(BindingMismatch, match="outside"):
            merkle.root_from(leaf, index, size, proof)
    if proof:
        with pytest.raises(BindingMismatch, match="too short"):
            merkle.root_from(leaf, 0, size, proof[:-1])


def test_a_node_is_no_leaf():
    one, other = merkle.leaf_hash(b"1"), merkle.leaf_hash(b"2")
    assert merkle.node_hash(one, other) != merkle.leaf_hash(one + other)
    assert merkle.node_hash(one, other) != merkle.node_hash(other, one)
