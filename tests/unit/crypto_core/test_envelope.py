"""Command and reply envelopes: each input that binds them is tested on its own.

Where a value is bound twice (it goes into the key and into the associated data), one of the two is undone by hand, so
that a test fails if either is left out.
"""

from __future__ import annotations

import dataclasses

import pytest

from crypto_core import cbor, cose, envelope, labels, limits, suite
from crypto_core.errors import BindingMismatch, DecryptionFailed, Malformed, SignatureInvalid
from crypto_core.ids import SessionId
from crypto_core.suite import ContentKey
from tests.support.protocol import SESSION, digest, flip, reshape, resigned, signing_key, traffic_keys, with_header

APP, REPOSITORY_KEY = signing_key("app"), signing_key("repository")
KEYS = traffic_keys()
BODY = b"a command body"
COMMAND = envelope.seal_command(APP, KEYS, 5, BODY)
REQUEST_HASH = suite.sha256(COMMAND)
REPLY = envelope.seal_reply(REPOSITORY_KEY, KEYS, 5, REQUEST_HASH, b"a reply body")
OTHER_SESSION = SessionId(b"session-id-00002")
OTHER_KEYS = dataclasses.replace(KEYS, session=OTHER_SESSION)


def open_command(data, keys=KEYS, app=APP):
    return envelope.read_command(data).open(app.public, keys)


def open_reply(data, keys=KEYS, counter=5, request_hash=REQUEST_HASH, key=REPOSITORY_KEY):
    return envelope.open_reply(data, key.public, keys, counter, request_hash)


def hand_made(
    headers,
    key,
    *,
    signer=APP,
    aad=None,
    inner_headers=None,
    body=BODY,
):
    """An envelope whose parts are chosen one by one: headers, inner key, and the associated data of the inner part."""
    inner_headers = inner_headers or {cose.ALG: cose.ALG_A256GCM, cose.LABEL: labels.COMMAND_SEAL}
    inner = cose.encrypt0(key, inner_headers, body, cbor.encode(headers) if aad is None else aad)
    return cose.sign1(signer, headers, inner)


def command_headers(**changes):
    made = {
        "alg": cose.ALG_ED25519,
        "label": labels.COMMAND,
        "session": SESSION,
        "counter": 5,
        "salt": b"s" * 32,
    } | changes
    names = {"alg": cose.ALG, "label": cose.LABEL, "session": cose.SESSION, "counter": cose.COUNTER, "salt": cose.SALT}
    return {names[name]: value for name, value in made.items()}


def command_key(label=labels.COMMAND, session=SESSION, counter=5, salt=b"s" * 32, secret=None):
    return ContentKey.derive(secret or KEYS.client_to_repository, label, session, counter, salt)


# ------------------------------------------------------------------------------------------------------------ commands


def test_round_trip():
    read = envelope.read_command(COMMAND)
    assert (read.label, read.session, read.counter, read.cookie) == (labels.COMMAND, SESSION, 5, None)
    assert read.request_hash == suite.sha256(COMMAND)
    assert read.open(APP.public, KEYS) == BODY


def test_the_documented_construction_opens():
    assert open_command(hand_made(command_headers(), command_key())) == BODY


def test_every_envelope_has_a_fresh_salt():
    salts = {envelope.read_command(envelope.seal_command(APP, KEYS, 5, BODY)).salt for _ in range(20)}
    assert len(salts) == 20


def test_the_body_does_not_show():
    assert BODY not in COMMAND


@pytest.mark.parametrize(
    ("name", "value"),
    [(cose.SESSION, OTHER_SESSION), (cose.COUNTER, 6), (cose.SALT, b"t" * 32)],
    ids=["session", "counter", "salt"],
)
def test_headers_are_signed(name, value):
    keys = OTHER_KEYS if name == cose.SESSION else KEYS
    with pytest.raises(SignatureInvalid):
        open_command(with_header(COMMAND, name, value), keys)


@pytest.mark.parametrize(
    ("name", "value"),
    [(cose.SESSION, OTHER_SESSION), (cose.COUNTER, 6), (cose.SALT, b"t" * 32)],
    ids=["session", "counter", "salt"],
)
def test_headers_are_bound_to_the_body(name, value):
    # Signed anew by somebody who has the app key and not the traffic keys
    keys = OTHER_KEYS if name == cose.SESSION else KEYS
    with pytest.raises(DecryptionFailed):
        open_command(resigned(COMMAND, APP, {name: value}), keys)


