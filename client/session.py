"""Opening, keeping and ending sessions.

A session is negotiated in this order, each step verified before the next: the current descriptor under the approved
operator root; hello; answer; the login, signed by the card; active; the citizen's own registration. It is then kept for
the next commands (see `state.session`), and renewed in time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from client import identity
from client.cards import OpenCard
from client.context import Context
from client.errors import ClientError, NotAllowed, Unreachable
from client.state import counters, pin
from client.state.keystore import BrokerAccount, Keys
from client.state.session import LiveSession, OwnRegistration
from crypto_core import commands, ids
from crypto_core import descriptor as descriptors
from crypto_core import session as negotiation
from crypto_core.commands import ErrorCode, RefusedByRepository
from crypto_core.descriptor import Descriptor, SignedDescriptor
from crypto_core.documents import SignedDocument
from crypto_core.errors import SignatureInvalid
from crypto_core.ids import Milliseconds, UserId
from crypto_core.keys import SigningKey
from pki.errors import PkiError
from pki.signers import CardKeyUse

R = TypeVar("R")

LOCK_SECONDS: Final = 600.0  #: another process may be asking for a PIN


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What a person may know of the kept session."""

    user: UserId
    expires: Milliseconds
    commands_used: int
    commands_allowed: int
    epoch: int


def require(context: Context) -> LiveSession:
    """The kept session of the home's citizen while it is usable, else a new one (card, PIN and passphrase).

    For the mailbox of an earlier card: one of this run alone.
    """
    if context.former is not None:
        reading = context.reading
        if reading is None or not _lasts(context, reading):
            reading = context.reading = _open_former(context, context.former)
        return reading
    kept = _usable(context)
    if kept is not None:
        return kept
    with context.home.lock("session", LOCK_SECONDS):
        # Another process may have opened one while we waited for it.
        return _usable(context) or _open(context)


def open_anew(context: Context) -> LiveSession:
    """A new session, whether or not one is kept."""
    with context.home.lock("session", LOCK_SECONDS):
        return _open(context)


def anonymous(context: Context) -> LiveSession:
    """A session without a login: it may register and look up one exact id. Never kept."""
    keys = context.unlock()
    active, _ = _negotiate(context, keys, None)
    return _live(active, keys, None)


def show(context: Context) -> SessionInfo | None:
    """The kept session, None when there is none."""
    kept = _usable(context)
    return info(context, kept) if kept else None


def info(context: Context, live: LiveSession) -> SessionInfo:
    """What a person may know of a session with a login."""
    if live.user is None:
        raise ValueError("a session without a citizen")
    used = counters.used(context.home, live.session)
    return SessionInfo(live.user, live.expires, used, live.command_limit, live.epoch)


def close(context: Context) -> bool:
    """Forgets the kept session here, and asks the repository to do the same. True if the repository confirmed.

    Locally it always ends, whatever the repository does.
    """
    kept = context.sessions.load()
    context.sessions.remove()
    if kept is None:
        return False
    try:
        result: commands.CloseResult = context.call(kept, commands.Close())
        return result.closed
    except (ClientError, RefusedByRepository):
        return False
    finally:
        counters.forget(context.home, kept.session)


def successor(context: Context, live: LiveSession) -> LiveSession | None:
    """The session in place of one whose keys the repository has withdrawn; None where they still count.

    Asked for when a reply came under another key. A new session takes card, PIN and passphrase. Raises Unreachable for
    a session without a citizen: what it was for is quickly begun again.
    """
    if live.epoch >= _refresh_descriptor(context, live.app_key, live.account).oldest:
        return None
    if live.user is None:
        raise Unreachable(
            "The repository has withdrawn the keys under which this was begun.",
            "What it answers under the new ones cannot be verified any more; nothing is lost.",
            "Repeat the command.",
        )
    return require(context)


def keep_account(context: Context, account: BrokerAccount) -> None:
    """The kept session, if there is one, with the account that the operator gave now."""
    kept = context.sessions.load()
    if kept is not None:
        context.sessions.save(replace(kept, account=account))


def keep_own(context: Context, session: LiveSession, own: OwnRegistration, keys: Keys) -> LiveSession:
    """The kept session with a registration and keys that changed meanwhile."""
    changed = replace(session, own=own, sealing_seeds=_seeds(keys))
    context.sessions.save(changed)
    return changed


def own_registration(person: identity.VerifiedPerson) -> OwnRegistration:
    """What a session keeps of the citizen's own verified registration."""
    return OwnRegistration(
        document=person.document,
        revision=person.registration.revision,
        sealing_key=person.registration.sealing_key,
        signs_with_signature_key=person.signature is not None,
    )


def _usable(context: Context) -> LiveSession | None:
    kept = context.sessions.load()
    if kept is None or kept.user is None or kept.own is None:
        return None
    return kept if _lasts(context, kept) else None


