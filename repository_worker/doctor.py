"""Looks a repository over and says, line by line, what is well, what is not, and what to do.

Rules: it changes nothing, asks for no passphrase, and goes on after each failure; what depends on it is left
out. Passwords, keys and names of citizens never appear.

    findings = Doctor(settings).examine()
    all(each.ok for each in findings)
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pika.exceptions
from cryptography import x509

from broker_config import limits as broker_limits
from broker_config import names, topology
from broker_config.connection import ConnectionSettings, connect, to_url
from broker_config.errors import BrokerError
from crypto_core import limits, moments
from crypto_core.errors import ProtocolError
from pki.crls import points, read_crl
from pki.errors import PkiError
from pki.identity import display_name
from pki.trust_store import TrustStore
from repository_worker.errors import HomeError, WorkerError
from repository_worker.keys import Home, now_ms
from repository_worker.settings import Settings
from repository_worker.storage.driver import connect as connect_mongo
from repository_worker.storage.mongo import TRANSACTION_SECONDS
from repository_worker.storage.operations import Operations, ServerFacts

#: A descriptor or a CA that ends sooner than this is worth a word today.
EXPIRY_WARNING: Final = timedelta(days=30)
#: Clocks further apart than this are reported; the protocol bears `crypto_core.limits.CLOCK_SKEW_MS`.
CLOCK_SECONDS: Final = 5.0
_ACCESS_REFUSED: Final = 403


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, whether it is well, what was seen, and what to do if it is not."""

    check: str
    ok: bool
    detail: str
    action: str = ""


