"""What is broken, and how it is mended: each fault lasts until what it broke works again.

Everything that starts a process runs in the main thread: children end with the thread that started them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from repository_worker.local_mongo import LocalMongoSet
from repository_worker.stack import PrivateStack
from tests.chaos.client_process import ClientProcess
from tests.support.cutting_proxy import CuttingProxy

DOWN_SECONDS: Final = 0.5  #: how long something that was killed stays down
FORGET_SHARE: Final = 0.25  #: of the killed wire clients lose their state too


class Faults:
    """All that can be done to a running system. `random` decides whom it hits."""

    def __init__(
        self,
        stack: PrivateStack,
        mongo: LocalMongoSet,
        proxy: CuttingProxy,
        clients: list[ClientProcess],
        draw: random.Random,
    ) -> None:
        self._stack = stack
        self._mongo = mongo
        self._proxy = proxy
        self._clients = clients
        self._random = draw
        self.kinds: Final[dict[str, Callable[[], None]]] = {
            "worker-kill": self.kill_worker,
            "client-kill": self.kill_client,
            "connections-cut": self.cut_connections,
            "primary-step-down": self.step_down,
            "primary-kill": self.kill_primary,
            "broker-restart": self.restart_broker,
            "broker-kill": self.kill_broker,
        }

    def kill_worker(self) -> None:
        """kill -9 for one worker; another takes its place."""
        worker = self._random.choice(self._stack.workers)
        worker.kill()
        time.sleep(DOWN_SECONDS)
        worker.restart()

    def kill_client(self) -> None:
        """kill -9 for one client; it goes on from its outbox, or has lost it."""
        client = self._random.choice(self._clients)
        forget = client.may_forget and self._random.random() < FORGET_SHARE
        client.kill()
        client.start(forget=forget)

    def cut_connections(self) -> None:
        """About half of all connections to the broker, of clients and workers."""
        self._proxy.cut(lambda _: self._random.random() < 0.5)

    def step_down(self) -> None:
        """The database's primary gives up its place."""
        self._mongo.step_down()
        self._mongo.wait_for_primary()

    def kill_primary(self) -> None:
        """kill -9 for the database's primary; the others elect another, then it comes back."""
        self._mongo.kill_primary()
        self._mongo.wait_for_primary()
        self._mongo.start()

    def restart_broker(self) -> None:
        """The broker's node is stopped in order and started again."""
        self._stack.broker.restart()

    def kill_broker(self) -> None:
        """kill -9 for the broker's node, which is then started again."""
        self._stack.broker.kill()
        self._stack.broker.start()
