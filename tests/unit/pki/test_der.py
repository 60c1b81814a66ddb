"""DER: one encoding for one value, and everything else refused for its own reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from asn1crypto import core
from hypothesis import given, settings
from hypothesis import strategies as st

from pki import der

SIZES = (0, 1, 127, 128, 255, 256, 65_535, 65_536)


@pytest.mark.parametrize("size", SIZES)
def test_lengths_are_those_of_another_library_and_read_back(size):
    content = bytes(size)
    made = der.element(der.OCTET_STRING, content)
    assert made == core.OctetString(content).dump()
    assert der.only(made, der.OCTET_STRING) == der.Element(der.OCTET_STRING, content, made)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=12))
def test_what_is_read_is_written_again_as_the_same_bytes(data):
    try:
        found = der.elements(data)
    except der.DerError:
        return
    assert b"".join(der.element(each.tag, each.content) for each in found) == data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("30", "ends early"),
        ("0402ff", "ends early"),
        ("0481", "ends early"),
        ("048201", "ends early"),
        ("3080040100" + "0000", "indefinite"),
        ("04810100", "shortest form"),
        ("0482008000", "shortest form"),
        ("0485010000000000", "larger than anything here"),
        ("04ff", "larger than anything here"),
        ("1f0100", "more than one byte"),
        ("bf8101" + "00", "more than one byte"),
    ],
)
def test_what_is_not_der_is_refused(data, reason):
    with pytest.raises(der.DerError, match=reason):
        der.elements(bytes.fromhex(data))


def test_one_element_is_one_of_that_type_with_nothing_behind_it():
    with pytest.raises(der.DerError, match="another type"):
        der.only(der.sequence(), der.SET)
    with pytest.raises(der.DerError, match="ends early"):
        der.only(b"", der.SET)
    with pytest.raises(der.DerError, match="bytes follow"):
        der.only(der.sequence() + b"\x00", der.SEQUENCE)


def test_fields_are_taken_in_their_order_and_all_of_them():
    fields = der.only(der.sequence(der.element(der.INTEGER, b"\x01"), der.sequence()), der.SEQUENCE).fields()
    assert fields.take_if(der.SEQUENCE) is None
    assert fields.take(der.INTEGER).content == b"\x01"
    with pytest.raises(der.DerError, match="does not belong here"):
        fields.end()
    with pytest.raises(der.DerError, match="missing, or of another type"):
        fields.take(der.OCTET_STRING)
    fields.take(der.SEQUENCE)
    fields.end()
    with pytest.raises(der.DerError, match="missing"):
        fields.take(der.SEQUENCE)


def test_a_set_stands_in_its_order():
    parts = [der.element(der.OCTET_STRING, bytes(size)) for size in (3, 1, 2)]
    assert der.set_of(*parts) == der.element(der.SET, *parts[1:], parts[0])


@pytest.mark.parametrize(
    ("moment", "encoded"),
    [
        (datetime(1950, 1, 1, tzinfo=UTC), b"\x17\x0d500101000000Z"),
        (datetime(2026, 11, 22, 14, 1, 57, 999_999, tzinfo=UTC), b"\x17\x0d261122140157Z"),
        (datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), b"\x17\x0d491231235959Z"),
        (datetime(2050, 1, 1, tzinfo=UTC), b"\x18\x0f20500101000000Z"),
        (datetime(2050, 1, 1, tzinfo=timezone(timedelta(hours=1))), b"\x17\x0d491231230000Z"),
    ],
)
def test_moments(moment, encoded):
    assert der.time(moment) == encoded
    assert der.moment(der.first(encoded, 0)) == moment.replace(microsecond=0)


def test_before_1950_nothing_is_written():
    with pytest.raises(der.DerError, match="before 1950"):
        der.time(datetime(1949, 12, 31, tzinfo=UTC))


@pytest.mark.parametrize(
    ("tag", "text", "reason"),
    [
        (der.UTC_TIME, b"2611221401Z", "one form"),
        (der.UTC_TIME, b"261122140157", "one form"),
        (der.UTC_TIME, b"261122150157+0100", "one form"),
        (der.UTC_TIME, b"20261122140157Z", "one form"),
        (der.UTC_TIME, b"26112214015\xb2Z", "one form"),
        (der.UTC_TIME, b" 61122140157Z", "one form"),
        (der.UTC_TIME, b"269922140157Z", "is none"),
        (der.UTC_TIME, b"261122140160Z", "is none"),
        (der.GENERALIZED_TIME, b"20511122140157.0Z", "one form"),
        (der.GENERALIZED_TIME, b"00001122140157Z", "is none"),
        (der.OCTET_STRING, b"261122140157Z", "one form"),
    ],
)
def test_moments_have_one_form(tag, text, reason):
    with pytest.raises(der.DerError, match=reason):
        der.moment(der.first(der.element(tag, text), 0))


@pytest.mark.parametrize("oid", ["1.2.840.113549.1.9.16.2.12", "2.5.4.3", "0.9.2342", "2.999.3"])
def test_object_identifiers_are_shown_as_usual(oid):
    assert der.dotted(der.first(core.ObjectIdentifier(oid).dump(), 0)) == oid


@pytest.mark.parametrize("content", [b"", b"\x2a\x86"])
def test_an_object_identifier_that_ends_early_is_refused(content):
    with pytest.raises(der.DerError, match="ends early"):
        der.dotted(der.first(der.element(der.OID, content), 0))
