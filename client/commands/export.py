"""export: EVIDENCE, with RECV and STATUS. Everything that proves a letter, in one file that the exporter's card signs.

What goes in was judged here first, as for reading and status: what fails a check is not exported. Then the package is
verified as anybody else would, and the verdict is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from client import mailbox, naming, session
from client.commands import read, status
from client.commands.verify import trust_of
from client.context import Context
from client.errors import CheckFailed, LocalState, NotAllowed
from client.identity import Registry, VerifiedPerson
from client.mailbox import Mailbox
from client.naming import letter_name
from client.state import pin
from client.state.session import LiveSession
from crypto_core import commands, descriptor, limits, receipt
from crypto_core.commands import EvidenceResult
from crypto_core.documents import Party, SignedDocument
from crypto_core.evidence import Evidence
from crypto_core.ids import LetterId
from crypto_core.letter import OpenedHead
from crypto_core.mailbox import EntryKind
from crypto_core.moments import to_datetime
from crypto_core.receipt import OpenedReceipt
from evidence_package import contents
from evidence_package.contents import Description, Disclosed, Package
from evidence_package.verdict import Report
from evidence_package.verify import verify
from pki.evidence import verify_evidence
from pki.identity import load_certificate
from pki.revocation_data import RevocationData
from pki.signers import CardKeyUse


@dataclass(frozen=True, slots=True)
class Exported:
    """A package, and what its verification says now."""

    letter_id: str
    exported_at: datetime
    data: bytes
    report: Report


def export(context: Context, text: str, *, redact: bool = False) -> Exported:
    """The package of a letter that was sent or received; with `redact` without its subject and body.

    Raises CheckFailed for a letter that fails a check, and what reading it raises.
    """
    if context.former is not None:
        raise NotAllowed(
            "A package of an earlier card's letter cannot be made.",
            "The card that signs it must be the one whose mailbox it is.",
            "Ask the other side of the letter to export it.",
        )
    live = session.require(context)
    own = mailbox.own_mailbox(context, live)
    link = naming.find_letter(own, text)
    opened = read.fetch(context, live, own, link)
    registry = Registry(context, live)
    receipts = _receipts(context, live, own, opened.head)
    package = _package(context, live, registry, opened, receipts, redact=redact)
    data = _signed(context, live, package)
    now = to_datetime(context.now())
    report = verify(data, trust_of(context), now)
    return Exported(letter_name(opened.head.letter.id), to_datetime(package.description.exported), data, report)


def _package(
    context: Context,
    live: LiveSession,
    registry: Registry,
    opened: read.Opened,
    receipts: Sequence[OpenedReceipt],
    *,
    redact: bool,
) -> Package:
    head, me = opened.head, mailbox.require_login(live)
    if live.own is None:
        raise LocalState("The kept session is not of this version.", action="Close it: smr session close.")
    exporter = Party(me, live.own.document)
    people = [registry.named(party) for party in (head.letter.from_, exporter, *(r.receipt.reader for r in receipts))]
    certificates, data = _certificates(context, people)
    for enclosed in (head.evidence, *(each.evidence for each in receipts)):
        data += _enclosed(enclosed)
    pinned, known = pin.load(context.home)
    root = descriptor.read(pinned.descriptor).chain[-1]
    evidence = _evidence(context, live, head, root)
    return Package(
        description=Description(live.repository, known.name, head.letter.id, exporter, context.now()),
        letter=head.signed,
        subject=None if redact else Disclosed(head.subject.encode("utf-8"), head.subject_salt),
        body=None if redact else Disclosed(opened.shown.body, head.body_salt),
        documents=tuple(each.signed for each in receipts),
        registrations=tuple(person.registered.signed for person in people),
        evidence=SignedDocument(evidence.document, evidence.signature),
        stamps=evidence.stamps,
        operator_root=root,
        certificates=certificates,
        crls=data.crls,
        ocsp=data.ocsp,
    )


def _signed(context: Context, live: LiveSession, package: Package) -> bytes:
    """The container, with the signature of the session's card over its manifest."""
    with_signature_key = live.own is not None and live.own.signs_with_signature_key
    use = CardKeyUse.SIGNATURE if with_signature_key else CardKeyUse.AUTHENTICATION
    manifest = contents.manifest_of(package)
    with context.own_card(live) as card:
        return contents.seal(package, card.sign(manifest, use).signature)


def _evidence(context: Context, live: LiveSession, head: OpenedHead, root: bytes) -> EvidenceResult:
    """What the repository says about the letter. Raises CheckFailed unless its operator's key signed it."""
    command = commands.Evidence(head.letter.from_.user, head.letter.id)
    result: EvidenceResult = context.call(live, command)
    pinned, _ = pin.load(context.home)
    verify_evidence(
        result.document,
        result.signature,
        load_certificate(root),
        root_fingerprint=pinned.operator_root.hex(),
        moment=to_datetime(context.now()),
    )
    return result


def _receipts(context: Context, live: LiveSession, own: Mailbox, head: OpenedHead) -> list[OpenedReceipt]:
    """The receipts that the exporter may show: the author those of all readers, a reader the own one."""
    if head.letter.from_.user == own.owner:
        found = status.status(context, letter_name(head.letter.id)).receipts
        failed = [each for each in found if each.verdict is status.Verdict.FAILED]
        if failed:
            raise CheckFailed(
                f"A receipt of {failed[0].reader_name or failed[0].reader.hex()} fails its checks.",
                "What fails here would fail for everybody.",
                "Look at it: smr status.",
                checks=failed[0].checks,
            )
        return [each.opened for each in found if each.opened is not None]
    return _own_receipt(live, own, head.letter.id)


def _own_receipt(live: LiveSession, own: Mailbox, letter: LetterId) -> list[OpenedReceipt]:
    """The copy of the receipt that the exporter's card has signed, where there is one."""
    for number, link in enumerate(own.synchronise().links, 1):
        if link.kind is EntryKind.RECEIPT_SENT and link.letter == letter:
            (box, *_) = own.box(commands.All(after=number - 1, heads=True)).entries
            if box.view is None or box.entry.number != number:
                raise CheckFailed("The repository gave another entry than the one asked for.", "It was not used.")
            return [receipt.open_receipt(box.view, live.repository, own.owner, live.sealing_keys())]
    return []


def _certificates(context: Context, people: Iterable[VerifiedPerson]) -> tuple[tuple[bytes, ...], RevocationData]:
    """The certificates of these people with their paths, and what says today that none of them is revoked."""
    found: dict[bytes, None] = {}
    wanted, helpers = [], list[x509.Certificate]()
    for person in people:
        helpers += person.intermediates
        wanted += person.registered.certificates
        found |= dict.fromkeys(map(_der, (c for c, _ in person.registered.certificates)))
        found |= dict.fromkeys(map(_der, person.intermediates))
    with context.settings.waiting("the revocation lists"):
        for certificate, purpose in wanted:
            path = context.validator.trace(certificate, helpers, to_datetime(context.now()), purpose).path
            found |= dict.fromkeys(map(_der, path))
        enclosed = context.validator.enclose(
            dict.fromkeys(wanted), helpers, limits.PACKAGE_REVOCATION_BYTES, limits.PACKAGE_REVOCATION_ITEMS
        )
    return tuple(found), enclosed.data


def _enclosed(evidence: Evidence | None) -> RevocationData:
    return RevocationData(evidence.crls, evidence.ocsp) if evidence else RevocationData()


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
