"""The documents that a card signs, and the only things that it ever signs.

Each is a small canonical JSON object whose members `type`, `version` and `repository` are checked before anything
else: a signature given for one type, or for one repository, cannot serve as another. The signature is a detached
CMS signature beside the document (see the room `pki`); this module knows only the document's bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Final, TypeVar

from crypto_core import canonical_json, limits, schema, suite
from crypto_core.errors import BindingMismatch, Malformed
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
from crypto_core.keys import ED25519_BYTES, SEALING_PUBLIC_BYTES, SealingPublicKey
from crypto_core.schema import Range, Size

VERSION: Final = 1
MEDIA_TYPE_BYTES: Final = 127
REVISION_MAX: Final = 2**31 - 1
REFERENCES: Final = 16
#: A content secret under AES-256-GCM
WRAPPED_SECRET_BYTES: Final = suite.SECRET_BYTES + suite.TAG_BYTES


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """A document with the detached CMS signature of a card, both as bytes; nothing of it is verified yet."""

    document: Annotated[bytes, Size(2, limits.DOCUMENT_BYTES)]
    signature: Annotated[bytes, Size(1, limits.SIGNATURE_BYTES)]

    @property
    def digest(self) -> Digest:
        """SHA-256 of the document's bytes, as `sha256sum` prints it."""
        return suite.sha256(self.document)

    @property
    def signature_digest(self) -> Digest:
        """The same of the signature."""
        return suite.sha256(self.signature)


@dataclass(frozen=True, slots=True)
class SignedRenewal:
    """A renewal with the detached CMS signature of the new card, and that of the former one where it was at hand.

    Nothing of it is verified yet.
    """

    document: Annotated[bytes, Size(2, limits.DOCUMENT_BYTES)]
    signature: Annotated[bytes, Size(1, limits.SIGNATURE_BYTES)]
    former_signature: Annotated[bytes, Size(1, limits.SIGNATURE_BYTES)] | None


@dataclass(frozen=True, slots=True)
class Login:
    """Binds one session to one citizen. Signed with the authentication key."""

    TYPE: ClassVar[str] = "login"

    repository: RepositoryIdField
    user: UserIdField
    session: SessionIdField
    transcript: DigestField
    app_key: Annotated[bytes, Size(ED25519_BYTES, ED25519_BYTES)]
    time: MomentField


@dataclass(frozen=True, slots=True)
class Registration:
    """A citizen's public record. Signed with the authentication key, whose certificate gives the user id.

    `previous` is the SHA-256 of the document of the revision before, absent in revision 1.
    """

    TYPE: ClassVar[str] = "registration"

    repository: RepositoryIdField
    user: UserIdField
    revision: Annotated[int, Range(1, REVISION_MAX)]
    authentication_certificate: DigestField
    signature_certificate: DigestField | None
    sealing_key: Annotated[bytes, Size(SEALING_PUBLIC_BYTES, SEALING_PUBLIC_BYTES)]
    previous: DigestField | None
    time: MomentField

    @property
    def sealing(self) -> SealingPublicKey:
        return SealingPublicKey(self.sealing_key)


@dataclass(frozen=True, slots=True)
class Party:
    """A citizen and the registration (SHA-256 of its document) that was used."""

    user: UserIdField
    registration: DigestField


@dataclass(frozen=True, slots=True)
class Renewal:
    """Says that `user` is a renewed card of the citizen who registered as `former`, with that one's last registration.

    Signed with the new card's authentication key, and with the former one's where that card is still at hand.
    """

    TYPE: ClassVar[str] = "renewal"

    repository: RepositoryIdField
    user: UserIdField
    former: Party
    time: MomentField

    def __post_init__(self) -> None:
        if self.user == self.former.user:
            raise Malformed("a card cannot renew itself")


@dataclass(frozen=True, slots=True)
class Part:
    """Subject, body or attachment: media type, size in bytes and salted digest.

    See `letter.part_digest`, and `stream.digest` for attachments, whose names it covers.
    """

    media_type: Annotated[str, Size(1, MEDIA_TYPE_BYTES)]
    size: Annotated[int, Range(0, 2**41)]
    digest: DigestField


@dataclass(frozen=True, slots=True)
class Letter:
    """The content document of a letter. Signed by its sender with the signature key, or the authentication key."""

    TYPE: ClassVar[str] = "letter"

    repository: RepositoryIdField
    id: LetterIdField
    from_: Party
    to: Annotated[tuple[UserIdField, ...], Size(1, limits.RECIPIENTS)]
    time: MomentField
    subject: Part
    body: Part
    attachments: Annotated[tuple[Part, ...], Size(0, limits.ATTACHMENTS)]
    references: Annotated[tuple[DigestField, ...], Size(0, REFERENCES)]

    def __post_init__(self) -> None:
        if any(a >= b for a, b in pairwise(self.to)):
            raise Malformed("the recipients are not in ascending order, or one stands twice")


