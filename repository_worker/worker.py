"""One worker, put together: keys, storage, identities, pipeline, consumer. Nothing here decides anything."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import threading
from collections.abc import Callable
from datetime import timedelta

import structlog

from crypto_core.ids import RepositoryId
from pki.fetchers import HttpFetcher
from pki.revocation import REFRESH_PAUSE, CollectionPolicy, Refreshed, Refresher, RevocationCache
from pki.trust_store import TrustStore
from pki.validator import IdentityValidator
from repository_worker.ends import Ends, Letterbox
from repository_worker.epochs import Epochs
from repository_worker.errors import HomeError, StorageError, StorageUnavailable
from repository_worker.health import Health, HealthServer
from repository_worker.identities import Identities
from repository_worker.keys import Home, KekRing, RepositoryKeystore, now_ms
from repository_worker.metrics import Metrics
from repository_worker.observer import Observer
from repository_worker.pipeline import Pipeline, RepositoryState
from repository_worker.processes import at_end
from repository_worker.sessions import Sessions
from repository_worker.settings import Settings
from repository_worker.stamper import Stamper
from repository_worker.storage.driver import connect
from repository_worker.storage.memory import NEWS_SECONDS
from repository_worker.storage.mongo import MongoStorage
from repository_worker.storage.operations import Migration, Operations
from repository_worker.storage.retention import Retention, Swept
from repository_worker.transport.consumer import Consumer
from repository_worker.turns import Turns
from repository_worker.watchers import Watchers

#: Between two looks for KEKs and former keys that nothing lives under any more; seconds.
KEY_ROUND_SECONDS = 600.0
#: Between two looks whether it is time to sweep; seconds. Drawn apart, so that workers do not all ask at once.
SWEEP_ROUND_SECONDS = 300.0
#: Between two questions for the schema's version while the database does not answer; seconds.
SCHEMA_PAUSE_SECONDS = 0.5


def run(
    settings: Settings, opened: RepositoryKeystore, *, number: int = 0, on_ready: Callable[[], None] = lambda: None
) -> None:
    """Works until SIGTERM or SIGINT. `opened` is the keystore, whose passphrase the caller had.

    `number` tells several workers of one command apart; `on_ready` is called when messages first begin to flow.
    """
    metrics = Metrics()
    home = Home(settings.home)
    letterbox = Letterbox(RepositoryId(opened.repository), opened.ends_key, metrics)
    turns = Turns(home.folder, letterbox, metrics)
    storage = open_storage(settings, opened, turns)
    operations = open_operations(settings)
    health = Health(metrics, storage.probe)
    ring = home.ring(opened)
    watchers = Watchers(lambda: storage.watches(now_ms()))
    authority = settings.authority()
    stamper = Stamper(RepositoryId(opened.repository), authority, storage) if authority else None
    pipeline = build_pipeline(settings, opened, storage, ring, metrics, watchers, stamper)
    name = f"smr-worker {os.getpid()}"
    ends = Ends(letterbox, storage)
    consumer = Consumer(settings.broker(), pipeline, storage.probe, metrics, settings.consumer(name), ends)
    ended = threading.Event()

    def stop() -> None:
        ended.set()
        health.stopping()
        consumer.stop()

    at_end(stop)
    # Not fatal: a database that is down is waited for when there is something to store.
    _quietly(storage.limit_transactions)
    threading.Thread(
        target=_retire_keys, args=(ring, home.epochs(opened), storage, ended), name="keys", daemon=True
    ).start()
    threading.Thread(target=_sweep, args=(settings, ended), name="retention", daemon=True).start()
    threading.Thread(target=_follow_news, args=(storage, ended), name="news", daemon=True).start()
    if stamper is not None:
        threading.Thread(target=stamper.run, args=(ended, settings.tsa_seconds), name="stamps", daemon=True).start()
    announce = _once(on_ready)
    settle = _once(settle_heap)

    def ready() -> None:
        health.consuming()
        settle()
        announce()

    with contextlib.ExitStack() as ending:
        ending.callback(turns.close)
        ending.callback(storage.close)
        ending.callback(operations.close)
        if settings.metrics_port:
            ending.enter_context(HealthServer(health, settings.metrics_port + number, settings.metrics_address))
            ending.enter_context(Observer(settings.broker(), operations, metrics))
        ending.enter_context(start_refresher(settings))
        _await_schema(operations, storage, ended)
        ending.enter_context(watchers)
        ending.enter_context(ends)
        consumer.run(on_ready=ready)


def settle_heap() -> None:
    """Takes what a worker has loaded out of the collector's sight: it stays as long as the worker does.

    Looking through all of it holds up every message for 70 to 110 ms, and would be done again and again.
    """
    gc.collect()
    gc.freeze()


def open_storage(settings: Settings, opened: RepositoryKeystore, turns: Turns | None = None) -> MongoStorage:
    """The storage of this repository; with `turns` it stores full batches in turn with other workers."""
    return MongoStorage(connect(settings.mongo()), settings.mongo_database, opened.repository, settings.quota(), turns)


def open_operations(settings: Settings) -> Operations:
    """The same database as its operator sees it."""
    return Operations(connect(settings.mongo()), settings.mongo_database)


def prepare(operations: Operations, storage: MongoStorage) -> int:
    """Collections, validators and indexes, and documents of this release's version. Gives the schema's version."""
    storage.prepare()
    return operations.migrate(migrations(storage))


def migrations(storage: MongoStorage) -> dict[int, Migration]:
    """The step from each older version to the next one."""
    return {0: storage.prepare}


def start_refresher(settings: Settings, pause: timedelta = REFRESH_PAUSE) -> Refresher:
    """Renews the lists that the workers of this repository share, ahead of time. Raises TrustStoreError."""
    fetcher = HttpFetcher(allow_private_addresses=settings.allow_private_crl_hosts)
    policy = CollectionPolicy(refetch_after=timedelta(seconds=settings.crl_refetch_seconds))
    cache = RevocationCache(TrustStore.open(Home(settings.home).trust_folder).crl_folder, fetcher, policy)
    return Refresher(cache, _tell_refreshed, pause=pause)


def _tell_refreshed(done: Refreshed) -> None:
    log = structlog.get_logger("revocation")
    if done.problem is None:
        log.info("renewed", list=done.url, until=str(done.next_update))
    else:
        log.warning("not renewed", list=done.url, problem=done.problem)


def build_pipeline(
    settings: Settings,
    opened: RepositoryKeystore,
    storage: MongoStorage,
    ring: KekRing,
    metrics: Metrics,
    watchers: Watchers | None = None,
    stamper: Stamper | None = None,
) -> Pipeline:
    """The pipeline of this repository; without `watchers` nobody is told of what comes.

    Raises HomeError, TrustStoreError.
    """
    home = Home(settings.home)
    fetcher = HttpFetcher(allow_private_addresses=settings.allow_private_crl_hosts)
    validator = IdentityValidator.open(
        home.trust_folder,
        fetcher,
        refetch_after=timedelta(seconds=settings.crl_refetch_seconds),
        remember_for=timedelta(seconds=settings.certificate_memory_seconds),
    )
    sessions = Sessions(storage, ring, seconds=settings.session_cache_seconds, entries=settings.session_cache_entries)
    state = RepositoryState(
        RepositoryId(opened.repository),
        home.epochs(opened),
        ring,
        opened.share_secret,
        evidence=opened.evidence_signer(),
        stamper=stamper,
        own_accounts=settings.own_accounts,
    )
    told = watchers or Watchers(dict)
    return Pipeline(state, storage, sessions, Identities(validator), metrics, watching=told.queues)


def _await_schema(operations: Operations, storage: MongoStorage, ended: threading.Event) -> None:
    """Returns when the documents have a version that this release serves. Raises StorageError when they never will."""
    while not ended.is_set():
        try:
            stamp = operations.migrate(migrations(storage))
        except StorageUnavailable as error:
            structlog.get_logger("worker").warning("database", error=str(error))
            ended.wait(SCHEMA_PAUSE_SECONDS)
        else:
            structlog.get_logger("worker").info("schema", version=stamp)
            return


def _retire_keys(ring: KekRing, epochs: Epochs, storage: MongoStorage, ended: threading.Event) -> None:
    log = structlog.get_logger("keys")
    while not ended.wait(KEY_ROUND_SECONDS):
        _quietly(lambda: log.info("destroyed", keks=ring.destroy_unused(now_ms(), storage.keks_in_use(now_ms()))))
        _quietly(lambda: log.info("destroyed", epochs=epochs.destroy_over(now_ms())))


def _follow_news(storage: MongoStorage, ended: threading.Event) -> None:
    while not ended.wait(NEWS_SECONDS / 2):
        _quietly(storage.refresh_news)


def _sweep(settings: Settings, ended: threading.Event) -> None:
    log = structlog.get_logger("retention")
    while not ended.wait(random.uniform(0.5, 1.5) * SWEEP_ROUND_SECONDS):  # noqa: S311 - spreads them, decides nothing
        try:
            swept = sweep(settings)
        except StorageError as error:
            log.warning("not now", error=str(error))
        else:
            if swept is not None:
                log.info("swept", bodies=swept.bodies, orphans=swept.orphans, uploads=swept.uploads)


def sweep(settings: Settings) -> Swept | None:
    """One sweep, with a connection of its own that is gone afterwards. Raises StorageError."""
    retention = Retention(connect(settings.mongo()), settings.mongo_database, settings.retention())
    try:
        return retention.sweep(now_ms())
    finally:
        retention.close()


def _once(work: Callable[[], None]) -> Callable[[], None]:
    left = [work]

    def run_first() -> None:
        if left:
            left.pop()()

    return run_first


def _quietly(work: Callable[[], None]) -> None:
    try:
        work()
    except (HomeError, StorageUnavailable) as error:
        structlog.get_logger("worker").warning("not now", error=str(error))
