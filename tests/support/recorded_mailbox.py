"""A mailbox that is always the same: what the library gave once, for looking at screens and for their pictures.

It decides nothing: how the library behaves is tested against whole repositories.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from client import uploads
from client.commands.box import ListedLetter
from client.commands.people import FoundPerson
from client.commands.read import AttachedFile, ReadLetter
from client.commands.status import LetterStatus, ReceiptStatus, Verdict
from client.commands.watch import Arrival
from client.errors import Check, CheckFailed, ClientError, NotFound
from client.session import SessionInfo
from client.settings import Front
from client.state.people import KnownPerson
from client.uploads import LocalFile
from crypto_core.ids import Digest, Milliseconds, UserId

MARIA, JOAO, BRUNO, STRANGER = (UserId(bytes([n]) * 28) for n in (0x1A, 0x2B, 0x3C, 0x4D))
_NAMES = {MARIA: "Maria Conceição Reis", JOAO: "João Sá", BRUNO: "Bruno Antunes"}
BODY = (
    "Olá João!\n\nSegue a ata da reunião de ontem. Falta só a tua assinatura\n"
    "na página três; o resto está como combinámos.\n\nUm abraço,\nMaria\n"
)
GOOD = (
    Check("complete", True, "nothing missing before it"),
    Check("sealed", True, "sealed for you"),
    Check("sender", True, "from a registered citizen"),
    Check("signature", True, "signed with Maria Conceição Reis's Citizen Card (signature key)"),
    Check("certificate", True, "card valid and not revoked when it was accepted"),
    Check("time", True, "accepted when it says it was signed"),
    Check("content", True, "content as it was signed"),
)
BAD = (*GOOD[:3], Check("signature", False, "It was changed after it was signed. Do not trust it.", "digest differs"))
ENTRY = Digest(bytes(32))


def at(hour: int, minute: int, day: int = 22) -> datetime:
    return datetime(2026, 11, day, hour, minute, 44, tzinfo=UTC)


def listed(
    name: str, author: UserId, author_name: str, subject: str, when: datetime, **changes: object
) -> ListedLetter:
    values = {
        "letter_id": name.ljust(26, "a"),
        "name": name,
        "sent_by_me": author == JOAO,
        "author": author,
        "author_name": author_name,
        "to": (JOAO,),
        "subject": subject,
        "received_at": when,
        "read": True,
        "number": 1,
        "good": True,
        "checks": GOOD,
    }
    return ListedLetter(**{**values, **changes})


LETTERS = (
    listed("q4xz", MARIA, "Maria Conceição Reis", "Convocatória", at(9, 3, 18)),
    listed("3xw1", JOAO, "João Sá", "Assinatura da ata", at(9, 12, 20), to=(MARIA, BRUNO)),
    listed("zz77", STRANGER, "", "", at(23, 59, 21), good=False, checks=BAD, read=False, to=()),
    listed("b2c3", BRUNO, "Bruno Antunes", "[bold]Pagamento[/] urgente", at(8, 30), read=False),
    listed("k7d2", MARIA, "Maria Conceição Reis", "Ata da reunião de ontem", at(14, 2), read=False),
)
KNOWN = (
    KnownPerson(BRUNO, "Bruno Antunes", True, 1, Digest(bytes(32))),
    KnownPerson(MARIA, "Maria Conceição Reis", True, 2, Digest(bytes(32))),
    KnownPerson(STRANGER, "Maria Conceição Reis", False, 1, Digest(bytes(32))),
)


class RecordedMailbox:
    """Stands where the library stands. `letters_found` may be changed before it is shown."""

    def __init__(self, front: Front, letters_found: tuple[ListedLetter, ...] = LETTERS, body: str = BODY) -> None:
        self.front = front
        self.resumed = ()
        self._letters, self._body = letters_found, body

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def letters(self) -> tuple[ListedLetter, ...]:
        return self._letters

    def new(self) -> tuple[ListedLetter, ...]:
        return tuple(each for each in self.letters() if not each.read)

    def watch(self, *, stopped: Callable[[], bool], trouble: Callable[[ClientError], None]) -> Iterator[Arrival]:
        """Nothing comes here."""
        while not stopped():
            time.sleep(0.02)
        yield from ()

    def show_session(self) -> SessionInfo | None:
        return SessionInfo(JOAO, Milliseconds(0), 1, 2, 1)

    def attachable(self, paths: Sequence[Path]) -> tuple[LocalFile, ...]:
        return uploads.attachable(paths)

    def known_people(self) -> tuple[KnownPerson, ...]:
        return KNOWN

    def people(self, query: str) -> tuple[FoundPerson, ...]:
        return tuple(
            FoundPerson(each.user, True, each.confirmed, "", each.name, f"1234567{at} ZZ1")
            for at, each in enumerate(KNOWN)
            if query.casefold() in each.name.casefold()
        )

    def read(self, name: str, sign: object = None) -> ReadLetter:
        with self.front.waiting("the revocation lists"):
            found = next(each for each in self._letters if name == f"{each.letter_id}@{each.author.hex()}")
        if not found.good:
            raise CheckFailed("This letter is not what it seems.", BAD[-1].meaning, "Ask the sender.", checks=BAD)
        return ReadLetter(
            letter_id=found.letter_id,
            author=found.author,
            author_name=found.author_name,
            civil_number="12345678 9 ZZ1",
            card_valid_until=datetime(2029, 3, 1, tzinfo=UTC),
            to=found.to,
            to_names=tuple(_NAMES.get(user, "") for user in found.to),
            owner=JOAO,
            mine=found.sent_by_me,
            subject=found.subject,
            media_type="text/plain; charset=utf-8",
            body=self._body.encode(),
            claimed_at=found.received_at,
            received_at=found.received_at,
            number=found.number,
            checks=GOOD,
            receipt_possible=not found.sent_by_me,
            receipt_sent=False,
            attachments=(AttachedFile("ata.pdf", "application/pdf", 86_222),) if found is LETTERS[-1] else (),
        )

    def status(self, name: str) -> LetterStatus:
        found = next((each for each in self._letters if name.startswith(each.letter_id) and each.sent_by_me), None)
        if found is None:
            raise NotFound("There is no such letter of yours.")
        receipts = (
            ReceiptStatus(MARIA, "Maria Conceição Reis", Verdict.VERIFIED, at(11, 30, 20), at(11, 30, 20), 7, GOOD),
            ReceiptStatus(BRUNO, "Bruno Antunes", Verdict.NOT_CONFIRMED, None, None, 9, ()),
        )
        when = found.received_at
        return LetterStatus(found.letter_id, found.subject, found.to, when, when, 118, GOOD, receipts, ENTRY)
