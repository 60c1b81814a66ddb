"""The CRL cache and the fetcher, against real servers on loopback, good and bad ones."""

from __future__ import annotations

import socket
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from pki.crl_server import CrlServer
from pki.errors import RevocationUnavailable
from pki.fetchers import HttpFetcher, NoFetcher
from pki.revocation import CrlCache, check_signature, distribution_points, read_crl
from pki.test_ca import Holder, TestCa

FETCHER = HttpFetcher(allow_private_addresses=True, max_bytes=100_000, max_seconds=5)


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


class Clock:
    def __init__(self):
        self.now = datetime.now(UTC)

    def __call__(self):
        return self.now


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
    fetcher, clock = CountingFetcher(files(ca)), Clock()
    return CrlCache(folder, fetcher, clock=clock), fetcher, clock


def test_every_list_of_a_path_is_fetched_once_and_kept(cached, path):
    cache, fetcher, clock = cached
    first = cache.collect(path, clock())
    assert (len(first.data.crls), first.problems, fetcher.count) == (3, (), 3)
    assert cache.collect(path, clock()).data == first.data
    assert fetcher.count == 3


def test_another_process_finds_the_lists_on_disk(cached, path, tmp_path):
    cache, _, clock = cached
    cache.collect(path, clock())
    offline = CrlCache(tmp_path / "crls", NoFetcher(), clock=clock)
    assert len(offline.collect(path, clock()).data.crls) == 3


def test_a_list_is_fetched_again_after_its_time(cached, path):
    cache, fetcher, clock = cached
    cache.collect(path, clock())
    clock.now += timedelta(hours=2)
    cache.collect(path, clock())
    assert fetcher.count == 6


def test_refresh_fetches_at_once(cached, path, ca):
    cache, fetcher, clock = cached
    cache.collect(path, clock())
    ca.revoke(path[0].serial_number)
    fetcher.answers = files(ca)
    lists = map(x509.load_der_x509_crl, cache.refresh(path, clock()).data.crls)
    assert any(path[0].serial_number in [e.serial_number for e in c] for c in lists)


def test_refresh_all_knows_the_lists_seen_before(cached, path, ca):
    cache, _, clock = cached
    cache.collect(path, clock())
    done = cache.refresh_all([ca.root, *ca.intermediates])
    assert {line.url.rsplit("/", 1)[1] for line in done} == {"root.crl", "card.crl", "authentication.crl"}
    assert not any(line.problem for line in done)


def test_a_kept_list_serves_on_when_the_server_is_gone_and_the_problem_is_told(cached, path):
    cache, fetcher, clock = cached
    cache.collect(path, clock())
    fetcher.answers = {}
    clock.now += timedelta(hours=2)
    later = cache.collect(path, clock())
    assert len(later.data.crls) == 3
    assert len(later.problems) == 3


def test_a_server_that_failed_is_left_alone_for_a_while(cached, path):
    cache, fetcher, clock = cached
    fetcher.answers = {}
    assert cache.collect(path, clock()).data.crls == ()
    cache.collect(path, clock())
    assert fetcher.count == 3
    clock.now += timedelta(minutes=1)
    cache.collect(path, clock())
    assert fetcher.count == 6


def test_an_older_list_never_replaces_a_newer_one(cached, path, ca):
    cache, fetcher, clock = cached
    old = files(ca)
    ca.publish_crls(this_update=clock() + timedelta(seconds=5))
    fetcher.answers = files(ca)
    newer = cache.collect(path, clock()).data.crls
    fetcher.answers = old
    again = cache.refresh(path, clock())
    assert again.data.crls == newer
    assert "older than the one" in again.problems[0]


def test_a_list_of_another_issuer_or_key_is_not_kept(cached, path, ca, tmp_path):
    cache, fetcher, clock = cached
    foreign = files(TestCa.create(tmp_path / "foreign", "http://127.0.0.1:1", "x"))
    mixed = {
        "authentication.crl": foreign["authentication.crl"],
        "card.crl": files(ca)["root.crl"],
        "root.crl": b"rubbish",
    }
    fetcher.answers = mixed
    found = cache.collect(path, clock())
    assert found.data.crls == ()
    assert len(found.problems) == 3
    assert list((tmp_path / "crls").glob("*.crl")) == []


def test_a_list_changed_on_disk_is_not_used(cached, path, tmp_path):
    cache, _, clock = cached
    cache.collect(path, clock())
    for file in (tmp_path / "crls").glob("*.crl"):
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    assert CrlCache(tmp_path / "crls", NoFetcher(), clock=clock).collect(path, clock()).data.crls == ()


def test_a_certificate_without_distribution_points_is_a_problem(cached, ca):
    cache, _, clock = cached
    found = cache.collect([ca.root, ca.root], clock())
    assert found.data.crls == ()
    assert "does not say where" in found.problems[0]


def test_only_web_addresses_are_distribution_points(ca, path):
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
    assert distribution_points(certificate) == urls[2:]


