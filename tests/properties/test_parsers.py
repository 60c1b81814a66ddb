"""However bad the input is, every reader of this protocol ends in success or in a ProtocolError, never in another way.

Each reader gets arbitrary bytes, and valid objects of every kind (also of other readers) with damage.
"""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_core import (
    canonical_json,
    cbor,
    commands,
    cose,
    descriptor,
    documents,
    envelope,
    keystore,
    labels,
    letter,
    mailbox,
    moments,
    receipt,
    records,
    schema,
    sealed,
    session,
    sign_for,
)
from crypto_core.errors import ProtocolError
from crypto_core.ids import repository_id
from tests.support.protocol import (
    JOAO,
    LEAF,
    LETTER,
    MARIA,
    NOW,
    OPERATOR_ROOT,
    REPOSITORY,
    SESSION,
    digest,
    entry,
    kek,
    make_descriptor,
    make_draft,
    make_identity,
    negotiation,
    open_confirm,
    opened_head,
    p256_key,
    p256_public,
    ring,
    sealed_letter,
    sealed_receipt,
    sign_for_letter,
    signing_key,
    slip_of,
    traffic_keys,
)
from tests.support.strategies import cbor_values, damaged

MADE = negotiation()
KEYS = traffic_keys()
NONCE = b"n" * 32
COMMAND = envelope.seal_command(signing_key("app"), KEYS, 1, b"body")
REQUEST_BODY = commands.encode_request(commands.Recv(MARIA, b"letter-id-000001"), NONCE, NOW)
REPLY_BODY = commands.encode_reply(NONCE, NOW, commands.CloseResult(closed=True))
REFUSAL_BODY = commands.encode_refusal(NONCE, NOW, commands.ErrorCode.CONFLICT, "another letter has this id")
REPLY = envelope.seal_reply(signing_key("repository"), KEYS, 1, digest("request"), b"body")
DESCRIPTOR = descriptor.sign(make_descriptor(), p256_key("operator"), (LEAF, OPERATOR_ROOT))
RECORD = records.seal_record(kek(), MADE.record)
VIEW = sealed.read(sealed.LETTER, sealed_letter().head).view(JOAO)
RECEIPT_VIEW = sealed.read(sealed.RECEIPT, sealed_receipt()).view(MARIA)
LOGIN = MADE.answered.login_document(MARIA, NOW)
HEAD = mailbox.sign_head(signing_key("repository"), mailbox.Head(REPOSITORY, JOAO, 1, digest("entry"), NOW))
PLACES = mailbox.Place(JOAO, 1, digest("entry")), mailbox.Place(MARIA, 2, digest("other"))
PLACEMENT = mailbox.sign_placement(signing_key("repository"), mailbox.Placement(REPOSITORY, PLACES, NOW))
RELEASE = sign_for.sign_release(
    signing_key("repository"),
    sign_for.Release(REPOSITORY, LETTER, MARIA, JOAO, digest("slip"), sign_for_letter().shares[0], NOW),
)

VALID = {
    "hello": MADE.sent.hello,
    "answer": MADE.answer,
    "confirm": MADE.confirm_sent.confirm,
    "active": MADE.active,
    "command": COMMAND,
    "reply": REPLY,
    "request body": REQUEST_BODY,
    "reply body": REPLY_BODY,
    "refusal body": REFUSAL_BODY,
    "descriptor": DESCRIPTOR,
    "descriptor request": descriptor.request(signing_key("app"), NONCE, NOW),
    "descriptor answer": descriptor.answer(signing_key("repository"), NONCE, DESCRIPTOR, NOW),
    "record": RECORD,
    "letter head": sealed_letter().head,
    "letter body": sealed_letter().body,
    "receipt": sealed_receipt(),
    "mailbox head": HEAD,
    "mailbox placement": PLACEMENT,
    "letter document": make_draft().document,
    "login document": LOGIN,
    "view": cbor.encode(schema.to_map(VIEW)),
    "entry": cbor.encode(schema.to_map(entry(1))),
    "wrap": VIEW.wrap,
    "sign-for head": sign_for_letter().letter.head,
    "slip": sign_for_letter().slip,
    "release": RELEASE,
}


def read_wrap(data):
    return cose.read_recipient(cbor.decode(data))


def open_command(data):
    return envelope.read_command(data).open(signing_key("app").public, KEYS)


def open_reply(data):
    return envelope.open_reply(data, signing_key("repository").public, KEYS, 1, digest("request"))


def check_answer(data):
    message, found, _ = descriptor.read_answer(data)
    descriptor.verify_answer(message, descriptor.read(found).verify(p256_public("operator"), NOW), NONCE)


def open_letter(data):
    view = sealed.read(sealed.LETTER, data).view(JOAO)
    return letter.open_head(view, REPOSITORY, JOAO, ring(JOAO))


def open_view(data):
    view = schema.from_map(sealed.SealedView, cbor.decode(data))
    return letter.open_head(view, REPOSITORY, JOAO, ring(JOAO))


