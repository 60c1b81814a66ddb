"""The repository descriptor: whose it is, how long it holds, and which one may replace which."""

from __future__ import annotations

import pytest

from crypto_core import cbor, cose, descriptor, labels, limits, schema
from crypto_core.errors import BindingMismatch, LimitExceeded, Malformed, OutOfTime, SignatureInvalid
from tests.support.protocol import (
    DAY_MS,
    LEAF,
    NOW,
    OPERATOR_ROOT,
    OTHER_REPOSITORY,
    REPOSITORY,
    ROOT_HASH,
    digest,
    make_descriptor,
    p256_key,
    p256_public,
    resigned,
    sealing_key,
    signing_key,
    with_header,
)

CHAIN = (LEAF, OPERATOR_ROOT)
SIGNED = descriptor.sign(make_descriptor(), p256_key("operator"), CHAIN)


def verify(data, now=NOW):
    return descriptor.read(data).verify(p256_public("operator"), now)


def sign(**changes):
    return descriptor.sign(make_descriptor(**changes), p256_key("operator"), CHAIN)


def test_round_trip():
    read = descriptor.read(SIGNED)
    assert read.chain == CHAIN
    assert verify(SIGNED) == make_descriptor()
    assert make_descriptor().verify_key == signing_key("repository").public
    assert make_descriptor().sealing == sealing_key("repository").public


def test_the_id_is_derived_from_root_and_name():
    assert descriptor.derive_repository_id(ROOT_HASH, "Correio") == REPOSITORY
    assert descriptor.derive_repository_id(ROOT_HASH, "Outro") != REPOSITORY
    assert descriptor.derive_repository_id(digest("other root"), "Correio") != REPOSITORY
    assert len(REPOSITORY) == 32


def test_another_signer_is_refused():
    with pytest.raises(SignatureInvalid):
        descriptor.read(SIGNED).verify(p256_public("somebody"), NOW)


def test_a_changed_chain_is_refused():
    with pytest.raises(SignatureInvalid):
        verify(with_header(SIGNED, cose.X5CHAIN, [LEAF, b"DER of another root"]))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"repository": OTHER_REPOSITORY}, BindingMismatch),
        ({"name": "Outro"}, BindingMismatch),
        ({"operator_root": digest("other root")}, BindingMismatch),
        ({"expires": NOW}, Malformed),
        ({"expires": NOW - 1}, Malformed),
        ({"expires": NOW + limits.DESCRIPTOR_MS + 1}, Malformed),
    ],
    ids=lambda value: str(value)[:40],
)
def test_authentic_but_wrong(changes, error):
    with pytest.raises(error):
        verify(sign(**changes))


def test_the_descriptor_of_another_operator_cannot_take_this_id():
    # Signed by its own signer under its own root: the id of this repository is out of reach.
    other_root = b"DER of another root"
    root_hash = descriptor.suite.sha256(other_root)
    for changes in ({}, {"operator_root": root_hash}):
        signed = descriptor.sign(make_descriptor(**changes), p256_key("other operator"), (LEAF, other_root))
        with pytest.raises(BindingMismatch):
            descriptor.read(signed).verify(p256_public("other operator"), NOW)


def test_the_longest_validity_is_allowed():
    assert verify(sign(expires=NOW + limits.DESCRIPTOR_MS))


@pytest.mark.parametrize("now", [NOW - limits.CLOCK_SKEW_MS, NOW, NOW + 30 * DAY_MS - 1])
def test_within_its_time(now):
    assert verify(SIGNED, now)


@pytest.mark.parametrize("now", [0, NOW - limits.CLOCK_SKEW_MS - 1, NOW + 30 * DAY_MS, NOW + 400 * DAY_MS])
def test_out_of_its_time(now):
    with pytest.raises(OutOfTime):
        verify(SIGNED, now)


@pytest.mark.parametrize(
    "chain",
    [
        [],
        [OPERATOR_ROOT],
        [LEAF, LEAF, LEAF, OPERATOR_ROOT],
        [LEAF, b""],
        [LEAF, "text"],
        [LEAF, bytes(limits.CERTIFICATE_BYTES + 1)],
        LEAF,
        {1: LEAF},
    ],
    ids=["none", "root alone", "four", "empty", "text", "too large", "no list", "map"],
)
def test_chains_are_refused(chain):
    with pytest.raises(Malformed):
        descriptor.read(with_header(SIGNED, cose.X5CHAIN, chain))


