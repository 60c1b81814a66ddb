"""Cuts off installations that flood the broker, and lets them in again after a time.

    smr-repository guard        one process for a repository, with the management credential

Workers shed a flood (see `transport.shedding`), but cannot stop it from filling the queue for all. RabbitMQ knows no
rate for a publisher; it counts what each channel published, and tells it some seconds later. The guard asks every
ROUND_SECONDS, and blocks for a time who published faster than the limit, as soon as the figures say it. So a flood is
cut off within CUT_OFF_SECONDS.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from broker_config import names
from broker_config.administration import Administration
from broker_config.errors import BrokerError, NameRefused
from broker_config.names import Installation
from crypto_core.ids import Milliseconds
from repository_worker.clients import Client, Clients
from repository_worker.errors import ClientsError
from repository_worker.keys import now_ms

#: Far beyond what a client does, in messages a second, and how long it is then blocked.
GUARD_RATE: Final = 1000.0
GUARD_BLOCK_SECONDS: Final = 900.0
ROUND_SECONDS: Final = 1.0
#: RabbitMQ tells its figures every 5 s, and the first may hold too little; then a round, and closing the connections.
CUT_OFF_SECONDS: Final = 15.0
#: Rates are over at least this: figures that come in steps of 5 s show nothing in less. Seconds.
WINDOW_SECONDS: Final = 5.0
#: How old the note of when somebody was last here may be; milliseconds.
SEEN_MS: Final = 3_600_000
WHY: Final = "flooding: {rate:.0f} messages a second"


class Rates:
    """How fast accounts publish, from what RabbitMQ has counted for each channel."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._counted: dict[str, int] = {}
        self._published: Counter[str] = Counter()
        self._since = monotonic()

    def note(self, found: Mapping[str, tuple[str, int]]) -> None:
        """By the name of each open channel: its account, and how many messages it has published."""
        for channel, (account, published) in found.items():
            # A channel that was not there before began at nothing.
            self._published[account] += max(0, published - self._counted.get(channel, 0))
        self._counted = {channel: published for channel, (_, published) in found.items()}

    def beyond(self, limit: float) -> dict[str, float]:
        """Who publishes faster than this, and how fast, in messages a second; each is told once for its messages.

        Somebody who has sent too many for the whole of a window is told before it is over.
        """
        elapsed = self._monotonic() - self._since
        rates = {account: count / max(elapsed, WINDOW_SECONDS) for account, count in self._published.items()}
        found = {account: rate for account, rate in rates.items() if rate > limit}
        for account in found:
            del self._published[account]
        if elapsed >= WINDOW_SECONDS:
            self._published.clear()
            self._since += elapsed
        return found


class Guard:
    """Looks at all channels of a broker, round by round."""

    def __init__(
        self,
        administration: Administration,
        clients: Clients,
        *,
        rate: float,
        block_seconds: float,
        clock: Callable[[], Milliseconds] = now_ms,
    ) -> None:
        """`rate` in messages a second."""
        self._administration = administration
        self._clients = clients
        self._rate = rate
        self._block_ms = int(block_seconds * 1000)
        self._clock = clock
        self._log = structlog.get_logger("guard")
        self._rates = Rates()

    def run(self, ended: threading.Event) -> None:
        """Guards until the event is set. A broker that does not answer is asked again."""
        while not ended.wait(ROUND_SECONDS):
            try:
                self.look()
            except (BrokerError, ClientsError) as error:
                self._log.warning("not guarded", error=str(error))

    def look(self) -> list[Installation]:
        """One round: who was blocked in it. Raises BrokerError, ClientsError."""
        self._rates.note(self._administration.publishes())
        blocked = self._block_floods()
        known = self._clients.all()
        self._unblock(known)
        self._clients.note_seen(known, older_than_ms=SEEN_MS)
        return blocked

    def _block_floods(self) -> list[Installation]:
        blocked = []
        for account, rate in self._rates.beyond(self._rate).items():
            try:
                installation = names.parse_client_account(account)
            except NameRefused:
                continue
            until = Milliseconds(self._clock() + self._block_ms)
            self._clients.block(installation, WHY.format(rate=rate), until=until)
            self._log.warning("blocked", installation=installation, rate=round(rate), until=until)
            blocked.append(installation)
        return blocked

    def _unblock(self, known: list[Client]) -> None:
        now = self._clock()
        for each in known:
            if each.blocked is not None and each.blocked.until is not None and each.blocked.until <= now:
                self._clients.unblock(each.installation)
                self._log.info("unblocked", installation=each.installation)
