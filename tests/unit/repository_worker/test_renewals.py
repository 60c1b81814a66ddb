"""Renewals at the repository: whom CREATE binds to whom, and what a renewed card may still do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crypto_core import commands, documents, limits
from crypto_core.commands import ErrorCode
from crypto_core.documents import Party, Renewal, SignedRenewal
from crypto_core.limits import CLOCK_SKEW_MS
from pki.test_ca import Holder, TestCa
from pki.tokens.profiles import CardKeyUse
from repository_worker.errors import Refused
from repository_worker.handlers import decide
from repository_worker.handlers.confirm import require_login
from tests.support.protocol import NOW, OTHER_REPOSITORY, REPOSITORY, negotiate
from tests.support.wire import Citizen
from tests.unit.repository_worker.conftest import caller
from tests.unit.repository_worker.test_handlers import LETTER_HEAD, send
from tests.unit.repository_worker.test_registration import create, stored

AUTHENTICATION = CardKeyUse.AUTHENTICATION
NUMBER = "BI12345678"


@pytest.fixture(scope="module")
def ca(tmp_path_factory) -> TestCa:
    return TestCa.create(tmp_path_factory.mktemp("ca"), "http://127.0.0.1:1", "only for tests")


@pytest.fixture(scope="module")
def other_ca(tmp_path_factory) -> TestCa:
    return TestCa.create(tmp_path_factory.mktemp("other"), "http://127.0.0.1:1", "only for tests")


@pytest.fixture(autouse=True)
def one_hierarchy(judge, ca) -> None:
    judge.ca = ca


def card(ca: TestCa, name: str = "João Sá", number: str = NUMBER) -> Citizen:
    return Citizen.issued(ca, Holder.named(name, number))


@pytest.fixture(scope="module")
def cards(ca) -> list[Citizen]:
    """Four cards of João, one after the other."""
    return [card(ca) for _ in range(4)]


def renewal(old: commands.Person, new: Citizen, former: Citizen | None = None, **changes) -> SignedRenewal:
    """A renewal signed by the new card, and by `former` where it is given."""
    members = {
        "repository": REPOSITORY,
        "user": new.user,
        "former": Party(old.user, old.registration.digest),
        "time": NOW,
    }
    document = documents.encode(Renewal(**{**members, **changes}))
    by_former = former.signed(document, AUTHENTICATION).signature if former else None
    return SignedRenewal(document, new.signed(document, AUTHENTICATION).signature, by_former)


def renewed(command: commands.Create, signed: SignedRenewal) -> commands.Create:
    return replace(command, renewal=signed)


def laid(shelf, command: commands.Create) -> commands.Person:
    """A registration that stands."""
    person = replace(stored(command), renewal=command.renewal)
    shelf.people_.append(person)
    return person


@pytest.fixture
def old(shelf, cards) -> commands.Person:
    return laid(shelf, create(cards[0]))


@pytest.fixture
def refusal(shelf, context):
    def ask(command, user=None) -> Refused:
        with pytest.raises(Refused) as caught:
            decide(command, caller(user), shelf, context)
        return caught.value

    return ask


@pytest.mark.parametrize("both", [True, False])
def test_a_renewal_is_stored_with_whom_it_renews(shelf, context, cards, old, both):
    signed = renewal(old, cards[1], cards[0] if both else None)
    effect = decide(renewed(create(cards[1]), signed), caller(None), shelf, context).effect
    assert (effect.person.renewal, effect.renews) == (signed, old.user)


def test_later_revisions_keep_it(shelf, context, cards, old):
    first = laid(shelf, renewed(create(cards[1]), renewal(old, cards[1])))
    second = create(cards[1], revision=2, previous=first.registration.digest)
    effect = decide(second, caller(None), shelf, context).effect
    assert (effect.person.renewal, effect.renews) == (first.renewal, old.user)


def test_a_card_that_was_registered_already_can_still_be_bound(shelf, context, cards, old):
    first = laid(shelf, create(cards[1]))
    second = create(cards[1], revision=2, previous=first.registration.digest)
    effect = decide(renewed(second, renewal(old, cards[1])), caller(None), shelf, context).effect
    assert effect.renews == old.user


def test_of_another_civil_number(refusal, ca, cards, old):
    maria = card(ca, "João Sá", "BI87654321")
    for former in (None, cards[0]):
        command = renewed(create(maria), renewal(old, maria, former))
        assert refusal(command).code is ErrorCode.CERTIFICATE
    assert "different citizens" in str(refusal(command))


def test_under_another_root_only_with_both_cards(shelf, context, refusal, judge, cards, old, other_ca):
    for use in CardKeyUse:
        judge.roots[cards[1].certificate(use)] = other_ca.root
    alone = renewed(create(cards[1]), renewal(old, cards[1]))
    refused = refusal(alone)
    assert refused.code is ErrorCode.CERTIFICATE
    assert "another hierarchy" in str(refused)
    both = renewed(create(cards[1]), renewal(old, cards[1], cards[0]))
    assert decide(both, caller(None), shelf, context).effect.renews == old.user


def test_from_another_repository(refusal, cards, old):
    signed = renewal(old, cards[1], cards[0], repository=OTHER_REPOSITORY)
    assert refusal(renewed(create(cards[1]), signed)).code is ErrorCode.NOT_ALLOWED


@pytest.mark.parametrize("kind", ["new card's", "former card's"])
def test_with_a_forged_signature(refusal, cards, old, kind):
    good = renewal(old, cards[1], cards[0])
    forged = cards[2].signed(good.document, AUTHENTICATION).signature
    bad = replace(good, signature=forged) if kind == "new card's" else replace(good, former_signature=forged)
    assert refusal(renewed(create(cards[1]), bad)).code is ErrorCode.SIGNATURE


def test_with_the_signature_key_instead(refusal, cards, old):
    good = renewal(old, cards[1])
    other = cards[1].signed(good.document, CardKeyUse.SIGNATURE).signature
    assert refusal(renewed(create(cards[1]), replace(good, signature=other))).code is ErrorCode.SIGNATURE


def test_of_somebody_elses_new_card(refusal, cards, old):
    assert refusal(renewed(create(cards[2]), renewal(old, cards[1]))).code is ErrorCode.CONFLICT


def test_that_names_an_older_registration_than_the_last(shelf, refusal, cards, old):
    laid(shelf, create(cards[0], revision=2, previous=old.registration.digest))
    refused = refusal(renewed(create(cards[1]), renewal(old, cards[1], cards[0])))
    assert refused.code is ErrorCode.CONFLICT
    assert "the last one" in str(refused)


def test_of_a_card_that_is_not_registered(shelf, refusal, cards, old):
    shelf.people_.clear()
    assert refusal(renewed(create(cards[1]), renewal(old, cards[1]))).code is ErrorCode.NOT_FOUND


@pytest.mark.parametrize("shift", [-CLOCK_SKEW_MS - 1, CLOCK_SKEW_MS + 1])
def test_from_another_time(refusal, cards, old, shift):
    signed = renewal(old, cards[1], time=NOW + shift)
    assert refusal(renewed(create(cards[1]), signed)).code is ErrorCode.CLOCK


def test_a_second_card_cannot_renew_the_same_one(shelf, refusal, cards, old):
    laid(shelf, renewed(create(cards[1]), renewal(old, cards[1])))
    assert refusal(renewed(create(cards[2]), renewal(old, cards[2], cards[0]))).code is ErrorCode.CONFLICT


def test_a_card_cannot_renew_two(shelf, refusal, cards, old):
    another = laid(shelf, create(cards[2]))
    first = laid(shelf, renewed(create(cards[1]), renewal(old, cards[1])))
    second = create(cards[1], revision=2, previous=first.registration.digest)
    assert refusal(renewed(second, renewal(another, cards[1]))).code is ErrorCode.CONFLICT


def test_cards_that_renew_each_other_in_a_row(shelf, context, refusal, cards, old, monkeypatch):
    person = old
    for at in (1, 2):
        person = laid(shelf, renewed(create(cards[at]), renewal(person, cards[at])))
    command = renewed(create(cards[3]), renewal(person, cards[3]))
    assert decide(command, caller(None), shelf, context).effect.renews == person.user
    monkeypatch.setattr(limits, "RENEWALS", 3)
    assert refusal(command).code is ErrorCode.TOO_LARGE


def test_cards_that_would_renew_each_other_in_a_circle(shelf, refusal, cards):
    first = laid(shelf, create(cards[0]))
    second = laid(shelf, renewed(create(cards[1]), renewal(first, cards[1])))
    again = create(cards[0], revision=2, previous=first.registration.digest)
    assert refusal(renewed(again, renewal(second, cards[0]))).code is ErrorCode.NOT_ALLOWED


def test_a_renewed_card_registers_no_more(shelf, refusal, cards, old):
    laid(shelf, renewed(create(cards[1]), renewal(old, cards[1])))
    refused = refusal(create(cards[0], revision=2, previous=old.registration.digest))
    assert refused.code is ErrorCode.NOT_ALLOWED
    assert cards[1].user.hex() in str(refused)


def test_looking_a_renewed_card_up_tells_its_successor(shelf, context, cards, old):
    laid(shelf, renewed(create(cards[1]), renewal(old, cards[1])))
    for history in (False, True):
        asked = commands.List(user=old.user, query=None, history=history, after=None)
        (shown,) = decide(asked, caller(None), shelf, context).reply(None).people
        assert shown.renewed_by == cards[1].user
    (current,) = decide(replace(asked, user=cards[1].user), caller(None), shelf, context).reply(None).people
    assert current.renewed_by is None


class TestSend:
    @pytest.fixture
    def registered(self, shelf):
        shelf.registered |= set(LETTER_HEAD.readers)

    @pytest.mark.parametrize("who", ["author", "recipient"])
    def test_no_letter_from_or_to_a_renewed_card(self, shelf, refusal, registered, monkeypatch, who):
        author, recipient = LETTER_HEAD.routing.author, LETTER_HEAD.recipients[0]
        given_up = author if who == "author" else recipient
        monkeypatch.setattr(shelf, "renewed", lambda users: {given_up: bytes(28)} if given_up in users else {})
        refused = refusal(send(), author)
        assert refused.code is (ErrorCode.NOT_ALLOWED if who == "author" else ErrorCode.CONFLICT)
        assert bytes(28).hex() in str(refused)

    def test_a_letter_that_was_accepted_before_is_accepted_again(self, shelf, context, registered, monkeypatch):
        monkeypatch.setattr(shelf, "renewed", lambda users: dict.fromkeys(users, bytes(28)))
        monkeypatch.setattr(shelf, "status", lambda author, letter: object())
        assert decide(send(), caller(LETTER_HEAD.routing.author), shelf, context).effect is not None


class TestLogin:
    def login(self, user, signer):
        made = negotiate(user).opened
        return replace(made, signed_login=signer.signed(made.signed_login.document, AUTHENTICATION))

    def test_a_later_card_opens_the_former_mailbox(self, shelf, context, cards, old):
        second = laid(shelf, renewed(create(cards[1]), renewal(old, cards[1])))
        laid(shelf, renewed(create(cards[2]), renewal(second, cards[2])))
        for signer in cards[:3]:
            assert require_login(self.login(old.user, signer), shelf, context) == old.user

    def test_no_former_card_opens_a_later_mailbox(self, shelf, context, cards, old):
        laid(shelf, renewed(create(cards[1]), renewal(old, cards[1])))
        with pytest.raises(Refused) as caught:
            require_login(self.login(cards[1].user, cards[0]), shelf, context)
        assert caught.value.code is ErrorCode.SIGNATURE

    def test_nobody_elses_card_does(self, shelf, context, cards, old):
        laid(shelf, renewed(create(cards[1]), renewal(old, cards[1])))
        with pytest.raises(Refused) as caught:
            require_login(self.login(old.user, cards[3]), shelf, context)
        assert caught.value.code is ErrorCode.SIGNATURE
