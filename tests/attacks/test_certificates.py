"""Cards that the state does not answer for, at the two doors of the repository: registration and login."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from crypto_core import commands, suite
from crypto_core.commands import ErrorCode, RefusedByRepository
from crypto_core.keys import SealingKey
from pki.test_ca import TestCa
from pki.tokens.profiles import CardKeyUse
from tests.support.wire import Citizen, now_ms

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def foreign_ca(tmp_path_factory):
    """A CA that looks the same and that nobody trusts."""
    return TestCa.create(tmp_path_factory.mktemp("foreign"), "http://127.0.0.1:9", "passphrase")


def revoke(world, citizen: Citizen) -> None:
    for certificate in citizen.certificates.values():
        world.ca.revoke(certificate.serial_number)


class TestRegistration:
    @pytest.mark.parametrize(
        "times",
        [
            {"not_before": NOW - 20 * DAY, "not_after": NOW - DAY},
            {"not_before": NOW + DAY, "not_after": NOW + 20 * DAY},
        ],
        ids=["expired", "not yet valid"],
    )
    def test_out_of_its_time(self, world, wire, times):
        citizen = Citizen.issued(world.ca, "Rui Fora Prazo", **times)
        wire.anonymous()
        assert wire.refused(citizen.create(citizen.registration(wire.descriptor.repository))) is ErrorCode.CERTIFICATE

    def test_of_an_unknown_ca(self, wire, foreign_ca):
        citizen = Citizen.issued(foreign_ca, "Rui de Fora")
        wire.anonymous()
        assert wire.refused(citizen.create(citizen.registration(wire.descriptor.repository))) is ErrorCode.CERTIFICATE

    def test_of_an_unknown_ca_that_sends_its_own_root_along(self, wire, foreign_ca):
        from cryptography.hazmat.primitives.serialization import Encoding

        citizen = Citizen.issued(foreign_ca, "Rui de Fora")
        along = [*foreign_ca.intermediates, foreign_ca.root]
        command = citizen.create(
            citizen.registration(wire.descriptor.repository),
            intermediates=tuple(each.public_bytes(Encoding.DER) for each in along),
        )
        wire.anonymous()
        assert wire.refused(command) is ErrorCode.CERTIFICATE

    def test_revoked(self, world, wire):
        citizen = Citizen.issued(world.ca, "Rui Revogado")
        revoke(world, citizen)
        wire.anonymous()
        assert wire.refused(citizen.create(citizen.registration(wire.descriptor.repository))) is ErrorCode.CERTIFICATE

    def test_two_certificates_of_two_citizens(self, wire, maria, joao):
        mixed = Citizen(
            maria.name,
            {**maria.keys, CardKeyUse.SIGNATURE: joao.keys[CardKeyUse.SIGNATURE]},
            {**maria.certificates, CardKeyUse.SIGNATURE: joao.certificates[CardKeyUse.SIGNATURE]},
            maria.intermediates,
        )
        wire.anonymous()
        code = wire.refused(mixed.create(mixed.registration(wire.descriptor.repository)))
        assert code in {ErrorCode.CERTIFICATE, ErrorCode.MALFORMED, ErrorCode.NOT_ALLOWED}

    def test_for_another_repository(self, wire, maria):
        wire.anonymous()
        code = wire.refused(maria.create(maria.registration("a" * 32)))
        assert code in {ErrorCode.MALFORMED, ErrorCode.NOT_ALLOWED, ErrorCode.SIGNATURE}

    def test_with_certificates_that_the_document_does_not_name(self, wire, maria, joao):
        wire.anonymous()
        document = maria.registration(wire.descriptor.repository)
        swapped = maria.create(document, signature_certificate=joao.der(CardKeyUse.SIGNATURE))
        assert wire.refused(swapped) in {ErrorCode.MALFORMED, ErrorCode.CERTIFICATE, ErrorCode.SIGNATURE}


class TestLogin:
    def test_a_card_that_was_revoked_after_registration_opens_no_session(self, world, wire):
        citizen = Citizen.issued(world.ca, "Rui Depois Revogado")
        wire.register(citizen)
        wire.login(citizen)
        revoke(world, citizen)
        with pytest.raises(RefusedByRepository) as refusal:
            wire.login(citizen)
        assert refusal.value.code is ErrorCode.CERTIFICATE

    def test_a_card_that_never_registered_opens_no_session(self, wire, bruno):
        with pytest.raises(RefusedByRepository) as refusal:
            wire.login(bruno)
        assert refusal.value.code in {ErrorCode.NOT_FOUND, ErrorCode.LOGIN_NEEDED}

    def test_a_login_by_the_signature_key_opens_no_session(self, wire, maria):
        wire.register(maria)
        with pytest.raises(RefusedByRepository) as refusal:
            wire.negotiate(
                lambda answered: maria.signed(answered.login_document(maria.user, now_ms()), CardKeyUse.SIGNATURE)
            )
        assert refusal.value.code is ErrorCode.SIGNATURE

    def test_an_old_login_opens_no_session(self, wire, maria):
        wire.register(maria)
        with pytest.raises(RefusedByRepository):
            wire.negotiate(
                lambda answered: maria.signed(
                    answered.login_document(maria.user, now_ms() - 3_600_000), CardKeyUse.AUTHENTICATION
                )
            )


class TestRevisions:
    """Only the same citizen replaces a registration, with the next revision; history is kept."""

    @pytest.fixture
    def registered(self, wire, maria):
        wire.register(maria)
        wire.login(maria)
        return wire

    def current(self, wire, maria):
        return wire.ask(commands.List(maria.user, None, False, None), commands.ListResult).people[0]

    def next_one(self, wire, maria, **changes):
        previous = self.current(wire, maria).registration.digest
        members = {"revision": 2, "previous": previous, "sealing_key": SealingKey.generate().public.raw}
        return maria.create(maria.registration(wire.descriptor.repository, **{**members, **changes}))

    def test_the_next_revision_replaces_and_both_are_kept(self, registered, maria):
        registered.ask(self.next_one(registered, maria), commands.CreateResult)
        history = registered.ask(commands.List(maria.user, None, True, None), commands.ListResult).people
        assert [each.revision for each in history] == [1, 2]

    @pytest.mark.parametrize(
        "changes",
        [{"revision": 1}, {"revision": 3}, {"previous": None}, {"previous": suite.sha256(b"another")}],
        ids=["the same revision", "one left out", "no previous", "another previous"],
    )
    def test_any_other_is_refused(self, registered, maria, changes):
        code = registered.refused(self.next_one(registered, maria, **changes))
        assert code in {ErrorCode.CONFLICT, ErrorCode.MALFORMED}
        assert self.current(registered, maria).revision == 1

    def test_the_first_one_again_is_accepted_again(self, registered, maria):
        found = self.current(registered, maria)
        again = commands.Create(
            found.registration, found.authentication_certificate, found.signature_certificate, found.intermediates
        )
        assert registered.ask(again, commands.CreateResult).accepted == found.accepted
