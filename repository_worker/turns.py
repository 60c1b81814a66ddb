"""Workers that share a home take turns at storing full batches, and tell each other what they have stored.

Two batches that are numbered at the same moment nearly always meet in some mailbox; then whoever is second has numbered
in vain, and asks and stores again. So a worker first takes the turn: a lock on a file of the home (flock(2)), which the
system takes back from whoever ends, however it ends. In the file each leaves where the chains end that it has extended,
and whoever has the turn after it reads that before it numbers. Then it knows, without asking the database, and meets
nobody but workers with other homes.

    home/turns:  written (8 bytes) ‖ RING_BYTES, of which byte n of all that was ever written lies at n mod RING_BYTES
                 each message stands behind its length (4 bytes)

Nothing rests on any of it. A turn is waited for `TURN_SECONDS` at most, and whoever gets none goes on as if alone. The
file is believed nothing: a message counts if its MAC is of this repository, as what comes by the broker (`ends`).
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from crypto_core.ends import ENDS_BYTES
from crypto_core.ids import UserId
from crypto_core.limits import KIB
from pki.files import PRIVATE_FILE
from repository_worker.ends import Letterbox
from repository_worker.luck import Luck
from repository_worker.metrics import Metrics
from repository_worker.storage.chains import Tip
from repository_worker.storage.heads import Heard

FILE: Final = "turns"
#: What the last batches have made; bytes. A batch of 32 letters to one recipient makes about 6 KiB.
RING_BYTES: Final = 256 * KIB
#: How long a turn is waited for; seconds. A full batch is stored in about 10 ms.
TURN_SECONDS: Final = 0.03
#: Between two attempts to take it; seconds.
ATTEMPT_SECONDS: Final = 0.0005
_WRITTEN: Final = struct.Struct(">Q")
_WRITTEN_MAX: Final = 2**63
_LENGTH: Final = struct.Struct(">I")


class Turns:
    """One worker's part in it. To be made after the last fork, since a lock is of whoever opened the file.

    Not thread-safe: the batches of one worker are stored one after the other.
    """

    def __init__(
        self, home: Path, letterbox: Letterbox, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock`: seconds. Where the file cannot be opened or written, there are no turns, and the log says so."""
        self._letterbox = letterbox
        self._outcomes = {ok: metrics.turns.labels(outcome) for ok, outcome in ((True, "taken"), (False, "late"))}
        self._clock = clock
        self._patience = Luck()
        self._file: int | None = None
        self._read = 0
        try:
            self._file = os.open(home / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_FILE)
            self._read = self._written(self._file)  # what was told before concerns nobody who begins now
        except OSError as error:
            self._give_up(error)

    def take(self) -> Sequence[Heard] | None:
        """Waits for the turn; what was told since the last one, or None without a turn. Then `give` must follow."""
        if self._file is None:
            return None
        try:
            if not self._wait(self._file):
                return None
            messages = self._news(self._file)
        except OSError as error:
            self._give_up(error)
            return None
        return [heard for each in messages if (heard := self._letterbox.read(each)) is not None]

    def give(self, made: Mapping[UserId, Tip]) -> None:
        """Tells others what was made, and lets them have the turn."""
        if self._file is None:
            return
        try:
            try:
                if made:
                    self._tell(self._file, self._letterbox.write(made))
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """From now on without turns."""
        if self._file is not None:
            os.close(self._file)  # and the lock is everybody's
            self._file = None

    def _wait(self, file: int) -> bool:
        # Who has waited in vain does not wait for a while: somebody holds the turn who is suspended, or many want it.
        patient = self._patience.holds()
        end = self._clock() + (TURN_SECONDS if patient else 0.0)
        while not (taken := _lock(file)) and self._clock() < end:
            time.sleep(ATTEMPT_SECONDS)
        if patient or taken:
            self._patience.note(failed=not taken)
        self._outcomes[taken].inc()
        return taken

    def _news(self, file: int) -> list[bytes]:
        """What others have written since; nothing where it is more than the file holds, or no file of ours."""
        begin, end = self._read, self._written(file)
        self._read = end
        if not begin < end <= begin + RING_BYTES:
            return []
        return _messages(self._get(file, begin, end - begin))

    def _tell(self, file: int, message: bytes) -> None:
        if len(message) > ENDS_BYTES:
            return  # which nobody would read
        record = _LENGTH.pack(len(message)) + message
        begin = self._written(file)
        place = begin % RING_BYTES
        cut = RING_BYTES - place
        os.pwrite(file, record[:cut], _WRITTEN.size + place)
        os.pwrite(file, record[cut:], _WRITTEN.size)
        # The last: whoever is killed before it has told nothing.
        self._read = (begin + len(record)) % _WRITTEN_MAX
        os.pwrite(file, _WRITTEN.pack(self._read), 0)

    def _written(self, file: int) -> int:
        found = os.pread(file, _WRITTEN.size, 0)
        return int(_WRITTEN.unpack(found)[0]) % _WRITTEN_MAX if len(found) == _WRITTEN.size else 0

    def _get(self, file: int, begin: int, size: int) -> bytes:
        place = begin % RING_BYTES
        cut = min(size, RING_BYTES - place)
        return os.pread(file, cut, _WRITTEN.size + place) + os.pread(file, size - cut, _WRITTEN.size)

    def _give_up(self, error: OSError) -> None:
        structlog.get_logger("turns").warning("no turns", problem=error.strerror, name=FILE)
        with suppress(OSError):
            self.close()
        self._file = None


def _messages(data: bytes) -> list[bytes]:
    """What stands behind each length; nothing further after a length that none of ours has."""
    found, at = [], 0
    while at + _LENGTH.size <= len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        if not 0 < length <= ENDS_BYTES:
            break
        at += _LENGTH.size
        found.append(data[at : at + length])
        at += length
    return found


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
