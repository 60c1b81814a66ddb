"""From a message to its reply: verify, decide, store, reply.

The order of the checks on a command, each with what follows when it fails:

    1. size and decoding             no reply, dead letter: nobody can be shown to have sent it
    2. the session is known          no reply, dead letter
    3. the signature of its app      no reply, dead letter
    4. decryption                    no reply, dead letter: without the nonce inside, no reply can be bound to it
    5. reply_to is the app's own, and where each installation has an account of its own, the account too
                                     no reply, dead letter: replies go to nobody else, and nothing is executed unheard
    6. the counter                   refused: another envelope was accepted under it
    7. the session's end, the schema, the clock
                                     refused
    8. authorisation and the rest    refused by the handler

Messages come in batches: each stage (`metrics.Stage`: decode, verify, open, decide, look, store, seal) is done for the
whole batch, so that a batch costs one look at the counters and one commit, and what its commands ask is asked at once
for all that ask the same. A used counter or a closed session says more than a handler that refuses: nothing is refused
before it was looked for, with the letters that the command reads or after it was decided. For letters and whatever
else is `effects.CHECKED_WHEN_STORED` the storage sees to their counters. A question that is answered changes nothing
and uses no counter, so nothing is looked for; its session is open, or was within `memory.NEWS_SECONDS`, and so is that
of a letter. What may take long leaves the batch and is handled alone; what fails ends alone.

A refusal is signed and sealed as every reply. The reply goes out only when the effect is stored. When the storage is
down, StorageUnavailable passes through: the caller keeps the message and brings it again. A fault of our own in a
handler is logged with a reference, the client is told UNAVAILABLE with that reference, and the message is kept as a
dead letter for whoever mends it: nothing is lost, and nothing is tried over and over.

This module knows no broker library and no database driver.
"""

from __future__ import annotations

import enum
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar

import structlog

from broker_config import names
from broker_config.errors import NameRefused
from crypto_core import commands, cose, descriptor, envelope, ids, labels, limits, records, session, suite
from crypto_core.commands import ErrorCode, Request, UnreadRequest
from crypto_core.envelope import CommandEnvelope, TrafficKeys, VerifiedCommand
from crypto_core.errors import BindingMismatch, LimitExceeded, Malformed, OutOfTime, ProtocolError, SignatureInvalid
from crypto_core.ids import LetterId, Milliseconds, RepositoryId, UserId
from crypto_core.keys import SigningKey, VerifyKey
from crypto_core.records import Cookie, SessionRecord
from crypto_core.session import DEFAULT_LIMITS, SessionLimits
from pki.evidence import EvidenceSigner
from repository_worker import handlers
from repository_worker.effects import CHECKED_WHEN_STORED, Change, CloseSession, CounterRecord, Effect, Outcome
from repository_worker.epochs import Epochs
from repository_worker.errors import (
    Conflict,
    CounterUsed,
    MailboxFull,
    Refused,
    Rejected,
    SessionClosed,
    StorageError,
    StorageUnavailable,
    UploadsFull,
)
from repository_worker.handlers import Caller, Context, Decision
from repository_worker.handlers.confirm import require_login
from repository_worker.identities import Identities
from repository_worker.keys import KekRing, now_ms
from repository_worker.metrics import Metrics, Stage
from repository_worker.sessions import Sessions
from repository_worker.stamper import Stamper
from repository_worker.storage.interface import BatchView, CounterState, Questions, Reading, ReadView, Storage

# RFC 8949 section 3.4: how the COSE tags begin on the wire
_SIGN1_START: Final = b"\xd2"
_ENCRYPT_START: Final = b"\xd8\x60"
_REFERENCE_BYTES: Final = 5

T = TypeVar("T")


