"""Whom this citizen confirmed, and the highest registration seen of everybody that was ever looked up.

A repository that shows an older registration than one seen before, or another one under the same revision, would make
letters go to a key that somebody else may hold: that is refused.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Annotated, Final

from client.errors import CheckFailed
from client.state import files
from client.state.home import Home
from crypto_core.documents import REVISION_MAX
from crypto_core.ids import Digest, DigestField, UserId, UserIdField
from crypto_core.schema import Range, Size

PEOPLE: Final = 100_000  #: people that one home remembers
NAME_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class KnownPerson:
    """Somebody who was looked up: the name in the certificate, and whether it may be used to address them."""

    user: UserIdField
    name: Annotated[str, Size(1, NAME_BYTES)]
    confirmed: bool
    revision: Annotated[int, Range(1, REVISION_MAX)]
    document: DigestField


@dataclass(frozen=True, slots=True)
class _People:
    people: Annotated[tuple[KnownPerson, ...], Size(0, PEOPLE)]


class People:
    """The people of one home. Every change is read, made and written under a lock."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def all(self) -> dict[UserId, KnownPerson]:
        found = files.load_document(self._home.people, _People)
        return {person.user: person for person in found.people} if found else {}

    def confirmed_as(self, name: str) -> list[KnownPerson]:
        """The confirmed people of this name, compared as people read it: without case and spacing."""
        wanted = comparable(name)
        return [person for person in self.all().values() if person.confirmed and comparable(person.name) == wanted]

    def note(self, user: UserId, name: str, revision: int, document: Digest) -> None:
        """Remembers a verified registration. Raises CheckFailed if a higher or another one was seen before."""
        with self._home.lock("people"):
            people = self.all()
            known = people.get(user)
            if known is not None:
                require_not_older(known, revision, document)
                if (known.revision, known.document) == (revision, document):
                    return
            confirmed = known is not None and known.confirmed
            people[user] = KnownPerson(user, name, confirmed, revision, document)
            self._save(people)

    def confirm(self, user: UserId) -> KnownPerson:
        """From now on the person's name can be used. They must have been noted before."""
        with self._home.lock("people"):
            people = self.all()
            people[user] = replace(people[user], confirmed=True)
            self._save(people)
            return people[user]

    def retire(self, users: Collection[UserId]) -> None:
        """The names of these people no longer address them: their cards were renewed."""
        with self._home.lock("people"):
            people = self.all()
            for user in users:
                if user in people:
                    people[user] = replace(people[user], confirmed=False)
            self._save(people)

    def _save(self, people: dict[UserId, KnownPerson]) -> None:
        files.save_document(self._home.people, _People(tuple(people[user] for user in sorted(people))))


def require_not_older(known: KnownPerson, revision: int, document: Digest) -> None:
    """Raises CheckFailed unless this registration is the one seen last, or a later one."""
    if revision < known.revision or (revision == known.revision and document != known.document):
        raise CheckFailed(
            f"The repository shows an older or altered registration of {known.name}.",
            f"Revision {known.revision} was seen here before; now it shows {revision}. "
            "A letter could be sealed for a key that this person has given up or never had.",
            "Do not write to this person before the operator has explained it.",
        )


def comparable(name: str) -> str:
    """A name in the form in which two are compared."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())
