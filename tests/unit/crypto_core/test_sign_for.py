"""Letters that open against a signature: what each share opens, what the slip commits to, and who can prove what."""

from __future__ import annotations

import dataclasses

import pytest

from crypto_core import labels, letter, sealed, sign_for, suite
from crypto_core.errors import BindingMismatch, DecryptionFailed, Malformed, SignatureInvalid
from crypto_core.ids import LetterId, Milliseconds
from crypto_core.sealed import ContentSecret
from tests.support.protocol import (
    BODY,
    BRUNO,
    DAY_MS,
    JOAO,
    LETTER,
    MARIA,
    NOW,
    OTHER_REPOSITORY,
    REPOSITORY,
    SUBJECT,
    flip,
    make_draft,
    make_letter,
    make_sign_for,
    public_of,
    resigned,
    ring,
    seed,
    sign_for_letter,
    signing_key,
    slip_of,
)

RECIPIENTS = tuple(sorted((JOAO, BRUNO)))


def view(user, prepared=None):
    return sealed.read(sealed.SIGN_FOR, (prepared or sign_for_letter()).letter.head).view(user)


def slip():
    return slip_of(sign_for_letter())


def second(user, prepared=None):
    return dict(zip(RECIPIENTS, (prepared or sign_for_letter()).shares, strict=True))[user]


def first(user):
    return sign_for.first_share(view(user), slip(), user, ring(user))


def changed_line(user, **changes):
    """The slip with one line changed, as if the sender's card had signed it so."""
    lines = [dataclasses.replace(each, **changes) if each.recipient == user else each for each in slip().lines]
    return dataclasses.replace(slip(), lines=tuple(lines))


# ------------------------------------------------------------------------------------------------------------ opening


@pytest.mark.parametrize("user", [JOAO, BRUNO], ids=["João", "Bruno"])
def test_both_shares_open_it(user):
    opened = sign_for.open_head(view(user), slip(), user, ring(user), second(user))
    assert (opened.subject, letter.open_body(opened, sign_for_letter().letter.body)) == (SUBJECT, BODY)


def test_the_senders_copy_needs_no_share():
    opened = sign_for.open_copy(view(MARIA), REPOSITORY, MARIA, ring(MARIA))
    assert letter.open_body(opened, sign_for_letter().letter.body) == BODY


def test_each_recipient_has_shares_and_a_line_of_their_own():
    values = [value for each in slip().lines for value in (each.share_1, each.share_2, each.wrapped_secret)]
    assert len({*values, first(JOAO), first(BRUNO), *sign_for_letter().shares}) == len(values) + 4


def test_the_share_of_another_recipient_does_not_open_it():
    with pytest.raises(BindingMismatch, match="share 2"):
        sign_for.open_head(view(JOAO), slip(), JOAO, ring(JOAO), second(BRUNO))


def test_the_line_of_another_recipient_does_not_open_with_ones_own_shares():
    with pytest.raises(BindingMismatch, match="share 1"):
        sign_for.open_line(slip(), BRUNO, first(JOAO), second(JOAO))


def test_a_recipient_cannot_open_it_as_a_plain_letter_or_as_the_copy():
    for kind in (sealed.LETTER, sealed.RECEIPT):
        with pytest.raises(Malformed):
            view(JOAO).open(kind, REPOSITORY, JOAO, ring(JOAO))
    with pytest.raises(BindingMismatch):
        sign_for.open_copy(view(JOAO), REPOSITORY, JOAO, ring(JOAO))
    with pytest.raises(BindingMismatch):
        view(JOAO).open(sealed.SIGN_FOR, REPOSITORY, JOAO, ring(JOAO))


@pytest.mark.parametrize("share", ["first", "second"])
def test_one_share_alone_opens_nothing(share):
    known = first(JOAO) if share == "first" else second(JOAO)
    for guess in (known, bytes(32)):
        for pair in ((known, guess), (guess, known)):
            with pytest.raises(BindingMismatch):
                sign_for.open_line(slip(), JOAO, *pair)
    line = sign_for.line_of(slip(), JOAO)
    for secret in (known, suite.sha256(known)):
        key = suite.ContentKey.derive(secret, labels.SIGN_FOR_KEY, REPOSITORY, LETTER, MARIA, JOAO)
        with pytest.raises(DecryptionFailed):
            key.decrypt(line.wrapped_secret, b"")


def test_nothing_of_the_letter_shows():
    prepared = sign_for_letter()
    for part in (SUBJECT.encode(), BODY, *prepared.shares, first(JOAO)):
        assert part not in prepared.letter.head
        assert part not in prepared.slip
        assert part.hex().encode() not in prepared.slip
    assert first(JOAO).hex() not in repr(prepared)
    assert repr(prepared.shares[0]) not in repr(prepared)


def test_a_plain_letter_is_not_one_to_sign_for():
    with pytest.raises(Malformed):
        sealed.read(sealed.SIGN_FOR, make_letter(JOAO).head)


def test_a_letter_to_oneself_needs_no_signature():
    with pytest.raises(BindingMismatch):
        sign_for.seal(make_draft(MARIA), b"a CMS signature", public_of(MARIA), Milliseconds(NOW + DAY_MS))


# ------------------------------------------------------------------------------------------------- what the slip binds


def require(found=None, **changes):
    head = sealed.read(sealed.SIGN_FOR, sign_for_letter().letter.head)
    arguments = {
        "slip": found or slip(),
        "head": head.object_hash,
        "commitment": head.routing.commitment,
        "letter_id": LETTER,
        "sender": MARIA,
        "recipients": RECIPIENTS,
    }
    sign_for.require_slip(**{**arguments, **changes})


