"""The program `smr` as people and scripts use it: options, files, JSON, exit codes, and what the terminal gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.errors import ExitCode
from pki.trust_store import TrustStore
from pki.virtual_card import create_virtual_card
from repository_worker.stack import PrivateStack, Servers
from repository_worker.storage.memory import NEWS_SECONDS
from tests.support import programs
from tests.support.time_stamp_authority import TimeStampAuthority

pytestmark = pytest.mark.timeout(300)
STAMP_SECONDS = 60


class Person:
    """Somebody at a shell, with a card in the reader."""

    def __init__(self, stack: PrivateStack, folder: Path, name: str) -> None:
        card = create_virtual_card(stack.ca, folder / "card", name, key_kind="P-256", pin="1234")
        self.home = folder / "home"
        TrustStore.open(folder / "trust").import_certificates(
            stack.ca_certificates, root_fingerprints={stack.ca_fingerprint}
        )
        (folder / "passphrase").write_text("uma frase bem longa\n", encoding="utf-8")
        (folder / "pin").write_text("1234\n", encoding="utf-8")
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONUTF8": "1",
            "SMR_HOME": str(self.home),
            "SMR_TRUST_STORE": str(folder / "trust"),
            "SMR_PASSPHRASE_FILE": str(folder / "passphrase"),
            "SMR_PIN_FILE": str(folder / "pin"),
            "SMR_PKCS11_MODULE": str(card.settings.module),
            "SMR_ALLOW_PRIVATE_CRL_HOSTS": "1",
            **card.settings.environment,
        }
        self.id = ""

    def smr(self, *arguments: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
        return programs.run("client.cli", *arguments, env={**self.environment, **environment}, stdin=stdin)

    def smr_started(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        """With an interpreter of its own."""
        return subprocess.run(
            [sys.executable, "-m", "client", *arguments],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=programs.LIMIT_SECONDS,
            check=False,
        )

    def json(self, *arguments: str, code: int = 0, stdin: bytes = b"", **environment: str) -> Any:
        result = self.smr(*arguments, "--json", stdin=stdin, **environment)
        assert result.returncode == code, result.stdout + result.stderr
        return json.loads(result.stdout)

    def verified(self, letter: str, file: Path, stack: PrivateStack, *options: str) -> Any:
        """Exports a letter, and verifies the package as somebody without an account."""
        self.json("export", letter, *options, "-o", str(file))
        trusted = ("--trust", str(stack.ca_certificates[0]), "--operator-root", stack.root_fingerprint)
        nowhere = str(file.parent / "nowhere")
        found = self.json("verify", str(file), *trusted, SMR_HOME=nowhere, SMR_TRUST_STORE=nowhere)
        assert found["indication"] == "TOTAL-PASSED"
        return found


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TimeStampAuthority]:
    with TimeStampAuthority(tmp_path_factory.mktemp("authority")) as running:
        yield running


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, authority: TimeStampAuthority, servers: Servers
) -> Iterator[PrivateStack]:
    settings = {
        "SMR_REPOSITORY_TSA_URL": authority.url,
        "SMR_REPOSITORY_TSA_CA_FILE": str(authority.root_path),
        "SMR_REPOSITORY_TSA_SECONDS": "0.2",
    }
    with PrivateStack(tmp_path_factory.mktemp("stack"), settings=settings, servers=servers) as running:
        yield running


def enrolled(stack: PrivateStack, folder: Path, name: str) -> Person:
    person = Person(stack, folder, name)
    installed = person.json(
        "init", "--descriptor", str(stack.descriptor_path), "--root-fingerprint", stack.root_fingerprint
    )
    assert len(bytes.fromhex(installed["app_key"])) == 32
    assert installed["repository_id"] == stack.descriptor.repository
    person.id = person.json("register")["user_id"]
    return person


@pytest.fixture(scope="module")
def maria(stack: PrivateStack, tmp_path_factory: pytest.TempPathFactory) -> Person:
    return enrolled(stack, tmp_path_factory.mktemp("maria"), "Maria Conceição Reis")


@pytest.fixture(scope="module")
def joao(stack: PrivateStack, tmp_path_factory: pytest.TempPathFactory) -> Person:
    return enrolled(stack, tmp_path_factory.mktemp("joao"), "João Sá")


def test_a_letter_from_a_file_to_its_verified_receipt(maria: Person, joao: Person, tmp_path: Path):
    (card,) = maria.json("card")["cards"]
    assert (card["holder"], card["user_id"]) == ("Maria Conceição Reis", maria.id)
    assert {key["verdict"] for key in card["keys"]} == {"valid"}

    (found,) = maria.json("people", "joao")["people"]
    assert (found["user_id"], found["name"], found["verified"], found["confirmed"]) == (joao.id, "João Sá", True, False)
    refused = maria.json("send", "--to", "João Sá", code=ExitCode.NOT_FOUND, stdin=b"x")
    assert refused["error"]["code"] == "not-found"
    assert maria.json("confirm", joao.id)["confirmed"]

    (tmp_path / "ata.txt").write_text("Olá! Segue a ata.\n", encoding="utf-8")
    sent = maria.json("send", "--to", "João Sá", "--subject", "Ata da reunião", str(tmp_path / "ata.txt"))

    (listed,) = joao.json("new")["letters"]
    assert (listed["letter_id"], listed["from"], listed["to"], listed["subject"], listed["read"]) == (
        sent["letter_id"],
        maria.id,
        [joao.id],
        "Ata da reunião",
        False,
    )
    assert listed["received_at"]
    shown = joao.json("read", listed["name"])
    assert (shown["body"], shown["from"], shown["receipt"]["state"]) == ("Olá! Segue a ata.\n", maria.id, "sent")
    assert all(check["passed"] for check in shown["checks"])
    assert joao.json("new")["letters"] == []

    (receipt,) = maria.json("status", sent["letter_id"])["receipts"]
    assert (receipt["reader"], receipt["verdict"]) == (joao.id, "verified")
    assert receipt["read_at"]
    assert maria.json("read", sent["letter_id"])["receipt"]["state"] == "not due"


def test_a_letter_that_opens_against_a_signature(stack: PrivateStack, maria: Person, joao: Person, tmp_path: Path):
    refused = maria.json("send", "--to", joao.id, "--expires", "3", code=ExitCode.USAGE, stdin=b"x")
    assert "--sign-for" in refused["error"]["action"]
    sent = maria.json(
        "send", "--to", joao.id, "--subject", "Convocatória", "--sign-for", "--expires", "3", stdin=b"Venha."
    )
    letter = sent["letter_id"]

    (listed,) = [each for each in joao.json("new")["letters"] if each["letter_id"] == letter]
    assert (listed["signature"], listed["subject"], listed["verified"]) == ("waiting", None, True)
    assert listed["expires_at"] == sent["expires_at"]
    assert "(opens when you sign)" in joao.smr("new").stdout.decode()
    asked = joao.smr("read", letter)  # nobody can be asked here, so nobody signs
    assert asked.returncode == ExitCode.NOT_ALLOWED
    assert "your signature for letter" in asked.stderr.decode()
    assert maria.json("history", letter)["waiting"] == [joao.id]

    shown = joao.json("read", letter, "--accept")
    assert (shown["subject"], shown["body"], shown["receipt"]["state"]) == ("Convocatória", "Venha.", "sent")
    status = maria.json("status", letter)
    assert [(each["verdict"], each["reader_name"]) for each in status["choices"]] == [("accepted", "João Sá")]
    assert "signed for by João Sá" in maria.smr("status", letter).stdout.decode()
    events = [
        "SubmissionAcceptance",
        "NotificationForAcceptance",
        "ConsignmentAcceptance",
        "ContentConsignment",
        "ContentHandover",
    ]
    found = maria.json("history", letter)
    assert [each["event"] for each in found["events"]] == events
    assert all(each["verified"] for each in found["events"])
    assert [each["event"] for each in joao.json("history", letter)["events"]] == events[1:]
    assert "read by João Sá" in maria.smr("history", letter).stdout.decode()

    for person in (maria, joao):
        found = person.verified(letter, tmp_path / f"{person.id}.asice", stack)
        assert {"slip", "acceptance", "reading receipt"} <= {each["about"] for each in found["checks"]}
        assert not [each for each in found["not_included"] if "time stamp" not in each]


def test_a_letter_that_is_deleted(maria: Person, joao: Person):
    name = maria.json("send", "--to", joao.id, "--subject", "Para apagar", stdin=b"x")["letter_id"]
    asked = joao.smr("delete", name)  # nobody is there to answer
    assert asked.returncode == ExitCode.NOT_ALLOWED
    assert "Para apagar" in asked.stderr.decode()
    assert "You have not read it." in asked.stderr.decode()
    found = joao.json("delete", name, "--yes")
    assert (found["letter_id"], found["author"], found["before"]) == (name, maria.id, False)
    assert name not in {each["letter_id"] for each in joao.json("list")["letters"]}
    refused = joao.json("read", name, code=ExitCode.NOT_FOUND)
    assert refused["error"]["what"].startswith("You deleted letter")
    assert "was deleted before" in joao.smr("delete", name).stdout.decode()
    assert "You deleted it" in joao.smr("history", name).stdout.decode()
    assert joao.json("history", name)["deleted_at"] == found["deleted_at"]


def test_a_letter_that_is_refused(stack: PrivateStack, maria: Person, joao: Person, tmp_path: Path):
    letter = maria.json("send", "--to", joao.id, "--sign-for", stdin=b"Venha.")["letter_id"]
    assert joao.json("refuse", letter, "--reason", "Não é para mim.")["letter_id"] == letter
    assert joao.json("read", letter, "--accept", code=ExitCode.NOT_ALLOWED)["error"]["code"] == "not-allowed"
    assert "(you refused to sign for it)" in joao.smr("list").stdout.decode()
    shown = maria.smr("status", letter).stdout.decode()
    assert "refused by João Sá" in shown
    assert "Não é para mim." in shown
    (_, _, refusal) = maria.json("history", letter)["events"]
    assert (refusal["event"], refusal["by"], refusal["detail"]) == ("ConsignmentRejection", "card", "Não é para mim.")

    file, redacted = tmp_path / "letter.asice", tmp_path / "redacted.asice"
    for package, options in ((file, ()), (redacted, ("--redact",))):
        found = maria.verified(letter, package, stack, *options)
        assert {"slip", "refusal"} <= {each["about"] for each in found["checks"]}
    assert "Não é para mim.".encode() in file.read_bytes()
    assert "Não é para mim.".encode() not in redacted.read_bytes()
    assert any("reason of the refusal" in each for each in found["not_included"])


def test_a_file_beside_a_letter_to_be_signed_for(maria: Person, joao: Person, tmp_path: Path):
    (tmp_path / "planta.bin").write_bytes(bytes(range(256)) * 40)
    sent = maria.json(
        "send", "--to", joao.id, "--sign-for", "--attach", str(tmp_path / "planta.bin"), stdin=b"Com a planta."
    )
    saved = tmp_path / "saved"
    joao.json("read", sent["letter_id"], "--attachments", str(saved), "--no-receipt", code=ExitCode.NOT_ALLOWED)
    assert not list(saved.glob("*"))
    joao.json("read", sent["letter_id"], "--accept", "--attachments", str(saved))
    assert (saved / "planta.bin").read_bytes() == (tmp_path / "planta.bin").read_bytes()

    # An answer takes what a letter takes.
    refused = joao.json("reply", sent["letter_id"], "--expires", "3", code=ExitCode.USAGE, stdin=b"x")
    assert "--sign-for" in refused["error"]["action"]
    options = ("--sign-for", "--expires", "3", "--attach", str(saved / "planta.bin"), "--subject", "Planta")
    answer = joao.json("reply", sent["letter_id"], *options, stdin=b"Assine, por favor.")
    assert answer["expires_at"]
    assert maria.json("read", answer["letter_id"], "--no-receipt", code=ExitCode.NOT_ALLOWED)
    back = tmp_path / "back"
    shown = maria.json("read", answer["letter_id"], "--accept", "--attachments", str(back))
    assert (shown["subject"], (back / "planta.bin").read_bytes()) == ("Planta", (saved / "planta.bin").read_bytes())
    (first, second) = maria.json("thread", answer["letter_id"])["letters"]
    assert (first["letter_id"], second["letter_id"]) == (sent["letter_id"], answer["letter_id"])


def test_the_history_of_a_plain_letter_and_of_a_person(maria: Person, joao: Person):
    letter = maria.json("send", "--to", joao.id, stdin=b"Texto.")["letter_id"]
    events = [each["event"] for each in maria.json("history", letter[:12])["events"]]
    assert events == ["SubmissionAcceptance", "ContentConsignment"]
    assert maria.json("history", joao.id)["name"] == "João Sá"


def test_declining_and_sending_a_receipt_later(maria: Person, joao: Person):
    sent = maria.json("send", "--to", joao.id, stdin="Só isto".encode())["letter_id"]
    assert joao.json("receipt", sent, code=ExitCode.NOT_ALLOWED)["error"]["code"] == "not-allowed"
    assert joao.json("read", sent, "--no-receipt")["receipt"]["state"] == "declined"
    assert maria.json("status", sent)["receipts"][0]["verdict"] == "not confirmed"
    assert joao.json("receipt", sent)["state"] == "sent"
    assert maria.json("status", sent)["receipts"][0]["verdict"] == "verified"


def test_a_letter_is_shown_even_when_its_receipt_cannot_be_signed(maria: Person, joao: Person, tmp_path: Path):
    sent = maria.json("send", "--to", joao.id, stdin=b"com recibo")["letter_id"]
    (tmp_path / "pin").write_text("9999", encoding="utf-8")
    shown = joao.json("read", sent, code=ExitCode.CARD, SMR_PIN_FILE=str(tmp_path / "pin"))
    assert shown["body"] == "com recibo"
    assert (shown["receipt"]["state"], shown["receipt"]["error"]["code"]) == ("failed", "card")


def test_bytes_go_to_a_new_file_only(maria: Person, joao: Person, tmp_path: Path):
    body = bytes(range(256))
    sent = maria.json("send", "--to", joao.id, stdin=body)["letter_id"]
    there = tmp_path / "there"
    there.write_bytes(b"mine")
    joao.json("read", sent, "--output", str(there), code=ExitCode.USAGE)
    assert there.read_bytes() == b"mine"
    assert not joao.json("new")["letters"][0]["read"]
    shown = joao.json("read", sent, "--output", str(tmp_path / "new"))
    assert (shown["body"], (tmp_path / "new").read_bytes()) == (None, body)
    assert joao.json("read", sent)["body_base64"]


def test_files_beside_a_letter(maria: Person, joao: Person, tmp_path: Path):
    folder = tmp_path / "anexos"
    paths = [tmp_path / "ata.pdf", tmp_path / "lista \x1b[31m.txt"]
    for number, path in enumerate(paths):
        path.write_bytes(os.urandom(700_000 * number + 10))
    attached = [each for path in paths for each in ("--attach", str(path))]
    sent = maria.json("send", "--to", "João Sá", *attached, stdin=b"Segue em anexo.")
    assert sent["attachments"] == 2
    listed = joao.smr("read", sent["letter_id"], "--no-receipt")
    assert "Attachment  ata.pdf (10 bytes, application/pdf), not saved: use --attachments DIR" in listed.stdout.decode()
    assert b"\x1b[31m" not in listed.stdout
    saved = joao.json("read", sent["letter_id"], "--attachments", str(folder))
    contents = [path.read_bytes() for path in paths]
    assert [(each["name"], each["size"]) for each in saved["attachments"]] == [
        (path.name, len(content)) for path, content in zip(paths, contents, strict=True)
    ]
    assert [Path(each["path"]).read_bytes() for each in saved["attachments"]] == contents
    assert {each.name for each in folder.iterdir()} == {"ata.pdf", "lista [31m.txt"}
    shown = joao.smr("read", sent["letter_id"], "--attachments", str(folder))
    assert f"saved as {folder / 'ata.pdf'}" in shown.stdout.decode()
    assert maria.json("send", "--to", "João Sá", "--attach", str(tmp_path / "none"), code=ExitCode.NOT_FOUND)["error"]


def test_a_letter_cannot_steer_the_terminal(maria: Person, joao: Person):
    evil = "antes\x1b]0;owned\x07\x1b[2Jdepois\u202e"
    sent = maria.json("send", "--to", joao.id, "--subject", "a\x1b[31mb", stdin=evil.encode())["letter_id"]
    for result in (joao.smr("new"), joao.smr("read", sent), joao.smr("list"), maria.smr("status", sent)):
        assert b"\x1b" not in result.stdout + result.stderr
        assert b"\x07" not in result.stdout
    assert b"antes\\x1b]0;owned" in joao.smr("read", sent).stdout
    assert joao.json("read", sent)["body"] == evil


def test_blocking_a_sender(maria: Person, joao: Person):
    (blocked,) = joao.json("block", maria.id)["people"]
    assert (blocked["user_id"], blocked["blocked"]) == (maria.id, True)
    deadline = time.monotonic() + 20 * NEWS_SECONDS
    while (refused := maria.smr("send", "--to", joao.id, "--json", stdin=b"x")).returncode == 0:
        assert time.monotonic() < deadline, "a block does not count"
    assert refused.returncode == ExitCode.NOT_ALLOWED
    error = json.loads(refused.stdout)["error"]
    assert joao.id in error["what"]
    letter = error["why"].removeprefix("The letter ")[:26]
    (rejection,) = maria.json("history", letter[:8])["events"]
    assert (rejection["event"], rejection["by"]) == ("SubmissionRejection", "repository")
    assert rejection["detail"].startswith("not-allowed: ")
    assert "not taken by the repository" in maria.smr("history", letter).stdout.decode()
    assert maria.json("history", "a" * 26, code=ExitCode.NOT_FOUND)["error"]["code"] == "not-found"
    assert f"{maria.id}  is blocked" in joao.smr("blocked").stdout.decode()
    assert joao.json("unblock", maria.id)["people"][0]["blocked"] is False
    assert joao.json("blocked")["people"] == []


def test_output_without_unicode(joao: Person):
    plain = joao.smr_started("list", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert plain.returncode == 0
    plain.stdout.decode("ascii")


def test_keys_and_sessions(maria: Person, tmp_path: Path):
    maria.json("session", "open")
    shown = maria.json("session", "show")
    assert (shown["open"], shown["user_id"]) == (True, maria.id)
    assert maria.json("session", "close") == {"closed": True, "closed_at_repository": True}
    assert maria.json("session", "show") == {"open": False}
    assert maria.json("key", "rotate")["revision"] == 2
    assert maria.json("key", "backup", str(tmp_path / "backup"))["sealing_keys"] == 2
    assert maria.json("key", "restore", str(tmp_path / "backup"))["added"] == 0
    (tmp_path / "next").write_text("outra frase bem longa", encoding="utf-8")
    maria.json("key", "passphrase", SMR_NEW_PASSPHRASE_FILE=str(tmp_path / "next"))
    maria.json("session", "close")
    assert maria.json("list", code=ExitCode.FAILED)["error"]["code"] == "wrong-passphrase"
    assert maria.json("list", SMR_PASSPHRASE_FILE=str(tmp_path / "next"))["letters"] is not None
    maria.environment["SMR_PASSPHRASE_FILE"] = str(tmp_path / "next")


def test_exit_codes(stack: PrivateStack, joao: Person, tmp_path: Path):
    joao.json("read", "zzzz", code=ExitCode.NOT_FOUND)
    joao.json("read", "x", code=ExitCode.USAGE)
    joao.json("send", code=ExitCode.USAGE)
    joao.json("send", "--to", "00" * 28, stdin=b"x", code=ExitCode.NOT_FOUND)
    joao.json("send", "--to", joao.id, str(tmp_path / "none"), code=ExitCode.NOT_FOUND)
    joao.json("card", code=ExitCode.CARD, SMR_PKCS11_MODULE=str(tmp_path / "none.so"))
    for worker in stack.workers:
        worker.suspend()
    try:
        joao.json("new", code=ExitCode.UNREACHABLE, SMR_REPLY_SECONDS="1")
    finally:
        for worker in stack.workers:
            worker.resume()


def test_nothing_secret_lies_in_the_home(joao: Person):
    secrets = [b"uma frase bem longa", b"1234\n"]
    for path in joao.home.rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o077 == 0 or path.is_relative_to(joao.home / "trust"), path
            assert not any(secret in path.read_bytes() for secret in secrets), path


def test_a_package_that_a_stranger_verifies(
    stack: PrivateStack, authority: TimeStampAuthority, maria: Person, joao: Person, tmp_path: Path
):
    sent = maria.json("send", "--to", joao.id, "--subject", "Ata", stdin="Olá!".encode())
    joao.json("read", sent["letter_id"])
    file, redacted = tmp_path / "letter.asice", tmp_path / "redacted.asice"
    exported = maria.json("export", sent["letter_id"], "-o", str(file))
    assert exported["verification"]["indication"] == "TOTAL-PASSED"
    deadline = time.monotonic() + STAMP_SECONDS
    while not any("3 time stamps" in each for each in exported["verification"]["not_included"]):
        assert time.monotonic() < deadline, "the time stamps do not come"
        file.unlink()
        exported = maria.json("export", sent["letter_id"], "-o", str(file))
    assert file.stat().st_mode & 0o077 == 0
    before = file.read_bytes()
    refused = maria.json("export", sent["letter_id"], "-o", str(file), code=ExitCode.USAGE)
    assert "exists already" in refused["error"]["what"]
    assert file.read_bytes() == before
    joao.json("export", sent["letter_id"], "--redact", "-o", str(redacted))
    assert "Olá!".encode() not in redacted.read_bytes()

    stranger = {"SMR_HOME": str(tmp_path / "nowhere"), "SMR_TRUST_STORE": str(tmp_path / "none")}
    root = str(stack.ca_certificates[0])
    trusted = ("--trust", root, "--operator-root", stack.root_fingerprint)
    trusted += ("--stamp-root", str(authority.root_path))
    for package in (file, redacted):
        found = maria.json("verify", str(package), *trusted, **stranger)
        assert found["indication"] == "TOTAL-PASSED"
        assert {"letter", "exporter", "repository", "time stamp", "reading receipt"} <= {
            each["about"] for each in found["checks"]
        }
    assert len(found["not_included"]) == 2
    doubted = maria.json("verify", str(file), code=ExitCode.CHECK_FAILED, **stranger)
    assert doubted["indication"] == "INDETERMINATE"
    assert not (tmp_path / "nowhere").exists()
    assert not (tmp_path / "none").exists()
    file.write_bytes(before.replace("Olá!".encode(), b"Adeus"))
    shown = maria.smr("verify", str(file), *trusted, **stranger)
    assert shown.returncode == ExitCode.CHECK_FAILED
    assert "TOTAL-FAILED (FORMAT_FAILURE)" in shown.stdout.decode()
