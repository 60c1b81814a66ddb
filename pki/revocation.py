"""Revocation data for a path: which is needed, where it is, and the cache that keeps it.

For every certificate below the root, in this order:

  1. complete lists, from its distribution points, until they tell every reason for a revocation (RFC 5280 section
     6.3.3); several addresses of one point are ways to the same list, tried in turn
  2. deltas to these lists, where the certificate or the list says that there are some
  3. an OCSP answer, only where step 1 gave nothing that counts today: a list is one for all citizens, kept for hours,
     and does not tell the CA whom one writes to

Rules: everything is verified when it is fetched and again when it is read from disk; a newer item is never replaced by
an older one; an item is fetched again when it is older than `refetch_after` or past its time; when that fails the kept
one serves on, and validation says for how long. Nothing here says that a certificate is good: that is `pki.path`.

    cache = RevocationCache(trust_store.crl_folder, HttpFetcher())
    cache.collect(path, now)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki import crls, ocsp
from pki.crls import Crl, Point
from pki.errors import RevocationUnavailable
from pki.fetchers import Fetcher
from pki.identity import display_name
from pki.revocation_data import Collected, Enclosure, RevocationData
from pki.revocation_store import Item, Kept, Kind, RevocationStore
from pki.trust_store import issued_by

REFETCH_AFTER: Final = timedelta(hours=1)  #: a revocation is known to us at the latest after this time
COLLECT_SECONDS_MAX: Final = 30.0  #: for one path; after that nothing more is fetched for it
RETRY_AFTER: Final = timedelta(seconds=30)  #: a server that failed is left alone for this long, or for `refetch_after`
REFRESH_AT: Final = 0.75  #: of the time for which an item serves; from then on it is renewed ahead
REFRESH_PAUSE: Final = timedelta(minutes=1)  #: between two looks for what is to be renewed
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CollectionPolicy:
    """How revocation data is collected. What is made of it is in `policy.ValidationPolicy`."""

    refetch_after: timedelta = REFETCH_AFTER
    clock_skew: timedelta = timedelta(minutes=5)  #: how far in the future an OCSP answer may begin
    nonce_required: bool = False  #: refuse OCSP answers that bring no nonce (see `ocsp`)


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What came of fetching one item."""

    url: str
    issuer: str  #: its name
    next_update: datetime | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class _Asked:
    """One question: the moment for which data is wanted, when it was asked, and until when fetching may go on."""

    now: datetime
    at: datetime
    deadline: float  #: of time.monotonic


@dataclass(frozen=True, slots=True)
class _Held:
    """An item from disk whose signature was checked."""

    data: bytes
    fetched_at: datetime
    since: datetime
    until: datetime


@dataclass(slots=True)
class _Found:
    """What was collected for one certificate."""

    lists: list[Crl] = field(default_factory=list)
    deltas: list[Crl] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def data(self) -> RevocationData:
        ders = [crl.public_bytes(Encoding.DER) for crl in (*self.lists, *self.deltas)]
        return RevocationData(tuple(ders), tuple(self.answers))

    def counts(self, now: datetime) -> bool:
        """Do the lists tell about every reason, today?"""
        return crls.covers_all_reasons([crl for crl in self.lists if _until(crl) >= now])


