"""Commands, results and refusals: exact forms, bounds, and a reply for this nonce only."""

from __future__ import annotations

import dataclasses

import pytest

from crypto_core import cbor, commands, limits, sealed, sign_for
from crypto_core.choice import Choice, SignedChoice
from crypto_core.commands import ErrorCode, RefusedByRepository
from crypto_core.delivery import EntryStamp
from crypto_core.errors import BindingMismatch, LimitExceeded, Malformed, ProtocolError
from crypto_core.evidence import Evidence
from crypto_core.ids import AttachmentId
from crypto_core.sign_for import SignedSlip
from tests.support.protocol import (
    BRUNO,
    JOAO,
    LETTER,
    MARIA,
    NOW,
    digest,
    entry,
    make_deletion,
    sealed_letter,
    sealed_receipt,
    sign_for_letter,
    signed,
)

NONCE, OTHER_NONCE = b"n" * 32, b"m" * 32
CERTIFICATE = b"DER of a certificate"
VIEW = sealed.read(sealed.LETTER, sealed_letter().head).view(JOAO)
BOX_ENTRY = commands.BoxEntry(entry(1), VIEW, read=False)
SLIP = SignedSlip(sign_for_letter().slip, b"a CMS signature", None)
PERSON = commands.Person(MARIA, 1, signed(b"{}"), CERTIFICATE, None, (CERTIFICATE,), NOW)

DELETION = make_deletion(entry(1), digest("entry 1"))
ATTACHMENT = AttachmentId(b"attachment-id-01")

COMMANDS = {
    "CREATE": commands.Create(signed(b"{}"), CERTIFICATE, CERTIFICATE, (CERTIFICATE, CERTIFICATE)),
    "CREATE without a signature certificate": commands.Create(signed(b"{}"), CERTIFICATE, None, ()),
    "LIST one": commands.List(MARIA, None, history=True, after=None),
    "LIST some": commands.List(None, "Conceição", history=False, after=BRUNO),
    "NEW": commands.New(0),
    "ALL": commands.All(7, heads=True),
    "SEND": commands.Send(sealed_letter().head, sealed_letter().body),
    "RECV": commands.Recv(MARIA, LETTER),
    "RECEIPT": commands.Receipt(sealed_receipt()),
    "SEND to be signed for": commands.Send(
        sign_for_letter().letter.head, b"body", commands.ToSign(SLIP, sign_for_letter().shares)
    ),
    "ACCEPT": commands.Accept(signed(b"{}"), Evidence((b"list",), (), 0)),
    "REFUSE": commands.Refuse(signed(b"{}"), None, b"sealed reason"),
    "REFUSE without a reason": commands.Refuse(signed(b"{}"), None, None),
    "DELETE": commands.Delete(DELETION),
    "STATUS": commands.Status(LETTER),
    "EVIDENCE": commands.Evidence(MARIA, LETTER),
    "BLOCK": commands.Block(JOAO, blocked=True),
    "BLOCKED": commands.Blocked(),
    "WATCH": commands.Watch(),
    "CLOSE": commands.Close(),
    "UPLOAD": commands.Upload(LETTER, ATTACHMENT, 16),
    "PUT_CHUNK": commands.PutChunk(LETTER, ATTACHMENT, 0, bytes(16)),
    "GET_CHUNK": commands.GetChunk(MARIA, LETTER, ATTACHMENT, 4095),
}
RESULTS = {
    "CREATE": commands.CreateResult(MARIA, 2, NOW),
    "LIST": commands.ListResult((PERSON,), MARIA),
    "LIST, last page": commands.ListResult((), None),
    "NEW": commands.BoxResult((BOX_ENTRY, commands.BoxEntry(entry(2), None, read=True)), b"head", 2),
    "SEND": commands.SendResult(LETTER, NOW, b"placement"),
    "RECV": commands.RecvResult(BOX_ENTRY, b"body"),
    "RECEIPT": commands.ReceiptResult(NOW, b"placement"),
    "RECV, to be signed for": commands.RecvResult(
        dataclasses.replace(BOX_ENTRY, slip=commands.SlipView(SLIP, None, None)), None
    ),
    "RECV, signed for": commands.RecvResult(
        dataclasses.replace(BOX_ENTRY, slip=commands.SlipView(SLIP, Choice.ACCEPTED, b"release")), b"body"
    ),
    "ACCEPT": commands.ChoiceResult(Choice.ACCEPTED, NOW, b"placement", b"release"),
    "REFUSE": commands.ChoiceResult(Choice.EXPIRED, NOW, b"placement", None),
    "DELETE": commands.DeleteResult(NOW, b"placement"),
    "ALL, with a tombstone": commands.BoxResult(
        (commands.BoxEntry(entry(3), None, read=True, deletion=DELETION),), b"head", None
    ),
    "STATUS": commands.StatusResult(BOX_ENTRY, (BOX_ENTRY,), b"placement"),
    "EVIDENCE": commands.EvidenceResult(b"{}", b"a CMS signature", (EntryStamp(0, 1, 2, (b"h" * 32,), b"a token"),)),
    "STATUS, signed for": commands.StatusResult(
        BOX_ENTRY,
        (),
        b"placement",
        (
            commands.BoxEntry(
                entry(3), None, read=True, choice=SignedChoice(Choice.ACCEPTED, digest("slip"), b"{}", b"CMS")
            ),
        ),
    ),
    "BLOCK": commands.BlockResult(JOAO, blocked=False),
    "BLOCKED": commands.BlockedResult((MARIA, JOAO)),
    "WATCH": commands.WatchResult(NOW),
    "CLOSE": commands.CloseResult(closed=True),
    "UPLOAD": commands.UploadResult(b"\x05"),
    "PUT_CHUNK": commands.PutChunkResult(7),
    "GET_CHUNK": commands.GetChunkResult(bytes(16)),
}


