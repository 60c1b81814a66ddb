"""What the wire client makes of replies that are not the answer it waits for."""

from __future__ import annotations

from pathlib import Path

import pytest

from crypto_core import envelope, suite
from crypto_core.errors import BindingMismatch
from crypto_core.ids import Digest
from tests.chaos import history
from tests.chaos.history import Notes
from tests.chaos.wire_client import WireClient
from tests.support.protocol import make_descriptor, signing_key, traffic_keys

ASKED, OTHER = suite.sha256(b"asked by this client"), suite.sha256(b"asked by somebody else")


@pytest.fixture
def client(tmp_path: Path) -> WireClient:
    """A client that asked once and knows the repository; without a connection."""
    made = WireClient.__new__(WireClient)
    made.notes, made.asked, made.descriptor = Notes(tmp_path, "wire-0"), {ASKED}, make_descriptor()
    return made


def forgeries(client: WireClient, reply: bytes) -> list[str]:
    client._judge(reply, BindingMismatch("the reply answers another request"))
    return [each.reason for each in history.load(client.notes.path.parent).forgeries]


def reply(signer: str = "repository", request: bytes = ASKED) -> bytes:
    return envelope.seal_reply(signing_key(signer), traffic_keys(), 1, Digest(request), b"body")


def test_a_late_reply_to_an_earlier_request_is_no_forgery(client: WireClient):
    assert forgeries(client, reply()) == []


def test_a_reply_under_another_key_is_noted(client: WireClient):
    (reason,) = forgeries(client, reply("attacker"))
    assert "not the repository's" in reason


def test_a_reply_to_somebody_elses_request_is_noted(client: WireClient):
    (reason,) = forgeries(client, reply(request=OTHER))
    assert "somebody else's" in reason


@pytest.mark.parametrize("data", [b"", b"\xd2", b"not a reply"])
def test_bytes_that_are_no_reply_are_noted(client: WireClient, data: bytes):
    assert len(forgeries(client, data)) == 1
