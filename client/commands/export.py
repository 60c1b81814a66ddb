"""export: EVIDENCE, with RECV and STATUS. Everything that proves a letter, in one file that the exporter's card signs.

What goes in was judged here first, as for reading and status: what fails a check is not exported. Then the package is
verified as anybody else would, and the verdict is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from client import mailbox, naming, opening, session
from client.commands import read, status
from client.commands.status import ChoiceStatus, OpenedChoice, ReceiptStatus
from client.commands.verify import trust_of
from client.context import Context
from client.errors import CheckFailed, LocalState, NotAllowed
from client.identity import Registry, VerifiedPerson
from client.mailbox import Mailbox
from client.naming import letter_name
from client.state import pin
from client.state.chain import Link
from client.state.session import LiveSession
from crypto_core import choice, commands, descriptor, documents, limits, receipt
from crypto_core.choice import Reason
from crypto_core.commands import BoxEntry, EvidenceResult
from crypto_core.documents import Party, SignedDocument, Slip
from crypto_core.errors import BindingMismatch, ProtocolError
from crypto_core.evidence import Evidence
from crypto_core.letter import OpenedHead
from crypto_core.mailbox import EntryKind
from crypto_core.moments import to_datetime
from crypto_core.receipt import OpenedReceipt
from crypto_core.sign_for import SignedSlip
from evidence_package import contents
from evidence_package.contents import Description, Disclosed, Package
from evidence_package.verdict import Report
from evidence_package.verify import verify
from pki.evidence import verify_evidence
from pki.identity import load_certificate
from pki.revocation_data import RevocationData
from pki.signers import CardKeyUse


@dataclass(frozen=True, slots=True)
class _About:
    """What a card signed about the letter: its slip, a receipt, an acceptance or a refusal."""

    signer: Party
    signed: SignedDocument
    evidence: Evidence | None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class _Letter:
    """The letter that is exported, judged good; without its text where its author has deleted the copy."""

    head: OpenedHead
    body: bytes | None
    slip: SignedSlip | None  #: of a letter that opens against a signature


@dataclass(frozen=True, slots=True)
class Exported:
    """A package, and what its verification says now."""

    letter_id: str
    exported_at: datetime
    data: bytes
    report: Report


def export(context: Context, text: str, *, redact: bool = False) -> Exported:
    """The package of a letter that was sent or received; with `redact` without its subject, body and reasons.

    Of an own letter that was deleted there is a redacted package: what was signed stays.

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
    found = _letter(context, live, own, link, redact=redact)
    registry = Registry(context, live)
    signed = [*_slip(found), *_answers(context, live, own, found)]
    package = _package(context, live, registry, found, signed, redact=redact)
    data = _signed(context, live, package)
    now = to_datetime(context.now())
    report = verify(data, trust_of(context), now)
    return Exported(letter_name(found.head.letter.id), to_datetime(package.description.exported), data, report)


def _letter(context: Context, live: LiveSession, own: Mailbox, link: Link, *, redact: bool) -> _Letter:
    """The letter as it was read now; of a deleted one what the author's STATUS still shows. Raises NotFound."""
    mine = link.author == own.owner
    if not mine or not redact or own.chain().deleted(link.author, link.letter) is None:
        opened = read.fetch(context, live, own, link)
        return _Letter(opened.head, opened.shown.body, opened.slip)
    judged = status.own_copy(context, live, own, link)
    head, _ = judged.require()
    return _Letter(head, None, judged.asked)