def request(name="NEW", **changes):
    """The decoded body of a request with other members; "absent" removes one."""
    body = {**cbor.decode(commands.encode_request(COMMANDS[name], NONCE, NOW)), **changes}
    return {each: value for each, value in body.items() if value != "absent"}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_round_trip(name):
    data = commands.encode_request(COMMANDS[name], NONCE, NOW)
    assert commands.decode_request(data) == commands.Request(COMMANDS[name], NONCE, NOW)
    assert commands.name_of(COMMANDS[name]) == name.split()[0]


def test_all_commands_are_here():
    assert {type(each) for each in COMMANDS.values()} == set(commands.COMMANDS.values())


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_takes_unknown_or_leaves_out_needed_arguments(name):
    arguments = request(name)["arguments"]
    with pytest.raises(Malformed):
        commands.decode_request(cbor.encode(request(name, arguments={**arguments, "user_id": MARIA})))
    needed = {field.name for field in dataclasses.fields(COMMANDS[name]) if "None" not in str(field.type)}
    for left_out in needed:
        fewer = {each: value for each, value in arguments.items() if each != left_out}
        with pytest.raises(Malformed):
            commands.decode_request(cbor.encode(request(name, arguments=fewer)))


@pytest.mark.parametrize("name", COMMANDS)
def test_no_argument_says_who_is_asking(name):
    assert not {"from", "sender", "session", "app_key", "owner"} & request(name)["arguments"].keys()


@pytest.mark.parametrize(
    "changes",
    [
        {"command": "UNDO"},
        {"command": "new"},
        {"command": "NEW "},
        {"command": ""},
        {"command": b"NEW"},
        {"command": 1},
        {"command": "absent"},
        {"command": "X" * 17},
        {"arguments": "absent"},
        {"arguments": []},
        {"arguments": b""},
        {"arguments": {}},
        {"arguments": {"after": -1}},
        {"arguments": {"after": 2**53}},
        {"arguments": {"after": True}},
        {"arguments": {"after": "0"}},
        {"nonce": bytes(31)},
        {"nonce": bytes(33)},
        {"nonce": "0" * 32},
        {"nonce": "absent"},
        {"time": -1},
        {"time": "now"},
        {"time": "absent"},
        {"user": MARIA},
    ],
    ids=repr,
)
def test_requests_are_refused(changes):
    with pytest.raises(Malformed):
        commands.decode_request(cbor.encode(request(**changes)))


