"""doctor: looks this installation over and says, line by line, what is well, what is not, and what to do.

Rules: it changes nothing at the repository and nothing that anybody signed; it needs no PIN, and the passphrase only
where no session is open. It goes on after each failure; what depends on it is left out. Secrets never appear.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from client import session
from client.commands import card
from client.commands.card import CardKey, CardReport
from client.context import Context
from client.errors import ClientError, NotAllowed, Unreachable, boundary
from client.state import pin
from client.state.keystore import BrokerAccount
from crypto_core import commands, limits
from crypto_core.descriptor import Descriptor, SignedDescriptor
from crypto_core.ids import Milliseconds
from crypto_core.keys import SigningKey
from crypto_core.moments import to_datetime
from pki.crls import read_crl
from pki.errors import PkiError
from pki.identity import display_name
from pki.trust_store import TrustStore

#: A descriptor, a root or a card that ends sooner than this is worth a word today.
EXPIRY_WARNING: Final = timedelta(days=30)
#: Clocks further apart than this are reported; the protocol bears `limits.CLOCK_SKEW_MS`. Milliseconds.
CLOCK_MS: Final = 30_000
_PATHS_SHOWN: Final = 3
_ALL: Final = 0o077
_WRITE: Final = 0o022


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, whether it is well, what was seen, and what to do if it is not."""

    check: str
    ok: bool
    detail: str
    action: str = ""


def examine(context: Context) -> tuple[Finding, ...]:
    """Everything, in the order in which one would mend it. Raises nothing of what it looks for."""
    return _Examination(context).findings()


