"""Session negotiation in four phases, as two state machines whose states are types.

    client                                   repository (keeps nothing until confirm)
    hello()          ── hello ───▶           answer_hello()
    HelloSent.answered()   ◀── answer ──
    Answered.confirm()     ── confirm ─▶     open_confirm()
    ConfirmSent.active()   ◀── active ──     seal_active()
    Session

Each state is a frozen value; a step is a method of the state in which it is allowed and gives the next state, so that
a wrong order cannot be written down.

    th1 = H(hello, repository's X25519 key, ML-KEM ciphertext)
    PRK = HKDF-Extract(salt = th1, ML-KEM secret, X25519 secret)
    th2 = H(th1, sealed part of the answer)

th1 keys the sealed part of the answer; th2 goes into the MAC, the login and both traffic secrets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from cryptography.hazmat.primitives.asymmetric import mlkem, x25519

from crypto_core import cbor, commands, cose, documents, envelope, labels, limits, records, schema, suite
from crypto_core.descriptor import Descriptor
from crypto_core.documents import Login, SignedDocument
from crypto_core.envelope import CommandEnvelope, TrafficKeys
from crypto_core.errors import BindingMismatch, DecryptionFailed, Malformed, OutOfTime, SignatureInvalid
from crypto_core.ids import (
    DIGEST_BYTES,
    Digest,
    Milliseconds,
    MomentField,
    NonceField,
    RepositoryId,
    RepositoryIdField,
    SessionId,
    SessionIdField,
    UserId,
    UserIdField,
    new_nonce,
    new_session_id,
)
from crypto_core.keys import (
    ED25519_BYTES,
    KEY_ID_BYTES,
    MLKEM_CIPHERTEXT_BYTES,
    MLKEM_PUBLIC_BYTES,
    X25519_BYTES,
    SealingKey,
    SigningKey,
    VerifyKey,
)
from crypto_core.moments import require_within
from crypto_core.records import Cookie, KeyEncryptionKey, SessionRecord
from crypto_core.schema import Range, Size
from crypto_core.suite import ContentKey


@dataclass(frozen=True, slots=True)
class Hello:
    """Phase 1. Names the repository by id, epoch and signing key, so that it serves at no other one."""

    repository: RepositoryIdField
    epoch: Annotated[int, Range(1, 2**31 - 1)]
    signing_key: Annotated[bytes, Size(ED25519_BYTES, ED25519_BYTES)]
    app_key: Annotated[bytes, Size(ED25519_BYTES, ED25519_BYTES)]
    x25519: Annotated[bytes, Size(X25519_BYTES, X25519_BYTES)]
    mlkem: Annotated[bytes, Size(MLKEM_PUBLIC_BYTES, MLKEM_PUBLIC_BYTES)]
    nonce: NonceField
    time: MomentField


@dataclass(frozen=True, slots=True)
class Answer:
    """Phase 2, signed by the repository together with the hash of hello."""

    x25519: Annotated[bytes, Size(X25519_BYTES, X25519_BYTES)]
    mlkem: Annotated[bytes, Size(MLKEM_CIPHERTEXT_BYTES, MLKEM_CIPHERTEXT_BYTES)]
    sealed: Annotated[bytes, Size(1, limits.KIB)]
    cookie: Annotated[bytes, Size(1, envelope.COOKIE_BYTES)]


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What this repository allows in this session: it may be less than the protocol's limits, never more."""

    commands: Annotated[int, Range(1, limits.SESSION_COMMANDS)]
    body_bytes: Annotated[int, Range(1, limits.BODY_BYTES)]
    recipients: Annotated[int, Range(1, limits.RECIPIENTS)]


DEFAULT_LIMITS: Final = SessionLimits(limits.SESSION_COMMANDS, limits.BODY_BYTES, limits.RECIPIENTS)


@dataclass(frozen=True, slots=True)
class Offer:
    """The sealed part of the answer."""

    session: SessionIdField
    client_nonce: NonceField
    repository_nonce: NonceField
    expires: MomentField
    limits: SessionLimits


