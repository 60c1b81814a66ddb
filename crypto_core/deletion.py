"""Deleting a letter from one's own mailbox: what the owner's app key signs, and what the tombstone entry records.

    card ── signs ──▶ login of a session: citizen, app key ── signs ──▶ deletion: this entry of this mailbox
    tombstone entry ── records ──▶ H(deletion, login, the login's signature)

The command itself is sealed for its session and convinces nobody else. So the deletion is a statement of its own, and
the login that gave its app key to the citizen travels with it: who sees both knows that this citizen deleted exactly
this letter. No card is asked again for it. The card's signature is verified by whoever knows cards (the room `pki`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from crypto_core import cbor, cose, documents, labels, limits, schema, suite
from crypto_core.documents import Login, SignedDocument
from crypto_core.errors import BindingMismatch
from crypto_core.ids import (
    Digest,
    DigestField,
    LetterIdField,
    MomentField,
    RepositoryId,
    RepositoryIdField,
    SessionIdField,
    UserId,
    UserIdField,
)
from crypto_core.keys import ED25519_BYTES, SigningKey, VerifyKey
from crypto_core.mailbox import NUMBER_MAX
from crypto_core.schema import Range, Size

#: The statement as a COSE_Sign1; bytes.
STATEMENT_BYTES: Final = limits.KIB


@dataclass(frozen=True, slots=True)
class Deletion:
    """The owner of `mailbox` deletes the letter by `author`, whose entry is `number` with the hash `entry`.

    Of a letter to oneself that is the received entry. `session` and `app_key` are those of the login.
    """

    repository: RepositoryIdField
    mailbox: UserIdField
    author: UserIdField
    letter: LetterIdField
    number: Annotated[int, Range(1, NUMBER_MAX)]
    entry: DigestField
    session: SessionIdField
    app_key: Annotated[bytes, Size(ED25519_BYTES, ED25519_BYTES)]
    time: MomentField


@dataclass(frozen=True, slots=True)
class SignedDeletion:
    """A deletion as its app key signed it (a COSE_Sign1), and the login that binds the app key to the citizen."""

    statement: Annotated[bytes, Size(1, STATEMENT_BYTES)]
    login: SignedDocument

    @property
    def size(self) -> int:
        """About what it takes on the wire; bytes."""
        return len(self.statement) + len(self.login.document) + len(self.login.signature)

    @property
    def object_hash(self) -> Digest:
        """What the tombstone entry records."""
        login = self.login
        return suite.labelled_hash(labels.TOMBSTONE, suite.sha256(self.statement), login.digest, login.signature_digest)


def sign(app_key: SigningKey, deletion: Deletion) -> bytes:
    """The statement. Raises BindingMismatch when it names another app key."""
    if deletion.app_key != app_key.public.raw:
        raise BindingMismatch("a deletion is signed by the app key that it names")
    headers = {cose.ALG: cose.ALG_ED25519, cose.LABEL: labels.DELETION}
    return cose.sign1(app_key, headers, cbor.encode(schema.to_map(deletion)))


def read(signed: SignedDeletion, repository: RepositoryId, mailbox: UserId) -> Deletion:
    """The deletion, if its app key signed it, and the login gives that key to the owner of `mailbox` at that time.

    The card's signature over the login is not verified here. Raises SignatureInvalid, BindingMismatch, Malformed.
    """
    message = cose.read_sign1(signed.statement, STATEMENT_BYTES)
    login = documents.decode(Login, signed.login.document, repository)
    payload = message.verify(VerifyKey(login.app_key))
    cose.expect(message.headers, cose.ALG_ED25519, labels.DELETION)
    found = schema.from_map(Deletion, cbor.decode(payload, STATEMENT_BYTES))
    if found.repository != repository or found.mailbox != mailbox:
        raise BindingMismatch("a deletion in another mailbox")
    if (login.user, login.session, login.app_key) != (found.mailbox, found.session, found.app_key):
        raise BindingMismatch("the login is somebody else's, or of another session")
    if not login.time <= found.time <= login.time + limits.HANDSHAKE_MS + limits.SESSION_MS:
        raise BindingMismatch("the deletion is not of the time of its session")
    return found
