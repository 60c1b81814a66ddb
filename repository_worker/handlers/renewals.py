"""Renewals: what CREATE checks of one, and what a renewed card means for the other commands.

A card that was renewed keeps its mailbox, to be read with the new card too, and gets nothing new: its citizen writes
and is written to under the new id.
"""

from __future__ import annotations

from collections.abc import Mapping

from crypto_core import documents, limits, moments
from crypto_core.commands import ErrorCode, Person
from crypto_core.documents import Party, Renewal, SignedRenewal
from crypto_core.errors import BindingMismatch, Malformed, OutOfTime
from crypto_core.ids import UserId
from pki import renewal as renewals
from pki.errors import CertificateError, SignatureInvalid
from pki.renewal import RegisteredCard
from repository_worker.errors import Refused
from repository_worker.handlers.context import Context
from repository_worker.identities import read_certificate
from repository_worker.storage.interface import ReadView


def decide(
    asked: SignedRenewal | None, newest: Person | None, person: Person, view: ReadView, context: Context
) -> tuple[SignedRenewal | None, UserId | None]:
    """The renewal that goes with a registration, and whom it renews: the one sent along, else the revision before's.

    Raises Refused.
    """
    kept = newest.renewal if newest else None
    if asked is None:
        return kept, _read(kept, context).former.user if kept else None
    wanted = _read(asked, context)
    if kept is not None and _read(kept, context).former.user != wanted.former.user:
        raise Refused(ErrorCode.CONFLICT, "This card renews another card already; it cannot renew two.")
    former = view.registration(wanted.former.user)
    if former is None:
        raise Refused(ErrorCode.NOT_FOUND, "The former card of the renewal is not registered here; check its id.")
    if view.renewed([former.user]).get(former.user, person.user) != person.user:
        raise Refused(ErrorCode.CONFLICT, "Another card renews that one already.")
    try:
        moments.require_within(wanted.time, context.now, limits.CLOCK_SKEW_MS, "the renewal")
    except OutOfTime as error:
        raise Refused(ErrorCode.CLOCK, f"{error}.") from error
    _require(asked, former, person, context)
    _require_short(former.user, person.user, view, context)
    return asked, former.user


def _read(signed: SignedRenewal, context: Context) -> Renewal:
    try:
        return documents.decode(Renewal, signed.document, context.repository)
    except BindingMismatch as error:
        raise Refused(ErrorCode.NOT_ALLOWED, f"Not a renewal for this repository: {error}.") from error
    except Malformed as error:
        raise Refused(ErrorCode.MALFORMED, f"The renewal cannot be read: {error}.") from error


def _require(signed: SignedRenewal, former: Person, person: Person, context: Context) -> None:
    try:
        renewals.verify(signed, context.repository, _card(former), _card(person), context.identities.validator)
    except BindingMismatch as error:
        raise Refused(ErrorCode.CONFLICT, f"{error}. Look the former card up, and renew again.") from error
    except SignatureInvalid as error:
        raise Refused(ErrorCode.SIGNATURE, str(error)) from error
    except CertificateError as error:
        raise Refused(ErrorCode.CERTIFICATE, str(error)) from error


def _require_short(former: UserId, user: UserId, view: ReadView, context: Context) -> None:
    """Raises Refused where the cards that renew each other would be too many, or would come round."""
    for _ in range(limits.RENEWALS - 1):
        if former == user:
            raise Refused(ErrorCode.CONFLICT, "These cards would renew each other in a circle.")
        person = view.registration(former)
        if person is None or person.renewal is None:
            return
        former = _read(person.renewal, context).former.user
    raise Refused(ErrorCode.TOO_LARGE, f"More than {limits.RENEWALS} cards would renew each other.")


def _card(person: Person) -> RegisteredCard:
    return RegisteredCard(
        party=Party(person.user, person.registration.digest),
        authentication=read_certificate(person.authentication_certificate),
        intermediates=tuple(read_certificate(each) for each in person.intermediates),
        accepted=moments.to_datetime(person.accepted),
    )


def refused(author: UserId, renewed: Mapping[UserId, UserId]) -> Refused:
    """The refusal of a letter from or to a card that was renewed; `renewed`: each such card with its successor."""
    if author in renewed:
        what = f"your card was renewed by {renewed[author].hex()}. Write with that card."
        return Refused(ErrorCode.NOT_ALLOWED, f"Nothing was sent: {what}")
    former, current = min(renewed.items())
    what = f"the card {former.hex()} was renewed by {current.hex()}. Look at that one, confirm it, and write to it."
    return Refused(ErrorCode.CONFLICT, f"Nothing was sent: {what}")


def successors(user: UserId, view: ReadView) -> tuple[Person, ...]:
    """The cards that renew this one, one after the other."""
    found: list[Person] = []
    for _ in range(limits.RENEWALS):
        following = view.renewed([user]).get(user)
        person = view.registration(following) if following else None
        if person is None:
            break
        found.append(person)
        user = person.user
    return tuple(found)