@dataclass(frozen=True, slots=True)
class Confirm:
    """The body of phase 3: a MAC over the transcript, and the login that the card signed (none: no citizen)."""

    mac: Annotated[bytes, Size(DIGEST_BYTES, DIGEST_BYTES)]
    login: SignedDocument | None
    nonce: NonceField
    time: MomentField


@dataclass(frozen=True, slots=True)
class Active:
    """The result in phase 4: whose session this is now, and until when."""

    user: UserIdField | None
    expires: MomentField


# ---------------------------------------------------------------------------------------------------- the client


@dataclass(frozen=True, slots=True)
class HelloSent:
    """Phase 1 is on its way."""

    descriptor: Descriptor
    app_key: SigningKey
    hello: bytes
    nonce: bytes
    _x25519: x25519.X25519PrivateKey = field(repr=False)
    _mlkem: mlkem.MLKEM768PrivateKey = field(repr=False)

    def answered(self, data: bytes) -> Answered:
        """Takes phase 2. Raises ProtocolError: the answer is not this repository's answer to this hello."""
        message = cose.read_sign1(data, limits.HANDSHAKE_BYTES)
        payload = message.verify(self.descriptor.verify_key)
        hello_hash = suite.sha256(self.hello)
        if _answer_hello_hash(message) != hello_hash:
            raise BindingMismatch("the answer is to another hello")
        answer = schema.from_map(Answer, cbor.decode(payload, limits.HANDSHAKE_BYTES))
        try:
            dh = self._x25519.exchange(x25519.X25519PublicKey.from_public_bytes(answer.x25519))
            kem = self._mlkem.decapsulate(answer.mlkem)
        except ValueError as error:
            raise Malformed("the answer's key share is unusable") from error
        th1 = _transcript_1(self.hello, answer.x25519, answer.mlkem)
        prk = suite.extract(th1, labels.KEY_SCHEDULE, kem, dh)
        sealed = cose.read_encrypt0(answer.sealed, limits.KIB)
        cose.expect(sealed.headers, cose.ALG_A256GCM, labels.ANSWER_SEAL)
        offer = schema.from_map(Offer, cbor.decode(sealed.decrypt(_answer_key(prk, th1), th1), limits.KIB))
        if not suite.equal(offer.client_nonce, self.nonce):
            raise BindingMismatch("the answer carries another nonce")
        schedule = _schedule(prk, _transcript_2(th1, answer.sealed), offer.session)
        return Answered(self.descriptor, self.app_key, offer, schedule, answer.cookie)


@dataclass(frozen=True, slots=True)
class Answered:
    """Phase 2 is verified. The card may sign the login now."""

    descriptor: Descriptor
    app_key: SigningKey
    offer: Offer
    _schedule: _Schedule
    _cookie: bytes = field(repr=False)

    def login_document(self, user: UserId, now: Milliseconds) -> bytes:
        """The login that the card signs: it binds citizen, app key and this very transcript."""
        return documents.encode(
            Login(
                repository=self.descriptor.repository,
                user=user,
                session=self.offer.session,
                transcript=self._schedule.transcript,
                app_key=self.app_key.public.raw,
                time=now,
            )
        )

    def confirm(self, login: SignedDocument | None, now: Milliseconds) -> ConfirmSent:
        """Makes phase 3: with a login for a citizen's session, without one to register or look up an id."""
        nonce = new_nonce()
        body = Confirm(_finished(self._schedule), login, nonce, now)
        data = envelope.seal_confirm(self.app_key, self._schedule.keys, self._cookie, cbor.encode(schema.to_map(body)))
        return ConfirmSent(self.descriptor, self.app_key, self.offer, data, nonce, self._schedule.keys)


@dataclass(frozen=True, slots=True)
class ConfirmSent:
    """Phase 3 is on its way."""

    descriptor: Descriptor
    app_key: SigningKey
    offer: Offer
    confirm: bytes
    nonce: bytes
    _keys: TrafficKeys

    def active(self, data: bytes) -> Session:
        """Takes phase 4. Raises ProtocolError; RefusedByRepository when the repository refuses the login."""
        body = envelope.open_reply(
            data, self.descriptor.verify_key, self._keys, envelope.CONFIRM_COUNTER, suite.sha256(self.confirm)
        )
        result = commands.decode_reply(body, Active, self.nonce)
        if result.expires > self.offer.expires:
            raise BindingMismatch("the session is longer than what was offered")
        return Session(self.descriptor, self._keys, result.user, result.expires, self.offer.limits)


