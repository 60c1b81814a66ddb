"""The cache of revocation data: what it fetches when, what it keeps, and what it never believes."""

from __future__ import annotations

import json
import multiprocessing
import threading
from datetime import UTC, datetime, timedelta

import pytest
from asn1crypto import crl as asn1_crl
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from pki import revocation
from pki.crls import check_signature, points, read_crl
from pki.errors import RevocationUnavailable
from pki.fetchers import CRL_BYTES_MAX, HttpFetcher, NoFetcher
from pki.revocation import CollectionPolicy, Refresher, RevocationCache
from pki.revocation_store import Item, Kind, RevocationStore
from pki.test_ca import Holder, TestCa
from pki.test_responder import TestResponder
from tests.support.clock import Clock
from tests.support.revocation_server import RevocationServer

LISTS = 4  #: of a citizen's path: their CA's complete list and delta, and one of each CA above


class CountingFetcher:
    """Answers from a table, and counts."""

    def __init__(self, answers):
        self.answers, self.count = answers, 0

    def fetch(self, url):
        self.count += 1
        answer = self.answers.get(url.rsplit("/", 1)[1])
        if answer is None:
            raise RevocationUnavailable(f"nothing at {url}")
        return answer

    def ask(self, url, question):
        raise RevocationUnavailable(f"nobody answers at {url}")


@pytest.fixture
def ca(tmp_path):
    return TestCa.create(tmp_path / "ca", "http://127.0.0.1:1", "only for tests")


@pytest.fixture
def path(ca):
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    leaf = ca.issue_card_certificates(Holder.named("João Sá"), key, key).authentication
    card, authentication, _signature = ca.intermediates
    return [leaf, authentication, card, ca.root]


def files(ca):
    return {p.name: p.read_bytes() for p in ca.crl_folder.glob("*.crl")}


@pytest.fixture
def cached(tmp_path, ca):
    """A cache, its fetcher and its clock."""
    folder = tmp_path / "crls"
    folder.mkdir()
    fetcher, clock = CountingFetcher(files(ca)), Clock(datetime.now(UTC))
    return RevocationCache(folder, fetcher, clock=clock), fetcher, clock


def test_every_list_of_a_path_is_fetched_once_and_kept(cached, path):
    cache, fetcher, clock = cached
    first = cache.collect(path, clock())
    assert (len(first.data.crls), first.problems, fetcher.count) == (LISTS, (), LISTS)
    assert cache.collect(path, clock()).data == first.data
    assert fetcher.count == LISTS


def test_another_process_finds_the_lists_on_disk(cached, path, tmp_path):
    cache, _, clock = cached
    cache.collect(path, clock())
    offline = RevocationCache(tmp_path / "crls", NoFetcher(), clock=clock)
    assert len(offline.collect(path, clock()).data.crls) == LISTS


def test_a_list_is_fetched_again_after_its_time(cached, path):
    cache, fetcher, clock = cached
    cache.collect(path, clock())
    clock.now += timedelta(minutes=59)
    cache.collect(path, clock())
    assert fetcher.count == LISTS
    clock.now += timedelta(minutes=1)
    cache.collect(path, clock())
    assert fetcher.count == 2 * LISTS


def test_a_list_past_its_end_is_fetched_again_however_young(cached, path, ca):
    cache, fetcher, clock = cached
    ca.publish_crls(next_update=clock() + timedelta(minutes=10))
    fetcher.answers = files(ca)
    cache.collect(path, clock())
    clock.now += timedelta(minutes=11)
    cache.collect(path, clock())
    assert fetcher.count == 2 * LISTS


def test_a_time_of_fetching_in_the_future_is_not_believed(cached, path):
    cache, fetcher, clock = cached
    cache.collect(path, clock())
    clock.now -= timedelta(minutes=5)
    cache.collect(path, clock())
    assert fetcher.count == 2 * LISTS


def test_refreshing_all_knows_the_lists_seen_before(cached, path, ca):
    cache, fetcher, clock = cached
    cache.collect(path, clock())
    clock.now += timedelta(seconds=1)
    done = cache.refresh_all([ca.root, *ca.intermediates])
    found = {line.url.rsplit("/", 1)[1] for line in done}
    assert found == {"root.crl", "card.crl", "authentication.crl", "authentication-delta.crl"}
    assert not any(line.problem for line in done)
    assert fetcher.count == 2 * LISTS


