"""CA certificates as they are handed out: one in DER, several in PEM, PKCS#7 bundles of both forms, folders of these.

Rules: what a file is, is seen from its content and never from its name; every size and number has a limit; a folder is
walked without following links, and nothing but ordinary files is opened, so that a pipe or a device cannot stall it. A
file that was named must be readable; one that merely lies in a folder and is not is told, and left out.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from pki.errors import CertificateError, TrustStoreError
from pki.identity import load_certificate

CERTIFICATE_FILE_BYTES_MAX: Final = 1024 * 1024  #: the whole state hierarchy with its history is a tenth of that
CERTIFICATES_MAX: Final = 1000  #: in one import, and in a whole trust store
FILES_MAX: Final = 2000  #: in the folders of one import, those of other kinds included
FOLDER_DEPTH_MAX: Final = 8  #: folders inside of folders
SUFFIXES: Final = (".pem", ".cer", ".crt", ".der", ".p7b", ".p7c")  #: what is looked at in a folder
_PEM_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_PEM_BUNDLES: Final = (b"PKCS7", b"CMS")  #: the names that bundles have in PEM (RFC 7468 section 8 and 9)
#: DER of OBJECT IDENTIFIER signedData, with which every certificate bundle begins (RFC 5652 section 5.1)
_SIGNED_DATA: Final = bytes.fromhex("06092a864886f70d010702")
_HEADER_BYTES: Final = 16  #: a ContentInfo names its type within its first bytes

Found = tuple[list[x509.Certificate], list[str]]


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """What files and folders held: certificates in order of finding, and for people which files were passed over."""

    certificates: tuple[x509.Certificate, ...]
    problems: tuple[str, ...]


def read_all(paths: Iterable[Path]) -> CertificateFiles:
    """Every certificate of these files and folders. Raises TrustStoreError.

    It is raised for a named file that cannot be read or holds none, a folder without any, and a passed limit.
    """
    certificates: list[x509.Certificate] = []
    problems: list[str] = []
    for path in paths:
        found, passed_over = _read_folder(path) if path.is_dir() else (read_certificates(path), [])
        certificates += found
        problems += passed_over
        if len(certificates) > CERTIFICATES_MAX:
            raise TrustStoreError(
                f"{path} brings the import over its limit of {CERTIFICATES_MAX} certificates.",
                "Nothing was imported: no state has that many CAs.",
                "Name the files that are needed.",
            )
    return CertificateFiles(tuple(certificates), tuple(problems))


def read_certificates(path: Path) -> list[x509.Certificate]:
    """All certificates of one file, at least one. Raises TrustStoreError."""
    try:
        found = _parse(_read_limited(path, follow_links=True))
    except (OSError, ValueError, UnsupportedAlgorithm, x509.InvalidVersion, CertificateError) as error:
        raise _unreadable(path) from error
    if not found:
        raise _unreadable(path)
    return found


def _unreadable(path: Path) -> TrustStoreError:
    return TrustStoreError(
        f"{path} holds no readable certificate.",
        "Nothing was imported.",
        f"Give PEM, DER or PKCS#7 (.p7b) files of at most {CERTIFICATE_FILE_BYTES_MAX} bytes.",
    )


def _read_folder(folder: Path) -> Found:
    certificates: list[x509.Certificate] = []
    problems: list[str] = []
    for path in _candidates(folder):
        try:
            certificates += _parse(_read_limited(path, follow_links=False))
        except (OSError, ValueError, UnsupportedAlgorithm, x509.InvalidVersion, CertificateError):
            problems.append(f"{path} was passed over: it holds no readable certificate, or is no ordinary file")
    if not certificates:
        raise TrustStoreError(
            f"{folder} holds no readable certificate.",
            "Nothing was imported.",
            f"Files that end in {', '.join(SUFFIXES)} are looked at, down to {FOLDER_DEPTH_MAX} folders.",
        )
    return certificates, problems


def _candidates(folder: Path) -> Iterator[Path]:
    """The files of a folder that may hold certificates, in the order of their names."""
    seen = 0
    for place, folders, files in os.walk(folder):
        depth = len(Path(place).relative_to(folder).parts)
        folders[:] = [] if depth >= FOLDER_DEPTH_MAX else sorted(folders)
        seen += len(files)
        if seen > FILES_MAX:
            raise TrustStoreError(
                f"{folder} holds more than {FILES_MAX} files.",
                "Nothing was imported: it does not look like a folder of certificates.",
                "Name the folder or the files that hold them.",
            )
        yield from (Path(place) / name for name in sorted(files) if Path(name).suffix.lower() in SUFFIXES)


def _read_limited(path: Path, *, follow_links: bool) -> bytes:
    # Not to wait for a writer: opening a pipe would block for ever, and its size says nothing.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_links else os.O_NOFOLLOW)
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("no ordinary file")
        data = file.read(CERTIFICATE_FILE_BYTES_MAX + 1)
    if len(data) > CERTIFICATE_FILE_BYTES_MAX:
        raise ValueError("over the limit")
    return data


def _parse(data: bytes) -> list[x509.Certificate]:
    """Raises ValueError, CertificateError, UnsupportedAlgorithm, InvalidVersion."""
    bundles = _pem_bundles(data)
    if _PEM_CERTIFICATE in data or bundles:
        found = x509.load_pem_x509_certificates(data) if _PEM_CERTIFICATE in data else []
        for bundle in bundles:
            found += _bundled(bundle, pem=True)
    elif _SIGNED_DATA in data[: _HEADER_BYTES + len(_SIGNED_DATA)]:
        found = _bundled(data, pem=False)
    else:
        return [load_certificate(data)]
    # Again through the one loader of this room, which is stricter.
    return [load_certificate(certificate.public_bytes(Encoding.DER)) for certificate in found]


def _pem_bundles(data: bytes) -> list[bytes]:
    """The PKCS#7 bundles of a PEM file, each under the label that the library knows. One pass, whatever the file is."""
    found = []
    for label in _PEM_BUNDLES:
        begin, end, at = b"-----BEGIN %b-----" % label, b"-----END %b-----" % label, 0
        while (start := data.find(begin, at)) >= 0:
            at = data.find(end, start)
            if at < 0:
                raise ValueError("a bundle without an end")
            body = data[start + len(begin) : at]
            found.append(b"-----BEGIN PKCS7-----%b-----END PKCS7-----\n" % body)
    return found


def _bundled(bundle: bytes, *, pem: bool) -> list[x509.Certificate]:
    """The certificates of a PKCS#7 bundle. BER, which states do hand out, is read too; its warning helps nobody."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pkcs7.load_pem_pkcs7_certificates(bundle) if pem else pkcs7.load_der_pkcs7_certificates(bundle)
