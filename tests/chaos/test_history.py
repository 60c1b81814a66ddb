"""The notes of clients: what was written before a client was killed is there, and what it did not finish is unknown."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.chaos import history
from tests.chaos.history import Fault, Forgery, Kind, Notes, Outcome, Position

MARIA, JOAO = "aa" * 28, "bb" * 28

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.chaos.history import Kind, Notes, Outcome
notes = Notes(Path(sys.argv[1]), "wire-0")
notes.end(notes.invoke(Kind.LIST, "aa"), Outcome.OK)
notes.invoke(Kind.SEND, "aa", recipients=["bb"], body="00")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_client_leaves_its_notes(tmp_path: Path):
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=root, check=False)
    assert ended.returncode == -signal.SIGKILL
    listed, sent = history.load(tmp_path).operations
    assert (listed.outcome, listed.first) == (Outcome.OK, Outcome.OK)
    assert (sent.outcome, sent.first_end, sent.recipients) == (Outcome.UNKNOWN, None, ("bb",))
    assert [each["op"] for each in history.open_operations(tmp_path / "wire-0.jsonl")] == [sent.id]


def test_the_next_process_goes_on_counting(tmp_path: Path):
    with Notes(tmp_path, "wire-0") as notes:
        assert notes.invoke(Kind.LIST, MARIA) == "wire-0.1"
    with Notes(tmp_path, "wire-0") as notes:
        assert notes.next_id() == "wire-0.2"
        assert notes.invoke(Kind.LIST, MARIA) == "wire-0.2"


def test_an_answer_may_come_later(tmp_path: Path):
    with Notes(tmp_path, "wire-0") as notes:
        operation = notes.invoke(Kind.SEND, MARIA, recipients=[JOAO], body="00")
        notes.end(operation, Outcome.UNKNOWN, reason="no reply yet")
        assert history.open_operations(notes.path)
        notes.end(operation, Outcome.OK, letter="11", positions=[(MARIA, 4, "22")])
        assert not history.open_operations(notes.path)
    (found,) = history.load(tmp_path).operations
    assert (found.first, found.outcome) == (Outcome.UNKNOWN, Outcome.OK)
    assert found.first_end is not None
    assert found.ended is not None
    assert found.invoked <= found.first_end <= found.ended
    assert (found.letter, found.positions) == ("11", (Position(MARIA, 4, "22"),))


def test_faults_and_forgeries_are_read(tmp_path: Path):
    with Notes(tmp_path, "faults") as faults, Notes(tmp_path, "wire-0") as notes:
        faults.fault("worker-kill", 5, 9)
        faults.fault("client-kill", 1, 2)
        notes.forged("somebody else's reply")
    found = history.load(tmp_path)
    assert found.faults == (Fault("client-kill", 1, 2), Fault("worker-kill", 5, 9))
    assert found.forgeries == (Forgery("wire-0", "somebody else's reply"),)


def test_notes_are_appended_whole(tmp_path: Path):
    """Two processes that write to one file at once would still write whole lines."""
    with Notes(tmp_path, "wire-0") as one, Notes(tmp_path, "wire-0") as other:
        for _ in range(50):
            one.forged("one")
            other.forged("other")
    assert len(history.load(tmp_path).forgeries) == 100
    assert (tmp_path / "wire-0.jsonl").stat().st_mode & 0o077 == 0


def test_a_line_that_is_being_written_is_not_read_yet(tmp_path: Path):
    with Notes(tmp_path, "wire-0") as notes:
        notes.invoke(Kind.LIST, MARIA)
        with notes.path.open("ab") as file:
            file.write(b'{"at": 1, "event": "inv')
        assert len(history.load(tmp_path).operations) == 1
