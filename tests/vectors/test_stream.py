"""The STREAM construction against published figures: Tink's AES-GCM-HKDF streaming, which has the same nonces.

The figures are those of AesGcmHkdfStreamingTestUtil in tink-java (Apache License 2.0). Tink derives key and prefix in
its own way (HKDF with SHA-1 over a salt in the stream's header, with the associated data as info) and makes its first
segment shorter by that header; nonces and segments are as here. Other instances have other nonces and another cipher
(age: an 88-bit counter and ChaCha20-Poly1305), so that their figures do not apply.
"""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from crypto_core.errors import DecryptionFailed
from crypto_core.stream import StreamKey

SHORT_KEY = "6eb56cdc726dfbe5d57f2fcdc6e9345b"
LONG_KEY = "00112233445566778899aabbccddeeff" + SHORT_KEY

#: input key, bytes of the AES key, associated data, bytes of a sealed segment, plaintext, the whole stream
VECTORS = {
    "three segments": (
        SHORT_KEY,
        16,
        b"aad",
        64,
        b"This is a fairly long plaintext. It is of the exact length to create three output blocks. ",
        (
            "1893b3af5e14ab378d065addfc8484da642c0862877baea8"
            "db92d9c77406a406168478821c4298eab3e6d531277f4c1a051714faebcaefcbca7b7be05e9445ea"
            "a0bb2904153398a25084dd80ae0edcd1c3079fcea2cd3770630ee36f7539207b8ec9d754956d486b71cdf989f0ed6fba6779b63558be0a66"
            "e668df14e1603cd2"
            "af8944844078345286d0b292e772e7190775c51a0f83e40c0b75821027e7e538e111"
        ),
    ),
    "empty": (
        SHORT_KEY,
        16,
        b"",
        64,
        b"",
        "18ec99b2c3884194023bd41bb9bff309205354c750fa0cb3c0d02609abf71f88eaeaa48d7deca27f",
    ),
    "empty, AES-256": (
        LONG_KEY,
        32,
        b"",
        64,
        b"",
        "28fae780c70a82d1256c8303a1261ac6a98cf557b4e173967a62f3c149517ba5b2431da93b3c6e90f508b34dc14bfda59bab05681c6ad3fa",
    ),
    "one full segment, AES-256": (
        LONG_KEY,
        32,
        b"\x00\x01\x02\x03",
        120,
        b"BLOCK 1.BLOCK 2.BLOCK 3.BLOCK 4.BLOCK 5.BLOCK 6.BLOCK 7.BLOCK 8.",
        (
            "28782994617714a80fa085e15051a16854522330d6d0f26c049b2192f09cdd98b2eb90c753bfff277a29e54fa4afb15d648c28477eb07f01"
            "2535c767f5fdce24ffffae318480c1d37357d6d3c511159318afa09ef38aa3f5456fd7817c5c02dd6e1a7fef174c8bd24e38b5982ac10549"
            "7c0101ac5581fe5b"
        ),
    ),
}


def segments(data, header, size):
    """The stream without its header, in segments; the header counts to the first one."""
    ends = [size - header, *range(2 * size - header, len(data) + size, size)]
    starts = [0, *ends]
    return [data[start:end] for start, end in zip(starts, ends, strict=False) if data[start:end]]


@pytest.mark.parametrize("name", VECTORS)
def test_published_streams(name):
    input_key, key_bytes, associated, size, plaintext, whole = VECTORS[name]
    data = bytes.fromhex(whole)
    header, rest = data[: data[0]], data[data[0] :]
    salt, prefix = header[1 : 1 + key_bytes], header[1 + key_bytes :]
    derived = HKDF(SHA1(), key_bytes, salt, associated).derive(bytes.fromhex(input_key))
    key = StreamKey(derived, prefix)
    sealed = segments(rest, len(header), size)
    opened = [key.open(number, each, last=each is sealed[-1]) for number, each in enumerate(sealed)]
    assert b"".join(opened) == plaintext
    assert [key.seal(number, each, last=number == len(opened) - 1) for number, each in enumerate(opened)] == sealed
    with pytest.raises(DecryptionFailed):
        key.open(0, sealed[0], last=len(sealed) > 1)