class Verdict(enum.Enum):
    """What becomes of a message once its reply, if any, is on its way."""

    DONE = "done"  #: acknowledge
    DEAD_LETTER = "dead letter"  #: reject, never to be delivered again


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came: nothing of it is believed."""

    body: bytes = field(repr=False)
    reply_to: str | None
    account: str | None = None  #: the sender's, as the broker has checked it


@dataclass(frozen=True, slots=True)
class Reply:
    """An envelope for a reply queue whose owner was verified."""

    queue: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Handled:
    """The end of a message. `hints`: queues that are told, once it is answered, that a mailbox grew."""

    verdict: Verdict
    reply: Reply | None = None
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RepositoryState:
    """What the repository is: its id, its private keys with the descriptor that names them, and its KEKs.

    `share_secret` (32 bytes) is what second shares are sealed under in the database.
    """

    repository: RepositoryId
    epochs: Epochs
    ring: KekRing
    share_secret: bytes = field(repr=False)
    limits: SessionLimits = DEFAULT_LIMITS
    evidence: EvidenceSigner | None = field(default=None, repr=False)
    stamper: Stamper | None = field(default=None, repr=False)
    own_accounts: bool = False  #: a message counts only from the broker account of the installation that signed it


# The values from here to `_Case` are made for every message and seen by nobody else: freezing them would take as long
# as several stages.


@dataclass(slots=True)
class _Answerable:
    """Whom to answer and how: known once a message is authentic, with the nonce that even a refusal is bound to."""

    queue: str
    nonce: bytes = field(repr=False)
    now: Milliseconds
    seal: Callable[[bytes], bytes] = field(repr=False)

    def reply(self, body: bytes) -> Reply:
        return Reply(self.queue, self.seal(body))


@dataclass(slots=True)
class _Asked:
    """A command in a session that is known, and who signs in it."""

    request: CommandEnvelope
    record: SessionRecord
    signing: SigningKey = field(repr=False)
    verified: VerifiedCommand
    unread: UnreadRequest | None = None  #: once it is opened
    command: commands.Command | None = None  #: once it is read


@dataclass(slots=True)
class _Case:
    """A message on its way to its end; each stage adds what it found."""

    message: Message
    now: Milliseconds  #: when its batch was taken
    kind: str | None = "unreadable"  #: None: rejected, which is counted elsewhere
    request: CommandEnvelope | None = None
    negotiate: Callable[[], Handled] | None = None  #: instead of all that is done for commands
    answerable: _Answerable | None = None
    asked: _Asked | None = None
    decision: Decision | None = None
    refused: Exception | None = None  #: what its handler ended with; told unless its session or counter says otherwise
    stored: Outcome = field(default_factory=Outcome)
    aside: bool = False  #: to be handled alone
    end: Handled | None = None
    outcome: str = "ok"  #: or the code of its refusal

    @property
    def correlation(self) -> str:
        """SHA-256 of the envelope: what the logs, the client and the dead letters all call it."""
        return (self.request.request_hash if self.request else suite.sha256(self.message.body)).hex()


class _HandleAlone(Exception):
    """The message would hold up the others of its batch."""


class Pipeline:
    """Handles one message or one batch at a time in each thread that calls it. Thread-safe."""

    def __init__(
        self,
        repository: RepositoryState,
        storage: Storage,
        sessions: Sessions,
        identities: Identities,
        metrics: Metrics,
        *,
        watching: Callable[[Iterable[UserId]], tuple[str, ...]] = lambda _: (),
        clock: Callable[[], Milliseconds] = now_ms,
    ) -> None:
        """`watching` gives the queues that watch these mailboxes, without waiting for anything."""
        self._repository = repository
        self._storage = storage
        self._sessions = sessions
        self._identities = identities
        self._metrics = metrics
        self._watching = watching
        self._clock = clock
        self._log = structlog.get_logger("pipeline")

    def handle(self, message: Message) -> Handled:
        """Takes a message to its end, however long that takes. Raises StorageUnavailable, and nothing else."""
        (end,) = self._run([message], alone=True)
        if end is None:
            raise StorageUnavailable("the database is too busy with changes of one mailbox")
        return end

    def handle_batch(self, messages: Sequence[Message]) -> list[Handled | None]:
        """Takes messages to their ends with one commit for all; None stands for those to `handle` one by one.

        These are the ones that may take long (logins, registrations, the directory), and a change that did not come
        through beside others. Raises StorageUnavailable, and nothing else: then no message of the
        batch was answered, and all of it may be brought again.
        """
        return self._run(messages, alone=False)

    def _run(self, messages: Sequence[Message], *, alone: bool) -> list[Handled | None]:
        started = time.perf_counter()
        now = self._clock()
        cases = [_Case(message, now) for message in messages]
        self._metrics.batch(len(cases))
        self._each(Stage.DECODE, cases, partial(self._route, alone=alone))
        negotiating = [case for case in cases if case.negotiate is not None]
        if negotiating:
            self._each(Stage.NEGOTIATE, negotiating, _negotiate)
        waiting = _waiting(cases)
        if waiting:
            self._run_commands(waiting, now, alone=alone)
        seconds = time.perf_counter() - started
        for case in cases:
            self._count(case, seconds)
        return [case.end for case in cases]

    def _run_commands(self, cases: Sequence[_Case], now: Milliseconds, *, alone: bool) -> None:
        """The stages of what comes in a session."""
        self._each(Stage.VERIFY, cases, self._verify)
        self._each(Stage.OPEN, cases, self._open)
        self._each(Stage.DECIDE, cases, partial(self._read, alone=alone))
        view = self._storage.reading(_questions(cases))
        self._each(Stage.DECIDE, cases, partial(self._decide, view=view, context=self._context(now)))
        self._look_at_counters([case for case in _waiting(cases) if _is_to_look_at(case)], view)
        self._commit([case for case in _waiting(cases) if _effect(case) is not None])
        view.forget()  # a reply tells what stands now
        self._each(Stage.SEAL, cases, self._answer)

    def _count(self, case: _Case, seconds: float) -> None:
        if case.end is None or case.kind is None:
            return
        self._metrics.ended(case.kind, seconds)
        if case.asked is not None:
            self._metrics.answered(case.kind, case.outcome)
        self._log.debug("handled", kind=case.kind, outcome=case.outcome, correlation=case.correlation)

    def _each(self, stage: Stage, cases: Sequence[_Case], step: Callable[[_Case], None]) -> None:
        """One stage for those that wait. Whatever one message provokes ends that message, and no other of its batch."""
        with self._metrics.stage(stage):
            for case in cases:
                if case.end is not None or case.aside:
                    continue
                try:
                    step(case)
                except StorageUnavailable:
                    raise
                except Exception as error:  # noqa: BLE001 - the next message must find a worker
                    self._settle(case, error)

    def _settle(self, case: _Case, error: Exception) -> None:
        """The end of a message that a stage did not come through with."""
        if isinstance(error, _HandleAlone):
            case.aside = True
        elif isinstance(error, Rejected):
            self._reject(case, error.reason)
        elif case.answerable is not None:
            case.end = self._refuse(case, case.answerable, error)
        else:
            self._log.error("fault", reference=_reference(), correlation=case.correlation, exc_info=error)
            self._reject(case, "fault")

    def _reject(self, case: _Case, reason: str) -> None:
        self._metrics.dead.labels(reason).inc()
        self._log.info("rejected", reason=reason, correlation=case.correlation)
        case.kind, case.end = None, Handled(Verdict.DEAD_LETTER)

    def _refuse(self, case: _Case, answerable: _Answerable, error: Exception) -> Handled:
        """The end of an authentic message that got no result."""
        verdict = Verdict.DONE
        match error:
            case Refused():
                code, text = error.code, error.message
            case CounterUsed():
                code = ErrorCode.COUNTER_USED
                text = "Another command was accepted under this counter; send this one again under the next."
            case Conflict():
                code, text = ErrorCode.CONFLICT, f"Not accepted: {error}."
            case MailboxFull():
                code, text = ErrorCode.TOO_LARGE, _full(error, case)
            case UploadsFull():
                code = ErrorCode.TOO_LARGE
                text = (
                    "Not begun: too many attachments wait for letters of yours that were not sent. Send them, or try "
                    "again in some days, when they are removed."
                )
            case _:  # our fault, not the client's: logged, told, kept
                reference = _reference()
                self._log.error("fault", reference=reference, correlation=case.correlation, exc_info=error)
                self._metrics.dead.labels("fault").inc()
                code, verdict = ErrorCode.UNAVAILABLE, Verdict.DEAD_LETTER
                text = f"The repository failed at this command and keeps it for its operator; tell them {reference}."
        self._metrics.refused.labels(code.value).inc()
        case.outcome = code.value
        self._log.info("refused", code=code.value, correlation=case.correlation)
        refusal = commands.encode_refusal(answerable.nonce, answerable.now, code, text)
        return Handled(verdict, answerable.reply(refusal))

    def _route(self, case: _Case, *, alone: bool) -> None:
        body = case.message.body
        if len(body) > limits.ENVELOPE_BYTES:
            raise Rejected("size")
        if body.startswith(_ENCRYPT_START):
            case.kind, case.negotiate = "hello", partial(self._hello, case)
            return
        if not body.startswith(_SIGN1_START):
            raise Rejected("decoding")
        try:
            signed = cose.read_sign1(body, limits.ENVELOPE_BYTES)
            if cose.label_of(signed.headers) == labels.DESCRIPTOR_REQUEST:
                case.kind, case.negotiate = "descriptor", partial(self._descriptor, case, signed)
                return
            request = case.request = envelope.from_message(signed, suite.sha256(body))
        except ProtocolError as error:
            raise Rejected("decoding") from error
        if request.label == labels.CONFIRM:
            if not alone:
                raise _HandleAlone
            case.kind, case.negotiate = "confirm", partial(self._confirm, case, request)

    def _reply_queue(self, message: Message, app_key: bytes) -> str:
        """The queue that `reply_to` names, if it and the account are of the app that signed. Raises Rejected."""
        installation = names.Installation(ids.installation_of(app_key))
        if message.reply_to is None or _require_reply_form(message) != installation:
            raise Rejected("reply-to")
        if self._repository.own_accounts and message.account != names.client_account(installation):
            raise Rejected("account")
        return message.reply_to

    # --- before a session ---------------------------------------------------------------------------------------------

    def _descriptor(self, case: _Case, signed: cose.Sign1) -> Handled:
        if len(case.message.body) > limits.HANDSHAKE_BYTES:
            raise Rejected("size")
        request = descriptor.read_request(signed)
        queue = self._reply_queue(case.message, request.app_key)
        standing = self._repository.epochs.look()
        answer = descriptor.answer(standing.current.signing, request.nonce, standing.signed, case.now)
        return Handled(Verdict.DONE, Reply(queue, answer))

    def _hello(self, case: _Case) -> Handled:
        _require_reply_form(case.message)  # costs nothing, and spares opening what could not be answered
        kek = self._repository.ring.current(case.now)
        identities = self._repository.epochs.look().answering(case.now)
        try:
            answered = session.answer_hello(case.message.body, identities, kek, case.now, self._repository.limits)
        except OutOfTime as error:
            raise Rejected("clock") from error
        except ProtocolError as error:
            raise Rejected("hello") from error
        queue = self._reply_queue(case.message, answered.app_key.raw)
        return Handled(Verdict.DONE, Reply(queue, answered.answer))

    def _confirm(self, case: _Case, request: CommandEnvelope) -> Handled:
        cookie, nonce = self._read_confirm(request)
        queue = self._reply_queue(case.message, cookie.app_key)
        identity = self._repository.epochs.recent().of(cookie.epoch)
        case.answerable = _Answerable(queue, nonce, case.now, _sealer(identity.signing, cookie.keys, request))
        opened = _open_confirm(request, self._repository.ring, identity.repository, case.now)
        require_login(opened, self._storage, self._context(case.now))
        effect = self._sessions.seal(opened.record(), case.now)
        used = CounterRecord(cookie.session, request.counter, request.request_hash, cookie.expires)
        self._storage.commit(Change(effect, used))
        return Handled(Verdict.DONE, Reply(queue, session.seal_active(identity, opened, case.now)))

    def _read_confirm(self, request: CommandEnvelope) -> tuple[Cookie, bytes]:
        """The cookie, after the app's signature was verified, and the nonce that a refusal is bound to."""
        try:
            kek = records.kek_id_of(request.cookie or b"")
            cookie = records.open_cookie(self._repository.ring.holding(kek), request.session, request.cookie or b"")
        except ProtocolError as error:
            raise Rejected("cookie") from error
        return cookie, _unread(_verified(request, cookie.verify_key), cookie.keys).nonce

    # --- in a session: verify, open, look at the counter, decide, commit ----------------------------------------------

    def _verify(self, case: _Case) -> None:
        request = _there(case.request)
        record = self._sessions.find(request.session)
        if record is None:
            raise Rejected("session")
        signing = self._repository.epochs.recent().of(record.epoch).signing
        case.asked = _Asked(request, record, signing, _verified(request, record.verify_key))

    def _open(self, case: _Case) -> None:
        asked = _there(case.asked)
        request, keys = asked.request, asked.record.keys
        asked.unread = unread = _unread(asked.verified, keys)
        queue = self._reply_queue(case.message, asked.record.app_key)
        case.answerable = _Answerable(queue, unread.nonce, case.now, _sealer(asked.signing, keys, request))

    def _look_at_counters(self, cases: Sequence[_Case], view: BatchView) -> None:
        """One look for the whole batch, or none where it came with what was read.

        Refuses what comes under a used counter, rejects what a closed session sent.
        """
        if not cases:
            return
        requests = [_there(case.request) for case in cases]
        with self._metrics.stage(Stage.LOOK):
            states = view.counters([(request.session, request.counter) for request in requests])
            for case, request, state in zip(cases, requests, states, strict=True):
                try:
                    self._judge_counter(request, state)
                except (Rejected, CounterUsed) as error:
                    self._settle(case, error)
                else:
                    if case.refused is not None:
                        self._settle(case, case.refused)

    def _judge_counter(self, request: CommandEnvelope, state: CounterState) -> None:
        if state.closed:
            # This worker still had the record in memory: the session is as unknown here as it is elsewhere.
            self._sessions.forget(request.session)
            raise Rejected("session")
        if state.request_hash is not None and not suite.equal(state.request_hash, request.request_hash):
            raise CounterUsed("another envelope was accepted under this counter")

    def _read(self, case: _Case, *, alone: bool) -> None:
        asked = _there(case.asked)
        try:
            decoded = _decode(_there(asked.unread), asked.record, case.now)
        except Refused as error:
            case.refused = error  # which a closed session is not told
            return
        asked.command = decoded.command
        case.kind = commands.name_of(decoded.command)
        self._metrics.age(max(0, case.now - decoded.time) / 1000)
        if not alone and _takes_long(decoded.command):
            raise _HandleAlone

    def _decide(self, case: _Case, *, view: ReadView, context: Context) -> None:
        asked = _there(case.asked)
        if case.refused is not None or asked.command is None:
            return
        caller = Caller(asked.record.session, asked.record.user, _there(case.answerable).queue)
        if asked.signing is not context.signing:
            context = replace(context, signing=asked.signing)
        try:
            case.decision = handlers.decide(asked.command, caller, view, context)
        except StorageUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, a closed session is not told of it
            case.refused = error

    def _commit(self, cases: Sequence[_Case]) -> None:
        """Stores all effects: what stands then is what the replies are made from."""
        if not cases:
            return
        with self._metrics.stage(Stage.STORE):
            outcomes = self._storage.commit_all([_change(case) for case in cases])
            for case, outcome in zip(cases, outcomes, strict=True):
                if isinstance(outcome, StorageUnavailable):
                    case.aside = True
                elif isinstance(outcome, SessionClosed):
                    self._sessions.forget(_there(case.request).session)
                    self._settle(case, Rejected("session"))
                elif isinstance(outcome, Exception):
                    self._settle(case, outcome)
                else:
                    case.stored = outcome
                    if isinstance(_effect(case), CloseSession):
                        self._sessions.forget(_there(case.request).session)
                    if self._repository.stamper is not None:
                        self._repository.stamper.accepted(_change(case).effect, outcome)

    def _answer(self, case: _Case) -> None:
        answerable, decision = _there(case.answerable), _there(case.decision)
        body = commands.encode_reply(answerable.nonce, answerable.now, decision.reply(case.stored))
        hints = self._watching(placed.mailbox for placed in case.stored.entries)
        case.end = Handled(Verdict.DONE, answerable.reply(body), hints)

    def _context(self, now: Milliseconds) -> Context:
        repository = self._repository
        return Context(
            repository=repository.repository,
            now=now,
            identities=self._identities,
            rates=self._storage,
            signing=repository.epochs.recent().current.signing,
            share_secret=repository.share_secret,
            limits=repository.limits,
            evidence=repository.evidence,
            stamper=repository.stamper,
        )


