"""A repository that puts itself in the middle: it shows records, keys and histories that citizens never signed.

The fault of earlier systems: the repository vouched for users' keys. Here a client believes the card alone.
"""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from client import identity
from client.errors import CheckFailed
from client.state.home import Home
from client.state.people import People
from crypto_core import documents
from crypto_core.commands import Person
from crypto_core.documents import SignedDocument
from crypto_core.errors import ProtocolError
from crypto_core.ids import base32
from crypto_core.keys import SealingKey
from pki.errors import PathInvalid, PkiError
from pki.test_ca import TestCa
from pki.tokens.profiles import CardKeyUse
from tests.support.wire import Citizen, now_ms

REPOSITORY = base32(b"repository" * 2, 32)


@pytest.fixture
def client(own_pki, tmp_path):
    """What the checks of a client need: its repository's id, its own trust store, and whom it has seen."""
    people = People(Home(tmp_path / "home"))
    return SimpleNamespace(repository=REPOSITORY, validator=own_pki.validator(), people=people)


@pytest.fixture
def maria(own_pki):
    return Citizen.issued(own_pki.ca, "Maria Conceição Reis")


@pytest.fixture
def mallory(own_pki):
    """A citizen like any other, who runs the repository."""
    return Citizen.issued(own_pki.ca, "Manuel Mau")


def record(citizen: Citizen, **changes) -> Person:
    """The record of a registration, as an honest repository shows it."""
    document = citizen.registration(REPOSITORY, **changes)
    created = citizen.create(document)
    return Person(
        user=citizen.user,
        revision=documents.decode(documents.Registration, document, REPOSITORY).revision,
        registration=created.registration,
        authentication_certificate=created.authentication_certificate,
        signature_certificate=created.signature_certificate,
        intermediates=created.intermediates,
        accepted=now_ms(),
    )


def with_document(person: Person, document: bytes) -> Person:
    return dataclasses.replace(person, registration=SignedDocument(document, person.registration.signature))


def test_an_honest_record_is_believed(client, maria):
    assert identity.verify_current(client, record(maria)).sealing == maria.sealing.public


class TestAKeyPutInTheMiddle:
    def test_another_sealing_key_in_the_document_is_refused(self, client, maria):
        mine = SealingKey.generate().public.raw
        forged = with_document(record(maria), maria.registration(REPOSITORY, sealing_key=mine))
        with pytest.raises(PkiError):
            identity.verify_current(client, forged)

    def test_a_document_signed_by_the_one_in_the_middle_is_refused(self, client, maria, mallory):
        document = maria.registration(REPOSITORY, sealing_key=mallory.sealing.public.raw)
        forged = dataclasses.replace(record(maria), registration=mallory.signed(document, CardKeyUse.AUTHENTICATION))
        with pytest.raises(PkiError):
            identity.verify_current(client, forged)

    def test_the_record_of_another_citizen_under_her_id_is_refused(self, client, maria, mallory):
        with pytest.raises(ProtocolError):
            identity.verify_current(client, dataclasses.replace(record(mallory), user=maria.user))

    def test_his_certificate_with_her_id_in_the_document_is_refused(self, client, maria, mallory):
        forged = dataclasses.replace(record(mallory, user=maria.user), user=maria.user)
        with pytest.raises(ProtocolError):
            identity.verify_current(client, forged)

    def test_his_signature_certificate_beside_her_authentication_is_refused(self, client, maria, mallory):
        forged = dataclasses.replace(record(maria), signature_certificate=mallory.der(CardKeyUse.SIGNATURE))
        with pytest.raises(ProtocolError):
            identity.verify_current(client, forged)

    def test_a_signature_certificate_taken_away_is_refused(self, client, maria):
        with pytest.raises(ProtocolError):
            identity.verify_current(client, dataclasses.replace(record(maria), signature_certificate=None))

    def test_a_record_under_a_ca_of_its_own_is_refused(self, client, maria, tmp_path):
        ca = TestCa.create(tmp_path / "own-ca", "http://127.0.0.1:9", "passphrase")
        with pytest.raises(PathInvalid):
            identity.verify_current(client, record(Citizen.issued(ca, "Maria Conceição Reis")))

    def test_a_record_for_another_repository_is_refused(self, client, maria):
        forged = with_document(record(maria), maria.registration("a" * 32))
        with pytest.raises(ProtocolError):
            identity.verify_current(client, forged)

    def test_a_revoked_card_is_refused(self, client, own_pki, maria):
        own_pki.ca.revoke(maria.certificates[CardKeyUse.AUTHENTICATION].serial_number)
        with pytest.raises(PathInvalid, match="revoked"):
            identity.verify_current(client, record(maria))


class TestHistoriesThatWereNot:
    def second(self, maria, **changes):
        first = record(maria)
        members = {"revision": 2, "previous": first.registration.digest} | changes
        return first, record(maria, **members)

    def test_an_older_registration_than_the_one_seen_is_refused(self, client, maria):
        first, second = self.second(maria)
        identity.verify_current(client, second)
        with pytest.raises(CheckFailed):
            identity.verify_current(client, first)

    def test_two_registrations_with_one_revision_are_refused(self, client, maria):
        identity.verify_current(client, record(maria))
        with pytest.raises(CheckFailed):
            identity.verify_current(client, record(maria, sealing_key=SealingKey.generate().public.raw))

    @pytest.mark.parametrize(
        "changes", [{"revision": 3}, {"previous": bytes(32)}], ids=["one is hidden", "another stood before"]
    )
    def test_a_history_that_does_not_hang_together_is_refused(self, client, maria, changes):
        verified = [identity.verify_form(client, person) for person in self.second(maria, **changes)]
        with pytest.raises(CheckFailed):
            identity.require_history(verified)
