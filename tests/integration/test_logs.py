"""What a worker writes and counts about messages: each line names its envelope, and nothing about anybody."""

from __future__ import annotations

import json
import time
import urllib.request

import pika
import pytest

from broker_config import names
from broker_config.connection import connect as connect_broker
from crypto_core import commands, suite
from crypto_core.ids import new_nonce
from repository_worker.metrics import Stage
from repository_worker.settings import PREFIX
from repository_worker.stack import PrivateStack
from tests.support.wire import Citizen, Wire

PATIENCE_SECONDS = 30.0
TEXT = b"palavras que ninguem mais deve ler"
GARBAGE = b"no envelope at all, but a secret"


@pytest.fixture(scope="module")
def stack(tmp_path_factory, servers):
    settings = {f"{PREFIX}LOG_LEVEL": "debug"}
    folder = tmp_path_factory.mktemp("stack")
    with PrivateStack(folder, workers=1, settings=settings, metrics=True, servers=servers) as running:
        yield running


def lines(stack) -> list[dict]:
    text = (stack.folder / "worker-1.log").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def awaited(stack, digest: str) -> dict:
    """The line about this envelope."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := [each for each in lines(stack) if each.get("correlation") == digest]):
        assert time.monotonic() < deadline, "the worker wrote nothing about it"
        time.sleep(0.05)
    return found[0]


def test_each_line_names_its_envelope_and_nothing_about_anybody(stack):
    maria, joao = (Citizen.issued(stack.ca, name) for name in ("Maria Conceição Reis", "João Sá"))
    with Wire(stack.client_settings(), stack.descriptor) as wire:
        wire.register(joao)
        wire.register(maria)
        wire.login(maria)
        made = wire.letter(maria, [joao], TEXT)
        sent = wire.sealed(commands.Send(made.head, made.body), new_nonce())
        wire.call(sent)
        refused = wire.sealed(commands.Block(joao.user, True), new_nonce(), counter=wire.counter)
        wire.call(refused)
    with connect_broker(stack.administrator()) as connection:
        connection.channel().basic_publish(
            names.COMMANDS_EXCHANGE, names.COMMANDS_ROUTING_KEY, GARBAGE, pika.BasicProperties(correlation_id="João")
        )
    assert awaited(stack, suite.sha256(sent).hex())["outcome"] == "ok"
    assert awaited(stack, suite.sha256(refused).hex())["code"] == "counter-used"
    assert awaited(stack, suite.sha256(GARBAGE).hex())["reason"] == "decoding"

    events = [each for each in lines(stack) if each["event"] in {"handled", "refused", "rejected", "fault"}]
    assert len(events) >= 6
    assert all(len(each["correlation"]) == 64 for each in events)
    text = (stack.folder / "worker-1.log").read_text(encoding="utf-8")
    secrets = [stack.ca_passphrase_file.read_text(), (stack.folder / "client-password").read_text()]
    people = ["Maria", "Reis", "Jo\\u00e3o", "João", maria.user.hex(), joao.user.hex()]
    for word in (*secrets, *people, TEXT.decode(), GARBAGE.decode(), made.body.hex()[:32]):
        assert word not in text

    metrics = ask(stack.workers[0].metrics_port, "/metrics")
    for line in (
        'smr_commands_total{kind="SEND",outcome="ok"} 1.0',
        'outcome="counter-used"} 1.0',
        'smr_messages_rejected_total{reason="decoding"} 1.0',
    ):
        assert line in metrics, metrics
    for stage in Stage:
        assert f'smr_stage_seconds_count{{stage="{stage.value}"}} 0.0\n' not in metrics, stage
        assert f'smr_stage_cpu_seconds_total{{stage="{stage.value}"}} 0.0\n' not in metrics, stage
    assert "smr_batch_messages_count 0.0" not in metrics
    assert "smr_command_age_seconds_count 0.0" not in metrics


def test_a_full_batch_is_stored_in_turn(stack):
    maria, joao = (Citizen.issued(stack.ca, name) for name in ("Maria Alves", "João Dias"))
    worker = stack.workers[0]
    with Wire(stack.client_settings(), stack.descriptor) as wire:
        wire.register(joao)
        wire.register(maria)
        wire.login(maria)
        sealed = []
        for _ in range(8):
            made = wire.letter(maria, [joao], TEXT)
            sealed.append(wire.sealed(commands.Send(made.head, made.body), new_nonce()))
        assert counted(worker.metrics_port, 'smr_turns_total{outcome="taken"}') == 0
        worker.suspend()
        try:
            for each in sealed:
                wire.publish(each)
        finally:
            worker.resume()
        assert all(wire.take(PATIENCE_SECONDS) is not None for _ in sealed)
    assert counted(worker.metrics_port, 'smr_turns_total{outcome="taken"}') >= 1


def counted(port: int, name: str) -> float:
    (line,) = [each for each in ask(port, "/metrics").splitlines() if each.startswith(name)]
    return float(line.rsplit(" ", 1)[1])


def ask(port: int, path: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode()
