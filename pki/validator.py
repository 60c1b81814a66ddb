"""The one question that the rest of the project asks of this room: may this certificate be believed, at that moment?

    validator = IdentityValidator.open(trust_store_folder, fetcher=HttpFetcher())
    validator.validate(certificate, intermediates, moment).require_valid()

Rules: thread-safe; an answer is remembered for `remember_for` and for no longer than the CRLs behind it are looked at
anew; only VALID and REVOKED are remembered, so that what could not be told is asked again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509

from pki.fetchers import Fetcher
from pki.identity import fingerprint
from pki.path import PathResult, Verdict, find_path, validate_path
from pki.policy import Purpose, ValidationPolicy
from pki.revocation import REFETCH_AFTER, CollectionPolicy, RevocationCache
from pki.revocation_data import RevocationSource
from pki.trust_store import TrustStore

REMEMBER_FOR: Final = timedelta(minutes=5)
REMEMBERED_MAX: Final = 4096  #: answers
INTERMEDIATES_MAX: Final = 16  #: certificates that a stranger may send along

_Key = tuple[str, Purpose, datetime | None]


class IdentityValidator:
    """Trust store, revocation and policy together."""

    def __init__(
        self,
        trust_store: TrustStore,
        revocation: RevocationSource,
        policy: ValidationPolicy | None = None,
        *,
        remember_for: timedelta = REMEMBER_FOR,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self.trust_store = trust_store
        self.policy = policy or ValidationPolicy()
        self._revocation = revocation
        self._remember_for = remember_for
        self._clock = clock or _now
        self._lock = threading.Lock()
        self._answers: OrderedDict[_Key, tuple[datetime, PathResult]] = OrderedDict()

    @classmethod
    def open(
        cls,
        trust_store_folder: Path,
        fetcher: Fetcher,
        policy: ValidationPolicy | None = None,
        *,
        refetch_after: timedelta = REFETCH_AFTER,
        remember_for: timedelta = REMEMBER_FOR,
    ) -> Self:
        """The usual arrangement: a trust store on disk with its cache of revocation data. Raises TrustStoreError."""
        store = TrustStore.open(trust_store_folder)
        cache = RevocationCache(store.crl_folder, fetcher, CollectionPolicy(refetch_after=refetch_after))
        return cls(store, cache, policy, remember_for=remember_for)

    def validate(
        self,
        certificate: x509.Certificate,
        extra_intermediates: Iterable[x509.Certificate] = (),
        moment: datetime | None = None,
        purpose: Purpose | None = None,
    ) -> PathResult:
        """The answer about a certificate used at `moment` (None: now), for the policy's purpose or another one.

        Never raises for a bad certificate; `PathResult.require_valid` does.
        """
        now = self._clock()
        wanted = purpose or self.policy.purpose
        key = (fingerprint(certificate), wanted, moment)
        remembered = self._recall(key, now)
        if remembered is not None:
            return remembered
        helpers = [*self.trust_store.intermediates, *list(extra_intermediates)[:INTERMEDIATES_MAX]]
        result = self._judge(certificate, helpers, moment or now, now, replace(self.policy, purpose=wanted))
        self._remember(key, now, result)
        return result

    def _judge(
        self,
        certificate: x509.Certificate,
        helpers: Sequence[x509.Certificate],
        moment: datetime,
        now: datetime,
        policy: ValidationPolicy,
    ) -> PathResult:
        """Find a path, collect revocation data for it, validate all of it."""
        roots = self.trust_store.roots
        found = find_path(certificate, anchors=roots, intermediates=helpers, moment=moment, policy=policy)
        if not found.valid or not policy.require_revocation:
            return found
        collected = self._revocation.collect(found.path, now)
        result = validate_path(
            certificate,
            anchors=roots,
            intermediates=helpers,
            revocation=collected.data,
            moment=moment,
            now=now,
            policy=policy,
        )
        if result.verdict is Verdict.COULD_NOT_TELL:
            return replace(result, detail="; ".join([result.detail, *collected.problems]))
        return result

    def forget(self) -> None:
        """Drop every remembered answer, after an import or a refresh."""
        with self._lock:
            self._answers.clear()

    def _recall(self, key: _Key, now: datetime) -> PathResult | None:
        with self._lock:
            asked_at, result = self._answers.get(key, (None, None))
        if asked_at is None or result is None or not asked_at <= now < asked_at + self._remember_for:
            return None
        # A certificate may have ended in the meantime; an answer about a fixed past moment cannot change that way.
        if key[2] is None and any(c.not_valid_after_utc < now for c in result.path):
            return None
        return result

    def _remember(self, key: _Key, now: datetime, result: PathResult) -> None:
        if result.verdict not in (Verdict.VALID, Verdict.REVOKED):
            return
        with self._lock:
            self._answers[key] = (now, result)
            self._answers.move_to_end(key)
            while len(self._answers) > REMEMBERED_MAX:
                self._answers.popitem(last=False)


def _now() -> datetime:
    return datetime.now(UTC)
