"""Letters that open against a signature: the two shares, the slip, and what a reader may know before signing.

    content secret ── AES-256-GCM under K_r ──▶ the line of recipient r in the slip
    K_r ◀── HKDF ── share 1 of r (sealed for r in the head) and share 2 of r (with the repository)

The sender's card signs the *slip*: it names recipients and end, and commits to both shares of each, to the sealed head
(and with it to the sealed first shares and the body) and to the content secret. So the repository can check the second
shares when it takes the letter, and a recipient the first one **before** signing: nobody signs for junk unless the
sender's card signed that junk, and then slip and shares together prove it to anybody (`open_line`).

Neither share says anything about the content secret without the other. The sender's copy opens without shares.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

from crypto_core import cbor, cose, documents, labels, letter, limits, schema, sealed, suite
from crypto_core.documents import SignedDocument, Slip, SlipLine
from crypto_core.errors import BindingMismatch, DecryptionFailed, Malformed
from crypto_core.evidence import Evidence
from crypto_core.ids import (
    Digest,
    DigestField,
    LetterIdField,
    Milliseconds,
    MomentField,
    RepositoryId,
    RepositoryIdField,
    UserId,
    UserIdField,
)
from crypto_core.keys import SealingKey, SealingPublicKey, SigningKey, VerifyKey
from crypto_core.letter import Draft, OpenedHead, SealedLetter
from crypto_core.schema import Size
from crypto_core.sealed import ContentSecret, SealedView
from crypto_core.suite import ContentKey

SHARE_BYTES: Final = 32
ShareField = Annotated[bytes, Size(SHARE_BYTES, SHARE_BYTES)]


@dataclass(frozen=True, slots=True)
class SignedSlip:
    """A slip with the sender's card signature, and evidence about the sender; nothing of it is verified yet."""

    document: Annotated[bytes, Size(2, limits.DOCUMENT_BYTES)]
    signature: Annotated[bytes, Size(1, limits.SIGNATURE_BYTES)]
    evidence: Evidence | None

    @property
    def signed(self) -> SignedDocument:
        return SignedDocument(self.document, self.signature)

    @property
    def digest(self) -> Digest:
        """SHA-256 of the slip's document: what an acceptance names."""
        return self.signed.digest

    @property
    def size(self) -> int:
        """About what it takes on the wire; bytes."""
        evidence = self.evidence
        enclosed = sum(map(len, (*evidence.crls, *evidence.ocsp))) if evidence else 0
        return len(self.document) + len(self.signature) + enclosed


@dataclass(frozen=True, slots=True)
class Prepared:
    """A sealed letter whose slip waits for the card. `shares` are the second ones, in the order of the recipients."""

    letter: SealedLetter
    slip: bytes
    shares: tuple[bytes, ...] = field(repr=False)


def seal(
    written: Draft,
    signature: bytes,
    readers: Mapping[UserId, SealingPublicKey],
    expires: Milliseconds,
    evidence: Evidence | None = None,
) -> Prepared:
    """Seals a signed draft so that each recipient needs both shares, and writes the slip; `readers` as `letter.seal`.

    Raises BindingMismatch for a letter to oneself: there would be nobody to sign.
    """
    document = written.letter
    sender = document.from_.user
    if sender in document.to:
        raise BindingMismatch("a letter to oneself needs no signature of its reader")
    secret = ContentSecret.generate()
    first = {user: secrets.token_bytes(SHARE_BYTES) for user in document.to}
    second = {user: secrets.token_bytes(SHARE_BYTES) for user in document.to}
    parts = letter.seal_parts(sealed.SIGN_FOR, written, signature, readers, evidence, secret, first)
    head = sealed.read(sealed.SIGN_FOR, parts.head)
    slip = Slip(
        repository=document.repository,
        letter=document.id,
        from_=document.from_,
        object=head.object_hash,
        commitment=Digest(head.routing.commitment),
        lines=tuple(_line(document, user, first[user], second[user], secret) for user in document.to),
        time=document.time,
        expires=expires,
    )
    return Prepared(parts, documents.encode(slip), tuple(second[user] for user in document.to))


