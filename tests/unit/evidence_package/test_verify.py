"""The verdict on a package: passed only when every check passes, and for each check a package in which it refuses."""

from __future__ import annotations

import dataclasses
import subprocess
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from crypto_core import documents
from crypto_core.documents import SignedDocument
from crypto_core.ids import Digest, LetterId
from crypto_core.mailbox import EntryKind
from evidence_package import contents, manifest
from evidence_package.contents import Disclosed
from evidence_package.verdict import Indication, SubIndication
from evidence_package.verify import Trust, verify
from pki import operator
from pki.evidence import EvidenceSigner
from tests.support.packages import BODY, EXPORTED, LATER, LISTS, READ, SENT, SUBJECT, World, ms

PASSED, FAILED, DOUBTED = Indication.TOTAL_PASSED, Indication.TOTAL_FAILED, Indication.INDETERMINATE


def judge(world, data, trust=None, now=EXPORTED):
    return verify(data, trust or world.trust, now)


def failures(report):
    return [(check.about, check.name) for check in report.checks if not check.passed]


class TestPassed:
    @pytest.mark.parametrize("now", [EXPORTED, LATER], ids=["at once", "in twenty years"])
    def test_every_check_passes(self, world, sealed, now):
        report = judge(world, sealed, now=now)
        assert failures(report) == []
        assert (report.indication, report.sub_indication, report.left_out) == (PASSED, None, ())
        facts = dict(report.facts)
        assert facts["letter"].startswith("from Maria Conceição Reis")
        assert facts["reading receipt"].startswith("by João Sá")
        assert facts["letter accepted"] == "2026-11-22T12:10:00.000Z"

    def test_the_reader_exports_too(self, world):
        mine = [world.entry(world.letter, world.maria, EntryKind.RECEIVED, SENT)]
        mine.append(world.entry(world.receipt, world.joao, EntryKind.RECEIPT_SENT, READ))
        about = dataclasses.replace(world.package().description, exporter=world.party(world.joao))
        package = world.package(description=about, evidence=world.evidence(tuple(mine)))
        assert judge(world, world.seal(package, world.joao)).passed

    def test_a_redacted_one_says_what_is_not_included(self, world):
        data = world.seal(world.package(subject=None, body=None))
        report = judge(world, data)
        assert report.passed
        assert [each.split(":")[0] for each in report.left_out] == ["the subject", "the body"]
        assert SUBJECT.encode() not in data
        assert BODY not in data
        assert world.draft.body_salt not in data

    def test_without_a_receipt_it_says_that_it_is_not_confirmed(self, world):
        report = judge(world, world.seal(world.package(documents=())))
        assert report.passed
        assert len(report.left_out) == 1
        assert world.joao.user.hex() in report.left_out[0]

    @pytest.mark.parametrize("kind", [EntryKind.ACCEPTANCE, EntryKind.REFUSAL_SENT])
    def test_a_choice_that_was_recorded_is_told_as_not_included(self, world, kind):
        chosen = dataclasses.replace(
            world.entries()[1], kind=kind, document=Digest(bytes(32)), signature=Digest(bytes(32))
        )
        report = judge(world, world.seal(world.package(evidence=world.evidence((*world.entries(), chosen)))))
        assert report.passed
        assert len(report.left_out) == 1
        assert kind.value in report.left_out[0]
        assert world.joao.user.hex() in report.left_out[0]

    def test_an_end_without_a_choice_is_the_repositorys_word(self, world):
        ended = dataclasses.replace(world.entries()[1], kind=EntryKind.EXPIRY, document=None, signature=None)
        report = judge(world, world.seal(world.package(evidence=world.evidence((*world.entries(), ended)))))
        assert (report.passed, report.left_out) == (True, ())
        assert world.joao.user.hex() in dict(report.facts)["ended unsigned"]

    def test_two_exports_differ_in_signatures_alone(self, world):
        one, other = contents.write(world.package()), contents.write(world.package())
        assert {name for name in one if one[name] != other[name]} <= {"evidence/delivery.p7s", "SHA256SUMS"}


