"""The rules of UPLOAD, PUT_CHUNK and GET_CHUNK, and of SEND for letters with attachments."""

from __future__ import annotations

import pytest

from crypto_core import commands, limits, sealed
from crypto_core.commands import ErrorCode
from crypto_core.ids import AttachmentId, LetterId
from crypto_core.mailbox import EntryKind
from repository_worker.effects import OpenUpload, Outcome, StoreChunk, StoreLetter
from repository_worker.errors import Refused, StorageError
from repository_worker.handlers import decide
from tests.support.protocol import BRUNO, JOAO, LETTER, MARIA, letter_with, make_attachment
from tests.unit.repository_worker.conftest import caller

CHUNK = 64
DATA = bytes(range(2 * CHUNK + 5))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(limits, "CHUNK_BYTES", CHUNK)


@pytest.fixture
def attachment(small_chunks):
    return make_attachment(DATA)


@pytest.fixture
def uploaded(shelf, attachment):
    """All chunks are there."""
    made, chunks = attachment
    shelf.uploads[MARIA, LETTER, made.listed.id] = made.listed.size
    for number, chunk in enumerate(chunks):
        shelf.chunks[MARIA, LETTER, made.listed.id, number] = chunk
    return made


@pytest.fixture
def delivered(shelf, uploaded):
    """Maria's letter to João with the attachment, which João has read."""
    stored = sealed.read(sealed.LETTER, letter_with(uploaded).head)
    shelf.put(MARIA, EntryKind.SENT, stored, MARIA)
    shelf.put(JOAO, EntryKind.RECEIVED, stored, MARIA)
    return uploaded


@pytest.fixture
def refusal(shelf, context):
    def ask(command, user) -> ErrorCode:
        with pytest.raises(Refused) as caught:
            decide(command, caller(user), shelf, context)
        assert caught.value.message
        return caught.value.code

    return ask


class TestUpload:
    def test_the_effect_is_the_upload_and_the_reply_what_is_there(self, shelf, context):
        command = commands.Upload(LETTER, AttachmentId(bytes(16)), 100)
        decision = decide(command, caller(MARIA), shelf, context)
        assert decision.effect == OpenUpload(MARIA, LETTER, AttachmentId(bytes(16)), 100, context.now)
        assert decision.reply(Outcome(there=b"\x01")) == commands.UploadResult(b"\x01")

    @pytest.mark.parametrize("size", [CHUNK + 17, CHUNK + 31])
    def test_a_size_that_no_attachment_has(self, refusal, size):
        assert refusal(commands.Upload(LETTER, AttachmentId(bytes(16)), size), MARIA) is ErrorCode.MALFORMED

    def test_nothing_is_added_to_a_letter_that_was_sent(self, refusal, delivered):
        assert refusal(commands.Upload(LETTER, AttachmentId(bytes(16)), 16), MARIA) is ErrorCode.CONFLICT


class TestPutChunk:
    def put(self, made, position, chunk):
        return commands.PutChunk(LETTER, made.listed.id, position, chunk)

    def test_the_effect_is_the_chunk(self, shelf, context, uploaded, attachment):
        decision = decide(self.put(uploaded, 1, attachment[1][1]), caller(MARIA), shelf, context)
        assert decision.effect == StoreChunk(MARIA, LETTER, uploaded.listed.id, 1, attachment[1][1])
        assert decision.reply(Outcome()) == commands.PutChunkResult(1)

    def test_of_an_upload_that_was_not_begun(self, refusal, attachment):
        assert refusal(self.put(attachment[0], 0, attachment[1][0]), MARIA) is ErrorCode.NOT_FOUND

    def test_of_somebody_elses_upload(self, refusal, uploaded, attachment):
        assert refusal(self.put(uploaded, 0, attachment[1][0]), JOAO) is ErrorCode.NOT_FOUND

    @pytest.mark.parametrize(("position", "length"), [(0, 79), (0, 81), (2, 80), (2, 20), (3, 21), (4095, 80)])
    def test_a_chunk_that_does_not_belong_there(self, refusal, uploaded, position, length):
        assert refusal(self.put(uploaded, position, bytes(length)), MARIA) is ErrorCode.MALFORMED


