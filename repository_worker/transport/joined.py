"""What a worker says after a batch, in one write.

The client library gives the three frames of a message to the system one by one, and asks it before and after each
message whether it may. For a batch that is several hundred calls of the system, and the broker, which listens
meanwhile, is woken as often. In this block what is said is kept in its order, and leaves when the block ends.

The library has no switch for it: its own names that this uses are here and nowhere else, and a test counts the writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pika

#: What is put together for one write; bytes. Of what the system does not take at once the library copies the rest.
PIECE_BYTES: Final = 64 * 1024
#: The library's method that takes the frames, already bytes, to its transport.
_EMIT: Final = "_adapter_emit_data"


@contextmanager
def joined(connection: pika.BlockingConnection) -> Iterator[None]:
    """Has what is published and acknowledged in the block leave together, without waiting for anything between.

    Nothing of it leaves when the block raises: the connection is of no use then, and what was taken by it comes again.
    """
    inner = connection._impl  # noqa: SLF001 - see above
    if not hasattr(inner, _EMIT):
        raise RuntimeError(f"this version of the broker's library has no {_EMIT}")
    frames: list[bytes] = []
    setattr(inner, _EMIT, frames.append)  # of this connection alone, before the method of its class
    try:
        yield
    finally:
        delattr(inner, _EMIT)
    for piece in _pieces(frames):
        getattr(inner, _EMIT)(piece)
    if frames:
        connection._flush_output()  # noqa: SLF001 - as the library does after each message


def _pieces(frames: Sequence[bytes]) -> Iterator[bytes]:
    """The frames in their order, put together until they are `PIECE_BYTES` long."""
    waiting: list[bytes] = []
    size = 0
    for each in frames:
        waiting.append(each)
        size += len(each)
        if size >= PIECE_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
