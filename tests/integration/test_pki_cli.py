"""`smr-pki` as a person and as a program use it, each command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from pki.crl_server import CrlServer


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
        code = "import sys; sys.argv[0] = 'smr-pki'; from pki.cli import main; main()"
        environment = {k: v for k, v in {**self.environment, **changed}.items() if v is not None}
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

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
