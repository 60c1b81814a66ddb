"""The operator's side of the broker: virtual hosts and accounts, through RabbitMQ's management interface.

AMQP itself cannot make accounts. Every installation and the workers get one of their own, with the permissions of
`permissions`; passwords go in the request's body, over TLS or loopback only, and stand in no command line.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from broker_config.connection import TlsSettings, is_loopback, tls_context
from broker_config.errors import BrokerNotReady, BrokerRefused, BrokerSettingsInvalid, BrokerUnreachable
from broker_config.permissions import Permissions

REQUEST_SECONDS: Final = 20
#: Where RabbitMQ's management interface listens unless it is told otherwise.
HTTPS_PORT: Final = 15671
HTTP_PORT: Final = 15672
#: Of a broker with hundreds of thousands of accounts; a list that is cut short would hide some.
ANSWER_BYTES: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Connection:
    """An open connection: whose, and since when (milliseconds since 1970)."""

    account: str
    since: int


@dataclass(frozen=True, slots=True)
class Administration:
    """An account with the tag `administrator` at the management interface of a broker.

    `url` is `https://host:port`, or `http://` on loopback. Every method raises `BrokerUnreachable`, `BrokerRefused` or
    `BrokerNotReady`.
    """

    url: str
    user: str
    password: str = field(repr=False)
    tls: TlsSettings | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        plain_here = parts.scheme == "http" and is_loopback(parts.hostname or "")
        if not (plain_here or parts.scheme == "https"):
            raise BrokerSettingsInvalid("the management interface of another machine is spoken to with https:// only")

    def to_url(self) -> str:
        """The address with account and password, as `parse_management_url` reads it: for a private file alone."""
        scheme, where = self.url.split("://", 1)
        ca = f"?ca={quote(str(self.tls.ca_file))}" if self.tls and self.tls.ca_file else ""
        return f"{scheme}://{_part(self.user)}:{_part(self.password)}@{where}{ca}"

    def create_vhost(self, vhost: str) -> None:
        """Makes a virtual host and gives this administrator every right in it. Repeating it changes nothing."""
        self._request("PUT", f"vhosts/{_part(vhost)}", {})
        self.permit(self.user, vhost, Permissions(".*", ".*", ".*"))

    def delete_vhost(self, vhost: str) -> None:
        """Removes a virtual host with all its queues; one that is gone already is no error."""
        self._delete(f"vhosts/{_part(vhost)}")

    def put_account(self, name: str, password: str, vhost: str, permissions: Permissions) -> None:
        """Makes an account without any tag, or changes it, and sets what it may do in this virtual host."""
        self._request("PUT", f"users/{_part(name)}", {"password": password, "tags": ""})
        self.permit(name, vhost, permissions)

    def permit(self, name: str, vhost: str, permissions: Permissions) -> None:
        """Sets what an existing account may do in a virtual host."""
        rules = {"configure": permissions.configure, "write": permissions.write, "read": permissions.read}
        self._request("PUT", f"permissions/{_part(vhost)}/{_part(name)}", rules)

    def delete_account(self, name: str) -> None:
        """Removes an account; the broker closes its connections. One that is gone already is no error."""
        self._delete(f"users/{_part(name)}")

    def forbid(self, name: str, vhost: str) -> None:
        """Takes everything that an account may do in a virtual host, being let in too. Repeating it changes nothing."""
        self._delete(f"permissions/{_part(vhost)}/{_part(name)}")

    def limit_account(self, name: str, *, connections: int, channels: int) -> None:
        """How many connections and channels an account may have at once."""
        for limit, value in (("max-connections", connections), ("max-channels", channels)):
            self._request("PUT", f"user-limits/{_part(name)}/{limit}", {"value": value})

    def connections(self) -> list[Connection]:
        """All connections that are open, as of some seconds ago."""
        found = self._request("GET", "connections?columns=name,user,connected_at")
        # One that has not said yet who it is has no account.
        return [Connection(str(each["user"]), int(each.get("connected_at", 0))) for each in found if each.get("user")]

    def connections_of(self, name: str) -> int:
        """How many connections an account has open now."""
        return len(self._request("GET", f"connections/username/{_part(name)}"))

    def close_connections(self, name: str) -> None:
        """Closes all connections of an account. What it may do decides whether it can open others."""
        self._delete(f"connections/username/{_part(name)}")

    def publishes(self) -> dict[str, tuple[str, int]]:
        """By the name of each open channel: its account, and how many messages it published. Some seconds old."""
        found = self._request("GET", "channels?columns=name,user,message_stats.publish")
        return {
            str(each["name"]): (str(each["user"]), int((each.get("message_stats") or {}).get("publish", 0)))
            for each in found
            if each.get("user")
        }

    def notes(self, prefix: str) -> dict[str, dict[str, Any]]:
        """What was noted under names that begin so: RabbitMQ keeps such global parameters in all nodes, for admins."""
        found = self._request("GET", "global-parameters")
        return {
            str(each["name"]): each["value"]
            for each in found
            if str(each["name"]).startswith(prefix) and isinstance(each["value"], dict)
        }

    def noted(self, name: str) -> dict[str, Any]:
        """What was noted under this name; empty where nothing was."""
        try:
            found = self._request("GET", f"global-parameters/{_part(name)}")
        except BrokerNotReady as e:
            if _is_missing(e):
                return {}
            raise
        return dict(found["value"]) if isinstance(found["value"], dict) else {}

    def note(self, name: str, value: dict[str, Any]) -> None:
        """Notes something under a name, in place of what stood there."""
        self._request("PUT", f"global-parameters/{_part(name)}", {"value": value})

    def accounts(self) -> list[str]:
        """The names of all accounts."""
        return [str(user["name"]) for user in self._request("GET", "users")]

    def import_definitions(self, definitions: dict[str, Any]) -> None:
        """Makes what a document such as `topology.definitions()` describes."""
        self._request("POST", "definitions", definitions)

    def _delete(self, path: str) -> None:
        try:
            self._request("DELETE", path)
        except BrokerNotReady as e:
            if not _is_missing(e):
                raise

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        # Proxies of the environment are left out: an administrator's password goes to the broker and nowhere else.
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if self.url.startswith("https:"):
            handlers.append(urllib.request.HTTPSHandler(context=self._context()))
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked when this object was made
            f"{self.url}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {self._basic()}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=REQUEST_SECONDS) as answer:
                text = answer.read(ANSWER_BYTES)
        except urllib.error.HTTPError as e:
            raise self._refusal(e) from e
        except OSError as e:
            raise BrokerUnreachable(
                f"no management interface answers at {self.url} ({e}); is the plugin enabled and the address right?"
            ) from e
        except http.client.HTTPException as e:
            raise BrokerUnreachable(f"the management interface at {self.url} broke off; try again") from e
        try:
            return json.loads(text) if text else None
        except ValueError as e:
            raise BrokerNotReady(f"what answers at {self.url} is no management interface; check the address") from e

    def _context(self) -> ssl.SSLContext:
        return tls_context(self.tls or TlsSettings())

    def _basic(self) -> str:
        return base64.b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")

    def _refusal(self, error: urllib.error.HTTPError) -> BrokerRefused | BrokerNotReady:
        if error.code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return BrokerRefused(
                f"the management interface at {self.url} does not accept the account {self.user}; "
                "it needs the right password and the tag administrator"
            )
        return BrokerNotReady(
            f"the management interface at {self.url} answered {error.code} {error.reason}; the broker's log says more"
        )


def parse_management_url(url: str) -> Administration:
    """Reads `https://user:password@host[:port][?ca=FILE]`, or `http://…` on loopback.

    Raises BrokerSettingsInvalid for every other address; the message never repeats it, since it holds a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as e:
        raise BrokerSettingsInvalid("the management address cannot be read; https://user:password@host is right") from e
    if parts.scheme not in {"http", "https"} or parts.path not in {"", "/"} or parts.fragment or not parts.hostname:
        raise BrokerSettingsInvalid("the management address is https://user:password@host:port, without a path")
    if not parts.username or not parts.password:
        raise BrokerSettingsInvalid("the management address names no account, or no password of it")
    if set(query) - {"ca"} or any(len(values) != 1 or not values[0] for values in query.values()):
        raise BrokerSettingsInvalid("after the ? the management address may name ca, once")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    where = f"{parts.scheme}://{host}:{port or (HTTPS_PORT if parts.scheme == 'https' else HTTP_PORT)}"
    tls = TlsSettings(ca_file=Path(query["ca"][0])) if "ca" in query else None
    return Administration(where, unquote(parts.username), unquote(parts.password), tls)


def _is_missing(error: BrokerNotReady) -> bool:
    return isinstance(error.__cause__, urllib.error.HTTPError) and error.__cause__.code == HTTPStatus.NOT_FOUND


def _part(name: str) -> str:
    return quote(name, safe="")
