"""Attachment streams: every chunk at its place, the last one as the last, nothing complete before all was compared."""

from __future__ import annotations

import pytest

from crypto_core import labels, limits, stream, suite
from crypto_core.errors import BindingMismatch, DecryptionFailed, LimitExceeded, Malformed
from crypto_core.ids import AttachmentId, LetterId
from crypto_core.stream import AttachmentStream, Shape, StreamKey
from crypto_core.suite import TAG_BYTES
from tests.support.protocol import LETTER, digest, seed

CHUNK = 64
ID = AttachmentId(b"attachment-id-01")
SECRET = seed("attachment secret", 32)
SALT = seed("attachment salt", 32)
NAME = "Acta da reunião.pdf"


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(limits, "CHUNK_BYTES", CHUNK)


def key(secret=SECRET, letter=LETTER, attachment=ID):
    return StreamKey.derive(secret, letter, attachment)


def stream_of(size, *, name=NAME, salt=SALT, attachment=ID, stream_key=None):
    return AttachmentStream(stream_key or key(), attachment, size, salt, name)


def seal_all(data, **changes):
    made = stream_of(len(data), **changes)
    pieces = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)] or [b""]
    return [made.seal(piece) for piece in pieces], made.finish()


def open_all(chunks, size, **changes):
    made = stream_of(size, **changes)
    return b"".join(made.open(chunk) for chunk in chunks), made


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 7])
def test_what_was_sealed_opens(size):
    data = seed("data", size)
    chunks, finished = seal_all(data)
    opened, made = open_all(chunks, size)
    made.require(finished.digest, finished.hash)
    assert opened == data
    assert sum(map(len, chunks)) == Shape(size).sealed_size
    assert Shape.of_sealed(Shape(size).sealed_size) == Shape(size)


@pytest.mark.parametrize("size", [0, 23, 24, 255, 256, 65535, 65536, 70000])
def test_digest_and_hash_are_those_of_the_whole(size):
    data = seed("data", size)
    chunks, finished = seal_all(data)
    assert finished.digest == suite.labelled_hash(labels.ATTACHMENT_DIGEST, SALT, NAME, data)
    assert finished.digest == stream.digest(SALT, NAME, data)
    assert finished.hash == suite.labelled_hash(labels.ATTACHMENT_CHUNKS, ID, [suite.sha256(each) for each in chunks])


def test_the_digest_of_4_gib_or_more_has_no_form_here():
    with pytest.raises(LimitExceeded):
        stream._byte_string_head(2**32)
    assert stream._byte_string_head(2**32 - 1) == b"\x5a\xff\xff\xff\xff"


def test_key_and_prefix_come_from_secret_letter_and_attachment():
    assert key() == key()
    others = [
        key(seed("another", 32)),
        key(letter=LetterId(b"letter-id-000002")),
        key(attachment=AttachmentId(b"attachment-id-02")),
    ]
    assert all(other.key != key().key and other.prefix != key().prefix for other in others)
    assert (len(key().key), len(key().prefix)) == (32, 7)
    assert key().key.hex() not in repr(key())


def test_a_chunk_opens_at_its_own_place_alone():
    sealed = key().seal(1, b"Ol\xc3\xa1", last=False)
    assert key().open(1, sealed, last=False) == b"Ol\xc3\xa1"
    for position, last in ((0, False), (2, False), (1, True), (1 + 2**31, False)):
        with pytest.raises(DecryptionFailed, match=f"chunk {position}"):
            key().open(position, sealed, last=last)


def test_a_chunk_of_another_attachment_does_not_open():
    sealed = key(attachment=AttachmentId(b"attachment-id-02")).seal(0, b"x" * CHUNK, last=True)
    with pytest.raises(DecryptionFailed):
        stream_of(CHUNK).open(sealed)


def test_a_truncated_stream_is_not_complete():
    data = seed("data", 3 * CHUNK)
    chunks, finished = seal_all(data)
    _, made = open_all(chunks[:2], 3 * CHUNK)
    with pytest.raises(Malformed, match="2 of 3 chunks"):
        made.require(finished.digest, finished.hash)


def test_a_stream_cut_at_a_chunk_does_not_pass_for_a_shorter_one():
    chunks, _ = seal_all(seed("data", 3 * CHUNK))
    with pytest.raises(DecryptionFailed):  # the second chunk was not sealed as the last
        open_all(chunks[:2], 2 * CHUNK)


def test_nothing_comes_after_the_end():
    chunks, _ = seal_all(seed("data", 2 * CHUNK))
    _, made = open_all(chunks, 2 * CHUNK)
    with pytest.raises(Malformed, match="chunk 2 of an attachment that has 2"):
        made.open(chunks[1])
    with pytest.raises(Malformed):
        made.seal(b"x")


@pytest.mark.parametrize("length", [0, CHUNK - 1, CHUNK + 1])
def test_a_chunk_of_another_length_is_refused(length):
    with pytest.raises(Malformed, match="bytes and not"):
        stream_of(2 * CHUNK).seal(b"x" * length)
    with pytest.raises(Malformed, match="bytes and not"):
        stream_of(2 * CHUNK).open(b"x" * (length + TAG_BYTES))


def test_another_name_salt_or_content_is_not_what_was_signed():
    data = seed("data", CHUNK + 5)
    chunks, finished = seal_all(data)
    for changes in ({"name": "factura.exe"}, {"salt": bytes(32)}):
        _, made = open_all(chunks, len(data), **changes)
        with pytest.raises(BindingMismatch, match="changed after the letter was signed"):
            made.require(finished.digest, finished.hash)
    _, made = open_all(chunks, len(data))
    with pytest.raises(BindingMismatch, match="changed after the letter was signed"):
        made.require(digest("other"), finished.hash)


def test_other_ciphertext_is_not_what_the_letter_lists():
    data = seed("data", CHUNK + 5)
    chunks, finished = seal_all(data)
    _, made = open_all(chunks, len(data))
    with pytest.raises(BindingMismatch, match="not the one that the letter lists"):
        made.require(finished.digest, digest("other"))


def test_the_attachment_id_stands_in_the_hash():
    data = seed("data", 5)
    other = AttachmentId(b"attachment-id-02")
    assert seal_all(data)[1].hash != seal_all(data, attachment=other, stream_key=key())[1].hash


@pytest.mark.parametrize("size", [-1, limits.ATTACHMENT_BYTES + 1])
def test_a_size_beyond_the_limit_is_refused(size):
    with pytest.raises(LimitExceeded):
        Shape(size)


@pytest.mark.parametrize("sealed", [0, TAG_BYTES - 1, CHUNK + TAG_BYTES + 1, CHUNK + 2 * TAG_BYTES])
def test_a_sealed_size_that_no_attachment_has_is_refused(sealed):
    with pytest.raises(Malformed):
        Shape.of_sealed(sealed)


def test_a_position_that_there_is_not_is_refused():
    for position in (-1, 2):
        with pytest.raises(Malformed):
            Shape(2 * CHUNK).chunk_bytes(position)
