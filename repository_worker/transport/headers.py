"""Message headers that cannot end a worker.

A publisher chooses the headers of a message, and the broker passes them on as they are. The client library decodes them
before any code of ours sees the message, and some values make it raise (a date beyond the calendar, a number that is
none, tables nested too deeply): the connection would be lost with everything that the worker holds, again and again
for each redelivery. No header means anything to us, so a table that cannot be decoded is skipped: its length stands
before it.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import pika.data

_original: Final = pika.data.decode_table


def decode_table(encoded: bytes, offset: int) -> tuple[dict[str, Any], int]:
    """As the library's own, but a table that it cannot decode is empty."""
    try:
        result: tuple[dict[str, Any], int] = _original(encoded, offset)
    except Exception:  # noqa: BLE001 - whatever the decoder makes of a stranger's bytes, the message is handled
        (size,) = struct.unpack_from(">I", encoded, offset)
        return {}, offset + 4 + size
    return result


def install() -> None:
    """Makes the library use it. Done once, by whoever consumes."""
    pika.data.decode_table = decode_table
