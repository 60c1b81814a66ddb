"""A test PKI and virtual cards for tests: real SoftHSM, a real CRL server on loopback, the test CA.

    pki = make_test_pki(tmp_path)                            # CA, imported trust store, CRL server
    card = make_card(pki, "Maria Conceição Reis", "P-256")   # a VirtualCard; its PIN is PIN
    with open_card(card) as opened: ...

Making RSA keys is slow: the session-wide fixtures `test_pki`, `maria` (RSA-3072) and `joao` (P-256) are shared; a test
that revokes or breaks something makes its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pki.crl_server import CrlServer
from pki.fetchers import HttpFetcher
from pki.identity import fingerprint
from pki.policy import ValidationPolicy
from pki.signers import Card
from pki.test_ca import TestCa
from pki.trust_store import TrustStore
from pki.validator import IdentityValidator
from pki.virtual_card import VirtualCard, create_virtual_card, folder_name

PIN = "1234"
PASSPHRASE = "only for tests"


@dataclass(frozen=True, slots=True)
class TestPki:
    """A test CA, the trust store that trusts it and the server of its CRLs."""

    __test__ = False

    folder: Path
    ca: TestCa
    trust_store_folder: Path
    crl_server: CrlServer

    @property
    def trust_store(self) -> TrustStore:
        """The trust store, read anew."""
        return TrustStore.open(self.trust_store_folder)

    def validator(
        self,
        policy: ValidationPolicy | None = None,
        refetch_after: timedelta = timedelta(0),
        remember_for: timedelta = timedelta(0),
    ) -> IdentityValidator:
        """A validator that by default remembers nothing, so that a revocation counts at once."""
        fetcher = HttpFetcher(allow_private_addresses=True)
        return IdentityValidator.open(
            self.trust_store_folder, fetcher, policy, refetch_after=refetch_after, remember_for=remember_for
        )

    def close(self) -> None:
        """Stop the CRL server."""
        self.crl_server.close()


def make_test_pki(folder: Path) -> TestPki:
    """A fresh CA in `folder`, its CRL server running, its root imported into a trust store. `close` it afterwards."""
    crl_folder = folder / "ca" / "crls"
    crl_folder.mkdir(parents=True)
    server = CrlServer(crl_folder)
    ca = TestCa.create(folder / "ca", server.url, PASSPHRASE)
    trust_folder = folder / "trust"
    TrustStore.open(trust_folder).import_certificates(ca.certificate_files, root_fingerprints={fingerprint(ca.root)})
    return TestPki(folder, ca, trust_folder, server)


def make_card(
    pki: TestPki,
    holder: str,
    key_kind: str = "P-256",
    *,
    folder: Path | None = None,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    **options: Any,
) -> VirtualCard:
    """A virtual card issued by that PKI, in a folder named after its holder unless another is given."""
    where = folder or pki.folder / "cards" / f"{folder_name(holder)}-{key_kind.lower()}"
    return create_virtual_card(
        pki.ca, where, holder, key_kind=key_kind, pin=PIN, not_before=not_before, not_after=not_after, **options
    )


def open_card(card: VirtualCard, pin: str = PIN) -> Card:
    """The card, opened; a context manager."""
    return Card.open(card.settings, pin=lambda _use: pin)


@pytest.fixture(scope="session")
def test_pki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestPki]:
    """One PKI for the whole run. Revoke nothing in it."""
    pki = make_test_pki(tmp_path_factory.mktemp("pki"))
    yield pki
    pki.close()


@pytest.fixture(scope="session")
def maria(test_pki: TestPki) -> VirtualCard:
    """Maria's card, RSA-3072."""
    return make_card(test_pki, "Maria Conceição Reis", "RSA-3072")


@pytest.fixture(scope="session")
def joao(test_pki: TestPki) -> VirtualCard:
    """João's card, P-256."""
    return make_card(test_pki, "João Sá", "P-256")


@pytest.fixture
def own_pki(tmp_path: Path) -> Iterator[TestPki]:
    """A PKI of this test alone, to revoke and break things in."""
    pki = make_test_pki(tmp_path)
    yield pki
    pki.close()
