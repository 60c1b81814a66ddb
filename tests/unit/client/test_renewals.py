"""Renewed cards as the client judges them: whatever the repository shows, only what the cards signed counts."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest

from client import renewals
from client.commands import people
from client.errors import CheckFailed, NotAllowed, NotFound
from client.state.people import People
from client.state.renewals import KnownRenewal, Renewals
from crypto_core import limits
from crypto_core.commands import ErrorCode, ListResult, RefusedByRepository
from crypto_core.errors import BindingMismatch
from pki.errors import CertificateError, SignatureInvalid
from pki.test_ca import TestCa
from pki.tokens.profiles import CardKeyUse
from tests.support.protocol import OTHER_REPOSITORY, REPOSITORY
from tests.unit.repository_worker.conftest import Judge
from tests.unit.repository_worker.test_registration import create, stored
from tests.unit.repository_worker.test_renewals import card, renewal


@pytest.fixture(scope="module")
def ca(tmp_path_factory) -> TestCa:
    return TestCa.create(tmp_path_factory.mktemp("ca"), "http://127.0.0.1:1", "only for tests")


@pytest.fixture(scope="module")
def other_ca(tmp_path_factory) -> TestCa:
    return TestCa.create(tmp_path_factory.mktemp("other"), "http://127.0.0.1:1", "only for tests")


@pytest.fixture(scope="module")
def cards(ca):
    return [card(ca) for _ in range(3)]


class Shown:
    """What a context offers, over a repository that shows exactly what a test lays down."""

    def __init__(self, home, ca) -> None:
        self.home, self.repository = home, REPOSITORY
        self.people, self.renewals = People(home), Renewals(home)
        self.validator = Judge(ca)
        self.records = {}

    def call(self, _session, command):
        if command.user not in self.records:
            raise RefusedByRepository(ErrorCode.NOT_FOUND, "nobody")
        return ListResult((self.records[command.user],), None)

    def lay(self, person, **changes):
        self.records[person.user] = replace(person, **changes)
        return self.records[person.user]


@pytest.fixture
def context(home, ca):
    return Shown(home, ca)


@pytest.fixture
def pair(context, cards):
    """Two cards, the second of which renews the first, as an honest repository shows them."""
    old = context.lay(stored(create(cards[0])), renewed_by=cards[1].user)
    new = context.lay(stored(create(cards[1])), renewal=renewal(old, cards[1], cards[0]))
    return old, new


def newest(context, user):
    return renewals.look_up_newest(context, SimpleNamespace(), user)


def line(context, user):
    return renewals.history(context, SimpleNamespace(), newest(context, user))


def test_the_line_of_cards_is_verified_and_remembered(context, pair):
    old, new = pair
    (step,) = line(context, old.user)
    assert (step.former.user, step.current.user, step.both_cards) == (old.user, new.user, True)
    assert context.renewals.newest(old.user) == new.user
    assert context.renewals.former(new.user) == (old.user,)


def test_nobody_writes_to_a_renewed_card(context, pair):
    with pytest.raises(NotAllowed, match=f"smr confirm {pair[1].user.hex()}"):
        renewals.require_current(context, SimpleNamespace(), pair[0].user)
    assert renewals.require_current(context, SimpleNamespace(), pair[1].user).user == pair[1].user


def test_a_renewal_that_was_seen_cannot_be_hidden(context, pair):
    line(context, pair[0].user)
    context.lay(pair[0], renewed_by=None)
    with pytest.raises(NotAllowed, match="was renewed"):
        renewals.require_current(context, SimpleNamespace(), pair[0].user)
    context.lay(pair[1], renewal=None)
    with pytest.raises(CheckFailed, match="nothing to do"):
        renewals.require_current(context, SimpleNamespace(), pair[0].user)


def test_a_card_that_is_only_said_to_renew_is_refused(context, pair):
    context.lay(pair[1], renewal=None)
    with pytest.raises(CheckFailed, match="nothing to do"):
        newest(context, pair[0].user)


def test_another_renewal_of_the_same_card_is_refused(context, pair, cards):
    line(context, pair[0].user)
    third = context.lay(stored(create(cards[2])), renewal=renewal(pair[0], cards[2], cards[0]))
    with pytest.raises(CheckFailed, match="another card of João Sá"):
        line(context, third.user)


def test_a_former_card_that_registered_again_since(context, pair, cards):
    later = stored(create(cards[0], revision=2, previous=pair[0].registration.digest))
    context.lay(later, renewed_by=cards[1].user)
    with pytest.raises(BindingMismatch, match="the last one"):
        line(context, pair[1].user)


def test_of_another_civil_number(context, pair, ca):
    stranger = card(ca, "João Sá", "BI87654321")
    new = context.lay(stored(create(stranger)), renewal=renewal(pair[0], stranger))
    with pytest.raises(CertificateError, match="different citizens"):
        line(context, new.user)


@pytest.mark.parametrize("both", [False, True])
def test_under_another_root(context, pair, cards, other_ca, both):
    for use in CardKeyUse:
        context.validator.roots[cards[1].certificate(use)] = other_ca.root
    context.lay(pair[1], renewal=renewal(pair[0], cards[1], cards[0] if both else None))
    if both:
        assert line(context, pair[0].user)[0].both_cards
    else:
        with pytest.raises(CertificateError, match="another hierarchy"):
            line(context, pair[0].user)


def test_from_another_repository(context, pair, cards):
    context.lay(pair[1], renewal=renewal(pair[0], cards[1], cards[0], repository=OTHER_REPOSITORY))
    with pytest.raises(BindingMismatch):
        line(context, pair[0].user)


@pytest.mark.parametrize("field", ["signature", "former_signature"])
def test_with_a_forged_signature(context, pair, cards, field):
    good = pair[1].renewal
    forged = cards[2].signed(good.document, CardKeyUse.AUTHENTICATION).signature
    context.lay(pair[1], renewal=replace(good, **{field: forged}))
    with pytest.raises(SignatureInvalid):
        line(context, pair[0].user)


def test_a_renewal_of_somebody_elses_card(context, pair, cards):
    context.lay(stored(create(cards[2])), renewal=pair[1].renewal)
    with pytest.raises(BindingMismatch, match="another new card"):
        line(context, cards[2].user)


def test_whose_former_card_nobody_shows(context, pair):
    del context.records[pair[0].user]
    with pytest.raises(NotFound):
        line(context, pair[1].user)


def test_more_cards_than_a_citizen_has(context, pair, cards, monkeypatch):
    third = context.lay(stored(create(cards[2])), renewal=renewal(pair[1], cards[2], cards[1]))
    assert [step.former.user for step in line(context, third.user)] == [pair[1].user, pair[0].user]
    monkeypatch.setattr(limits, "RENEWALS", 1)
    with pytest.raises(CheckFailed, match="more than 1 cards"):
        line(context, third.user)


def test_a_confirmed_name_goes_over_to_the_new_card(context, pair, monkeypatch):
    newest(context, pair[0].user)
    context.people.note(pair[0].user, "João Sá", 1, pair[0].registration.digest)
    context.people.confirm(pair[0].user)
    monkeypatch.setattr(people.session, "require", lambda _context: SimpleNamespace())
    seen = []
    people.confirm(context, pair[1].user.hex(), lambda person: seen.append(person) or True)
    assert [(each.user, each.confirmed) for each in seen[0].former] == [(pair[0].user, True)]
    assert [known.user for known in context.people.confirmed_as("joão sá")] == [pair[1].user]
    with pytest.raises(NotAllowed):
        people.confirm(context, pair[0].user.hex(), lambda _: True)


def test_what_is_remembered_has_an_end(home):
    kept = Renewals(home)
    users = [bytes([at]) * 28 for at in range(5)]
    for former, current in pairwise(users):
        kept.note(KnownRenewal(former, current, "João Sá", both_cards=True, time=1))
    assert kept.newest(users[0]) == users[4]
    assert kept.former(users[4]) == tuple(reversed(users[:4]))
    kept.note(KnownRenewal(users[4], users[0], "João Sá", both_cards=True, time=1))
    assert len(kept.former(users[0])) == limits.RENEWALS
    assert kept.newest(users[0]) in users
