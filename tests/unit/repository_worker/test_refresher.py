"""A worker renews the lists that all workers share, ahead of time."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from pki.fetchers import HttpFetcher
from pki.revocation import RevocationCache
from pki.test_ca import TestCa
from pki.trust_store import TrustStore
from repository_worker.keys import Home
from repository_worker.settings import Settings
from repository_worker.worker import start_refresher
from tests.support.revocation_server import RevocationServer


def test_a_list_that_was_used_is_fetched_again_without_a_question(tmp_path):
    with RevocationServer() as server:
        ca = TestCa.create(tmp_path / "ca", server.url, "only for tests")
        again = threading.Event()

        def published(_question):
            if server.counts["/root.crl"] > 1:
                again.set()
            return (ca.crl_folder / "root.crl").read_bytes()

        server.answer("/root.crl", published)
        settings = Settings(home=tmp_path / "home", allow_private_crl_hosts=True, crl_refetch_seconds=0.01)
        folder = TrustStore.open(Home(settings.home).trust_folder).crl_folder
        card, _, _ = ca.intermediates
        RevocationCache(folder, HttpFetcher(allow_private_addresses=True)).collect([card, ca.root], datetime.now(UTC))
        with start_refresher(settings, timedelta(milliseconds=10)):
            assert again.wait(20)


def test_private_addresses_are_refused_here_too_unless_they_are_allowed(tmp_path):
    with RevocationServer() as server:
        ca = TestCa.create(tmp_path / "ca", server.url, "only for tests")
        server.publish("/root.crl", (ca.crl_folder / "root.crl").read_bytes())
        settings = Settings(home=tmp_path / "home", crl_refetch_seconds=0.01)
        folder = TrustStore.open(Home(settings.home).trust_folder).crl_folder
        card, _, _ = ca.intermediates
        RevocationCache(folder, HttpFetcher(allow_private_addresses=True)).collect([card, ca.root], datetime.now(UTC))
        failed = next(folder.glob("*.crl")).with_suffix(".failed")
        with start_refresher(settings, timedelta(milliseconds=10)):
            ended = datetime.now(UTC) + timedelta(seconds=20)
            while not failed.exists() and datetime.now(UTC) < ended:
                threading.Event().wait(0.01)
        assert b"private network" in failed.read_bytes()
        assert server.counts["/root.crl"] == 1
