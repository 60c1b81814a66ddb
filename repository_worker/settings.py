"""The settings of `smr-repository`, from the environment (`SMR_REPOSITORY_…`); each with its unit, default and reason.

Addresses with passwords are better kept in files (`…_URL_FILE`): an environment can be read by more people than a file.
They are never printed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from platformdirs import user_data_path
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from broker_config import limits
from broker_config.administration import parse_management_url
from broker_config.connection import ConnectionSettings, parse_amqp_url
from pki.certificate_files import read_certificates
from pki.errors import TrustStoreError
from pki.fetchers import HttpFetcher
from pki.revocation import REFETCH_AFTER
from pki.timestamp import StampTrust
from pki.validator import REMEMBER_FOR
from repository_worker.clients import Clients
from repository_worker.errors import HomeError
from repository_worker.guard import GUARD_BLOCK_SECONDS, GUARD_RATE, Guard
from repository_worker.health import LOOPBACK
from repository_worker.sessions import CACHE_ENTRIES, CACHE_SECONDS
from repository_worker.stamper import Authority
from repository_worker.storage.chains import MAILBOX_BYTES, MAILBOX_ENTRIES, UPLOAD_BYTES, Quota
from repository_worker.storage.retention import Rule
from repository_worker.transport.consumer import CLIENT_BURST, CLIENT_RATE, GRACE_SECONDS, THREADS, ConsumerSettings

PREFIX: Final = "SMR_REPOSITORY_"
PASSPHRASE_FILE: Final = "SMR_PASSPHRASE_FILE"  # noqa: S105 - the name of a variable, not a secret


class Settings(BaseSettings):
    """Every setting."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    home: Path = Field(
        default_factory=lambda: user_data_path("smr-repository", appauthor=False),
        description="Folder of keys and descriptor. Default: the data folder of this user.",
    )
    mongo_url: SecretStr = Field(
        default=SecretStr("mongodb://127.0.0.1:27017/?replicaSet=smr"),
        description="MongoDB address; it must be a replica set, since transactions need one.",
    )
    mongo_url_file: Path | None = Field(default=None, description="File that holds the MongoDB address instead.")
    mongo_database: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")] = Field(
        default="smr", description="Name of the database."
    )
    broker_url: SecretStr = Field(
        default=SecretStr("amqp://smr-worker@127.0.0.1/smr"),
        description="The workers' address of the broker; TLS (amqps) is required except on loopback.",
    )
    broker_url_file: Path | None = Field(default=None, description="File that holds the broker's address instead.")
    operator_broker_url: SecretStr | None = Field(
        default=None,
        description="The operator's address of the broker, for `init`, `dead` and `doctor`: its account may declare "
        "the topology and read dead letters, which workers may not. Default: the workers' address.",
    )
    operator_broker_url_file: Path | None = Field(
        default=None, description="File that holds the operator's address of the broker instead."
    )
    management_url: SecretStr | None = Field(
        default=None,
        description="RabbitMQ's management interface, with an account that has the tag `administrator`: "
        "https://user:password@host:15671?ca=FILE. For `clients` and `guard` alone; no worker gets it.",
    )
    management_url_file: Path | None = Field(
        default=None, description="File that holds the address of the management interface instead."
    )
    client_ca_file: Path | None = Field(
        default=None,
        description="PEM of the CAs that the broker's certificate comes from, for the files that `clients enrol` "
        "writes. Default: clients trust the CAs of their systems.",
    )
    own_accounts: bool = Field(
        default=True,
        description="Every installation has a broker account of its own. Workers take a message only from the account "
        "of the installation that signed it, and shed what comes beyond CLIENT_RATE. False where clients share one.",
    )
    client_rate: Annotated[float, Field(gt=0, le=100_000)] = Field(
        default=CLIENT_RATE,
        description="Messages a second that one worker takes from one installation on average. What comes faster is "
        "shed before any cryptography, and the client sends it again.",
    )
    client_burst: Annotated[float, Field(ge=1, le=1_000_000)] = Field(
        default=CLIENT_BURST, description="Messages that one worker takes from one installation at once."
    )
    guard_rate: Annotated[float, Field(gt=0, le=1_000_000)] = Field(
        default=GUARD_RATE,
        description="Messages a second beyond which `guard` blocks an installation: within 15 seconds.",
    )
    guard_block_seconds: Annotated[float, Field(ge=1, le=31_536_000)] = Field(
        default=GUARD_BLOCK_SECONDS, description="Seconds for which `guard` blocks."
    )
    threads: Annotated[int, Field(ge=1, le=64)] = Field(
        default=THREADS,
        description="Threads for what takes long (logins, registrations, the directory, fetched attachments), and as "
        "many for large messages, beside the one that handles everything else. Cores are used by worker processes: "
        "`run --processes`.",
    )
    prefetch: Annotated[int, Field(ge=1, le=256)] = Field(
        default=limits.PREFETCH_MESSAGES,
        description="Messages that one worker holds; each may take 10 MiB of memory.",
    )
    grace_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        default=GRACE_SECONDS, description="Seconds to finish what was begun when told to stop."
    )
    session_cache_seconds: Annotated[float, Field(ge=0, le=3600)] = Field(
        default=CACHE_SECONDS, description="Seconds that an opened session stays in a worker's memory."
    )
    session_cache_entries: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=CACHE_ENTRIES, description="Sessions in a worker's memory, about 1 KiB each."
    )
    mailbox_entries: Annotated[int, Field(ge=1, le=1_000_000_000)] = Field(
        default=MAILBOX_ENTRIES,
        description="Entries that one mailbox may have: letters received and sent, receipts. What would pass it is "
        "refused.",
    )
    mailbox_bytes: Annotated[int, Field(ge=1)] = Field(
        default=MAILBOX_BYTES,
        description="Bytes of letters with their bodies and attachments, and of receipts, that one mailbox may hold; "
        "what lies in several counts in each. What would pass it is refused.",
    )
    upload_bytes: Annotated[int, Field(ge=1)] = Field(
        default=UPLOAD_BYTES,
        description="Bytes of attachments that one citizen may have waiting for letters. What waits for three days is "
        "removed.",
    )
    retention_days: Annotated[int, Field(ge=0, le=36_500)] = Field(
        default=0,
        description="Days after its acceptance that the sealed body of a letter stays, and its attachments; 0: for "
        "ever. Heads, entries and receipts always stay.",
    )
    retention_read_days: Annotated[int, Field(ge=0, le=36_500)] = Field(
        default=0,
        description="The same for what all recipients have read; 0: that stays as long as the rest.",
    )
    allow_private_crl_hosts: bool = Field(
        default=False,
        description="Fetch CRLs and OCSP answers from loopback and private networks too. For development stacks alone: "
        "addresses in certificates are chosen by strangers.",
    )
    crl_refetch_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        default=REFETCH_AFTER.total_seconds(),
        description="Seconds after which a CRL or OCSP answer is fetched anew although it is still current: a "
        "revocation counts here at the latest after this time. CRLs are renewed in the background after three quarters "
        "of it.",
    )
    certificate_memory_seconds: Annotated[float, Field(ge=0, le=3600)] = Field(
        default=REMEMBER_FOR.total_seconds(), description="Seconds that the answer about a certificate is remembered."
    )
    tsa_url: str | None = Field(
        default=None,
        description="Address of a time-stamp authority (RFC 3161, http or https). With one, letters, receipts and "
        "heads are stamped in the background; no command waits for it.",
    )
    tsa_ca_file: Path | None = Field(
        default=None,
        description="PEM of the roots under which that authority's certificate must stand. Needed with it.",
    )
    tsa_policy: Annotated[str, Field(pattern=r"^[0-2](\.[0-9]+)+$")] | None = Field(
        default=None, description="Policy (dotted OID) to ask that authority for. Default: its own."
    )
    tsa_seconds: Annotated[float, Field(ge=0.05, le=86_400)] = Field(
        default=60.0, description="Seconds between two stamps; what came meanwhile shares one."
    )
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=0,
        description="Port for /metrics, /live and /ready; 0: none. Further worker processes take the next ports.",
    )
    metrics_address: Annotated[str, Field(pattern=r"^[0-9a-fA-F.:]{2,45}$")] = Field(
        default=LOOPBACK,
        description="Address that this port listens on. Another than loopback is for containers whose network is the "
        "operator's alone: nobody is asked for an account.",
    )
    log_format: Literal["auto", "text", "json"] = Field(
        default="auto", description="How to log: for people on a terminal, as JSON otherwise."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="What to log.")

    def mongo(self) -> str:
        """MongoDB's address, which may hold a password. Raises HomeError."""
        return _secret(self.mongo_url, self.mongo_url_file)

    def broker(self) -> ConnectionSettings:
        """How workers reach the broker. Raises HomeError, BrokerSettingsInvalid."""
        return parse_amqp_url(_secret(self.broker_url, self.broker_url_file))

    def operator_broker(self) -> ConnectionSettings:
        """How the operator reaches the broker. Raises HomeError, BrokerSettingsInvalid."""
        if self.operator_broker_url is None and self.operator_broker_url_file is None:
            return self.broker()
        return parse_amqp_url(_secret(self.operator_broker_url or SecretStr(""), self.operator_broker_url_file))

    def quota(self) -> Quota:
        """How much one mailbox may hold, and how much may wait for letters."""
        return Quota(self.mailbox_entries, self.mailbox_bytes, self.upload_bytes)

    def retention(self) -> Rule:
        """How long bodies of letters stay."""
        return Rule(self.retention_days, self.retention_read_days)

    def clients(self) -> Clients:
        """The enrolled installations. Raises HomeError, BrokerSettingsInvalid."""
        if self.management_url is None and self.management_url_file is None:
            raise HomeError(
                f"This needs the broker's management interface: name it in {PREFIX}MANAGEMENT_URL_FILE, as "
                "https://user:password@host:15671?ca=FILE, with an account that has the tag administrator."
            )
        url = _secret(self.management_url or SecretStr(""), self.management_url_file)
        return Clients(parse_management_url(url), self.broker().vhost)

    def guard(self) -> Guard:
        """Who cuts off floods. Raises HomeError, BrokerSettingsInvalid."""
        clients = self.clients()
        return Guard(clients.administration, clients, rate=self.guard_rate, block_seconds=self.guard_block_seconds)

    def authority(self) -> Authority | None:
        """The time-stamp authority, if one was chosen. Raises HomeError."""
        if self.tsa_url is None:
            return None
        if self.tsa_ca_file is None:
            raise HomeError(f"{PREFIX}TSA_URL needs {PREFIX}TSA_CA_FILE: anybody could answer in the authority's name.")
        try:
            trust = StampTrust(tuple(read_certificates(self.tsa_ca_file)), self.tsa_policy)
        except TrustStoreError as error:
            raise HomeError(f"The roots of the time-stamp authority cannot be read: {error}") from error
        # The operator chose the address; it may be of the own network.
        return Authority(self.tsa_url, trust, HttpFetcher(allow_private_addresses=True))

    def consumer(self, name: str) -> ConsumerSettings:
        """How a worker of this name consumes."""
        rate = self.client_rate if self.own_accounts else None
        return ConsumerSettings(
            self.threads, self.prefetch, self.grace_seconds, name, rate=rate, burst=self.client_burst
        )


def _secret(value: SecretStr, path: Path | None) -> str:
    if path is None:
        return value.get_secret_value()
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise HomeError(f"{path}, which should hold an address, cannot be read; check the file.") from error