def object_hash(head: Digest, slip: Digest) -> Digest:
    """What a mailbox entry records of such a letter: the object hash of its head, and the slip (SHA-256)."""
    return suite.labelled_hash(labels.SIGN_FOR_OBJECT, head, slip)


def share_commitment(
    repository: RepositoryId, letter_id: bytes, sender: UserId, recipient: UserId, number: int, share: bytes
) -> Digest:
    """The commitment to share `number` (1 or 2; 32 random bytes, so that a plain hash hides it)."""
    return suite.labelled_hash(labels.SIGN_FOR_SHARE, number, repository, letter_id, sender, recipient, share)


def require_slip(
    slip: Slip, head: Digest, commitment: bytes, letter_id: bytes, sender: UserId, recipients: tuple[UserId, ...]
) -> None:
    """Raises BindingMismatch unless the slip is of exactly this sealed letter and names exactly these people."""
    if (slip.letter, slip.from_.user) != (letter_id, sender):
        raise BindingMismatch("the slip is of another letter, or of another sender")
    if (slip.object, slip.commitment) != (head, commitment):
        raise BindingMismatch("the slip is of other content than the letter that it came with")
    if sender in recipients:
        raise BindingMismatch("a letter to oneself needs no signature of its reader")
    if slip.recipients != recipients:
        raise BindingMismatch("the slip names other recipients than the letter has")


def line_of(slip: Slip, recipient: UserId) -> SlipLine:
    """The line of one recipient. Raises BindingMismatch."""
    for line in slip.lines:
        if line.recipient == recipient:
            return line
    raise BindingMismatch("the slip does not name that person")


def require_share(slip: Slip, recipient: UserId, number: int, share: bytes) -> None:
    """Raises BindingMismatch unless this is the share (1 or 2) to which the slip commits for that recipient."""
    line = line_of(slip, recipient)
    found = share_commitment(slip.repository, slip.letter, slip.from_.user, recipient, number, share)
    if len(share) != SHARE_BYTES or not suite.equal(found, line.share_1 if number == 1 else line.share_2):
        raise BindingMismatch(f"share {number} is not the one that the sender signed for")


def first_share(view: SealedView, slip: Slip, reader: UserId, keys: Mapping[bytes, SealingKey]) -> bytes:
    """The reader's own share, checked against the slip: to be done before anything is signed. Raises ProtocolError."""
    share = view.unwrap(sealed.SIGN_FOR, slip.repository, reader, keys)
    require_share(slip, reader, 1, share)
    return share


def open_line(slip: Slip, recipient: UserId, share_1: bytes, share_2: bytes) -> ContentSecret:
    """The content secret, from both shares.

    Raises BindingMismatch when a share is not the one of the slip: that is not the sender's doing. Raises
    DecryptionFailed when both are and the line does not lead to the content secret that the slip names: then whoever
    signed the slip cheated, and slip and shares prove it.
    """
    require_share(slip, recipient, 1, share_1)
    require_share(slip, recipient, 2, share_2)
    key = _wrapping_key(slip.repository, slip.letter, slip.from_.user, recipient, share_1, share_2)
    secret = ContentSecret(key.decrypt(line_of(slip, recipient).wrapped_secret, b""))
    if not suite.equal(secret.commitment(labels.SIGN_FOR_LETTER, slip.letter), slip.commitment):
        raise DecryptionFailed(
            "both shares are as they were signed, and lead to another content secret than was signed"
        )
    return secret


