"""The secrets of docker-compose.yml: made once, all of them, for nobody else to read, and fit for what they are for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner

from broker_config.connection import parse_amqp_url
from pki.operator import Credential
from repository_worker.cli.app import app
from repository_worker.compose_secrets import BROKER_HOSTS, Deployment, create, renew_certificates
from repository_worker.database_setup import Accounts
from repository_worker.errors import HomeError, StorageError

COMPOSE = Path(__file__).parents[3] / "docker-compose.yml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create(tmp_path / "secrets", Deployment("Organização Exemplo", ("broker.example",)))
    return tmp_path / "secrets"


def broker_names(folder: Path) -> list[str]:
    certificate = x509.load_pem_x509_certificate((folder / "broker.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(each.value) for each in names]


def test_every_secret_that_the_compose_file_mounts_is_made(folder: Path) -> None:
    asked = set(re.findall(r'file: "\$\{SMR_SECRETS:-\./secrets\}/([^"]+)"', COMPOSE.read_text("utf-8")))
    made = {each.name for each in folder.iterdir()}
    assert asked
    assert made - asked == {"ca.key"}
    assert asked <= made


def test_only_the_owner_may_enter_and_nobody_may_write(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {each.stat().st_mode & 0o777 for each in folder.iterdir()} == {0o444}


def test_a_folder_that_stands_open_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    create(tmp_path, Deployment("Organização Exemplo"))
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_what_is_there_is_never_replaced(folder: Path) -> None:
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    with pytest.raises(HomeError, match="never replaced"):
        create(folder, Deployment("Organização Exemplo"))
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before


def test_each_account_has_a_password_of_its_own(folder: Path) -> None:
    urls = [(folder / name).read_text() for name in ("broker-url", "operator-broker-url")]
    settings = [parse_amqp_url(each) for each in urls]
    assert [each.user for each in settings] == ["smr-worker", "smr-operator"]
    accounts = Accounts.read(folder / "database-accounts.json")
    passwords = {*(each.password for each in settings), *accounts.passwords.values()}
    assert len(passwords) == len(settings) + len(accounts.passwords)
    assert not any(password in repr(accounts) for password in passwords)
    assert all(each.tls is not None and str(each.tls.ca_file) == "/run/secrets/ca.pem" for each in settings)


def test_the_broker_gets_hashes_alone(folder: Path) -> None:
    text = (folder / "broker-definitions.json").read_text()
    for name in ("broker-url", "operator-broker-url", "management-url"):
        password = (folder / name).read_text().split("@")[0].rsplit(":", 1)[1]
        assert password not in text
    assert [each["tags"] for each in json.loads(text)["users"]] == ["", "", "administrator"]


def test_the_key_of_the_ca_needs_the_passphrase(folder: Path) -> None:
    chain, key = (folder / "ca.pem").read_bytes(), (folder / "ca.key").read_bytes()
    assert b"ENCRYPTED" in key
    Credential.from_pem(chain, key, (folder / "repository-passphrase").read_bytes())


def test_a_cluster_has_three_of_each(tmp_path: Path) -> None:
    create(tmp_path, Deployment("Organização Exemplo", cluster=True))
    assert "mongo:27017,mongo-2:27017,mongo-3:27017/" in (tmp_path / "mongo-url").read_text()
    assert "@broker:5671/" in (tmp_path / "broker-url").read_text()


def test_renewed_certificates_come_from_the_same_ca_and_keep_their_names(folder: Path) -> None:
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    inode = (folder / "broker.key").stat().st_ino
    assert renew_certificates(folder, ["novo.example"]) == ("broker.key", "broker.pem", "mongo.pem")
    after = {each.name: each.read_bytes() for each in folder.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"broker.key", "broker.pem", "mongo.pem"}
    assert broker_names(folder) == [*BROKER_HOSTS, "broker.example", "novo.example"]
    root = x509.load_pem_x509_certificate(after["ca.pem"])
    x509.load_pem_x509_certificate(after["broker.pem"]).verify_directly_issued_by(root)
    assert (folder / "broker.key").stat().st_ino == inode, "a container's mount of the file would not follow"
    assert (folder / "broker.key").stat().st_mode & 0o777 == 0o444


def test_nothing_is_renewed_without_a_ca(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="cannot be read"):
        renew_certificates(tmp_path, [])


def test_the_command_prints_names_and_no_secret(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    said = CliRunner().invoke(app, ["compose-secrets", str(secrets), "--organisation", "Organização Exemplo", "--json"])
    assert said.exit_code == 0
    assert "broker-url" in json.loads(said.output)["files"]
    for each in secrets.iterdir():
        assert each.read_text().strip() not in said.output


def test_the_operators_name_is_needed_the_first_time_alone(tmp_path: Path) -> None:
    secrets = str(tmp_path / "secrets")
    assert CliRunner().invoke(app, ["compose-secrets", secrets]).exit_code == 2
    assert CliRunner().invoke(app, ["compose-secrets", secrets, "--organisation", "Organização Exemplo"]).exit_code == 0
    assert CliRunner().invoke(app, ["compose-secrets", secrets, "--renew-certificates"]).exit_code == 0


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"replica_set": "smr", "database": "smr", "accounts": {}}'])
def test_an_unfit_file_of_accounts_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "accounts.json").write_text(text)
    with pytest.raises(StorageError, match="does not hold"):
        Accounts.read(tmp_path / "accounts.json")