@dataclass(frozen=True, slots=True)
class MailboxPosition:
    """Where a letter stands in its reader's mailbox: number (from 1) and entry hash."""

    number: Annotated[int, Range(1, 2**53 - 1)]
    entry: DigestField


@dataclass(frozen=True, slots=True)
class ReadingReceipt:
    """Says that `reader` opened the letter whose content document and body have these digests."""

    TYPE: ClassVar[str] = "reading-receipt"

    repository: RepositoryIdField
    letter: LetterIdField
    document: DigestField
    body: DigestField
    reader: Party
    sender: UserIdField
    position: MailboxPosition
    time: MomentField


@dataclass(frozen=True, slots=True)
class SlipLine:
    """What a slip says for one recipient: commitments to both shares of a key, and the content secret under that key.

    See `sign_for.share_commitment` and `sign_for.wrap_secret`.
    """

    recipient: UserIdField
    share_1: DigestField
    share_2: DigestField
    wrapped_secret: Annotated[bytes, Size(WRAPPED_SECRET_BYTES, WRAPPED_SECRET_BYTES)]


@dataclass(frozen=True, slots=True)
class Slip:
    """Asks each recipient for a signature before the letter opens, until `expires`. Signed as the letter is.

    `object` is the object hash of the sealed head, which names the body's hash and holds the sealed first shares;
    `commitment` is the head's commitment to its content secret.
    """

    TYPE: ClassVar[str] = "slip"

    repository: RepositoryIdField
    letter: LetterIdField
    from_: Party
    object: DigestField
    commitment: DigestField
    lines: Annotated[tuple[SlipLine, ...], Size(1, limits.RECIPIENTS)]
    time: MomentField
    expires: MomentField

    def __post_init__(self) -> None:
        if any(a.recipient >= b.recipient for a, b in pairwise(self.lines)):
            raise Malformed("the recipients of a slip are not in ascending order, or one stands twice")
        if not self.time < self.expires <= self.time + limits.SIGN_FOR_MS:
            raise Malformed("a slip ends after it begins, and within a year")

    @property
    def recipients(self) -> tuple[UserId, ...]:
        """In ascending order."""
        return tuple(line.recipient for line in self.lines)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Says that `reader` takes the letter of this slip (SHA-256 of its document). Signed as a letter is."""

    TYPE: ClassVar[str] = "acceptance"

    repository: RepositoryIdField
    letter: LetterIdField
    slip: DigestField
    reader: Party
    sender: UserIdField
    position: MailboxPosition
    time: MomentField


@dataclass(frozen=True, slots=True)
class Refusal:
    """Says that `reader` does not take the letter of this slip; `reason` is salted, and sealed beside it."""

    TYPE: ClassVar[str] = "refusal"

    repository: RepositoryIdField
    letter: LetterIdField
    slip: DigestField
    reader: Party
    sender: UserIdField
    position: MailboxPosition
    reason: Part | None
    time: MomentField


Document = Login | Registration | Renewal | Letter | ReadingReceipt | Slip | Acceptance | Refusal
D = TypeVar("D", Login, Registration, Renewal, Letter, ReadingReceipt, Slip, Acceptance, Refusal)


def encode(document: Document) -> bytes:
    """The canonical bytes that are signed. Raises Malformed or LimitExceeded if a field is out of its bounds."""
    members = schema.to_document(document)
    members["type"] = document.TYPE
    members["version"] = VERSION
    data = canonical_json.encode(members)
    if len(data) > limits.DOCUMENT_BYTES:
        raise Malformed("a document over its limit")
    return data


def decode(kind: type[D], data: bytes, repository: RepositoryId) -> D:
    """The document of this kind for this repository.

    Raises Malformed for other bytes, and BindingMismatch for a document of another type, version or repository.
    """
    members: Any = canonical_json.decode(data)
    if type(members) is not dict:
        raise Malformed("a document is a JSON object")
    found = (members.pop("type", None), members.pop("version", None), members.get("repository"))
    if found != (kind.TYPE, VERSION, repository) or type(found[1]) is not int:
        raise BindingMismatch(
            f"a document of type {kind.TYPE!r}, version {VERSION}, for repository {repository} is needed here; "
            f"this one says {found[0]!r:.40}, {found[1]!r:.40}, {found[2]!r:.40}"
        )
    return schema.from_document(kind, members)


def recipients_in_order(users: set[UserId]) -> tuple[UserId, ...]:
    """Recipients in the one order that documents and wraps use: ascending bytes."""
    return tuple(sorted(users))