@pytest.mark.parametrize(
    ("name", "value"),
    [(cose.LABEL, labels.DESCRIPTOR_ANSWER), (cose.ALG, cose.ALG_ED25519), (cose.ALG, -7), (cose.KID, b"kid")],
)
def test_headers_are_refused(name, value):
    with pytest.raises(Malformed):
        descriptor.read(with_header(SIGNED, name, value))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"epoch": 0}, LimitExceeded),
        ({"epoch": 2**31}, LimitExceeded),
        ({"signing_key": bytes(31)}, Malformed),
        ({"sealing_key": bytes(1217)}, LimitExceeded),
        ({"name": ""}, Malformed),
        ({"more": 1}, Malformed),
    ],
    ids=lambda value: str(value)[:30],
)
def test_fields_out_of_bounds_are_refused(changes, error):
    payload = cbor.encode({**schema.to_map(make_descriptor()), **changes})
    with pytest.raises(error):
        verify(resigned(SIGNED, p256_key("operator"), payload=payload))


# ----------------------------------------------------------------------------------------------------------- succession


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"epoch": 4},
        {"epoch": 4, "signing_key": bytes(32), "sealing_key": bytes(1216)},
        {"issued": NOW + 1, "expires": NOW + DAY_MS, "broker": "amqps://example.pt/"},
    ],
    ids=["the same", "newer", "newer with new keys", "renewed"],
)
def test_successors(changes):
    descriptor.require_successor(make_descriptor(), make_descriptor(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 2},
        {"epoch": 2, "issued": NOW + 1},
        {"repository": OTHER_REPOSITORY, "epoch": 4},
        {"operator_root": digest("other root"), "epoch": 4},
        {"signing_key": bytes(32)},
        {"sealing_key": bytes(1216)},
    ],
    ids=["older", "older, issued later", "other repository", "other root", "other signing key", "other sealing key"],
)
def test_no_successors(changes):
    with pytest.raises(BindingMismatch):
        descriptor.require_successor(make_descriptor(), make_descriptor(**changes))


# ------------------------------------------------------------------------------------------------------ request, answer

NONCE, OTHER_NONCE = b"n" * 32, b"m" * 32
ANSWER = descriptor.answer(signing_key("repository"), NONCE, SIGNED, NOW)
REQUEST = descriptor.request(signing_key("app"), NONCE, NOW)


def check_answer(data, nonce=NONCE):
    message, found, said = descriptor.read_answer(data)
    assert said == NOW
    descriptor.verify_answer(message, verify(found), nonce)
    return found


def test_answer_round_trip():
    assert check_answer(ANSWER) == SIGNED


def test_the_answer_to_another_request_is_refused():
    with pytest.raises(BindingMismatch):
        check_answer(ANSWER, OTHER_NONCE)


def test_an_answer_by_somebody_else_is_refused():
    # Somebody hands out an authentic, perhaps older descriptor: only who has its signing key can say it is current.
    with pytest.raises(SignatureInvalid):
        check_answer(descriptor.answer(signing_key("somebody"), NONCE, SIGNED, NOW))


def test_an_answer_with_another_descriptor_is_refused():
    other = sign(epoch=4)
    message, *_ = descriptor.read_answer(ANSWER)
    changed = schema.to_map(descriptor.DescriptorAnswer(NONCE, other, NOW))
    with pytest.raises(SignatureInvalid):
        cose.Sign1(message.protected, message.headers, cbor.encode(changed), message.signature).verify(
            signing_key("repository").public
        )


@pytest.mark.parametrize("label", [labels.DESCRIPTOR, labels.DESCRIPTOR_REQUEST, labels.REPLY])
def test_other_objects_are_no_answer(label):
    with pytest.raises(Malformed):
        descriptor.read_answer(resigned(ANSWER, signing_key("repository"), {cose.LABEL: label}))


def test_request_round_trip():
    found = descriptor.read_request(cose.read_sign1(REQUEST))
    assert (found.app_key, found.nonce, found.time) == (signing_key("app").public.raw, NONCE, NOW)


def test_a_request_in_the_name_of_another_app_is_refused():
    # It would let anybody aim an answer at that app's reply queue.
    with pytest.raises(SignatureInvalid):
        descriptor.read_request(cose.read_sign1(resigned(REQUEST, signing_key("somebody"))))


@pytest.mark.parametrize("label", [labels.HELLO, labels.COMMAND, labels.DESCRIPTOR_ANSWER])
def test_other_objects_are_no_request(label):
    with pytest.raises(Malformed):
        descriptor.read_request(cose.read_sign1(resigned(REQUEST, signing_key("app"), {cose.LABEL: label})))


def test_epochs_that_were_withdrawn_do_not_come_back():
    known = make_descriptor(epoch=5, oldest=4)
    descriptor.require_successor(known, make_descriptor(epoch=6, oldest=4))
    with pytest.raises(BindingMismatch, match="withdrawn"):
        descriptor.require_successor(known, make_descriptor(epoch=6, oldest=3))


def test_its_own_epoch_counts():
    assert verify(sign(epoch=3, oldest=1)).oldest == 1
    with pytest.raises(Malformed, match="own epoch"):
        verify(sign(epoch=3, oldest=4))
