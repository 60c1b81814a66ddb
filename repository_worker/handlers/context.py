"""What every handler is given and gives back.

    handle(command, caller, view, context) → Decision(effect, reply)

`caller` says who asks: nothing in a command does. `view` reads what is stored. A handler decides; the pipeline has the
effect stored, and only then calls `reply` with what stands, so that a repeated command gets an equivalent reply.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from crypto_core import mailbox as chain
from crypto_core.commands import ErrorCode
from crypto_core.ids import Milliseconds, RepositoryId, SessionId, UserId
from crypto_core.keys import SigningKey
from crypto_core.session import DEFAULT_LIMITS, SessionLimits
from pki.evidence import EvidenceSigner
from repository_worker.effects import Effect, Outcome, Placed
from repository_worker.errors import Refused
from repository_worker.identities import Identities
from repository_worker.stamper import Stamper
from repository_worker.storage.interface import MailboxState, Rates


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose session this is; `user` is absent in a session without a login. `reply_queue`: where the reply goes."""

    session: SessionId
    user: UserId | None
    reply_queue: str = ""

    def citizen(self) -> UserId:
        """The citizen. Raises Refused in a session without a login."""
        if self.user is None:
            raise Refused(
                ErrorCode.LOGIN_NEEDED,
                "This session has no citizen; without one you can only register and look up one id. "
                "Open a session with your card.",
            )
        return self.user


@dataclass(frozen=True, slots=True)
class Context:
    """The repository as handlers know it. `now`: milliseconds, read once for each command.

    `share_secret` (32 bytes) seals second shares for the database.
    """

    repository: RepositoryId
    now: Milliseconds
    identities: Identities
    rates: Rates
    signing: SigningKey = field(repr=False)
    share_secret: bytes = field(repr=False)
    limits: SessionLimits = DEFAULT_LIMITS
    evidence: EvidenceSigner | None = field(default=None, repr=False)  #: None where the operator has made no key yet
    stamper: Stamper | None = field(default=None, repr=False)  #: None where no time-stamp authority was chosen

    def sign_head(self, mailbox: UserId, state: MailboxState) -> bytes:
        """The repository's word that the mailbox ends there now."""
        return chain.sign_head(self.signing, chain.Head(self.repository, mailbox, state.number, state.hash, self.now))

    def sign_placement(self, entries: Sequence[Placed]) -> bytes:
        """The repository's word where these entries of one object lie, in their order."""
        places = tuple(chain.Place(each.mailbox, each.entry.number, each.hash) for each in entries)
        return chain.sign_placement(self.signing, chain.Placement(self.repository, places, self.now))


@dataclass(frozen=True, slots=True)
class Decision:
    """The effect to store (none: nothing changes), and the result from what stands afterwards."""

    effect: Effect | None
    reply: Callable[[Outcome], Any]

    @classmethod
    def answer(cls, result: Any) -> Decision:
        """A command without an effect."""
        return cls(None, lambda _: result)
