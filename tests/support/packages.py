"""A letter with its receipt and all that proves them, made in software at fixed times: for tests of evidence packages.

    12:00  revocation lists      12:10  Maria's letter to João      12:20  his receipt      13:00  exported by Maria

`World().package()` is the package as export makes it; a test changes what it wants before it is signed.

    12:15  João signs for it      12:16  Bruno refuses it, in the world `Asked`, where the letter asks for signatures
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from crypto_core import choice, delivery, descriptor, documents, letter, moments, sign_for, suite
from crypto_core.delivery import DeliveryEvidence, RecordedEntry
from crypto_core.documents import Acceptance, MailboxPosition, Party, ReadingReceipt, Refusal, SignedDocument, Slip
from crypto_core.ids import Digest, LetterId, Milliseconds
from crypto_core.mailbox import EntryKind
from evidence_package import contents
from evidence_package.contents import Description, Disclosed, Package
from evidence_package.verify import Trust
from pki import cades, operator
from pki.evidence import EvidenceSigner
from pki.test_ca import TestCa
from pki.tokens.profiles import CardKeyUse
from tests.support.wire import Citizen

LISTS = datetime(2026, 11, 22, 12, tzinfo=UTC)
SENT = LISTS + timedelta(minutes=10)
CHOSEN = LISTS + timedelta(minutes=15)
REFUSED = LISTS + timedelta(minutes=16)
READ = LISTS + timedelta(minutes=20)
EXPORTED = LISTS + timedelta(hours=1)
ENDS = SENT + timedelta(days=3)  #: when nobody can sign for it any more
LATER = LISTS + timedelta(days=20 * 365)  #: when everything has expired, and every server is gone
LETTER = LetterId(b"letter-id-000001")
BODY = "Olá! Segue a ata da reunião de ontem.\n".encode()
SUBJECT = "Ata da reunião"
WHY = "Não conheço a remetente."
ENTRY = Digest(suite.sha256(b"entry"))


def ms(moment: datetime) -> Milliseconds:
    return Milliseconds(moments.from_datetime(moment))


class World:
    """The state, an operator, Maria and João."""

    def __init__(self, folder: Path) -> None:
        self.ca = TestCa.create(folder, "http://127.0.0.1:1", "only for tests", clock=lambda: LISTS)
        self.operator = operator.create_operator_root("Organização Exemplo", now=LISTS)
        self.evidence_signer = EvidenceSigner(operator.issue_evidence_signer(self.operator, LISTS))
        self.operator_der = self.operator.certificate.public_bytes(Encoding.DER)
        self.repository = descriptor.derive_repository_id(suite.sha256(self.operator_der), "Correio")
        self.maria, self.joao = (Citizen.issued(self.ca, name) for name in ("Maria Conceição Reis", "João Sá"))
        self.people: tuple[Citizen, ...] = (self.maria, self.joao)
        self.registrations = {each.name: self.register(each) for each in self.people}
        self.lists = self.current_lists()
        self.draft = self.write()
        self.letter = self.sign(self.maria, self.draft.document)
        self.receipt = self.sign(self.joao, self.receipt_document())

    @property
    def trust(self) -> Trust:
        return Trust((self.ca.root,), (), frozenset({self.operator.fingerprint}))

    def current_lists(self) -> tuple[bytes, ...]:
        return tuple(path.read_bytes() for path in sorted(self.ca.crl_folder.glob("*.crl")))

    def register(self, citizen: Citizen) -> SignedDocument:
        return citizen.signed(citizen.registration(self.repository, time=ms(LISTS)), CardKeyUse.AUTHENTICATION)

    def party(self, citizen: Citizen) -> Party:
        return Party(citizen.user, self.registrations[citizen.name].digest)

    def sign(self, citizen: Citizen, document: bytes) -> SignedDocument:
        signature = cades.sign_document(document, citizen, citizen.writes_with, signing_time=SENT)
        return SignedDocument(document, signature)

    def write(self, time: datetime = SENT) -> letter.Draft:
        to = {self.joao.user}
        return letter.draft(self.repository, LETTER, self.party(self.maria), to, ms(time), SUBJECT, BODY)

    def receipt_document(self, **changes: Any) -> bytes:
        members: dict[str, Any] = {
            "repository": self.repository,
            "letter": LETTER,
            "document": self.letter.digest,
            "body": self.draft.letter.body.digest,
            "reader": self.party(self.joao),
            "sender": self.maria.user,
            "position": MailboxPosition(7, ENTRY),
            "time": ms(READ),
        }
        return documents.encode(ReadingReceipt(**{**members, **changes}))

    def entry(self, signed: SignedDocument, author: Citizen, kind: EntryKind, time: datetime) -> RecordedEntry:
        owner = self.joao if kind is EntryKind.RECEIVED else self.maria
        return RecordedEntry(owner.user, 7, ENTRY, kind, ms(time), author.user, signed.digest, signed.signature_digest)

    def entries(self) -> tuple[RecordedEntry, ...]:
        return (
            self.entry(self.letter, self.maria, EntryKind.SENT, SENT),
            self.entry(self.receipt, self.joao, EntryKind.RECEIPT, READ),
            self.entry(self.letter, self.maria, EntryKind.RECEIVED, SENT),
        )

    def evidence(self, entries: tuple[RecordedEntry, ...] | None = None, **changes: Any) -> SignedDocument:
        found = DeliveryEvidence(self.repository, self.maria.user, LETTER, entries or self.entries(), ms(EXPORTED))
        document = delivery.encode(dataclasses.replace(found, **changes))
        return SignedDocument(document, self.evidence_signer.sign_document(document, EXPORTED))

    def package(self, **changes: Any) -> Package:
        certificates = [*self.ca.intermediates, self.ca.root]
        for citizen in self.people:
            certificates += citizen.certificates.values()
        made = Package(
            description=Description(self.repository, "Correio", LETTER, self.party(self.maria), ms(EXPORTED)),
            letter=self.letter,
            subject=Disclosed(SUBJECT.encode(), self.draft.subject_salt),
            body=Disclosed(BODY, self.draft.body_salt),
            documents=(self.receipt,),
            reasons=(),
            registrations=tuple(self.registrations.values()),
            evidence=self.evidence(),
            operator_root=self.operator_der,
            stamps=(),
            certificates=tuple(each.public_bytes(Encoding.DER) for each in certificates),
            crls=self.lists,
            ocsp=(),
        )
        return dataclasses.replace(made, **changes)

    def seal(self, package: Package | None = None, exporter: Citizen | None = None) -> bytes:
        found = package or self.package()
        signed = self.sign(exporter or self.maria, contents.manifest_of(found))
        return contents.seal(found, signed.signature)


class Asked(World):
    """The letter opens against signatures: João's, who signed for it and read it, and Bruno's, who refused it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.bruno = Citizen.issued(self.ca, "Bruno Antunes")
        self.people = (*self.people, self.bruno)
        self.registrations[self.bruno.name] = self.register(self.bruno)
        to = {self.joao.user, self.bruno.user}
        self.draft = letter.draft(self.repository, LETTER, self.party(self.maria), to, ms(SENT), SUBJECT, BODY)
        self.letter = self.sign(self.maria, self.draft.document)
        readers = {each.user: each.sealing.public for each in self.people}
        prepared = sign_for.seal(self.draft, self.letter.signature, readers, ms(ENDS))
        self.slip = self.sign(self.maria, prepared.slip)
        self.acceptance = self.sign(self.joao, self.accept())
        document, why = choice.refuse(
            self.slip_document, self.slip.digest, self.party(self.bruno), MailboxPosition(7, ENTRY), ms(REFUSED), WHY
        )
        assert why is not None
        self.refusal, self.why = self.sign(self.bruno, document), why
        self.receipt = self.sign(self.joao, self.receipt_document())

    @property
    def slip_document(self) -> Slip:
        return documents.decode(Slip, self.slip.document, self.repository)

    def accept(self, **changes: Any) -> bytes:
        """João's acceptance."""
        position = MailboxPosition(7, ENTRY)
        made = choice.accept(self.slip_document, self.slip.digest, self.party(self.joao), position, ms(CHOSEN))
        return documents.encode(dataclasses.replace(documents.decode(Acceptance, made, self.repository), **changes))

    def refuse(self, **changes: Any) -> bytes:
        """Bruno's refusal."""
        made = documents.decode(Refusal, self.refusal.document, self.repository)
        return documents.encode(dataclasses.replace(made, **changes))

    def entries(self) -> tuple[RecordedEntry, ...]:
        asked = (
            self.entry(self.letter, self.maria, EntryKind.SENT, SENT),
            self.entry(self.acceptance, self.joao, EntryKind.ACCEPTANCE, CHOSEN),
            self.entry(self.refusal, self.bruno, EntryKind.REFUSAL, REFUSED),
            self.entry(self.letter, self.maria, EntryKind.RECEIVED, SENT),
        )
        named = [dataclasses.replace(each, slip=self.slip.digest) for each in asked]
        second = dataclasses.replace(named[-1], mailbox=self.bruno.user)
        return (*named, second, self.entry(self.receipt, self.joao, EntryKind.RECEIPT, READ))

    def package(self, **changes: Any) -> Package:
        why = Disclosed(self.why.text.encode(), self.why.salt)
        mine = {
            "documents": (self.slip, self.acceptance, self.refusal, self.receipt),
            "reasons": (contents.Reason(self.refusal.digest, why),),
        }
        return super().package(**{**mine, **changes})
