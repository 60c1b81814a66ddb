"""Acceptances, refusals and expiries: about exactly one slip, by exactly one reader."""

from __future__ import annotations

import dataclasses

import pytest

from crypto_core import choice, limits, sealed, suite
from crypto_core.choice import Choice, SignedChoice
from crypto_core.documents import Acceptance, SignedDocument
from crypto_core.errors import BindingMismatch, DecryptionFailed, LimitExceeded, Malformed
from crypto_core.evidence import Evidence
from crypto_core.ids import LetterId
from tests.support.protocol import (
    BRUNO,
    JOAO,
    MARIA,
    NOW,
    OTHER_REPOSITORY,
    POSITION,
    REPOSITORY,
    digest,
    party,
    public_of,
    ring,
    sign_for_letter,
    signed,
    slip_of,
)

SLIP = slip_of(sign_for_letter())
DIGEST = suite.sha256(sign_for_letter().slip)
WHY = "Não conheço a remetente."


def acceptance(**changes):
    data = choice.accept(SLIP, DIGEST, party(JOAO), POSITION, NOW)
    return dataclasses.replace(choice.read_accepted(signed(data), REPOSITORY), **changes)


def refusal(reason=WHY):
    """The refusal as a signed document, and its reason as a sealed object."""
    data, why = choice.refuse(SLIP, DIGEST, party(JOAO), POSITION, NOW, reason)
    return signed(data), why and sealed_reason(why, signed(data))


def sealed_reason(why, document, slip=SLIP, people=(JOAO, MARIA)):
    return sealed.read(sealed.REASON, choice.seal_reason(slip, JOAO, why, document, public_of(*people)))


def test_an_acceptance_names_slip_letter_people_and_place():
    assert acceptance() == Acceptance(REPOSITORY, SLIP.letter, DIGEST, party(JOAO), MARIA, POSITION, NOW)
    choice.require_about(acceptance(), SLIP, DIGEST, JOAO)


