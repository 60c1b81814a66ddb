"""The local trust store: the state roots that this person or installation has chosen, and CA certificates below them.

    FOLDER/roots/SHA256.pem           trusted: each one was chosen by its SHA-256 fingerprint
    FOLDER/intermediates/SHA256.pem   known, not trusted: they only help to build paths
    FOLDER/crls/                      the cache of `revocation`

Rules: nothing becomes a root because it is self-signed, only because its fingerprint was given or confirmed; nothing is
ever taken from a repository or a broker; a file whose name is not its certificate's fingerprint is refused.

    TrustStore.open(folder).import_certificates(paths, root_fingerprints={"ab12..."})
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from pki.errors import CertificateError, TrustStoreError
from pki.files import write_atomically
from pki.identity import display_name, fingerprint, load_certificate

CERTIFICATE_FILE_BYTES_MAX: Final = 1024 * 1024
CERTIFICATES_MAX: Final = 1000  #: in the whole store
_SHA256_HEX_DIGITS: Final = 64
_PEM_MARK: Final = b"-----BEGIN CERTIFICATE-----"

ConfirmRoot = Callable[[x509.Certificate, str], bool]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did with each certificate."""

    roots: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...]
    left_out: tuple[x509.Certificate, ...]  #: self-signed and not chosen, or no CA at all


