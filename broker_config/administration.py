"""The operator's side of the broker: virtual hosts and accounts, through RabbitMQ's management interface.

AMQP itself cannot make accounts. Every installation and the workers get one of their own, with the permissions of
`permissions`; passwords go in the request's body, over TLS or loopback only, and stand in no command line.
"""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlsplit

from broker_config.connection import TlsSettings, is_loopback, tls_context
from broker_config.errors import BrokerNotReady, BrokerRefused, BrokerSettingsInvalid, BrokerUnreachable
from broker_config.permissions import Permissions

REQUEST_SECONDS: Final = 20
ANSWER_BYTES: Final = 4 * 1024 * 1024


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
            if not (isinstance(e.__cause__, urllib.error.HTTPError) and e.__cause__.code == HTTPStatus.NOT_FOUND):
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
        return json.loads(text) if text else None

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


def _part(name: str) -> str:
    return quote(name, safe="")
