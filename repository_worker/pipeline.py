"""From a message to its reply: verify, decide, store, reply.

The order of the checks on a command, each with what follows when it fails:

    1. size and decoding             no reply, dead letter: nobody can be shown to have sent it
    2. the session is known          no reply, dead letter
    3. the signature of its app      no reply, dead letter
    4. decryption                    no reply, dead letter: without the nonce inside, no reply can be bound to it
    5. reply_to is the app's own     no reply, dead letter: replies go to nobody else, and nothing is executed unheard
    6. the counter                   refused: another envelope was accepted under it
    7. the session's end, the schema, the clock
                                     refused
    8. authorisation and the rest    refused by the handler

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
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from broker_config import names
from broker_config.errors import NameRefused
from crypto_core import commands, cose, descriptor, envelope, ids, labels, limits, records, session, suite
from crypto_core.commands import ErrorCode, Request
from crypto_core.envelope import CommandEnvelope, TrafficKeys
from crypto_core.errors import BindingMismatch, LimitExceeded, Malformed, OutOfTime, ProtocolError, SignatureInvalid
from crypto_core.ids import Milliseconds, RepositoryId
from crypto_core.keys import VerifyKey
from crypto_core.records import Cookie, SessionRecord
from crypto_core.session import DEFAULT_LIMITS, RepositoryIdentity, SessionLimits
from repository_worker import handlers
from repository_worker.effects import Change, CounterRecord, Outcome
from repository_worker.errors import Conflict, CounterUsed, Refused, Rejected, StorageUnavailable
from repository_worker.handlers import Caller, Context
from repository_worker.handlers.confirm import require_login
from repository_worker.identities import Identities
from repository_worker.keys import KekRing, now_ms
from repository_worker.metrics import Metrics
from repository_worker.sessions import Sessions
from repository_worker.storage.interface import Storage

# RFC 8949 section 3.4: how the COSE tags begin on the wire
_SIGN1_START: Final = b"\xd2"
_ENCRYPT_START: Final = b"\xd8\x60"
_REFERENCE_BYTES: Final = 5


class Verdict(enum.Enum):
    """What becomes of a message once its reply, if any, is on its way."""

    DONE = "done"  #: acknowledge
    DEAD_LETTER = "dead letter"  #: reject, never to be delivered again


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came: nothing of it is believed."""

    body: bytes = field(repr=False)
    reply_to: str | None


@dataclass(frozen=True, slots=True)
class Reply:
    """An envelope for a reply queue whose owner was verified."""

    queue: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Handled:
    """The end of a message."""

    verdict: Verdict
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class RepositoryState:
    """What the repository is: its private keys, its KEKs, and the descriptor that it answers with."""

    identity: RepositoryIdentity
    ring: KekRing
    descriptor: bytes = field(repr=False)
    limits: SessionLimits = DEFAULT_LIMITS