def other_world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("other") / "ca")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Another state, another operator, and people of the same names."""
    return other_world(tmp_path_factory)


class TestTrust:
    def test_another_state_root(self, world, elsewhere, sealed):
        trust = Trust((elsewhere.ca.root,), (), world.trust.operators)
        report = judge(world, sealed, trust)
        assert (report.indication, report.sub_indication) == (DOUBTED, SubIndication.NO_CERTIFICATE_CHAIN_FOUND)
        assert {name for _, name in failures(report)} == {"certificate"}

    def test_an_operator_whom_nobody_named(self, world, sealed):
        report = judge(world, sealed, Trust((world.ca.root,)))
        assert (report.indication, report.sub_indication) == (DOUBTED, SubIndication.NO_CERTIFICATE_CHAIN_FOUND)
        assert failures(report) == [("repository", "trusted")]
        assert world.operator.fingerprint in next(check.reason for check in report.checks if not check.passed)

    def test_the_operator_is_the_one_that_the_sender_signed_for(self, world, elsewhere):
        package = world.package(operator_root=elsewhere.operator_der)
        report = judge(world, world.seal(package), Trust((world.ca.root,), (), elsewhere.trust.operators))
        assert report.indication is FAILED
        assert ("repository", "operator") in failures(report)


def changed_document(world, **changes):
    """Maria's letter, signed by her card with other members."""
    found = dataclasses.replace(world.draft.letter, **changes)
    return world.sign(world.maria, documents.encode(found))


def recorded(world, **changes):
    """A package whose letter is changed, and recorded so by the repository."""
    signed = changed_document(world, **changes)
    entries = (dataclasses.replace(world.entries()[0], document=signed.digest, signature=signed.signature_digest),)
    return world.package(letter=signed, documents=(), evidence=world.evidence(entries))


def altered(world, at, **changes):
    entries = list(world.entries())
    entries[at] = dataclasses.replace(entries[at], **changes)
    return world.package(evidence=world.evidence(tuple(entries)))


def with_receipt(world, signer=None, **changes):
    signed = world.sign(signer or world.joao, world.receipt_document(**changes))
    entry = dataclasses.replace(world.entries()[1], document=signed.digest, signature=signed.signature_digest)
    entries = (world.entries()[0], entry, world.entries()[2])
    return world.package(documents=(signed,), evidence=world.evidence(entries))


def about(world, **changes):
    return world.package(description=dataclasses.replace(world.package().description, **changes))


def by_another_key(world):
    signer = EvidenceSigner(operator.issue_descriptor_signer(world.operator, LISTS))
    document = world.evidence().document
    return world.package(evidence=SignedDocument(document, signer.sign_document(document, EXPORTED)))


