"""Fetching CRLs: the only place in this room that touches the network.

The addresses come out of certificates, so they are treated as hostile: only http and https, on redirects too; no
addresses inside this machine or its network unless the caller allows them (an issuer's CRL is public); a limit in bytes
and one in seconds for the whole exchange, however slowly it drips; no cookies, no credentials, no proxies.

A CRL is signed, so plain http is as good as https here (RFC 5280 section 8 even warns of https loops).
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import SplitResult, urljoin, urlsplit

from pki.errors import RevocationUnavailable

CRL_BYTES_MAX: Final = 16 * 1024 * 1024  #: the state's largest lists have a few MiB
FETCH_SECONDS_MAX: Final = 15.0  #: one list, redirects included
REDIRECTS_MAX: Final = 3
URL_CHARACTERS_MAX: Final = 2048
_CHUNK_BYTES: Final = 64 * 1024
_PORTS: Final = {"http": 80, "https": 443}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class CrlFetcher(Protocol):
    """Gets the bytes behind a CRL distribution point. Raises RevocationUnavailable, and nothing else."""

    def fetch(self, url: str) -> bytes:
        """The bytes, unverified."""


@dataclass(frozen=True, slots=True)
class NoFetcher:
    """For programs that must not touch the network: every CRL has to be in the cache."""

    def fetch(self, url: str) -> bytes:
        """Refuse."""
        raise _unavailable(url, "fetching is switched off")


@dataclass(frozen=True, slots=True)
class HttpCrlFetcher:
    """Over http and https, within limits."""

    allow_private_addresses: bool = False  #: True for a development stack, whose CRLs are on loopback
    max_bytes: int = CRL_BYTES_MAX
    max_seconds: float = FETCH_SECONDS_MAX

    def fetch(self, url: str) -> bytes:
        """Get the list. Raises RevocationUnavailable."""
        deadline = time.monotonic() + self.max_seconds
        target = url
        try:
            for _ in range(REDIRECTS_MAX + 1):
                body, location = self._once(target, deadline)
                if location is None:
                    return body
                target = urljoin(target, location)
        # ValueError: an address that urllib or the idna codec cannot make sense of.
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unavailable(url, _reason(error, deadline)) from error
        raise _unavailable(url, f"more than {REDIRECTS_MAX} redirects")

    def _once(self, url: str, deadline: float) -> tuple[bytes, str | None]:
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
            headers = {"Accept": "application/pkix-crl", "Accept-Encoding": "identity", "Connection": "close"}
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            if response.status in _REDIRECTS:
                return b"", response.getheader("Location") or ""
            if response.status != http.client.OK:
                raise _unavailable(url, f"the server answered {response.status}")
            return self._read(response, url, deadline), None
        finally:
            watchdog.cancel()
            connection.close()
            sockets[-1].close()

    def _read(self, response: http.client.HTTPResponse, url: str, deadline: float) -> bytes:
        body = bytearray()
        while chunk := response.read(_CHUNK_BYTES):
            body += chunk
            if len(body) > self.max_bytes:
                raise _unavailable(url, f"it is larger than {self.max_bytes} bytes")
            _remaining(deadline)
        _remaining(deadline)  # the watchdog's end looks like a body that ends with its connection
        if response.length:  # the connection ended before the promised length
            raise _unavailable(url, "it came incomplete")
        return bytes(body)

    def _connect(self, parts: SplitResult, deadline: float) -> socket.socket:
        """Connect to an address that was itself checked, so that a name cannot mean another one a moment later."""
        host, port = str(parts.hostname), parts.port or _PORTS[parts.scheme]
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for _family, _kind, _protocol, _name, address in found:
            self._check_address(parts.geturl(), str(address[0]))
        return socket.create_connection((str(found[0][4][0]), port), timeout=_remaining(deadline))

    def _check_address(self, url: str, address: str) -> None:
        parsed = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        if not self.allow_private_addresses and (not parsed.is_global or parsed.is_multicast):
            raise _unavailable(url, f"{address} is an address inside a private network")


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
    try:
        sockets[-1].shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed already: the exchange is over


def _reason(error: BaseException, deadline: float) -> str:
    if isinstance(error, TimeoutError) or time.monotonic() >= deadline:
        return "it took too long"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _unavailable(url: str, reason: str) -> RevocationUnavailable:
    return RevocationUnavailable(
        f"The revocation list at {url!r} could not be fetched: {reason}.",
        "A card that was revoked could not be told from a good one.",
        "Check the network, then refresh the CRLs.",
    )