def test_a_crl_without_next_update_is_refused():
    with pytest.raises(RevocationUnavailable):
        read_crl(b"\x30\x03\x02\x01\x00")


def test_a_crl_of_another_authority_is_refused(ca):
    data = files(ca)["card.crl"]
    with pytest.raises(RevocationUnavailable, match="it is a list of"):
        check_signature(read_crl(data), ca.root)


# --- the fetcher --------------------------------------------------------------------------------------------------


@pytest.fixture
def server(ca):
    with CrlServer(ca.crl_folder) as running:
        yield running


class RawServer:
    """Answers every connection with what `talk` does to it."""

    def __init__(self, talk):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/x.crl"
        self._talk = talk
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stopped.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                try:
                    self._talk(connection, self._stopped)
                except OSError:
                    continue

    def close(self):
        self._stopped.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


@pytest.fixture
def raw():
    made = []

    def make(talk):
        made.append(RawServer(talk))
        return made[-1].url

    yield make
    for running in made:
        running.close()


def answering(*parts):
    def talk(connection, _stopped):
        for part in parts:
            connection.sendall(part)

    return talk


def test_a_list_comes_as_it_is(server, ca):
    assert FETCHER.fetch(f"{server.url}/root.crl") == files(ca)["root.crl"]


@pytest.mark.parametrize(
    "name", ["none.crl", "../issued.json", "%2e%2e/issued.json", "issued.json", "", "keys/root.pem"]
)
def test_the_server_gives_nothing_but_lists_and_certificates(server, name):
    with pytest.raises(RevocationUnavailable, match="404"):
        FETCHER.fetch(f"{server.url}/{name}")


def test_addresses_inside_this_machine_are_refused_unless_allowed(server):
    with pytest.raises(RevocationUnavailable, match="private network"):
        HttpFetcher().fetch(f"{server.url}/root.crl")


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "192.168.1.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
def test_private_addresses_are_refused_before_a_connection(host):
    with pytest.raises(RevocationUnavailable, match="private network"):
        HttpFetcher().fetch(f"http://{host}/x.crl")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "http:///x",
        "http://user:pw@127.0.0.1/x",
        "http://127.0.0.1/ x",
        "x" * 3000,
    ],
)
def test_other_addresses_are_refused(url):
    with pytest.raises(RevocationUnavailable):
        FETCHER.fetch(url)


def test_a_redirect_is_followed_and_a_circle_is_not(raw, server, ca):
    moved = raw(answering(b"HTTP/1.1 302 Found\r\nLocation: " + f"{server.url}/root.crl".encode() + b"\r\n\r\n"))
    assert FETCHER.fetch(moved) == files(ca)["root.crl"]
    circle = raw(answering(b"HTTP/1.1 302 Found\r\nLocation: /x.crl\r\n\r\n"))
    with pytest.raises(RevocationUnavailable, match="redirects"):
        FETCHER.fetch(circle)


@pytest.mark.parametrize("target", [b"file:///etc/passwd", b"ftp://127.0.0.1/", b"gopher://x/"])
def test_a_redirect_cannot_change_the_kind_of_address(raw, target):
    url = raw(answering(b"HTTP/1.1 302 Found\r\nLocation: " + target + b"\r\n\r\n"))
    with pytest.raises(RevocationUnavailable, match="only plain http"):
        FETCHER.fetch(url)


def test_an_oversized_list_is_refused(raw):
    url = raw(answering(b"HTTP/1.1 200 OK\r\n\r\n", bytes(200_000)))
    with pytest.raises(RevocationUnavailable, match="larger than"):
        FETCHER.fetch(url)


def test_an_incomplete_list_is_refused(raw):
    url = raw(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"))
    with pytest.raises(RevocationUnavailable):
        FETCHER.fetch(url)


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_server_that_drips_is_cut_off(raw, first):
    def drip(connection, stopped):
        connection.sendall(first)
        while not stopped.wait(0.05):
            connection.sendall(b"x")

    url = raw(drip)
    started = time.monotonic()
    with pytest.raises(RevocationUnavailable):
        HttpFetcher(allow_private_addresses=True, max_seconds=0.5).fetch(url)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    "answer", [b"", b"rubbish\r\n\r\n", b"HTTP/1.1 503 No\r\n\r\n", b"HTTP/1.1 200 OK\r\nA" * 9000]
)
def test_a_bad_answer_is_one_kind_of_error(raw, answer):
    with pytest.raises(RevocationUnavailable):
        FETCHER.fetch(raw(answering(answer)))


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(RevocationUnavailable):
        FETCHER.fetch(f"http://127.0.0.1:{port}/x.crl")


def test_a_list_over_the_limit_on_disk_or_wire_is_refused(ca):
    with pytest.raises(RevocationUnavailable, match="larger"):
        read_crl(bytes(17 * 1024 * 1024))
    assert read_crl(files(ca)["root.crl"]).public_bytes(Encoding.DER) == files(ca)["root.crl"]
