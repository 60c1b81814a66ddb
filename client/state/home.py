"""Where things lie in the home of one installation, which serves one repository and one citizen.

HOME/keystore.cose       app key, sealing keys and broker account, under the passphrase
HOME/descriptor.cose     the repository's current descriptor
HOME/pin.json            the operator root that was approved: its presence means that `init` has ended
HOME/identity.json       whose home this is, from the first registration or login on
HOME/renewals.json       which cards were renewed by which, of this citizen and of others, as verified here
HOME/people.json         whom this citizen confirmed, and the highest registration seen of everybody
HOME/session.cose        the kept session, sealed under a key that lies in memory only
HOME/chain/              the citizen's own mailbox: entry hashes and the highest signed head
HOME/counters/           the last counter used in each session
HOME/outbox/             envelopes that were not answered yet
HOME/uploads/            attachments whose letters were not sent yet
HOME/sent/, HOME/opened/ acceptances of letters sent, and letters opened here
HOME/refused/            letters that the repository did not take, and why
HOME/signed-for/         what was chosen about letters that open against a signature, with the released shares
HOME/slip-proofs/        slips whose shares opened nothing: proof against their senders
HOME/alarms/             contradicting signed statements: proof against the repository
HOME/trust/              the state's roots (another folder can be named)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from client.errors import LocalState, NotAllowed
from client.state import files
from crypto_core import limits
from crypto_core.ids import MomentField, UserId, UserIdField
from crypto_core.schema import Size


@dataclass(frozen=True, slots=True)
class _Identity:
    user: UserIdField


@dataclass(frozen=True, slots=True)
class Alarm:
    """Two things that the repository showed and that cannot both be true: heads or placements, as it signed them.

    `descriptor` is the one that was current when it was raised, and empty in a home without a pin.
    """

    what: str
    raised: MomentField
    mailbox: UserIdField
    descriptor: Annotated[bytes, Size(0, limits.HANDSHAKE_BYTES)]
    seen: Annotated[bytes, Size(0, limits.PLACEMENT_BYTES)]
    shown: Annotated[bytes, Size(0, limits.PLACEMENT_BYTES)]


class Home:
    """The folder of one installation. Makes nothing until something is written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def keystore(self) -> Path:
        return self.path / "keystore.cose"

    @property
    def pin(self) -> Path:
        return self.path / "pin.json"

    @property
    def people(self) -> Path:
        return self.path / "people.json"

    @property
    def renewals(self) -> Path:
        return self.path / "renewals.json"

    @property
    def session(self) -> Path:
        return self.path / "session.cose"

    @property
    def trust(self) -> Path:
        return self.path / "trust"

    @property
    def outbox(self) -> Path:
        return self.path / "outbox"

    @property
    def uploads(self) -> Path:
        return self.path / "uploads"

    @property
    def counters(self) -> Path:
        return self.path / "counters"

    @property
    def sent(self) -> Path:
        return self.path / "sent"

    @property
    def refused(self) -> Path:
        return self.path / "refused"

    @property
    def opened(self) -> Path:
        return self.path / "opened"

    @property
    def signed_for(self) -> Path:
        return self.path / "signed-for"

    @property
    def slip_proofs(self) -> Path:
        return self.path / "slip-proofs"

    @property
    def alarms(self) -> Path:
        return self.path / "alarms"

    def chain(self, user: UserId) -> Path:
        return self.path / "chain" / user.hex()

    @contextmanager
    def lock(self, name: str, seconds: float = files.LOCK_SECONDS) -> Iterator[None]:
        """Holds the home's lock of this name. Raises LocalState when another process keeps it."""
        with files.lock(self.path / "locks" / name, seconds):
            yield

    def require_ready(self) -> None:
        """Raises LocalState unless `init` has set this home up."""
        if not self.pin.exists():
            raise LocalState(
                f"There is no installation in {self.path}.",
                "Keys and a repository are needed before anything else.",
                "Set it up: smr init --descriptor FILE.",
            )

    def owner(self) -> UserId | None:
        """Whose home this is; None before the first registration or login."""
        found = files.load_document(self._identity, _Identity)
        return found.user if found else None

    def claim(self, user: UserId) -> None:
        """Makes this home `user`'s. Raises NotAllowed when it is another citizen's."""
        with self.lock("identity"):
            owner = self.owner()
            if owner is None:
                files.save_document(self._identity, _Identity(user))
            elif owner != user:
                raise NotAllowed(
                    f"This home belongs to the citizen {owner.hex()}, and the card in the reader to {user.hex()}.",
                    "Mixing their keys and mailboxes would lose letters of both.",
                    "Use the owner's card, or another home: smr --home DIR. If your card was renewed: smr renew.",
                )

    def pass_on(self, former: UserId, current: UserId) -> None:
        """Makes this home, which is `former`'s, that of the card which renews it. Raises NotAllowed for another's."""
        with self.lock("identity"):
            if self.owner() not in (None, former, current):
                raise NotAllowed(
                    "This home belongs to another citizen than the one whose card was renewed.",
                    "Mixing their keys and mailboxes would lose letters of both.",
                    "Use the home of that citizen: smr --home DIR.",
                )
            files.save_document(self._identity, _Identity(current))

    def raise_alarm(self, alarm: Alarm, name: str) -> Path:
        """Keeps the evidence of a contradiction and says where."""
        path = self.alarms / f"{name}.json"
        files.save_document(path, alarm)
        return path

    @property
    def _identity(self) -> Path:
        return self.path / "identity.json"
