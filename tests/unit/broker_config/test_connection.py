"""Addresses are read strictly, passwords stay hidden, and nothing goes to another machine without TLS."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from broker_config import limits
from broker_config.administration import Administration
from broker_config.connection import (
    ConnectionSettings,
    TlsSettings,
    connect,
    is_loopback,
    parse_amqp_url,
    tls_context,
    to_url,
)
from broker_config.errors import BrokerSettingsInvalid, BrokerUnreachable
from broker_config.private_process import free_ports


def test_a_full_address_is_read():
    settings = parse_amqp_url(
        "amqps://jo%C3%A3o:s%40fe@broker.example:5679/smr%2Ftest?ca=/ca.pem&cert=/c.pem&key=/k.pem"
    )
    tls = TlsSettings(Path("/ca.pem"), Path("/c.pem"), Path("/k.pem"))
    assert settings == ConnectionSettings("broker.example", 5679, "joão", "s@fe", "smr/test", tls)


def test_what_is_left_out_is_filled_in():
    assert parse_amqp_url("amqps://a@broker.example", password="b") == ConnectionSettings(
        "broker.example", 5671, "a", "b", "smr", TlsSettings()
    )
    assert parse_amqp_url("amqp://a:b@[::1]/") == ConnectionSettings("::1", 5672, "a", "b", "smr")


@pytest.mark.parametrize(
    "url",
    [
        "amqps://a@broker.example:5679/x?ca=/ca.pem",
        "amqp://a@127.0.0.1:21000/smr",
        "amqp://a%40b@[::1]:21000/with%2Fslash",
    ],
)
def test_an_address_reads_back_the_same(url):
    assert to_url(parse_amqp_url(url, password="hidden")) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "broker.example",
        "http://a:b@127.0.0.1/",
        "amqp://127.0.0.1/smr",
        "amqp://a:b@/smr",
        "amqp://a:b@127.0.0.1:99999/",
        "amqp://a:b@127.0.0.1:0/",
        "amqp://a:b@127.0.0.1:port/",
        "amqp://a:b@127.0.0.1/one/two",
        "amqp://a:b@127.0.0.1/smr#fragment",
        "amqp://a:b@127.0.0.1/smr?ca=/ca.pem",
        "amqps://a:b@broker.example/smr?ca=",
        "amqps://a:b@broker.example/smr?ca=/a&ca=/b",
        "amqps://a:b@broker.example/smr?verify=none",
        "amqps://a:b@broker.example/smr?cert=/c.pem",
        "amqps://a:b@broker.example/smr?garbage",
        "amqps://a:b@[broken/smr",
    ],
)
def test_any_other_address_is_refused_without_being_repeated(url):
    with pytest.raises(BrokerSettingsInvalid) as refused:
        parse_amqp_url(url)
    assert "a:b" not in str(refused.value)


def test_an_address_without_password_needs_one():
    with pytest.raises(BrokerSettingsInvalid, match="password"):
        parse_amqp_url("amqp://a@127.0.0.1/smr")


@pytest.mark.parametrize("host", ["broker.example", "10.0.0.1", "localhost.example", "127.0.0.1.example", "0.0.0.0"])
def test_another_machine_is_never_reached_without_tls(host):
    with pytest.raises(BrokerSettingsInvalid, match="TLS"):
        ConnectionSettings(host, 5672, "a", "b")
    with pytest.raises(BrokerSettingsInvalid, match="https"):
        Administration(f"http://{host}:15672", "a", "b")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_loopback_needs_no_tls(host):
    assert is_loopback(host)
    assert ConnectionSettings(host, 5672, "a", "b").tls is None


def test_the_password_shows_nowhere():
    settings = ConnectionSettings("127.0.0.1", 5672, "a", "very secret")
    administration = Administration("http://127.0.0.1:15672", "a", "very secret")
    for text in (repr(settings), to_url(settings), repr(administration)):
        assert "very secret" not in text


def test_nobody_there_is_said_with_what_to_do():
    settings = ConnectionSettings("127.0.0.1", free_ports(1)[0], "a", "very secret")
    with pytest.raises(BrokerUnreachable, match="no broker answers") as refused:
        connect(settings, attempts=2)
    assert "very secret" not in str(refused.value)
    assert "try again" in str(refused.value)


def test_somebody_who_hangs_up_is_no_broker():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept_and_close():
            listener.accept()[0].close()

        hang_up = threading.Thread(target=accept_and_close)
        hang_up.start()
        with pytest.raises(BrokerUnreachable):
            connect(ConnectionSettings("127.0.0.1", listener.getsockname()[1], "a", "b"), attempts=1)
        hang_up.join()


def test_at_least_one_attempt_is_made():
    with pytest.raises(BrokerSettingsInvalid):
        connect(ConnectionSettings("127.0.0.1", 5672, "a", "b"), attempts=0)


def test_a_missing_certificate_file_is_a_setting_to_mend(tmp_path):
    with pytest.raises(BrokerSettingsInvalid, match="certificate file"):
        tls_context(TlsSettings(ca_file=tmp_path / "missing.pem"))
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("not a certificate")
    with pytest.raises(BrokerSettingsInvalid, match="certificate file"):
        tls_context(TlsSettings(ca_file=garbage))


def test_no_management_interface_is_unreachable():
    with pytest.raises(BrokerUnreachable):
        Administration(f"http://127.0.0.1:{free_ports(1)[0]}", "a", "b").accounts()


@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
def test_a_broker_that_accepts_and_says_nothing_is_unreachable(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """A frozen broker: the kernel still accepts for it."""
    monkeypatch.setattr(limits, "CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        settings = parse_amqp_url(f"{scheme}://maria:segredo@127.0.0.1:{frozen.getsockname()[1]}/smr")
        with pytest.raises(BrokerUnreachable, match="no broker answers"):
            connect(settings, attempts=1)


#: Makes and drops messages as chunks of attachments do, and says how many pages of memory that took anew.
MESSAGES = """
import resource
from broker_config.connection import ConnectionSettings, connect
from broker_config.errors import BrokerUnreachable

def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

try:
    connect(ConnectionSettings("127.0.0.1", 1, "nobody", "x"), attempts=1)
except BrokerUnreachable:
    pass
[b"x" * 524_288 for _ in range(4)]
before = pages()
for _ in range(20):
    [b"x" * 524_288 for _ in range(4)]
print(pages() - before)
"""


def test_the_memory_of_a_message_serves_the_next_ones():
    done = subprocess.run([sys.executable, "-c", MESSAGES], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 20 * 4 * 524_288 // 4096 // 10, "most of them took fresh memory"
