"""The trust store: roots by fingerprint only."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from pki.errors import TrustStoreError
from pki.identity import fingerprint, load_certificate
from pki.test_ca import Holder, TestCa
from pki.trust_store import TrustStore, normal_fingerprint, self_signed
from tests.support import hierarchy as state


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return TestCa.create(tmp_path_factory.mktemp("ca") / "ca", "http://127.0.0.1:1", "only for tests")


@pytest.fixture
def store(tmp_path):
    return TrustStore.open(tmp_path / "trust")


def test_a_root_named_by_its_fingerprint_is_trusted_and_stays_so(ca, store):
    report = store.import_certificates(ca.certificate_files, root_fingerprints={fingerprint(ca.root)})
    again = TrustStore.open(store.folder)
    assert again.roots == report.roots == (ca.root,)
    assert set(again.intermediates) == set(ca.intermediates)


def test_a_self_signed_certificate_is_no_root_by_itself(ca, store):
    report = store.import_certificates(ca.certificate_files)
    assert store.roots == ()
    assert [left.certificate for left in report.left_out] == [ca.root]
    assert "fingerprint" in report.left_out[0].reason


@pytest.mark.parametrize("answer", [True, False])
def test_a_person_may_confirm_the_fingerprint(ca, store, answer):
    asked = []
    store.import_certificates(ca.certificate_files, confirm=lambda c, digest: asked.append((c, digest)) or answer)
    assert asked == [(ca.root, fingerprint(ca.root))]
    assert bool(store.roots) is answer


def test_colons_and_capitals_in_a_fingerprint_do_not_matter(ca, store):
    digest = fingerprint(ca.root).upper()
    text = ":".join(digest[i : i + 2] for i in range(0, 64, 2))
    store.import_certificates(ca.certificate_files, root_fingerprints={text})
    assert store.roots == (ca.root,)


@pytest.mark.parametrize("text", ["", "ab", "g" * 64, "a" * 63, "a" * 65])
def test_what_is_no_fingerprint_is_refused(text):
    with pytest.raises(TrustStoreError):
        normal_fingerprint(text)


def test_a_fingerprint_that_is_in_no_file_is_refused_and_nothing_is_imported(ca, store):
    with pytest.raises(TrustStoreError, match="No certificate"):
        store.import_certificates(ca.certificate_files, root_fingerprints={"0" * 64})
    assert TrustStore.open(store.folder).intermediates == ()


def test_an_intermediate_cannot_be_chosen_as_root(ca, store):
    with pytest.raises(TrustStoreError, match="is no root"):
        store.import_certificates(ca.certificate_files, root_fingerprints={fingerprint(ca.intermediates[0])})


def test_a_citizens_certificate_is_left_out(ca, store, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    citizen = ca.issue_card_certificates(Holder.named("João Sá"), key, key).authentication
    path = tmp_path / "citizen.pem"
    path.write_bytes(citizen.public_bytes(Encoding.PEM))
    (left,) = store.import_certificates([path]).left_out
    assert (left.certificate, left.reason) == (citizen, "no CA certificate")
    assert TrustStore.open(store.folder).intermediates == ()


def test_a_root_put_there_by_hand_under_another_name_is_refused(ca, store):
    (store.folder / "roots" / f"{'0' * 64}.pem").write_bytes(ca.root.public_bytes(Encoding.PEM))
    with pytest.raises(TrustStoreError, match="not the certificate that its name says"):
        TrustStore.open(store.folder)


@pytest.fixture(scope="module")
def hierarchy():
    return state.hierarchy()


@pytest.fixture
def files(hierarchy, tmp_path):
    """The state's hierarchy as files, one for each certificate."""
    folder = tmp_path / "state"
    folder.mkdir()
    for at, certificate in enumerate(hierarchy.everything):
        (folder / f"{at:02d}.cer").write_bytes(certificate.public_bytes(Encoding.DER))
    return folder


