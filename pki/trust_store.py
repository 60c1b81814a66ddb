"""The local trust store: the state roots that this person or installation has chosen, and CA certificates below them.

    FOLDER/roots/SHA256.pem           trusted: each one was chosen by its SHA-256 fingerprint
    FOLDER/intermediates/SHA256.pem   known, not trusted: they only help to build paths
    FOLDER/crls/                      the cache of `revocation`

Rules: nothing becomes a root because it is self-signed, only because its fingerprint was given or confirmed; nothing is
ever taken from a repository or a broker; a file whose name is not its certificate's fingerprint is refused.

    TrustStore.open(folder).import_certificates(paths, root_fingerprints={"ab12..."})

How the store looks to people is in `trust_tree`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pki.certificate_files import CERTIFICATES_MAX, read_all, read_certificates
from pki.errors import TrustStoreError
from pki.files import write_atomically
from pki.identity import display_name, fingerprint

PREFIX_DIGITS_MIN: Final = 8  #: of a fingerprint, to name a certificate that is in the store already
_SHA256_HEX_DIGITS: Final = 64

ConfirmRoot = Callable[[x509.Certificate, str], bool]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A certificate that was not imported, and why."""

    certificate: x509.Certificate
    reason: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did with each certificate. `problems`: files of a folder that were passed over, for people."""

    roots: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...]
    left_out: tuple[LeftOut, ...]
    problems: tuple[str, ...] = ()


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
        """Import CA certificates from files and folders (see `certificate_files`).

        A self-signed one becomes a root only if its SHA-256 fingerprint is given, or if `confirm`, called with the
        certificate and its fingerprint, answers True. Raises TrustStoreError, also when a given fingerprint is in none
        of the files.
        """
        wanted = {normal_fingerprint(text) for text in root_fingerprints}
        read = read_all(paths)
        missing = wanted - {fingerprint(certificate) for certificate in read.certificates}
        if missing:
            raise TrustStoreError(
                f"No certificate in the files has the fingerprint {min(missing)}.",
                "What you meant to trust is not what the files hold.",
                "Check the fingerprint against its official publication, and the files.",
            )
        report = _sort(read.certificates, wanted, confirm, read.problems)
        self._write(report)
        return report

    def _write(self, report: ImportReport) -> None:
        everything = {*self.roots, *self.intermediates, *report.roots, *report.intermediates}
        if len(everything) > CERTIFICATES_MAX:
            raise TrustStoreError(
                f"A trust store holds at most {CERTIFICATES_MAX} certificates.",
                "Nothing was imported.",
                "Remove what is not needed: smr-pki trust remove.",
            )
        try:
            # Roots last: an import that is cut off trusts nothing that it did not mean to, and can be repeated.
            for name, certificates in (("intermediates", report.intermediates), ("roots", report.roots)):
                for certificate in certificates:
                    path = self.folder / name / f"{fingerprint(certificate)}.pem"
                    write_atomically(path, certificate.public_bytes(Encoding.PEM))
            self.roots = _read_folder(self.folder / "roots")
            self.intermediates = _read_folder(self.folder / "intermediates")
        except OSError as error:
            raise _unusable(self.folder) from error

    def remove(self, digits: str) -> x509.Certificate:
        """Remove the certificate whose fingerprint begins with these digits (8 or more). Raises TrustStoreError.

        CAs below a removed root stay; they lead nowhere until their root is imported again.
        """
        wanted = digits.replace(":", "").replace(" ", "").lower()
        found = [c for c in (*self.roots, *self.intermediates) if fingerprint(c).startswith(wanted)]
        if len(wanted) < PREFIX_DIGITS_MIN or len(found) != 1:
            raise TrustStoreError(
                f"{digits!r:.80} does not name one certificate of this trust store.",
                "Nothing was removed.",
                f"Give its fingerprint, or the first {PREFIX_DIGITS_MIN} or more digits: smr-pki trust show.",
            )
        try:
            for name in ("roots", "intermediates"):
                (self.folder / name / f"{fingerprint(found[0])}.pem").unlink(missing_ok=True)
            self.roots = _read_folder(self.folder / "roots")
            self.intermediates = _read_folder(self.folder / "intermediates")
        except OSError as error:
            raise _unusable(self.folder) from error
        return found[0]


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


def _sort(
    certificates: Iterable[x509.Certificate],
    wanted: set[str],
    confirm: ConfirmRoot | None,
    problems: tuple[str, ...],
) -> ImportReport:
    roots, intermediates, left_out = [], [], []
    for digest, certificate in {fingerprint(c): c for c in certificates}.items():
        is_root = _is_ca(certificate) and self_signed(certificate)
        if digest in wanted and not is_root:
            raise TrustStoreError(
                f"{display_name(certificate.subject)} is no root: it is not a self-signed CA certificate.",
                "Trusting it would cut off the checks of the CA above it.",
                "Choose the root of its hierarchy.",
            )
        if not _is_ca(certificate):
            left_out.append(LeftOut(certificate, "no CA certificate"))
        elif not is_root:
            # Also those with which a root of the same name hands over to its next key (RFC 4210 section 4.4).
            intermediates.append(certificate)
        elif digest in wanted or (confirm is not None and confirm(certificate, digest)):
            roots.append(certificate)
        else:
            left_out.append(LeftOut(certificate, "a root is trusted only by its fingerprint"))
    return ImportReport(tuple(roots), tuple(intermediates), tuple(left_out), problems)


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


def self_signed(certificate: x509.Certificate) -> bool:
    """Is the certificate signed with its own key? Says nothing about trust.

    Roots of the years around 2006 sign themselves with SHA-1. That is accepted here and nowhere else: a root is
    believed for the fingerprint that somebody compared, and its signature by itself adds nothing to that.
    """
    if certificate.issuer != certificate.subject:
        return False
    return issued_by(certificate, certificate) or _self_signed_with_sha1(certificate)


def _self_signed_with_sha1(certificate: x509.Certificate) -> bool:
    try:
        digest = certificate.signature_hash_algorithm
        if not isinstance(digest, hashes.SHA1):
            return False
        key, signed = certificate.public_key(), certificate.tbs_certificate_bytes
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(certificate.signature, signed, padding.PKCS1v15(), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(certificate.signature, signed, ec.ECDSA(digest))
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _unusable(folder: Path) -> TrustStoreError:
    return TrustStoreError(
        f"The trust store in {folder} cannot be read or written.",
        "Without it no certificate can be believed.",
        "Check that the folder exists and belongs to you.",
    )
