"""people and confirm: LIST. Everybody who is shown was verified here; a name is used only after confirming it once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from client import identity, naming, renewals, session
from client.context import Context
from client.errors import CheckFailed, ClientError, NotAllowed, safe_line
from client.identity import VerifiedPerson
from client.state.people import KnownPerson, comparable
from client.state.session import LiveSession
from crypto_core import commands, limits
from crypto_core.commands import Person
from crypto_core.errors import ProtocolError
from crypto_core.ids import UserId
from crypto_core.moments import to_datetime
from pki.errors import PkiError


@dataclass(frozen=True, slots=True)
class FormerCard:
    """An earlier card of the same citizen, as its renewal was verified. `confirmed`: its name was used here."""

    user: UserId
    name: str
    confirmed: bool
    registered: datetime
    renewed: datetime
    both_cards: bool


@dataclass(frozen=True, slots=True)
class FoundPerson:
    """One record, verified or with the reason why not. The certificate's details are there when it was verified."""

    user: UserId
    verified: bool
    confirmed: bool
    reason: str = ""
    name: str = ""
    civil_number: str = ""
    issuer: str = ""
    valid_until: datetime | None = None
    key_kind: str = ""
    revision: int = 0
    registered: datetime | None = None
    signs_with_signature_key: bool = False
    former: tuple[FormerCard, ...] = ()


def people(context: Context, query: str = "") -> tuple[FoundPerson, ...]:
    """The people whose name contains `query`, or the one whose exact id it is. Needs a login."""
    live = session.require(context)
    confirmed = {user for user, known in context.people.all().items() if known.confirmed}
    try:
        user: UserId | None = naming.parse_user(query)
    except ClientError:
        user = None
    if user is not None:
        return (_found(identity.look_up(context, live, user), confirmed=user in confirmed),)
    found: list[FoundPerson] = []
    after: UserId | None = None
    while True:
        page = context.call(live, commands.List(user=None, query=query or None, history=False, after=after))
        found += [_judge(context, person, confirmed=person.user in confirmed) for person in page.people]
        following: UserId | None = page.next
        if following is None:
            return tuple(found)
        if len(page.people) > limits.LIST_PAGE or (after is not None and following <= after):
            raise CheckFailed("The repository's list of people does not come to an end.", "It was not used.")
        after = following


def known(context: Context) -> tuple[KnownPerson, ...]:
    """Everybody whose record was verified here once, by name. Asks nobody."""
    return tuple(sorted(context.people.all().values(), key=lambda each: (comparable(each.name), each.user)))


def confirm(context: Context, text: str, approve: Callable[[FoundPerson], bool]) -> FoundPerson:
    """Shows the certificate's details to `approve`; if it agrees, the name can be used from now on."""
    user = naming.parse_user(text)
    live = session.require(context)
    person = renewals.require_current(context, live, user)
    shown = _with_former(context, live, person, confirmed=False)
    if not approve(shown):
        raise NotAllowed(
            f"{shown.name} was not confirmed.",
            "Their name cannot be used to address letters.",
            "Ask the person for their id, compare, and confirm again.",
        )
    context.people.confirm(user)
    context.people.retire([each.user for each in shown.former])
    return replace(shown, confirmed=True)


def history(context: Context, text: str) -> FoundPerson:
    """A person with all earlier cards, each renewal verified here. `text`: an exact id or a confirmed name."""
    user = naming.find_person(context.people, text)
    live = session.require(context)
    person = renewals.look_up_newest(context, live, user)
    known = context.people.all().get(person.user)
    return _with_former(context, live, person, confirmed=known is not None and known.confirmed)


def _with_former(context: Context, live: LiveSession, person: VerifiedPerson, *, confirmed: bool) -> FoundPerson:
    known = context.people.all()
    former = tuple(
        FormerCard(
            user=each.former.user,
            name=each.former.name,
            confirmed=each.former.user in known and known[each.former.user].confirmed,
            registered=to_datetime(each.former.accepted),
            renewed=to_datetime(each.time),
            both_cards=each.both_cards,
        )
        for each in renewals.history(context, live, person)
    )
    return replace(_found(person, confirmed=confirmed), former=former)


def _judge(context: Context, person: Person, *, confirmed: bool) -> FoundPerson:
    try:
        return _found(identity.verify_current(context, person), confirmed=confirmed)
    except (ProtocolError, PkiError, CheckFailed) as error:
        return FoundPerson(person.user, verified=False, confirmed=confirmed, reason=safe_line(str(error)))


def _found(person: VerifiedPerson, *, confirmed: bool) -> FoundPerson:
    summary = person.summary
    return FoundPerson(
        user=person.user,
        verified=True,
        confirmed=confirmed,
        name=person.name,
        civil_number=person.civil_number,
        issuer=summary.issuer,
        valid_until=summary.not_after,
        key_kind=summary.key_kind,
        revision=person.registration.revision,
        registered=to_datetime(person.accepted),
        signs_with_signature_key=person.signature is not None,
    )
