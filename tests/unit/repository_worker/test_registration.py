"""CREATE and confirm: what is checked of a citizen before anything is stored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crypto_core import commands, documents, suite
from crypto_core.commands import ErrorCode
from crypto_core.limits import CLOCK_SKEW_MS
from pki.path import Verdict
from pki.policy import Purpose
from pki.test_ca import TestCa
from pki.tokens.profiles import CardKeyUse
from repository_worker.effects import Outcome, StoreRegistration
from repository_worker.errors import Refused
from repository_worker.handlers import decide
from repository_worker.handlers.confirm import require_login
from repository_worker.identities import fold
from tests.support.protocol import NOW, OTHER_REPOSITORY, REPOSITORY, negotiate
from tests.support.wire import Citizen
from tests.unit.repository_worker.conftest import caller


@pytest.fixture(scope="module")
def ca(tmp_path_factory) -> TestCa:
    return TestCa.create(tmp_path_factory.mktemp("ca"), "http://127.0.0.1:1", "only for tests")


@pytest.fixture(autouse=True)
def one_hierarchy(judge, ca) -> None:
    judge.ca = ca


@pytest.fixture(scope="module")
def maria(ca) -> Citizen:
    return Citizen.issued(ca, "Maria Conceição Reis")


@pytest.fixture(scope="module")
def joao(ca) -> Citizen:
    return Citizen.issued(ca, "João Sá")


def create(citizen, repository=REPOSITORY, **changes) -> commands.Create:
    return citizen.create(citizen.registration(repository, **{"time": NOW, **changes}))


def stored(command: commands.Create) -> commands.Person:
    """What stands after this command was accepted."""
    document = documents.decode(documents.Registration, command.registration.document, REPOSITORY)
    return commands.Person(
        document.user,
        document.revision,
        command.registration,
        command.authentication_certificate,
        command.signature_certificate,
        command.intermediates,
        NOW,
    )


@pytest.fixture
def refusal(shelf, context):
    def ask(command, user=None) -> ErrorCode:
        with pytest.raises(Refused) as caught:
            decide(command, caller(user), shelf, context)
        return caught.value.code

    return ask


class TestCreate:
    def test_everything_right(self, shelf, context, judge, maria):
        command = create(maria)
        decision = decide(command, caller(None), shelf, context)
        assert decision.effect == StoreRegistration(stored(command), "maria conceicao reis")
        assert decision.reply(Outcome(person=stored(command))) == commands.CreateResult(maria.user, 1, NOW)
        assert [purpose for _, purpose in judge.asked] == [Purpose.AUTHENTICATION, Purpose.SIGNATURE]

    def test_by_the_citizen_of_the_session(self, shelf, context, maria):
        assert decide(create(maria), caller(maria.user), shelf, context).effect is not None

    def test_for_somebody_else(self, refusal, maria, joao):
        assert refusal(create(maria), joao.user) is ErrorCode.NOT_ALLOWED

    def test_for_another_repository(self, refusal, maria):
        assert refusal(create(maria, OTHER_REPOSITORY)) is ErrorCode.NOT_ALLOWED

    def test_under_an_id_that_is_not_the_certificates(self, refusal, maria, joao):
        assert refusal(create(maria, user=joao.user)) is ErrorCode.NOT_ALLOWED

    def test_with_somebody_elses_card(self, refusal, maria, joao):
        document = maria.registration(REPOSITORY, time=NOW)
        forged = joao.signed(document, CardKeyUse.AUTHENTICATION)
        assert refusal(replace(create(maria), registration=forged)) is ErrorCode.SIGNATURE

    def test_signed_with_the_other_key(self, refusal, maria):
        document = maria.registration(REPOSITORY, time=NOW)
        other = maria.signed(document, CardKeyUse.SIGNATURE)
        assert refusal(replace(create(maria), registration=other)) is ErrorCode.SIGNATURE

    def test_with_another_signature_certificate_than_it_names(self, refusal, maria, joao):
        foreign = joao.der(CardKeyUse.SIGNATURE)
        assert refusal(replace(create(maria), signature_certificate=foreign)) is ErrorCode.CERTIFICATE
        assert refusal(replace(create(maria), signature_certificate=None)) is ErrorCode.CERTIFICATE

    def test_with_another_citizens_signature_certificate(self, refusal, maria, joao):
        foreign = joao.der(CardKeyUse.SIGNATURE) or b""
        command = create(maria, signature_certificate=suite.sha256(foreign))
        assert refusal(replace(command, signature_certificate=foreign)) is ErrorCode.CERTIFICATE

    @pytest.mark.parametrize(
        ("verdict", "code"),
        [
            (Verdict.REVOKED, ErrorCode.CERTIFICATE),
            (Verdict.EXPIRED, ErrorCode.CERTIFICATE),
            (Verdict.UNTRUSTED, ErrorCode.CERTIFICATE),
            (Verdict.COULD_NOT_TELL, ErrorCode.UNAVAILABLE),
        ],
    )
    def test_with_a_certificate_that_is_not_good_now(self, refusal, judge, maria, verdict, code):
        judge.verdict = verdict
        assert refusal(create(maria)) is code

    @pytest.mark.parametrize("shift", [-CLOCK_SKEW_MS - 1, CLOCK_SKEW_MS + 1], ids=["past", "future"])
    def test_from_another_time(self, refusal, maria, shift):
        assert refusal(create(maria, time=NOW + shift)) is ErrorCode.CLOCK

    def test_bytes_that_are_no_certificate(self, refusal, maria):
        assert refusal(replace(create(maria), authentication_certificate=b"junk")) is ErrorCode.CERTIFICATE

    def test_a_document_that_is_none(self, refusal, maria):
        broken = replace(create(maria).registration, document=b"{}")
        assert refusal(replace(create(maria), registration=broken)) in (ErrorCode.NOT_ALLOWED, ErrorCode.MALFORMED)


class TestRevisions:
    @pytest.fixture
    def first(self, shelf, maria) -> commands.Person:
        shelf.people_.append(stored(create(maria)))
        return shelf.people_[0]

    def test_the_next_one(self, shelf, context, maria, first):
        command = create(maria, revision=2, previous=first.registration.digest)
        assert decide(command, caller(None), shelf, context).effect is not None

    def test_the_same_again_is_accepted_already(self, shelf, context, maria, first):
        again = replace(create(maria), registration=first.registration)
        decision = decide(again, caller(None), shelf, context)
        assert decision.effect is None
        assert decision.reply(Outcome()).accepted == first.accepted

    @pytest.mark.parametrize(
        "changes",
        [{"revision": 1}, {"revision": 3}, {"revision": 2, "previous": None}, {"revision": 2, "previous": bytes(32)}],
        ids=["first again", "one left out", "no hash", "another hash"],
    )
    def test_anything_else(self, refusal, maria, first, changes):
        previous = first.registration.digest if changes["revision"] > 1 else None
        command = create(maria, **{"previous": previous, "time": NOW + 1, **changes})
        assert refusal(command) is ErrorCode.CONFLICT

    def test_a_first_one_that_is_none(self, refusal, maria):
        assert refusal(create(maria, revision=2, previous=bytes(32))) is ErrorCode.CONFLICT


class TestConfirm:
    @pytest.fixture
    def opened(self, maria):
        """An opened confirm whose login Maria's card signed."""
        made = negotiate(maria.user).opened
        signed = maria.signed(made.signed_login.document, CardKeyUse.AUTHENTICATION)
        return replace(made, signed_login=signed)

    def test_a_registered_citizen(self, shelf, context, maria, opened):
        shelf.people_.append(stored(create(maria)))
        assert require_login(opened, shelf, context) == maria.user

    def test_without_a_login(self, shelf, context):
        assert require_login(negotiate(None).opened, shelf, context) is None

    def test_an_unregistered_one(self, shelf, context, opened):
        with pytest.raises(Refused) as caught:
            require_login(opened, shelf, context)
        assert caught.value.code is ErrorCode.NOT_FOUND

    def test_a_login_that_another_card_signed(self, shelf, context, maria, joao, opened):
        shelf.people_.append(stored(create(maria)))
        forged = joao.signed(opened.signed_login.document, CardKeyUse.AUTHENTICATION)
        with pytest.raises(Refused) as caught:
            require_login(replace(opened, signed_login=forged), shelf, context)
        assert caught.value.code is ErrorCode.SIGNATURE

    def test_a_registration_instead_of_a_login(self, shelf, context, maria, opened):
        shelf.people_.append(stored(create(maria)))
        with pytest.raises(Refused) as caught:
            public = replace(opened.signed_login, signature=create(maria).registration.signature)
            require_login(replace(opened, signed_login=public), shelf, context)
        assert caught.value.code is ErrorCode.SIGNATURE

    def test_a_card_that_was_revoked_since(self, shelf, context, judge, maria, opened):
        shelf.people_.append(stored(create(maria)))
        judge.verdict = Verdict.REVOKED
        with pytest.raises(Refused) as caught:
            require_login(opened, shelf, context)
        assert caught.value.code is ErrorCode.CERTIFICATE


@pytest.mark.parametrize(
    ("name", "folded"),
    [("Maria Conceição Reis", "maria conceicao reis"), ("  JOÃO   SÁ ", "joao sa"), ("Weiß", "weiss"), ("ﬁm", "fim")],
)
def test_names_are_searched_without_case_and_accents(name, folded):
    assert fold(name) == folded