def test_the_slip_is_of_this_letter():
    require()


@pytest.mark.parametrize(
    "changes",
    [
        {"head": seed("another object", 32)},
        {"commitment": seed("another commitment", 32)},
        {"letter_id": LetterId(b"letter-id-000002")},
        {"sender": JOAO},
        {"recipients": (JOAO,)},
        {"recipients": tuple(reversed(RECIPIENTS))},
    ],
    ids=repr,
)
def test_a_slip_of_something_else_is_refused(changes):
    with pytest.raises(BindingMismatch):
        require(**changes)


def test_another_head_or_body_has_another_slip():
    assert slip_of(make_sign_for(JOAO, BRUNO)).object != slip().object


def test_the_object_of_an_entry_names_head_and_slip():
    head, other = suite.sha256(b"head"), suite.sha256(b"slip")
    assert len({sign_for.object_hash(head, other), sign_for.object_hash(other, head), head, other}) == 4


# ------------------------------------------------------------------------------------------------ a sender who cheats


def test_a_first_share_that_was_not_signed_for_is_found_before_anybody_signs():
    cheated = changed_line(JOAO, share_1=suite.sha256(b"something else"))
    with pytest.raises(BindingMismatch, match="share 1"):
        sign_for.first_share(view(JOAO), cheated, JOAO, ring(JOAO))


def test_second_shares_that_were_not_signed_for_are_refused():
    one, two = sign_for_letter().shares
    sign_for.require_shares(slip(), (one, two))
    for shares in ((two, one), (one, one), (one, bytes(32)), (flip(one, 3), two)):
        with pytest.raises(BindingMismatch):
            sign_for.require_shares(slip(), shares)
    for shares in ((one,), (one, two, two), ()):
        with pytest.raises(Malformed):
            sign_for.require_shares(slip(), shares)


def test_shares_that_are_as_signed_and_open_nothing_prove_it():
    """DecryptionFailed means: whoever signed this slip cheated. Anybody can repeat it with slip and shares."""
    cheated = changed_line(JOAO, wrapped_secret=b"w" * 48)
    with pytest.raises(DecryptionFailed):
        sign_for.open_line(cheated, JOAO, first(JOAO), second(JOAO))


def test_another_content_secret_than_was_signed_proves_it_too():
    key = sign_for._wrapping_key(REPOSITORY, LETTER, MARIA, JOAO, first(JOAO), second(JOAO))
    cheated = changed_line(JOAO, wrapped_secret=key.encrypt(ContentSecret.generate().raw, b""))
    with pytest.raises(DecryptionFailed, match="another content secret"):
        sign_for.open_line(cheated, JOAO, first(JOAO), second(JOAO))


@pytest.mark.parametrize(
    "context",
    [
        (OTHER_REPOSITORY, LETTER, MARIA, JOAO),
        (REPOSITORY, LetterId(b"letter-id-000002"), MARIA, JOAO),
        (REPOSITORY, LETTER, BRUNO, JOAO),
        (REPOSITORY, LETTER, MARIA, BRUNO),
    ],
)
def test_the_key_of_a_line_is_bound_to_its_place(context):
    right = sign_for._wrapping_key(REPOSITORY, LETTER, MARIA, JOAO, bytes(32), bytes(32))
    assert sign_for._wrapping_key(*context, bytes(32), bytes(32)) != right


def test_commitments_tell_the_two_shares_and_all_places_apart():
    places = [
        (REPOSITORY, LETTER, MARIA, JOAO, 1),
        (REPOSITORY, LETTER, MARIA, JOAO, 2),
        (OTHER_REPOSITORY, LETTER, MARIA, JOAO, 1),
        (REPOSITORY, LetterId(b"letter-id-000002"), MARIA, JOAO, 1),
        (REPOSITORY, LETTER, BRUNO, JOAO, 1),
        (REPOSITORY, LETTER, MARIA, BRUNO, 1),
    ]
    assert len({sign_for.share_commitment(*place, bytes(32)) for place in places}) == len(places)


# ------------------------------------------------------------------------------------------------------------ release

KEY = signing_key("repository")
DIGEST = suite.sha256(b"the slip's document")


def release(**changes):
    made = sign_for.Release(REPOSITORY, LETTER, MARIA, JOAO, DIGEST, second(JOAO), NOW)
    return dataclasses.replace(made, **changes)


def read(data):
    return sign_for.read_release(data, KEY.public, slip(), DIGEST, JOAO)


def test_a_release_opens_the_letter():
    found = read(sign_for.sign_release(KEY, release()))
    assert sign_for.require_released(found, slip()) == second(JOAO)


def test_a_release_shows_no_share():
    assert second(JOAO).hex() not in repr(release())
    assert repr(second(JOAO)) not in repr(release())


@pytest.mark.parametrize(
    "changes",
    [
        {"repository": OTHER_REPOSITORY},
        {"letter": LetterId(b"letter-id-000002")},
        {"sender": BRUNO},
        {"reader": BRUNO},
        {"slip": suite.sha256(b"another slip")},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_release_for_something_else_is_refused(changes):
    with pytest.raises(BindingMismatch):
        read(sign_for.sign_release(KEY, release(**changes)))


def test_a_release_that_another_key_signed_is_refused():
    with pytest.raises(SignatureInvalid):
        read(resigned(sign_for.sign_release(KEY, release()), signing_key("somebody")))


def test_a_signed_release_of_another_share_proves_that_it_was_swapped():
    found = read(sign_for.sign_release(KEY, release(share=second(BRUNO))))
    with pytest.raises(BindingMismatch, match="share 2"):
        sign_for.require_released(found, slip())
