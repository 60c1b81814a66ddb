"""What is about to be needed, made by another thread: so that a large thing is sealed while the one before it leaves.

    with closing(ahead(source, 4)) as made:
        for each in made: …

Rules: everything of the source runs in that thread, and nothing else does. The thread is ahead by a bounded number, and
it has ended when the iterator is closed or at its end: whoever closes it may take away what the source works with.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_NAME: Final = "smr ahead"


class _End:
    """The source has no more, or has failed."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Maker(Generic[T]):
    """The thread, and what it has made."""

    def __init__(self, source: Iterator[T], most: int) -> None:
        self._source = source
        self._room = threading.Semaphore(most)
        self._made: SimpleQueue[T | _End] = SimpleQueue()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=_NAME, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                self._room.acquire()
                if self._stopped:
                    return
                self._made.put(next(self._source))
        except StopIteration:
            self._made.put(_End(None))
        except BaseException as error:  # noqa: BLE001 - raised where the next one is asked for
            self._made.put(_End(error))

    def take(self) -> T | _End:
        found = self._made.get()
        self._room.release()
        return found

    def stop(self) -> None:
        """Returns when the thread has ended: after what it is making now, at most."""
        self._stopped = True
        self._room.release()
        self._thread.join()


def ahead(source: Iterator[T], most: int) -> Generator[T]:
    """What `source` gives, in its order; at most `most` of it are made before they are asked for.

    Raises what `source` raises.
    """
    maker = _Maker(source, most)
    try:
        while not isinstance(found := maker.take(), _End):
            yield found
        if found.error is not None:
            raise found.error
    finally:
        maker.stop()
