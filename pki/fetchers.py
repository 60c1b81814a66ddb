"""Fetching revocation data: the only place in this room that touches the network.

The addresses come out of certificates, so they are treated as hostile: only http and https, on redirects too; no
addresses inside this machine or its network unless the caller allows them (an issuer's lists are public), checked on
the address that is then connected to, so that a name cannot mean another one a moment later; a limit in bytes and one
in seconds for the whole exchange, look-up of the name included, however slowly it drips; no cookies, no credentials,
no proxies.

What comes is signed, so plain http is as good as https here (RFC 5280 section 8 even warns of https loops).
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import queue
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import SplitResult, urljoin, urlsplit

from pki.errors import RevocationUnavailable

CRL_BYTES_MAX: Final = 16 * 1024 * 1024  #: the state's largest lists have a few MiB
OCSP_BYTES_MAX: Final = 64 * 1024  #: one answer with the responder's certificates
FETCH_SECONDS_MAX: Final = 15.0  #: one exchange, look-up of the name and redirects included
REDIRECTS_MAX: Final = 3
URL_CHARACTERS_MAX: Final = 2048
ADDRESSES_MAX: Final = 4  #: of one name, tried one after the other
_CHUNK_BYTES: Final = 64 * 1024
_PORTS: Final = {"http": 80, "https": 443}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_REDIRECTS_OF_QUESTIONS: Final = frozenset({307, 308})  #: the others turn a POST into a GET (RFC 9110 section 15.4)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  #: RFC 6052: an IPv4 address in the last 32 bits

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Fetcher(Protocol):
    """Gets the bytes behind an address of a certificate. Raises RevocationUnavailable, and nothing else."""

    def fetch(self, url: str) -> bytes:
        """A CRL, unverified; at most CRL_BYTES_MAX."""

    def ask(self, url: str, question: bytes) -> bytes:
        """The answer to an OCSP request (RFC 6960 appendix A.1), unverified; at most OCSP_BYTES_MAX."""


@dataclass(frozen=True, slots=True)
class NoFetcher:
    """For programs that must not touch the network: all revocation data has to be in the cache."""

    def fetch(self, url: str) -> bytes:
        """Refuse."""
        raise _unavailable(url, "fetching is switched off")

    def ask(self, url: str, question: bytes) -> bytes:  # noqa: ARG002 - nobody is asked
        """Refuse."""
        raise _unavailable(url, "fetching is switched off")


@dataclass(frozen=True, slots=True)
class HttpFetcher:
    """Over http and https, within limits."""

    allow_private_addresses: bool = False  #: True for a development stack, whose CA is on loopback
    max_bytes: int = CRL_BYTES_MAX  #: of a CRL
    max_seconds: float = FETCH_SECONDS_MAX

    def fetch(self, url: str) -> bytes:
        """Get a list. Raises RevocationUnavailable."""
        headers = {"Accept": "application/pkix-crl"}
        return self._exchange(url, _Request("GET", None, headers, self.max_bytes, _REDIRECTS))

    def ask(self, url: str, question: bytes) -> bytes:
        """Get the answer to a question. Raises RevocationUnavailable."""
        headers = {"Accept": "application/ocsp-response", "Content-Type": "application/ocsp-request"}
        request = _Request("POST", question, headers, min(OCSP_BYTES_MAX, self.max_bytes), _REDIRECTS_OF_QUESTIONS)
        return self._exchange(url, request)

    def ask_for_stamp(self, url: str, question: bytes) -> bytes:
        """Get a time stamp (RFC 3161 section 3.4). Raises RevocationUnavailable."""
        headers = {"Accept": "application/timestamp-reply", "Content-Type": "application/timestamp-query"}
        request = _Request("POST", question, headers, min(OCSP_BYTES_MAX, self.max_bytes), _REDIRECTS_OF_QUESTIONS)
        return self._exchange(url, request)

    def _exchange(self, url: str, request: _Request) -> bytes:
        deadline = time.monotonic() + self.max_seconds
        target = url
        try:
            for _ in range(REDIRECTS_MAX + 1):
                body, location = self._once(target, request, deadline)
                if location is None:
                    return body
                target = urljoin(target, location)
        # ValueError: an address that urllib or the idna codec cannot make sense of.
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unavailable(url, _reason(error, deadline)) from error
        raise _unavailable(url, f"more than {REDIRECTS_MAX} redirects")

    def _once(self, url: str, request: _Request, deadline: float) -> tuple[bytes, str | None]:
        """One request: the body, or where to go instead."""
        parts = _checked(url)
        host = str(parts.hostname)
        connection = http.client.HTTPConnection(host, parts.port or _PORTS[parts.scheme])
        sockets = [self._connect(parts, deadline)]
        # Socket timeouts begin anew with every byte: only closing the socket ends a slow drip. The list holds the
        # socket that is in use; the connection lets go of it when the response takes it over.
        watchdog = threading.Timer(_remaining(deadline), _shut, [sockets])
        watchdog.daemon = True
        watchdog.start()
        try:
            if parts.scheme == "https":
                _start_tls(sockets, host)
            connection.sock = sockets[-1]
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            headers = {**request.headers, "Accept-Encoding": "identity", "Connection": "close"}
            connection.request(request.method, path, body=request.body, headers=headers)
            response = connection.getresponse()
            if response.status in request.redirects:
                return b"", response.getheader("Location") or ""
            if response.status != http.client.OK:
                raise _unavailable(url, f"the server answered {response.status}")
            return _read(response, url, request.max_bytes, deadline), None
        finally:
            watchdog.cancel()
            connection.close()
            sockets[-1].close()

    def _connect(self, parts: SplitResult, deadline: float) -> socket.socket:
        """Connect to an address that was itself checked. Any private one among a name's addresses refuses them all."""
        addresses = _look_up(str(parts.hostname), parts.port or _PORTS[parts.scheme], deadline)
        for address, _port in addresses:
            self._check_address(parts.geturl(), address)
        problem: OSError = OSError("the name has no address")
        for target in addresses[:ADDRESSES_MAX]:
            try:
                return socket.create_connection(target, timeout=_remaining(deadline))
            except OSError as error:
                problem = error
        raise problem

    def _check_address(self, url: str, address: str) -> None:
        if not self.allow_private_addresses and not all(_is_public(each) for each in _meanings(address)):
            raise _unavailable(url, f"{address} is an address inside a private network")


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    body: bytes | None
    headers: dict[str, str]
    max_bytes: int
    redirects: frozenset[int]