def test_a_kept_list_serves_on_when_the_server_is_gone_and_the_problem_is_told(cached, path):
    cache, fetcher, clock = cached
    cache.collect(path, clock())
    fetcher.answers = {}
    clock.now += timedelta(hours=2)
    later = cache.collect(path, clock())
    assert len(later.data.crls) == LISTS
    assert len(later.problems) == LISTS


def test_a_server_that_failed_is_left_alone_for_a_while(cached, path, tmp_path):
    cache, fetcher, clock = cached
    fetcher.answers = {}
    first = cache.collect(path, clock())
    assert first.data.crls == ()
    other = RevocationCache(tmp_path / "crls", fetcher, clock=clock)
    assert other.collect(path, clock()).problems == first.problems, "another process is told the same"
    assert fetcher.count == 3
    clock.now += timedelta(minutes=1)
    cache.collect(path, clock())
    assert fetcher.count == 6


def test_a_path_whose_fetching_takes_too_long_is_not_waited_for(cached, path, monkeypatch):
    cache, fetcher, clock = cached
    monkeypatch.setattr(revocation, "COLLECT_SECONDS_MAX", -1.0)
    found = cache.collect(path, clock())
    assert (found.data.crls, fetcher.count) == ((), 0)
    assert "was not tried: fetching took over" in found.problems[0]


def test_a_server_that_is_back_is_believed_at_once_after_its_pause(cached, path, ca):
    cache, fetcher, clock = cached
    fetcher.answers = {}
    cache.collect(path, clock())
    fetcher.answers = files(ca)
    clock.now += timedelta(minutes=1)
    found = cache.collect(path, clock())
    assert (len(found.data.crls), found.problems) == (LISTS, ())


def test_an_older_list_never_replaces_a_newer_one(cached, path, ca):
    cache, fetcher, clock = cached
    old = files(ca)
    ca.publish_crls(this_update=clock() + timedelta(seconds=5))
    fetcher.answers = files(ca)
    newer = cache.collect(path, clock()).data.crls
    fetcher.answers = old
    clock.now += timedelta(hours=2)
    again = cache.collect(path, clock())
    assert again.data.crls == newer
    assert "older than the one" in again.problems[0]


def test_a_list_of_another_issuer_or_key_is_not_kept(cached, path, ca, tmp_path):
    cache, fetcher, clock = cached
    foreign = files(TestCa.create(tmp_path / "foreign", "http://127.0.0.1:1", "x"))
    fetcher.answers = {
        "authentication.crl": foreign["authentication.crl"],
        "card.crl": files(ca)["root.crl"],
        "root.crl": b"rubbish",
    }
    found = cache.collect(path, clock())
    assert found.data.crls == ()
    assert list((tmp_path / "crls").glob("*.crl")) == []


def test_a_file_changed_on_disk_is_not_used(cached, path, tmp_path):
    cache, _, clock = cached
    cache.collect(path, clock())
    for file in (tmp_path / "crls").glob("*.crl"):
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    assert RevocationCache(tmp_path / "crls", NoFetcher(), clock=clock).collect(path, clock()).data.crls == ()


def test_notes_and_locks_changed_on_disk_do_no_harm(cached, path, tmp_path):
    cache, _, clock = cached
    cache.collect(path, clock())
    notes = sorted((tmp_path / "crls").glob("*.json"))
    notes[0].write_bytes(b"{" * 100_000)
    notes[1].write_text(json.dumps({"url": 7, "kind": "crl", "issuer": "no"}))
    notes[2].write_text(json.dumps(["no", "map"]))
    clock.now += timedelta(seconds=1)
    assert len(cache.refresh_all([])) == LISTS - 3
    assert len(cache.collect(path, clock()).data.crls) == LISTS


def test_a_certificate_that_names_no_source_is_a_problem(cached, ca):
    cache, _, clock = cached
    found = cache.collect([ca.root, ca.root], clock())
    assert found.data.crls == ()
    assert "does not say where" in found.problems[0]


