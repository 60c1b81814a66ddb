"""Everything that the client raises, in one tree.

    ClientError                     exit 1
    ├── Usage                       exit 2   what was asked cannot be done as it was asked
    │   ├── Ambiguous                        a name or a prefix that means several
    │   └── TooLarge                         a named limit is passed; nothing was sent
    ├── CheckFailed                 exit 3   a check of a letter, record, reply or certificate refused
    │   └── MailboxAlarm                     the repository's mailbox contradicts what it signed before
    ├── NotAllowed                  exit 4   the repository, or this home, does not let this citizen do it
    ├── NotFound                    exit 5   no such person, letter or file
    ├── Unreachable                 exit 6   no broker, no repository, or no answer in time; nothing is lost
    │   └── LetterKept                       a letter is signed and kept; the next command sends it
    ├── Stopped                     exit 1   the person stopped it while something was awaited
    ├── CardProblem                 exit 7   card, reader, driver or PIN
    └── LocalState                  exit 1   this home's own files: missing, locked, damaged
        └── WrongPassphrase

Rules: a message says what happened, why it matters and what to do next, one sentence each. Exceptions of the rooms
below never reach a caller of `api`: `boundary` turns them into this family, with the original as `__cause__`. No
message holds a PIN, a passphrase or a key.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from broker_config.errors import BrokerError
from crypto_core import errors as protocol
from crypto_core.commands import ErrorCode, RefusedByRepository
from evidence_package.errors import PackageRefused
from pki import errors as pki


class ExitCode(enum.IntEnum):
    """What `smr` ends with."""

    OK = 0  #: done
    FAILED = 1  #: anything that no other code names
    USAGE = 2  #: what was asked cannot be done as it was asked
    CHECK_FAILED = 3  #: a check of a letter, record, reply or certificate refused
    NOT_ALLOWED = 4  #: the repository or this home does not let this citizen do it
    NOT_FOUND = 5  #: no such person, letter or file
    UNREACHABLE = 6  #: no broker or repository, or no answer in time
    CARD = 7  #: card, reader, driver or PIN


@dataclass(frozen=True, slots=True)
class Check:
    """One named check: whether it held, what that means to a person, and the technical reason where it did not."""

    name: str
    passed: bool
    meaning: str
    reason: str = ""


class ClientError(Exception):
    """Base of the family: `what` happened, `why` it matters, what to do next (`action`)."""

    code = "failed"
    exit_code = ExitCode.FAILED

    def __init__(self, what: str, why: str = "", action: str = "") -> None:
        super().__init__(" ".join(part for part in (what, why, action) if part))
        self.what = what
        self.why = why
        self.action = action


class Usage(ClientError):
    """What was asked cannot be done as it was asked."""

    code = "usage"
    exit_code = ExitCode.USAGE


class Ambiguous(Usage):
    """A name or a prefix that means several. `candidates` are the full forms."""

    code = "ambiguous"

    def __init__(self, what: str, why: str = "", action: str = "", *, candidates: tuple[str, ...] = ()) -> None:
        super().__init__(what, why, action)
        self.candidates = candidates


class TooLarge(Usage):
    """A named limit is passed; nothing was sent."""

    code = "too-large"


class CheckFailed(ClientError):
    """A check refused. `checks` are all that were made, in order, where there are several."""

    code = "check-failed"
    exit_code = ExitCode.CHECK_FAILED

    def __init__(self, what: str, why: str = "", action: str = "", *, checks: tuple[Check, ...] = ()) -> None:
        super().__init__(what, why, action)
        self.checks = checks


class MailboxAlarm(CheckFailed):
    """The mailbox that the repository shows contradicts what it signed before. `evidence` names the file with both."""

    code = "mailbox-alarm"

    def __init__(self, what: str, why: str = "", action: str = "", *, evidence: str = "") -> None:
        super().__init__(what, why, action)
        self.evidence = evidence


class NotAllowed(ClientError):
    """The repository, or this home, does not let this citizen do it."""

    code = "not-allowed"
    exit_code = ExitCode.NOT_ALLOWED


class NotFound(ClientError):
    """No such person, letter or file."""

    code = "not-found"
    exit_code = ExitCode.NOT_FOUND


class Unreachable(ClientError):
    """No broker, no repository, or no answer in time. Nothing is lost."""

    code = "unreachable"
    exit_code = ExitCode.UNREACHABLE


class LetterKept(Unreachable):
    """A letter is signed, sealed and in the outbox, without an answer yet: to write it again would send it twice."""


class Stopped(ClientError):
    """The person stopped it while something was awaited."""

    code = "stopped"

    def __init__(self) -> None:
        super().__init__("Stopped.", "What was begun is kept.", "The same command goes on from there.")


class CardProblem(ClientError):
    """Card, reader, driver or PIN."""

    code = "card"
    exit_code = ExitCode.CARD


class LocalState(ClientError):
    """This home's own files: missing, locked, damaged."""

    code = "local-state"