@pytest.mark.parametrize(
    "changes",
    [
        {"letter": LetterId(b"letter-id-000002")},
        {"slip": digest("another slip")},
        {"reader": party(BRUNO)},
        {"sender": BRUNO},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_acceptance_of_something_else_is_refused(changes):
    with pytest.raises(BindingMismatch):
        choice.require_about(acceptance(**changes), SLIP, DIGEST, JOAO)


def test_somebody_whom_the_slip_does_not_name_accepts_nothing():
    with pytest.raises(BindingMismatch):
        choice.require_about(acceptance(reader=party(MARIA)), SLIP, DIGEST, MARIA)


def test_no_choice_is_taken_for_another_or_serves_elsewhere():
    data = choice.accept(SLIP, DIGEST, party(JOAO), POSITION, NOW)
    document, _ = refusal()
    with pytest.raises(BindingMismatch):
        choice.read_refused(signed(data), None, REPOSITORY)
    with pytest.raises(BindingMismatch):
        choice.read_accepted(document, REPOSITORY)
    with pytest.raises(BindingMismatch):
        choice.read_accepted(signed(data), OTHER_REPOSITORY)


@pytest.mark.parametrize("user", [MARIA, JOAO], ids=["Maria", "João"])
def test_both_read_the_reason_of_a_refusal(user):
    document, reason = refusal()
    found = choice.read_refused(document, reason, REPOSITORY)
    choice.require_about(found, SLIP, DIGEST, JOAO)
    assert choice.open_reason(reason.view(user), document, REPOSITORY, user, ring(user)).text == WHY


def test_nobody_else_reads_it():
    document, reason = refusal()
    assert WHY.encode() not in document.document + reason.protected + reason.ciphertext
    with pytest.raises(DecryptionFailed):
        choice.open_reason(reason.view(MARIA), document, REPOSITORY, MARIA, ring(BRUNO))


def test_a_refusal_needs_no_reason():
    document, reason = refusal("")
    assert reason is None
    assert choice.read_refused(document, None, REPOSITORY).reason is None


def test_a_reason_that_was_not_signed_is_refused():
    document, reason = refusal()
    bare, _ = refusal("")
    with pytest.raises(BindingMismatch):
        choice.read_refused(bare, reason, REPOSITORY)
    with pytest.raises(BindingMismatch):
        choice.read_refused(document, None, REPOSITORY)
    _, other = refusal("Outra razão.")
    with pytest.raises(BindingMismatch, match="another one than"):
        choice.read_refused(document, other, REPOSITORY)
    with pytest.raises(BindingMismatch, match="another one than"):
        choice.open_reason(other.view(MARIA), document, REPOSITORY, MARIA, ring(MARIA))
    forged = sealed_reason(choice.Reason("Outra razão.", bytes(32)), document)
    choice.read_refused(document, forged, REPOSITORY)
    with pytest.raises(BindingMismatch, match="not the one that was signed"):
        choice.open_reason(forged.view(MARIA), document, REPOSITORY, MARIA, ring(MARIA))


def test_a_reason_is_sealed_for_these_two():
    data, why = choice.refuse(SLIP, DIGEST, party(JOAO), POSITION, NOW, WHY)
    for people in ((JOAO,), (JOAO, BRUNO), (JOAO, MARIA, BRUNO)):
        with pytest.raises(BindingMismatch):
            sealed_reason(why, signed(data), people=people)
    for_bruno = dataclasses.replace(SLIP, from_=party(BRUNO))
    with pytest.raises(BindingMismatch):
        choice.read_refused(signed(data), sealed_reason(why, signed(data), for_bruno, (JOAO, BRUNO)), REPOSITORY)


def test_a_reason_has_a_limit():
    choice.refuse(SLIP, DIGEST, party(JOAO), POSITION, NOW, "é" * (limits.REASON_BYTES // 2))
    with pytest.raises(LimitExceeded):
        choice.refuse(SLIP, DIGEST, party(JOAO), POSITION, NOW, "é" * (limits.REASON_BYTES // 2) + "x")
    with pytest.raises(Malformed):
        choice.refuse(SLIP, DIGEST, party(JOAO), POSITION, NOW, "\ud800")


# ------------------------------------------------------------------------------------------------------- as it is kept

ACCEPTED = SignedChoice(Choice.ACCEPTED, DIGEST, b"{}", b"a CMS signature")


@pytest.mark.parametrize(
    "make",
    [
        lambda: SignedChoice(Choice.ACCEPTED, DIGEST),
        lambda: SignedChoice(Choice.REFUSED, DIGEST, b"{}"),
        lambda: SignedChoice(Choice.REFUSED, DIGEST, None, b"a CMS signature"),
        lambda: SignedChoice(Choice.EXPIRED, DIGEST, b"{}", b"a CMS signature"),
    ],
)
def test_only_an_expiry_is_unsigned(make):
    with pytest.raises(Malformed):
        make()


def test_an_expiry_has_no_document():
    assert ACCEPTED.signed == SignedDocument(b"{}", b"a CMS signature")
    with pytest.raises(Malformed):
        _ = SignedChoice(Choice.EXPIRED, DIGEST).signed


def test_everything_of_a_choice_is_in_its_object_hash():
    changes = [
        {"choice": Choice.REFUSED},
        {"slip": digest("another slip")},
        {"document": b"{ }"},
        {"signature": b"another CMS signature"},
        {"evidence": Evidence((b"list",), (), 0)},
    ]
    made = [ACCEPTED, *(dataclasses.replace(ACCEPTED, **each) for each in changes)]
    hashes = {each.object_hash(JOAO) for each in made} | {
        ACCEPTED.object_hash(BRUNO),
        ACCEPTED.object_hash(JOAO, digest("reason")),
    }
    assert len(hashes) == len(made) + 2