@pytest.mark.parametrize("value", [[], b"", "NEW", 1, True, {}, {1: 2}])
def test_what_is_no_request_is_refused(value):
    with pytest.raises(Malformed):
        commands.decode_request(cbor.encode(value))


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (commands.Send(bytes(limits.SEALED_HEAD_BYTES + 1), b"b"), LimitExceeded),
        (commands.Send(b"h", bytes(limits.SEALED_BODY_BYTES + 1)), LimitExceeded),
        (commands.Send(b"", b"b"), Malformed),
        (commands.Receipt(bytes(limits.RECEIPT_BYTES + 1)), LimitExceeded),
        (commands.List(None, "é" * 129, history=False, after=None), LimitExceeded),
        (commands.Create(signed(b"{}"), bytes(limits.CERTIFICATE_BYTES + 1), None, ()), LimitExceeded),
        (commands.Create(signed(b"{}"), CERTIFICATE, None, (CERTIFICATE,) * 9), LimitExceeded),
        (commands.Create(signed(bytes(limits.DOCUMENT_BYTES + 1)), CERTIFICATE, None, ()), LimitExceeded),
        (commands.New(2**53), LimitExceeded),
        (commands.Recv(MARIA, bytes(15)), Malformed),
    ],
    ids=lambda value: type(value).__name__,
)
def test_limits_are_told_before_anything_is_sent(command, error):
    with pytest.raises(error):
        commands.encode_request(command, NONCE, NOW)


def test_the_largest_letter_fits_into_an_envelope():
    largest = commands.Send(bytes(limits.SEALED_HEAD_BYTES), bytes(limits.SEALED_BODY_BYTES))
    data = commands.encode_request(largest, NONCE, NOW)
    assert commands.decode_request(data).command == largest


def test_a_request_over_the_envelope_limit_is_refused():
    with pytest.raises(LimitExceeded):
        commands.decode_request(bytes(limits.ENVELOPE_BYTES + 1))


def test_nonce_of_what_is_otherwise_malformed():
    unread = commands.open_request(cbor.encode(request(command="UNDO")))
    assert unread.nonce == NONCE
    for _ in range(2):  # reading leaves it as it was
        with pytest.raises(Malformed, match="unknown command"):
            unread.read()
    for data in (
        b"",
        b"\xff",
        cbor.encode([NONCE]),
        cbor.encode({"nonce": bytes(31)}),
        cbor.encode({"nonce": "n" * 32}),
    ):
        with pytest.raises(Malformed):
            commands.open_request(data)


# ------------------------------------------------------------------------------------------------------------- replies


@pytest.mark.parametrize("name", RESULTS)
def test_results_round_trip(name):
    result = RESULTS[name]
    assert commands.decode_reply(commands.encode_reply(NONCE, NOW, result), type(result), NONCE) == result


@pytest.mark.parametrize("name", RESULTS)
def test_a_reply_with_another_nonce_is_refused(name):
    with pytest.raises(BindingMismatch, match="nonce"):
        commands.decode_reply(commands.encode_reply(OTHER_NONCE, NOW, RESULTS[name]), type(RESULTS[name]), NONCE)


@pytest.mark.parametrize("name", RESULTS)
def test_the_result_of_another_command_is_refused(name):
    data = commands.encode_reply(NONCE, NOW, RESULTS[name])
    for kind in {type(each) for each in RESULTS.values()} - {type(RESULTS[name])}:
        with pytest.raises(Malformed):
            commands.decode_reply(data, kind, NONCE)


@pytest.mark.parametrize("code", ErrorCode)
def test_refusals_round_trip(code):
    data = commands.encode_refusal(NONCE, NOW, code, "não é possível")
    with pytest.raises(RefusedByRepository, match="não é possível") as caught:
        commands.decode_reply(data, commands.CloseResult, NONCE)
    assert caught.value.code is code
    assert isinstance(caught.value, ProtocolError)


