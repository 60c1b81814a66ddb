"""`smr-pki` as a person and as a program use it, each command in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import OCSPCertStatus, OCSPRequestBuilder, load_der_ocsp_response

from pki.crl_server import CrlServer
from pki.crls import check_delta
from pki.fetchers import HttpFetcher
from pki.test_ca import TestCa
from tests.support import programs


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with secrets in files, a served test CA and a way to call the program."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "pin").write_text("4321\n", encoding="utf-8")
    (folder / "passphrase").write_text("only for tests\n", encoding="utf-8")
    (folder / "ca" / "crls").mkdir(parents=True)
    with CrlServer(folder / "ca" / "crls") as server:
        world = World(folder, server.url)
        world.json("test-ca", "create", "--crl-url", server.url)
        yield world


class World:
    def __init__(self, folder, url):
        self.folder, self.url = folder, url
        self.environment = {
            **os.environ,
            "SMR_PIN_FILE": str(folder / "pin"),
            "SMR_PASSPHRASE_FILE": str(folder / "passphrase"),
            "SMR_TEST_CA": str(folder / "ca"),
            "SMR_TRUST_STORE": str(folder / "trust"),
            "SMR_CARDS": str(folder / "cards"),
            "COLUMNS": "300",
        }

    def run(self, *arguments, **changed):
        environment = {k: v for k, v in {**self.environment, **changed}.items() if v is not None}
        return programs.run_for_text("pki.cli", *arguments, env=environment)

    def json(self, *arguments):
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def fails(self, *arguments, **changed):
        done = self.run(*arguments, **changed)
        assert done.returncode == 1, done.stdout
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture(scope="module")
def card(world):
    return world.json("virtual-card", "create", "Bruno Antunes", "--key", "P-256")


@pytest.fixture(scope="module")
def trusted(world):
    ca = world.json("test-ca", "publish")
    world.json("trust", "import", *ca["certificates"], "--root-fingerprint", ca["root_sha256"])
    return ca


def test_a_card_is_made_and_listed(world, card):
    assert (card["holder"], card["key_kind"]) == ("Bruno Antunes", "P-256")
    assert card in world.json("virtual-card", "list")["cards"]
    assert "Bruno Antunes" in world.run("virtual-card", "list").stdout


def test_the_trust_store_shows_the_hierarchy(world, trusted):
    (root,) = world.json("trust", "show")["certificates"]
    assert root["root"]
    assert root["sha256"] == trusted["root_sha256"]
    assert "EC de Autenticação" in world.run("trust", "show").stdout


def test_the_tree_says_which_chains_complete(world, trusted, tmp_path):
    store = {"SMR_TRUST_STORE": str(tmp_path / "store")}
    world.run("trust", "import", *trusted["certificates"], **store)
    assert "does not complete" in world.run("trust", "show", **store).stdout
    folder = str(world.folder / "ca")
    assert world.run("trust", "import", folder, "--root", trusted["root_sha256"], **store).returncode == 0
    shown = world.run("trust", "show", **store).stdout
    assert "complete today" in shown
    assert "does not complete" not in shown
    removed = world.run("trust", "remove", trusted["root_sha256"][:12], **store)
    assert "Removed ECRaizEstado TEST" in removed.stdout
    assert "does not complete" in world.run("trust", "show", **store).stdout
    assert "does not name one" in world.fails("trust", "remove", "00", **store)


def test_without_a_terminal_a_root_needs_its_fingerprint(world, trusted, tmp_path):
    done = world.run("trust", "import", *trusted["certificates"], "--json", SMR_TRUST_STORE=str(tmp_path))
    assert json.loads(done.stdout)["roots"] == []
    (left,) = json.loads(done.stdout)["left_out"]
    assert left["name"] == "ECRaizEstado TEST"
    assert left["sha256"] == trusted["root_sha256"]


def test_lists_are_fetched_from_this_machine_only_when_allowed(world, trusted):
    done = world.run("crl", "refresh", "--allow-private-addresses")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "good until" in done.stdout
    refused = world.run("crl", "refresh")
    assert refused.returncode == 1
    assert "private network" in refused.stdout


def test_the_test_ca_publishes_lists_deltas_and_answers(world, trusted, card):
    """As a program of its own on another port: what it serves is what the CA's book says."""
    code = "import sys; sys.argv[0] = 'smr-pki'; from pki.cli import main; main()"
    command = [sys.executable, "-c", code, "test-ca", "serve", "--port", "0"]
    ca = TestCa.open(world.folder / "ca", "only for tests")
    issuer, _ = ca.authority("authentication")
    (serial,) = [int(text, 16) for use, text in card["serials"].items() if use == "authentication"]
    fetcher = HttpFetcher(allow_private_addresses=True)
    with subprocess.Popen(
        command, env={**world.environment, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, text=True
    ) as program:
        try:
            (url,) = re.findall(r"http://127\.0\.0\.1:\d+", program.stdout.readline())
            complete = x509.load_der_x509_crl(fetcher.fetch(f"{url}/authentication.crl"))
            delta = x509.load_der_x509_crl(fetcher.fetch(f"{url}/authentication-delta.crl"))
            assert check_delta(delta, [complete]) is None
            question = OCSPRequestBuilder().add_certificate_by_hash(
                hashlib.sha1(issuer.subject.public_bytes(), usedforsecurity=False).digest(),
                bytes(20),
                serial,
                hashes.SHA1(),
            )
            answer = fetcher.ask(f"{url}/ocsp/authentication", question.build().public_bytes(Encoding.DER))
            assert load_der_ocsp_response(answer).certificate_status is OCSPCertStatus.GOOD
        finally:
            program.send_signal(signal.SIGINT)
            program.wait(20)


def test_a_card_is_revoked_by_its_holders_name(world, card):
    done = world.json("virtual-card", "revoke", "Bruno Antunes")
    assert (done["holder"], done["reason"]) == ("Bruno Antunes", "keyCompromise")
    issued = json.loads((world.folder / "ca" / "issued.json").read_text(encoding="utf-8"))["issued"]
    serials = {int(serial, 16) for serial in card["serials"].values()}
    assert all(line["revoked_at"] for line in issued if line["serial"] in serials)


def test_refusals_are_one_message_and_exit_code_1(world, card, tmp_path):
    assert "holds a card already" in world.fails("virtual-card", "create", "Bruno Antunes")
    assert "no reason" in world.fails("virtual-card", "revoke", "Bruno Antunes", "--reason", "boredom")
    assert "no virtual card" in world.fails("virtual-card", "revoke", "Ninguém Conhecido")
    assert "no readable certificate" in world.fails("trust", "import", str(tmp_path / "none"))
    (tmp_path / "wrong").write_text("wrong", encoding="utf-8")
    assert "could not be opened" in world.fails("test-ca", "publish", SMR_PASSPHRASE_FILE=str(tmp_path / "wrong"))


def test_a_secret_is_never_an_argument_and_without_a_terminal_never_guessed(world):
    assert "SMR_PASSPHRASE_FILE" in world.fails("test-ca", "publish", SMR_PASSPHRASE_FILE=None)
    assert world.run("virtual-card", "create", "Ana Sá", "--pin", "1234").returncode == 2
