"""Properties of attachment streams: whatever is done to the chunks, nothing but the attachment is ever complete."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crypto_core import limits
from crypto_core.errors import ProtocolError
from crypto_core.ids import AttachmentId
from crypto_core.stream import AttachmentStream, StreamKey
from tests.support.protocol import LETTER, seed
from tests.support.strategies import damaged

CHUNK = 8
SALT = seed("salt", 32)
IDS = (AttachmentId(b"attachment-id-01"), AttachmentId(b"attachment-id-02"))
CONTENT = st.binary(max_size=6 * CHUNK)


@pytest.fixture(autouse=True, scope="module")
def _small_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "CHUNK_BYTES", CHUNK)
        yield


def stream(number, size):
    key = StreamKey.derive(seed(f"secret {number}", 32), LETTER, IDS[number])
    return AttachmentStream(key, IDS[number], size, SALT, "ata.pdf")


def sealed(data, number=0):
    made = stream(number, len(data))
    chunks = [made.seal(data[at : at + CHUNK]) for at in range(0, max(1, len(data)), CHUNK)]
    return chunks, made.finish()


def opened(chunks, size, finished):
    """What a reader takes as complete. Raises ProtocolError."""
    made = stream(0, size)
    content = b"".join(made.open(chunk) for chunk in chunks)
    made.require(finished.digest, finished.hash)
    return content


def refuses(chunks, size, finished):
    with pytest.raises(ProtocolError):
        opened(chunks, size, finished)


@settings(max_examples=60)
@given(CONTENT)
def test_round_trip(data):
    chunks, finished = sealed(data)
    assert opened(chunks, len(data), finished) == data


@settings(max_examples=60)
@given(CONTENT, st.data())
def test_missing_duplicated_and_reordered_chunks_are_refused(data, draws):
    chunks, finished = sealed(data)
    order = draws.draw(st.lists(st.integers(0, len(chunks) - 1), max_size=len(chunks) + 2))
    assume(order != list(range(len(chunks))))
    refuses([chunks[each] for each in order], len(data), finished)


@settings(max_examples=60)
@given(CONTENT, st.data())
def test_truncated_and_extended_streams_are_refused_whatever_size_is_claimed(data, draws):
    chunks, finished = sealed(data)
    kept = draws.draw(st.integers(0, len(chunks)))
    more = draws.draw(st.lists(st.binary(max_size=CHUNK + 16), max_size=2))
    claimed = draws.draw(st.integers(0, 8 * CHUNK))
    assume((kept, more, claimed) != (len(chunks), [], len(data)))
    refuses([*chunks[:kept], *more], claimed, finished)


@settings(max_examples=60)
@given(CONTENT, CONTENT, st.data())
def test_chunks_swapped_between_attachments_are_refused(data, other, draws):
    chunks, finished = sealed(data)
    others, _ = sealed(other, 1)
    at = draws.draw(st.integers(0, min(len(chunks), len(others)) - 1))
    refuses([*chunks[:at], others[at], *chunks[at + 1 :]], len(data), finished)


@settings(max_examples=100)
@given(CONTENT, st.data())
def test_damaged_chunks_are_refused(data, draws):
    chunks, finished = sealed(data)
    at = draws.draw(st.integers(0, len(chunks) - 1))
    bad = draws.draw(damaged(chunks[at]))
    assume(bad != chunks[at])
    refuses([*chunks[:at], bad, *chunks[at + 1 :]], len(data), finished)


@settings(max_examples=60)
@given(CONTENT, CONTENT)
def test_another_content_sealed_under_the_same_key_is_refused(data, other):
    """Whoever has the secret (a co-recipient) still cannot put another content in its place."""
    assume(other != data)
    _, finished = sealed(data)
    refuses(sealed(other)[0], len(other), finished)
