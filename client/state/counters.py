"""Counters: each names one envelope of a session, for ever. Reserved on disk, under a lock, before anything is sent."""

from __future__ import annotations

from typing import Final

from client.errors import LocalState
from client.state import files
from client.state.home import Home
from crypto_core.ids import SessionId

_BYTES: Final = 8


def reserve(home: Home, session: SessionId) -> int:
    """The next counter of this session, from 1; never given out again, whatever crashes. Raises LocalState, OSError."""
    return reserve_some(home, session, 1)[0]


def reserve_some(home: Home, session: SessionId, count: int) -> range:
    """As many counters at once: what is not used of them stays unused."""
    path = home.counters / session.hex()
    with home.lock("counter"):
        first = _last(home, session) + 1
        files.write(path, (first + count - 1).to_bytes(_BYTES, "big"))
    return range(first, first + count)


def used(home: Home, session: SessionId) -> int:
    """How many counters of this session were given out."""
    return _last(home, session)


def forget(home: Home, session: SessionId) -> None:
    """After the session's end."""
    with home.lock("counter"):
        if (home.counters / session.hex()).exists():
            files.remove(home.counters / session.hex())


def _last(home: Home, session: SessionId) -> int:
    path = home.counters / session.hex()
    data = files.read(path)
    if data is None:
        return 0
    if len(data) != _BYTES:
        raise LocalState(
            f"The counter file {path} is damaged.",
            "A counter used twice would be refused.",
            "Close the session: smr session close.",
        )
    return int.from_bytes(data, "big")