def _read(response: http.client.HTTPResponse, url: str, max_bytes: int, deadline: float) -> bytes:
    body = bytearray()
    while chunk := response.read(_CHUNK_BYTES):
        body += chunk
        if len(body) > max_bytes:
            raise _unavailable(url, f"it is larger than {max_bytes} bytes")
        _remaining(deadline)
    _remaining(deadline)  # the watchdog's end looks like a body that ends with its connection
    if response.length:  # the connection ended before the promised length
        raise _unavailable(url, "it came incomplete")
    return bytes(body)


def _look_up(host: str, port: int, deadline: float) -> list[tuple[str, int]]:
    """The addresses of a name. In a thread of its own, since the system's look-up knows no time limit."""
    answers: queue.SimpleQueue[list[tuple[str, int]] | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put([(str(address[0]), port) for *_, address in found])
        except (OSError, ValueError) as error:
            answers.put(error)

    threading.Thread(target=work, name="name-look-up", daemon=True).start()
    try:
        answer = answers.get(timeout=_remaining(deadline))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _meanings(address: str) -> list[Address]:
    """An address and every IPv4 address that a translator on the way would make of it."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    found: list[Address] = [parsed]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return [parsed.ipv4_mapped]
        if parsed in _NAT64:
            found.append(ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF))
        if parsed.sixtofour is not None:
            found.append(parsed.sixtofour)
        found += parsed.teredo or ()
    return found


def _is_public(address: Address) -> bool:
    return address.is_global and not address.is_multicast


def _checked(url: str) -> SplitResult:
    parts = urlsplit(url)
    if len(url) > URL_CHARACTERS_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise _unavailable(url[:URL_CHARACTERS_MAX], "it is not a proper address")
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        raise _unavailable(url, "only plain http and https addresses are followed")
    return parts


def _remaining(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _start_tls(sockets: list[socket.socket], host: str) -> None:
    """Wrap first, shake hands after: the watchdog must hold the socket that the handshake waits on."""
    context = ssl.create_default_context()
    wrapped = context.wrap_socket(sockets[-1], server_hostname=host, do_handshake_on_connect=False)
    sockets.append(wrapped)
    wrapped.do_handshake()


def _shut(sockets: list[socket.socket]) -> None:
    with contextlib.suppress(OSError):  # closed already: the exchange is over
        sockets[-1].shutdown(socket.SHUT_RDWR)


def _reason(error: BaseException, deadline: float) -> str:
    if isinstance(error, TimeoutError) or time.monotonic() >= deadline:
        return "it took too long"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _unavailable(url: str, reason: str) -> RevocationUnavailable:
    return RevocationUnavailable(
        f"What {url!r} says about revocation could not be fetched: {reason}.",
        "A card that was revoked could not be told from a good one.",
        "Check the network, then refresh the revocation lists: smr-pki crl refresh.",
    )