@dataclass(frozen=True, slots=True)
class Session:
    """An active session, as the client has it."""

    descriptor: Descriptor
    keys: TrafficKeys
    user: UserId | None
    expires: Milliseconds
    limits: SessionLimits


def hello(descriptor: Descriptor, app_key: SigningKey, now: Milliseconds) -> HelloSent:
    """Starts a negotiation: phase 1, sealed to the repository that `descriptor` describes."""
    dh, kem, nonce = x25519.X25519PrivateKey.generate(), mlkem.MLKEM768PrivateKey.generate(), new_nonce()
    body = Hello(
        repository=descriptor.repository,
        epoch=descriptor.epoch,
        signing_key=descriptor.signing_key,
        app_key=app_key.public.raw,
        x25519=dh.public_key().public_bytes_raw(),
        mlkem=kem.public_key().public_bytes_raw(),
        nonce=nonce,
        time=now,
    )
    headers = {cose.ALG: cose.ALG_ED25519, cose.LABEL: labels.HELLO}
    signed = cose.sign1(app_key, headers, cbor.encode(schema.to_map(body)))
    return HelloSent(descriptor, app_key, _seal_hello(descriptor, signed), nonce, dh, kem)


# ------------------------------------------------------------------------------------------------ the repository


@dataclass(frozen=True, slots=True)
class RepositoryIdentity:
    """The repository's id, epoch and private keys."""

    repository: RepositoryId
    epoch: int
    signing: SigningKey = field(repr=False)
    sealing: SealingKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class AnsweredHello:
    """Phase 2, and the app key to whose reply queue it may go."""

    answer: bytes
    app_key: VerifyKey


@dataclass(frozen=True, slots=True)
class OpenedConfirm:
    """Phase 3, opened: the MAC holds, the login belongs to this transcript. Its card signature is not verified yet."""

    cookie: Cookie
    login: Login | None
    signed_login: SignedDocument | None
    nonce: bytes
    request_hash: Digest

    def record(self) -> SessionRecord:
        """The session record to store once the caller has verified the login."""
        return SessionRecord(
            session=self.cookie.session,
            app_key=self.cookie.app_key,
            user=self.login.user if self.login else None,
            epoch=self.cookie.epoch,
            client_to_repository=self.cookie.client_to_repository,
            repository_to_client=self.cookie.repository_to_client,
            confirm_hash=self.request_hash,
            expires=self.cookie.expires,
        )


def answer_hello(
    data: bytes,
    identities: Sequence[RepositoryIdentity],
    kek: KeyEncryptionKey,
    now: Milliseconds,
    session_limits: SessionLimits = DEFAULT_LIMITS,
) -> AnsweredHello:
    """Phase 2 for a hello, by the one of `identities` (the newest first) to which it was sealed.

    Raises ProtocolError; nothing is kept.
    """
    identity, found = _open_hello(data, identities)
    require_within(found.time, now, limits.CLOCK_SKEW_MS, "the hello")
    dh = x25519.X25519PrivateKey.generate()
    try:
        dh_secret = dh.exchange(x25519.X25519PublicKey.from_public_bytes(found.x25519))
        kem_secret, ciphertext = mlkem.MLKEM768PublicKey.from_public_bytes(found.mlkem).encapsulate()
    except ValueError as error:
        raise Malformed("the hello's key share is unusable") from error
    share = dh.public_key().public_bytes_raw()
    th1 = _transcript_1(data, share, ciphertext)
    prk = suite.extract(th1, labels.KEY_SCHEDULE, kem_secret, dh_secret)
    offer = Offer(
        session=new_session_id(),
        client_nonce=found.nonce,
        repository_nonce=new_nonce(),
        expires=Milliseconds(now + limits.SESSION_MS),
        limits=session_limits,
    )
    sealed = cose.encrypt0(
        _answer_key(prk, th1),
        {cose.ALG: cose.ALG_A256GCM, cose.LABEL: labels.ANSWER_SEAL},
        cbor.encode(schema.to_map(offer)),
        th1,
    )
    schedule = _schedule(prk, _transcript_2(th1, sealed), offer.session)
    cookie = records.seal_cookie(kek, _cookie(schedule, found.app_key, identity.epoch, offer.expires))
    body = Answer(share, ciphertext, sealed, cookie)
    headers = {cose.ALG: cose.ALG_ED25519, cose.LABEL: labels.ANSWER, cose.REQUEST_HASH: suite.sha256(data)}
    return AnsweredHello(
        cose.sign1(identity.signing, headers, cbor.encode(schema.to_map(body))), VerifyKey(found.app_key)
    )


