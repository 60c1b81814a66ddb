"""Slip, acceptances and refusals in a package: what they prove, and for each check a package in which it refuses."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from cryptography import x509

from crypto_core import documents
from crypto_core.documents import MailboxPosition
from crypto_core.ids import Digest, LetterId
from crypto_core.mailbox import EntryKind
from evidence_package import contents
from evidence_package.contents import Disclosed, Reason
from evidence_package.verdict import Indication, SubIndication
from evidence_package.verify import verify
from tests.support.packages import CHOSEN, ENDS, ENTRY, EXPORTED, LATER, SENT, WHY, Asked, ms

FAILED, DOUBTED = Indication.TOTAL_FAILED, Indication.INDETERMINATE
SENT_AT, ACCEPTED_AT, REFUSED_AT = 0, 1, 2  #: in `Asked.entries`


def judge(world, package, exporter=None, now=EXPORTED):
    return verify(world.seal(package, exporter), world.trust, now)


def failures(report):
    return [(check.about, check.name) for check in report.checks if not check.passed]


class TestPassed:
    @pytest.mark.parametrize("now", [EXPORTED, LATER], ids=["at once", "in twenty years"])
    def test_every_check_passes(self, asked, now):
        report = judge(asked, asked.package(), now=now)
        assert failures(report) == []
        assert (report.indication, report.left_out) == (Indication.TOTAL_PASSED, ())
        facts = dict(report.facts)
        assert facts["slip"].startswith("by Maria Conceição Reis")
        assert facts["acceptance"].startswith("by João Sá")
        assert facts["refusal"].startswith("by Bruno Antunes")
        assert facts["acceptance accepted"] == "2026-11-22T12:15:00.000Z"
        checks = {(each.about, each.name) for each in report.checks}
        for kind in ("slip", "acceptance", "refusal"):
            assert {(kind, each) for each in ("about", "signature", "recorded", "certificate", "time")} <= checks
        assert ("reason of the refusal", "digest") in checks

    def test_the_reader_exports_the_own_acceptance(self, asked):
        _, accepted, _, received, _, receipt = asked.entries()
        mine = (
            received,
            dataclasses.replace(accepted, mailbox=asked.joao.user, kind=EntryKind.ACCEPTANCE_SENT),
            dataclasses.replace(receipt, mailbox=asked.joao.user, kind=EntryKind.RECEIPT_SENT),
        )
        description = dataclasses.replace(asked.package().description, exporter=asked.party(asked.joao))
        package = asked.package(
            description=description,
            documents=(asked.slip, asked.acceptance, asked.receipt),
            reasons=(),
            evidence=asked.evidence(mine),
        )
        report = judge(asked, package, asked.joao)
        assert failures(report) == []
        assert [asked.bruno.user.hex() in each for each in report.left_out] == [True]

    def test_without_the_reason_its_salted_digest_tells_nothing(self, asked):
        package = asked.package(reasons=())
        report = judge(asked, package)
        assert report.passed
        assert [each.split(":")[0] for each in report.left_out] == ["the reason of the refusal"]
        assert WHY.encode() not in asked.seal(package)

    def test_what_is_not_in_it_is_told(self, asked):
        report = judge(asked, asked.package(documents=(asked.receipt,), reasons=()))
        assert report.passed
        assert [each.split(" ")[1] for each in report.left_out] == [
            "slip",
            asked.joao.user.hex(),
            asked.bruno.user.hex(),
            "receipt",
        ]

    def test_names_and_order_are_always_the_same(self, asked):
        documents_ = asked.package().documents
        names = [
            name
            for made in (documents_, documents_[::-1])
            for name in contents.write(asked.package(documents=made))
            if name.startswith(("documents/", "content/refusal"))
        ]
        assert names[: len(names) // 2] == names[len(names) // 2 :]
        assert names[:3] == [
            "documents/acceptance-1.json",
            "documents/acceptance-1.p7s",
            "documents/reading-receipt-1.json",
        ]
        assert "content/refusal-1-reason.txt" in names


def altered(world, at, **changes):
    entries = list(world.entries())
    entries[at] = dataclasses.replace(entries[at], **changes)
    return world.package(evidence=world.evidence(tuple(entries)))


def more(world, *entries):
    return world.package(evidence=world.evidence((*world.entries(), *entries)))


def with_slip(world, signer=None, *, recorded=True, **changes):
    """Another slip, which everything names: the package without the choices about the former one."""
    slip = world.sign(signer or world.maria, documents.encode(dataclasses.replace(world.slip_document, **changes)))
    named = slip.digest if recorded else world.slip.digest
    letters = [
        dataclasses.replace(each, slip=named) for each in world.entries() if each.document == world.letter.digest
    ]
    return world.package(documents=(slip,), reasons=(), evidence=world.evidence(tuple(letters)))


def with_acceptance(world, signer=None, **changes):
    signed = world.sign(signer or world.joao, world.accept(**changes))
    return instead(world, ACCEPTED_AT, (world.slip, signed), signed)


def with_refusal(world, signer=None, **changes):
    signed = world.sign(signer or world.bruno, world.refuse(**changes))
    return instead(world, REFUSED_AT, (world.slip, signed), signed)


def instead(world, at, found, signed):
    package = altered(world, at, document=signed.digest, signature=signed.signature_digest)
    return dataclasses.replace(package, documents=found, reasons=())


def both_by_joao(world):
    """He accepted and refused, and the repository has recorded both."""
    refusal = world.sign(world.joao, world.refuse(reader=world.party(world.joao), reason=None))
    entry = dataclasses.replace(
        world.entries()[REFUSED_AT], author=world.joao.user, document=refusal.digest, signature=refusal.signature_digest
    )
    return dataclasses.replace(more(world, entry), documents=(world.slip, world.acceptance, refusal), reasons=())


def accepted_twice(world):
    second = world.sign(world.joao, world.accept(time=ms(CHOSEN + timedelta(seconds=1))))
    entry = dataclasses.replace(world.entries()[ACCEPTED_AT], document=second.digest, signature=second.signature_digest)
    found = (world.slip, world.acceptance, second)
    return dataclasses.replace(more(world, entry), documents=found, reasons=())


def expired_too(world):
    return more(
        world,
        dataclasses.replace(world.entries()[ACCEPTED_AT], kind=EntryKind.EXPIRY, document=None, signature=None),
    )


def reason(world, text=WHY, salt=None):
    return world.package(reasons=(Reason(world.refusal.digest, Disclosed(text.encode(), salt or world.why.salt)),))


def reason_for_none(world):
    package = with_refusal(world, reason=None)
    (_, signed) = package.documents
    return dataclasses.replace(package, reasons=(Reason(signed.digest, Disclosed(b"Assim.", bytes(32))),))


OTHER = LetterId(b"letter-id-000002")
NONE = Digest(bytes(32))
HASH = (FAILED, SubIndication.HASH_FAILURE)
CRYPTO = (FAILED, SubIndication.SIG_CRYPTO_FAILURE)
NO_POE = (DOUBTED, SubIndication.NO_POE)
TIME = (DOUBTED, SubIndication.SIG_CONSTRAINTS_FAILURE)

REFUSED = {
    "the slip is of another letter": (lambda w: with_slip(w, letter=OTHER), HASH, ("slip", "about")),
    "the slip is by somebody else": (
        lambda w: with_slip(w, w.joao, from_=w.party(w.joao)), HASH, ("slip", "about"),
    ),
    "the slip names another registration of its sender": (
        lambda w: with_slip(w, from_=dataclasses.replace(w.party(w.maria), registration=NONE)), HASH, ("slip", "about"),
    ),
    "the slip is for fewer people": (
        lambda w: with_slip(w, lines=w.slip_document.lines[:1]), HASH, ("slip", "about"),
    ),
    "the slip is of other content than was recorded": (
        lambda w: with_slip(w, object=NONE, recorded=False), HASH, ("slip", "about"),
    ),
    "the slip has another commitment than was recorded": (
        lambda w: with_slip(w, commitment=NONE, recorded=False), HASH, ("slip", "about"),
    ),
    "the letter was recorded without a slip": (
        lambda w: altered(w, SENT_AT, slip=None), HASH, ("slip", "about"),
    ),
    "the slip was signed by João": (lambda w: with_slip(w, w.joao), CRYPTO, ("slip", "signature")),
    "the slip claims another time": (
        lambda w: with_slip(w, time=ms(SENT - timedelta(minutes=6))), TIME, ("slip", "time"),
    ),
    "no entry names letter and slip": (
        lambda w: w.package(evidence=w.evidence(w.entries()[1:3])), NO_POE, ("slip", "recorded"),
    ),
    "the acceptance without its slip": (
        lambda w: w.package(documents=(w.acceptance,), reasons=()), HASH, ("acceptance", "about"),
    ),
    "the refusal without its slip": (
        lambda w: w.package(documents=(w.refusal,), reasons=()), HASH, ("refusal", "about"),
    ),
    "the acceptance is of another letter": (
        lambda w: with_acceptance(w, letter=OTHER), HASH, ("acceptance", "about"),
    ),
    "the acceptance names another slip": (lambda w: with_acceptance(w, slip=NONE), HASH, ("acceptance", "about")),
    "the acceptance is to another sender": (
        lambda w: with_acceptance(w, sender=w.bruno.user), HASH, ("acceptance", "about"),
    ),
    "the acceptance is of somebody to whom it did not go": (
        lambda w: with_acceptance(w, w.maria, reader=w.party(w.maria)), HASH, ("acceptance", "about"),
    ),
    "the acceptance names another place": (
        lambda w: with_acceptance(w, position=MailboxPosition(8, ENTRY)), HASH, ("acceptance", "about"),
    ),
    "the acceptance was recorded for another slip": (
        lambda w: altered(w, ACCEPTED_AT, slip=NONE), HASH, ("acceptance", "about"),
    ),
    "the acceptance was recorded after the end": (
        lambda w: altered(w, ACCEPTED_AT, time=ms(ENDS + timedelta(minutes=5))), HASH, ("acceptance", "about"),
    ),
    "the acceptance was recorded as a refusal": (
        lambda w: altered(w, ACCEPTED_AT, kind=EntryKind.REFUSAL), HASH, ("acceptance", "about"),
    ),
    "the acceptance was recorded as a receipt": (
        lambda w: altered(w, ACCEPTED_AT, kind=EntryKind.RECEIPT), NO_POE, ("acceptance", "recorded"),
    ),
    "the acceptance was recorded as somebody else's": (
        lambda w: altered(w, ACCEPTED_AT, author=w.maria.user),
        NO_POE, ("acceptance", "recorded"),
    ),
    "the acceptance was not recorded": (
        lambda w: altered(w, ACCEPTED_AT, document=NONE), NO_POE, ("acceptance", "recorded"),
    ),
    "the acceptance was signed by Bruno": (lambda w: with_acceptance(w, w.bruno), CRYPTO, ("acceptance", "signature")),
    "the acceptance claims another time": (
        lambda w: with_acceptance(w, time=ms(CHOSEN + timedelta(hours=1))), TIME, ("acceptance", "time"),
    ),
    "the refusal names another slip": (lambda w: with_refusal(w, slip=NONE), HASH, ("refusal", "about")),
    "the refusal is of somebody to whom it did not go": (
        lambda w: with_refusal(w, w.maria, reader=w.party(w.maria)), HASH, ("refusal", "about"),
    ),
    "the refusal names another place": (
        lambda w: with_refusal(w, position=MailboxPosition(8, ENTRY)), HASH, ("refusal", "about"),
    ),
    "the refusal was recorded as an acceptance": (
        lambda w: altered(w, REFUSED_AT, kind=EntryKind.ACCEPTANCE), HASH, ("refusal", "about"),
    ),
    "the refusal was signed by João": (lambda w: with_refusal(w, w.joao), CRYPTO, ("refusal", "signature")),
    "accepted and refused by one reader": (both_by_joao, HASH, ("refusal", "about")),
    "accepted twice by one reader": (accepted_twice, HASH, ("acceptance", "about")),
    "accepted, and ended unsigned": (expired_too, HASH, ("acceptance", "about")),
    "the reason is another one": (
        lambda w: reason(w, "Outra coisa."), HASH, ("reason of the refusal", "digest"),
    ),
    "the reason's salt is another one": (
        lambda w: reason(w, salt=bytes(32)), HASH, ("reason of the refusal", "digest"),
    ),
    "a reason for a refusal that gives none": (reason_for_none, HASH, ("refusal", "about")),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_for_each_check_a_package_in_which_it_refuses(asked, name):
    make, (indication, sub), check = REFUSED[name]
    report = judge(asked, make(asked))
    assert check in failures(report)
    failed = [each for each in report.checks if (each.about, each.name) == check and not each.passed]
    assert failed[0].sub_indication is sub
    assert report.indication is indication


def test_a_choice_made_once_is_refused_by_the_second_document_alone(asked):
    """Where the repository has recorded neither, the package contradicts itself."""
    refusal = asked.sign(asked.joao, asked.refuse(reader=asked.party(asked.joao), reason=None))
    entries = tuple(each for each in asked.entries() if each.document == asked.letter.digest)
    found = (asked.slip, asked.acceptance, refusal)
    report = judge(asked, asked.package(documents=found, reasons=(), evidence=asked.evidence(entries)))
    assert ("refusal", "about") in failures(report)
    assert report.indication is FAILED


@pytest.mark.parametrize(("who", "about"), [("joao", "acceptance"), ("bruno", "refusal")])
def test_a_card_that_was_revoked_before_it_chose(tmp_path, who, about):
    world = Asked(tmp_path / "ca")
    citizen = getattr(world, who)
    for certificate in citizen.certificates.values():
        world.ca.revoke(certificate.serial_number, x509.ReasonFlags.key_compromise, SENT + timedelta(minutes=1))
    report = judge(world, world.package(crls=world.current_lists()))
    assert (report.indication, report.sub_indication) == (FAILED, SubIndication.REVOKED)
    assert (about, "certificate") in failures(report)
    assert ("slip", "certificate") not in failures(report)


def test_a_choice_without_its_signers_papers(asked):
    left = tuple(each for name, each in asked.registrations.items() if name != "Bruno Antunes")
    report = judge(asked, asked.package(registrations=left))
    assert failures(report) == [("refusal", "signer")]
    assert report.indication is FAILED


def test_a_reason_belongs_to_a_refusal(asked):
    """Shown for anything else it is not in the package at all; a file of that name is refused."""
    files = contents.write(asked.package(reasons=(Reason(asked.slip.digest, Disclosed(b"x", bytes(32))),)))
    assert not [name for name in files if "reason" in name]
