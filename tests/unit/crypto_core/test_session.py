"""The negotiation: every load-bearing input of the protocol has a test here that fails when it is left out."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import x25519

from crypto_core import cbor, commands, cose, documents, envelope, labels, limits, records, schema, session, suite
from crypto_core.errors import (
    BindingMismatch,
    DecryptionFailed,
    LimitExceeded,
    Malformed,
    OutOfTime,
    ProtocolError,
    SignatureInvalid,
)
from crypto_core.ids import Milliseconds
from tests.support import protocol
from tests.support.protocol import (
    MARIA,
    NOW,
    OTHER_REPOSITORY,
    REPOSITORY,
    digest,
    kek,
    make_descriptor,
    make_identity,
    negotiate,
    negotiation,
    open_confirm,
    resigned,
    sealing_key,
    seed,
    signed,
    signing_key,
    with_header,
)

APP, OTHER_APP = signing_key("app"), signing_key("other app")
REPOSITORY_KEY = signing_key("repository")


def answer(hello, now=NOW, **identity):
    return session.answer_hello(hello, [make_identity(**identity)], kek(), Milliseconds(now)).answer


# ------------------------------------------------------------------------------------------------------- the whole path


def test_both_sides_agree():
    made = negotiation()
    assert made.session.keys == made.record.keys == made.opened.cookie.keys
    assert made.session.user == made.record.user == MARIA
    assert made.session.expires == made.record.expires == NOW + limits.SESSION_MS
    assert made.record.app_key == APP.public.raw
    assert made.record.confirm_hash == suite.sha256(made.confirm_sent.confirm)
    assert made.session.keys.client_to_repository != made.session.keys.repository_to_client


def test_without_a_login_the_session_has_no_user():
    made = negotiate(user=None)
    assert made.opened.login is None
    assert made.session.user is made.record.user is None


def test_every_negotiation_is_its_own():
    first, second = negotiate(), negotiate()
    for pick in (
        lambda made: made.session.keys.session,
        lambda made: made.session.keys.client_to_repository,
        lambda made: made.session.keys.repository_to_client,
        lambda made: made.opened.cookie.transcript,
        lambda made: made.opened.cookie.finished,
        lambda made: made.sent.nonce,
        lambda made: made.answered.offer.repository_nonce,
    ):
        assert pick(first) != pick(second)


def test_the_answer_names_the_app_key_for_the_reply_queue():
    found = session.answer_hello(negotiation().sent.hello, [make_identity()], kek(), NOW)
    assert found.app_key == APP.public


@pytest.mark.parametrize(
    "newer", [{"signing": signing_key("newer"), "sealing": sealing_key("newer")}, {}], ids=["new keys", "the same keys"]
)
def test_a_hello_is_answered_by_the_epoch_that_it_was_sealed_to(newer):
    sent = session.hello(make_descriptor(), APP, NOW)
    identities = [make_identity(epoch=4, **newer), make_identity()]
    answered = sent.answered(session.answer_hello(sent.hello, identities, kek(), NOW).answer)
    opened = open_confirm(answered.confirm(None, NOW).confirm)
    assert opened.cookie.epoch == opened.record().epoch == 3


def test_phase_four_may_be_made_again():
    made = negotiation()
    again = session.seal_active(make_identity(), open_confirm(made.confirm_sent.confirm), NOW)
    assert again != made.active
    assert made.confirm_sent.active(again) == made.session


# ----------------------------------------------------- the key schedule, written here from the protocol's definition


def labelled(label, *parts):
    return cbor2.dumps([label, *parts])


def expand(key, *info):
    return hmac.digest(key, labelled(*info) + b"\x01", "sha256")


def test_the_key_schedule_is_the_one_of_the_protocol():
    made = negotiation()
    dh, kem = protocol.private_parts(made.sent)
    body = cbor.decode(cose.read_sign1(made.answer).unverified_payload)
    hello, share, ciphertext, sealed = made.sent.hello, body["x25519"], body["mlkem"], body["sealed"]

    th1 = hashlib.sha256(labelled("smr/1 transcript 1", hello, share, ciphertext)).digest()
    th2 = hashlib.sha256(labelled("smr/1 transcript 2", th1, sealed)).digest()
    kem_secret = kem.decapsulate(ciphertext)
    dh_secret = dh.exchange(x25519.X25519PublicKey.from_public_bytes(share))
    prk = hmac.digest(th1, labelled("smr/1 key schedule", kem_secret, dh_secret), "sha256")
    session_id = made.session.keys.session

    assert made.opened.cookie.transcript == th2
    assert made.session.keys.client_to_repository == expand(prk, "smr/1 client to repository", th2, session_id)
    assert made.session.keys.repository_to_client == expand(prk, "smr/1 repository to client", th2, session_id)
    finished = expand(prk, "smr/1 finished key", th2, session_id)
    assert made.opened.cookie.finished == finished
    mac = hmac.digest(finished, labelled("smr/1 finished", th2), "sha256")
    assert session._finished(made.answered._schedule) == mac


def test_every_input_goes_into_the_transcripts():
    base = session._transcript_1(b"hello", b"share", b"ciphertext")
    assert base != session._transcript_1(b"Hello", b"share", b"ciphertext")
    assert base != session._transcript_1(b"hello", b"Share", b"ciphertext")
    assert base != session._transcript_1(b"hello", b"share", b"Ciphertext")
    assert session._transcript_2(base, b"sealed") != session._transcript_2(base, b"Sealed")
    assert session._transcript_2(base, b"sealed") != session._transcript_2(digest("other"), b"sealed")


def test_transcript_and_session_go_into_the_traffic_keys():
    made = [
        session._schedule(b"p" * 32, digest("one"), protocol.SESSION),
        session._schedule(b"p" * 32, digest("two"), protocol.SESSION),
        session._schedule(b"p" * 32, digest("one"), session.SessionId(b"session-id-00002")),
        session._schedule(b"q" * 32, digest("one"), protocol.SESSION),
    ]
    for pick in (
        lambda each: each.keys.client_to_repository,
        lambda each: each.keys.repository_to_client,
        lambda each: each.finished,
    ):
        assert len({pick(each) for each in made}) == len(made)


# --------------------------------------------------------------------------------------------------- phase 1, the hello


def hello_body(**changes):
    """The fields of a fresh hello of APP to this repository, with changes."""
    sent = negotiation().sent
    dh, kem = protocol.private_parts(sent)
    return {
        "repository": REPOSITORY,
        "epoch": 3,
        "signing_key": REPOSITORY_KEY.public.raw,
        "app_key": APP.public.raw,
        "x25519": dh.public_key().public_bytes_raw(),
        "mlkem": kem.public_key().public_bytes_raw(),
        "nonce": b"n" * 32,
        "time": NOW,
        **changes,
    }


def seal_hello(body, *, signer=APP, headers=None, descriptor=None):
    """A hello with any content, correctly sealed to this repository."""
    headers = headers or {cose.ALG: cose.ALG_ED25519, cose.LABEL: labels.HELLO}
    inner = cose.sign1(signer, headers, cbor.encode(body))
    return session._seal_hello(descriptor or make_descriptor(), inner)


def test_the_hand_made_hello_is_answered():
    assert answer(seal_hello(hello_body()))


OTHER_IDENTITIES = {
    "repository": {"repository": OTHER_REPOSITORY},
    "epoch": {"epoch": 4},
    "signing key": {"signing_key": signing_key("other repository").public.raw},
}


@pytest.mark.parametrize("name", OTHER_IDENTITIES)
def test_the_identity_of_the_repository_is_in_the_hpke_info_of_hello(name):
    # A hostile repository shows its own descriptor with this one's sealing key, and passes the hello on.
    sent = session.hello(make_descriptor(**OTHER_IDENTITIES[name]), APP, NOW)
    with pytest.raises(DecryptionFailed):
        answer(sent.hello)


@pytest.mark.parametrize("name", OTHER_IDENTITIES)
def test_the_identity_of_the_repository_is_in_the_signed_part_of_hello(name):
    # A hostile repository opens a hello that was meant for it, and seals its signed part for this one.
    with pytest.raises(BindingMismatch):
        answer(seal_hello(hello_body(**OTHER_IDENTITIES[name])))


def test_a_hello_to_another_sealing_key_is_refused():
    sent = session.hello(make_descriptor(sealing_key=sealing_key("João").public.raw), APP, NOW)
    with pytest.raises(DecryptionFailed, match="another key"):
        answer(sent.hello)


def test_a_hello_that_claims_the_key_id_of_another_key_is_refused():
    sent = session.hello(make_descriptor(sealing_key=sealing_key("João").public.raw), APP, NOW)
    found = cbor.decode(sent.hello)
    recipient = found.value[3][0]
    recipient[0] = cbor.encode({**cbor.decode(recipient[0]), cose.KID: sealing_key("repository").public.key_id})
    with pytest.raises(DecryptionFailed):
        answer(cbor.encode(found))


def test_a_hello_in_the_name_of_another_app_is_refused():
    with pytest.raises(SignatureInvalid):
        answer(seal_hello(hello_body(), signer=OTHER_APP))


@pytest.mark.parametrize("label", [labels.COMMAND, labels.DESCRIPTOR_REQUEST, labels.HELLO_SEAL])
def test_another_signed_object_is_no_hello(label):
    with pytest.raises(Malformed):
        answer(seal_hello(hello_body(), headers={cose.ALG: cose.ALG_ED25519, cose.LABEL: label}))


@pytest.mark.parametrize("difference", [-limits.CLOCK_SKEW_MS - 1, limits.CLOCK_SKEW_MS + 1])
def test_a_hello_out_of_its_time_is_refused(difference):
    with pytest.raises(OutOfTime):
        answer(negotiation().sent.hello, now=NOW + difference)
    assert answer(negotiation().sent.hello, now=NOW + difference - (1 if difference > 0 else -1))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"x25519": bytes(31)}, Malformed),
        ({"x25519": bytes(32)}, Malformed),  # a point of low order: the secret would be known
        ({"x25519": b"\x01" + bytes(31)}, Malformed),
        ({"mlkem": bytes(1183)}, Malformed),
        ({"mlkem": b"\xff" * 1184}, Malformed),  # coefficients over the modulus
        ({"nonce": bytes(31)}, Malformed),
        ({"epoch": 0}, LimitExceeded),
        ({"time": -1}, LimitExceeded),
        ({"app_key": bytes(31)}, Malformed),
        ({"more": 1}, Malformed),
    ],
    ids=lambda value: str(value)[:24],
)
def test_fields_of_a_hello_are_checked(changes, error):
    with pytest.raises(error):
        answer(seal_hello(hello_body(**changes)))


@pytest.mark.parametrize("name", list(hello_body()))
def test_missing_fields_of_a_hello_are_refused(name):
    body = hello_body()
    del body[name]
    with pytest.raises(Malformed):
        answer(seal_hello(body))


def test_a_hello_has_one_recipient():
    found = cbor.decode(negotiation().sent.hello)
    found.value[3].append(found.value[3][0])
    with pytest.raises(Malformed):
        answer(cbor.encode(found))


def test_a_hello_over_its_limit_is_refused():
    with pytest.raises(LimitExceeded):
        answer(bytes(limits.HANDSHAKE_BYTES + 1))


def test_a_content_secret_of_another_size_is_refused():
    descriptor = make_descriptor()
    info = session._hello_info(REPOSITORY, 3, REPOSITORY_KEY.public.raw)
    headers = {cose.ALG: cose.ALG_HPKE_9_KE, cose.LABEL: labels.HELLO_SEAL, cose.KID: descriptor.sealing.key_id}
    recipient = cose.wrap(descriptor.sealing, b"s" * 16, headers, cose.ALG_A256GCM, info)
    protected = cbor.encode({cose.ALG: cose.ALG_A256GCM, cose.LABEL: labels.HELLO})
    key = suite.ContentKey.derive(b"s" * 32, labels.HELLO_SEAL)
    with pytest.raises(Malformed):
        answer(cose.encrypt(key, protected, b"", [recipient]))


# -------------------------------------------------------------------------------------------------- phase 2, the answer


def answer_body(**changes):
    return cbor.encode({**cbor.decode(cose.read_sign1(negotiation().answer).unverified_payload), **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"x25519": x25519.X25519PrivateKey.generate().public_key().public_bytes_raw()},
        {"mlkem": bytes(1088)},
        {"sealed": b"sealed"},
        {"cookie": b"cookie"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_part_of_the_answer_is_signed(changes):
    found = cbor.decode(negotiation().answer)
    found.value[2] = answer_body(**changes)
    with pytest.raises(SignatureInvalid):
        negotiation().sent.answered(cbor.encode(found))


def test_the_hash_of_hello_is_signed():
    with pytest.raises(SignatureInvalid):
        negotiation().sent.answered(with_header(negotiation().answer, cose.REQUEST_HASH, digest("other hello")))


def test_an_answer_to_another_hello_is_refused():
    other = negotiate().answer
    with pytest.raises(BindingMismatch, match="another hello"):
        negotiation().sent.answered(other)


def test_an_answer_by_another_key_is_refused():
    with pytest.raises(SignatureInvalid):
        negotiation().sent.answered(resigned(negotiation().answer, signing_key("somebody")))


@pytest.mark.parametrize("name", ["x25519", "mlkem", "sealed"])
def test_an_answer_put_together_from_two_is_refused(name):
    # Signed by the repository's own key: the transcript in the key and in the associated data notices.
    sent = negotiation().sent
    other = cbor.decode(cose.read_sign1(answer(sent.hello)).unverified_payload)
    mixed = resigned(negotiation().answer, REPOSITORY_KEY, payload=answer_body(**{name: other[name]}))
    with pytest.raises(DecryptionFailed):
        sent.answered(mixed)


def test_the_transcript_is_associated_data_of_the_sealed_part():
    sent = negotiation().sent
    body = cbor.decode(cose.read_sign1(negotiation().answer).unverified_payload)
    dh, kem = protocol.private_parts(sent)
    th1 = session._transcript_1(sent.hello, body["x25519"], body["mlkem"])
    dh_secret = dh.exchange(x25519.X25519PublicKey.from_public_bytes(body["x25519"]))
    prk = suite.extract(th1, labels.KEY_SCHEDULE, kem.decapsulate(body["mlkem"]), dh_secret)
    made = cose.read_encrypt0(body["sealed"])
    assert made.decrypt(session._answer_key(prk, th1), th1)
    with pytest.raises(DecryptionFailed):
        made.decrypt(session._answer_key(prk, th1))


def test_shares_of_low_order_are_refused():
    payload = answer_body(x25519=bytes(32))
    with pytest.raises(Malformed):
        negotiation().sent.answered(resigned(negotiation().answer, REPOSITORY_KEY, payload=payload))


@pytest.mark.parametrize("changes", [{"x25519": bytes(31)}, {"mlkem": bytes(1087)}, {"sealed": b""}, {"more": b""}])
def test_fields_of_an_answer_are_checked(changes):
    with pytest.raises(Malformed):
        negotiation().sent.answered(resigned(negotiation().answer, REPOSITORY_KEY, payload=answer_body(**changes)))


def test_the_client_nonce_must_come_back():
    sent = dataclasses.replace(negotiation().sent, nonce=b"m" * 32)
    with pytest.raises(BindingMismatch, match="nonce"):
        sent.answered(negotiation().answer)


@pytest.mark.parametrize(
    "label", [labels.ANSWER_SEAL, labels.REPLY, labels.MAILBOX_HEAD, labels.DESCRIPTOR_ANSWER, labels.HELLO]
)
def test_another_object_of_the_repository_is_no_answer(label):
    with pytest.raises(Malformed):
        negotiation().sent.answered(resigned(negotiation().answer, REPOSITORY_KEY, {cose.LABEL: label}))


# ------------------------------------------------------------------------------------------------- phase 3, the confirm


def confirm(body_changes=None, *, app=APP, cookie=None, keys=None, made=None):
    """A confirm of this negotiation whose body is changed before it is sealed and signed."""
    made = made or negotiation()
    body = schema.to_map(session.Confirm(session._finished(made.answered._schedule), None, b"n" * 32, NOW))
    return envelope.seal_confirm(
        app,
        keys or made.answered._schedule.keys,
        cookie or made.answered._cookie,
        cbor.encode({**body, **(body_changes or {})}),
    )


def login(**changes):
    made = documents.decode(documents.Login, negotiation().answered.login_document(MARIA, NOW), REPOSITORY)
    changed = dataclasses.replace(made, **changes)
    return {"login": schema.to_map(signed(documents.encode(changed)))}


def test_the_hand_made_confirm_is_accepted():
    assert open_confirm(confirm()).login is None
    assert open_confirm(confirm(login())).login.user == MARIA


@pytest.mark.parametrize("mac", [bytes(32), b"\xff" * 32])
def test_the_mac_over_the_transcript_must_hold(mac):
    with pytest.raises(SignatureInvalid, match="MAC"):
        open_confirm(confirm({"mac": mac}))


def test_the_mac_of_another_negotiation_is_refused():
    other = negotiate()
    with pytest.raises(SignatureInvalid, match="MAC"):
        open_confirm(confirm({"mac": session._finished(other.answered._schedule)}))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"transcript": digest("other")}, BindingMismatch),
        ({"session": session.SessionId(b"session-id-00002")}, BindingMismatch),
        ({"app_key": OTHER_APP.public.raw}, BindingMismatch),
        ({"repository": OTHER_REPOSITORY}, BindingMismatch),
        ({"time": NOW - limits.CLOCK_SKEW_MS - limits.HANDSHAKE_MS - 1}, OutOfTime),
        ({"time": NOW + limits.CLOCK_SKEW_MS + limits.HANDSHAKE_MS + 1}, OutOfTime),
    ],
    ids=["transcript", "session", "app key", "repository", "too old", "from the future"],
)
def test_what_the_login_binds(changes, error):
    with pytest.raises(error):
        open_confirm(confirm(login(**changes)))


def test_the_login_of_another_negotiation_is_refused():
    # A hostile repository lets a citizen log in to it and relays the document here.
    other = negotiate(app="other app")
    relayed = schema.to_map(signed(other.answered.login_document(MARIA, NOW)))
    with pytest.raises(BindingMismatch):
        open_confirm(confirm({"login": relayed}))


def test_the_login_names_everything_that_it_binds():
    made = negotiation()
    found = documents.decode(documents.Login, made.answered.login_document(MARIA, NOW), REPOSITORY)
    assert found == documents.Login(
        REPOSITORY, MARIA, made.session.keys.session, made.opened.cookie.transcript, APP.public.raw, NOW
    )


def test_another_document_of_the_card_is_no_login():
    letter = protocol.make_draft().document
    with pytest.raises(BindingMismatch):
        open_confirm(confirm({"login": schema.to_map(signed(letter))}))


def test_a_confirm_signed_by_another_app_is_refused():
    with pytest.raises(SignatureInvalid):
        open_confirm(confirm(app=OTHER_APP))


def test_a_confirm_with_the_cookie_of_another_session_is_refused():
    other = negotiate()
    with pytest.raises(DecryptionFailed):
        open_confirm(confirm(cookie=other.answered._cookie))


def test_a_confirm_under_other_traffic_keys_is_refused():
    keys = dataclasses.replace(negotiation().session.keys, client_to_repository=seed("other", 32))
    with pytest.raises(DecryptionFailed):
        open_confirm(confirm(keys=keys))


def test_a_cookie_of_another_repository_is_refused():
    with pytest.raises(DecryptionFailed):
        session.open_confirm(
            envelope.read_command(negotiation().confirm_sent.confirm), {kek("x").id: kek("x")}, REPOSITORY, NOW
        )


def test_a_stored_record_is_no_cookie():
    made = negotiation()
    with pytest.raises(ProtocolError):
        open_confirm(confirm(cookie=records.seal_record(kek(), made.record)))


def test_an_old_answer_cannot_be_confirmed():
    data = negotiation().confirm_sent.confirm
    assert open_confirm(data, NOW + limits.HANDSHAKE_MS - 1)
    with pytest.raises(OutOfTime):
        open_confirm(data, NOW + limits.HANDSHAKE_MS)


def test_a_command_is_no_confirm():
    keys = negotiation().session.keys
    with pytest.raises(Malformed):
        open_confirm(envelope.seal_command(APP, keys, 1, b"body"))


@pytest.mark.parametrize("changes", [{"mac": bytes(31)}, {"nonce": bytes(31)}, {"more": 1}, {"login": b""}])
def test_fields_of_a_confirm_are_checked(changes):
    with pytest.raises(Malformed):
        open_confirm(confirm(changes))


# ------------------------------------------------------------------------------------------------- phase 4, the active


def test_active_of_another_confirm_is_refused():
    other = negotiate()
    with pytest.raises(BindingMismatch):
        negotiation().confirm_sent.active(other.active)


def test_active_by_another_key_is_refused():
    with pytest.raises(SignatureInvalid):
        negotiation().confirm_sent.active(resigned(negotiation().active, signing_key("somebody")))


def test_active_with_another_nonce_is_refused():
    made = negotiation()
    opened = dataclasses.replace(made.opened, nonce=b"m" * 32)
    with pytest.raises(BindingMismatch, match="nonce"):
        made.confirm_sent.active(session.seal_active(make_identity(), opened, NOW))


def test_active_for_longer_than_offered_is_refused():
    made = negotiation()
    longer = dataclasses.replace(made.opened.cookie, expires=Milliseconds(made.opened.cookie.expires + 1))
    with pytest.raises(BindingMismatch, match="longer"):
        made.confirm_sent.active(
            session.seal_active(make_identity(), dataclasses.replace(made.opened, cookie=longer), NOW)
        )


def test_a_refused_login_is_told():
    made = negotiation()
    body = commands.encode_refusal(made.opened.nonce, NOW, commands.ErrorCode.CERTIFICATE, "the certificate is revoked")
    refusal = envelope.seal_reply(REPOSITORY_KEY, made.session.keys, 0, made.opened.request_hash, body)
    with pytest.raises(commands.RefusedByRepository, match="revoked") as caught:
        made.confirm_sent.active(refusal)
    assert caught.value.code is commands.ErrorCode.CERTIFICATE


def test_a_reply_to_a_command_is_no_active():
    made = negotiation()
    body = commands.encode_reply(made.opened.nonce, NOW, session.Active(MARIA, made.session.expires))
    reply = envelope.seal_reply(REPOSITORY_KEY, made.session.keys, 1, made.opened.request_hash, body)
    with pytest.raises(BindingMismatch):
        made.confirm_sent.active(reply)
