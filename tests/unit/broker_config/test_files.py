"""The files that RabbitMQ reads say the same as the code."""

from __future__ import annotations

import json
import re
from importlib import resources

from broker_config import limits, topology


def shipped(name):
    return resources.files("broker_config").joinpath(name).read_text(encoding="utf-8")


def setting(name):
    (value,) = re.findall(rf"^{re.escape(name)} = (.+)$", shipped("rabbitmq.conf"), re.MULTILINE)
    return value


def test_definitions_are_the_topology():
    assert json.loads(shipped("definitions.json")) == topology.definitions(), (
        "write json.dumps(topology.definitions(), indent=2) to broker_config/definitions.json"
    )


def test_no_account_is_shipped():
    assert not {"users", "permissions", "global_parameters"} & set(json.loads(shipped("definitions.json")))


def test_the_broker_refuses_what_we_refuse():
    assert int(setting("max_message_size")) == limits.ENVELOPE_BYTES
    assert int(setting("heartbeat")) == limits.HEARTBEAT_SECONDS


def test_production_listens_with_tls_only():
    text = shipped("rabbitmq-tls.conf")
    assert "listeners.tcp = none" in text
    assert not re.search(r"^(listeners|management)\.tcp\.", text, re.MULTILINE)


def test_every_setting_stands_once():
    for name in ("rabbitmq.conf", "rabbitmq-tls.conf"):
        keys = [line.split("=")[0].strip() for line in shipped(name).splitlines() if line and not line.startswith("#")]
        assert len(keys) == len(set(keys))


def test_the_command_queue_never_loses_a_message_silently():
    arguments = topology.COMMANDS_ARGUMENTS
    assert arguments["x-queue-type"] == "quorum"
    assert arguments["x-overflow"] == "reject-publish"
    assert arguments["x-dead-letter-strategy"] == "at-least-once"
    assert arguments["x-delivery-limit"] == limits.DELIVERY_LIMIT


def test_a_letter_of_eight_mebibytes_fits_everywhere():
    assert limits.ENVELOPE_BYTES > 8 * limits.MIB
    for limit in (limits.COMMAND_QUEUE_BYTES, limits.DEAD_LETTER_BYTES, limits.REPLY_QUEUE_BYTES):
        assert limit > limits.ENVELOPE_BYTES
