"""The trust store as people see it: what stands below what, which chains complete, and why others do not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from pki import trust_tree
from pki.identity import fingerprint
from pki.trust_store import TrustStore
from tests.support import hierarchy as state
from tests.support.hierarchy import LONG_NAME, NOW


@pytest.fixture(scope="module")
def hierarchy():
    return state.hierarchy()


def store_of(folder, certificates, roots):
    path = folder / "all.pem"
    path.write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in certificates))
    store = TrustStore.open(folder / "trust")
    store.import_certificates([path], root_fingerprints=set(map(fingerprint, roots)))
    return store


@pytest.fixture
def store(hierarchy, tmp_path):
    return store_of(tmp_path, hierarchy.everything, hierarchy.roots)


def flat(branches):
    for branch in branches:
        yield branch
        yield from flat(branch.issued)


def depth(branch):
    return 1 + max(map(depth, branch.issued), default=0)


def reasons(store, moment=NOW):
    return {b.certificate: b.reason for b in flat(trust_tree.tree(store, moment)) if not b.again}


def test_every_ca_stands_below_its_issuer_once(hierarchy, store):
    branches = list(flat(trust_tree.tree(store, NOW)))
    full = [b.certificate for b in branches if not b.again]
    assert sorted(map(fingerprint, full)) == sorted(map(fingerprint, hierarchy.everything))
    below = {b.certificate: {each.certificate for each in b.issued} for b in branches if not b.again}
    assert {hierarchy.expired, hierarchy.good_1, hierarchy.cross} <= below[hierarchy.root_1]
    assert below[hierarchy.root_2] | below[hierarchy.cross] == {hierarchy.long_name}
    assert below[hierarchy.handover] == {hierarchy.below_handover}


def test_chains_that_complete_say_so(hierarchy, store):
    found = reasons(store)
    for certificate in (*hierarchy.roots, hierarchy.good_1, hierarchy.cross, hierarchy.long_name):
        assert found[certificate] == ""
    assert found[hierarchy.handover] == found[hierarchy.below_handover] == ""


def test_chains_that_do_not_complete_say_why(hierarchy, store):
    found = reasons(store)
    assert "expired" in found[hierarchy.expired]
    assert "can be forged" in found[hierarchy.weak]


def test_a_chain_completes_at_its_time_only(hierarchy, store):
    assert reasons(store, datetime(2010, 6, 1, tzinfo=UTC))[hierarchy.expired] == ""
    assert "not yet valid" in reasons(store, datetime(2010, 6, 1, tzinfo=UTC))[hierarchy.good_1]


def test_a_cross_certificate_carries_the_younger_generation_under_the_older_root(hierarchy, tmp_path):
    store = store_of(tmp_path, hierarchy.everything, [hierarchy.root_1])
    found = reasons(store)
    assert found[hierarchy.long_name] == ""
    assert found[hierarchy.below_handover] != ""


def test_without_a_chosen_root_nothing_completes(hierarchy, tmp_path):
    store = store_of(tmp_path, hierarchy.everything, [])
    found = reasons(store)
    assert set(found) == set(hierarchy.intermediates)
    assert all(found.values())


def test_two_cas_that_certify_each_other_make_no_endless_tree(tmp_path):
    one, two = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    pair = [
        state.certificate("EC Um", one, "EC Dois", two, years=(2020, 2040)),
        state.certificate("EC Dois", two, "EC Um", one, years=(2020, 2040)),
    ]
    store = store_of(tmp_path, pair, [])
    branches = list(flat(trust_tree.tree(store, NOW)))
    assert {b.certificate for b in branches if not b.again} == set(pair)
    assert len(branches) == 3


def test_a_long_line_of_cas_is_cut_and_nothing_is_lost(tmp_path):
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(20)]
    line = [
        state.certificate(f"EC {at:02d}", keys[at], f"EC {at - 1:02d}", keys[at - 1], years=(2020, 2040))
        for at in range(1, 20)
    ]
    forest = trust_tree.tree(store_of(tmp_path, line, []), NOW)
    assert {b.certificate for b in flat(forest) if not b.again} == set(line)
    assert max(map(depth, forest)) == trust_tree.DEPTH_MAX


def test_programs_read_the_same(hierarchy, store):
    (branch,) = [b for b in trust_tree.tree(store, NOW) if b.certificate == hierarchy.root_2]
    shown = trust_tree.as_json(branch)
    assert (shown["root"], shown["complete"], shown["reason"], shown["key"]) == (True, True, None, "P-384")
    names = {b.certificate for b in flat([branch])}
    assert len(LONG_NAME.encode()) == 64
    assert names
