"""Accounts of a broker's first start: hashes as RabbitMQ reads them, and no password anywhere."""

from __future__ import annotations

import json

from broker_config import names
from broker_config.boot_definitions import ADMINISTRATOR, BootAccount, document, password_hash
from broker_config.permissions import worker_permissions


def test_the_hash_is_that_of_rabbitmqs_documentation() -> None:
    # "Credentials and Passwords": the password test12 with the salt 908D C60A.
    assert password_hash("test12", bytes.fromhex("908DC60A")) == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"


def test_accounts_come_with_their_permissions_and_without_their_passwords() -> None:
    worker = BootAccount("smr-worker", "palavra-passe", worker_permissions())
    made = document(worker, BootAccount("smr-admin", "outra", worker_permissions(), ADMINISTRATOR))
    assert made["vhosts"] == [{"name": names.VHOST}]
    assert [(each["name"], each["tags"]) for each in made["users"]] == [
        ("smr-worker", ""),
        ("smr-admin", "administrator"),
    ]
    assert made["permissions"][0] == {
        "user": "smr-worker",
        "vhost": names.VHOST,
        "configure": worker_permissions().configure,
        "write": worker_permissions().write,
        "read": worker_permissions().read,
    }
    assert "palavra-passe" not in json.dumps(made)
    assert "palavra-passe" not in repr(worker)


def test_no_queue_is_made_at_boot() -> None:
    assert set(document()) == {"vhosts", "users", "permissions"}


def test_equal_passwords_have_different_hashes() -> None:
    first, second = (BootAccount(name, "igual", worker_permissions()) for name in ("a", "b"))
    hashes = {each["password_hash"] for each in document(first, second)["users"]}
    assert len(hashes) == 2
