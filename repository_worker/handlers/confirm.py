"""Confirm: the end of a negotiation. The session becomes this app's and, with a login, this citizen's.

The room `crypto_core` has opened the envelope, checked the MAC over the transcript, and that the login belongs to this
session, transcript and app key. What is left is the citizen: registered here, the login signed by the registered
authentication certificate, or by that of a card which renews it, and that certificate good now.
"""

from __future__ import annotations

from crypto_core.commands import ErrorCode, Person
from crypto_core.documents import SignedDocument
from crypto_core.ids import UserId
from crypto_core.session import OpenedConfirm
from pki.policy import Purpose
from repository_worker.errors import Refused
from repository_worker.handlers import renewals
from repository_worker.handlers.context import Context
from repository_worker.identities import read_certificate
from repository_worker.storage.interface import ReadView


def require_login(opened: OpenedConfirm, view: ReadView, context: Context) -> UserId | None:
    """Whose session this is: a citizen's, or nobody's without a login. Raises Refused."""
    if opened.login is None or opened.signed_login is None:
        return None
    person = view.registration(opened.login.user)
    if person is None:
        raise Refused(ErrorCode.NOT_FOUND, "Nobody is registered here under this id; register first.")
    signer = _signer(opened.signed_login, person, view, context)
    certificate = read_certificate(signer.authentication_certificate)
    intermediates = [read_certificate(each) for each in signer.intermediates]
    context.identities.require_valid(certificate, intermediates, Purpose.AUTHENTICATION)
    return opened.login.user


def _signer(login: SignedDocument, person: Person, view: ReadView, context: Context) -> Person:
    """Whose card signed the login: this person's, or a later one of the same citizen. Raises Refused."""
    try:
        context.identities.require_signature(login, read_certificate(person.authentication_certificate))
    except Refused:
        for later in renewals.successors(person.user, view):
            try:
                context.identities.require_signature(login, read_certificate(later.authentication_certificate))
            except Refused:
                continue
            return later
        raise
    return person
