"""COSE objects: every header, tag and field that is not exactly as named is refused."""

from __future__ import annotations

import pytest
from cbor2 import CBORTag

from crypto_core import cbor, cose
from crypto_core.errors import DecryptionFailed, LimitExceeded, Malformed, SignatureInvalid
from crypto_core.suite import ContentKey
from tests.support.protocol import flip, reshape, sealing_key, seed, signing_key, with_header

KEY = signing_key("app")
CONTENT = ContentKey(seed("key", 32), seed("iv", 12))
HEADERS = {cose.ALG: cose.ALG_ED25519, cose.LABEL: "smr/1 test"}
SIGNED = cose.sign1(KEY, HEADERS, b"payload")
SEALED = cose.encrypt0(CONTENT, {cose.ALG: cose.ALG_A256GCM, cose.LABEL: "smr/1 test"}, b"payload")
PROTECTED = cbor.encode({cose.ALG: cose.ALG_A256GCM, cose.LABEL: "smr/1 test"})
WRAP = cose.wrap(sealing_key("João").public, b"k" * 32, {cose.ALG: cose.ALG_HPKE_9_KE}, cose.ALG_A256GCM, b"extra")
SHARED = cose.encrypt(CONTENT, PROTECTED, b"payload", [WRAP])

OBJECTS = {
    "Sign1": (cose.read_sign1, SIGNED),
    "Encrypt0": (cose.read_encrypt0, SEALED),
    "Encrypt": (cose.read_encrypt, SHARED),
}


def put(position, value):
    def edit(fields):
        fields[position] = value

    return edit


# Edits of the fields of any COSE object
REFUSED_FIELDS = {
    "unprotected header": put(1, {cose.KID: b"kid"}),
    "unprotected IV": put(1, {5: b"123456789012"}),
    "unprotected algorithm": put(1, {cose.ALG: -19}),
    "unprotected headers that are no map": put(1, []),
    "no protected headers": put(0, b""),
    "empty protected headers": put(0, cbor.encode({})),
    "protected headers that are no bytes": put(0, {cose.ALG: -19}),
    "protected headers that are no map": put(0, cbor.encode([1, -19])),
    "protected headers with bytes after the end": put(0, cbor.encode(HEADERS) + b"\x00"),
    "protected header twice": put(0, bytes.fromhex("a2" + "0132" + "0132")),
    "protected headers out of order": put(0, bytes.fromhex("a2" + "0401" + "0132")),
    "protected header in a long form": put(0, bytes.fromhex("a1" + "1801" + "32")),
    "protected header named in text": put(0, cbor.encode({"alg": -19})),
    "payload that is no bytes": put(2, "payload"),
    "detached payload": put(2, []),
    "a field too many": lambda fields: fields.append(b""),
    "a field too few": lambda fields: fields.pop(),
    "no fields": lambda fields: fields.clear(),
}


@pytest.mark.parametrize("kind", OBJECTS)
@pytest.mark.parametrize("name", REFUSED_FIELDS)
def test_fields_are_refused(kind, name):
    read, message = OBJECTS[kind]
    assert read(message)
    with pytest.raises(Malformed):
        read(reshape(message, REFUSED_FIELDS[name]))


@pytest.mark.parametrize("kind", OBJECTS)
def test_other_tags_are_refused(kind):
    read, message = OBJECTS[kind]
    found = cbor.decode(message)
    for tag in {16, 18, 96} - {found.tag}:
        with pytest.raises(Malformed):
            read(cbor.encode(CBORTag(tag, found.value)))
    with pytest.raises(Malformed):
        read(cbor.encode(found.value))  # no tag
    with pytest.raises(Malformed):
        read(cbor.encode(CBORTag(found.tag, found)))  # a tag in a tag
    with pytest.raises(Malformed):
        read(cbor.encode(CBORTag(found.tag, {1: 2})))
    for other, (_, others_message) in OBJECTS.items():
        if other != kind:
            with pytest.raises(Malformed):
                read(others_message)


