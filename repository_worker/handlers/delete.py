"""DELETE: a letter goes from the caller's own box, for good. A tombstone with the caller's word takes its place."""

from __future__ import annotations

from crypto_core import deletion as deletions
from crypto_core import limits, moments
from crypto_core.commands import Delete, DeleteResult, ErrorCode
from crypto_core.deletion import Deletion
from crypto_core.errors import BindingMismatch, Malformed, SignatureInvalid
from crypto_core.ids import UserId
from repository_worker.effects import Outcome, Placed, StoreTombstone
from repository_worker.errors import Refused, StorageError
from repository_worker.handlers import signing
from repository_worker.handlers.context import Caller, Context, Decision
from repository_worker.identities import read_certificate
from repository_worker.storage.interface import Held, ReadView


def handle(command: Delete, caller: Caller, view: ReadView, context: Context) -> Decision:
    """Takes a deletion that the caller's app key signed, of a letter that the caller sent or received.

    One that was deleted before stays deleted by the first word, which answers this one too.
    """
    owner = caller.citizen()
    asked = _read(command, owner, view, context)
    found = view.held(owner, asked.author, asked.letter)
    if found is None:
        raise Refused(ErrorCode.NOT_FOUND, "There is no such letter in your box; list your letters and choose one.")
    if (asked.number, asked.entry) != (found.entry.entry.number, found.entry.hash):
        raise Refused(ErrorCode.CONFLICT, "Nothing was deleted: your mailbox has this letter at another place.")
    if found.tombstone is None:
        _require_answered(found, owner, context)
    effect = StoreTombstone(owner, asked.author, asked.letter, command.deletion, found.bytes, context.now)
    return Decision(effect, lambda outcome: _result(outcome, context))


def _read(command: Delete, owner: UserId, view: ReadView, context: Context) -> Deletion:
    """The deletion, with the signatures of app key and card verified: whoever sees it later can do the same."""
    try:
        asked = deletions.read(command.deletion, context.repository, owner)
    except SignatureInvalid as error:
        raise Refused(ErrorCode.SIGNATURE, f"Nothing was deleted: {error}.") from error
    except BindingMismatch as error:
        raise Refused(ErrorCode.NOT_ALLOWED, f"Nothing was deleted: {error}.") from error
    except Malformed as error:
        raise Refused(ErrorCode.MALFORMED, f"The deletion cannot be read: {error}.") from error
    if asked.time > context.now + limits.CLOCK_SKEW_MS:
        raise Refused(ErrorCode.CLOCK, "The deletion is dated in the future; set the clock of your machine.")
    person = view.registration(owner)
    if person is None:
        raise StorageError("a session of somebody who is not registered")
    context.identities.require_signature(command.deletion.login, read_certificate(person.authentication_certificate))
    return asked


def _require_answered(found: Held, owner: UserId, context: Context) -> None:
    """Who deletes a letter that still asks for a signature would leave its sender without an answer."""
    slip = found.entry.slip
    if slip is None or not signing.waits(found.entry, owner) or slip.choice is not None:
        return
    if context.now < slip.expires:
        raise Refused(
            ErrorCode.NOT_ALLOWED,
            "Nothing was deleted: this letter waits for your signature until "
            f"{moments.to_text(slip.expires)}. Refuse it first, then delete it.",
        )


def _result(outcome: Outcome, context: Context) -> DeleteResult:
    own = _own(outcome)
    return DeleteResult(own.entry.time, context.sign_placement([own]))


def _own(outcome: Outcome) -> Placed:
    if not outcome.entries:
        raise StorageError("a letter was deleted without a tombstone")
    return outcome.entries[0]
