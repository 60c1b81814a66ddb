"""The enrolment file is read strictly, and what is in it decides who connects, not what an address says."""

from __future__ import annotations

import json

import pytest

from broker_config import enrolment, names
from broker_config.administration import parse_management_url
from broker_config.connection import TlsSettings
from broker_config.enrolment import Enrolment
from broker_config.errors import BrokerSettingsInvalid

MARIA = names.installation_of(bytes(32))
FULL = Enrolment(MARIA, "segredo", "-----BEGIN CERTIFICATE-----", "amqps://client@broker.example/smr")


@pytest.mark.parametrize("given", [FULL, Enrolment(MARIA, "segredo")])
def test_it_reads_back_the_same(given):
    assert enrolment.read(enrolment.write(given)) == given


def changed(**changes):
    members = json.loads(enrolment.write(FULL))
    return json.dumps({key: value for key, value in {**members, **changes}.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff", id="no text"),
        pytest.param(b"[" * 100_000, id="nested too deeply"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b" " * (enrolment.ENROLMENT_BYTES + 1), id="too large"),
        pytest.param(changed(type="other"), id="another kind"),
        pytest.param(changed(version=2), id="another version"),
        pytest.param(changed(more=1), id="a member more"),
        pytest.param(changed(ca=...), id="a member less"),
        pytest.param(changed(installation="A" * 26), id="no installation"),
        pytest.param(changed(installation=None), id="without an installation"),
        pytest.param(changed(password=""), id="without a password"),
        pytest.param(changed(password=5), id="a password that is no text"),
        pytest.param(changed(password="x" * 129), id="a long password"),
        pytest.param(changed(ca=[]), id="a CA that is no text"),
    ],
)
def test_everything_else_is_refused_and_not_repeated(data):
    with pytest.raises(BrokerSettingsInvalid, match="enrolment file") as refused:
        enrolment.read(data)
    assert "segredo" not in str(refused.value)


def test_the_password_is_not_shown():
    assert "segredo" not in repr(FULL)
    assert len(enrolment.draw_password()) == 43
    assert enrolment.draw_password() != enrolment.draw_password()


def test_account_password_and_ca_come_from_the_file():
    found = enrolment.connection(MARIA, "segredo", "amqps://other:word@broker.example/x?ca=/ca.pem", ca="PEM")
    assert (found.user, found.password, found.host, found.vhost) == (
        names.client_account(MARIA),
        "segredo",
        "broker.example",
        "x",
    )
    assert found.tls == TlsSettings(ca_pem="PEM")


def test_without_tls_a_ca_means_nothing():
    assert enrolment.connection(MARIA, "segredo", "amqp://client@127.0.0.1/smr", ca="PEM").tls is None


class TestManagementAddress:
    def test_it_reads_back_the_same(self):
        for url in ("https://adm%3Ain:s%40fe@broker.example:15671?ca=/ca.pem", "http://a:b@127.0.0.1:15672"):
            assert parse_management_url(url).to_url() == url

    def test_the_ports_are_rabbitmqs(self):
        assert parse_management_url("https://a:b@broker.example").url == "https://broker.example:15671"
        assert parse_management_url("http://a:b@[::1]/").url == "http://[::1]:15672"

    @pytest.mark.parametrize(
        "url",
        [
            "http://a:geheim@broker.example",
            "https://a@broker.example",
            "https://broker.example",
            "amqps://a:geheim@broker.example",
            "https://a:geheim@broker.example/api",
            "https://a:geheim@broker.example?key=/x",
            "https://a:geheim@broker.example:99999",
            "https://a:geheim@broker.example?ca=/x&ca=/y",
        ],
    )
    def test_others_are_refused_and_not_repeated(self, url):
        with pytest.raises(BrokerSettingsInvalid) as refused:
            parse_management_url(url)
        assert "geheim" not in str(refused.value)
