"""The fetcher, against real servers on loopback, good and bad ones."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from pki import fetchers
from pki.crl_server import CrlServer
from pki.errors import RevocationUnavailable
from pki.fetchers import HttpFetcher
from pki.test_ca import TestCa

FETCHER = HttpFetcher(allow_private_addresses=True, max_bytes=100_000, max_seconds=5)
PATIENCE_SECONDS = 20.0  #: within which a fetch that must not take for ever is over, on a busy machine too


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return TestCa.create(tmp_path_factory.mktemp("ca"), "http://127.0.0.1:1", "only for tests")


def files(ca):
    return {p.name: p.read_bytes() for p in ca.crl_folder.glob("*.crl")}


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


def test_the_server_answers_questions_only_with_a_responder_and_within_a_limit(server):
    with pytest.raises(RevocationUnavailable, match="404"):
        FETCHER.ask(f"{server.url}/ocsp/root", b"question")
    server.answer_questions(lambda authority, question: authority.encode() + question)
    assert FETCHER.ask(f"{server.url}/ocsp/root", b"?") == b"root?"
    with pytest.raises(RevocationUnavailable, match="404"):
        FETCHER.ask(f"{server.url}/ocsp/../keys", b"?")
    with pytest.raises(RevocationUnavailable, match="413"):
        FETCHER.ask(f"{server.url}/ocsp/root", bytes(5000))


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
    assert time.monotonic() - started < PATIENCE_SECONDS


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


@pytest.mark.parametrize(
    "address",
    [
        "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
        "2002:a00:1::1",  # 6to4 of 10.0.0.1
        "fe80::1%lo",
        "fd00::1",
        "ff02::1",
        "224.0.0.1",
        "100.64.0.1",
    ],
)
def test_addresses_that_lead_inside_in_other_forms_are_refused(monkeypatch, address):
    monkeypatch.setattr(fetchers, "_look_up", lambda *_: [(address, 80)])
    with pytest.raises(RevocationUnavailable, match="private network"):
        HttpFetcher(max_seconds=1).fetch("http://example.org/x.crl")


def test_one_private_address_among_public_ones_refuses_the_name(monkeypatch):
    monkeypatch.setattr(fetchers, "_look_up", lambda *_: [("93.184.215.14", 80), ("127.0.0.1", 80)])
    with pytest.raises(RevocationUnavailable, match="private network"):
        HttpFetcher(max_seconds=1).fetch("http://example.org/x.crl")


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(monkeypatch, server, ca):
    """The name is looked up once: an answer that changes a moment later cannot lead elsewhere."""
    port = int(server.url.rsplit(":", 1)[1])
    answers = [[("127.0.0.1", port)], [("127.0.0.9", 1)]]
    monkeypatch.setattr(fetchers, "_look_up", lambda *_: answers.pop(0))
    assert FETCHER.fetch(f"http://rebinding.example:{port}/root.crl") == files(ca)["root.crl"]
    assert len(answers) == 1


def test_the_next_address_is_tried_when_one_does_not_answer(monkeypatch, server, ca):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
    port = int(server.url.rsplit(":", 1)[1])
    monkeypatch.setattr(fetchers, "_look_up", lambda *_: [("127.0.0.1", closed), ("127.0.0.1", port)])
    assert FETCHER.fetch(f"http://two.example:{port}/root.crl") == files(ca)["root.crl"]


def test_a_look_up_that_hangs_is_cut_off(monkeypatch):
    hanging = threading.Event()

    def hang(*_, **__):
        hanging.wait(2 * PATIENCE_SECONDS)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    started = time.monotonic()
    with pytest.raises(RevocationUnavailable, match="too long"):
        HttpFetcher(max_seconds=0.3).fetch("http://slow.example/x.crl")
    hanging.set()
    assert time.monotonic() - started < PATIENCE_SECONDS