def open_view_with(name):
    """A view with one part replaced by the bytes."""

    def read(data):
        parts = {part: getattr(VIEW, part) for part in ("protected", "ciphertext", "wrap", "wraps")}
        return letter.open_head(sealed.SealedView(**{**parts, name: data}), REPOSITORY, JOAO, ring(JOAO))

    return read


def open_receipt(data):
    view = sealed.read(sealed.RECEIPT, data).view(MARIA)
    return receipt.open_receipt(view, REPOSITORY, MARIA, ring(MARIA))


def seal_receipt(data):
    return receipt.seal(data, b"a CMS signature", REPOSITORY, {})


def as_text(read):
    return lambda data: read(data.decode("utf-8", "replace"))


READERS = {
    "cbor.decode": cbor.decode,
    "canonical_json.decode": canonical_json.decode,
    "cose.read_sign1": cose.read_sign1,
    "cose.read_encrypt0": cose.read_encrypt0,
    "cose.read_encrypt": cose.read_encrypt,
    "cose.read_recipient": read_wrap,
    "descriptor.read": lambda data: descriptor.read(data).verify(p256_public("operator"), NOW),
    "descriptor.read_request": lambda data: descriptor.read_request(cose.read_sign1(data)),
    "descriptor.read_answer": check_answer,
    "session.answer_hello": lambda data: session.answer_hello(data, [make_identity()], kek(), NOW),
    "session.answered": MADE.sent.answered,
    "session.open_confirm": open_confirm,
    "session.active": MADE.confirm_sent.active,
    "envelope.read_command": open_command,
    "envelope.open_reply": open_reply,
    "commands.decode_request": commands.decode_request,
    "commands.decode_reply": lambda data: commands.decode_reply(data, commands.CloseResult, NONCE),
    "commands.open_request": commands.open_request,
    "records.open_record": lambda data: records.open_record({kek().id: kek()}, MADE.record.session, data),
    "records.open_cookie": lambda data: records.open_cookie({kek().id: kek()}, SESSION, data),
    "records.kek_id_of": records.kek_id_of,
    "sealed.read": open_letter,
    "sealed view": open_view,
    "sealed view, protected": open_view_with("protected"),
    "sealed view, ciphertext": open_view_with("ciphertext"),
    "sealed view, wrap": open_view_with("wrap"),
    "letter.open_body": lambda data: letter.open_body(opened_head(JOAO), data),
    "receipt.open_receipt": open_receipt,
    "receipt.seal": seal_receipt,
    "mailbox.read_head": lambda data: mailbox.read_head(data, signing_key("repository").public, REPOSITORY, JOAO),
    "mailbox.read_placement": lambda data: mailbox.read_placement(data, signing_key("repository").public, REPOSITORY),
    "mailbox.is_placement": mailbox.is_placement,
    "documents.decode Login": lambda data: documents.decode(documents.Login, data, REPOSITORY),
    "documents.decode Letter": lambda data: documents.decode(documents.Letter, data, REPOSITORY),
    "documents.decode Slip": lambda data: documents.decode(documents.Slip, data, REPOSITORY),
    "sealed.read sign-for": lambda data: sealed.read(sealed.SIGN_FOR, data),
    "sign_for.read_release": lambda data: sign_for.read_release(
        data, signing_key("repository").public, slip_of(sign_for_letter()), digest("slip"), JOAO
    ),
    "moments.from_text": as_text(moments.from_text),
    "ids.repository_id": as_text(repository_id),
}


def read_or_refuse(name, data):
    with contextlib.suppress(ProtocolError):
        READERS[name](data)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=25)
@given(st.binary(max_size=200))
def test_arbitrary_bytes(name, data):
    read_or_refuse(name, data)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=40)
@given(st.data())
def test_damaged_objects(name, data):
    which = data.draw(st.sampled_from(sorted(VALID)))
    read_or_refuse(name, data.draw(damaged(VALID[which])))


@pytest.mark.parametrize("name", READERS)
def test_valid_objects_of_every_kind(name):
    for data in VALID.values():
        read_or_refuse(name, data)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=25)
@given(st.data())
def test_objects_with_any_value_in_a_field(name, data):
    which = data.draw(st.sampled_from(["answer", "command", "descriptor", "record", "letter head", "mailbox head"]))
    found = cbor.decode(VALID[which])
    position = data.draw(st.integers(0, len(found.value) - 1))
    value = data.draw(st.one_of(cbor_values, cbor_values.map(cbor.encode)))
    found.value[position] = value
    read_or_refuse(name, cbor.encode(found))


@settings(max_examples=60)
@given(st.data())
def test_keystores(data):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"ITERATIONS": 1, "LANES": 1, "MEMORY_KIB": 8, "MEMORY_KIB_MAX": 1024}.items():
            patch.setattr(keystore, name, value)
        valid = keystore.seal(MADE.record, labels.KEYSTORE, "passphrase")
        changed = data.draw(st.one_of(st.binary(max_size=200), damaged(valid)))
        with contextlib.suppress(ProtocolError):
            keystore.open_(records.SessionRecord, changed, labels.KEYSTORE, data.draw(st.text(max_size=20)))
