"""The worked exchange of docs/PROTOCOL.md: made once, kept as docs/worked-exchange.json, replayed by a test.

Most of the randomness is drawn inside of the primitives, so a new exchange has new bytes. What is kept is therefore
replayed from its private keys: every derived value is computed again and every message is opened again.

    python -m tests.support.protocol_page --new     # make another exchange, and write the page
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from crypto_core import (
    cbor,
    commands,
    cose,
    descriptor,
    documents,
    envelope,
    labels,
    letter,
    mailbox,
    moments,
    records,
    schema,
    sealed,
    session,
    suite,
)
from crypto_core.documents import Party, SignedDocument
from crypto_core.envelope import TrafficKeys
from crypto_core.ids import Digest, LetterId, Milliseconds, SessionId, UserId
from crypto_core.keys import EcdsaSigningKey, EcdsaVerifyKey, SealingKey, SigningKey
from pki import cades, identity
from pki.tokens.profiles import CardKeyUse

FILE = Path(__file__).parents[2] / "docs" / "worked-exchange.json"
NAME = "Repositório de exemplo"
SUBJECT = "Ata da reunião de ontem"
BODY = "Olá! Segue a ata da reunião. Até amanhã, Maria"

Values = dict[str, str]


@dataclass(frozen=True)
class SoftwareCard:
    """A P-256 key with a certificate where a card would be: the signature's form is the same."""

    key: ec.EllipticCurvePrivateKey
    holder: x509.Certificate

    def certificate(self, use: CardKeyUse) -> x509.Certificate | None:
        return self.holder if use is CardKeyUse.AUTHENTICATION else None

    def sign(self, use: CardKeyUse, data: bytes) -> bytes:
        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))


def load() -> Values:
    return json.loads(FILE.read_text("utf-8"))


def save(values: Values) -> None:
    FILE.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", "utf-8")


def make(now: Milliseconds) -> Values:
    """A new exchange at `now`: descriptor, negotiation, a letter from Maria to Bruno, and its acceptance."""
    values: Values = {"now": moments.to_text(now), "subject": SUBJECT, "body": BODY}

    def keep(**items: bytes) -> None:
        values.update({name: data.hex() for name, data in items.items()})

    root_key, root = _certificate("Operador de exemplo", now)
    signing, sealing, app = SigningKey.generate(), SealingKey.generate(), SigningKey.generate()
    maria_key, maria_certificate = _certificate("MARIA DA CONCEIÇÃO REIS", now)
    card = SoftwareCard(maria_key, maria_certificate)
    maria, bruno = UserId(identity.user_id(maria_certificate)), UserId(suite.sha256(b"Bruno")[:28])
    maria_sealing, bruno_sealing = SealingKey.generate(), SealingKey.generate()
    root_der = root.public_bytes(Encoding.DER)
    fingerprint = suite.sha256(root_der)
    repository = descriptor.derive_repository_id(fingerprint, NAME)
    described = descriptor.Descriptor(
        repository=repository,
        name=NAME,
        operator_root=fingerprint,
        epoch=1,
        oldest=1,
        broker="amqps://repository.example",
        signing_key=signing.public.raw,
        sealing_key=sealing.public.raw,
        issued=now,
        expires=Milliseconds(now + 90 * 86_400_000),
    )
    # In life the signer has a certificate of its own below the root; one certificate keeps the example short.
    signed_descriptor = descriptor.sign(described, EcdsaSigningKey(root_key), (root_der, root_der))
    keep(
        repository_signing_seed=signing.seed,
        repository_sealing_seed=sealing.seed,
        app_seed=app.seed,
        descriptor=signed_descriptor,
        maria_certificate=maria_certificate.public_bytes(Encoding.DER),
        maria_sealing_seed=maria_sealing.seed,
        bruno=bruno,
        bruno_sealing_seed=bruno_sealing.seed,
    )

    ident = session.RepositoryIdentity(repository, 1, signing, sealing)
    kek = records.KeyEncryptionKey.generate()
    sent = session.hello(described, app, now)
    reply = session.answer_hello(sent.hello, [ident], kek, now)
    answered = sent.answered(reply.answer)
    login = answered.login_document(maria, now)
    confirm = answered.confirm(SignedDocument(login, cades.sign_document(login, card, CardKeyUse.AUTHENTICATION)), now)
    opened = session.open_confirm(envelope.read_command(confirm.confirm), {kek.id: kek}, repository, now)
    active = session.seal_active(ident, opened, now)
    live = confirm.active(active)
    keep(
        client_x25519=sent._x25519.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()),
        client_mlkem_seed=sent._mlkem.private_bytes_raw(),
        hello=sent.hello,
        answer=reply.answer,
        confirm=confirm.confirm,
        active=active,
    )

    written = letter.draft(
        repository,
        LetterId(suite.sha256(b"letter")[:16]),
        Party(maria, suite.sha256(b"Maria's registration")),
        {bruno},
        now,
        SUBJECT,
        BODY.encode(),
    )
    signature = cades.sign_document(written.document, card, CardKeyUse.AUTHENTICATION)
    parts = letter.seal(written, signature, {maria: maria_sealing.public, bruno: bruno_sealing.public})
    command = commands.Send(parts.head, parts.body)
    nonce = suite.sha256(b"nonce")
    request = envelope.seal_command(app, live.keys, 1, commands.encode_request(command, nonce, now))
    placed = _placement(values | {"head": parts.head.hex()}, repository, maria, bruno, now)
    result = commands.SendResult(written.letter.id, now, mailbox.sign_placement(signing, placed))
    accepted = envelope.seal_reply(
        signing, live.keys, 1, suite.sha256(request), commands.encode_reply(nonce, now, result)
    )
    keep(send=request, send_reply=accepted, head=parts.head, sealed_body=parts.body, nonce=nonce)
    return values