def _waiting(cases: Sequence[_Case]) -> list[_Case]:
    return [case for case in cases if case.end is None and not case.aside]


def _questions(cases: Sequence[_Case]) -> Questions:
    """What is asked in a batch, as far as it is asked of the database at once. Nobody asks much without a login."""
    new: list[tuple[UserId, int]] = []
    letters: list[Reading] = []
    own: list[tuple[UserId, LetterId]] = []
    people: list[UserId] = []
    for asked in [case.asked for case in _waiting(cases) if case.asked is not None]:
        user, command = asked.record.user, asked.command
        match command:
            case commands.List() if command.user is not None and not command.history:
                people.append(command.user)
            case commands.New() if user is not None:
                new.append((user, command.after))
            case commands.Recv() if user is not None:
                letters.append(
                    Reading(user, command.author, command.letter, asked.record.session, asked.request.counter)
                )
            case commands.Status() if user is not None:
                own.append((user, command.letter))
    return Questions(tuple(new), tuple(letters), tuple(own), tuple(people))


def _takes_long(command: commands.Command) -> bool:
    """What asks for revocation lists, or bears a card's signature, whose verification takes as long as several letters.

    A page of the directory, too, which looks at every name; and uploads, whose chunks are looked at one by one, and
    chunks that are fetched, which are large.
    """
    signed = commands.Create | commands.Accept | commands.Refuse | commands.Delete
    large = commands.Upload | commands.GetChunk
    return (
        isinstance(command, signed | large)
        or (isinstance(command, commands.Send) and command.to_sign is not None)
        or (isinstance(command, commands.List) and command.user is None)
    )