class WrongPassphrase(LocalState):
    """The keystore does not open under this passphrase."""

    code = "wrong-passphrase"


_REFUSALS: Final[dict[ErrorCode, tuple[type[ClientError], str]]] = {
    ErrorCode.MALFORMED: (ClientError, "The two programs may be of different versions: bring this one up to date."),
    ErrorCode.TOO_LARGE: (TooLarge, "Send less at once."),
    ErrorCode.CLOCK: (ClientError, "Set this machine's clock and try again."),
    ErrorCode.COUNTER_USED: (ClientError, "Open a new session: smr session close, then the command again."),
    ErrorCode.LOGIN_NEEDED: (NotAllowed, "Open a session with your card: smr session close, then the command again."),
    ErrorCode.NOT_ALLOWED: (NotAllowed, ""),
    ErrorCode.NOT_FOUND: (NotFound, ""),
    ErrorCode.CONFLICT: (NotAllowed, "What the repository has already stands; nothing was replaced."),
    ErrorCode.CERTIFICATE: (CheckFailed, "See what is wrong with the card: smr card."),
    ErrorCode.SIGNATURE: (CheckFailed, "See whether the right card is in the reader: smr card."),
    ErrorCode.TOO_MANY: (Unreachable, "Wait a minute and try again."),
    ErrorCode.UNAVAILABLE: (Unreachable, "Nothing is lost: try again in a moment."),
}


def refusal(error: RefusedByRepository, why: str = "") -> ClientError:
    """The client's error for a signed refusal of the repository; `why` it matters."""
    kind, action = _REFUSALS[error.code]
    return kind(f"The repository refused: {safe_line(str(error))}", why, action)


def safe_line(text: str) -> str:
    """A text of a peer as one line without control or direction characters."""
    return "".join(character if character.isprintable() else " " for character in text).strip()


def damaged(error: protocol.ProtocolError) -> ClientError:
    """The client's error for a protocol refusal that nothing nearer to the cause has explained."""
    if isinstance(error, RefusedByRepository):
        return refusal(error)
    if isinstance(error, protocol.WrongPassphrase):
        return WrongPassphrase(
            "The keystore does not open.",
            "The passphrase is another one, or the file was changed.",
            "Try again, or restore a backup: smr key restore.",
        )
    if isinstance(error, protocol.LimitExceeded):
        return TooLarge(f"A limit is passed: {error}.", "Nothing was sent.", "Send less at once.")
    if isinstance(error, protocol.OutOfTime):
        return CheckFailed(f"Something is out of its time: {error}.", "It may be a replay.", "Check the clock.")
    return CheckFailed(
        "Something that came from the repository is not what it should be.",
        f"It was refused before it was used: {error}.",
        "Try again; if it goes on, tell the operator, and do not rely on this repository.",
    )


def card_or_check(error: pki.PkiError) -> ClientError:
    """The client's error for a refusal of the room `pki`."""
    if isinstance(error, pki.CardError):
        return CardProblem(error.what, error.why, error.action)
    if isinstance(error, pki.TrustStoreError):
        return LocalState(error.what, error.why, error.action)
    return CheckFailed(error.what, error.why, error.action)


@contextmanager
def boundary() -> Iterator[None]:
    """Turns what the rooms below raise into this family."""
    try:
        yield
    except protocol.ProtocolError as error:
        raise damaged(error) from error
    except pki.PkiError as error:
        raise card_or_check(error) from error
    except PackageRefused as error:
        raise CheckFailed(f"The evidence package cannot be made: {error}.") from error
    except BrokerError as error:
        raise Unreachable(f"The broker cannot be used: {error}.") from error
    except OSError as error:
        raise LocalState(
            f"A file of this machine could not be used: {error.strerror or error} ({error.filename or 'no file'}).",
            "What was not written yet was not sent either.",
            "Check the disk and the permissions, then repeat the command.",
        ) from error
