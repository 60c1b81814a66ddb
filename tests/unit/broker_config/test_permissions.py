"""Least privilege, as a table: who may do what with which name."""

from __future__ import annotations

import hashlib
import re

import pytest

from broker_config import names, permissions

MARIA = names.installation_of(hashlib.sha256(b"app key of Maria").digest())
BRUNO = names.installation_of(hashlib.sha256(b"app key of Bruno").digest())
OWN = names.reply_queue(MARIA, bytes(16))
FOREIGN = names.reply_queue(BRUNO, bytes(16))
ENDS = names.ends_queue(bytes(16))
EVERYTHING = {
    OWN,
    FOREIGN,
    ENDS,
    f"{ENDS}x",
    f"x{ENDS}",
    "smr.commands",
    "smr.commands.dead",
    "smrXcommands",
    "amq.default",
    "amq.direct",
    "",
}

CLIENT = permissions.client_permissions(MARIA)
WORKER = permissions.worker_permissions()
OPERATOR = permissions.operator_permissions()


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        pytest.param(CLIENT.configure, {OWN}, id="a client declares its own reply queues"),
        pytest.param(CLIENT.write, {"smr.commands"}, id="a client writes to the commands exchange"),
        pytest.param(CLIENT.read, {OWN}, id="a client reads its own reply queues"),
        pytest.param(WORKER.configure, {ENDS}, id="a worker declares what it hears by"),
        pytest.param(WORKER.write, {"amq.default"}, id="a worker sends replies"),
        pytest.param(WORKER.read, {"smr.commands", ENDS}, id="a worker reads commands, and hears"),
        pytest.param(
            OPERATOR.configure,
            {OWN, FOREIGN, ENDS, f"{ENDS}x", "smr.commands", "smr.commands.dead"},
            id="an operator sets up",
        ),
    ],
)
def test_exactly_this_is_allowed(pattern, allowed):
    # RabbitMQ searches; it does not anchor.
    assert {name for name in EVERYTHING if re.search(pattern, name)} == allowed
