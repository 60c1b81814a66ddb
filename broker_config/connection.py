"""Where the broker is and how a connection to it is opened.

TLS is required everywhere but on loopback; there is no switch that turns certificate checks off. The password is hidden
in `repr` and left out of `to_url`. One function opens connections, with a heartbeat, a bound on how long the broker may
block us, and a bounded number of attempts; a refusal is never repeated, since asking again does not change the answer.

    settings = parse_amqp_url("amqps://smr-client-…@broker.example/smr?ca=/etc/smr/ca.pem", password=…)
    with connect(settings) as connection:
        channel = connection.channel()
"""

from __future__ import annotations

import ipaddress
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from broker_config import limits, names
from broker_config.errors import BrokerError, BrokerRefused, BrokerSettingsInvalid, BrokerUnreachable

# The library is loaded when a connection is opened: who only reads settings, as a shell that completes a word, need
# not wait for it.
if TYPE_CHECKING:
    import pika

AMQP_PORT: Final = 5672
AMQPS_PORT: Final = 5671
_HIGHEST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Which CA the broker's certificate must come from and, where the broker asks for one, our own certificate."""

    ca_file: Path | None = None
    """PEM; None trusts the CAs of this system, unless `ca_pem` names others."""
    certificate_file: Path | None = None
    key_file: Path | None = None
    ca_pem: str | None = None
    """The same as `ca_file`, where it does not lie in a file of its own."""


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Everything needed to open a connection; checked when it is made (`BrokerSettingsInvalid`)."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    vhost: str = names.VHOST
    tls: TlsSettings | None = None

    def __post_init__(self) -> None:
        if not self.host or not self.user:
            raise BrokerSettingsInvalid("the broker's address needs a host and an account; check the settings")
        if not 0 < self.port <= _HIGHEST_PORT:
            raise BrokerSettingsInvalid(f"{self.port} is no port; the broker listens on one between 1 and 65535")
        if self.tls is None and not is_loopback(self.host):
            raise BrokerSettingsInvalid(
                f"{self.host} is another machine, and without TLS its network could see who writes to whom; "
                "use an amqps:// address"
            )


def is_loopback(host: str) -> bool:
    """Whether the host is this machine by its form alone: nothing is resolved, since an answer can be forged."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_amqp_url(url: str, *, password: str | None = None) -> ConnectionSettings:
    """Reads `amqp[s]://user[:password]@host[:port][/vhost][?ca=FILE&cert=FILE&key=FILE]`.

    `password` is for addresses without one, so that it can come from a file. Raises `BrokerSettingsInvalid`
    for every other address; the message never repeats the address, which may hold a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as e:
        raise BrokerSettingsInvalid("the broker's address cannot be read; amqps://user@host/vhost is expected") from e
    if parts.scheme not in {"amqp", "amqps"} or parts.fragment:
        raise BrokerSettingsInvalid("the broker's address starts with amqps:// (or amqp:// on this machine)")
    secret = unquote(parts.password) if parts.password is not None else password
    if secret is None:
        raise BrokerSettingsInvalid("the broker's address holds no password and none was given; name its file")
    tls = _parse_tls(query) if parts.scheme == "amqps" else None
    if tls is None and query:
        raise BrokerSettingsInvalid("certificates are named in an amqp:// address; they serve with amqps:// only")
    return ConnectionSettings(
        host=parts.hostname or "",
        port=port if port is not None else (AMQPS_PORT if tls else AMQP_PORT),
        user=unquote(parts.username or ""),
        password=secret,
        vhost=_parse_vhost(parts.path),
        tls=tls,
    )


def _parse_vhost(path: str) -> str:
    if path in {"", "/"}:
        return names.VHOST
    if path.count("/") != 1:
        raise BrokerSettingsInvalid("the virtual host in the broker's address holds a slash; write it as %2F")
    return unquote(path[1:])


def _parse_tls(query: dict[str, list[str]]) -> TlsSettings:
    unknown = set(query) - {"ca", "cert", "key"}
    if unknown or any(len(values) != 1 or not values[0] for values in query.values()):
        raise BrokerSettingsInvalid("after the ? the broker's address may name ca, cert and key, each once")
    files = {name: Path(values[0]) for name, values in query.items()}
    if ("cert" in files) != ("key" in files):
        raise BrokerSettingsInvalid("a client certificate needs both cert and key in the broker's address")
    return TlsSettings(ca_file=files.get("ca"), certificate_file=files.get("cert"), key_file=files.get("key"))