@pytest.mark.parametrize(
    "changes",
    [
        {"label": labels.CONFIRM},
        {"session": OTHER_SESSION},
        {"counter": 6},
        {"salt": b"t" * 32},
        {"secret": KEYS.repository_to_client},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_input_goes_into_the_command_key(changes):
    with pytest.raises(DecryptionFailed):
        open_command(hand_made(command_headers(), command_key(**changes)))


@pytest.mark.parametrize("aad", [b"", cbor.encode(command_headers(counter=6))], ids=["none", "other headers"])
def test_the_headers_are_associated_data_of_the_body(aad):
    with pytest.raises(DecryptionFailed):
        open_command(hand_made(command_headers(), command_key(), aad=aad))


def test_another_app_key_is_refused():
    with pytest.raises(SignatureInvalid):
        open_command(COMMAND, app=signing_key("somebody"))


def test_an_envelope_of_another_session_is_refused_before_anything_else():
    with pytest.raises(BindingMismatch):
        open_command(COMMAND, OTHER_KEYS, signing_key("somebody"))


def test_the_signature_is_checked_before_the_body_is_touched():
    broken = reshape(COMMAND, lambda fields: fields.__setitem__(2, b"no COSE object"))
    with pytest.raises(SignatureInvalid):
        open_command(broken)
    with pytest.raises(Malformed):
        open_command(resigned(COMMAND, APP, payload=b"no COSE object"))


@pytest.mark.parametrize(
    "inner_headers",
    [
        {cose.ALG: cose.ALG_A256GCM, cose.LABEL: labels.REPLY_SEAL},
        {cose.ALG: cose.ALG_A256GCM, cose.LABEL: labels.COMMAND_SEAL, cose.COUNTER: 5},
        {cose.ALG: cose.ALG_A256GCM_COMMITTING, cose.LABEL: labels.COMMAND_SEAL},
        {cose.ALG: cose.ALG_A256GCM},
    ],
)
def test_inner_headers_are_exact(inner_headers):
    with pytest.raises(Malformed):
        open_command(hand_made(command_headers(), command_key(), inner_headers=inner_headers))


@pytest.mark.parametrize(
    "changes",
    [
        {"label": labels.REPLY},
        {"label": labels.HELLO},
        {"label": "smr/2 command"},
        {"label": b"smr/1 command"},
        {"label": labels.CONFIRM},
        {"alg": cose.ALG_ESP256},
        {"session": bytes(15)},
        {"session": "0" * 16},
        {"counter": 0},
        {"counter": -1},
        {"counter": limits.COUNTER_MAX + 1},
        {"counter": True},
        {"counter": b"5"},
        {"salt": bytes(31)},
        {"salt": b""},
    ],
    ids=repr,
)
def test_forms_are_refused(changes):
    with pytest.raises(Malformed):
        envelope.read_command(hand_made(command_headers(**changes), command_key()))


@pytest.mark.parametrize("name", [cose.ALG, cose.LABEL, cose.SESSION, cose.COUNTER, cose.SALT])
def test_missing_headers_are_refused(name):
    headers = command_headers()
    del headers[name]
    with pytest.raises(Malformed):
        envelope.read_command(hand_made(headers, command_key()))


@pytest.mark.parametrize("name", [cose.COOKIE, cose.REQUEST_HASH, cose.KID, 2, 99])
def test_additional_headers_are_refused(name):
    with pytest.raises(Malformed):
        envelope.read_command(hand_made({**command_headers(), name: bytes(32)}, command_key()))


def test_a_confirm_is_command_zero_with_a_cookie():
    confirm = envelope.read_command(envelope.seal_confirm(APP, KEYS, b"cookie", BODY))
    assert (confirm.label, confirm.counter, confirm.cookie) == (labels.CONFIRM, 0, b"cookie")
    assert confirm.open(APP.public, KEYS) == BODY
    headers = command_headers(label=labels.CONFIRM, counter=0)
    for wrong in (headers, {**headers, cose.COOKIE: b""}, {**headers, cose.COOKIE: bytes(envelope.COOKIE_BYTES + 1)}):
        with pytest.raises(Malformed):
            envelope.read_command(hand_made(wrong, command_key()))
    with pytest.raises(Malformed):
        envelope.read_command(hand_made({**headers, cose.COUNTER: 1, cose.COOKIE: b"cookie"}, command_key()))


@pytest.mark.parametrize("counter", [0, -1, limits.COUNTER_MAX + 1])
def test_counters_out_of_bounds_are_not_sealed(counter):
    with pytest.raises(Malformed):
        envelope.seal_command(APP, KEYS, counter, BODY)


def test_every_changed_byte_is_refused():
    for position in range(len(COMMAND)):
        with pytest.raises((Malformed, SignatureInvalid, BindingMismatch)):
            open_command(flip(COMMAND, position * 8 + position % 8))


# ------------------------------------------------------------------------------------------------------------- replies


def reply_headers(**changes):
    made = {"session": SESSION, "counter": 5, "salt": b"s" * 32, "request": REQUEST_HASH} | changes
    return {
        cose.ALG: cose.ALG_ED25519,
        cose.LABEL: labels.REPLY,
        cose.SESSION: made["session"],
        cose.COUNTER: made["counter"],
        cose.SALT: made["salt"],
        cose.REQUEST_HASH: made["request"],
    }


def reply_key(session=SESSION, counter=5, salt=b"s" * 32, request=REQUEST_HASH, secret=None):
    return ContentKey.derive(secret or KEYS.repository_to_client, labels.REPLY, session, counter, salt, request)


def hand_made_reply(headers=None, key=None, **parts):
    inner_headers = {cose.ALG: cose.ALG_A256GCM, cose.LABEL: labels.REPLY_SEAL}
    return hand_made(
        headers or reply_headers(),
        key or reply_key(),
        **{"signer": REPOSITORY_KEY, "inner_headers": inner_headers, **parts},
    )


def test_reply_round_trip():
    assert open_reply(REPLY) == b"a reply body"
    assert open_reply(hand_made_reply()) == BODY


def test_two_replies_to_one_request_never_share_a_key():
    salts = set()
    for _ in range(20):
        made = envelope.seal_reply(REPOSITORY_KEY, KEYS, 5, REQUEST_HASH, b"a reply body")
        salts.add(cose.read_sign1(made).headers[cose.SALT])
    assert len(salts) == 20


@pytest.mark.parametrize(
    "wanted",
    [
        {"keys": OTHER_KEYS},
        {"counter": 6},
        {"request_hash": digest("other request")},
    ],
    ids=["session", "counter", "request"],
)
def test_a_reply_to_another_request_is_refused(wanted):
    with pytest.raises(BindingMismatch):
        open_reply(REPLY, **wanted)


def test_a_reply_by_another_key_is_refused():
    with pytest.raises(SignatureInvalid):
        open_reply(hand_made_reply(signer=signing_key("somebody")))


def test_a_reply_under_the_app_key_is_refused():
    with pytest.raises(SignatureInvalid):
        open_reply(hand_made_reply(signer=APP))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (cose.SESSION, OTHER_SESSION),
        (cose.COUNTER, 6),
        (cose.SALT, b"t" * 32),
        (cose.REQUEST_HASH, digest("other request")),
    ],
    ids=["session", "counter", "salt", "request"],
)
def test_reply_headers_are_signed(name, value):
    with pytest.raises(SignatureInvalid):
        open_reply(with_header(REPLY, name, value))


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        (cose.SESSION, OTHER_SESSION, {"keys": OTHER_KEYS}),
        (cose.COUNTER, 6, {"counter": 6}),
        (cose.SALT, b"t" * 32, {}),
        (cose.REQUEST_HASH, digest("other"), {"request_hash": digest("other")}),
    ],
    ids=["session", "counter", "salt", "request"],
)
def test_reply_headers_are_bound_to_the_body(name, value, wanted):
    with pytest.raises(DecryptionFailed):
        open_reply(resigned(REPLY, REPOSITORY_KEY, {name: value}), **wanted)


