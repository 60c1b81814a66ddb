"""CRLs: found through certificates, fetched, checked and kept on disk.

Rules: a list is kept and used only when the certificate above signed it (so indirect lists are not used yet); a newer
list is never replaced by an older one; a list is fetched again when it is older than `refetch_after` or past its
nextUpdate; when that fails the kept one serves on, and the policy says for how long. The cache holds one list an
address.

    cache = CrlCache(trust_store.crl_folder, HttpFetcher())
    cache.collect(path, now)
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pki.errors import RevocationUnavailable
from pki.fetchers import CRL_BYTES_MAX, Fetcher
from pki.files import write_atomically
from pki.identity import display_name, fingerprint
from pki.revocation_data import Collected, RevocationData
from pki.trust_store import issued_by

REFETCH_AFTER: Final = timedelta(hours=1)  #: a revocation is known to us at the latest after this time
RETRY_AFTER: Final = timedelta(seconds=30)  #: a server that failed is left alone for this long
ADDRESSES_MAX: Final = 4  #: distribution points of one certificate that are tried


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What came of fetching one list."""

    url: str
    issuer: str  #: its name
    crl: x509.CertificateRevocationList | None
    problem: str | None


class CrlCache:
    """A folder of CRLs and the way to renew them. Thread-safe; several processes may share the folder."""

    def __init__(
        self,
        folder: Path,
        fetcher: Fetcher,
        *,
        refetch_after: timedelta = REFETCH_AFTER,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._folder = folder
        self._fetcher = fetcher
        self._refetch_after = refetch_after
        self._clock = clock or _now
        self._lock = threading.Lock()
        self._failures: dict[str, tuple[datetime, str]] = {}
        self._fetched_at: dict[str, datetime] = {}

    def collect(self, path: Sequence[x509.Certificate], now: datetime) -> Collected:
        """The lists for every certificate of a path (leaf first) but its root, fetched where needed."""
        return self._gather(path, now, force=False)

    def refresh(self, path: Sequence[x509.Certificate], now: datetime) -> Collected:
        """The same, but every list is fetched now, however young the kept one is."""
        return self._gather(path, now, force=True)

    def refresh_all(self, certificates: Sequence[x509.Certificate]) -> list[Refreshed]:
        """Fetch every list anew that these certificates name, and every one in the cache whose issuer is among them."""
        issuers = {fingerprint(c): c for c in certificates}
        wanted = {
            url: issuer for c in certificates for issuer in _issuers(c, certificates) for url in distribution_points(c)
        }
        for url, digest in self._known():
            if digest in issuers:
                wanted.setdefault(url, issuers[digest])
        with self._lock:
            return [self._refreshed(url, issuer) for url, issuer in wanted.items()]

    def _refreshed(self, url: str, issuer: x509.Certificate) -> Refreshed:
        name = display_name(issuer.subject)
        try:
            return Refreshed(url, name, self._renew(url, issuer, self._kept(url, issuer), force=True), None)
        except RevocationUnavailable as error:
            return Refreshed(url, name, None, error.what)

    def _known(self) -> list[tuple[str, str]]:
        """Address and issuer (SHA-256) of every list in the cache, from the notes beside them."""
        known = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                note = json.loads(path.read_text(encoding="utf-8"))
                known.append((str(note["url"]), str(note["issuer_sha256"])))
            except (OSError, ValueError, KeyError, TypeError):
                continue  # a note is a convenience: the list is found again through the next certificate
        return known

    def _gather(self, path: Sequence[x509.Certificate], now: datetime, *, force: bool) -> Collected:
        crls: list[x509.CertificateRevocationList] = []
        problems: list[str] = []
        with self._lock:
            for certificate, issuer in pairwise(path):
                urls = distribution_points(certificate)
                if not urls:
                    problems.append(f"{display_name(certificate.subject)} does not say where its revocation list is")
                for url in urls:
                    try:
                        crls.append(self._one(url, issuer, now, problems, force=force))
                    except RevocationUnavailable as error:
                        problems.append(error.what.rstrip("."))
        return Collected(RevocationData(crls=tuple(c.public_bytes(Encoding.DER) for c in crls)), tuple(problems))

    def _one(
        self, url: str, issuer: x509.Certificate, now: datetime, problems: list[str], *, force: bool
    ) -> x509.CertificateRevocationList:
        kept = self._kept(url, issuer)
        if kept is not None and not force and self._is_young(url, kept, now):
            return kept
        try:
            return self._renew(url, issuer, kept, force=force)
        except RevocationUnavailable as error:
            if kept is None:
                raise
            problems.append(error.what.rstrip("."))
            return kept

    def _renew(
        self,
        url: str,
        issuer: x509.Certificate,
        kept: x509.CertificateRevocationList | None,
        *,
        force: bool,
    ) -> x509.CertificateRevocationList:
        failed_at, reason = self._failures.get(url, (None, ""))
        if failed_at is not None and not force and self._clock() < failed_at + RETRY_AFTER:
            raise RevocationUnavailable(reason)
        try:
            fetched = read_crl(self._fetcher.fetch(url))
            check_signature(fetched, issuer)
            _check_newer(fetched, kept)
            self._keep(url, issuer, fetched)
        except RevocationUnavailable as error:
            self._failures[url] = (self._clock(), error.what)
            raise
        self._failures.pop(url, None)
        self._fetched_at[url] = self._clock()
        return fetched

    def _is_young(self, url: str, crl: x509.CertificateRevocationList, now: datetime) -> bool:
        end = crl.next_update_utc
        fetched_at = self._fetched_at.get(url) or self._file_time(url)
        return end is not None and now <= end and self._clock() < fetched_at + self._refetch_after

    def _file(self, url: str) -> Path:
        return self._folder / f"{hashlib.sha256(url.encode()).hexdigest()}.crl"

    def _file_time(self, url: str) -> datetime:
        try:
            return datetime.fromtimestamp(self._file(url).stat().st_mtime, UTC)
        except OSError:
            return datetime.min.replace(tzinfo=UTC)

    def _kept(self, url: str, issuer: x509.Certificate) -> x509.CertificateRevocationList | None:
        """The list on disk; checked like one from the network, since others may write that folder."""
        try:
            with self._file(url).open("rb") as file:
                crl = read_crl(file.read(CRL_BYTES_MAX + 1))
            check_signature(crl, issuer)
        except (OSError, RevocationUnavailable):
            return None
        return crl

    def _keep(self, url: str, issuer: x509.Certificate, crl: x509.CertificateRevocationList) -> None:
        try:
            write_atomically(self._file(url), crl.public_bytes(Encoding.DER))
            note = json.dumps({"url": url, "issuer_sha256": fingerprint(issuer)})
            write_atomically(self._file(url).with_suffix(".json"), note.encode())
        except OSError as error:
            raise RevocationUnavailable(
                f"The revocation list from {url!r} could not be kept in {self._folder}.",
                "It would have to be fetched for every check.",
                "Check the folder's permissions and space.",
            ) from error


def distribution_points(certificate: x509.Certificate) -> list[str]:
    """The http and https addresses of a certificate's CRLs and delta CRLs (RFC 5280 sections 4.2.1.13 and 4.2.1.15)."""
    points = [*_points(certificate, x509.CRLDistributionPoints), *_points(certificate, x509.FreshestCRL)]
    names = [name for point in points for name in point.full_name or ()]
    found = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
    http = [url for url in found if url.lower().startswith(("http://", "https://"))]
    return list(dict.fromkeys(http))[:ADDRESSES_MAX]


def _points(
    certificate: x509.Certificate, kind: type[x509.CRLDistributionPoints | x509.FreshestCRL]
) -> list[x509.DistributionPoint]:
    try:
        return list(certificate.extensions.get_extension_for_class(kind).value)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return []


def read_crl(data: bytes) -> x509.CertificateRevocationList:
    """A CRL from its DER form. Raises RevocationUnavailable."""
    if len(data) > CRL_BYTES_MAX:
        raise _bad("it is larger than the limit")
    try:
        crl = x509.load_der_x509_crl(data)
        readable = crl.next_update_utc is not None and crl.signature_hash_algorithm is not None
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise _bad("it is not a CRL in DER form") from error
    if not readable:
        raise _bad("it has no nextUpdate")
    return crl


def check_signature(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> None:
    """Refuse a list that this issuer did not sign. Raises RevocationUnavailable."""
    key = issuer.public_key()
    if crl.issuer != issuer.subject:
        raise _bad(f"it is a list of {display_name(crl.issuer)}, not of {display_name(issuer.subject)}")
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise _bad("its issuer's key is neither RSA nor on an elliptic curve")
    try:
        good = crl.is_signature_valid(key)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _bad("its signature cannot be read") from error
    if not good:
        raise _bad(f"{display_name(issuer.subject)} did not sign it")


def _check_newer(crl: x509.CertificateRevocationList, kept: x509.CertificateRevocationList | None) -> None:
    if kept is not None and crl.last_update_utc < kept.last_update_utc:
        raise _bad("it is older than the one that is known already")


def _issuers(certificate: x509.Certificate, candidates: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    return [c for c in candidates if c.subject == certificate.issuer and issued_by(certificate, c)]


def _now() -> datetime:
    return datetime.now(UTC)


def _bad(reason: str) -> RevocationUnavailable:
    return RevocationUnavailable(
        f"A revocation list was refused: {reason}.",
        "A card that was revoked could not be told from a good one.",
        "Check the address in the certificate and the network between.",
    )