def _negotiate(case: _Case) -> None:
    case.end = _there(case.negotiate)()


def _effect(case: _Case) -> Effect | None:
    return case.decision.effect if case.decision is not None else None


def _is_to_look_at(case: _Case) -> bool:
    """Neither a question that has its answer, nor what the storage looks at itself, in a query that it needs anyhow."""
    effect = _effect(case)
    return case.refused is not None or (effect is not None and not isinstance(effect, CHECKED_WHEN_STORED))


def _change(case: _Case) -> Change:
    asked, effect = _there(case.asked), _effect(case)
    if effect is None:
        raise StorageError("a commit of a command that changes nothing")
    request, record = asked.request, asked.record
    used = CounterRecord(record.session, request.counter, request.request_hash, record.expires)
    return Change(effect, used)


def _there(value: T | None) -> T:
    """What an earlier stage has set."""
    if value is None:
        raise StorageError("a stage of the pipeline without what the one before it sets")
    return value


def _sealer(signing: SigningKey, keys: TrafficKeys, request: CommandEnvelope) -> Callable[[bytes], bytes]:
    return lambda body: envelope.seal_reply(signing, keys, request.counter, request.request_hash, body)


def _verified(request: CommandEnvelope, app_key: VerifyKey) -> VerifiedCommand:
    try:
        return request.verify(app_key)
    except SignatureInvalid as error:
        raise Rejected("signature") from error


