"""What a recipient chose about a letter that opens against a signature: accepted, refused, or nothing in time.

An acceptance and a refusal are documents that the recipient's card signs; the repository reads them, since it releases
the second share against an acceptance alone. The text of a refusal's reason is sealed for the two people, and the
document holds its salted digest only. An expiry is the repository's word, pinned by the signed heads of both mailboxes.
"""

from __future__ import annotations

import enum
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from crypto_core import cbor, documents, labels, letter, limits, schema, sealed, suite
from crypto_core.documents import Acceptance, MailboxPosition, Part, Party, Refusal, SignedDocument, Slip
from crypto_core.errors import BindingMismatch, LimitExceeded, Malformed
from crypto_core.evidence import Evidence
from crypto_core.ids import SALT_BYTES, Digest, DigestField, Milliseconds, NonceField, RepositoryId, UserId
from crypto_core.keys import SealingKey, SealingPublicKey
from crypto_core.schema import Size
from crypto_core.sealed import ContentSecret, SealedObject, SealedView


class Choice(enum.Enum):
    """How it ended for one recipient. Exactly one of them, once."""

    ACCEPTED = "accepted"  #: signed for: the second share is released
    REFUSED = "refused"  #: by the recipient's card
    EXPIRED = "expired"  #: neither in time, by the repository's clock


@dataclass(frozen=True, slots=True)
class SignedChoice:
    """A choice as it is stored and shown. Document, signature and evidence are absent for an expiry."""

    choice: Choice
    slip: DigestField
    document: Annotated[bytes, Size(2, limits.DOCUMENT_BYTES)] | None = None
    signature: Annotated[bytes, Size(1, limits.SIGNATURE_BYTES)] | None = None
    evidence: Evidence | None = None

    def __post_init__(self) -> None:
        if (self.choice is Choice.EXPIRED) != (self.document is None) or (self.document is None) != (
            self.signature is None
        ):
            raise Malformed("an acceptance or a refusal comes with its signature, an expiry with none")

    @property
    def signed(self) -> SignedDocument:
        """The signed document. Raises Malformed for an expiry."""
        if self.document is None or self.signature is None:
            raise Malformed("an expiry is signed by nobody's card")
        return SignedDocument(self.document, self.signature)

    @property
    def size(self) -> int:
        """About what it takes on the wire; bytes."""
        evidence = self.evidence
        enclosed = sum(map(len, (*evidence.crls, *evidence.ocsp))) if evidence else 0
        return len(self.document or b"") + len(self.signature or b"") + enclosed

    def object_hash(self, reader: UserId, reason: Digest | None = None) -> Digest:
        """What the mailbox entries of this choice by `reader` record; `reason`: the object hash of a sealed one."""
        evidence = cbor.encode(schema.to_map(self.evidence)) if self.evidence else b""
        parts = (self.document or b"", self.signature or b"", evidence)
        hashes = [suite.sha256(part) for part in parts]
        return suite.labelled_hash(labels.SIGN_FOR_CHOICE, self.choice.value, self.slip, reader, hashes, reason or b"")


@dataclass(frozen=True, slots=True)
class Reason:
    """The plaintext of a sealed reason."""

    text: Annotated[str, Size(1, limits.REASON_BYTES)]
    salt: NonceField


def accept(slip: Slip, digest: Digest, reader: Party, position: MailboxPosition, time: Milliseconds) -> bytes:
    """The acceptance that the reader's card signs; `digest`: of the slip's document."""
    sender = slip.from_.user
    return documents.encode(Acceptance(slip.repository, slip.letter, digest, reader, sender, position, time))


def refuse(
    slip: Slip, digest: Digest, reader: Party, position: MailboxPosition, time: Milliseconds, reason: str = ""
) -> tuple[bytes, Reason | None]:
    """The refusal that the reader's card signs, and its reason to be sealed. Raises LimitExceeded."""
    data, why = _bytes(reason), None
    part = None
    if data:
        why = Reason(reason, secrets.token_bytes(SALT_BYTES))
        part = Part(letter.SUBJECT_MEDIA_TYPE, len(data), letter.part_digest(why.salt, data))
    document = Refusal(slip.repository, slip.letter, digest, reader, slip.from_.user, position, part, time)
    return documents.encode(document), why


def seal_reason(
    slip: Slip, reader: UserId, why: Reason, signed: SignedDocument, keys: Mapping[UserId, SealingPublicKey]
) -> bytes:
    """The reason of a signed refusal, sealed for the letter's sender and the reader."""
    if keys.keys() != {slip.from_.user, reader}:
        raise BindingMismatch("the sealing keys are not those of the letter's sender and its reader")
    plaintext = cbor.encode(schema.to_map(why))
    return sealed.seal(
        sealed.REASON, slip.repository, slip.letter, reader, keys, ContentSecret.generate(), plaintext, signed
    )


def open_reason(
    view: SealedView, signed: SignedDocument, repository: RepositoryId, me: UserId, keys: Mapping[bytes, SealingKey]
) -> Reason:
    """A refusal's reason. Raises ProtocolError when it is not the one that was signed."""
    refusal = documents.decode(Refusal, signed.document, repository)
    routing = view.routing(sealed.REASON)
    routing.require(signed)
    if (routing.letter, routing.author) != (refusal.letter, refusal.reader.user):
        raise BindingMismatch("the reason is of another refusal")
    _, plaintext = view.open(sealed.REASON, repository, me, keys)
    why = schema.from_map(Reason, cbor.decode(plaintext, limits.SEALED_REASON_BYTES))
    data = why.text.encode("utf-8")
    if refusal.reason is None or not suite.equal(refusal.reason.digest, letter.part_digest(why.salt, data)):
        raise BindingMismatch("the reason is not the one that was signed")
    return why


def read_accepted(signed: SignedDocument, repository: RepositoryId) -> Acceptance:
    """The acceptance, not verified yet. Raises Malformed, BindingMismatch."""
    return documents.decode(Acceptance, signed.document, repository)


def read_refused(signed: SignedDocument, reason: SealedObject | None, repository: RepositoryId) -> Refusal:
    """The refusal, with its sealed reason where it has one, not verified yet. Raises Malformed, BindingMismatch."""
    refusal = documents.decode(Refusal, signed.document, repository)
    if (refusal.reason is None) != (reason is None):
        raise BindingMismatch("a reason that was not signed, or none where one was")
    if reason is not None:
        reason.routing.require(signed)
        routing, people = reason.routing, tuple(sorted((refusal.sender, refusal.reader.user)))
        if (routing.letter, routing.author, reason.readers) != (refusal.letter, refusal.reader.user, people):
            raise BindingMismatch("the reason is of another refusal, or sealed for other people")
    return refusal


def require_about(document: Acceptance | Refusal, slip: Slip, digest: Digest, reader: UserId) -> None:
    """Raises BindingMismatch unless the document is about exactly this slip, by this reader, who is named in it."""
    expected = (slip.letter, digest, slip.from_.user, reader)
    if (document.letter, document.slip, document.sender, document.reader.user) != expected:
        raise BindingMismatch("it is about another slip, or by somebody else")
    if reader not in slip.recipients:
        raise BindingMismatch("the slip does not name that person")


def _bytes(text: str) -> bytes:
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Malformed("the reason holds half of a character") from error
    if len(data) > limits.REASON_BYTES:
        raise LimitExceeded(f"the reason has more than {limits.REASON_BYTES} bytes")
    return data
