"""The frames that travel between this program and its card process: four bytes of length, then CBOR.

Rules: both ends are ours and of one version, but the card's driver lives in the other one: what comes back is limited
in size and must be a map with text keys. A PIN travels here and nowhere else.
"""

from __future__ import annotations

import io
from typing import IO, Any, Final

import cbor2

FRAME_BYTES_MAX: Final = 8 * 1024 * 1024  #: certificates and documents are far smaller
_LENGTH_BYTES: Final = 4

Message = dict[str, Any]


class WireClosed(Exception):
    """The other end is gone, or did not speak frames."""


def write_frame(stream: IO[bytes], message: Message) -> None:
    """Send one message. Raises WireClosed."""
    data = cbor2.dumps(message)
    if len(data) > FRAME_BYTES_MAX:
        raise WireClosed(f"a frame of {len(data)} bytes is over the limit of {FRAME_BYTES_MAX}")
    try:
        stream.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
        stream.flush()
    except (OSError, ValueError) as error:
        raise WireClosed("the other end is gone") from error


def read_frame(stream: IO[bytes]) -> Message:
    """Wait for one message. Raises WireClosed at the end of the stream too."""
    try:
        length = int.from_bytes(_exactly(stream, _LENGTH_BYTES), "big")
        if length > FRAME_BYTES_MAX:
            raise WireClosed(f"a frame of {length} bytes is over the limit of {FRAME_BYTES_MAX}")
        message = cbor2.load(io.BytesIO(_exactly(stream, length)))
    except (OSError, ValueError, cbor2.CBORError) as error:
        raise WireClosed("the other end is gone or sent no frame") from error
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise WireClosed("the other end sent something else than a message")
    return message


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = stream.read(size - len(data))
        if not part:
            raise WireClosed("the other end closed the pipe")
        data += part
    return data
