"""Letters of this home: acceptances of those that were sent, refusals of those that were not, those opened here, and
what was chosen about them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from client.state import files
from client.state.home import Home
from crypto_core import limits
from crypto_core.choice import Choice
from crypto_core.commands import MESSAGE_BYTES, ErrorCode, HeadField, PlacementField
from crypto_core.documents import MailboxPosition
from crypto_core.ids import DigestField, LetterId, LetterIdField, MomentField, UserId, UserIdField
from crypto_core.schema import Size


@dataclass(frozen=True, slots=True)
class SentLetter:
    """An accepted letter: `positions` is where it lies in each recipient's mailbox, in the order of `to`.

    They were read from the signed `placement`, in the sender's mailbox and in each recipient's, which stays as proof:
    the repository may have another key when its receipts are judged.
    """

    letter: LetterIdField
    to: Annotated[tuple[UserIdField, ...], Size(1, limits.RECIPIENTS)]
    object: DigestField
    accepted: MomentField
    positions: Annotated[tuple[MailboxPosition, ...], Size(1, limits.RECIPIENTS)]
    placement: PlacementField


@dataclass(frozen=True, slots=True)
class RefusedLetter:
    """A letter that the repository did not take: its code and words, from a signed reply that was verified then.

    The reply itself is not kept: it was sealed for a session, and proves nothing to others.
    """

    letter: LetterIdField
    to: Annotated[tuple[UserIdField, ...], Size(1, limits.RECIPIENTS)]
    refused: MomentField  #: when the reply came, by the clock here
    code: ErrorCode
    message: Annotated[str, Size(1, MESSAGE_BYTES)]


@dataclass(frozen=True, slots=True)
class OpenedLetter:
    """A letter that was opened here with every check passed, and whether its receipt was accepted."""

    letter: LetterIdField
    author: UserIdField
    document: DigestField
    position: MailboxPosition
    opened: MomentField
    receipt_sent: bool


@dataclass(frozen=True, slots=True)
class SignedFor:
    """A choice about a letter that opens against a signature, and the release of the share if it was accepted."""

    letter: LetterIdField
    author: UserIdField
    choice: Choice
    accepted: MomentField
    release: HeadField | None


def save_signed_for(home: Home, signed: SignedFor) -> None:
    files.save_document(_signed_for(home, signed.author, signed.letter), signed)


def load_signed_for(home: Home, author: UserId, letter: LetterId) -> SignedFor | None:
    return files.load_document(_signed_for(home, author, letter), SignedFor)


def save_sent(home: Home, sent: SentLetter) -> None:
    files.save_document(_sent(home, sent.letter), sent)


def load_sent(home: Home, letter: LetterId) -> SentLetter | None:
    return files.load_document(_sent(home, letter), SentLetter)


def save_refused(home: Home, refused: RefusedLetter) -> None:
    files.save_document(_refused(home, refused.letter), refused)


def all_refused(home: Home) -> tuple[RefusedLetter, ...]:
    """Every letter of this home that was refused, in the order of their ids."""
    found = (files.load_document(path, RefusedLetter) for path in sorted(home.refused.glob("*.json")))
    return tuple(each for each in found if each is not None)


def save_opened(home: Home, opened: OpenedLetter) -> None:
    """Keeps what is already known of a receipt."""
    with home.lock("opened"):
        known = load_opened(home, opened.author, opened.letter)
        if known is None or (opened.receipt_sent and not known.receipt_sent):
            files.save_document(_opened(home, opened.author, opened.letter), opened)


def load_opened(home: Home, author: UserId, letter: LetterId) -> OpenedLetter | None:
    return files.load_document(_opened(home, author, letter), OpenedLetter)


def _sent(home: Home, letter: LetterId) -> Path:
    return home.sent / f"{letter.hex()}.json"


def _refused(home: Home, letter: LetterId) -> Path:
    return home.refused / f"{letter.hex()}.json"


def _signed_for(home: Home, author: UserId, letter: LetterId) -> Path:
    return home.signed_for / f"{letter.hex()}-{author.hex()}.json"


def _opened(home: Home, author: UserId, letter: LetterId) -> Path:
    return home.opened / f"{letter.hex()}-{author.hex()}.json"
