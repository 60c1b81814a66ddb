"""verify: an evidence package from anybody, judged here: no session, no account, no network.

What it rests on is what this citizen has chosen: the state roots of the trust store, or those of files that are named;
and operators, the one that this home approved or those that are named by the fingerprint of their root.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography import x509

from client.context import Context
from client.state import pin
from crypto_core.moments import to_datetime
from evidence_package.verdict import Report
from evidence_package.verify import Trust, verify
from pki.certificate_files import read_certificates
from pki.crls import is_ca
from pki.trust_store import TrustStore, normal_fingerprint, self_signed


def verify_package(
    context: Context,
    data: bytes,
    roots: Sequence[Path] = (),
    operators: Iterable[str] = (),
    stamp_roots: Sequence[Path] = (),
) -> Report:
    """The report on a package. With `roots`, PEM or DER files, only these are trusted, not the trust store.

    `stamp_roots` are files with roots of time-stamp authorities; without any, time stamps are not judged.
    """
    own = trust_of(context, use_store=not roots)
    certificates = [certificate for path in roots for certificate in read_certificates(path)]
    trust = Trust(
        anchors=(*own.anchors, *(c for c in certificates if _is_root(c))),
        intermediates=(*own.intermediates, *(c for c in certificates if not _is_root(c))),
        operators=own.operators | {normal_fingerprint(text) for text in operators},
        stamp_roots=tuple(certificate for path in stamp_roots for certificate in read_certificates(path)),
    )
    return verify(data, trust, to_datetime(context.now()))


def trust_of(context: Context, *, use_store: bool = True) -> Trust:
    """What this home trusts: its state roots, and the operator that it approved."""
    operators = frozenset({pin.load(context.home)[0].operator_root.hex()} if context.home.pin.exists() else ())
    folder = context.settings.trust_store or context.home.trust
    if not use_store or not folder.exists():  # opening would make one
        return Trust((), (), operators)
    store = TrustStore.open(folder)
    return Trust(store.roots, store.intermediates, operators)


def _is_root(certificate: x509.Certificate) -> bool:
    return is_ca(certificate) and self_signed(certificate)