class TrustStore:
    """An open trust store. Certificates are read once; `open` again to see another process's import."""

    def __init__(
        self, folder: Path, roots: tuple[x509.Certificate, ...], intermediates: tuple[x509.Certificate, ...]
    ) -> None:
        self.folder = folder
        self.roots = roots
        self.intermediates = intermediates

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the store, making an empty one where there is none. Raises TrustStoreError."""
        try:
            for name in ("roots", "intermediates", "crls"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            return cls(folder, _read_folder(folder / "roots"), _read_folder(folder / "intermediates"))
        except OSError as error:
            raise _unusable(folder) from error

    @property
    def crl_folder(self) -> Path:
        """Where the CRL cache of this store lies."""
        return self.folder / "crls"

    def import_certificates(
        self,
        paths: Iterable[Path],
        *,
        root_fingerprints: Collection[str] = (),
        confirm: ConfirmRoot | None = None,
    ) -> ImportReport:
        """Import CA certificates from PEM or DER files.

        A self-signed one becomes a root only if its SHA-256 fingerprint is given, or if `confirm`, called with the
        certificate and its fingerprint, answers True. Raises TrustStoreError, also when a given fingerprint is in none
        of the files.
        """
        wanted = {normal_fingerprint(text) for text in root_fingerprints}
        certificates = [certificate for path in paths for certificate in read_certificates(path)]
        missing = wanted - {fingerprint(certificate) for certificate in certificates}
        if missing:
            raise TrustStoreError(
                f"No certificate in the files has the fingerprint {min(missing)}.",
                "What you meant to trust is not what the files hold.",
                "Check the fingerprint against its official publication, and the files.",
            )
        report = _sort(certificates, wanted, confirm)
        self._write(report)
        return report

    def _write(self, report: ImportReport) -> None:
        if len(self.roots) + len(self.intermediates) + len(report.roots) + len(report.intermediates) > CERTIFICATES_MAX:
            raise TrustStoreError(f"A trust store holds at most {CERTIFICATES_MAX} certificates.")
        try:
            for name, certificates in (("roots", report.roots), ("intermediates", report.intermediates)):
                for certificate in certificates:
                    path = self.folder / name / f"{fingerprint(certificate)}.pem"
                    write_atomically(path, certificate.public_bytes(Encoding.PEM))
            self.roots = _read_folder(self.folder / "roots")
            self.intermediates = _read_folder(self.folder / "intermediates")
        except OSError as error:
            raise _unusable(self.folder) from error

    def show(self) -> list[dict[str, Any]]:
        """The store as a forest: each root with the CAs below it, for display and JSON."""
        shown: set[str] = set()
        forest = [self._branch(root, shown) for root in self.roots]
        orphans = [c for c in self.intermediates if fingerprint(c) not in shown]
        return forest + [{**_line(c), "root": False, "issued": []} for c in orphans]

    def _branch(self, certificate: x509.Certificate, shown: set[str]) -> dict[str, Any]:
        shown.add(fingerprint(certificate))
        below = [
            c
            for c in self.intermediates
            if c.issuer == certificate.subject and fingerprint(c) not in shown and issued_by(c, certificate)
        ]
        return {
            **_line(certificate),
            "root": certificate in self.roots,
            "issued": [self._branch(c, shown) for c in below],
        }


def normal_fingerprint(text: str) -> str:
    """A SHA-256 fingerprint in lower-case hex; colons and spaces are dropped. Raises TrustStoreError."""
    digits = text.replace(":", "").replace(" ", "").lower()
    if len(digits) != _SHA256_HEX_DIGITS or not all(digit in "0123456789abcdef" for digit in digits):
        raise TrustStoreError(
            "That is not a SHA-256 fingerprint.",
            "A root is chosen by exactly this.",
            f"Give its {_SHA256_HEX_DIGITS} hexadecimal digits.",
        )
    return digits


def read_certificates(path: Path) -> list[x509.Certificate]:
    """All certificates of a PEM file, or the one of a DER file. Raises TrustStoreError."""
    try:
        data = _read_limited(path)
        if _PEM_MARK not in data:
            return [load_certificate(data)]
        found = x509.load_pem_x509_certificates(data)
        return [load_certificate(certificate.public_bytes(Encoding.DER)) for certificate in found]
    except (OSError, ValueError, x509.InvalidVersion, CertificateError) as error:
        raise TrustStoreError(
            f"{path} holds no readable certificate.",
            "Nothing was imported.",
            f"Give PEM or DER files of at most {CERTIFICATE_FILE_BYTES_MAX} bytes.",
        ) from error


def _read_limited(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(CERTIFICATE_FILE_BYTES_MAX + 1)
    if len(data) > CERTIFICATE_FILE_BYTES_MAX:
        raise ValueError("over the limit")
    return data


def _sort(certificates: list[x509.Certificate], wanted: set[str], confirm: ConfirmRoot | None) -> ImportReport:
    roots, intermediates, left_out = [], [], []
    for certificate in {fingerprint(c): c for c in certificates}.values():
        digest = fingerprint(certificate)
        self_signed = certificate.issuer == certificate.subject and issued_by(certificate, certificate)
        if digest in wanted and not (self_signed and _is_ca(certificate)):
            raise TrustStoreError(
                f"{display_name(certificate.subject)} is no root: it is not a self-signed CA certificate.",
                "Trusting it would cut off the checks of the CA above it.",
                "Choose the root of its hierarchy.",
            )
        if not _is_ca(certificate):
            left_out.append(certificate)
        elif not self_signed:
            intermediates.append(certificate)
        elif digest in wanted or (confirm is not None and confirm(certificate, digest)):
            roots.append(certificate)
        else:
            left_out.append(certificate)
    return ImportReport(tuple(roots), tuple(intermediates), tuple(left_out))


def _read_folder(folder: Path) -> tuple[x509.Certificate, ...]:
    paths = sorted(folder.glob("*.pem"))
    if len(paths) > CERTIFICATES_MAX:
        raise TrustStoreError(f"{folder} holds more than {CERTIFICATES_MAX} certificates.")
    certificates = []
    for path in paths:
        found = read_certificates(path)
        if len(found) != 1 or fingerprint(found[0]) != path.stem:
            raise TrustStoreError(
                f"{path} is not the certificate that its name says.",
                "The trust store was changed by something else than an import.",
                "Remove the file and import the certificate again by its fingerprint.",
            )
        certificates.append(found[0])
    return tuple(certificates)


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Did that issuer sign this certificate? Names and signature only."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _line(certificate: x509.Certificate) -> dict[str, Any]:
    return {
        "name": display_name(certificate.subject),
        "sha256": fingerprint(certificate),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
    }


def _unusable(folder: Path) -> TrustStoreError:
    return TrustStoreError(
        f"The trust store in {folder} cannot be read or written.",
        "Without it no certificate can be believed.",
        "Check that the folder exists and belongs to you.",
    )
