"""docs/PROTOCOL.md says what the code does: its generated parts are current, and its worked exchange holds."""

from __future__ import annotations

import pytest

from crypto_core import moments
from crypto_core.errors import ProtocolError
from crypto_core.ids import Milliseconds
from pki.errors import PkiError
from tests.support import protocol_page, worked_exchange

MESSAGES = ("descriptor", "hello", "answer", "confirm", "active", "send", "send_reply", "head", "sealed_body")


def test_the_page_is_what_the_code_and_the_kept_exchange_give():
    page = protocol_page.PAGE.read_text("utf-8")
    assert page == protocol_page.render(page, worked_exchange.load()), "run: python -m tests.support.protocol_page"


def test_a_new_exchange_replays_too():
    now = Milliseconds(moments.from_text("2026-11-22T14:01:57.123Z"))
    worked_exchange.replay(worked_exchange.make(now))


@pytest.mark.parametrize("name", MESSAGES)
def test_an_exchange_with_one_changed_bit_does_not_replay(name):
    values = worked_exchange.load()
    changed = bytearray.fromhex(values[name])
    changed[len(changed) // 2] ^= 1
    with pytest.raises((ProtocolError, PkiError, AssertionError)):
        worked_exchange.replay(values | {name: changed.hex()})