def test_only_web_addresses_are_followed(ca, path):
    issuer, key = ca.authority("authentication")
    urls = ["file:///etc/passwd", "ldap://127.0.0.1/x", "http://127.0.0.1:1/a.crl", "HTTPS://127.0.0.1/b.crl"]
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(u) for u in urls], None, None, None)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(issuer.subject)
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(issuer.not_valid_before_utc)
        .not_valid_after(issuer.not_valid_after_utc)
        .add_extension(x509.CRLDistributionPoints([point]), critical=False)
        .sign(key, path[0].signature_hash_algorithm)
    )
    (found,) = points(certificate)
    assert list(found.urls) == urls[2:]
    assert len(found.left_out) == 2


def test_a_crl_without_next_update_is_refused(ca):
    """RFC 5280 section 5.1.2.5 demands one; the library writes none without, so it is cut out of a good list."""
    crl = asn1_crl.CertificateList.load(files(ca)["card.crl"])
    fields = {name: value for name, value in crl["tbs_cert_list"].native.items() if value is not None}
    assert "next_update" in fields
    tbs = asn1_crl.TbsCertList({name: crl["tbs_cert_list"][name] for name in fields if name != "next_update"})
    ended = asn1_crl.CertificateList(
        {"tbs_cert_list": tbs, "signature_algorithm": crl["signature_algorithm"], "signature": crl["signature"]}
    )
    with pytest.raises(RevocationUnavailable, match="it has no nextUpdate"):
        read_crl(ended.dump(force=True))


def test_what_is_no_crl_is_refused():
    with pytest.raises(RevocationUnavailable, match="not a CRL in DER form"):
        read_crl(b"\x30\x03\x02\x01\x00")


def test_a_crl_of_another_authority_is_refused(ca):
    data = files(ca)["card.crl"]
    with pytest.raises(RevocationUnavailable, match="it is a list of"):
        check_signature(read_crl(data), ca.root)


def test_a_list_over_the_limit_is_refused(ca):
    with pytest.raises(RevocationUnavailable, match="larger"):
        read_crl(bytes(CRL_BYTES_MAX + 1))


# --- shared by processes ------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path):
    """A CA on a real server that counts, a citizen's path, and the folder of a cache."""
    with RevocationServer() as server:
        ca = TestCa.create(tmp_path / "ca", server.url, "only for tests")
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        leaf = ca.issue_card_certificates(Holder.named("João Sá"), key, key).authentication
        card, authentication, _signature = ca.intermediates
        for name, data in files(ca).items():
            server.publish(f"/{name}", data)
        responder = TestResponder(ca)
        server.answer("/ocsp/authentication", lambda question: responder.answer("authentication", question))
        (tmp_path / "crls").mkdir()
        yield server, [leaf, authentication, card, ca.root], tmp_path / "crls"


FETCHER = HttpFetcher(allow_private_addresses=True, max_seconds=5)


def collect_in_a_process(folder, path_der, barrier):
    path = [x509.load_der_x509_certificate(der) for der in path_der]
    barrier.wait(20)
    found = RevocationCache(folder, FETCHER).collect(path, datetime.now(UTC))
    raise SystemExit(0 if len(found.data.crls) == LISTS and not found.problems else 1)