def open_head(
    view: SealedView, slip: Slip, reader: UserId, keys: Mapping[bytes, SealingKey], share_2: bytes
) -> OpenedHead:
    """A recipient's head, with the share that the repository released. Raises as `first_share`, `open_line`, and
    `letter.open_head` do."""
    secret = open_line(slip, reader, first_share(view, slip, reader, keys), share_2)
    return letter.open_with(sealed.SIGN_FOR, view, slip.repository, reader, secret)


def open_copy(
    view: SealedView, repository: RepositoryId, sender: UserId, keys: Mapping[bytes, SealingKey]
) -> OpenedHead:
    """The sender's own copy, which needs no share. Raises ProtocolError."""
    if view.routing(sealed.SIGN_FOR).author != sender:
        raise BindingMismatch("a copy of somebody else's letter")
    secret = ContentSecret(view.unwrap(sealed.SIGN_FOR, repository, sender, keys))
    return letter.open_with(sealed.SIGN_FOR, view, repository, sender, secret)


def _line(
    document: documents.Letter, recipient: UserId, first: bytes, second: bytes, secret: ContentSecret
) -> SlipLine:
    repository, sender = document.repository, document.from_.user
    key = _wrapping_key(repository, document.id, sender, recipient, first, second)
    return SlipLine(
        recipient,
        share_commitment(repository, document.id, sender, recipient, 1, first),
        share_commitment(repository, document.id, sender, recipient, 2, second),
        key.encrypt(secret.raw, b""),
    )


def _wrapping_key(
    repository: RepositoryId, letter_id: bytes, sender: UserId, recipient: UserId, first: bytes, second: bytes
) -> ContentKey:
    # Two fresh shares make the key: it meets one content secret, and its IV can be derived with it.
    secret = suite.extract(letter_id, labels.SIGN_FOR_SHARES, first, second)
    return ContentKey.derive(secret, labels.SIGN_FOR_KEY, repository, letter_id, sender, recipient)


# --------------------------------------------------------------------------------------------------------- release


@dataclass(frozen=True, slots=True)
class Release:
    """The repository's word that this is the second share of `reader`, given against an acceptance that it has."""

    repository: RepositoryIdField
    letter: LetterIdField
    sender: UserIdField
    reader: UserIdField
    slip: DigestField
    share: ShareField = field(repr=False)
    time: MomentField


def sign_release(key: SigningKey, release: Release) -> bytes:
    """The release as a COSE_Sign1 of the repository: with the slip it shows whether the share was swapped."""
    headers = {cose.ALG: cose.ALG_ED25519, cose.LABEL: labels.SIGN_FOR_RELEASE}
    return cose.sign1(key, headers, cbor.encode(schema.to_map(release)))


def read_release(data: bytes, key: VerifyKey, slip: Slip, digest: Digest, reader: UserId) -> Release:
    """A verified release for this slip (and its SHA-256) and reader. Raises ProtocolError.

    Whether its share is the one of the slip is `require_share`'s to say.
    """
    message = cose.read_sign1(data, limits.KIB)
    payload = message.verify(key)
    cose.expect(message.headers, cose.ALG_ED25519, labels.SIGN_FOR_RELEASE)
    release = schema.from_map(Release, cbor.decode(payload, limits.KIB))
    expected = (slip.repository, slip.letter, slip.from_.user, reader, digest)
    if (release.repository, release.letter, release.sender, release.reader, release.slip) != expected:
        raise BindingMismatch("the share was released for another letter, or for somebody else")
    return release


def require_released(release: Release, slip: Slip) -> bytes:
    """The released share. Raises BindingMismatch when it is another one than the slip commits to."""
    require_share(slip, release.reader, 2, release.share)
    return release.share


def require_shares(slip: Slip, shares: tuple[bytes, ...]) -> None:
    """Raises BindingMismatch or Malformed unless these are the second shares of all lines, in their order."""
    if len(shares) != len(slip.lines):
        raise Malformed("there is not one share for each recipient")
    for line, share in zip(slip.lines, shares, strict=True):
        require_share(slip, line.recipient, 2, share)
