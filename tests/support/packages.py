"""A letter with its receipt and all that proves them, made in software at fixed times: for tests of evidence packages.

    12:00  revocation lists      12:10  Maria's letter to João      12:20  his receipt      13:00  exported by Maria

`World().package()` is the package as export makes it; a test changes what it wants before it is signed.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from crypto_core import delivery, descriptor, documents, letter, moments, suite
from crypto_core.delivery import DeliveryEvidence, RecordedEntry
from crypto_core.documents import MailboxPosition, Party, ReadingReceipt, SignedDocument
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
READ = LISTS + timedelta(minutes=20)
EXPORTED = LISTS + timedelta(hours=1)
LATER = LISTS + timedelta(days=20 * 365)  #: when everything has expired, and every server is gone
LETTER = LetterId(b"letter-id-000001")
BODY = "Olá! Segue a ata da reunião de ontem.\n".encode()
SUBJECT = "Ata da reunião"
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
        self.registrations = {
            each.name: each.signed(each.registration(self.repository, time=ms(LISTS)), CardKeyUse.AUTHENTICATION)
            for each in (self.maria, self.joao)
        }
        self.lists = self.current_lists()
        self.draft = self.write()
        self.letter = self.sign(self.maria, self.draft.document)
        self.receipt = self.sign(self.joao, self.receipt_document())

    @property
    def trust(self) -> Trust:
        return Trust((self.ca.root,), (), frozenset({self.operator.fingerprint}))

    def current_lists(self) -> tuple[bytes, ...]:
        return tuple(path.read_bytes() for path in sorted(self.ca.crl_folder.glob("*.crl")))

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
        for citizen in (self.maria, self.joao):
            certificates += citizen.certificates.values()
        made = Package(
            description=Description(self.repository, "Correio", LETTER, self.party(self.maria), ms(EXPORTED)),
            letter=self.letter,
            subject=Disclosed(SUBJECT.encode(), self.draft.subject_salt),
            body=Disclosed(BODY, self.draft.body_salt),
            documents=(self.receipt,),
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