def test_a_hierarchy_of_twenty_years_is_imported_from_its_folder(hierarchy, files, store):
    report = store.import_certificates([files], root_fingerprints=set(map(fingerprint, hierarchy.roots)))
    assert set(report.roots) == set(hierarchy.roots)
    assert set(report.intermediates) == set(hierarchy.intermediates)
    assert report.left_out == report.problems == ()
    again = TrustStore.open(store.folder)
    assert (set(again.roots), set(again.intermediates)) == (set(hierarchy.roots), set(hierarchy.intermediates))


def test_only_the_root_that_was_chosen_is_trusted(hierarchy, files, store):
    report = store.import_certificates([files], root_fingerprints={fingerprint(hierarchy.root_2)})
    assert store.roots == (hierarchy.root_2,)
    assert {left.certificate for left in report.left_out} == {hierarchy.root_1, hierarchy.root_3}


def test_a_root_of_2006_that_signs_itself_with_sha1_can_be_chosen(hierarchy):
    assert hierarchy.root_1.signature_hash_algorithm.name == "sha1"
    assert self_signed(hierarchy.root_1)


def test_an_altered_sha1_signature_is_no_self_signature(hierarchy):
    other = ec.generate_private_key(ec.SECP256R1())
    forged = state.certificate("ECRaizEstado 001", other, "ECRaizEstado 001", other, years=(2006, 2036))
    first = hierarchy.root_1
    swapped = first.public_bytes(Encoding.DER).replace(first.signature, first.signature[::-1])
    assert not self_signed(load_certificate(swapped))
    assert self_signed(forged)  # it is, and is still no root of anybody who has compared the fingerprint


@pytest.mark.parametrize("which", ["cross", "handover", "weak"])
def test_no_ca_below_a_root_can_be_chosen_as_root(hierarchy, files, store, which):
    with pytest.raises(TrustStoreError, match="is no root"):
        store.import_certificates([files], root_fingerprints={fingerprint(getattr(hierarchy, which))})
    assert TrustStore.open(store.folder).roots == ()


def test_an_import_can_be_repeated_at_the_limit(hierarchy, files, store, monkeypatch):
    monkeypatch.setattr("pki.trust_store.CERTIFICATES_MAX", len(hierarchy.intermediates))
    store.import_certificates([files])
    store.import_certificates([files])
    with pytest.raises(TrustStoreError, match="at most"):
        store.import_certificates([files], root_fingerprints={fingerprint(hierarchy.root_1)})
    assert TrustStore.open(store.folder).roots == ()


def test_a_removed_root_is_trusted_no_longer(hierarchy, files, store):
    store.import_certificates([files], root_fingerprints=set(map(fingerprint, hierarchy.roots)))
    assert store.remove(fingerprint(hierarchy.root_1)[:10].upper()) == hierarchy.root_1
    assert hierarchy.root_1 not in store.roots
    assert hierarchy.root_1 not in TrustStore.open(store.folder).roots
    assert store.remove(fingerprint(hierarchy.cross)) == hierarchy.cross


def test_seven_digits_are_too_few_to_remove_anything(hierarchy, files, store):
    store.import_certificates([files], root_fingerprints={fingerprint(hierarchy.root_1)})
    with pytest.raises(TrustStoreError, match="does not name one"):
        store.remove(fingerprint(hierarchy.root_1)[:7])


@pytest.mark.parametrize("digits", ["", "0" * 7, "f" * 64, "../../etc"])
def test_what_names_no_certificate_removes_none(hierarchy, files, store, digits):
    store.import_certificates([files], root_fingerprints={fingerprint(hierarchy.root_1)})
    with pytest.raises(TrustStoreError, match="does not name one"):
        store.remove(digits)
    assert TrustStore.open(store.folder).roots == (hierarchy.root_1,)


def test_the_store_is_never_left_with_half_a_file(hierarchy, files, store, monkeypatch):
    def cut_off(_path, _data):
        raise OSError("no space left on device")

    monkeypatch.setattr("pki.trust_store.write_atomically", cut_off)
    with pytest.raises(TrustStoreError, match="cannot be read or written"):
        store.import_certificates([files], root_fingerprints={fingerprint(hierarchy.root_1)})
    assert TrustStore.open(store.folder).roots == ()