REFUSED = {
    "the body is another one": (
        lambda w: w.package(body=Disclosed(BODY + b"!", w.draft.body_salt)),
        (FAILED, SubIndication.HASH_FAILURE, ("body", "digest")),
    ),
    "the body's salt is another one": (
        lambda w: w.package(body=Disclosed(BODY, bytes(32))),
        (FAILED, SubIndication.HASH_FAILURE, ("body", "digest")),
    ),
    "the subject is another one": (
        lambda w: w.package(subject=Disclosed(b"Outra coisa", w.draft.subject_salt)),
        (FAILED, SubIndication.HASH_FAILURE, ("subject", "digest")),
    ),
    "the letter was signed by João": (
        lambda w: w.package(letter=w.sign(w.joao, w.draft.document)),
        (FAILED, SubIndication.SIG_CRYPTO_FAILURE, ("letter", "signature")),
    ),
    "the letter is another one than was recorded": (
        lambda w: w.package(letter=changed_document(w, time=ms(SENT + timedelta(seconds=1))), documents=()),
        (DOUBTED, SubIndication.NO_POE, ("letter", "recorded")),
    ),
    "the letter was signed anew after it was recorded": (
        lambda w: w.package(letter=w.sign(w.maria, w.draft.document), documents=()),
        (DOUBTED, SubIndication.NO_POE, ("letter", "recorded")),
    ),
    "the letter is of another repository": (
        lambda w: w.package(letter=changed_document(w, repository="a" * 32), documents=()),
        (FAILED, SubIndication.HASH_FAILURE, ("letter", "form")),
    ),
    "the letter has another id than the package": (
        lambda w: recorded(w, id=LetterId(b"letter-id-000002")),
        (FAILED, SubIndication.HASH_FAILURE, ("letter", "form")),
    ),
    "the letter names a registration that is not there": (
        lambda w: recorded(w, from_=dataclasses.replace(w.party(w.maria), registration=Digest(bytes(32)))),
        (FAILED, SubIndication.HASH_FAILURE, ("letter", "signer")),
    ),
    "the letter names João's registration as Maria's": (
        lambda w: recorded(w, from_=dataclasses.replace(w.party(w.joao), user=w.maria.user)),
        (FAILED, SubIndication.HASH_FAILURE, ("letter", "signer")),
    ),
    "the letter claims an earlier time than the skew allows": (
        lambda w: recorded(w, time=ms(SENT - timedelta(minutes=6))),
        (DOUBTED, SubIndication.SIG_CONSTRAINTS_FAILURE, ("letter", "time")),
    ),
    "the letter claims a later time than the skew allows": (
        lambda w: recorded(w, time=ms(SENT + timedelta(minutes=6))),
        (DOUBTED, SubIndication.SIG_CONSTRAINTS_FAILURE, ("letter", "time")),
    ),
    "the entry is of somebody else": (
        lambda w: altered(w, 1, author=w.maria.user),
        (DOUBTED, SubIndication.NO_POE, ("reading receipt", "recorded")),
    ),
    "the entry is of another kind": (
        lambda w: altered(w, 1, kind=EntryKind.RECEIVED),
        (DOUBTED, SubIndication.NO_POE, ("reading receipt", "recorded")),
    ),
    "the receipt is for another letter": (
        lambda w: with_receipt(w, letter=LetterId(b"letter-id-000002")),
        (FAILED, SubIndication.HASH_FAILURE, ("reading-receipt", "about")),
    ),
    "the receipt is for another document": (
        lambda w: with_receipt(w, document=Digest(bytes(32))),
        (FAILED, SubIndication.HASH_FAILURE, ("reading-receipt", "about")),
    ),
    "the receipt is for another body": (
        lambda w: with_receipt(w, body=Digest(bytes(32))),
        (FAILED, SubIndication.HASH_FAILURE, ("reading-receipt", "about")),
    ),
    "the receipt is to another sender": (
        lambda w: with_receipt(w, sender=w.joao.user),
        (FAILED, SubIndication.HASH_FAILURE, ("reading-receipt", "about")),
    ),
    "the receipt is of somebody to whom it did not go": (
        lambda w: with_receipt(w, w.maria, reader=w.party(w.maria)),
        (FAILED, SubIndication.HASH_FAILURE, ("reading-receipt", "about")),
    ),
    "the receipt names another place": (
        lambda w: altered(w, 2, number=8),
        (FAILED, SubIndication.HASH_FAILURE, ("reading-receipt", "about")),
    ),
    "the receipt was signed by Maria": (
        lambda w: with_receipt(w, w.maria),
        (FAILED, SubIndication.SIG_CRYPTO_FAILURE, ("reading receipt", "signature")),
    ),
    "the receipt claims another time": (
        lambda w: with_receipt(w, time=ms(READ + timedelta(hours=1))),
        (DOUBTED, SubIndication.SIG_CONSTRAINTS_FAILURE, ("reading receipt", "time")),
    ),
    "a signed document that proves nothing about a letter": (
        lambda w: w.package(documents=(w.registrations["João Sá"],)),
        (FAILED, SubIndication.FORMAT_FAILURE, ("registration", "about")),
    ),
    "the evidence is about another letter": (
        lambda w: w.package(evidence=w.evidence(letter=LetterId(b"letter-id-000002"))),
        (FAILED, SubIndication.HASH_FAILURE, ("repository", "evidence")),
    ),
    "the evidence is of another repository": (
        lambda w: w.package(evidence=w.evidence(repository="a" * 32)),
        (FAILED, SubIndication.HASH_FAILURE, ("repository", "evidence")),
    ),
    "the evidence was signed with the key of descriptors": (
        by_another_key,
        (DOUBTED, SubIndication.CHAIN_CONSTRAINTS_FAILURE, ("repository", "evidence")),
    ),
    "the evidence was signed by Maria": (
        lambda w: w.package(evidence=w.sign(w.maria, w.evidence().document)),
        (DOUBTED, SubIndication.CHAIN_CONSTRAINTS_FAILURE, ("repository", "evidence")),
    ),
    "the repository has another name": (
        lambda w: about(w, repository_name="Outro"),
        (FAILED, SubIndication.HASH_FAILURE, ("repository", "operator")),
    ),
    "the exporter is João, and Maria signed": (
        lambda w: about(w, exporter=w.party(w.joao)),
        (FAILED, SubIndication.SIG_CRYPTO_FAILURE, ("exporter", "signature")),
    ),
    "exported in the future": (
        lambda w: about(w, exported=ms(EXPORTED + timedelta(minutes=6))),
        (DOUBTED, SubIndication.SIG_CONSTRAINTS_FAILURE, ("exporter", "time")),
    ),
    "without revocation lists": (
        lambda w: w.package(crls=()),
        (DOUBTED, SubIndication.TRY_LATER, ("letter", "certificate")),
    ),
    "with a certificate that cannot be read": (
        lambda w: w.package(certificates=(*w.package().certificates, b"no certificate")),
        (DOUBTED, SubIndication.CHAIN_CONSTRAINTS_FAILURE, ("package", "certificates")),
    ),
    "without the sender's certificates": (
        lambda w: w.package(certificates=tuple(c.public_bytes(Encoding.DER) for c in w.ca.intermediates)),
        (FAILED, SubIndication.HASH_FAILURE, ("letter", "signer")),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_for_each_check_a_package_in_which_it_refuses(world, name):
    make, (indication, sub, check) = REFUSED[name]
    report = judge(world, world.seal(make(world)))
    assert check in failures(report)
    assert next(each.sub_indication for each in report.checks if (each.about, each.name) == check) is sub
    assert report.indication is indication


class TestRevocation:
    """A card that is stolen at 12:05, five minutes before the letter, and reported later."""

    @pytest.fixture
    def stolen(self, tmp_path_factory):
        return other_world(tmp_path_factory)

    def revoke(self, world, when):
        for certificate in world.maria.certificates.values():
            world.ca.revoke(certificate.serial_number, x509.ReasonFlags.key_compromise, when)

    def test_dated_before_the_revocation_and_accepted_after_it(self, stolen):
        """The thief dates the letter back; what counts is when the repository took it."""
        when = SENT - timedelta(minutes=2)
        back = stolen.write(SENT - timedelta(minutes=4))
        stolen.draft, stolen.letter = back, stolen.sign(stolen.maria, back.document)
        stolen.receipt = stolen.sign(stolen.joao, stolen.receipt_document())
        self.revoke(stolen, when)
        about_joao = dataclasses.replace(stolen.package().description, exporter=stolen.party(stolen.joao))
        for lists in (stolen.current_lists(), (*stolen.lists, *stolen.current_lists())):
            data = stolen.seal(stolen.package(crls=lists, description=about_joao), stolen.joao)
            report = judge(stolen, data, now=LATER)
            assert (report.indication, report.sub_indication) == (FAILED, SubIndication.REVOKED)
            assert ("letter", "certificate") in failures(report)

    def test_a_list_that_says_revoked_counts_however_old_it_is(self, stolen):
        """It was not current when the letter was accepted, nor at the export; a list without it was, at the first."""
        self.revoke(stolen, SENT - timedelta(minutes=2))
        stolen.ca.publish_crls(this_update=EXPORTED, next_update=EXPORTED + timedelta(days=1))
        about = dataclasses.replace(
            stolen.package().description,
            exporter=stolen.party(stolen.joao),
            exported=ms(LISTS + timedelta(days=9)),
        )
        package = stolen.package(crls=(*stolen.lists, *stolen.current_lists()), description=about)
        report = judge(stolen, stolen.seal(package, stolen.joao), now=LATER)
        found = {(check.about, check.name): check.sub_indication for check in report.checks if not check.passed}
        assert found["letter", "certificate"] is SubIndication.REVOKED

    def test_revoked_after_it_was_accepted(self, stolen):
        self.revoke(stolen, SENT + timedelta(minutes=2))
        about_joao = dataclasses.replace(stolen.package().description, exporter=stolen.party(stolen.joao))
        data = stolen.seal(stolen.package(crls=stolen.current_lists(), description=about_joao), stolen.joao)
        assert judge(stolen, data, now=LATER).passed

    def test_the_exporters_card_was_revoked(self, stolen):
        self.revoke(stolen, SENT + timedelta(minutes=2))
        report = judge(stolen, stolen.seal(stolen.package(crls=stolen.current_lists())))
        assert (report.indication, report.sub_indication) == (FAILED, SubIndication.REVOKED)
        assert failures(report) == [("exporter", "certificate")]

    def test_lists_that_had_ended_before_do_not_count(self, world):
        about_later = dataclasses.replace(world.package().description, exported=ms(LISTS + timedelta(days=9)))
        old = recorded(world)
        entries = tuple(dataclasses.replace(each, time=ms(LISTS + timedelta(days=8))) for each in world.entries()[:1])
        package = dataclasses.replace(
            old, letter=world.letter, evidence=world.evidence(entries), description=about_later
        )
        report = judge(world, world.seal(package), now=LATER)
        assert ("letter", "certificate") in failures(report)
        assert SubIndication.TRY_LATER in {check.sub_indication for check in report.checks}


class TestBytes:
    @pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"{}", bytes(100)], ids=repr)
    def test_anything_else_is_no_package(self, world, data):
        report = judge(world, data)
        assert (report.indication, report.sub_indication) == (FAILED, SubIndication.FORMAT_FAILURE)

    def test_a_file_more_or_less_or_in_another_order(self, world):
        files = {**contents.write(world.package())}
        for changed in (
            {**files, "more.txt": b""},
            {name: data for name, data in files.items() if name != "content/body.salt"},
            {name: data for name, data in files.items() if name != "letter.p7s"},
            dict(sorted(files.items())),
            {**files, "SHA256SUMS": files["SHA256SUMS"][:-1]},
            {**files, "README.txt": b"Trust me."},
            {**files, "certificates.pem": files["certificates.pem"] * 2},
            {**files, "certificates.pem": b"Maria\n" + files["certificates.pem"]},
            {**files, "mimetype": b"application/zip"},
            {**files, "evidence/delivery.json": b"{}"},
            {**files, "letter.json": b'{"type":"letter"}'},
            {**files, "package.json": b"[]"},
        ):
            listed = {name: data for name, data in changed.items() if name != "mimetype"}
            made = {**changed, manifest.NAME: manifest.write(listed)}
            signature = world.sign(world.maria, made[manifest.NAME]).signature
            data = contents.container.write({**made, manifest.SIGNATURE_NAME: signature})
            assert judge(world, data).sub_indication is SubIndication.FORMAT_FAILURE

    def test_another_manifest(self, world, sealed):
        files = contents.container.read(sealed)
        shown = files[manifest.NAME].replace(b"</asic", b"<!-- --></asic")
        signature = world.sign(world.maria, shown).signature
        data = contents.container.write({**files, manifest.NAME: shown, manifest.SIGNATURE_NAME: signature})
        assert judge(world, data).sub_indication is SubIndication.FORMAT_FAILURE