def open_confirm(
    message: CommandEnvelope, keks: Mapping[bytes, KeyEncryptionKey], repository: RepositoryId, now: Milliseconds
) -> OpenedConfirm:
    """Opens phase 3. Raises ProtocolError. The caller verifies the login's card signature, then stores `record()`."""
    if message.cookie is None:
        raise Malformed("a confirm without its cookie")
    cookie = records.open_cookie(keks, message.session, message.cookie)
    body = schema.from_map(Confirm, cbor.decode(message.open(cookie.verify_key, cookie.keys), limits.ENVELOPE_BYTES))
    expected = suite.labelled_mac(cookie.finished, labels.FINISHED, cookie.transcript)
    if not suite.equal(body.mac, expected):
        raise SignatureInvalid("the confirm's MAC over the transcript does not hold")
    login = documents.decode(Login, body.login.document, repository) if body.login else None
    opened = OpenedConfirm(cookie, login, body.login, body.nonce, message.request_hash)
    if login is not None:
        _require_login(login, cookie)
    _require_in_time(opened, now)
    return opened


def _require_in_time(opened: OpenedConfirm, now: Milliseconds) -> None:
    answered = opened.cookie.expires - limits.SESSION_MS
    if now >= answered + limits.HANDSHAKE_MS:
        raise OutOfTime("the session was not confirmed in time; start again")
    if opened.login is not None:
        require_within(opened.login.time, now, limits.CLOCK_SKEW_MS + limits.HANDSHAKE_MS, "the login")


def seal_active(identity: RepositoryIdentity, opened: OpenedConfirm, now: Milliseconds) -> bytes:
    """Phase 4. May be made again for a repeated confirm."""
    result = Active(opened.login.user if opened.login else None, opened.cookie.expires)
    body = commands.encode_reply(opened.nonce, now, result)
    return envelope.seal_reply(
        identity.signing, opened.cookie.keys, envelope.CONFIRM_COUNTER, opened.request_hash, body
    )


# ------------------------------------------------------------------------------------------------ the transcript


@dataclass(frozen=True, slots=True)
class _Schedule:
    """What comes out of the negotiation on both sides."""

    transcript: Digest
    keys: TrafficKeys
    finished: bytes = field(repr=False)


def _transcript_1(hello_bytes: bytes, share: bytes, ciphertext: bytes) -> Digest:
    return suite.labelled_hash(labels.TRANSCRIPT_1, hello_bytes, share, ciphertext)


def _transcript_2(th1: Digest, sealed: bytes) -> Digest:
    return suite.labelled_hash(labels.TRANSCRIPT_2, th1, sealed)


def _answer_key(prk: bytes, th1: Digest) -> ContentKey:
    return ContentKey.derive(prk, labels.ANSWER_SEAL, th1)


def _schedule(prk: bytes, th2: Digest, session: SessionId) -> _Schedule:
    size = suite.SECRET_BYTES
    return _Schedule(
        transcript=th2,
        keys=TrafficKeys(
            session,
            suite.expand(prk, size, labels.CLIENT_TO_REPOSITORY, th2, session),
            suite.expand(prk, size, labels.REPOSITORY_TO_CLIENT, th2, session),
        ),
        finished=suite.expand(prk, size, labels.FINISHED_KEY, th2, session),
    )


def _finished(schedule: _Schedule) -> bytes:
    return suite.labelled_mac(schedule.finished, labels.FINISHED, schedule.transcript)


