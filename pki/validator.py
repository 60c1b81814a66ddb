"""The one question that the rest of the project asks of this room: may this certificate be believed, at that moment?

    validator = IdentityValidator.open(trust_store_folder, fetcher=HttpFetcher())
    validator.validate(certificate, intermediates, moment).require_valid()

Rules: thread-safe; an answer is remembered for `remember_for` and for no longer than the CRLs behind it are looked at
anew; only VALID and REVOKED are remembered, so that what could not be told is asked again.

VALID at one moment is remembered as VALID at every earlier one since the youngest certificate of the path began: then
each of them was in its time too, and who is not named as revoked by the later moment was not by the earlier. So of
many documents by one signer the newest is best asked about first.

About a past moment, the data that is current now counts first. Only where it does not tell, because the CA's servers
are gone or their lists have dropped an expired certificate, data that was enclosed counts too, together with what is
kept here, if all of this holds:

  1. nothing that is at hand, however old, names a certificate of the path as revoked at that moment
  2. the data was current at that moment, with no staleness allowed (`ValidationPolicy.max_enclosed_staleness`)
  3. it is authentic, and covers the whole path, like any other data

What is at hand now and what was enclosed then differ in one thing: of a revocation between the two only the first
knows. So an answer that rests on enclosed data says so (`PathResult.by_enclosed`), and is not remembered.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.authentic import sift
from pki.fetchers import Fetcher
from pki.identity import fingerprint
from pki.path import PathResult, Verdict, find_path, validate_path
from pki.policy import Purpose, ValidationPolicy
from pki.revocation import REFETCH_AFTER, CollectionPolicy, RevocationCache
from pki.revocation_data import Enclosure, RevocationData
from pki.revocation_entries import first_revoked
from pki.trust_store import TrustStore

REMEMBER_FOR: Final = timedelta(minutes=5)
REMEMBERED_MAX: Final = 4096  #: answers
ISSUERS_MAX: Final = 256  #: certificates of issuers that remembered answers share
INTERMEDIATES_MAX: Final = 16  #: certificates that a stranger may send along

_FOREVER: Final = timedelta(days=100 * 365)

_K = TypeVar("_K")
_Subject = tuple[str, Purpose]
_Key = tuple[str, Purpose, datetime | None]


@dataclass(frozen=True, slots=True)
class _Asked:
    """One question: certificates that may help, when the certificate was used, when it is asked, by which rules."""

    helpers: tuple[x509.Certificate, ...]
    moment: datetime
    now: datetime
    policy: ValidationPolicy


class IdentityValidator:
    """Trust store, revocation and policy together."""

    def __init__(
        self,
        trust_store: TrustStore,
        revocation: RevocationCache,
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
        #: Of VALID, that of the latest moment.
        self._latest: OrderedDict[_Subject, tuple[datetime, PathResult]] = OrderedDict()
        self._issuers: dict[str, x509.Certificate] = {}

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
        enclosed: RevocationData | None = None,
    ) -> PathResult:
        """The answer about a certificate used at `moment` (None: now), for the policy's purpose or another one.

        `enclosed`: revocation data from who used it then, not trusted. Never raises for a bad certificate;
        `PathResult.require_valid` does.
        """
        now = self._clock()
        wanted = purpose or self.policy.purpose
        key = (fingerprint(certificate), wanted, moment)
        remembered = self._recall(key, now)
        if remembered is not None:
            return replace(remembered, certificate=certificate, path=(certificate, *remembered.path[1:]))
        helpers = self._helpers(extra_intermediates)
        asked = _Asked(helpers, moment or now, now, replace(self.policy, purpose=wanted))
        result, data = self._judge(certificate, asked)
        self._remember(key, now, result)
        if result.verdict is Verdict.COULD_NOT_TELL and moment is not None and enclosed is not None:
            return self._judge_then(result, asked, data, enclosed)
        return result

    def enclose(
        self,
        certificates: Iterable[tuple[x509.Certificate, Purpose]],
        extra_intermediates: Iterable[x509.Certificate],
        max_bytes: int,
        max_items: int,
    ) -> Enclosure:
        """Revocation data about one's own certificates, to be sent along. What has no path is counted as left out."""
        now, helpers, paths, without = self._clock(), self._helpers(extra_intermediates), [], 0
        for certificate, purpose in certificates:
            asked = _Asked(helpers, now, now, replace(self.policy, purpose=purpose))
            found = self._find(certificate, asked)
            if found.valid:
                paths.append(found.path)
            else:
                without += 1
        enclosure = self._revocation.enclose(paths, now, max_bytes, max_items)
        return replace(enclosure, left_out=enclosure.left_out + without)

    def trace(
        self,
        certificate: x509.Certificate,
        extra_intermediates: Iterable[x509.Certificate],
        moment: datetime,
        purpose: Purpose,
    ) -> PathResult:
        """The path of a certificate at that moment, revocation aside: whom the state named, not whether it still holds.

        Never raises for a bad certificate.
        """
        asked = _Asked(self._helpers(extra_intermediates), moment, moment, replace(self.policy, purpose=purpose))
        return self._find(certificate, asked)

    def _helpers(self, extra: Iterable[x509.Certificate]) -> tuple[x509.Certificate, ...]:
        return (*self.trust_store.intermediates, *list(extra)[:INTERMEDIATES_MAX])

    def _find(self, certificate: x509.Certificate, asked: _Asked) -> PathResult:
        return find_path(
            certificate,
            anchors=self.trust_store.roots,
            intermediates=asked.helpers,
            moment=asked.moment,
            policy=asked.policy,
        )

    def _judge(self, certificate: x509.Certificate, asked: _Asked) -> tuple[PathResult, RevocationData]:
        """Find a path, collect revocation data for it, validate all of it. Gives the data too."""
        found = self._find(certificate, asked)
        if not found.valid or not asked.policy.require_revocation:
            return found, RevocationData()
        collected = self._revocation.collect(found.path, asked.now)
        result = self._validate(certificate, asked, collected.data)
        if result.verdict is Verdict.COULD_NOT_TELL:
            result = replace(result, detail="; ".join([result.detail, *collected.problems]))
        return result, collected.data

    def _validate(self, certificate: x509.Certificate, asked: _Asked, data: RevocationData) -> PathResult:
        return validate_path(
            certificate,
            anchors=self.trust_store.roots,
            intermediates=asked.helpers,
            revocation=data,
            moment=asked.moment,
            now=asked.now,
            policy=asked.policy,
        )

    def _judge_then(
        self, untold: PathResult, asked: _Asked, own: RevocationData, enclosed: RevocationData
    ) -> PathResult:
        """What could not be told by what is known now, judged by what was known then (see above)."""
        lasting = replace(asked.policy, max_crl_staleness=_FOREVER)
        at_hand = sift(own + enclosed, untold.path, asked.helpers, lasting, asked.now)
        revoked = first_revoked(untold.path, at_hand, asked.moment)
        if revoked is not None:
            return replace(
                untold,
                verdict=revoked.verdict,
                detail=revoked.detail,
                revoked_at=revoked.revoked_at,
                revocation_reason=revoked.revocation_reason,
            )
        policy = replace(asked.policy, max_crl_staleness=asked.policy.max_enclosed_staleness)
        then = self._validate(untold.certificate, replace(asked, now=asked.moment, policy=policy), own + enclosed)
        if then.verdict is Verdict.COULD_NOT_TELL:
            return replace(untold, detail=f"{untold.detail}; with what was sent along: {then.detail}")
        return replace(then, by_enclosed=then.valid)

    def forget(self) -> None:
        """Drop every remembered answer, after an import or a refresh."""
        with self._lock:
            self._answers.clear()
            self._latest.clear()
            self._issuers.clear()

    def _recall(self, key: _Key, now: datetime) -> PathResult | None:
        moment = key[2]
        with self._lock:
            exact, latest = self._answers.get(key), self._latest.get(key[:2])
        if exact is not None and self._is_fresh(exact[0], now):
            # A certificate may have ended in the meantime; an answer about a fixed past moment cannot change that way.
            ended = moment is None and any(c.not_valid_after_utc < now for c in exact[1].path)
            return None if ended else exact[1]
        if latest is not None and self._is_fresh(latest[0], now) and moment is not None and _covers(latest[1], moment):
            return replace(latest[1], moment=moment.astimezone(UTC))
        return None

    def _is_fresh(self, asked_at: datetime, now: datetime) -> bool:
        return asked_at <= now < asked_at + self._remember_for

    def _light(self, result: PathResult) -> PathResult:
        """The answer as it is kept: with a leaf of which nothing was read yet, and issuers that others share.

        The library keeps what it has read with a certificate: some hundred objects, which a worker that knows thousands
        of citizens has no room for, and which the collector of garbage would look at again and again.
        """
        leaf = _unread(result.certificate)
        return replace(result, certificate=leaf, path=(leaf, *map(self._shared, result.path[1:])))

    def _shared(self, issuer: x509.Certificate) -> x509.Certificate:
        if len(self._issuers) >= ISSUERS_MAX:
            self._issuers.clear()
        return self._issuers.setdefault(fingerprint(issuer), issuer)

    def _remember(self, key: _Key, now: datetime, result: PathResult) -> None:
        if result.verdict not in (Verdict.VALID, Verdict.REVOKED):
            return
        with self._lock:
            result = self._light(result)
            _keep(self._answers, key, (now, result))
            kept = self._latest.get(key[:2])
            if result.valid and (kept is None or not self._is_fresh(kept[0], now) or kept[1].moment < result.moment):
                _keep(self._latest, key[:2], (now, result))
            elif not result.valid:
                self._latest.pop(key[:2], None)


def _unread(certificate: x509.Certificate) -> x509.Certificate:
    return x509.load_der_x509_certificate(certificate.public_bytes(Encoding.DER))


def _covers(valid: PathResult, moment: datetime) -> bool:
    """Whether VALID at its own moment says VALID at this one."""
    return max(each.not_valid_before_utc for each in valid.path) <= moment <= valid.moment


def _keep(memory: OrderedDict[_K, tuple[datetime, PathResult]], key: _K, answer: tuple[datetime, PathResult]) -> None:
    memory[key] = answer
    memory.move_to_end(key)
    while len(memory) > REMEMBERED_MAX:
        memory.popitem(last=False)


def _now() -> datetime:
    return datetime.now(UTC)
