"""LIST: who is registered. One exact id for everybody; the directory, page by page and not too fast, after a login.

Records carry civil numbers, therefore the limits.
"""

from __future__ import annotations

from dataclasses import replace

from crypto_core import limits
from crypto_core.commands import ErrorCode, List, ListResult, Person
from crypto_core.ids import UserId
from repository_worker.errors import Refused
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.identities import fold
from repository_worker.storage.interface import ReadView

#: What one record takes besides its documents and certificates; bytes.
_RECORD_BYTES = 512


def handle(command: List, caller: Caller, view: ReadView, context: Context) -> Decision:
    """Answers with one person, with all of their revisions, or with a page of the directory."""
    if command.user is not None:
        if command.query is not None or command.after is not None:
            raise Refused(ErrorCode.MALFORMED, "Ask for one id, or search by name: not both at once.")
        return Decision.answer(_exact(command.user, view, history=command.history))
    if command.history:
        raise Refused(ErrorCode.MALFORMED, "The history is of one person; name the id.")
    citizen = caller.citizen()
    if context.rates.count("LIST", citizen, context.now) > limits.LIST_PAGES_A_MINUTE:
        raise Refused(
            ErrorCode.TOO_MANY,
            f"More than {limits.LIST_PAGES_A_MINUTE} pages of the directory in a minute; wait a minute and go on.",
        )
    found = view.people(fold(command.query or ""), command.after, limits.LIST_PAGE + 1)
    return Decision.answer(_page(found))


def _exact(user: UserId, view: ReadView, *, history: bool) -> ListResult:
    if history:
        people = view.registrations(user, limits.LIST_PAGE)
    else:
        newest = view.registration(user)
        people = (newest,) if newest else ()
    if not people:
        raise Refused(ErrorCode.NOT_FOUND, "Nobody is registered here under this id; check it.")
    successor = view.renewed([user]).get(user)
    if successor is not None:
        people = tuple(replace(each, renewed_by=successor) for each in people)
    # Of a long history the newest that fit: each revision was checked when it was accepted, so these are few.
    return ListResult(tuple(reversed(_fitting(tuple(reversed(people))))), None)


def _page(found: tuple[Person, ...]) -> ListResult:
    people = _fitting(found[: limits.LIST_PAGE])
    return ListResult(people, people[-1].user if len(people) < len(found) else None)


def _fitting(people: tuple[Person, ...]) -> tuple[Person, ...]:
    total = 0
    for count, person in enumerate(people):
        total += _size(person)
        if total > limits.PAGE_BYTES and count:
            return people[:count]
    return people


def _size(person: Person) -> int:
    certificates = (person.authentication_certificate, person.signature_certificate or b"", *person.intermediates)
    documents = len(person.registration.document) + len(person.registration.signature)
    renewal = person.renewal
    renewals = (renewal.document, renewal.signature, renewal.former_signature or b"") if renewal else ()
    return _RECORD_BYTES + documents + sum(map(len, (*certificates, *renewals)))