def _cookie(schedule: _Schedule, app_key: bytes, epoch: int, expires: Milliseconds) -> Cookie:
    return Cookie(
        session=schedule.keys.session,
        app_key=app_key,
        transcript=schedule.transcript,
        epoch=epoch,
        client_to_repository=schedule.keys.client_to_repository,
        repository_to_client=schedule.keys.repository_to_client,
        finished=schedule.finished,
        expires=expires,
    )


def _require_login(login: Login, cookie: Cookie) -> None:
    found = (login.session, login.transcript, login.app_key)
    if found != (cookie.session, cookie.transcript, cookie.app_key):
        raise BindingMismatch("the login is for another session, transcript or app key")


def _hello_info(repository: RepositoryId, epoch: int, signing_key: bytes) -> bytes:
    return cbor.encode([labels.HELLO_SEAL, repository, epoch, signing_key])


def _seal_hello(descriptor: Descriptor, signed: bytes) -> bytes:
    # A COSE_Encrypt with one recipient: the content key is fresh, so its derived IV is used once.
    secret = new_nonce()
    headers = {
        cose.ALG: cose.ALG_HPKE_9_KE,
        cose.LABEL: labels.HELLO_SEAL,
        cose.KID: descriptor.sealing.key_id,
    }
    info = _hello_info(descriptor.repository, descriptor.epoch, descriptor.signing_key)
    recipient = cose.wrap(descriptor.sealing, secret, headers, cose.ALG_A256GCM, info)
    protected = cbor.encode({cose.ALG: cose.ALG_A256GCM, cose.LABEL: labels.HELLO})
    return cose.encrypt(ContentKey.derive(secret, labels.HELLO_SEAL), protected, signed, [recipient])


def _open_hello(data: bytes, identities: Sequence[RepositoryIdentity]) -> tuple[RepositoryIdentity, Hello]:
    message = cose.read_encrypt(data, limits.HANDSHAKE_BYTES)
    cose.expect(message.headers, cose.ALG_A256GCM, labels.HELLO)
    if len(message.recipients) != 1:
        raise Malformed("a hello has one recipient")
    (recipient,) = message.recipients
    cose.expect(
        recipient.headers,
        cose.ALG_HPKE_9_KE,
        labels.HELLO_SEAL,
        kid=(cose.KID, bytes, KEY_ID_BYTES, KEY_ID_BYTES),
    )
    identity, secret = _unwrap_hello(recipient, identities)
    if len(secret) != suite.SECRET_BYTES:
        raise Malformed("a content secret has 32 bytes")
    signed = cose.read_sign1(message.decrypt(ContentKey.derive(secret, labels.HELLO_SEAL)), limits.HANDSHAKE_BYTES)
    cose.expect(signed.headers, cose.ALG_ED25519, labels.HELLO)
    # The hello carries its own key; the signature proves possession, and binds everything that stands beside it.
    found = schema.from_map(Hello, cbor.decode(signed.unverified_payload, limits.HANDSHAKE_BYTES))
    signed.verify(VerifyKey(found.app_key))
    if (found.repository, found.epoch, found.signing_key) != (
        identity.repository,
        identity.epoch,
        identity.signing.public.raw,
    ):
        raise BindingMismatch("the hello is for another repository, or for another epoch of it")
    return identity, found


def _unwrap_hello(
    recipient: cose.Recipient, identities: Sequence[RepositoryIdentity]
) -> tuple[RepositoryIdentity, bytes]:
    """The content secret, and to which epoch it was sealed: epochs may have one sealing key in common."""
    failed = DecryptionFailed("the hello is sealed to another key of the repository; get the current descriptor")
    for identity in identities:
        if identity.sealing.public.key_id == recipient.headers[cose.KID]:
            info = _hello_info(identity.repository, identity.epoch, identity.signing.public.raw)
            try:
                return identity, recipient.unwrap(identity.sealing, cose.ALG_A256GCM, info)
            except DecryptionFailed as error:
                failed = error
    raise failed


def _answer_hello_hash(message: cose.Sign1) -> Any:
    found = cose.expect(
        message.headers,
        cose.ALG_ED25519,
        labels.ANSWER,
        hello=(cose.REQUEST_HASH, bytes, DIGEST_BYTES, DIGEST_BYTES),
    )
    return found["hello"]