class TestSend:
    @pytest.fixture(autouse=True)
    def all_registered(self, shelf):
        shelf.registered |= {MARIA, JOAO, BRUNO}

    @pytest.fixture
    def send(self, attachment):
        made = letter_with(attachment[0])
        return commands.Send(made.head, made.body)

    def test_with_all_of_its_chunks(self, shelf, context, uploaded, send):
        assert isinstance(decide(send, caller(MARIA), shelf, context).effect, StoreLetter)

    def test_without_an_upload(self, refusal, send):
        assert refusal(send, MARIA) is ErrorCode.NOT_FOUND

    def test_without_one_chunk(self, shelf, refusal, uploaded, send):
        del shelf.chunks[MARIA, LETTER, uploaded.listed.id, 1]
        assert refusal(send, MARIA) is ErrorCode.NOT_FOUND

    def test_with_another_size_than_was_begun(self, shelf, refusal, uploaded, send):
        shelf.uploads[MARIA, LETTER, uploaded.listed.id] -= 1
        assert refusal(send, MARIA) is ErrorCode.NOT_FOUND

    def test_again_when_its_chunks_are_gone(self, shelf, context, delivered, send):
        shelf.chunks.clear()
        assert isinstance(decide(send, caller(MARIA), shelf, context).effect, StoreLetter)


class TestGetChunk:
    def get(self, made, position=0, author=MARIA, letter=LETTER):
        return commands.GetChunk(author, letter, made.listed.id, position)

    @pytest.mark.parametrize("reader", [MARIA, JOAO])
    def test_for_sender_and_recipient(self, shelf, context, delivered, attachment, reader):
        for position, chunk in enumerate(attachment[1]):
            decision = decide(self.get(delivered, position), caller(reader), shelf, context)
            assert decision.effect is None
            assert decision.reply(Outcome()) == commands.GetChunkResult(chunk)

    def test_for_nobody_else(self, refusal, delivered):
        assert refusal(self.get(delivered), BRUNO) is ErrorCode.NOT_FOUND

    def test_not_before_the_letter_was_read(self, shelf, refusal, delivered):
        shelf.entries_[JOAO] = [_unread(each) for each in shelf.entries_[JOAO]]
        assert refusal(self.get(delivered), JOAO) is ErrorCode.NOT_ALLOWED

    def test_not_before_the_letter_was_sent(self, refusal, uploaded):
        assert refusal(self.get(uploaded), MARIA) is ErrorCode.NOT_FOUND

    @pytest.mark.parametrize("position", [3, 4095])
    def test_a_position_that_there_is_not(self, refusal, delivered, position):
        assert refusal(self.get(delivered, position), JOAO) is ErrorCode.NOT_FOUND

    def test_an_attachment_that_the_letter_does_not_list(self, shelf, refusal, delivered):
        other, chunks = make_attachment(b"another", "outra.pdf")
        shelf.chunks[MARIA, LETTER, other.listed.id, 0] = chunks[0]
        assert refusal(self.get(other), JOAO) is ErrorCode.NOT_FOUND

    def test_another_letter(self, refusal, delivered):
        assert refusal(self.get(delivered, letter=LetterId(bytes(16))), JOAO) is ErrorCode.NOT_FOUND

    def test_of_a_letter_whose_text_went(self, shelf, refusal, delivered):
        shelf.chunks.clear()
        shelf.swept = True
        assert refusal(self.get(delivered), JOAO) is ErrorCode.NOT_FOUND

    def test_a_chunk_that_must_be_there_is_a_fault(self, shelf, context, delivered):
        shelf.chunks.clear()
        with pytest.raises(StorageError):
            decide(self.get(delivered), caller(JOAO), shelf, context)


def _unread(stored):
    from dataclasses import replace

    return replace(stored, unread=True)