class Pipeline:
    """Handles one message at a time in each thread that calls it. Thread-safe."""

    def __init__(
        self,
        repository: RepositoryState,
        storage: Storage,
        sessions: Sessions,
        identities: Identities,
        metrics: Metrics,
        *,
        clock: Callable[[], Milliseconds] = now_ms,
    ) -> None:
        self._repository = repository
        self._storage = storage
        self._sessions = sessions
        self._identities = identities
        self._metrics = metrics
        self._clock = clock
        self._log = structlog.get_logger("pipeline")

    def handle(self, message: Message) -> Handled:
        """Takes a message to its end. Raises StorageUnavailable, and nothing else."""
        started = time.perf_counter()
        try:
            kind, handled = self._route(message)
        except StorageUnavailable:
            raise
        except Rejected as error:
            return self._reject(error.reason)
        except Exception:  # noqa: BLE001 - whatever a message provokes, the next one must find a worker
            self._log.exception("fault", reference=_reference())
            return self._reject("fault")
        self._metrics.handled.labels(kind).inc()
        self._metrics.seconds.labels(kind).observe(time.perf_counter() - started)
        return handled

    def _reject(self, reason: str) -> Handled:
        self._metrics.dead.labels(reason).inc()
        self._log.info("rejected", reason=reason)
        return Handled(Verdict.DEAD_LETTER)

    def _route(self, message: Message) -> tuple[str, Handled]:
        if len(message.body) > limits.ENVELOPE_BYTES:
            raise Rejected("size")
        if message.body.startswith(_ENCRYPT_START):
            return "hello", self._hello(message)
        if not message.body.startswith(_SIGN1_START):
            raise Rejected("decoding")
        try:
            signed = cose.read_sign1(message.body, limits.ENVELOPE_BYTES)
            label = cose.label_of(signed.headers)
            if label == labels.DESCRIPTOR_REQUEST:
                return "descriptor", self._descriptor(message, signed)
            request = envelope.from_message(signed, suite.sha256(message.body))
        except ProtocolError as error:
            raise Rejected("decoding") from error
        if request.label == labels.CONFIRM:
            return "confirm", self._confirm(message, request)
        return self._command(message, request)

    # --- before a session ---------------------------------------------------------------------------------------------

    def _descriptor(self, message: Message, signed: cose.Sign1) -> Handled:
        if len(message.body) > limits.HANDSHAKE_BYTES:
            raise Rejected("size")
        request = descriptor.read_request(signed)
        queue = _reply_queue(message, request.app_key)
        signing = self._repository.identity.signing
        answer = descriptor.answer(signing, request.nonce, self._repository.descriptor, self._clock())
        return Handled(Verdict.DONE, Reply(queue, answer))

    def _hello(self, message: Message) -> Handled:
        _require_reply_form(message)  # costs nothing, and spares opening what could not be answered
        now = self._clock()
        kek = self._repository.ring.current(now)
        try:
            answered = session.answer_hello(message.body, self._repository.identity, kek, now, self._repository.limits)
        except OutOfTime as error:
            raise Rejected("clock") from error
        except ProtocolError as error:
            raise Rejected("hello") from error
        return Handled(Verdict.DONE, Reply(_reply_queue(message, answered.app_key.raw), answered.answer))

    def _confirm(self, message: Message, request: CommandEnvelope) -> Handled:
        now = self._clock()
        cookie, nonce = self._read_confirm(request)
        queue = _reply_queue(message, cookie.app_key)
        repository = self._repository
        identity, ring = repository.identity, repository.ring

        def seal(body: bytes) -> bytes:
            return envelope.seal_reply(identity.signing, cookie.keys, request.counter, request.request_hash, body)

        def decide() -> bytes:
            opened = _open_confirm(request, ring, identity.repository, now)
            require_login(opened, self._storage, self._context(now))
            effect = self._sessions.seal(opened.record(), now)
            used = CounterRecord(cookie.session, request.counter, request.request_hash, cookie.expires)
            self._storage.commit(Change(effect, used))
            return session.seal_active(identity, opened, now)

        return self._answer(queue, nonce, now, seal, decide)

    def _read_confirm(self, request: CommandEnvelope) -> tuple[Cookie, bytes]:
        """The cookie, after the app's signature was verified, and the nonce that a refusal is bound to."""
        try:
            kek = records.kek_id_of(request.cookie or b"")
            cookie = records.open_cookie(self._repository.ring.holding(kek), request.session, request.cookie or b"")
        except ProtocolError as error:
            raise Rejected("cookie") from error
        nonce = commands.nonce_of(_open(request, cookie.verify_key, cookie.keys))
        if nonce is None:
            raise Rejected("nonce")
        return cookie, nonce

    # --- in a session -------------------------------------------------------------------------------------------------

    def _command(self, message: Message, request: CommandEnvelope) -> tuple[str, Handled]:
        record = self._sessions.find(request.session)
        if record is None:
            raise Rejected("session")
        body = _open(request, record.verify_key, record.keys)
        queue = _reply_queue(message, record.app_key)
        nonce = commands.nonce_of(body)
        if nonce is None:
            raise Rejected("nonce")
        now = self._clock()
        kind = "unreadable"

        def seal(reply: bytes) -> bytes:
            signing = self._repository.identity.signing
            return envelope.seal_reply(signing, record.keys, request.counter, request.request_hash, reply)

        def decide() -> bytes:
            nonlocal kind
            self._require_counter(request)
            decoded = _decode(body, record, now)
            kind = commands.name_of(decoded.command)
            return seal(commands.encode_reply(nonce, now, self._execute(decoded, request, record, now)))

        handled = self._answer(queue, nonce, now, seal, decide)
        return kind, handled

    def _require_counter(self, request: CommandEnvelope) -> None:
        state = self._storage.counter(request.session, request.counter)
        if state.closed:
            # This worker still had the record in memory: the session is as unknown here as it is elsewhere.
            self._sessions.forget(request.session)
            raise Rejected("session")
        if state.request_hash is not None and not suite.equal(state.request_hash, request.request_hash):
            raise CounterUsed("another envelope was accepted under this counter")

    def _execute(self, decoded: Request, request: CommandEnvelope, record: SessionRecord, now: Milliseconds) -> object:
        caller = Caller(record.session, record.user)
        decision = handlers.decide(decoded.command, caller, self._storage, self._context(now))
        if decision.effect is None:
            return decision.reply(Outcome())
        used = CounterRecord(record.session, request.counter, request.request_hash, record.expires)
        outcome = self._storage.commit(Change(decision.effect, used))
        return decision.reply(outcome)

    # --- both ---------------------------------------------------------------------------------------------------------

    def _context(self, now: Milliseconds) -> Context:
        repository = self._repository
        return Context(
            repository=repository.identity.repository,
            now=now,
            identities=self._identities,
            rates=self._storage,
            signing=repository.identity.signing,
            limits=repository.limits,
        )

    def _answer(
        self,
        queue: str,
        nonce: bytes,
        now: Milliseconds,
        seal: Callable[[bytes], bytes],
        decide: Callable[[], bytes],
    ) -> Handled:
        """The reply that `decide` makes, or the refusal that it raises. Raises Rejected, StorageUnavailable."""
        try:
            return Handled(Verdict.DONE, Reply(queue, decide()))
        except (Rejected, StorageUnavailable):
            raise
        except Refused as error:
            code, text, verdict = error.code, error.message, Verdict.DONE
        except CounterUsed:
            code, verdict = ErrorCode.COUNTER_USED, Verdict.DONE
            text = "Another command was accepted under this counter; send this one again under the next."
        except Conflict as error:
            code, verdict = ErrorCode.CONFLICT, Verdict.DONE
            text = f"Not accepted: {error}."
        except Exception:  # noqa: BLE001 - our fault, not the client's: logged, told, kept
            reference = _reference()
            self._log.exception("fault", reference=reference)
            self._metrics.dead.labels("fault").inc()
            code, verdict = ErrorCode.UNAVAILABLE, Verdict.DEAD_LETTER
            text = f"The repository failed at this command and keeps it for its operator; tell them {reference}."
        self._metrics.refused.labels(code.value).inc()
        self._log.info("refused", code=code.value)
        return Handled(verdict, Reply(queue, seal(commands.encode_refusal(nonce, now, code, text))))


def _open(request: CommandEnvelope, app_key: VerifyKey, keys: TrafficKeys) -> bytes:
    try:
        return request.open(app_key, keys)
    except SignatureInvalid as error:
        raise Rejected("signature") from error
    except ProtocolError as error:
        raise Rejected("decryption") from error


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


def _decode(body: bytes, record: SessionRecord, now: Milliseconds) -> Request:
    """The command, in time. Raises Refused."""
    if now >= record.expires:
        raise Refused(ErrorCode.LOGIN_NEEDED, "This session is over; open another one with your card.")
    try:
        decoded = commands.decode_request(body)
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


def _reply_queue(message: Message, app_key: bytes) -> str:
    """The queue that `reply_to` names, if it is one of the app's that signed. Raises Rejected."""
    installation = _require_reply_form(message)
    if message.reply_to is None or installation != ids.installation_of(app_key):
        raise Rejected("reply-to")
    return message.reply_to


def _reference() -> str:
    """A word by which an operator finds a fault in the log."""
    return ids.base32(secrets.token_bytes(_REFERENCE_BYTES), 8)