@pytest.mark.parametrize("kind", OBJECTS)
def test_bytes_after_the_end_and_sizes_are_refused(kind):
    read, message = OBJECTS[kind]
    with pytest.raises(Malformed):
        read(message + b"\x00")
    with pytest.raises(Malformed):
        read(message[:-1])
    with pytest.raises(LimitExceeded):
        read(message, len(message) - 1)


def test_protected_headers_are_limited():
    with pytest.raises(LimitExceeded):
        cose.read_sign1(cose.sign1(KEY, {**HEADERS, cose.COOKIE: bytes(2**16)}, b""))


# ---------------------------------------------------------------------------------------------------------- signatures


def test_sign1_gives_its_payload_after_verification_only():
    message = cose.read_sign1(SIGNED)
    assert message.verify(KEY.public) == b"payload"
    assert message.headers == HEADERS


@pytest.mark.parametrize(
    "changed",
    [
        with_header(SIGNED, cose.LABEL, "smr/1 text"),
        with_header(SIGNED, cose.COUNTER, 1),
        reshape(SIGNED, put(2, b"Payload")),
        reshape(SIGNED, put(3, bytes(64))),
        reshape(SIGNED, put(3, b"")),
    ],
    ids=["header", "more headers", "payload", "signature", "no signature"],
)
def test_a_changed_sign1_does_not_verify(changed):
    with pytest.raises(SignatureInvalid):
        cose.read_sign1(changed).verify(KEY.public)


def test_external_data_is_signed():
    message = cose.read_sign1(cose.sign1(KEY, HEADERS, b"payload", b"external"))
    assert message.verify(KEY.public, b"external") == b"payload"
    for other in (b"", b"External"):
        with pytest.raises(SignatureInvalid):
            message.verify(KEY.public, other)


def test_lengths_keep_header_external_data_and_payload_apart():
    made = {
        cose._sig_structure(*parts)
        for parts in [
            (b"a", b"b", b"c"),
            (b"ab", b"", b"c"),
            (b"a", b"", b"bc"),
            (b"", b"ab", b"c"),
            (b"", b"", b"abc"),
        ]
    }
    assert len(made) == 5


# ---------------------------------------------------------------------------------------------------------- encryption


def test_encrypt0_binds_headers_and_external_data():
    assert cose.read_encrypt0(SEALED).decrypt(CONTENT) == b"payload"
    for changed, aad in (
        (with_header(SEALED, cose.LABEL, "smr/1 text"), b""),
        (reshape(SEALED, lambda fields: put(2, flip(fields[2], 0))(fields)), b""),
        (reshape(SEALED, put(2, b"")), b""),
        (SEALED, b"external"),
    ):
        with pytest.raises(DecryptionFailed):
            cose.read_encrypt0(changed).decrypt(CONTENT, aad)


def test_encrypt_binds_headers_and_external_data():
    assert cose.read_encrypt(SHARED).decrypt(CONTENT) == b"payload"
    for changed, aad in ((with_header(SHARED, cose.LABEL, "smr/1 text"), b""), (SHARED, b"external")):
        with pytest.raises(DecryptionFailed):
            cose.read_encrypt(changed).decrypt(CONTENT, aad)


def test_an_encrypt_is_no_encrypt0():
    found = cbor.decode(SHARED).value
    with pytest.raises(DecryptionFailed):
        cose.read_encrypt0(cbor.encode(CBORTag(16, found[:3]))).decrypt(CONTENT)


# ---------------------------------------------------------------------------------------------------------- recipients


