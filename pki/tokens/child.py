"""The parent's end of a card process: start it, ask it, bound every wait, end it.

Why a process: PyKCS11 holds the interpreter lock during every call, and a real card opens its PIN dialog inside
`C_Sign`; in the program's own process that would stop its other threads (broker heartbeats among them) for as long as
a person needs to type. It also gives every card its own environment (SoftHSM reads `SOFTHSM2_CONF` when it is loaded)
and its own PKCS#11 session.

Rules: the PIN goes through the pipe, never through an argument or the environment; every wait has a limit; a process
that misses it is ended; when the parent goes, the pipe closes and the child ends by itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pki.errors import (
    CardError,
    CardRemoved,
    CertificateMissing,
    NoCard,
    NoMechanism,
    NoModule,
    PinCancelled,
    PinLocked,
    PinRequired,
    SeveralCards,
    SigningFailed,
    WrongPin,
)
from pki.tokens.wire import Message, WireClosed, read_frame, write_frame

OPEN_TIMEOUT_SECONDS: Final = 60.0  #: loading a driver and reading a card's certificates
SIGN_TIMEOUT_SECONDS: Final = 180.0  #: a person looks for the reader and types a PIN
PROVISION_TIMEOUT_SECONDS: Final = 180.0  #: two RSA-3072 keys on a slow machine
CLOSE_TIMEOUT_SECONDS: Final = 5.0  #: a driver that does not let go of its card by then is ended

_PROJECT_ROOT: Final = Path(__file__).resolve().parents[2]


class TokenChild:
    """One child process that runs `module`. Thread-safe: one request at a time."""

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        try:
            # -P: the current folder is not on the import path, so that a `pki/` lying in it is not run by mistake.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(environment),
                # Ctrl-C goes to a terminal's whole process group: the parent decides when the card lets go.
                start_new_session=True,
            )
        except OSError as error:
            raise SigningFailed(
                "The card process could not be started.",
                "Nothing can be read from or signed by a card without it.",
                "Check that the program is installed completely.",
            ) from error

    @property
    def pid(self) -> int:
        """The process id of the child."""
        return self._process.pid

    def request(self, message: Message, timeout_seconds: float) -> Message:
        """Ask, wait for the answer. Raises the CardError that the answer names; SigningFailed when there is none."""
        with self._lock:
            answer = self._exchange(message, timeout_seconds)
        if "error" in answer:
            raise _card_error(str(answer["error"]), str(answer.get("detail", "")))
        result = answer.get("ok")
        if not isinstance(result, dict):
            raise _gone("The card process gave an answer of the wrong form.")
        return result

    def _exchange(self, message: Message, timeout_seconds: float) -> Message:
        process = self._process
        if process.stdin is None or process.stdout is None or process.stdin.closed:
            raise _gone("The card is closed.")
        # The watchdog ends the child, which closes the pipe, which ends the read: no wait is without a limit.
        expired = threading.Event()

        def end() -> None:
            expired.set()
            process.kill()

        watchdog = threading.Timer(timeout_seconds, end)
        watchdog.daemon = True
        watchdog.start()
        try:
            write_frame(process.stdin, message)
            return read_frame(process.stdout)
        except WireClosed as error:
            if expired.is_set():
                raise _gone(f"The card did not answer within {timeout_seconds:.0f} seconds.") from error
            raise _gone("The card process ended unexpectedly.") from error
        except BaseException:
            # Ctrl-C while a person looks for the PIN: the dialog goes with the process, and a late answer can never be
            # taken for that to another request.
            process.kill()
            raise
        finally:
            watchdog.cancel()

    def stop(self) -> None:
        """End the process while a request is under way, which then raises SigningFailed. Safe from any thread."""
        self._process.kill()

    def close(self) -> None:
        """Close the pipe and wait for the child to end. Safe to call twice."""
        with self._lock:
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    _close_quietly(stream)
            try:
                self._process.wait(CLOSE_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(CLOSE_TIMEOUT_SECONDS)


def _close_quietly(stream: object) -> None:
    try:
        stream.close()  # type: ignore[attr-defined]
    except OSError:
        return  # a child that is gone already leaves a broken pipe behind: nothing is lost


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    environment = {**os.environ, **extra}
    search = [str(_PROJECT_ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(search)
    return environment


def _gone(what: str) -> SigningFailed:
    return SigningFailed(what, "Nothing was signed.", "Check the card and its reader, then try again.")


def _card_error(code: str, detail: str) -> CardError:
    kind, what, why, action = _MESSAGES.get(code, _MESSAGES["FAILED"])
    reason = f" ({detail})" if detail else ""
    if kind is WrongPin:
        return WrongPin(what, why, action, final_try=True if code == "WRONG_PIN_FINAL_TRY" else None)
    return kind(what.format(reason=reason), why, action)


#: For each code of the card process: the error, what happened, why it matters, what to do next.
_MESSAGES: Final[dict[str, tuple[type[CardError], str, str, str]]] = {
    "NO_MODULE": (
        NoModule,
        "The card's PKCS#11 module could not be loaded{reason}.",
        "Without it no card can be read.",
        "Install the Citizen Card middleware (or softhsm2 for virtual cards), or name the module's file.",
    ),
    "NO_READER": (
        NoCard,
        "No card reader was found.",
        "Your card is what says who you are.",
        "Connect the reader, wait a moment and try again; pcscd must be running.",
    ),
    "NO_CARD": (
        NoCard,
        "No card was found in any reader{reason}.",
        "Your card is what says who you are.",
        "Insert the card and try again.",
    ),
    "OTHER_CARD": (
        NoCard,
        "The card that you named is not in any reader{reason}.",
        "Nothing was done with a card that you did not mean.",
        "Insert the right card, or name one of these: smr --card LABEL or --slot N.",
    ),
    "SEVERAL_CARDS": (
        SeveralCards,
        "There are several cards{reason}.",
        "It is unclear which one is yours.",
        "Take the others out, or name one: smr --card LABEL or --slot N.",
    ),
    "WRONG_PIN": (
        WrongPin,
        "The card refused the PIN.",
        "A few wrong PINs in a row lock it.",
        "Check the PIN and try again.",
    ),
    "WRONG_PIN_FINAL_TRY": (
        WrongPin,
        "The card refused the PIN, and one try is left.",
        "One more wrong PIN locks it.",
        "Look the PIN up before you try again.",
    ),
    "PIN_LOCKED": (
        PinLocked,
        "The card's PIN is locked.",
        "The card signs nothing until it is unblocked.",
        "Unblock it with its PUK or at a citizen service desk.",
    ),
    "PIN_NOT_SET": (
        PinLocked,
        "The card's PIN was never set, or has run out.",
        "The card signs nothing until it has a PIN.",
        "Set one with the card's own program or at a citizen service desk.",
    ),
    "PIN_CANCELLED": (
        PinCancelled,
        "The PIN dialog was closed without a PIN, or waited too long.",
        "Nothing was signed.",
        "Repeat the command, and enter the PIN when the reader or its window asks.",
    ),
    "NOT_LOGGED_IN": (
        PinRequired,
        "The card signs nothing without its PIN, and its driver did not ask for it.",
        "Nothing was signed.",
        "Take the card out, insert it again and repeat the command.",
    ),
    "CARD_REMOVED": (
        CardRemoved,
        "The card was removed.",
        "Nothing was signed.",
        "Insert it again and repeat the command.",
    ),
    "KEY_MISSING": (
        CertificateMissing,
        "The card has no such key{reason}.",
        "It cannot sign for this purpose.",
        "Activate the card's signature, or use another card.",
    ),
    "NO_MECHANISM": (
        NoMechanism,
        "The card offers no way of signing with SHA-256 that is accepted here{reason}.",
        "A signature that others refuse would help nobody.",
        "Use a newer card, or bring its driver up to date.",
    ),
    "FAILED": (
        SigningFailed,
        "The card could not do it{reason}.",
        "Nothing was signed.",
        "Take the card out, insert it again and repeat the command.",
    ),
}
