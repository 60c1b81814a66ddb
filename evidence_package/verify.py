"""Verifies a package: every check by name, then the verdict. Offline, from the bytes and the roots that one trusts.

    container     the one form of ZIP, files and manifest belong together
    exporter      who put the package together signed its manifest, with a registered card that was good then
    repository    its operator's root is the one that the sender's letter names, and one that you trust
    evidence      the repository signed it with the key made for this
    time stamps   where roots of authorities are named: the stamped tree holds the entry, which was recorded before
    letter        the sender's card signed it, was good when the repository recorded it, at the time that it claims
    subject, body have the digests that the sender signed
    documents     the same for receipts, slip, acceptances and refusals, each about exactly this letter; acceptances and
                  refusals name this slip, and each reader chose once

What the exporter adds is a signature over the whole: no other check believes the exporter.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from cryptography import x509

from crypto_core import choice, delivery, descriptor, documents, limits, merkle, moments, suite
from crypto_core import letter as letters
from crypto_core.choice import Choice
from crypto_core.delivery import DeliveryEvidence, EntryStamp, RecordedEntry
from crypto_core.documents import (
    Acceptance,
    Letter,
    MailboxPosition,
    Part,
    Party,
    ReadingReceipt,
    Refusal,
    SignedDocument,
    Slip,
)
from crypto_core.errors import BindingMismatch, ProtocolError
from crypto_core.ids import Digest, Milliseconds, UserId
from crypto_core.mailbox import EntryKind
from evidence_package import contents
from evidence_package.contents import Disclosed, Package
from evidence_package.errors import PackageRefused
from evidence_package.people import Judge
from evidence_package.verdict import Check, Report, SubIndication, sub_indication_of, weigh
from pki import cades, evidence, identity
from pki.errors import PkiError
from pki.identity import fingerprint, load_certificate
from pki.registration import Registered, verify_registration
from pki.revocation_data import RevocationData
from pki.timestamp import StampTrust, VerifiedStamp, verify_token

T = TypeVar("T")

_CHANGED: Final = "It was changed, or parts of several packages were put together. Do not rely on it."
_NOT_STAMPED: Final = "The time stamp does not show that this entry existed at that time."
#: What an entry by a recipient says that they chose.
_CHOSEN: Final = {
    EntryKind.ACCEPTANCE: Choice.ACCEPTED,
    EntryKind.ACCEPTANCE_SENT: Choice.ACCEPTED,
    EntryKind.REFUSAL: Choice.REFUSED,
    EntryKind.REFUSAL_SENT: Choice.REFUSED,
    EntryKind.EXPIRY: Choice.EXPIRED,
}
_LETTER_KINDS: Final = (EntryKind.SENT, EntryKind.RECEIVED)
_UNKNOWN_SIGNER: Final = "Who signed it cannot be told."


@dataclass(frozen=True, slots=True)
class Trust:
    """What the verifier believes before looking.

    State roots (`anchors`), operator roots by SHA-256 (hexadecimal), and roots of time-stamp authorities.
    """

    anchors: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...] = ()
    operators: frozenset[str] = frozenset()
    stamp_roots: tuple[x509.Certificate, ...] = ()


class _Checks:
    """Makes checks one after the other, and keeps how each ended."""

    def __init__(self) -> None:
        self.made: list[Check] = []

    def attempt(self, about: str, name: str, holds: str, fails: str, act: Callable[[], T]) -> T | None:
        """The value of `act`; None if it refused."""
        try:
            value = act()
        except (PackageRefused, ProtocolError, PkiError) as error:
            self.made.append(Check(about, name, False, fails, str(error), sub_indication_of(error)))
            return None
        self.made.append(Check(about, name, True, holds))
        return value

    def holds(self, about: str, name: str, meaning: str) -> None:
        """A check that was made elsewhere, and passed."""
        self.made.append(Check(about, name, True, meaning))

    def doubt(self, about: str, name: str, fails: str, reason: str, sub: SubIndication) -> None:
        """A check that could not be made."""
        self.made.append(Check(about, name, False, fails, reason, sub))


def verify(data: bytes, trust: Trust, now: datetime) -> Report:
    """The report on a package. Raises nothing for bad bytes: the report says so. `now` is an aware datetime."""
    checks = _Checks()
    opened = checks.attempt(
        "package", "container", "one ZIP of the form that export writes, every file in its manifest", _CHANGED,
        lambda: contents.open_(data),
    )  # fmt: skip
    if opened is None:
        return _report(checks, (), ())
    package, manifest, sealed = opened
    work = checks.attempt(
        "package", "certificates", "every certificate in it can be read", _CHANGED,
        lambda: _Work(package, trust, now, checks),
    )  # fmt: skip
    if work is None:
        return _report(checks, (), ())
    return work.report(manifest, sealed)


def _report(checks: _Checks, facts: Sequence[tuple[str, str]], left_out: Sequence[str]) -> Report:
    made = tuple(checks.made)
    return Report(*weigh(made), made, tuple(facts), tuple(left_out))


@dataclass(frozen=True, slots=True)
class _Signer:
    """A registered citizen, and how people call them."""

    registered: Registered
    name: str


@dataclass(frozen=True, slots=True)
class _Said:
    """What a signed document about the letter says: by whom and when; which entries name it, which kinds may."""

    title: str
    party: Party
    time: Milliseconds
    entries: Sequence[RecordedEntry]
    kinds: Collection[EntryKind]


class _Work:
    """One verification under way."""

    def __init__(self, package: Package, trust: Trust, now: datetime, checks: _Checks) -> None:
        self._package = package
        self._about = package.description
        self._repository = package.description.repository
        self._trust = trust
        self._now = now
        self._checks = checks
        self._certificates = {suite.sha256(der): load_certificate(der) for der in package.certificates}
        self._ders = {suite.sha256(der): der for der in package.certificates}
        self._judge = Judge(
            anchors=trust.anchors,
            helpers=(*trust.intermediates, *self._certificates.values()),
            revocation=RevocationData(package.crls, package.ocsp),
            exported=moments.to_datetime(self._about.exported),
            now=now,
        )
        self._entries: tuple[RecordedEntry, ...] = ()  #: of evidence that is verified
        self._slip: tuple[Slip, Digest] | None = None  #: with the SHA-256 of its document; about this letter
        self._chose: set[UserId] = set()  #: whose acceptance or refusal is in the package
        self._facts: list[tuple[str, str]] = []
        self._left_out: list[str] = []
        self._confirmed: set[UserId] = set()  #: who signed a receipt that is in the package, or refused the letter

    def report(self, manifest: bytes, sealed: SignedDocument) -> Report:
        """All checks in their order."""
        self._exporter(manifest, sealed)
        self._evidence()
        letter = self._checks.attempt("letter", "form", "a letter of this repository", _CHANGED, self._read_letter)
        if letter is not None:
            self._letter(letter)
            for each in sorted(self._package.documents, key=_slips_first):
                self._document(letter, each)
            self._tell_left_out(letter)
        return _report(self._checks, self._facts, self._left_out)

    # --- the package itself -----------------------------------------------------------------------------------------

    def _exporter(self, manifest: bytes, sealed: SignedDocument) -> None:
        about, exported = self._about, moments.to_datetime(self._about.exported)
        signer = self._signer("exporter", about.exporter)
        if signer is None:
            return
        self._fact("exported by", f"{signer.name}, {_shown(about.exported)}")
        self._checks.attempt(
            "exporter", "signature", "signed the list of all files", _CHANGED,
            lambda: cades.verify_document(manifest, sealed.signature, certificate=signer.registered.signing),
        )  # fmt: skip
        self._good("exporter", signer, exported)
        self._checks.attempt(
            "exporter", "time", "exported before now", "It claims to come from the future.",
            lambda: moments.require_within(
                max(about.exported, moments.from_datetime(self._now)), moments.from_datetime(self._now),
                limits.CLOCK_SKEW_MS, "the package",
            ),
        )  # fmt: skip

    def _evidence(self) -> None:
        root = self._checks.attempt(
            "repository", "operator", "its id is made from this operator's root and its name", _CHANGED, self._operator
        )
        if root is None:
            return
        if fingerprint(root) in self._trust.operators:
            self._checks.holds("repository", "trusted", "an operator root that you trust")
        else:
            self._checks.doubt(
                "repository",
                "trusted",
                "Whether the times and entries can be believed depends on this operator, whom you have not named.",
                f"compare this fingerprint with the one that the operator publishes, then name it: {fingerprint(root)}",
                SubIndication.NO_CERTIFICATE_CHAIN_FOUND,
            )
        found = self._checks.attempt(
            "repository", "evidence", "signed what it recorded, with the key made for this", _CHANGED,
            lambda: self._read_evidence(root),
        )  # fmt: skip
        if found is None:
            return
        self._fact(
            "repository", f"{self._about.repository_name} ({self._repository}), operator root {fingerprint(root)}"
        )
        self._entries = found.entries
        self._stamps(found)

    def _stamps(self, found: DeliveryEvidence) -> None:
        stamps = self._package.stamps
        if stamps and not self._trust.stamp_roots:
            self._left_out.append(f"a judgement of {len(stamps)} time stamps: no root of an authority was named")
            return
        for stamp in stamps:
            entry = found.entries[stamp.entry]
            verified = self._checks.attempt(
                "time stamp", entry.kind.value, "stamped by an authority that you trust", _NOT_STAMPED,
                functools.partial(self._read_stamp, found, stamp),
            )  # fmt: skip
            if verified is None:
                continue
            at = moments.from_datetime(verified.time)
            self._fact(f"{entry.kind.value} stamped", _shown(at))
            if entry.time > at + limits.CLOCK_SKEW_MS:
                self._checks.doubt(
                    "time stamp", "order", "The repository says that it was recorded after it was stamped.",
                    f"recorded {_shown(entry.time)}, stamped {_shown(at)}", SubIndication.TIMESTAMP_ORDER_FAILURE,
                )  # fmt: skip

    def _read_stamp(self, found: DeliveryEvidence, stamp: EntryStamp) -> VerifiedStamp:
        leaf = merkle.leaf_hash(delivery.encode_leaf(delivery.leaf_of(found, found.entries[stamp.entry])))
        root = merkle.root_from(leaf, stamp.index, stamp.size, stamp.path)
        return verify_token(stamp.token, root, StampTrust(self._trust.stamp_roots))

    def _operator(self) -> x509.Certificate:
        der = self._package.operator_root
        root = load_certificate(der)
        if descriptor.derive_repository_id(suite.sha256(der), self._about.repository_name) != self._repository:
            raise BindingMismatch("the repository's id does not belong to this operator root and name")
        return root

    def _read_evidence(self, root: x509.Certificate) -> DeliveryEvidence:
        signed = self._package.evidence
        found = delivery.decode(signed.document, self._repository)
        moment = moments.to_datetime(found.time)
        evidence.verify_evidence(
            signed.document, signed.signature, root, root_fingerprint=fingerprint(root), moment=moment
        )
        if found.letter != self._about.letter:
            raise BindingMismatch("the evidence is about another letter")
        return found

    # --- the letter -------------------------------------------------------------------------------------------------

    def _read_letter(self) -> Letter:
        letter = documents.decode(Letter, self._package.letter.document, self._repository)
        if letter.id != self._about.letter:
            raise BindingMismatch("the package is about another letter")
        return letter

    def _letter(self, letter: Letter) -> None:
        entries = self._naming(self._package.letter)
        said = _Said("letter", letter.from_, letter.time, entries, _LETTER_KINDS)
        signer = self._signed_by("letter", said, self._package.letter)
        if signer is not None:
            self._facts.insert(0, ("letter", f"from {signer.name}, {_shown(letter.time)}"))
        self._part("subject", letter.subject, self._package.subject)
        self._part("body", letter.body, self._package.body)

    def _part(self, name: str, part: Part, shown: Disclosed | None) -> None:
        if shown is None:
            self._left_out.append(f"the {name}: only its salted digest is there, which tells nothing of it")
            return

        def compare() -> None:
            if (part.size, part.digest) != (len(shown.data), letters.part_digest(shown.salt, shown.data)):
                raise BindingMismatch(f"the {name} is not the one that was signed")

        self._checks.attempt(name, "digest", "as the sender signed it", "It is not what the sender signed.", compare)

    # --- what others signed -----------------------------------------------------------------------------------------

    def _document(self, letter: Letter, signed: SignedDocument) -> None:
        kind = contents.type_of(signed)
        said = self._checks.attempt(
            kind, "about", "about exactly this letter", _CHANGED, lambda: self._read_document(kind, letter, signed)
        )
        if said is None:
            return
        signer = self._signed_by(said.title, said, signed)
        if signer is not None:
            self._fact(said.title, f"by {signer.name}, {_shown(said.time)}")

    def _read_document(self, kind: str, letter: Letter, signed: SignedDocument) -> _Said:
        match kind:
            case ReadingReceipt.TYPE:
                return self._receipt(letter, signed)
            case Slip.TYPE:
                return self._read_slip(letter, signed)
            case Acceptance.TYPE:
                return self._acceptance(signed)
            case Refusal.TYPE:
                return self._refusal(signed)
        raise PackageRefused(f"a signed document of type {kind} has no place in a package")

    def _receipt(self, letter: Letter, signed: SignedDocument) -> _Said:
        receipt = documents.decode(ReadingReceipt, signed.document, self._repository)
        expected = (letter.id, self._package.letter.digest, letter.body.digest, letter.from_.user)
        if (receipt.letter, receipt.document, receipt.body, receipt.sender) != expected:
            raise BindingMismatch("the receipt is for another letter, or for other content")
        self._require_recipient(letter, receipt.reader.user)
        self._require_position(receipt.reader.user, receipt.position)
        self._confirmed.add(receipt.reader.user)
        kinds = (EntryKind.RECEIPT, EntryKind.RECEIPT_SENT)
        return _Said("reading receipt", receipt.reader, receipt.time, self._naming(signed), kinds)

    def _read_slip(self, letter: Letter, signed: SignedDocument) -> _Said:
        """What it says of the sealed letter (object, commitment) is bound by the entry, which names letter and slip."""
        slip = documents.decode(Slip, signed.document, self._repository)
        if (slip.letter, slip.from_, slip.recipients) != (letter.id, letter.from_, letter.to):
            raise BindingMismatch("the slip is of another letter, by somebody else, or for other people")
        entries = [each for each in self._naming(self._package.letter) if each.kind in _LETTER_KINDS]
        if any(each.slip != signed.digest for each in entries):
            raise BindingMismatch("the repository recorded this letter with another slip, or with none")
        self._slip = slip, signed.digest
        return _Said("slip", slip.from_, slip.time, entries, _LETTER_KINDS)

    def _acceptance(self, signed: SignedDocument) -> _Said:
        document = documents.decode(Acceptance, signed.document, self._repository)
        self._require_chosen(document, signed, Choice.ACCEPTED)
        kinds = (EntryKind.ACCEPTANCE, EntryKind.ACCEPTANCE_SENT)
        return _Said("acceptance", document.reader, document.time, self._naming(signed), kinds)

    def _refusal(self, signed: SignedDocument) -> _Said:
        document = documents.decode(Refusal, signed.document, self._repository)
        self._require_chosen(document, signed, Choice.REFUSED)
        self._reason(document, signed)
        self._confirmed.add(document.reader.user)
        kinds = (EntryKind.REFUSAL, EntryKind.REFUSAL_SENT)
        return _Said("refusal", document.reader, document.time, self._naming(signed), kinds)

    def _require_chosen(self, document: Acceptance | Refusal, signed: SignedDocument, chosen: Choice) -> None:
        """About this slip, and so this letter, by one of its recipients, who chose in time, once, and nothing else."""
        if self._slip is None:
            raise BindingMismatch("the slip that it answers is not in the package")
        slip, digest = self._slip
        reader = document.reader.user
        choice.require_about(document, slip, digest, reader)
        self._require_position(reader, document.position)
        end = slip.expires + limits.CLOCK_SKEW_MS
        if any(each.slip != digest or each.time >= end for each in self._naming(signed)):
            raise BindingMismatch("the repository recorded it for another slip, or after this one had ended")
        if reader in self._chose or any(
            each.author == reader and _CHOSEN.get(each.kind, chosen) is not chosen for each in self._entries
        ):
            raise BindingMismatch("a choice is made once, and its signer made another one too")
        self._chose.add(reader)

    def _reason(self, refusal: Refusal, signed: SignedDocument) -> None:
        shown = next((each.text for each in self._package.reasons if each.refusal == signed.digest), None)
        if refusal.reason is not None:
            self._part("reason of the refusal", refusal.reason, shown)
        elif shown is not None:
            raise BindingMismatch("a reason is shown for a refusal that gives none")

    def _require_recipient(self, letter: Letter, user: UserId) -> None:
        if user not in letter.to:
            raise BindingMismatch("it is signed by somebody to whom the letter did not go")

    def _require_position(self, reader: UserId, position: MailboxPosition) -> None:
        """The place at which the reader saw the letter is the one that the repository recorded."""
        for entry in self._entries:
            if (entry.kind, entry.mailbox) == (EntryKind.RECEIVED, reader) and (
                (entry.number, entry.entry) != (position.number, position.entry)
            ):
                raise BindingMismatch("the reader saw the letter at another place than the repository recorded")

    def _naming(self, signed: SignedDocument) -> list[RecordedEntry]:
        """The entries that name exactly this document with this signature."""
        named = (signed.digest, signed.signature_digest)
        return [each for each in self._entries if (each.document, each.signature) == named]

    # --- signatures -------------------------------------------------------------------------------------------------

    def _signed_by(self, about: str, said: _Said, signed: SignedDocument) -> _Signer | None:
        signer = self._signer(about, said.party)
        if signer is None:
            return None
        self._checks.attempt(
            about, "signature", f"signed with the card of {signer.name}",
            "It was changed after it was signed, or somebody else signed it.",
            lambda: cades.verify_document(signed.document, signed.signature, certificate=signer.registered.signing),
        )  # fmt: skip
        accepted = self._accepted(about, said)
        self._good(about, signer, moments.to_datetime(said.time if accepted is None else accepted))
        if accepted is not None:
            self._fact(f"{about} accepted", _shown(accepted))
            self._checks.attempt(
                about, "time", "recorded when it says that it was signed",
                "It claims another time than that at which the repository recorded it.",
                lambda: moments.require_within(said.time, accepted, limits.CLOCK_SKEW_MS, f"the {about}"),
            )  # fmt: skip
        return signer

    def _accepted(self, about: str, said: _Said) -> Milliseconds | None:
        """When the repository recorded it; None where it does not say so."""
        found = [each.time for each in said.entries if each.author == said.party.user and each.kind in said.kinds]
        if found:
            self._checks.holds(about, "recorded", "recorded by the repository")
            return min(found)
        self._checks.doubt(
            about, "recorded", "The repository does not say that it recorded this, nor when.",
            "no entry in its evidence names this document with this signature", SubIndication.NO_POE,
        )  # fmt: skip
        return None

    def _signer(self, about: str, party: Party) -> _Signer | None:
        return self._checks.attempt(
            about, "signer", "signed by a registered citizen", _UNKNOWN_SIGNER, lambda: self._registered(party)
        )

    def _registered(self, party: Party) -> _Signer:
        for signed in self._package.registrations:
            if signed.digest == party.registration:
                return self._read_registration(signed, party)
        raise BindingMismatch("the registration that it names is not in the package")

    def _read_registration(self, signed: SignedDocument, party: Party) -> _Signer:
        named = documents.decode(documents.Registration, signed.document, self._repository)
        wanted = (named.authentication_certificate, named.signature_certificate)
        ders = [self._ders.get(each) for each in wanted if each is not None]
        if None in ders:
            raise BindingMismatch("a certificate that the registration names is not in the package")
        found = verify_registration(signed, ders[0] or b"", ders[1] if len(ders) > 1 else None, self._repository)
        if found.registration.user != party.user:
            raise BindingMismatch("the registration is of somebody else")
        holder = found.authentication
        return _Signer(found, f"{identity.holder_name(holder)} ({identity.civil_number(holder)})")

    def _good(self, about: str, signer: _Signer, moment: datetime) -> None:
        self._checks.attempt(
            about, "certificate", f"card good on {moment:%Y-%m-%d %H:%M:%S} UTC, not revoked",
            "The card was not good at that time, or it cannot be told.",
            lambda: self._judge.require_good(signer.registered, moment),
        )  # fmt: skip

    # --- for people -------------------------------------------------------------------------------------------------

    def _fact(self, name: str, value: str) -> None:
        self._facts.append((name, value))

    def _tell_left_out(self, letter: Letter) -> None:
        included = {each.digest for each in self._package.documents}
        for slip in sorted({each.slip for each in self._entries if each.slip is not None} - included):
            self._left_out.append(f"the slip by which the letter asks for a signature: its SHA-256 is {slip.hex()}")
        for entry in self._entries:
            if entry.kind is EntryKind.EXPIRY:
                self._fact("ended unsigned", f"{entry.author.hex()} did not choose, {_shown(entry.time)}")
            elif entry.kind in _CHOSEN and entry.document not in included:
                self._left_out.append(
                    f"what {entry.author.hex()} signed about the slip: the repository recorded "
                    f"{entry.kind.value}, {_shown(entry.time)}"
                )
        for user in letter.to:
            if user not in self._confirmed:
                self._left_out.append(f"a receipt of {user.hex()}: it may have been read all the same")
        if letter.attachments:
            self._left_out.append(f"{len(letter.attachments)} attachments: only their digests are there")


def _slips_first(signed: SignedDocument) -> bool:
    """A key for sorting: what answers a slip is judged after it."""
    return contents.type_of(signed) != Slip.TYPE


def _shown(moment: int) -> str:
    return moments.to_text(moment)