def test_of_many_processes_that_want_a_list_one_fetches(served):
    server, path, folder = served
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    ders = [certificate.public_bytes(Encoding.DER) for certificate in path]
    workers = [
        context.Process(target=collect_in_a_process, args=(folder, ders, barrier), daemon=True) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert set(server.counts.values()) == {1}


def test_of_many_threads_that_want_a_list_one_fetches_even_when_nothing_is_kept_for_long(served):
    server, path, folder = served
    cache = RevocationCache(folder, FETCHER, CollectionPolicy(refetch_after=timedelta(0)))
    barrier, results = threading.Barrier(6), []

    def work():
        barrier.wait(10)
        results.append(cache.collect(path, datetime.now(UTC)))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [len(each.data.crls) for each in results] == [LISTS] * 6
    assert max(server.counts.values()) < 6


def test_an_answer_is_kept_too_and_checked_when_it_is_read(served):
    server, path, folder = served
    del server.pages["/authentication.crl"]
    cache = RevocationCache(folder, FETCHER)
    first = cache.collect(path[:2], datetime.now(UTC)).data.ocsp
    assert cache.collect(path[:2], datetime.now(UTC)).data.ocsp == first
    assert server.counts["/ocsp/authentication"] == 1
    (file,) = folder.glob("*.ocsp")
    file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    offline = RevocationCache(folder, NoFetcher())
    assert offline.collect(path[:2], datetime.now(UTC)).data.ocsp == ()


# --- ahead of time ------------------------------------------------------------------------------------------------


def test_lists_are_renewed_ahead_of_their_time(cached, path):
    cache, fetcher, clock = cached
    cache.collect(path, clock())
    clock.now += timedelta(minutes=44)
    assert cache.refresh_due() == []
    clock.now += timedelta(minutes=1)  # three quarters of the hour
    assert len(cache.refresh_due()) == LISTS
    clock.now += timedelta(minutes=30)
    cache.collect(path, clock())
    assert fetcher.count == 2 * LISTS, "nobody who asks has to wait"


def test_a_list_that_ends_soon_is_renewed_sooner(cached, path, ca):
    cache, fetcher, clock = cached
    ca.publish_crls(next_update=clock() + timedelta(minutes=20))
    fetcher.answers = files(ca)
    cache.collect(path, clock())
    clock.now += timedelta(minutes=16)
    assert len(cache.refresh_due()) == LISTS


def test_a_list_of_an_issuer_that_is_no_more_is_not_renewed(cached, path):
    cache, _, clock = cached
    cache.collect(path, clock())
    clock.now += timedelta(days=20 * 365)
    assert cache.refresh_due() == []


def test_where_every_question_fetches_nothing_is_renewed(served):
    _, path, folder = served
    cache = RevocationCache(folder, FETCHER, CollectionPolicy(refetch_after=timedelta(0)))
    cache.collect(path, datetime.now(UTC))
    assert cache.refresh_due() == []


def test_the_refresher_works_in_the_background_until_it_is_closed(served):
    server, path, folder = served
    cache = RevocationCache(folder, FETCHER, CollectionPolicy(refetch_after=timedelta(microseconds=1)))
    cache.collect(path, datetime.now(UTC))
    renewed, done = threading.Event(), []

    def told(each):
        done.append(each)
        renewed.set()

    refresher = Refresher(cache, told, pause=timedelta(milliseconds=5))
    assert renewed.wait(10)
    refresher.close()
    assert done[0].problem is None
    assert server.counts["/root.crl"] >= 1


# --- bounds -------------------------------------------------------------------------------------------------------


def test_the_folder_is_bounded_in_items_and_bytes_and_the_oldest_go_first(tmp_path, ca):
    clock = Clock(datetime.now(UTC))
    store = RevocationStore(tmp_path, max_bytes=10_000, max_items=3)
    items = [Item(Kind.CRL, f"http://127.0.0.1:1/{number}.crl", ca.root) for number in range(5)]
    for item in items:
        store.keep(item, b"x" * 100, clock())
        clock.now += timedelta(seconds=1)
    assert [store.load(item) is not None for item in items] == [False, False, True, True, True]
    store.keep(items[0], b"x" * 9_950, clock())
    assert [store.load(item) is not None for item in items] == [True, False, False, False, False]
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_notes_of_failures_are_bounded_too(tmp_path, ca):
    clock = Clock(datetime.now(UTC))
    store = RevocationStore(tmp_path, max_items=3)
    items = [Item(Kind.CRL, f"http://127.0.0.1:1/{number}.crl", ca.root) for number in range(5)]
    for item in items:
        store.failed(item, "gone", clock())
        clock.now += timedelta(seconds=1)
    assert [store.last_failure(item) is not None for item in items] == [False, False, True, True, True]


def test_a_folder_that_cannot_be_written_is_told(tmp_path, ca, path):
    found = RevocationCache(tmp_path / "nowhere", CountingFetcher(files(ca))).collect(path, datetime.now(UTC))
    assert found.data.crls == ()
    assert "could not be kept" in found.problems[0]
