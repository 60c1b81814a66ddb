"""What all commands share: the home, the connection, the session, the card and the judge of certificates.

`Context.call` is the one way in which a command reaches the repository:

    reserve a counter (on disk)  →  seal  →  [outbox (on disk)]  →  publish  →  verified reply  →  [outbox entry goes]
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from broker_config import enrolment, names
from broker_config.connection import ConnectionSettings, parse_amqp_url
from broker_config.names import Installation
from client.ahead import ahead
from client.cards import OpenCard, open_card
from client.errors import CheckFailed, NotAllowed, Usage
from client.settings import Settings
from client.state import counters, keystore, letters, pin
from client.state.home import Home
from client.state.keystore import BrokerAccount, Keys
from client.state.letters import RefusedLetter
from client.state.outbox import Outbox, Pending, Sealed
from client.state.people import People
from client.state.renewals import Renewals
from client.state.session import LiveSession, SessionStore
from crypto_core import commands, envelope, ids, sealed
from crypto_core.commands import Command, RefusedByRepository
from crypto_core.descriptor import Descriptor
from crypto_core.errors import SignatureInvalid
from crypto_core.ids import LetterId, Milliseconds, RepositoryId, SessionId, UserId

# What speaks to the broker and what judges certificates is loaded when it is first needed: both take long.
if TYPE_CHECKING:
    from client.transport import Request, Transport
    from pki.validator import IdentityValidator

T = TypeVar("T")

RESULTS: Final[dict[type[Any], type[Any]]] = {
    commands.Create: commands.CreateResult,
    commands.List: commands.ListResult,
    commands.New: commands.BoxResult,
    commands.All: commands.BoxResult,
    commands.Send: commands.SendResult,
    commands.Recv: commands.RecvResult,
    commands.Receipt: commands.ReceiptResult,
    commands.Accept: commands.ChoiceResult,
    commands.Refuse: commands.ChoiceResult,
    commands.Delete: commands.DeleteResult,
    commands.Status: commands.StatusResult,
    commands.Evidence: commands.EvidenceResult,
    commands.Block: commands.BlockResult,
    commands.Blocked: commands.BlockedResult,
    commands.Watch: commands.WatchResult,
    commands.Close: commands.CloseResult,
    commands.Upload: commands.UploadResult,
    commands.PutChunk: commands.PutChunkResult,
    commands.GetChunk: commands.GetChunkResult,
}

#: Envelopes that are sealed before there is room for them under way.
SEALED_AHEAD: Final = 4
#: Counters that many commands reserve at once, at most; what is not used of them is lost to the session.
MOST_RESERVED: Final = 64


class _OtherKey(Exception):
    """A reply came under another signature than that of the repository as this session knows it."""


class _Replaced(Exception):
    """The repository has new keys, and this session another one in its place."""

    def __init__(self, by: LiveSession) -> None:
        super().__init__("the session was replaced")
        self.by = by


class Context:
    """One client at work. Not thread-safe; close it when done."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.home = Home(settings.home)
        self.people = People(self.home)
        self.renewals = Renewals(self.home)
        self.outbox = Outbox(self.home)
        self.sessions = SessionStore(self.home, settings.memory)
        self._transport: Transport | None = None
        self._successors: dict[SessionId, LiveSession] = {}
        self._keys: Keys | None = None
        self.reading: LiveSession | None = None  #: a session for an earlier card's mailbox, never kept on disk

    def now(self) -> Milliseconds:
        return self.settings.clock()

    @property
    def descriptor(self) -> Descriptor:
        return pin.load(self.home)[1]

    @cached_property
    def repository(self) -> RepositoryId:
        return self.descriptor.repository

    @cached_property
    def validator(self) -> IdentityValidator:
        """The judge of certificates, under the roots that the citizen imported. Raises TrustStoreError."""
        from pki.fetchers import HttpFetcher
        from pki.validator import IdentityValidator

        folder = self.settings.trust_store or self.home.trust
        return IdentityValidator.open(folder, HttpFetcher(self.settings.allow_private_crl_hosts))

    def unlock(self) -> Keys:
        """The keystore; asks for the passphrase once."""
        if self._keys is None:
            self.home.require_ready()
            self._keys = keystore.load(self.home.keystore, self.settings.passphrase("keystore"))
        return self._keys

    def relock(self) -> None:
        """Forgets the opened keystore, after it was changed."""
        self._keys = None

    def transport(self, app_key: bytes, account: BrokerAccount | None) -> Transport:
        """The connection for this app key (raw public key, 32 bytes). Raises NotAllowed, BrokerSettingsInvalid."""
        if self._transport is None:
            installation = names.parse_installation(ids.installation_of(app_key))
            settings = self._broker_settings(installation, account)
            from client.transport import Transport

            self._transport = Transport(settings, installation, self.settings.reply_seconds, self.settings.stopped)
        return self._transport

    def _broker_settings(self, installation: Installation, account: BrokerAccount | None) -> ConnectionSettings:
        """With this installation's own account; without one, as the descriptor's address says."""
        address = self.descriptor.broker
        if account is not None:
            return enrolment.connection(installation, account.password, account.broker or address, ca=account.ca)
        if urlsplit(address).password is None:
            raise NotAllowed(
                "This installation has no account at the broker yet.",
                "The repository lets only installations in that its operator enrolled.",
                f"Give the operator its name, {installation}, and take the file: smr init --enrolment FILE.",
            )
        return parse_amqp_url(address)

    @contextmanager
    def card_in(self, slot: int, called: str) -> Iterator[OpenCard]:
        """The card in that slot, whoever's it is; `called` when its PIN is asked for. Raises CardError, CardProblem."""
        pin = self.settings.pin
        settings = replace(
            self.settings,
            card=replace(self.settings.card, slot=slot, token_label=None),
            pin=lambda use: pin(f"{called}: {use}"),
        )
        with open_card(settings, None, self._alive) as card:
            yield card

    @cached_property
    def former(self) -> UserId | None:
        """Whose mailbox is read: None for the citizen's own, else that of an earlier card. Raises Usage."""
        text = self.settings.former
        if text is None:
            return None
        owner = self.home.owner()
        cards = self.renewals.former(owner) if owner else ()
        found = [user for user in cards if text and user.hex().startswith(text.strip().lower())]
        if len(found) != 1:
            shown = ", ".join(user.hex() for user in cards) or "none"
            raise Usage(
                f"{text!r:.80} does not name one earlier card of this home.",
                "Its mailbox is read with the card that renews it.",
                f"Give the beginning of its id. Earlier cards here: {shown}.",
            )
        return found[0]

    @contextmanager
    def card(self) -> Iterator[OpenCard]:
        """The card in the reader; its PIN is asked for when it first signs. Raises CardError, CardProblem."""
        with open_card(self.settings, self.home.owner(), self._alive) as card:
            yield card

    def _alive(self) -> AbstractContextManager[None]:
        return self._transport.kept_alive() if self._transport is not None else nullcontext()

    @contextmanager
    def own_card(self, session: LiveSession) -> Iterator[OpenCard]:
        """The card of the session's citizen. Raises NotAllowed for another one."""
        with self.card() as card:
            if card.user != session.user:
                raise NotAllowed(
                    "The card in the reader is not the one that this session was opened with.",
                    "What it signs would be somebody else's.",
                    "Use the same card, or open another session: smr session close, smr session open.",
                )
            yield card

    def current(self, session: LiveSession) -> LiveSession:
        """This session, or the one that took its place when the repository withdrew the keys that it was under."""
        while session.session in self._successors:
            session = self._successors[session.session]
        return session

    def call(self, session: LiveSession, command: Command) -> Any:
        """The result of a command without an effect that would have to survive a crash here."""
        session = self.current(session)
        try:
            return self._exchange(session, self._seal(session, command), command)
        except _Replaced as replaced:
            return self._exchange(replaced.by, self._seal(replaced.by, command), command)

    def call_all(self, session: LiveSession, wanted: Iterable[Command], most: int) -> Generator[Any]:
        """The results of many commands as `call` takes them, in their order; `most` are under way at a time.

        The commands are made and sealed by another thread, which has ended when the iterator is closed. A session that
        comes near its end is succeeded by another one, which may take the card. When the repository gets new keys
        meanwhile, the wait ends as when it is silent, and the next `call` follows.
        """
        waiting = iter(wanted)
        for first in waiting:
            session = self._lasting(self.current(session))
            transport = self.transport(session.app_key.public.raw, session.account)
            with closing(ahead(self._requests(session, chain((first,), waiting), most), SEALED_AHEAD)) as requests:
                # What is under way is answered before another session is opened: nobody else would take these replies.
                yield from transport.exchange_all(requests, most)

    def _lasting(self, session: LiveSession) -> LiveSession:
        """This session while it has time and commands left, else the next one."""
        if session.usable(self.now(), counters.used(self.home, session.session)):
            return session
        from client import session as sessions  # which is made of contexts

        by = self._successors[session.session] = sessions.require(self)
        return by

    def _requests(self, session: LiveSession, wanted: Iterator[Command], some: int) -> Iterator[Request[Any]]:
        """One at least, then as many as the session lasts; what is not taken from `wanted` stays there."""
        for counter in self._counters(session, some):
            command = next(wanted, None)
            if command is None:
                return
            yield self._request(session, command, counter)
            if not session.usable(self.now(), counter):
                return

    def _counters(self, session: LiveSession, some: int) -> Iterator[int]:
        """Counters, reserved some at a time, and more each time: each reservation is a write that is waited for."""
        while True:
            yield from counters.reserve_some(self.home, session.session, some)
            some = min(2 * some, MOST_RESERVED)

    def _request(self, session: LiveSession, command: Command, counter: int) -> Request[Any]:
        sealed = self._seal(session, command, counter)
        from client.transport import Request

        return Request(sealed.envelope, sealed.digest, self._take(session, sealed, command))

    def call_kept(
        self,
        session: LiveSession,
        command: Command,
        user: UserId,
        letter: LetterId | None,
        complete: Callable[[Any], T],
    ) -> T:
        """As `call`, for a command with an effect: in the outbox before it is sent, until `complete` has its reply.

        `complete` writes down what the reply says; it may run again after a crash.
        """
        session = self.current(session)
        sealed = self._seal(session, command)
        pending = self.outbox.put(user, letter, command, sealed, session.keys)
        return self._exchange_kept(session, pending, sealed, complete)

    def call_again(self, session: LiveSession, pending: Pending, complete: Callable[[Any], T]) -> T:
        """As `call_kept`, for a command that has no reply yet: the same envelope while its session lives."""
        session = self.current(session)
        sealed = self.outbox.envelope(pending, session.keys)
        if sealed is None:
            sealed = self._seal(session, pending.command)
            self.outbox.renew(pending, sealed, session.keys)
        return self._exchange_kept(session, pending, sealed, complete)

    def _exchange_kept(self, session: LiveSession, pending: Pending, sealed: Sealed, complete: Callable[[Any], T]) -> T:
        try:
            result = complete(self._exchange(session, sealed, pending.command))
        except _Replaced as replaced:
            # Effects are idempotent by their own ids, in whichever session they come.
            return self.call_again(replaced.by, pending, complete)
        except RefusedByRepository as error:
            # "Not now" is no answer to the command itself: it stays.
            if error.code not in (commands.ErrorCode.UNAVAILABLE, commands.ErrorCode.TOO_MANY):
                self._keep_refusal(pending.command, error)
                self.outbox.remove(pending)
            raise
        except CheckFailed:
            # An authentic reply came and is wrong: asking again would not mend it. The evidence is kept.
            self.outbox.remove(pending)
            raise
        self.outbox.remove(pending)
        return result

    def _keep_refusal(self, command: Command, error: RefusedByRepository) -> None:
        """What became of a letter is kept, whoever asks for it later."""
        if isinstance(command, commands.Send):
            stored = sealed.read(sealed.LETTER if command.to_sign is None else sealed.SIGN_FOR, command.head)
            refused = RefusedLetter(stored.routing.letter, stored.recipients, self.now(), error.code, str(error))
            letters.save_refused(self.home, refused)

    def _seal(self, session: LiveSession, command: Command, counter: int | None = None) -> Sealed:
        nonce = ids.new_nonce()
        body = commands.encode_request(command, nonce, self.now())
        if counter is None:
            counter = counters.reserve(self.home, session.session)
        data = envelope.seal_command(session.app_key, session.keys, counter, body)
        return Sealed(session.session, counter, nonce, data)

    @staticmethod
    def _take(session: LiveSession, sealed: Sealed, command: Command) -> Callable[[bytes], Any]:
        digest, kind = sealed.digest, RESULTS[type(command)]

        def take(data: bytes) -> Any:
            body = envelope.open_reply(data, session.verify_key, session.keys, sealed.counter, digest)
            return commands.decode_reply(body, kind, sealed.nonce)

        return take

    def _exchange(self, session: LiveSession, sealed: Sealed, command: Command) -> Any:
        take = self._take(session, sealed, command)

        def take_or_look(data: bytes) -> Any:
            try:
                return take(data)
            except SignatureInvalid as error:
                raise _OtherKey from error

        transport = self.transport(session.app_key.public.raw, session.account)
        with self.settings.waiting("the repository"):
            try:
                return transport.exchange(sealed.envelope, take_or_look)
            except _OtherKey:
                # Forged, or the repository has withdrawn its former keys: its descriptor tells. Asked once for each
                # command, so that whoever forges replies can cause this question and nothing else.
                self._follow(session)
                return transport.exchange(sealed.envelope, take)

    def _follow(self, session: LiveSession) -> None:
        """Raises _Replaced when the repository has withdrawn the keys that the session is under."""
        from client import session as sessions  # which is made of contexts

        by = sessions.successor(self, session)
        if by is not None:
            self._successors[session.session] = by
            raise _Replaced(by)

    def close(self) -> None:
        """Drops the connection and forgets the opened keystore."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        self.relock()
