"""The private servers: ready when they say so, durable over a power cut, on loopback alone, gone without a trace."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pymongo
import pytest

from broker_config import local_broker, names
from broker_config.connection import connect
from broker_config.local_broker import LocalBroker
from broker_config.private_process import ProgramMissing, StartFailed
from repository_worker import local_mongo
from repository_worker.local_mongo import LocalMongo

LIMIT_SECONDS = 30


def processes_with(text):
    """Process ids whose command line or environment names `text`; a private server's processes all name its folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if text in (entry / "environ").read_text(errors="replace") + (entry / "cmdline").read_text(
                    errors="replace"
                ):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def listening():
    """Every (address, port) that is listened on, as the kernel tells it in hexadecimal."""
    rows = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":  # TCP_LISTEN
                address, port = fields[1].split(":")
                rows.append((address, int(port, 16)))
    return rows


LOOPBACK_ADDRESSES = {"0100007F", "00000000000000000000000001000000"}


def eventually(condition, what):
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_the_broker_keeps_a_letter_over_a_power_cut_and_leaves_nothing(tmp_path):
    broker = LocalBroker(tmp_path / "rabbitmq")
    with broker:
        ports = {getattr(broker._ports, field) for field in ("amqp", "management", "distribution", "epmd")}
        ours = [(address, port) for address, port in listening() if port in ports]
        assert {port for _, port in ours} == ports
        assert {address for address, _ in ours} <= LOOPBACK_ADDRESSES

        broker.set_up()
        broker.settle()
        with connect(broker.settings()) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish(names.COMMANDS_EXCHANGE, names.COMMANDS_ROUTING_KEY, b"sealed")
        broker.kill()
        assert broker.pid is None
        broker.start()
        with connect(broker.settings(local_broker.WORKER)) as connection:
            _, _, body = connection.channel().basic_get(names.COMMANDS_QUEUE)
            assert body == b"sealed"
    assert not processes_with(str(tmp_path))
    assert not [port for _, port in listening() if port in ports]


def test_what_the_broker_keeps_is_for_this_user_alone(broker):
    assert stat.S_IMODE(broker.folder.stat().st_mode) == 0o700
    for name in ("accounts.json", "rabbitmq.conf", ".erlang.cookie"):
        assert not stat.S_IMODE((broker.folder / name).stat().st_mode) & 0o077


def test_the_database_keeps_a_journaled_write_over_a_power_cut_and_leaves_nothing(tmp_path):
    with LocalMongo(tmp_path / "mongodb") as mongo:
        port = mongo.port
        assert {address for address, used in listening() if used == port} == {"0100007F"}
        with pymongo.MongoClient(mongo.uri, w="majority", journal=True) as client:
            with client.start_session() as session:
                session.with_transaction(lambda s: client.post.letters.insert_one({"_id": "k7d2"}, session=s))
            mongo.kill()
            mongo.start()
            assert client.post.letters.find_one()["_id"] == "k7d2"
    assert not processes_with(str(tmp_path))
    assert port not in [used for _, used in listening()]


PROGRAM = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
from broker_config.local_broker import LocalBroker
from repository_worker.local_mongo import LocalMongo
folder = Path(sys.argv[1])
with LocalMongo(folder / "mongodb") as mongo, LocalBroker(folder / "rabbitmq") as broker:
    print("up", flush=True)
    time.sleep(300)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda s: s.name)
@pytest.mark.parametrize("when", ["half-way", "up"])
def test_servers_end_with_their_program(tmp_path, number, when):
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    with program:
        if when == "up":
            assert program.stdout.readline() == b"up\n"
        else:
            eventually((tmp_path / "rabbitmq" / "log" / "node.log").exists, "the broker is not even begun")
        os.killpg(program.pid, number)  # as a terminal's Ctrl-C does
        program.wait(LIMIT_SECONDS)
    eventually(lambda: not processes_with(str(tmp_path)), "a private server outlives its program")


def test_a_start_that_fails_leaves_nothing(tmp_path, monkeypatch):
    broker = LocalBroker(tmp_path / "rabbitmq")
    monkeypatch.setattr(LocalBroker, "_configuration", lambda _: "this is no configuration\n")
    with pytest.raises(StartFailed, match="failed_to_parse_configuration_file"):
        broker.start()
    assert broker.pid is None
    assert not processes_with(str(tmp_path))


@pytest.mark.parametrize("server", ["broker", "mongo"])
def test_a_port_that_somebody_took_is_replaced(tmp_path, monkeypatch, server):
    """The first choice is taken before the server starts; the second is free."""
    module = local_broker if server == "broker" else local_mongo
    with socket.create_server(("127.0.0.1", 0)) as thief:
        taken, choose, choices = thief.getsockname()[1], module.free_ports, []

        def choose_badly_once(count):
            choices.append(count)
            ports = choose(count)
            return [taken, *ports[1:]] if len(choices) == 1 else ports

        monkeypatch.setattr(module, "free_ports", choose_badly_once)
        server_of_ours = LocalBroker(tmp_path / "s") if server == "broker" else LocalMongo(tmp_path / "s")
        with server_of_ours as running:
            assert running.port != taken
        assert len(choices) == 2
    assert not processes_with(str(tmp_path))


def test_a_program_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(local_broker, "PROGRAM", tmp_path / "rabbitmq-server")
    with pytest.raises(ProgramMissing, match=r"bootstrap\.sh"):
        LocalBroker(tmp_path / "rabbitmq").start()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProgramMissing, match=r"bootstrap\.sh"):
        LocalMongo(tmp_path / "mongodb").start()


def test_a_corner_of_the_broker_is_empty_and_a_database_too(vhost, database):
    with connect(vhost.administrator()) as connection:
        assert connection.channel().queue_declare(names.COMMANDS_QUEUE, passive=True).method.message_count == 0
    assert database.list_collection_names() == []