def _package(
    context: Context,
    live: LiveSession,
    registry: Registry,
    letter: _Letter,
    signed: Sequence[_About],
    *,
    redact: bool,
) -> Package:
    head, me = letter.head, mailbox.require_login(live)
    if live.own is None:
        raise LocalState("The kept session is not of this version.", action="Close it: smr session close.")
    exporter = Party(me, live.own.document)
    people = [registry.named(party) for party in (head.letter.from_, exporter, *(each.signer for each in signed))]
    certificates, data = _certificates(context, people)
    for enclosed in (head.evidence, *(each.evidence for each in signed)):
        data += _enclosed(enclosed)
    pinned, known = pin.load(context.home)
    root = descriptor.read(pinned.descriptor).chain[-1]
    evidence = _evidence(context, live, head, root)
    return Package(
        description=Description(live.repository, known.name, head.letter.id, exporter, context.now()),
        letter=head.signed,
        subject=None if redact else Disclosed(head.subject.encode("utf-8"), head.subject_salt),
        body=None if redact or letter.body is None else Disclosed(letter.body, head.body_salt),
        documents=tuple(each.signed for each in signed),
        reasons=() if redact else tuple(_reasons(signed)),
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


def _reasons(signed: Iterable[_About]) -> Iterator[contents.Reason]:
    for each in signed:
        if each.reason is not None:
            text = Disclosed(each.reason.text.encode("utf-8"), each.reason.salt)
            yield contents.Reason(each.signed.digest, text)


def _slip(letter: _Letter) -> Iterator[_About]:
    """The slip of a letter that opens against a signature; reading it has judged it."""
    if letter.slip is not None:
        yield _About(letter.head.letter.from_, letter.slip.signed, letter.slip.evidence)


def _answers(context: Context, live: LiveSession, own: Mailbox, letter: _Letter) -> list[_About]:
    """What the exporter may show: the author what every recipient signed, a recipient the own documents."""
    if letter.head.letter.from_.user != own.owner:
        return list(_own_answers(live, own, letter))
    found = status.status(context, letter_name(letter.head.letter.id))
    failed: list[ReceiptStatus | ChoiceStatus] = [
        *(each for each in found.receipts if each.verdict is status.Verdict.FAILED),
        *(each for each in found.choices if each.verdict is status.Signing.FAILED),
    ]
    if failed:
        raise CheckFailed(
            f"What {failed[0].reader_name or failed[0].reader.hex()} signed about the letter fails its checks.",
            "What fails here would fail for everybody.",
            "Look at it: smr status.",
            checks=failed[0].checks,
        )
    answers = [_of_receipt(each.opened) for each in found.receipts if each.opened is not None]
    answers += [_of_choice(each.opened) for each in found.choices if each.opened is not None]
    return answers


def _own_answers(live: LiveSession, own: Mailbox, letter: _Letter) -> Iterator[_About]:
    """What the exporter's own card has signed about a received letter: acceptance and receipt, where there are some."""
    kinds = (EntryKind.RECEIPT_SENT, EntryKind.ACCEPTANCE_SENT)
    for number, link in enumerate(own.synchronise().links, 1):
        if link.kind not in kinds or (link.author, link.letter) != (own.owner, letter.head.letter.id):
            continue
        (box, *_) = own.box(commands.All(after=number - 1, heads=True)).entries
        if box.entry.number != number:
            raise CheckFailed("The repository gave another entry than the one asked for.", "It was not used.")
        yield _own_answer(live, own, letter, box)


def _own_answer(live: LiveSession, own: Mailbox, letter: _Letter, box: BoxEntry) -> _About:
    """Raises CheckFailed when the entry holds something else than it records."""
    try:
        if box.choice is None:
            return _of_receipt(
                receipt.open_receipt(opening.shown_view(box), live.repository, own.owner, live.sealing_keys())
            )
        if letter.slip is None:
            raise BindingMismatch("an acceptance of a letter that asks for none")
        document = choice.read_accepted(box.choice.signed, live.repository)
        slip = documents.decode(Slip, letter.slip.document, live.repository)
        choice.require_about(document, slip, letter.slip.digest, own.owner)
        return _About(document.reader, box.choice.signed, box.choice.evidence)
    except ProtocolError as error:
        raise CheckFailed(
            "What your card signed about the letter is shown otherwise than it was recorded.",
            f"{error}.",
            "Tell the operator of the repository.",
        ) from error


def _of_choice(found: OpenedChoice) -> _About:
    return _About(found.document.reader, found.signed, found.evidence, found.reason)


def _of_receipt(found: OpenedReceipt) -> _About:
    return _About(found.receipt.reader, found.signed, found.evidence)


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