class RevocationCache:
    """A folder of revocation data and the way to renew it. Thread-safe; several processes may share the folder."""

    def __init__(
        self,
        folder: Path,
        fetcher: Fetcher,
        policy: CollectionPolicy | None = None,
        *,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._store = RevocationStore(folder)
        self._fetcher = fetcher
        self._policy = policy or CollectionPolicy()
        self._clock = clock or _now

    # --- for a path -----------------------------------------------------------------------------------------------

    def collect(self, path: Sequence[x509.Certificate], now: datetime) -> Collected:
        """The data for every certificate of a path (leaf first) but its root, fetched where needed."""
        asked = self._ask(now)
        found = [self._for_one(certificate, issuer, asked) for certificate, issuer in pairwise(path)]
        return Collected(
            _together(each.data for each in found),
            tuple(dict.fromkeys(problem for each in found for problem in each.problems)),
        )

    def enclose(
        self, paths: Iterable[Sequence[x509.Certificate]], now: datetime, max_bytes: int, max_items: int
    ) -> Enclosure:
        """The data for all paths, for others to verify later: within `max_bytes`, and `max_items` of either kind.

        An OCSP answer stands in for lists that are too large. What fits in neither form is left out and counted.
        """
        asked = self._ask(now)
        pairs = {certificate: issuer for path in paths for certificate, issuer in pairwise(path)}
        found = {each: self._for_one(each, issuer, asked) for each, issuer in pairs.items()}
        chosen = {each: it.data for each, it in found.items() if it.counts(now) or it.answers}
        shrinkable = {each for each in chosen if not found[each].answers}
        while not _fits(_together(chosen.values()), max_bytes, max_items):
            largest = max(chosen, key=lambda each: chosen[each].size)
            answers = self._answers(largest, pairs[largest], asked, []) if largest in shrinkable else []
            smaller = RevocationData(ocsp=tuple(answers))
            if answers and smaller.size < chosen[largest].size:
                chosen[largest] = smaller
                shrinkable.remove(largest)
            else:
                del chosen[largest]
        return Enclosure(_together(chosen.values()), len(pairs) - len(chosen))

    def _ask(self, now: datetime) -> _Asked:
        return _Asked(now, self._clock(), time.monotonic() + COLLECT_SECONDS_MAX)

    def _for_one(self, certificate: x509.Certificate, issuer: x509.Certificate, asked: _Asked) -> _Found:
        found = _Found()
        points = crls.points(certificate)
        for point in points:
            self._take_list(found, certificate, issuer, point, asked)
            if found.counts(asked.now):
                break
        for point in _delta_points(certificate, found.lists):
            self._take_delta(found, issuer, point, asked)
        if not found.counts(asked.now):
            found.answers += self._answers(certificate, issuer, asked, found.problems)
        if not points and not ocsp.responders(certificate):
            name = display_name(certificate.subject)
            found.problems.append(f"{name} does not say where one learns of its revocation")
        return found

    def _take_list(
        self, found: _Found, certificate: x509.Certificate, issuer: x509.Certificate, point: Point, asked: _Asked
    ) -> None:
        found.problems += point.left_out
        if point.indirect:
            found.problems.append("a list that another issuer signs is not used")
            return
        for url in point.urls:
            try:
                crl = crls.read_crl(self._current(Item(Kind.CRL, url, issuer), asked, found.problems))
                crls.check_scope(crl, certificate, point)
                crls.check_complete(crl)
            except RevocationUnavailable as error:
                found.problems.append(_short(error))
            else:
                found.lists.append(crl)
                return

    def _take_delta(self, found: _Found, issuer: x509.Certificate, point: Point, asked: _Asked) -> None:
        """A delta makes an answer newer; without one the complete list counts as long as it is current."""
        found.problems += point.left_out
        for url in point.urls:
            try:
                delta = crls.read_crl(self._current(Item(Kind.CRL, url, issuer), asked, found.problems))
                crls.check_delta(delta, found.lists)
            except RevocationUnavailable as error:
                found.problems.append(_short(error))
            else:
                found.deltas.append(delta)
                return

    def _answers(
        self, certificate: x509.Certificate, issuer: x509.Certificate, asked: _Asked, problems: list[str]
    ) -> list[bytes]:
        for url in ocsp.responders(certificate):
            try:
                return [self._current(Item(Kind.OCSP, url, issuer, certificate), asked, problems)]
            except RevocationUnavailable as error:
                problems.append(_short(error))
        return []

    # --- one item -------------------------------------------------------------------------------------------------

    def _current(self, item: Item, asked: _Asked, problems: list[str]) -> bytes:
        """The item, fetched unless the kept one is young. Where that fails the kept one serves, and why is told.

        Raises RevocationUnavailable when there is neither.
        """
        held = self._held(item, asked.now)
        if held is not None and self._is_young(held, asked.now):
            return held.data
        try:
            with self._store.fetching(item):
                held = self._held(item, asked.now)  # another thread or process may have been faster
                if held is not None and (self._is_young(held, asked.now) or self._came_meanwhile(held, asked)):
                    return held.data
                self._require_worth_trying(item, asked)
                return self._renew(item, held, asked.now).data
        except RevocationUnavailable as error:
            if held is None:
                raise
            problems.append(_short(error))
            return held.data

    def _came_meanwhile(self, held: _Held, asked: _Asked) -> bool:
        return asked.at <= held.fetched_at <= self._clock()

    def _require_worth_trying(self, item: Item, asked: _Asked) -> None:
        failed_at, reason = self._store.last_failure(item) or (_NEVER, "")
        pause = min(RETRY_AFTER, self._policy.refetch_after)
        if asked.at <= failed_at <= self._clock() or failed_at <= self._clock() < failed_at + pause:
            raise RevocationUnavailable(reason)
        if time.monotonic() > asked.deadline:
            raise RevocationUnavailable(f"{item.url!r} was not tried: fetching took over {COLLECT_SECONDS_MAX:.0f} s.")

    def _renew(self, item: Item, held: _Held | None, now: datetime) -> _Held:
        """Fetch, verify and keep. The caller holds the item's lock. Raises RevocationUnavailable."""
        began = self._clock()
        try:
            fetched = self._fetched(item, now, began)
            if held is not None and fetched.since < held.since:
                raise crls.refused("it is older than the one that is known already")
            self._store.keep(item, fetched.data, began)
        except RevocationUnavailable as error:
            self._store.failed(item, error.what, self._clock())
            raise
        return fetched

    def _fetched(self, item: Item, now: datetime, began: datetime) -> _Held:
        if item.certificate is None:
            return _read_list(item, Kept(self._fetcher.fetch(item.url), began))
        question = ocsp.question(item.certificate, item.issuer)
        data = self._fetcher.ask(item.url, question.der)
        return self._read_answer(item, item.certificate, Kept(data, began), now, question.nonce)

    def _held(self, item: Item, now: datetime) -> _Held | None:
        """What is on disk; checked like something from the network, since others may write that folder."""
        kept = self._store.load(item)
        if kept is None:
            return None
        try:
            if item.certificate is None:
                return _read_list(item, kept)
            return self._read_answer(item, item.certificate, kept, now)
        except RevocationUnavailable:
            return None

    def _read_answer(
        self, item: Item, certificate: x509.Certificate, kept: Kept, now: datetime, nonce: bytes | None = None
    ) -> _Held:
        answer = ocsp.read_answer(
            kept.data,
            certificate,
            item.issuer,
            now,
            skew=self._policy.clock_skew,
            nonce=nonce,
            nonce_required=self._policy.nonce_required,
        )
        return _Held(kept.data, kept.fetched_at, answer.this_update, answer.until)

    def _is_young(self, held: _Held, now: datetime) -> bool:
        # A time of fetching in the future is nobody's: the item is fetched anew.
        fetched_lately = held.fetched_at <= self._clock() < held.fetched_at + self._policy.refetch_after
        return fetched_lately and now <= held.until

    # --- ahead of time, and on demand -----------------------------------------------------------------------------

    def refresh_all(self, certificates: Sequence[x509.Certificate]) -> list[Refreshed]:
        """Fetch every list anew that these certificates name, and every one in the cache."""
        wanted = {item.digest: item for item in self._store.items() if item.kind is Kind.CRL}
        for certificate in certificates:
            for issuer in (c for c in certificates if issued_by(certificate, c)):
                places = [*crls.points(certificate), *crls.delta_points(certificate)]
                items = [Item(Kind.CRL, url, issuer) for point in places for url in point.urls]
                wanted.update({item.digest: item for item in items})
        return [self._refreshed(item) for item in wanted.values()]

    def refresh_due(self) -> list[Refreshed]:
        """Fetch the lists anew that will soon be too old, so that nobody who asks has to wait.

        OCSP answers are left: each is about one citizen, who may not be met again.
        """
        if not self._policy.refetch_after:
            return []  # every question fetches anyway
        return [self._refreshed(item) for item in self._store.items() if item.kind is Kind.CRL and self._is_due(item)]

    def _is_due(self, item: Item) -> bool:
        clock = self._clock()
        if item.issuer.not_valid_after_utc < clock:
            return False  # a list of an issuer that is no more
        held = self._held(item, clock)
        if held is None:
            return True
        life = min(self._policy.refetch_after, held.until - held.fetched_at)
        return not held.fetched_at <= clock < held.fetched_at + life * REFRESH_AT

    def _refreshed(self, item: Item) -> Refreshed:
        clock, name = self._clock(), display_name(item.issuer.subject)
        try:
            with self._store.fetching(item):
                held = self._held(item, clock)
                if held is None or held.fetched_at < clock:
                    held = self._renew(item, held, clock)
        except RevocationUnavailable as error:
            return Refreshed(item.url, name, None, error.what)
        return Refreshed(item.url, name, held.until, None)


class Refresher:
    """A thread that renews the cache ahead of time until it is closed."""

    def __init__(
        self, cache: RevocationCache, told: Callable[[Refreshed], None], *, pause: timedelta = REFRESH_PAUSE
    ) -> None:
        """`told` is called, in that thread, with what came of each renewal."""
        self._cache = cache
        self._told = told
        self._pause = pause.total_seconds()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="revocation-refresher", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(self._pause):
            for each in self._cache.refresh_due():
                self._told(each)

    def close(self) -> None:
        """End it. A fetch that is under way ends with the program."""
        self._ended.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _together(data: Iterable[RevocationData]) -> RevocationData:
    return sum(data, RevocationData())


def _fits(data: RevocationData, max_bytes: int, max_items: int) -> bool:
    return data.size <= max_bytes and max(len(data.crls), len(data.ocsp)) <= max_items


def _delta_points(certificate: x509.Certificate, lists: Sequence[Crl]) -> list[Point]:
    if not lists:
        return []  # nothing that a delta could make newer
    holders: list[x509.Certificate | Crl] = [certificate, *lists]
    found = [point for holder in holders for point in crls.delta_points(holder)]
    return [replace(point, urls=tuple(urls)) for point, urls in _distinct(found)]


def _distinct(points: Iterable[Point]) -> list[tuple[Point, list[str]]]:
    """Certificate and list mostly name the same delta: each address once."""
    seen: set[str] = set()
    found = []
    for point in points:
        urls = [url for url in point.urls if url not in seen]
        seen.update(urls)
        if urls:
            found.append((point, urls))
    return found


def _read_list(item: Item, kept: Kept) -> _Held:
    crl = crls.read_crl(kept.data)
    crls.check_signature(crl, item.issuer)
    return _Held(kept.data, kept.fetched_at, crl.last_update_utc, _until(crl))


def _until(crl: Crl) -> datetime:
    end = crl.next_update_utc
    return _NEVER if end is None else end


def _short(error: RevocationUnavailable) -> str:
    return error.what.rstrip(".")


def _now() -> datetime:
    return datetime.now(UTC)