@pytest.mark.parametrize(
    "changes",
    [
        {"session": OTHER_SESSION},
        {"counter": 6},
        {"salt": b"t" * 32},
        {"request": digest("other request")},
        {"secret": KEYS.client_to_repository},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_input_goes_into_the_reply_key(changes):
    with pytest.raises(DecryptionFailed):
        open_reply(hand_made_reply(key=reply_key(**changes)))


@pytest.mark.parametrize(
    "aad", [b"", cbor.encode(reply_headers(request=digest("other request")))], ids=["none", "other request"]
)
def test_the_reply_headers_are_associated_data_of_the_body(aad):
    with pytest.raises(DecryptionFailed):
        open_reply(hand_made_reply(aad=aad))


def test_the_command_itself_is_no_reply():
    with pytest.raises(SignatureInvalid):
        open_reply(COMMAND)
    with pytest.raises(Malformed):
        open_reply(COMMAND, key=APP)


@pytest.mark.parametrize("name", [cose.SESSION, cose.COUNTER, cose.SALT, cose.REQUEST_HASH, cose.LABEL])
def test_missing_reply_headers_are_refused(name):
    headers = reply_headers()
    del headers[name]
    with pytest.raises(Malformed):
        open_reply(hand_made_reply(headers))


def test_signature_before_headers():
    # What is not signed by the repository is not looked at more closely than that.
    with pytest.raises(SignatureInvalid):
        open_reply(hand_made_reply({cose.ALG: 1, cose.LABEL: "other"}, signer=signing_key("somebody")))


def test_request_hash_is_of_the_whole_envelope():
    other = envelope.seal_command(APP, KEYS, 5, BODY)
    assert suite.sha256(other) != REQUEST_HASH
    with pytest.raises(BindingMismatch):
        open_reply(REPLY, request_hash=suite.sha256(other))


def test_traffic_keys_do_not_show():
    for secret in (KEYS.client_to_repository, KEYS.repository_to_client):
        assert repr(secret)[2:-1] not in repr(KEYS)