def replay(values: Values) -> Values:
    """Everything that follows from the exchange's keys and messages, by name. Raises if anything does not hold."""
    data = {name: _bytes(text) for name, text in values.items()}
    now = Milliseconds(moments.from_text(values["now"]))
    app, signing = SigningKey(data["app_seed"]), SigningKey(data["repository_signing_seed"])
    sealing = SealingKey(data["repository_sealing_seed"])
    read = descriptor.read(data["descriptor"])
    root = x509.load_der_x509_certificate(read.chain[-1])
    described = read.verify(EcdsaVerifyKey(root.public_key()), now)
    derived: dict[str, bytes] = {
        "repository_hash": suite.labelled_hash(labels.REPOSITORY_ID, described.operator_root, described.name)
    }

    ident = session.RepositoryIdentity(described.repository, described.epoch, signing, sealing)
    hello = session._open_hello(data["hello"], [ident])[1]
    derived["hello_body"] = cbor.encode(schema.to_map(hello))
    dh = x25519.X25519PrivateKey.from_private_bytes(data["client_x25519"])
    kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(data["client_mlkem_seed"])
    sent = session.HelloSent(described, app, data["hello"], hello.nonce, dh, kem)
    answered = sent.answered(data["answer"])
    derived |= _key_schedule(data["hello"], data["answer"], dh, kem, answered.offer.session)
    if derived["th2"] != answered._schedule.transcript:
        raise AssertionError("the transcript that was computed by hand is another")
    keys = TrafficKeys(answered.offer.session, derived["c2r"], derived["r2c"])
    derived["session"] = answered.offer.session
    derived["offer"] = cbor.encode(schema.to_map(answered.offer))

    confirm = schema.from_map(session.Confirm, _open_command(data["confirm"], app, keys, derived, "confirm"))
    if confirm.mac != suite.labelled_mac(derived["finished"], labels.FINISHED, derived["th2"]):
        raise AssertionError("the MAC of the confirm is another")
    maria_certificate = x509.load_der_x509_certificate(data["maria_certificate"])
    maria = UserId(identity.user_id(maria_certificate))
    cades.verify_document(confirm.login.document, confirm.login.signature, certificate=maria_certificate)
    login = documents.decode(documents.Login, confirm.login.document, described.repository)
    if (login.user, login.transcript) != (maria, derived["th2"]):
        raise AssertionError("the login is of another citizen or transcript")
    derived |= {"maria": maria, "login_document": confirm.login.document, "login_signature": confirm.login.signature}
    derived["active_body"] = envelope.open_reply(
        data["active"], described.verify_key, keys, 0, suite.sha256(data["confirm"])
    )
    commands.decode_reply(derived["active_body"], session.Active, confirm.nonce)

    request = commands.decode_request(cbor.encode(_open_command(data["send"], app, keys, derived, "send")))
    if request.command != commands.Send(data["head"], data["sealed_body"]) or request.nonce != data["nonce"]:
        raise AssertionError("the command carries another letter")
    derived["send_reply_body"] = envelope.open_reply(
        data["send_reply"], described.verify_key, keys, 1, suite.sha256(data["send"])
    )
    result = commands.decode_reply(derived["send_reply_body"], commands.SendResult, data["nonce"])
    derived |= _open_letter(data, described.repository, UserId(data["bruno"]), maria_certificate)
    expected = _placement(values, described.repository, maria, UserId(data["bruno"]), now)
    if mailbox.read_placement(result.placement, described.verify_key, described.repository) != expected:
        raise AssertionError("the placement is of other entries")
    derived |= {"sent_entry": expected.places[0].entry, "received_entry": expected.places[1].entry}
    if (derived["body"], derived["subject"]) != (BODY.encode(), SUBJECT.encode()):
        raise AssertionError("the letter says something else")
    return {name: value.hex() for name, value in derived.items()} | {"repository": described.repository}


