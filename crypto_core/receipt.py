"""Reading receipts: a document signed by the reader's card, sealed for the letter's sender and for the reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from crypto_core import cbor, documents, limits, schema, sealed
from crypto_core.documents import MailboxPosition, Party, ReadingReceipt, SignedDocument
from crypto_core.errors import BindingMismatch
from crypto_core.evidence import Evidence
from crypto_core.ids import Milliseconds, RepositoryId, UserId
from crypto_core.keys import SealingKey, SealingPublicKey
from crypto_core.letter import OpenedHead
from crypto_core.schema import Size
from crypto_core.sealed import ContentSecret, SealedView


@dataclass(frozen=True, slots=True)
class Content:
    """The plaintext of a receipt: the signed document, and evidence about the reader who signed it."""

    document: Annotated[bytes, Size(2, limits.DOCUMENT_BYTES)]
    signature: Annotated[bytes, Size(1, limits.SIGNATURE_BYTES)]
    evidence: Evidence | None


@dataclass(frozen=True, slots=True)
class OpenedReceipt:
    """An opened receipt: bound to this letter, reader and sender; its card signature is not verified here."""

    receipt: ReadingReceipt
    signed: SignedDocument
    evidence: Evidence | None  #: of the reader's certificates, as sent along; nothing of it is verified here


def draft(head: OpenedHead, reader: Party, position: MailboxPosition, time: Milliseconds) -> bytes:
    """The document that the reader's card signs, for a letter that was opened."""
    letter = head.letter
    return documents.encode(
        ReadingReceipt(
            repository=letter.repository,
            letter=letter.id,
            document=head.signed.digest,
            body=letter.body.digest,
            reader=reader,
            sender=letter.from_.user,
            position=position,
            time=time,
        )
    )


def seal(
    document: bytes,
    signature: bytes,
    repository: RepositoryId,
    readers: Mapping[UserId, SealingPublicKey],
    evidence: Evidence | None = None,
) -> bytes:
    """Seals a signed receipt for `readers`: the letter's sender and the reader. `evidence` is about the reader."""
    receipt = documents.decode(ReadingReceipt, document, repository)
    if readers.keys() != {receipt.sender, receipt.reader.user}:
        raise BindingMismatch("the sealing keys are not those of the letter's sender and its reader")
    plaintext = cbor.encode(schema.to_map(Content(document, signature, evidence)))
    return sealed.seal(
        sealed.RECEIPT,
        repository,
        receipt.letter,
        receipt.reader.user,
        readers,
        ContentSecret.generate(),
        plaintext,
        SignedDocument(document, signature),
    )


def open_receipt(
    view: SealedView, repository: RepositoryId, me: UserId, keys: Mapping[bytes, SealingKey]
) -> OpenedReceipt:
    """Opens a receipt and checks that it is of the letter and the reader that its routing names.

    Raises ProtocolError. That it answers *this* letter is checked with `require_answers`.
    """
    routing = view.routing(sealed.RECEIPT)
    _, plaintext = view.open(sealed.RECEIPT, repository, me, keys)
    content = schema.from_map(Content, cbor.decode(plaintext, limits.RECEIPT_BYTES))
    signed = SignedDocument(content.document, content.signature)
    routing.require(signed)
    receipt = documents.decode(ReadingReceipt, content.document, repository)
    if receipt.letter != routing.letter or receipt.reader.user != routing.author:
        raise BindingMismatch("the signed receipt is of another letter or reader than the one it came with")
    return OpenedReceipt(receipt, signed, content.evidence)


def require_answers(opened: OpenedReceipt, head: OpenedHead) -> None:
    """Raises BindingMismatch unless the receipt is for exactly this letter, by a recipient, to its sender."""
    receipt, letter = opened.receipt, head.letter
    expected = (letter.id, head.signed.digest, letter.body.digest, letter.from_.user)
    if (receipt.letter, receipt.document, receipt.body, receipt.sender) != expected:
        raise BindingMismatch("the receipt is for another letter, or for other content")
    if receipt.reader.user not in letter.to:
        raise BindingMismatch("the receipt is from somebody who was not a recipient of the letter")