def _lasts(context: Context, live: LiveSession) -> bool:
    """Whether it has time and commands left, and its keys were not withdrawn: then replies could not be verified."""
    used = counters.used(context.home, live.session)
    return live.epoch >= context.descriptor.oldest and live.usable(context.now(), used)


def _open(context: Context) -> LiveSession:
    keys = context.unlock()
    with context.card() as card:
        owner = context.home.owner()
        if owner is not None and owner != card.user:
            context.home.claim(card.user)  # which refuses
        active, login = _negotiate(context, keys, card)
    if active.user != card.user:
        raise NotAllowed("The repository opened the session for somebody else.", "It was not used.")
    live = _live(active, keys, None)
    own = identity.look_up(context, live, card.user)
    context.home.claim(card.user)
    live = replace(_live(active, keys, own_registration(own)), login=login)
    context.sessions.save(live)
    return live


def _open_former(context: Context, former: UserId) -> LiveSession:
    """A session for the mailbox of an earlier card, with the card that renews it: it reads, and writes nothing."""
    keys = context.unlock()
    with context.card() as card:
        if card.user != context.home.owner():
            context.home.claim(card.user)  # which refuses
        active, _ = _negotiate(context, keys, card, former)
    if active.user != former:
        raise NotAllowed("The repository opened the session for somebody else.", "It was not used.")
    own = identity.look_up_former(context, _live(active, keys, None), former)
    return _live(active, keys, own_registration(own))


def _negotiate(
    context: Context, keys: Keys, card: OpenCard | None, user: UserId | None = None
) -> tuple[negotiation.Session, SignedDocument | None]:
    """Phases 1 to 4, with a login for `user` (None: the card's own) where there is a card."""
    transport = context.transport(keys.app_key.public.raw, keys.account)
    with context.settings.waiting("the repository"):
        current = _refresh_descriptor(context, keys.app_key, keys.account)
        sent = negotiation.hello(current, keys.app_key, context.now())
        answered = transport.exchange(sent.hello, sent.answered)
    login = None
    if card is not None:
        login = card.sign(answered.login_document(user or card.user, context.now()), CardKeyUse.AUTHENTICATION)
    confirm = answered.confirm(login, context.now())
    try:
        with context.settings.waiting("the repository"):
            return transport.exchange(confirm.confirm, confirm.active), login
    except RefusedByRepository as error:
        if error.code is ErrorCode.NOT_FOUND:
            raise NotAllowed(
                "This citizen is not registered at the repository.",
                "Only registered citizens have a mailbox.",
                "Register first: smr register.",
            ) from error
        raise


def _refresh_descriptor(context: Context, app_key: SigningKey, account: BrokerAccount | None) -> Descriptor:
    """The current descriptor, fresh from the repository; a newer epoch replaces the kept one, never an older."""

    def take(signed: SignedDescriptor, _said: Milliseconds) -> Descriptor:
        return pin.replace(context.home, signed, context.now())

    return ask_descriptor(context, app_key, account, take)


def ask_descriptor(
    context: Context,
    app_key: SigningKey,
    account: BrokerAccount | None,
    take: Callable[[SignedDescriptor, Milliseconds], R],
) -> R:
    """What `take` makes of the descriptor that the repository has now, and of the time that it says it is.

    The descriptor is the approved operator's, and good at that time; the answer is signed with its key, for this
    question. Whether that time is now is for `take` to say, which refuses by raising ProtocolError.
    """
    nonce = ids.new_nonce()

    def judge(data: bytes) -> R:
        message, raw, said = descriptors.read_answer(data)
        signed = descriptors.read(raw)
        try:
            found = pin.verify(signed, pin.load(context.home)[0].operator_root, said)
        except PkiError as error:
            raise SignatureInvalid(f"a descriptor that is not of the approved operator: {error}") from error
        descriptors.verify_answer(message, found, nonce)
        return take(signed, said)

    request = descriptors.request(app_key, nonce, context.now())
    return context.transport(app_key.public.raw, account).exchange(request, judge)


def _live(active: negotiation.Session, keys: Keys, own: OwnRegistration | None) -> LiveSession:
    return LiveSession(
        repository=active.descriptor.repository,
        epoch=active.descriptor.epoch,
        repository_key=active.descriptor.signing_key,
        session=active.keys.session,
        client_to_repository=active.keys.client_to_repository,
        repository_to_client=active.keys.repository_to_client,
        app_seed=keys.app_seed,
        account=keys.account,
        user=active.user,
        own=own,
        sealing_seeds=_seeds(keys),
        expires=active.expires,
        command_limit=active.limits.commands,
        body_limit=active.limits.body_bytes,
        recipient_limit=active.limits.recipients,
    )


def _seeds(keys: Keys) -> tuple[bytes, ...]:
    return tuple(stored.seed for stored in keys.sealing)