def _key_schedule(
    hello: bytes, answer: bytes, dh: x25519.X25519PrivateKey, kem: mlkem.MLKEM768PrivateKey, session_id: SessionId
) -> dict[str, bytes]:
    """Section 7.2, computed from the specification's text and not by the code that it specifies."""
    found = schema.from_map(session.Answer, cbor.decode(cose.read_sign1(answer).unverified_payload))
    dh_secret = dh.exchange(x25519.X25519PublicKey.from_public_bytes(found.x25519))
    kem_secret = kem.decapsulate(found.mlkem)
    th1 = suite.labelled_hash("smr/1 transcript 1", hello, found.x25519, found.mlkem)
    prk = suite.extract(th1, "smr/1 key schedule", kem_secret, dh_secret)
    th2 = suite.labelled_hash("smr/1 transcript 2", th1, found.sealed)
    return {
        "x25519_secret": dh_secret,
        "mlkem_secret": kem_secret,
        "th1": th1,
        "prk": prk,
        "th2": th2,
        "c2r": suite.expand(prk, 32, "smr/1 client to repository", th2, session_id),
        "r2c": suite.expand(prk, 32, "smr/1 repository to client", th2, session_id),
        "finished": suite.expand(prk, 32, "smr/1 finished key", th2, session_id),
    }


def _open_command(
    data: bytes, app: SigningKey, keys: TrafficKeys, derived: dict[str, bytes], name: str
) -> dict[str, object]:
    found = envelope.read_command(data)
    body = found.open(app.public, keys)
    derived[f"{name}_salt"] = found.salt
    derived[f"{name}_key"] = suite.expand(
        keys.client_to_repository, 44, found.label, found.session, found.counter, found.salt
    )
    derived[f"{name}_body_digest"] = suite.sha256(body)
    return cbor.decode(body)


def _open_letter(
    data: dict[str, bytes], repository: str, bruno: UserId, maria_certificate: x509.Certificate
) -> dict[str, bytes]:
    key = SealingKey(data["bruno_sealing_seed"])
    stored = sealed.read(sealed.LETTER, data["head"])
    head = letter.open_head(stored.view(bruno), repository, bruno, {key.public.key_id: key})
    cades.verify_document(head.signed.document, head.signed.signature, certificate=maria_certificate)
    return {
        "letter_id": head.letter.id,
        "content_secret": head.secret.raw,
        "commitment": stored.routing.commitment,
        "object_hash": stored.object_hash,
        "letter_document": head.signed.document,
        "letter_signature": head.signed.signature,
        "body": letter.open_body(head, data["sealed_body"]),
        "subject": head.subject.encode(),
    }


def _placement(values: Values, repository: str, maria: UserId, bruno: UserId, now: Milliseconds) -> mailbox.Placement:
    stored = sealed.read(sealed.LETTER, bytes.fromhex(values["head"]))
    routing = mailbox.EntryRouting(stored.routing.letter, maria, (bruno,))

    def place(owner: UserId, kind: mailbox.EntryKind) -> mailbox.Place:
        entry = mailbox.Entry(1, now, kind, routing, stored.object_hash)
        (digest,) = mailbox.extend(repository, owner, 0, mailbox.genesis(repository, owner), [entry])
        return mailbox.Place(owner, 1, Digest(digest))

    places = place(maria, mailbox.EntryKind.SENT), place(bruno, mailbox.EntryKind.RECEIVED)
    return mailbox.Placement(repository, places, now)


def _certificate(name: str, now: Milliseconds) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = moments.to_datetime(now)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, start, start + timedelta(days=3650))
    return key, builder.sign(key, hashes.SHA256())


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return text.encode()


def current_moment() -> Milliseconds:
    return Milliseconds(moments.from_datetime(datetime.now(UTC)))
