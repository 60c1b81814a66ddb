"""Which installations may use the broker: each has an account of its own, so that one can be cut off alone.

    enrol     makes the account, with exactly the permissions of an installation, and a password that is told once
    block     takes its permissions and closes its connections; the account and its password stay
    unblock   gives the permissions back
    all       who is enrolled, connected, blocked, and when each was last seen

The broker is the only place where this is kept: accounts and permissions as such, and beside each account a note (see
`Administration.notes`) with what RabbitMQ has no place for. Only who holds the management credential gets here.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from broker_config import enrolment, names, permissions
from broker_config.administration import Administration
from broker_config.errors import NameRefused
from broker_config.names import Installation
from crypto_core.ids import Milliseconds
from repository_worker.errors import ClientsError
from repository_worker.keys import now_ms

#: What one installation needs: `smr` opens one connection with one channel for each command that runs.
CONNECTIONS: Final = 8
CHANNELS: Final = 16
#: How long a block waits for the last connection to be gone; seconds.
CUT_SECONDS: Final = 10.0
_CUT_PAUSE_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Block:
    """Since when an installation is cut off, until when (None: until it is unblocked), and why."""

    since: int
    until: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Client:
    """One enrolled installation. Moments in milliseconds since 1970; None: not known."""

    installation: Installation
    enrolled: int | None
    seen: int | None
    connections: int
    blocked: Block | None


class Clients:
    """The enrolled installations of one virtual host. Every method raises BrokerError."""

    def __init__(
        self, administration: Administration, vhost: str, *, clock: Callable[[], Milliseconds] = now_ms
    ) -> None:
        self.administration = administration
        self._vhost = vhost
        self._clock = clock

    def enrol(self, installation: Installation) -> str:
        """Makes the account and gives its password; once more, it replaces the password. Raises ClientsError."""
        account = names.client_account(installation)
        known = self.administration.noted(account)
        if known.get("blocked") is not None:
            raise ClientsError(
                f"{installation} is blocked; a new password would let it in again. Unblock it first, if that is right."
            )
        password = enrolment.draw_password()
        self.administration.put_account(account, password, self._vhost, permissions.client_permissions(installation))
        self.administration.limit_account(account, connections=CONNECTIONS, channels=CHANNELS)
        self.administration.note(account, {**known, "enrolled": self._clock()})
        return password

    def block(self, installation: Installation, why: str, *, until: Milliseconds | None = None) -> int:
        """Cuts an installation off; tells how many connections were closed. Raises ClientsError."""
        account = self._enrolled(installation)
        # In this order: from the first step on nothing new is let in, and whatever was open ends with the last.
        self.administration.forbid(account, self._vhost)
        block = Block(self._clock(), until, why)
        self.administration.note(account, {**self.administration.noted(account), "blocked": asdict(block)})
        return self._cut(account)

    def unblock(self, installation: Installation) -> None:
        """Gives back what an installation may do, with the password that it has. Raises ClientsError."""
        account = self._enrolled(installation)
        self.administration.permit(account, self._vhost, permissions.client_permissions(installation))
        self.administration.note(account, {**self.administration.noted(account), "blocked": None})

    def all(self) -> list[Client]:
        """Every enrolled installation, by name."""
        notes = self.administration.notes(names.CLIENT_ACCOUNT_PREFIX)
        connected = Counter(each.account for each in self.administration.connections())
        found = []
        for account in sorted(self.administration.accounts()):
            try:
                installation = names.parse_client_account(account)
            except NameRefused:
                continue
            found.append(self._client(installation, notes.get(account, {}), connected[account]))
        return found

    def note_seen(self, clients: list[Client], *, older_than_ms: int) -> None:
        """Notes that those are here who are connected and whose note says otherwise, or is older than this."""
        now = self._clock()
        notes = self.administration.notes(names.CLIENT_ACCOUNT_PREFIX)
        for each in clients:
            account = names.client_account(each.installation)
            known = notes.get(account, {})
            if each.connections and now - int(known.get("seen") or 0) >= older_than_ms:
                self.administration.note(account, {**known, "seen": now})

    def _client(self, installation: Installation, note: dict[str, Any], connections: int) -> Client:
        block = note.get("blocked")
        return Client(
            installation=installation,
            enrolled=note.get("enrolled"),
            seen=self._clock() if connections else note.get("seen"),
            connections=connections,
            blocked=Block(int(block["since"]), block["until"], str(block["why"])) if block else None,
        )

    def _enrolled(self, installation: Installation) -> str:
        account = names.client_account(installation)
        if account not in self.administration.accounts():
            raise ClientsError(f"{installation} is not enrolled here; see `smr-repository clients list`.")
        return account

    def _cut(self, account: str) -> int:
        """Closes connections until none is left: one may have been on its way in while the permissions went."""
        before = self.administration.connections_of(account)
        deadline = time.monotonic() + CUT_SECONDS
        while True:
            self.administration.close_connections(account)
            if not self.administration.connections_of(account):
                return before
            if time.monotonic() >= deadline:
                raise ClientsError(
                    f"{account} may do nothing any more, but a connection of it is still listed; block it again."
                )
            time.sleep(_CUT_PAUSE_SECONDS)
