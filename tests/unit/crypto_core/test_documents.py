"""Documents that a card signs: type, version and repository first, every member exact."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest

from crypto_core import canonical_json, documents, limits
from crypto_core.documents import (
    Acceptance,
    Letter,
    Login,
    Part,
    ReadingReceipt,
    Refusal,
    Registration,
    Renewal,
    Slip,
    SlipLine,
)
from crypto_core.errors import BindingMismatch, LimitExceeded, Malformed, ProtocolError
from crypto_core.ids import Milliseconds, UserId
from tests.support.protocol import (
    BRUNO,
    DAY_MS,
    JOAO,
    LETTER,
    MARIA,
    NOW,
    OTHER_REPOSITORY,
    POSITION,
    REPOSITORY,
    SESSION,
    digest,
    party,
    sealing_key,
    seed,
    signing_key,
)

PART = Part("text/plain; charset=utf-8", 7, digest("part"))
DOCUMENTS = {
    "login": Login(REPOSITORY, MARIA, SESSION, digest("transcript"), signing_key("app").public.raw, NOW),
    "registration": Registration(
        REPOSITORY,
        MARIA,
        2,
        digest("authentication"),
        digest("signature"),
        sealing_key("Maria").public.raw,
        digest("revision 1"),
        NOW,
    ),
    "first registration": Registration(
        REPOSITORY, MARIA, 1, digest("authentication"), None, sealing_key("Maria").public.raw, None, NOW
    ),
    "letter": Letter(REPOSITORY, LETTER, party(MARIA), (BRUNO, JOAO), NOW, PART, PART, (PART,), (digest("earlier"),)),
    "plain letter": Letter(REPOSITORY, LETTER, party(MARIA), (JOAO,), NOW, PART, PART, (), ()),
    "receipt": ReadingReceipt(
        REPOSITORY, LETTER, digest("document"), digest("body"), party(JOAO), MARIA, POSITION, NOW
    ),
    "slip": Slip(
        REPOSITORY,
        LETTER,
        party(MARIA),
        digest("object"),
        digest("commitment"),
        tuple(SlipLine(each, digest("share 1"), digest("share 2"), b"w" * 48) for each in (BRUNO, JOAO)),
        NOW,
        Milliseconds(NOW + DAY_MS),
    ),
    "acceptance": Acceptance(REPOSITORY, LETTER, digest("slip"), party(JOAO), MARIA, POSITION, NOW),
    "refusal": Refusal(REPOSITORY, LETTER, digest("slip"), party(JOAO), MARIA, POSITION, PART, NOW),
    "refusal without a reason": Refusal(REPOSITORY, LETTER, digest("slip"), party(JOAO), MARIA, POSITION, None, NOW),
}
KINDS = frozenset(map(type, DOCUMENTS.values())) | {Renewal}


def edited(document, /, **changes):
    """The bytes of a document with other members; None removes one."""
    members = json.loads(documents.encode(document))
    members = {name: value for name, value in {**members, **changes}.items() if value != "absent"}
    return canonical_json.encode(members)


def decode(document, data, repository=REPOSITORY):
    return documents.decode(type(document), data, repository)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_round_trip(name):
    document = DOCUMENTS[name]
    data = documents.encode(document)
    assert decode(document, data) == document
    assert documents.encode(decode(document, data)) == data


@pytest.mark.parametrize("name", DOCUMENTS)
def test_people_can_read_them(name):
    document = DOCUMENTS[name]
    members = json.loads(documents.encode(document))
    assert (members["type"], members["version"], members["repository"]) == (type(document).TYPE, 1, REPOSITORY)
    assert members["time"] == "2026-11-22T14:01:57.123Z"


def test_the_members_of_a_login_are_these():
    assert json.loads(documents.encode(DOCUMENTS["login"])) == {
        "type": "login",
        "version": 1,
        "repository": REPOSITORY,
        "user": MARIA.hex(),
        "session": SESSION.hex(),
        "transcript": digest("transcript").hex(),
        "app_key": signing_key("app").public.raw.hex(),
        "time": "2026-11-22T14:01:57.123Z",
    }


def test_types_are_different():
    assert len({kind.TYPE for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_document_is_taken_for_another(name):
    data = documents.encode(DOCUMENTS[name])
    for kind in KINDS - {type(DOCUMENTS[name])}:
        with pytest.raises(BindingMismatch):
            documents.decode(kind, data, REPOSITORY)


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize(
    "changes",
    [
        {"type": "Login"},
        {"type": "absent"},
        {"type": None},
        {"type": 1},
        {"type": ["login"]},
        {"version": 2},
        {"version": 0},
        {"version": True},
        {"version": "1"},
        {"version": "absent"},
        {"repository": OTHER_REPOSITORY},
        {"repository": REPOSITORY.upper()},
        {"repository": "absent"},
        {"repository": None},
    ],
    ids=repr,
)
def test_another_type_version_or_repository_is_refused(name, changes):
    with pytest.raises(BindingMismatch):
        decode(DOCUMENTS[name], edited(DOCUMENTS[name], **changes))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_at_another_repository_it_is_refused(name):
    with pytest.raises(BindingMismatch):
        decode(DOCUMENTS[name], documents.encode(DOCUMENTS[name]), OTHER_REPOSITORY)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_missing_and_unknown_members_are_refused(name):
    document = DOCUMENTS[name]
    with pytest.raises(Malformed):
        decode(document, edited(document, more=1))
    for member in json.loads(documents.encode(document)):
        with pytest.raises(ProtocolError):
            decode(document, edited(document, **{member: "absent"}))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("login", {"user": MARIA.hex().upper()}),
        ("login", {"user": MARIA.hex()[:-2]}),
        ("login", {"session": None}),
        ("login", {"time": NOW}),
        ("login", {"time": "2026-11-22T14:01:57Z"}),
        ("registration", {"revision": 0}),
        ("registration", {"revision": 2**31}),
        ("registration", {"revision": True}),
        ("registration", {"sealing_key": "00"}),
        ("letter", {"to": []}),
        ("letter", {"to": JOAO.hex()}),
        ("letter", {"to": [JOAO.hex()] * (limits.RECIPIENTS + 1)}),
        ("letter", {"from": MARIA.hex()}),
        ("letter", {"from_": {"user": MARIA.hex()}}),
        ("letter", {"attachments": None}),
        ("letter", {"body": {"media_type": "text/plain", "size": -1, "digest": digest("x").hex()}}),
        ("letter", {"body": {"media_type": "", "size": 1, "digest": digest("x").hex()}}),
        ("receipt", {"position": {"number": 0, "entry": digest("x").hex()}}),
        ("receipt", {"position": {"number": 1}}),
        ("receipt", {"reader": JOAO.hex()}),
    ],
)
def test_changed_members_are_refused(name, changes):
    with pytest.raises(Malformed):
        decode(DOCUMENTS[name], edited(DOCUMENTS[name], **changes))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_other_spellings_are_refused(name):
    document = DOCUMENTS[name]
    data = documents.encode(document)
    for other in (data + b"\n", b" " + data, json.dumps(json.loads(data)).encode(), data.replace(b",", b", ", 1)):
        with pytest.raises(Malformed):
            decode(document, other)


@pytest.mark.parametrize("data", [b"", b"[]", b'"login"', b"1", b"null", b"\xff"])
def test_what_is_no_object_is_refused(data):
    with pytest.raises(Malformed):
        documents.decode(Login, data, REPOSITORY)


def test_a_document_over_its_limit_is_refused():
    with pytest.raises(LimitExceeded):
        documents.decode(Login, bytes(limits.DOCUMENT_BYTES + 1), REPOSITORY)
    many = dataclasses.replace(DOCUMENTS["letter"], attachments=(Part("x" * 127, 1, digest("x")),) * limits.ATTACHMENTS)
    with pytest.raises(Malformed):
        documents.encode(dataclasses.replace(many, attachments=many.attachments * 2))


def test_the_error_does_not_repeat_a_long_member():
    with pytest.raises(BindingMismatch) as caught:
        decode(DOCUMENTS["login"], edited(DOCUMENTS["login"], type="x" * 10_000))
    assert len(str(caught.value)) < 500


def test_fields_out_of_bounds_are_not_written():
    for changes, error in (
        ({"time": -1}, LimitExceeded),
        ({"user": UserId(bytes(27))}, Malformed),
        ({"transcript": bytes(33)}, LimitExceeded),
        ({"repository": "short"}, Malformed),
    ):
        with pytest.raises(error):
            documents.encode(dataclasses.replace(DOCUMENTS["login"], **changes))


def test_the_digest_is_of_the_bytes():
    signed = documents.SignedDocument(b"{}", b"signature")
    assert signed.digest == hashlib.sha256(b"{}").digest()


def test_recipients_are_in_one_order():
    people = {UserId(seed(str(number), 28)) for number in range(20)}
    assert list(documents.recipients_in_order(people)) == sorted(people)


@pytest.mark.parametrize("change", [lambda to: to[::-1], lambda to: [to[0], *to]], ids=["out of order", "one twice"])
def test_recipients_stand_in_one_order_only(change):
    members = json.loads(documents.encode(DOCUMENTS["letter"]))
    members["to"] = change(sorted({*members["to"], BRUNO.hex(), JOAO.hex()}))
    with pytest.raises(Malformed, match="ascending order"):
        documents.decode(Letter, canonical_json.encode(members), REPOSITORY)


@pytest.mark.parametrize(
    "changes",
    [
        {"expires": "2026-11-22T14:01:57.123Z"},
        {"expires": "2026-11-22T14:01:57.122Z"},
        {"expires": "2027-11-23T14:01:57.124Z"},
        {"lines": []},
    ],
    ids=repr,
)
def test_a_slip_that_makes_no_sense_is_refused(changes):
    with pytest.raises(Malformed):
        decode(DOCUMENTS["slip"], edited(DOCUMENTS["slip"], **changes))


def test_a_slip_waits_a_year_and_a_day_at_most():
    decode(DOCUMENTS["slip"], edited(DOCUMENTS["slip"], expires="2027-11-23T14:01:57.123Z"))


def test_the_recipients_of_a_slip_stand_in_order_and_once():
    first, second = json.loads(documents.encode(DOCUMENTS["slip"]))["lines"]
    for lines in ([second, first], [first, first]):
        with pytest.raises(Malformed):
            decode(DOCUMENTS["slip"], edited(DOCUMENTS["slip"], lines=lines))


def test_a_slip_for_as_many_as_a_letter_may_have_fits():
    line = DOCUMENTS["slip"].lines[0]
    people = sorted(UserId(seed(f"recipient {number}", 28)) for number in range(limits.RECIPIENTS))
    lines = tuple(dataclasses.replace(line, recipient=user) for user in people)
    assert len(documents.encode(dataclasses.replace(DOCUMENTS["slip"], lines=lines))) <= limits.DOCUMENT_BYTES