def test_unwrap_needs_the_same_context():
    key = sealing_key("João")
    (recipient,) = cose.read_encrypt(SHARED).recipients
    assert recipient.unwrap(key, cose.ALG_A256GCM, b"extra") == b"k" * 32
    for opener, alg, extra in (
        (sealing_key("Bruno"), cose.ALG_A256GCM, b"extra"),
        (key, cose.ALG_A256GCM_COMMITTING, b"extra"),
        (key, cose.ALG_A256GCM, b"Extra"),
    ):
        with pytest.raises(DecryptionFailed):
            recipient.unwrap(opener, alg, extra)


def test_the_headers_of_a_recipient_are_bound():
    protected, unprotected, ciphertext = WRAP.encode()
    assert protected == cbor.encode({cose.ALG: cose.ALG_HPKE_9_KE})
    changed = cose.read_recipient(
        [cbor.encode({cose.ALG: cose.ALG_HPKE_9_KE, cose.KID: b"k"}), unprotected, ciphertext]
    )
    with pytest.raises(DecryptionFailed):
        changed.unwrap(sealing_key("João"), cose.ALG_A256GCM, b"extra")


@pytest.mark.parametrize(
    "change",
    [
        lambda p, u, c: [p, {}, c],
        lambda p, u, c: [p, {**u, cose.KID: b"kid"}, c],
        lambda p, u, c: [p, {cose.KID: b"kid"}, c],
        lambda p, u, c: [p, {cose.ENCAPSULATED_KEY: "text"}, c],
        lambda p, u, c: [p, list(u), c],
        lambda p, u, c: [b"", u, c],
        lambda p, u, c: [cbor.encode({}), u, c],
        lambda p, u, c: [p, u, "text"],
        lambda p, u, c: [p, u, c, []],
        lambda p, u, c: [p, u],
        lambda p, u, c: {1: p},
    ],
)
def test_recipients_are_refused(change):
    with pytest.raises(Malformed):
        cose.read_encrypt(reshape(SHARED, put(3, [change(*WRAP.encode())])))


def test_an_encrypt_needs_recipients():
    for recipients in ([], {}, b"", WRAP.encode()):
        with pytest.raises(Malformed):
            cose.read_encrypt(reshape(SHARED, put(3, recipients)))


# ------------------------------------------------------------------------------------------------- what headers must be

EXPECTED = {
    "session": (cose.SESSION, bytes, 16, 16),
    "counter": (cose.COUNTER, int, 1, 9),
    "kid": (cose.KID, str, 1, 3),
}
GIVEN = {cose.ALG: 1, cose.LABEL: "label", cose.SESSION: bytes(16), cose.COUNTER: 3, cose.KID: "kid"}


def test_expect_returns_the_named_headers():
    assert cose.expect(GIVEN, 1, "label", **EXPECTED) == {"session": bytes(16), "counter": 3, "kid": "kid"}


@pytest.mark.parametrize(
    "edit",
    [
        {cose.ALG: 2},
        {cose.ALG: True},
        {cose.ALG: "1"},
        {cose.ALG: None},
        {cose.LABEL: "Label"},
        {cose.LABEL: b"label"},
        {cose.LABEL: None},
        {cose.SESSION: bytes(15)},
        {cose.SESSION: bytes(17)},
        {cose.SESSION: "0" * 16},
        {cose.SESSION: None},
        {cose.COUNTER: 0},
        {cose.COUNTER: 10},
        {cose.COUNTER: True},
        {cose.COUNTER: b"3"},
        {cose.KID: ""},
        {cose.KID: "four"},
        {cose.SALT: bytes(32)},
        {2: [cose.ALG]},
    ],
    ids=repr,
)
def test_expect_refuses(edit):
    changed = {name: value for name, value in {**GIVEN, **edit}.items() if value is not None}
    with pytest.raises(Malformed):
        cose.expect(changed, 1, "label", **EXPECTED)


def test_label_of():
    assert cose.label_of(HEADERS) == "smr/1 test"
    for headers in ({}, {cose.LABEL: b"bytes"}, {cose.LABEL: 1}):
        with pytest.raises(Malformed):
            cose.label_of(headers)
