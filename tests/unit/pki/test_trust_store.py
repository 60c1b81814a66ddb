"""The trust store: roots by fingerprint only."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from pki.errors import TrustStoreError
from pki.identity import fingerprint
from pki.test_ca import Holder, TestCa
from pki.trust_store import CERTIFICATE_FILE_BYTES_MAX, TrustStore, normal_fingerprint, read_certificates


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
    assert report.left_out == (ca.root,)


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
    assert store.import_certificates([path]).left_out == (citizen,)


def test_a_root_put_there_by_hand_under_another_name_is_refused(ca, store):
    (store.folder / "roots" / f"{'0' * 64}.pem").write_bytes(ca.root.public_bytes(Encoding.PEM))
    with pytest.raises(TrustStoreError, match="not the certificate that its name says"):
        TrustStore.open(store.folder)


@pytest.mark.parametrize("data", [b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_an_unreadable_file_is_refused(store, tmp_path, data):
    path = tmp_path / "bad.pem"
    path.write_bytes(data)
    with pytest.raises(TrustStoreError):
        store.import_certificates([path])


def test_a_file_over_the_limit_is_refused(ca, tmp_path):
    path = tmp_path / "big.pem"
    path.write_bytes(ca.root.public_bytes(Encoding.PEM) + b"\n" * CERTIFICATE_FILE_BYTES_MAX)
    with pytest.raises(TrustStoreError):
        read_certificates(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(TrustStoreError):
        read_certificates(tmp_path / "nothing")


def test_the_store_shows_a_tree(ca, store):
    store.import_certificates(ca.certificate_files, root_fingerprints={fingerprint(ca.root)})
    (root,) = store.show()
    assert root["root"]
    (card,) = root["issued"]
    assert {line["name"].split(" do ")[0] for line in card["issued"]} == {
        "EC de Autenticação",
        "EC de Assinatura Qualificada",
    }