def _unread(verified: VerifiedCommand, keys: TrafficKeys) -> UnreadRequest:
    try:
        body = verified.open(keys)
    except ProtocolError as error:
        raise Rejected("decryption") from error
    try:
        return commands.open_request(body)
    except ProtocolError as error:
        raise Rejected("nonce") from error


def _open_confirm(
    request: CommandEnvelope, ring: KekRing, repository: RepositoryId, now: Milliseconds
) -> session.OpenedConfirm:
    """The confirm, with its MAC over the transcript and its login's binding checked. Raises Refused."""
    try:
        kek = records.kek_id_of(request.cookie or b"")
        return session.open_confirm(request, ring.holding(kek), repository, now)
    except OutOfTime as error:
        raise Refused(ErrorCode.CLOCK, f"Not confirmed: {error}.") from error
    except SignatureInvalid as error:
        raise Refused(ErrorCode.SIGNATURE, f"Not confirmed: {error}.") from error
    except BindingMismatch as error:
        raise Refused(ErrorCode.NOT_ALLOWED, f"Not confirmed: {error}.") from error
    except ProtocolError as error:
        raise Refused(ErrorCode.MALFORMED, f"Not confirmed: {error}.") from error


def _decode(unread: UnreadRequest, record: SessionRecord, now: Milliseconds) -> Request:
    """The command, in time. Raises Refused."""
    if now >= record.expires:
        raise Refused(ErrorCode.LOGIN_NEEDED, "This session is over; open another one with your card.")
    try:
        decoded = unread.read()
    except LimitExceeded as error:
        raise Refused(ErrorCode.TOO_LARGE, f"The command passes a limit: {error}.") from error
    except Malformed as error:
        raise Refused(ErrorCode.MALFORMED, f"Not a command of this protocol: {error}.") from error
    # A command may be old, since it is sent again until it is answered; it cannot come from the future.
    if decoded.time > now + limits.CLOCK_SKEW_MS:
        raise Refused(ErrorCode.CLOCK, "The command is dated in the future; set the clock of your machine.")
    return decoded


def _require_reply_form(message: Message) -> str:
    if message.reply_to is None:
        raise Rejected("reply-to")
    try:
        return names.parse_reply_queue(message.reply_to)
    except NameRefused as error:
        raise Rejected("reply-to") from error


def _full(error: MailboxFull, case: _Case) -> str:
    """What the author is told: of another's mailbox nothing but that it takes no more."""
    if case.asked is not None and error.mailbox == case.asked.record.user:
        return (
            "Not accepted: your own mailbox is full, and it would get a copy. Nothing was stored; ask the operator of "
            "this repository for more room."
        )
    return (
        f"Not accepted: the mailbox of {error.mailbox.hex()} is full. Nothing was stored for anybody; write to the "
        "others without this recipient, or try again when there is room."
    )


def _reference() -> str:
    """A word by which an operator finds a fault in the log."""
    return ids.base32(secrets.token_bytes(_REFERENCE_BYTES), 8)