def test_a_refusal_with_another_nonce_refuses_nothing():
    data = commands.encode_refusal(OTHER_NONCE, NOW, ErrorCode.NOT_ALLOWED, "no")
    with pytest.raises(BindingMismatch):
        commands.decode_reply(data, commands.CloseResult, NONCE)


@pytest.mark.parametrize(
    ("message", "expected"),
    [("", "not-found"), ("é" * 1000, "é" * 256), ("a" + "é" * 1000, "a" + "é" * 255), ("\ud800", "?")],
    ids=["empty", "long", "cut within a character", "lone surrogate"],
)
def test_any_message_can_be_sent(message, expected):
    data = commands.encode_refusal(NONCE, NOW, ErrorCode.NOT_FOUND, message)
    with pytest.raises(RefusedByRepository) as caught:
        commands.decode_reply(data, commands.CloseResult, NONCE)
    assert str(caught.value) == expected


REPLY = {"nonce": NONCE, "time": NOW}


@pytest.mark.parametrize(
    "body",
    [
        [],
        b"",
        {},
        REPLY,
        {**REPLY, "result": {}},
        {**REPLY, "result": []},
        {**REPLY, "result": {"closed": 1}},
        {**REPLY, "result": {"closed": True, "more": 1}},
        {**REPLY, "result": {"closed": True}, "more": 1},
        {**REPLY, "result": {"closed": True}, "error": {"code": "malformed", "message": "x"}},
        {**REPLY, "error": {"code": "unheard-of", "message": "x"}},
        {**REPLY, "error": {"code": "malformed", "message": ""}},
        {**REPLY, "error": {"code": "malformed", "message": "x" * 513}},
        {**REPLY, "error": {"code": "malformed"}},
        {**REPLY, "error": {}},
        {**REPLY, "error": "malformed"},
        {"nonce": NONCE, "result": {"closed": True}},
        {"nonce": bytes(31), "time": NOW, "result": {"closed": True}},
        {"nonce": NONCE, "time": -1, "result": {"closed": True}},
    ],
    ids=lambda body: str(body).replace(str(NONCE), "nonce")[:70],
)
def test_replies_are_refused(body):
    with pytest.raises(Malformed):
        commands.decode_reply(cbor.encode(body), commands.CloseResult, NONCE)


def test_pages_are_limited():
    page = commands.BoxResult((commands.BoxEntry(entry(1), None, read=True),) * (limits.CHAIN_PAGE + 1), b"head", None)
    with pytest.raises(LimitExceeded):
        commands.encode_reply(NONCE, NOW, page)
    with pytest.raises(LimitExceeded):
        commands.encode_reply(NONCE, NOW, commands.ListResult((PERSON,) * (limits.LIST_PAGE + 1), None))


def test_a_full_page_of_the_chain_fits_into_an_envelope():
    full = commands.BoxResult((commands.BoxEntry(entry(1), None, read=True),) * limits.CHAIN_PAGE, b"head", 2)
    assert len(commands.encode_reply(NONCE, NOW, full)) < limits.PAGE_BYTES


def test_what_an_entry_must_record():
    bare = commands.BoxEntry(entry(1), None, read=True)
    assert bare.object_hash is None
    assert BOX_ENTRY.object_hash == VIEW.object_hash
    to_sign = dataclasses.replace(BOX_ENTRY, slip=commands.SlipView(SLIP, None, None))
    assert to_sign.object_hash == sign_for.object_hash(VIEW.object_hash, SLIP.digest)
    chosen = SignedChoice(Choice.EXPIRED, digest("slip"))
    made = dataclasses.replace(bare, choice=chosen)
    assert made.object_hash == chosen.object_hash(MARIA)
    assert dataclasses.replace(made, view=VIEW).object_hash == chosen.object_hash(MARIA, VIEW.object_hash)