ANSWERS = ("documents/slip-1.json", "documents/refusal-1.p7s", "content/refusal-1-reason.txt")


@pytest.mark.parametrize(
    ("which", "signatures", "more"), [("world", 6, ()), ("asked", 10, ANSWERS)], ids=["plain", "against signatures"]
)
def test_openssl_alone_checks_it_by_the_readme_inside(request, which, signatures, more, tmp_path):
    """Exactly the commands of README.txt, with the state's root from elsewhere; and each of them can fail."""
    world = request.getfixturevalue(which)
    (tmp_path / "p.asice").write_bytes(world.seal())
    (tmp_path / "root.pem").write_bytes(world.ca.root.public_bytes(Encoding.PEM))
    folder = tmp_path / "p"
    subprocess.run(["unzip", "-q", "p.asice", "-d", "p"], cwd=tmp_path, check=True)
    lines = (folder / "README.txt").read_text("utf-8").splitlines()
    commands = "\n".join(line[4:] for line in lines if line.startswith("    "))

    def follow(root="root.pem"):
        environment = {"PATH": "/usr/bin:/bin", "STATE_ROOT": str(tmp_path / root)}
        command = ["bash", "-eu", "-o", "pipefail", "-c", commands]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    done = follow()
    assert done.returncode == 0, done.stderr
    assert world.operator.fingerprint.upper() in done.stdout.replace(":", "")
    assert (commands.count("openssl cms"), commands.count("openssl verify")) == (signatures, signatures - 1)
    (tmp_path / "other.pem").write_bytes(world.operator.certificate.public_bytes(Encoding.PEM))
    assert follow("other.pem").returncode != 0
    for name in ("content/body.txt", "letter.p7s", "evidence/delivery.json", "crls.pem", *more):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(kept.replace(b"a", b"b"))
        assert follow().returncode != 0, name
        (folder / name).write_bytes(kept)


def test_people_of_another_state_with_the_same_names_are_others(world, elsewhere):
    """A package of another world, under the trust of this one."""
    report = judge(world, elsewhere.seal())
    assert report.indication is DOUBTED
