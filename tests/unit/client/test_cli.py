"""The program's edges: exit codes, errors as text and as JSON, and what other people's texts may do to a terminal."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from broker_config.errors import BrokerUnreachable
from client import errors
from client.cli.screen import Screen
from client.cli.views import error_json
from client.errors import Check, CheckFailed, ExitCode, boundary
from crypto_core.commands import ErrorCode, RefusedByRepository
from crypto_core.errors import LimitExceeded, Malformed, ProtocolError
from pki.errors import NoCard, PathInvalid, PkiError, TrustStoreError
from tests.support import programs


def smr(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "client", *arguments],
        env={"PATH": "/usr/bin:/bin", "SMR_HOME": str(home), "PYTHONUTF8": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def smr_at_hand(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """As `smr`, where nothing depends on how the program starts."""
    env = {"PATH": "/usr/bin:/bin", "SMR_HOME": str(home), "PYTHONUTF8": "1"}
    return programs.run_for_text("client.cli", *arguments, env=env)


def test_markup_is_not_interpreted(capsys: pytest.CaptureFixture[str]):
    Screen(as_json=False).line("[red]not red[/red] [link=x]y[/link] :smile:")
    assert capsys.readouterr().out == "[red]not red[/red] [link=x]y[/link] :smile:\n"


def test_without_unicode_marks_are_words_and_names_are_escapes(monkeypatch: pytest.MonkeyPatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    screen = Screen(as_json=False)
    screen.line(f"{screen.mark(True)} {screen.mark(False)} João")
    screen.table(("a", "b"), [("João", "x")])
    assert raw.getvalue().decode("ascii").startswith("[ok] [FAILED] Jo\\xe3o\n")


class Terminal(io.StringIO):
    """A stream that somebody looks at."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("as_json", "shown"), [(False, True), (True, False)])
def test_a_transfer_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch, as_json: bool, shown: bool):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    screen = Screen(as_json=as_json)
    for done in (0, 512 * 1024, 1024 * 1024):
        screen.transferred("[red]ata.pdf", done, 1024 * 1024)
    assert ("[red]ata.pdf" in terminal.getvalue()) is shown
    assert ("MiB" in terminal.getvalue()) is shown
    with screen.waiting("the repository"):  # the bar is gone: a spinner may follow
        pass
    screen.transferred("vazio.txt", 0, 0)
    assert "vazio" not in terminal.getvalue()


def test_a_transfer_into_a_pipe_shows_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stderr", pipe := io.StringIO())
    Screen(as_json=False).transferred("ata.pdf", 0, 10)
    assert not pipe.getvalue()


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (NoCard("x"), errors.CardProblem, 7),
        (PkiError("x"), CheckFailed, 3),
        (TrustStoreError("x"), errors.LocalState, 1),
        (BrokerUnreachable("x"), errors.Unreachable, 6),
        (LimitExceeded("x"), errors.TooLarge, 2),
        (Malformed("x"), CheckFailed, 3),
        (ProtocolError("x"), CheckFailed, 3),
        (FileNotFoundError(2, "no such file", "x"), errors.LocalState, 1),
        *((RefusedByRepository(code, "x"), errors.ClientError, None) for code in ErrorCode),
    ],
)
def test_nothing_but_the_family_passes_the_boundary(error, kind, code):
    with pytest.raises(kind) as raised, boundary():
        raise error
    assert raised.value.__cause__ is error
    if code is not None:
        assert raised.value.exit_code == code


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (ErrorCode.NOT_FOUND, ExitCode.NOT_FOUND),
        (ErrorCode.NOT_ALLOWED, ExitCode.NOT_ALLOWED),
        (ErrorCode.LOGIN_NEEDED, ExitCode.NOT_ALLOWED),
        (ErrorCode.CERTIFICATE, ExitCode.CHECK_FAILED),
        (ErrorCode.TOO_LARGE, ExitCode.USAGE),
        (ErrorCode.UNAVAILABLE, ExitCode.UNREACHABLE),
    ],
)
def test_refusals_have_their_exit_codes(code, exit_code):
    assert errors.refusal(RefusedByRepository(code, "x")).exit_code is exit_code


def test_a_refusal_cannot_steer_the_terminal():
    error = errors.refusal(RefusedByRepository(ErrorCode.NOT_ALLOWED, "no\x1b[2J\nOK: sent"))
    assert str(error).isprintable()


def test_a_failed_check_carries_all_checks():
    checks = (Check("sealed", True, "sealed for you"), Check("signature", False, "Do not trust it.", "no match"))
    found = error_json(CheckFailed("This letter is not what it seems.", checks=checks))
    assert [check["passed"] for check in found["checks"]] == [True, False]
    assert found["exit_code"] == 3


def test_path_invalid_is_a_check():
    assert issubclass(PathInvalid, PkiError)


def test_a_command_that_does_not_exist_is_usage(tmp_path: Path):
    result = smr("no-such-command", "--json", home=tmp_path)
    assert result.returncode == ExitCode.USAGE
    assert json.loads(result.stdout)["error"]["code"] == "usage"


@pytest.mark.parametrize("arguments", [["new"], ["list"], ["status", "k7d2"], ["session", "show"], ["register"]])
def test_a_home_that_is_not_set_up_says_what_to_do(arguments, tmp_path: Path):
    result = smr_at_hand(*arguments, home=tmp_path / "none")
    assert result.returncode == ExitCode.FAILED
    assert "smr init" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "none").exists()


def test_json_may_stand_before_or_after_the_command(tmp_path: Path):
    for arguments in (["--json", "new"], ["new", "--json"]):
        result = smr_at_hand(*arguments, home=tmp_path)
        assert json.loads(result.stdout)["error"]["code"] == "local-state"
        assert result.stderr == ""


def test_home_may_be_named_by_an_option(tmp_path: Path):
    result = smr("new", "--home", str(tmp_path / "here"), home=tmp_path / "there")
    assert str(tmp_path / "here") in result.stderr


def test_init_needs_the_fingerprint_without_a_terminal(tmp_path: Path):
    (tmp_path / "descriptor").write_bytes(b"x")
    result = smr("init", "--descriptor", str(tmp_path / "descriptor"), home=tmp_path / "home")
    assert result.returncode == ExitCode.USAGE
    assert "--root-fingerprint" in result.stderr


def test_init_refuses_a_descriptor_that_is_none(tmp_path: Path):
    (tmp_path / "descriptor").write_bytes(b"x" * 100)
    result = smr(
        "init", "--descriptor", str(tmp_path / "descriptor"), "--root-fingerprint", "00" * 32, home=tmp_path / "home"
    )
    assert result.returncode == ExitCode.CHECK_FAILED
    assert not (tmp_path / "home" / "pin.json").exists()


def test_a_missing_file_is_not_found(tmp_path: Path):
    result = smr("init", "--descriptor", "none", "--root-fingerprint", "00" * 32, home=tmp_path, SMR_PIN_FILE="none")
    assert result.returncode == ExitCode.NOT_FOUND


def test_no_command_takes_a_secret_as_an_argument(tmp_path: Path):
    for command in ("init", "register", "send", "read", "session open", "key backup", "key passphrase"):
        result = smr_at_hand(*command.split(), "--help", home=tmp_path)
        assert result.returncode == ExitCode.OK
        assert "--pin" not in result.stdout
        assert "--passphrase" not in result.stdout


def test_the_trace_comes_only_when_asked_for(tmp_path: Path):
    assert "Traceback" not in smr("new", home=tmp_path).stderr
    assert "Traceback" in smr("new", "--verbose", home=tmp_path).stderr
