"""Which cards were renewed, as far as it was verified here: of this citizen, and of people who were looked up.

A renewal is never undone and never replaced: a repository that later shows none, or another, is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from client.errors import CheckFailed
from client.state import files
from client.state.home import Home
from client.state.people import NAME_BYTES, PEOPLE
from crypto_core import limits
from crypto_core.ids import MomentField, UserId, UserIdField
from crypto_core.schema import Size


@dataclass(frozen=True, slots=True)
class KnownRenewal:
    """`current` renews `former`; the name is that in the new card, the time that of the renewal document."""

    former: UserIdField
    current: UserIdField
    name: Annotated[str, Size(1, NAME_BYTES)]
    both_cards: bool
    time: MomentField


@dataclass(frozen=True, slots=True)
class _Renewals:
    renewals: Annotated[tuple[KnownRenewal, ...], Size(0, PEOPLE)]


class Renewals:
    """The renewals that one home knows. Every change is read, made and written under a lock."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def all(self) -> dict[UserId, KnownRenewal]:
        """By the former card."""
        found = files.load_document(self._home.renewals, _Renewals)
        return {each.former: each for each in found.renewals} if found else {}

    def note(self, renewal: KnownRenewal) -> None:
        """Remembers a verified renewal. Raises CheckFailed when another card was seen to renew the same one."""
        with self._home.lock("renewals"):
            known = self.all()
            before = known.get(renewal.former)
            if before is not None and before.current != renewal.current:
                raise CheckFailed(
                    f"The repository shows another card of {before.name} than the one that it showed before.",
                    "A card is renewed once: letters could go to somebody who is not this person.",
                    "Do not write to this person before they have told you the id of their card in another way.",
                )
            if before == renewal:
                return
            known[renewal.former] = renewal
            files.save_document(self._home.renewals, _Renewals(tuple(known[user] for user in sorted(known))))

    def newest(self, user: UserId) -> UserId:
        """The last known card in the line of this one; itself where no renewal is known."""
        known = self.all()
        for _ in range(limits.RENEWALS):
            if user not in known:
                break
            user = known[user].current
        return user

    def former(self, user: UserId) -> tuple[UserId, ...]:
        """The earlier cards of this one's citizen, the last one first."""
        by_current = {each.current: each.former for each in self.all().values()}
        found: list[UserId] = []
        while user in by_current and len(found) < limits.RENEWALS:
            user = by_current[user]
            found.append(user)
        return tuple(found)