class Doctor:
    """One examination."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._home = Home(settings.home)
        self._findings: list[Finding] = []

    def examine(self) -> tuple[Finding, ...]:
        """Everything, in the order in which one would mend it. Raises nothing of what it looks for."""
        self._findings = []
        self._broker()
        self._database()
        self._keys()
        self._trust()
        return tuple(self._findings)

    # --- broker -------------------------------------------------------------------------------------------------------

    def _broker(self) -> None:
        with self._check("broker answers", "Check that it runs, SMR_REPOSITORY_BROKER_URL_FILE, and the network."):
            worker = self._settings.broker()
            with connect(worker, attempts=1, name="smr-repository doctor") as connection:
                self._well("broker answers", to_url(worker))
                self._worker_rights(connection)
                self._queues(connection)
        self._topology()

    def _worker_rights(self, connection: Any) -> None:
        """A worker that is broken into must be able to do no more than its work."""
        probe = f"smr.doctor.{secrets.token_hex(8)}"
        attempts: dict[str, Callable[[Any], Any]] = {
            "declare queues": lambda channel: channel.queue_declare(probe, exclusive=True, auto_delete=True),
            "read dead letters": lambda channel: channel.basic_get(names.DEAD_LETTER_QUEUE, auto_ack=False),
            "publish commands": lambda channel: channel.basic_publish(names.COMMANDS_EXCHANGE, probe, b""),
        }
        allowed = [what for what, attempt in attempts.items() if not _refused(connection, attempt)]
        action = "Grant exactly broker_config.permissions.worker_permissions(), and name another account for operators."
        self._note(
            "the workers' account can do only its work",
            not allowed,
            f"it may also {', '.join(allowed)}"
            if allowed
            else "may not declare queues of others, publish commands or read dead letters",
            action,
        )
        queue = names.ends_queue(secrets.token_bytes(names.RANDOM_BYTES))
        hears = not _refused(connection, lambda channel: channel.queue_declare(queue, exclusive=True, auto_delete=True))
        self._note(
            "workers hear where mailboxes end",
            hears,
            "the workers' account may declare queues for it" if hears else "each letter costs a query more",
            action,
        )

    def _queues(self, connection: Any) -> None:
        with self._check("queues", "Run `smr-repository init` with the operator's account."):
            waiting, consumers = _passive(connection, names.COMMANDS_QUEUE)
            dead, _ = _passive(connection, names.DEAD_LETTER_QUEUE)
            self._note("workers consume", consumers > 0, f"{consumers} consumers", "Start workers: smr-repository run.")
            self._note(
                "the command queue has room",
                waiting < broker_limits.COMMAND_QUEUE_MESSAGES // 2,
                f"{waiting} of {broker_limits.COMMAND_QUEUE_MESSAGES} messages wait",
                "Start more workers, or see in /metrics which stage is slow.",
            )
            self._note("no dead letters", dead == 0, f"{dead} dead letters", "See `smr-repository dead list`.")

    def _topology(self) -> None:
        """Declared anew as it should be: the broker refuses any difference and changes nothing."""
        what = "topology as declared"
        action = (
            "Name the operator's account in SMR_REPOSITORY_OPERATOR_BROKER_URL_FILE and run `smr-repository init`; "
            "a queue with other settings is removed first, once it is empty."
        )
        with self._check(what, action):
            operator: ConnectionSettings = self._settings.operator_broker()
            with connect(operator, attempts=1, name="smr-repository doctor") as connection:
                for queue in (names.COMMANDS_QUEUE, names.DEAD_LETTER_QUEUE):
                    _passive(connection, queue)  # what is missing is told, not made
                topology.check(connection.channel())
                topology.declare(connection.channel())
            self._well(what, "exchange, queues, binding and limits")

    # --- database -----------------------------------------------------------------------------------------------------

    def _database(self) -> None:
        with self._check("database answers", "Check that it runs, SMR_REPOSITORY_MONGO_URL_FILE, and the network."):
            operations = Operations(connect_mongo(self._settings.mongo()), self._settings.mongo_database)
            try:
                facts = operations.server()
                self._well("database answers", f"MongoDB {facts.version}")
                self._server(facts)
                self._schema(operations)
            finally:
                operations.close()

    def _server(self, facts: ServerFacts) -> None:
        self._note(
            "database is a replica set",
            facts.replica_set is not None and facts.writable,
            f"replica set {facts.replica_set}" if facts.replica_set else "stands alone",
            "Start mongod with --replSet and initiate the set, if of one member: transactions need it.",
        )
        apart = abs((datetime.now(UTC) - facts.time).total_seconds())
        self._note(
            "clock agrees with the database",
            apart <= CLOCK_SECONDS,
            f"{apart:.1f} s apart",
            f"Set the clocks (NTP): clients bear {limits.CLOCK_SKEW_MS // 1000} s.",
        )
        seconds = facts.transaction_seconds
        self._note(
            "abandoned transactions end soon",
            seconds is not None and seconds <= TRANSACTION_SECONDS,
            f"transactionLifetimeLimitSeconds is {'unknown to this account' if seconds is None else seconds}",
            f"Set transactionLifetimeLimitSeconds to {TRANSACTION_SECONDS} in mongod's configuration; else a worker "
            "that dies can hold up mailboxes for a minute.",
        )

    def _schema(self, operations: Operations) -> None:
        with self._check("schema is served by this release", "Run `smr-repository init`, or a newer release."):
            self._well("schema is served by this release", f"version {operations.require_served()}")
        missing = operations.missing()
        self._note(
            "collections, indexes and validators",
            not missing,
            ("missing or different: " + ", ".join(missing)) if missing else "all there",
            "Run `smr-repository init`; it makes what is missing and harms nothing.",
        )

    # --- keys and descriptor ------------------------------------------------------------------------------------------

    def _keys(self) -> None:
        self._note(
            "keys", self._home.exists, str(self._home.folder), "Run `smr-repository init`, or restore the home folder."
        )
        mode = self._home.folder.stat().st_mode & 0o077 if self._home.folder.exists() else 0
        self._note("keys are private", mode == 0, f"others' rights: {mode:03o}", f"chmod -R go= {self._home.folder}")
        with self._check("descriptor", "Issue it anew: smr-repository descriptor --reissue; check the clock."):
            shown, root = self._home.descriptor(now_ms())
            left = timedelta(milliseconds=shown.expires - now_ms())
            self._note(
                "descriptor",
                left > EXPIRY_WARNING,
                f"epoch {shown.epoch}, until {moments.to_text(shown.expires)}, root {root[:16]}…",
                "Issue it anew: smr-repository descriptor --reissue.",
            )

    # --- trust store --------------------------------------------------------------------------------------------------

    def _trust(self) -> None:
        with self._check("state roots", "Import them: smr-pki trust import, with the fingerprints from the state."):
            if not self._home.trust_folder.exists():
                raise HomeError("there is no trust store")
            store = TrustStore.open(self._home.trust_folder)
            now = datetime.now(UTC)
            cas = (*store.roots, *store.intermediates)
            ending = [each for each in cas if each.not_valid_after_utc < now + EXPIRY_WARNING]
            self._note(
                "state roots",
                bool(store.roots) and not ending,
                f"{len(store.roots)} roots, {len(store.intermediates)} intermediates"
                + "".join(
                    f"; {display_name(each.subject)} ends {each.not_valid_after_utc:%Y-%m-%d}" for each in ending
                ),
                "Import current ones: smr-pki trust import, with the fingerprints from the state.",
            )
            self._crls(store, now)

    def _crls(self, store: TrustStore, now: datetime) -> None:
        """The lists as they lie in the cache: nothing is fetched."""
        read = [_crl(path.read_bytes()) for path in sorted(store.crl_folder.glob("*.crl"))]
        lists = [each for each in read if each is not None]  # one that revokes nobody counts as false
        stale = [each for each in lists if (each.next_update_utc or now) <= now]
        early = [each for each in lists if each.last_update_utc > now + timedelta(seconds=CLOCK_SECONDS)]
        named = sum(bool(points(each)) for each in store.intermediates)
        self._note(
            "revocation lists are current",
            not stale,
            f"{len(lists)} kept, {len(stale)} out of date; {named} CAs name their lists",
            "Fetch them: smr-pki crl refresh. Registrations and logins are refused while lists are out of date.",
        )
        self._note(
            "clock agrees with revocation lists",
            not early,
            "none is dated in the future" if not early else f"{len(early)} dated in the future",
            "Set this machine's clock (NTP).",
        )

    # --- lines --------------------------------------------------------------------------------------------------------

    def _well(self, check: str, detail: str) -> None:
        self._note(check, True, detail, "")

    def _note(self, check: str, ok: bool, detail: str, action: str) -> None:
        self._findings.append(Finding(check, ok, detail, "" if ok else action))

    @contextmanager
    def _check(self, check: str, action: str) -> Iterator[None]:
        """A failure inside becomes a line; what depends on it is left out."""
        try:
            yield
        except (BrokerError, WorkerError, PkiError, ProtocolError, OSError) as error:
            self._note(check, False, str(error), action)
        except pika.exceptions.AMQPError as error:
            self._note(check, False, f"the broker refused or the connection was lost ({type(error).__name__})", action)


def _refused(connection: Any, attempt: Callable[[Any], Any]) -> bool:
    """Whether the broker refuses it for want of rights. What it allows is undone with the channel."""
    channel = connection.channel()
    try:
        channel.confirm_delivery()
        attempt(channel)
    except pika.exceptions.ChannelClosedByBroker as error:
        return bool(error.reply_code == _ACCESS_REFUSED)
    except (pika.exceptions.UnroutableError, pika.exceptions.NackError):
        return False
    channel.close()
    return False


def _passive(connection: Any, queue: str) -> tuple[int, int]:
    """Messages and consumers of a queue that is there."""
    found = connection.channel().queue_declare(queue, passive=True).method
    return int(found.message_count), int(found.consumer_count)


def _crl(data: bytes) -> x509.CertificateRevocationList | None:
    try:
        return read_crl(data)
    except PkiError:
        return None