class _Examination:
    """One look at everything. Each method adds its lines."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._found: list[Finding] = []

    def findings(self) -> tuple[Finding, ...]:
        ready = self._home()
        self._cards()
        self._trust()  # after the cards, whose lists are fetched while they are judged
        if ready:
            self._descriptor()
            self._repository()
            self._left_over()
        return tuple(self._found)

    # --- this machine -------------------------------------------------------------------------------------------------

    def _home(self) -> bool:
        home = self._context.home
        ready = home.pin.exists() and home.keystore.exists()
        self._note(
            "installation",
            ready,
            str(home.path),
            "Set it up: smr init --descriptor FILE; or name the right folder: smr --home DIR.",
        )
        if home.path.exists():
            self._modes()
        return ready

    def _modes(self) -> None:
        """What others could read or change. The trust store is public, but nobody else may write to it."""
        home = self._context.home
        trust = self._context.settings.trust_store or home.trust
        loose = [
            path
            for path in (home.path, *home.path.rglob("*"))
            if (path == home.path or path.is_file())
            and _rights_of_others(path) & (_WRITE if path.is_relative_to(trust) else _ALL)
        ]
        shown = ", ".join(str(path) for path in loose[:_PATHS_SHOWN])
        self._note(
            "home is private",
            not loose,
            f"open to others: {shown}{' …' if len(loose) > _PATHS_SHOWN else ''}" if loose else "nobody else may enter",
            f"chmod -R go= {home.path}",
        )

    def _trust(self) -> None:
        action = "Import them: smr-pki trust import, with the fingerprints that the state publishes."
        with self._check("state roots", action):
            folder = self._context.settings.trust_store or self._context.home.trust
            store, now = TrustStore.open(folder), self._now()
            ending = [each for each in store.roots if each.not_valid_after_utc < now + EXPIRY_WARNING]
            ends = "".join(
                f"; {display_name(each.subject)} ends {each.not_valid_after_utc:%Y-%m-%d}" for each in ending
            )
            self._note("state roots", bool(store.roots) and not ending, f"{len(store.roots)} roots{ends}", action)
            self._lists(store, now)

    def _lists(self, store: TrustStore, now: datetime) -> None:
        """The revocation lists as they lie here; one that is out of date is fetched when it is needed."""
        read = [_crl(path.read_bytes()) for path in sorted(store.crl_folder.glob("*.crl"))]
        lists = [each for each in read if each is not None]  # one that revokes nobody counts as false
        stale = [each for each in lists if (each.next_update_utc or now) <= now]
        early = [each for each in lists if each.last_update_utc > now + timedelta(milliseconds=CLOCK_MS)]
        self._note(
            "revocation lists are current",
            not stale,
            f"{len(lists)} kept, {len(stale)} out of date",
            "Fetch them: smr-pki crl refresh. What they are about cannot be checked while they cannot be had.",
        )
        if early:
            what = f"{len(early)} revocation lists are dated in the future"
            self._note("clock agrees with revocation lists", False, what, "Set this machine's clock (NTP).")

    # --- the card -----------------------------------------------------------------------------------------------------

    def _cards(self) -> None:
        with self._check("card", "Insert your card into a reader, then: smr card."):
            found = card.cards(self._context)
            self._note("card middleware", True, "loads and answers", "")
            if not found.cards:
                self._no_card(len(found.empty_readers))
            owner = self._context.home.owner()
            if owner is not None and found.cards and not any(each.own for each in found.cards):
                self._note(
                    "your card",
                    False,
                    f"none of {len(found.cards)} cards is the one of this home, {owner.hex()[:12]}…",
                    "Insert the card that you registered with; if it was renewed: smr renew.",
                )
            for each in found.cards:
                self._card(each)

    def _no_card(self, readers: int) -> None:
        if readers:
            self._note("card", False, f"{readers} readers, none holds a card", "Insert your card, chip first.")
        else:
            self._note("card", False, "no reader", "Connect a reader; see that its driver and pcscd run.")

    def _card(self, report: CardReport) -> None:
        name = f"card {report.label or report.serial}"
        if report.problem:
            self._note(name, False, report.problem, "See smr card; try another reader, or bring its driver up to date.")
            return
        if report.pin.startswith(card.LOCKED):
            self._note(name, False, f"PIN {report.pin}", "Unblock it before you need it.")
        for key in report.keys:
            self._key(name, key)

    def _key(self, name: str, key: CardKey) -> None:
        now, until = self._now(), f"until {key.valid_until:%Y-%m-%d}"
        if now > key.valid_until:
            action = "Have the card renewed; smr renew then binds the new one to your registration."
            detail = f"expired on {key.valid_until:%Y-%m-%d}"
        elif key.verdict == "valid" and key.valid_until - now < EXPIRY_WARNING:
            action = "It ends soon: have it renewed while both cards can sign, then smr renew."
            detail = until
        else:
            action = "See what is wrong: smr card. Roots that are missing: smr-pki trust import."
            detail = f"{key.verdict}, {until}" + (f": {key.detail}" if key.detail and key.verdict != "valid" else "")
        ok = key.verdict == "valid" and key.valid_until - now >= EXPIRY_WARNING
        self._note(f"{name}, {key.use} key", ok, detail, action)

    # --- the repository -----------------------------------------------------------------------------------------------

    def _descriptor(self) -> None:
        action = "Ask the operator for a current one; see also that this machine's clock is right."
        with self._check("descriptor", action):
            left = to_datetime(self._context.descriptor.expires) - self._now()
            known = self._context.descriptor
            detail = f"epoch {known.epoch}, until {to_datetime(known.expires):%Y-%m-%d}"
            self._note("descriptor", left > EXPIRY_WARNING, detail, action)

    def _repository(self) -> None:
        keys = self._app_key()
        if keys is None:
            return
        asked = self._context.now()
        try:
            with boundary(), self._context.settings.waiting("the repository"):
                current, said = self._ask(*keys)
        except NotAllowed as error:
            self._note("broker lets this installation in", False, error.what, error.action or _ENROL)
            return
        except Unreachable as error:
            self._note("repository answers", False, error.what, "Check the network; if it is well, tell the operator.")
            return
        except ClientError as error:
            self._note("repository answers", False, f"{error.what} {error.why}", error.action)
            return
        self._note("repository answers", True, current.broker.rpartition("@")[2], "")
        self._clock(asked, said)
        self._epoch(current)

    def _app_key(self) -> tuple[SigningKey, BrokerAccount | None] | None:
        """Of the open session, else of the keystore. None, with a line about it, where neither opens."""
        live = self._context.sessions.load()
        if live is not None:
            usable = session.show(self._context) is not None
            self._note("session", True, "open" if usable else "over: the next command opens another one", "")
            return live.app_key, live.account
        try:
            with boundary():
                keys = self._context.unlock()
        except ClientError as error:
            self._note("keystore opens", False, error.what, error.action)
            return None
        self._note("keystore opens", True, f"{len(keys.sealing)} sealing keys", "")
        return keys.app_key, keys.account

    def _ask(self, app_key: SigningKey, account: BrokerAccount | None) -> tuple[Descriptor, Milliseconds]:
        """The descriptor that the repository has now, and its time, which the clock here need not agree with."""
        root = pin.load(self._context.home)[0].operator_root

        def take(signed: SignedDescriptor, said: Milliseconds) -> tuple[Descriptor, Milliseconds]:
            return pin.verify(signed, root, said), said

        return session.ask_descriptor(self._context, app_key, account, take)

    def _clock(self, asked: Milliseconds, said: Milliseconds) -> None:
        apart = max(asked - said, said - self._context.now(), 0)
        self._note(
            "clock agrees with the repository",
            apart <= CLOCK_MS,
            f"{apart / 1000:.0f} s apart" if apart else "to the second",
            f"Set this machine's clock (NTP): more than {limits.CLOCK_SKEW_MS // 1000} s are refused.",
        )

    def _epoch(self, current: Descriptor) -> None:
        known = self._context.descriptor
        behind = current.epoch < known.epoch
        detail = f"epoch {current.epoch}" + (f", and {known.epoch} is known here" if current != known else "")
        action = "It shows an older descriptor than before: tell the operator, and send nothing until it is explained."
        self._note("repository's keys", not behind, detail, action)

    # --- what was begun -----------------------------------------------------------------------------------------------

    def _left_over(self) -> None:
        with self._check("outbox", "Restore the home folder from a backup, or set up a new home."):
            waiting = [commands.name_of(each.command) for each in self._context.outbox.all()]
            self._note(
                "outbox",
                not waiting,
                f"without an answer yet: {', '.join(waiting)}" if waiting else "nothing waits",
                "They are sent again by the next command that reaches the repository: smr new.",
            )
        alarms = sum(1 for _ in self._context.home.alarms.glob("*.json"))
        self._note(
            "no contradictions of the repository",
            not alarms,
            f"{alarms} alarms are kept" if alarms else "none is kept",
            "See what they prove: smr proof. Tell the operator and your correspondents.",
        )

    # --- lines --------------------------------------------------------------------------------------------------------

    def _now(self) -> datetime:
        return to_datetime(self._context.now())

    def _note(self, check: str, ok: bool, detail: str, action: str) -> None:
        self._found.append(Finding(check, ok, detail, "" if ok else action))

    @contextmanager
    def _check(self, check: str, action: str) -> Iterator[None]:
        """A failure inside becomes a line; what depends on it is left out."""
        try:
            with boundary():
                yield
        except ClientError as error:
            self._note(check, False, error.what, error.action or action)


_ENROL: Final = "Ask the operator to enrol this installation, then: smr init --enrolment FILE."


def _rights_of_others(path: os.PathLike[str]) -> int:
    found = os.lstat(path)
    return 0 if stat.S_ISLNK(found.st_mode) else stat.S_IMODE(found.st_mode) & _ALL


def _crl(data: bytes) -> x509.CertificateRevocationList | None:
    try:
        return read_crl(data)
    except PkiError:
        return None
