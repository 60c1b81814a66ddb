"""Properties of the two encodings and of schemas: what decodes is the one encoding of its value."""

from __future__ import annotations

import json

import cbor2
import pytest
from cbor2 import CBORTag
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crypto_core import canonical_json, cbor, commands, documents, mailbox, moments, schema
from crypto_core.documents import Letter, Part, Party
from crypto_core.errors import Malformed, ProtocolError
from tests.support.protocol import REPOSITORY
from tests.support.strategies import cbor_values, damaged, json_values


def shape(value):
    """A value with its exact types: True and 1 are equal in Python, and different on the wire."""
    if isinstance(value, dict):
        return {(type(key), key): shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    if hasattr(value, "tag"):
        return ("tag", value.tag, shape(value.value))
    return (type(value), value)


@settings(max_examples=300)
@given(cbor_values)
def test_cbor_round_trip(value):
    data = cbor.encode(value)
    decoded = cbor.decode(data)
    assert shape(decoded) == shape(value)
    assert cbor.encode(decoded) == data


@settings(max_examples=800)
@given(st.binary(max_size=80))
@example(bytes.fromhex("a1" + "20" + "f5"))
@example(bytes.fromhex("d28443a10126a0" + "4040"))
def test_what_decodes_as_cbor_encodes_back(data):
    try:
        value = cbor.decode(data)
    except ProtocolError:
        return
    assert cbor.encode(value) == data


@settings(max_examples=300)
@given(st.data())
def test_damaged_cbor_decodes_to_its_own_bytes_or_not_at_all(data):
    changed = data.draw(damaged(cbor.encode(data.draw(cbor_values))))
    try:
        value = cbor.decode(changed)
    except ProtocolError:
        return
    assert cbor.encode(value) == changed


@settings(max_examples=100)
@given(cbor_values, cbor_values)
def test_different_values_have_different_encodings(a, b):
    assert (cbor.encode(a) == cbor.encode(b)) == (shape(a) == shape(b))


def turned(value):
    """The same value with the keys of every map in the opposite order."""
    if isinstance(value, dict):
        return {key: turned(each) for key, each in reversed(value.items())}
    if isinstance(value, list):
        return [turned(each) for each in value]
    if hasattr(value, "tag"):
        return CBORTag(value.tag, turned(value.value))
    return value


@settings(max_examples=200)
@given(cbor_values)
def test_the_order_of_keys_in_memory_does_not_matter(value):
    ordered = cbor.decode(cbor.encode(value))
    assert cbor.encode(turned(value)) == cbor.encode(turned(ordered)) == cbor.encode(ordered)
    # What is in order is written as it stands; what is not is refused where it came from a wire.
    if cbor2.dumps(value) != cbor.encode(value):
        with pytest.raises(Malformed):
            cbor.decode(cbor2.dumps(value))


@settings(max_examples=300)
@given(json_values)
def test_json_round_trip(value):
    data = canonical_json.encode(value)
    assert shape(canonical_json.decode(data)) == shape(value)
    assert shape(json.loads(data)) == shape(value)


@settings(max_examples=200)
@given(json_values, st.booleans(), st.sampled_from([None, 1]))
def test_json_has_one_spelling(value, ascii_only, indent):
    canonical = canonical_json.encode(value)
    other = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    if other != canonical:
        with pytest.raises(Malformed):
            canonical_json.decode(other)


@settings(max_examples=500)
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_what_decodes_as_json_encodes_back(data):
    try:
        value = canonical_json.decode(data)
    except ProtocolError:
        return
    assert canonical_json.encode(value) == data


@settings(max_examples=300)
@given(st.data())
def test_damaged_json_decodes_to_its_own_bytes_or_not_at_all(data):
    changed = data.draw(damaged(canonical_json.encode(data.draw(json_values))))
    try:
        value = canonical_json.decode(changed)
    except ProtocolError:
        return
    assert canonical_json.encode(value) == changed


@given(st.integers(0, moments.MOMENT_MAX))
def test_moments_round_trip(moment):
    text = moments.to_text(moment)
    assert len(text) == 24
    assert moments.from_text(text) == moment


# ------------------------------------------------------------------------------------------------------------- schemas

DIGEST = st.binary(min_size=32, max_size=32)
USER = st.binary(min_size=28, max_size=28)
ID = st.binary(min_size=16, max_size=16)
MOMENT = st.integers(0, moments.MOMENT_MAX)
PART = st.builds(Part, st.text(min_size=1, max_size=30), st.integers(0, 2**41), DIGEST)
PARTY = st.builds(Party, USER, DIGEST)
LETTER = st.builds(
    Letter,
    repository=st.just(REPOSITORY),
    id=ID,
    from_=PARTY,
    to=st.sets(USER, min_size=1, max_size=5).map(documents.recipients_in_order),
    time=MOMENT,
    subject=PART,
    body=PART,
    attachments=st.lists(PART, max_size=3).map(tuple),
    references=st.lists(DIGEST, max_size=3).map(tuple),
)
ENTRY = st.builds(
    mailbox.Entry,
    number=st.integers(1, mailbox.NUMBER_MAX),
    time=MOMENT,
    kind=st.sampled_from(mailbox.EntryKind),
    routing=st.builds(mailbox.EntryRouting, ID, USER, st.lists(USER, min_size=1, max_size=4).map(tuple)),
    object=DIGEST,
)
LIST = st.builds(
    commands.List,
    st.none() | USER,
    st.none() | st.text(max_size=60),
    st.booleans(),
    st.none() | USER,
)


@settings(max_examples=100)
@given(st.one_of(LETTER, ENTRY, LIST))
def test_schema_round_trip_in_both_encodings(value):
    kind = type(value)
    assert schema.from_map(kind, cbor.decode(cbor.encode(schema.to_map(value)))) == value
    assert schema.from_document(kind, canonical_json.decode(canonical_json.encode(schema.to_document(value)))) == value


@settings(max_examples=60)
@given(LETTER)
def test_documents_round_trip(letter):
    data = documents.encode(letter)
    assert documents.decode(Letter, data, REPOSITORY) == letter


@settings(max_examples=200)
@given(
    st.one_of(
        cbor_values, st.dictionaries(st.sampled_from(["number", "time", "kind", "routing", "object"]), cbor_values)
    )
)
def test_any_value_is_a_schema_value_or_refused(value):
    for read in (schema.from_map, schema.from_document):
        try:
            read(mailbox.Entry, value)
        except ProtocolError:
            continue
