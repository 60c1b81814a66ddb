"""Confirm: the end of a negotiation. The session becomes this app's and, with a login, this citizen's.

The room `crypto_core` has opened the envelope, checked the MAC over the transcript, and that the login belongs to this
session, transcript and app key. What is left is the citizen: registered here, the login signed by the registered
authentication certificate, and that certificate good now.
"""

from __future__ import annotations

from crypto_core.commands import ErrorCode
from crypto_core.ids import UserId
from crypto_core.session import OpenedConfirm
from pki.policy import Purpose
from repository_worker.errors import Refused
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
    certificate = read_certificate(person.authentication_certificate)
    intermediates = [read_certificate(each) for each in person.intermediates]
    context.identities.require_signature(opened.signed_login, certificate)
    context.identities.require_valid(certificate, intermediates, Purpose.AUTHENTICATION)
    return opened.login.user
