"""Files and folders of CA certificates: every form in which they are handed out, and what must not be read."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from pki import certificate_files
from pki.certificate_files import CERTIFICATE_FILE_BYTES_MAX, read_all, read_certificates
from pki.errors import TrustStoreError
from tests.support import hierarchy as state


@pytest.fixture(scope="module")
def hierarchy():
    return state.hierarchy()


def der(certificate):
    return certificate.public_bytes(Encoding.DER)


def pem(certificate):
    return certificate.public_bytes(Encoding.PEM)


def bundle(certificates, encoding):
    return pkcs7.serialize_certificates(list(certificates), encoding)


FORMS = {
    "DER": lambda found: der(found[0]),
    "PEM": lambda found: pem(found[0]),
    "several PEM": lambda found: b"Certificados do Estado\n" + b"\n".join(map(pem, found)),
    "PKCS#7 DER": lambda found: bundle(found, Encoding.DER),
    "PKCS#7 PEM": lambda found: bundle(found, Encoding.PEM),
    "PKCS#7 called CMS": lambda found: bundle(found, Encoding.PEM).replace(b" PKCS7-----", b" CMS-----"),
    "PEM and PKCS#7": lambda found: pem(found[0]) + bundle(found[1:], Encoding.PEM),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", ["crt", "anything"])
def test_every_form_is_read_whatever_the_file_is_called(hierarchy, tmp_path, form, suffix):
    path = tmp_path / f"file.{suffix}"
    path.write_bytes(FORMS[form](hierarchy.everything))
    found = read_certificates(path)
    assert set(found) == set(hierarchy.everything if form not in ("DER", "PEM") else hierarchy.everything[:1])


def test_a_bundle_in_ber_is_read(hierarchy, tmp_path):
    """Indefinite length around the ContentInfo, as some tools write it."""
    body = bundle(hierarchy.everything[:2], Encoding.DER)
    assert body[:2] == b"\x30\x82"
    path = tmp_path / "bundle.p7b"
    path.write_bytes(b"\x30\x80" + body[4:] + b"\x00\x00")
    assert set(read_certificates(path)) == set(hierarchy.everything[:2])


HOSTILE = {
    "empty": b"",
    "rubbish": os.urandom(4096),
    "text": "Não é um certificado\n".encode(),
    "PEM of rubbish": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "PEM without an end": b"-----BEGIN CERTIFICATE-----\nMIIB",
    "PKCS#7 of rubbish": b"-----BEGIN PKCS7-----\nAAAA\n-----END PKCS7-----\n",
    "an empty PKCS#7": bytes.fromhex(
        "3023 0609 2a864886f70d010702 a016 3014 020101 3100 300b 0609 2a864886f70d010701 3100"
    ),
    "a hundred thousand sequences": b"\x30\x80" * 100_000,
    "sequences inside of a PKCS#7": bytes.fromhex("3080 0609 2a864886f70d010702 a080") + b"\x30\x80" * 100_000,
    "a length of four gigabytes": bytes.fromhex("3084ffffffff") + bytes(100),
    "over the limit": b"\n" * (CERTIFICATE_FILE_BYTES_MAX + 1),
    "many begins": b"-----BEGIN PKCS7-----" * 20_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_holds_no_certificate_is_refused(tmp_path, kind):
    path = tmp_path / "bad.pem"
    path.write_bytes(HOSTILE[kind])
    with pytest.raises(TrustStoreError, match="no readable certificate"):
        read_certificates(path)


def test_one_bad_certificate_refuses_the_whole_file(hierarchy, tmp_path):
    path = tmp_path / "half.pem"
    path.write_bytes(pem(hierarchy.root_1) + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(TrustStoreError):
        read_certificates(path)


@pytest.mark.parametrize("kind", ["nothing", "a pipe", "a device", "a folder"])
def test_only_ordinary_files_are_opened(tmp_path, kind):
    path = tmp_path / "file"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a folder":
        path.mkdir()
    with pytest.raises(TrustStoreError):
        read_certificates(path)


def test_a_certificate_that_comes_out_of_a_pipe_is_not_read(hierarchy, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    end = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        os.write(end, der(hierarchy.good_1))
        with pytest.raises(TrustStoreError):
            read_certificates(tmp_path / "pipe")
    finally:
        os.close(end)


def test_a_certificate_in_a_file_over_the_limit_is_not_read(hierarchy, tmp_path):
    path = tmp_path / "big.pem"
    path.write_bytes(pem(hierarchy.root_1) + b"\n" * CERTIFICATE_FILE_BYTES_MAX)
    with pytest.raises(TrustStoreError):
        read_certificates(path)


def test_a_folder_is_walked_and_what_is_unreadable_in_it_is_told(hierarchy, tmp_path):
    inner = tmp_path / "certificates" / "2018"
    inner.mkdir(parents=True)
    (inner / "root.CER").write_bytes(der(hierarchy.root_2))
    (inner.parent / "all.p7b").write_bytes(bundle(hierarchy.intermediates, Encoding.DER))
    (inner.parent / "readme.txt").write_bytes(pem(hierarchy.root_1))
    (inner.parent / "bad.crt").write_bytes(b"rubbish")
    os.mkfifo(inner.parent / "pipe.pem")
    read = read_all([tmp_path / "certificates"])
    assert set(read.certificates) == {hierarchy.root_2, *hierarchy.intermediates}
    assert sorted(text.split(" was ")[0].rsplit("/", 1)[1] for text in read.problems) == ["bad.crt", "pipe.pem"]


def test_links_in_a_folder_lead_nowhere(hierarchy, tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    (outside / "root.pem").write_bytes(pem(hierarchy.root_1))
    (folder / "good.pem").write_bytes(pem(hierarchy.good_1))
    (folder / "link.pem").symlink_to(outside / "root.pem")
    (folder / "round").symlink_to(folder)
    (folder / "away").symlink_to(outside)
    read = read_all([folder])
    assert read.certificates == (hierarchy.good_1,)
    assert [text.split(" was ")[0] for text in read.problems] == [str(folder / "link.pem")]


def test_a_file_that_is_named_may_be_a_link(hierarchy, tmp_path):
    (tmp_path / "root.pem").write_bytes(pem(hierarchy.root_1))
    (tmp_path / "link").symlink_to(tmp_path / "root.pem")
    assert read_certificates(tmp_path / "link") == [hierarchy.root_1]


def test_a_folder_without_certificates_is_refused(tmp_path):
    with pytest.raises(TrustStoreError, match="no readable certificate"):
        read_all([tmp_path])


def test_a_folder_with_too_many_files_is_refused(hierarchy, tmp_path, monkeypatch):
    monkeypatch.setattr(certificate_files, "FILES_MAX", 3)
    for at in range(4):
        (tmp_path / f"{at}.txt").touch()
    with pytest.raises(TrustStoreError, match="more than 3 files"):
        read_all([tmp_path])


def test_a_deep_folder_is_not_followed_to_its_end(hierarchy, tmp_path, monkeypatch):
    monkeypatch.setattr(certificate_files, "FOLDER_DEPTH_MAX", 1)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "near.pem").write_bytes(pem(hierarchy.root_1))
    (tmp_path / "a" / "b" / "far.pem").write_bytes(pem(hierarchy.root_2))
    assert read_all([tmp_path]).certificates == (hierarchy.root_1,)


def test_too_many_certificates_are_refused(hierarchy, tmp_path, monkeypatch):
    monkeypatch.setattr(certificate_files, "CERTIFICATES_MAX", 3)
    (tmp_path / "all.p7b").write_bytes(bundle(hierarchy.everything, Encoding.DER))
    with pytest.raises(TrustStoreError, match="limit of 3"):
        read_all([tmp_path / "all.p7b"])