def to_url(settings: ConnectionSettings) -> str:
    """The address without its password: fit for logs and for handing on."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    scheme = "amqps" if settings.tls else "amqp"
    url = f"{scheme}://{quote(settings.user, safe='')}@{host}:{settings.port}/{quote(settings.vhost, safe='')}"
    tls = settings.tls or TlsSettings()
    files = {"ca": tls.ca_file, "cert": tls.certificate_file, "key": tls.key_file}
    query = "&".join(f"{name}={quote(str(path))}" for name, path in files.items() if path)
    return f"{url}?{query}" if query else url


def connect(
    settings: ConnectionSettings,
    *,
    attempts: int = limits.CONNECT_ATTEMPTS,
    heartbeat_seconds: int = limits.HEARTBEAT_SECONDS,
    name: str = "smr",
) -> pika.BlockingConnection:
    """Opens a connection. `name` is what the operator sees in the list of connections.

    Raises `BrokerUnreachable` after the last attempt, `BrokerRefused` and `BrokerSettingsInvalid` at once.
    """
    _keep_memory_of_messages()
    parameters = _parameters(settings, heartbeat_seconds, name)
    for attempt in range(1, attempts + 1):
        try:
            return _open(parameters, settings)
        except BrokerUnreachable:
            if attempt >= attempts:
                raise
            time.sleep(limits.CONNECT_PAUSE_SECONDS)
    raise BrokerSettingsInvalid("a connection needs at least one attempt")


def _keep_memory_of_messages() -> None:
    """Has the C library keep the memory of one message for the next ones.

    With glibc (mallopt(3), M_MMAP_THRESHOLD), freeing a block that was mapped by itself has all blocks up to its size
    come from the heap from then on, and twice that size stay there when it is free. Without this every copy of a large
    message is mapped, touched page by page and given back, which takes several times as long as the copy. This block
    is never touched, so that it costs nothing; with other libraries nothing happens.
    """
    bytearray(limits.KEPT_BYTES)


def _open(parameters: pika.ConnectionParameters, settings: ConnectionSettings) -> pika.BlockingConnection:
    import pika
    import pika.exceptions
    from pika.adapters.utils.connection_workflow import AMQPConnectorException
    from pika.adapters.utils.io_services_utils import _AsyncTransportBase

    # The library reads 4 KiB at a time, and copies what it has of a frame with each: a large message takes it longer
    # to put together than to receive.
    _AsyncTransportBase._MAX_RECV_BYTES = limits.READ_BYTES  # noqa: SLF001 - it has no other switch
    try:
        return pika.BlockingConnection(parameters)
    except (pika.exceptions.ProbableAuthenticationError, pika.exceptions.AuthenticationError) as e:
        raise _refused(settings, "does not know the account, or its password is another one") from e
    except pika.exceptions.ProbableAccessDeniedError as e:
        raise _refused(settings, "does not let the account into this virtual host") from e
    except pika.exceptions.ConnectionClosedByBroker as e:
        raise _refused(settings, f"closed the connection at once: {e.reply_text}") from e
    # A broker that accepts and then says nothing ends in an error that is none of pika's AMQP errors.
    except (pika.exceptions.AMQPError, AMQPConnectorException, OSError) as e:
        raise _unreachable(settings, e) from e


def _refused(settings: ConnectionSettings, why: str) -> BrokerError:
    return BrokerRefused(f"the broker at {to_url(settings)} {why}; ask the operator of the repository")


def _unreachable(settings: ConnectionSettings, error: BaseException) -> BrokerError:
    reason = _innermost(error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return BrokerRefused(
            f"the broker at {to_url(settings)} shows a certificate that is not to be trusted "
            f"({reason.verify_message}); somebody may be in between, or the CA file is not the operator's"
        )
    return BrokerUnreachable(
        f"no broker answers at {to_url(settings)} ({_describe(reason)}); "
        "nothing was lost: check the network and the address, then try again"
    )


def _innermost(error: BaseException) -> BaseException:
    """The cause that pika wrapped: its exceptions hold others as arguments or as attribute `exception`."""
    for _ in range(8):
        inner = getattr(error, "exception", None) or next(
            (a for a in getattr(error, "args", ()) if isinstance(a, BaseException)), None
        )
        if not isinstance(inner, BaseException):
            break
        error = inner
    return error


def _describe(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text or type(error).__name__


def _parameters(settings: ConnectionSettings, heartbeat_seconds: int, name: str) -> pika.ConnectionParameters:
    import pika

    return pika.ConnectionParameters(
        host=settings.host,
        port=settings.port,
        virtual_host=settings.vhost,
        credentials=pika.PlainCredentials(settings.user, settings.password, erase_on_connect=False),
        heartbeat=heartbeat_seconds,
        blocked_connection_timeout=limits.BLOCKED_SECONDS,
        socket_timeout=limits.CONNECT_SECONDS,
        stack_timeout=limits.CONNECT_SECONDS,
        connection_attempts=1,
        ssl_options=_ssl_options(settings),
        client_properties={"connection_name": name},
    )


def _ssl_options(settings: ConnectionSettings) -> pika.SSLOptions | None:
    if settings.tls is None:
        return None
    import pika

    return pika.SSLOptions(tls_context(settings.tls), settings.host)


def tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """TLS 1.2 or newer, checks certificate and host name; `BrokerSettingsInvalid` if a file is bad."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file, cadata=tls.ca_pem)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.certificate_file and tls.key_file:
            context.load_cert_chain(tls.certificate_file, tls.key_file)
    except (OSError, ValueError) as e:  # ssl.SSLError is an OSError; ValueError: text that is no PEM
        raise BrokerSettingsInvalid(f"a certificate file for the broker cannot be used ({_describe(e)})") from e
    return context
