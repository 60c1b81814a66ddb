"""A trust store as people see it: a tree from each root, and which chains complete at a moment.

A CA's chain is judged by the same engine, and as strictly, as a citizen's path is: OpenSSL, under the chosen roots
alone. Revocation is not looked at here, that is asked for each citizen's certificate. A CA with several issuers
(cross-certified, or certified again under a root's next key) stands under the first of them, and is only named under
the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from OpenSSL import crypto

from pki.errors import CertificateError
from pki.identity import display_name, fingerprint, key_kind
from pki.trust_store import TrustStore, issued_by

DEPTH_MAX: Final = 16  #: CAs below each other in one branch; no path that is accepted is as long
#: Signatures over these digests can be forged; a root's own signature is not looked at (see `trust_store.self_signed`).
_BROKEN_HASHES: Final = (hashes.MD5, hashes.SHA1)


@dataclass(frozen=True, slots=True)
class Branch:
    """One CA of a store with those below it. `reason` says why its chain does not complete, and is empty when it does.

    `again` is true where the CA stands elsewhere with all that is below it.
    """

    certificate: x509.Certificate
    root: bool
    reason: str
    issued: tuple[Branch, ...] = field(default=())
    again: bool = False

    @property
    def complete(self) -> bool:
        """Does its chain lead to a chosen root, at the moment that was asked for?"""
        return not self.reason


def tree(store: TrustStore, moment: datetime) -> tuple[Branch, ...]:
    """Each root with what is below it, then the CAs to which no root leads."""
    return _Grower(store, moment).grow()


class _Grower:
    def __init__(self, store: TrustStore, moment: datetime) -> None:
        self._store = store
        self._moment = moment
        self._shown: set[str] = set()

    def grow(self) -> tuple[Branch, ...]:
        branches = [self._branch(root, root=True) for root in self._store.roots]
        left = [c for c in self._store.intermediates if fingerprint(c) not in self._shown]
        # Those whose issuer is here too come below it, whatever the order of the files.
        tops = [c for c in left if not any(_is_above(other, c) for other in left)]
        branches.extend(
            self._branch(certificate, root=False)
            for certificate in (*tops, *left)
            if fingerprint(certificate) not in self._shown
        )
        return tuple(branches)

    def _branch(self, certificate: x509.Certificate, *, root: bool, depth: int = 1) -> Branch:
        self._shown.add(fingerprint(certificate))
        issued = []
        for below in self._store.intermediates:
            if depth >= DEPTH_MAX or not _is_above(certificate, below):
                continue
            if fingerprint(below) in self._shown:
                issued.append(Branch(below, False, self._why_not(below), again=True))
            else:
                issued.append(self._branch(below, root=False, depth=depth + 1))
        return Branch(certificate, root, self._why_not(certificate), tuple(issued))

    def _why_not(self, certificate: x509.Certificate) -> str:
        return why_incomplete(self._store, certificate, self._moment)


def why_incomplete(store: TrustStore, certificate: x509.Certificate, moment: datetime) -> str:
    """Why no chain leads from this CA to a chosen root at that moment; empty when one does."""
    found = crypto.X509Store()
    for root in store.roots:
        found.add_cert(crypto.X509.from_cryptography(root))
    found.set_flags(crypto.X509StoreFlags.X509_STRICT)
    found.set_time(moment)
    helpers = [crypto.X509.from_cryptography(each) for each in store.intermediates]
    try:
        context = crypto.X509StoreContext(found, crypto.X509.from_cryptography(certificate), helpers)
        path = [each.to_cryptography() for each in context.get_verified_chain()]
    except crypto.X509StoreContextError as error:
        culprit = error.certificate.to_cryptography()
        return str(error.errors[2]) if culprit == certificate else f"{display_name(culprit.subject)}: {error.errors[2]}"
    except crypto.Error:
        return "OpenSSL cannot read it"
    return _weak_link(path[:-1])


def _weak_link(path: Iterable[x509.Certificate]) -> str:
    for certificate in path:
        try:
            weak = isinstance(certificate.signature_hash_algorithm, _BROKEN_HASHES)
        except UnsupportedAlgorithm:
            weak = True
        if weak:
            return f"{display_name(certificate.subject)} is signed with an algorithm that can be forged today"
    return ""


def _is_above(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    if certificate.issuer != issuer.subject or certificate == issuer:
        return False
    # A signature that this library no longer checks (SHA-1) is judged by OpenSSL; the names place it in the tree.
    return issued_by(certificate, issuer) or _weak_link([certificate]) != ""


def as_json(branch: Branch) -> dict[str, Any]:
    """A branch as programs read it."""
    certificate = branch.certificate
    return {
        "name": display_name(certificate.subject),
        "sha256": fingerprint(certificate),
        "key": _key_kind(certificate),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "root": branch.root,
        "complete": branch.complete,
        "reason": branch.reason or None,
        "again": branch.again,
        "issued": [as_json(below) for below in branch.issued],
    }


def _key_kind(certificate: x509.Certificate) -> str:
    try:
        return key_kind(certificate)
    except CertificateError:
        return "unreadable key"
