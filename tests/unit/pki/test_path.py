"""Path validation: every verdict, from certificates and CRLs crafted for it. No network: CRLs are at hand."""

from __future__ import annotations

import gc
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pki import validator
from pki.errors import PathInvalid
from pki.identity import fingerprint
from pki.path import Verdict, validate_path
from pki.policy import Purpose, ValidationPolicy
from pki.revocation_data import Collected, RevocationData
from pki.test_ca import Holder, TestCa
from pki.trust_store import TrustStore
from pki.validator import IdentityValidator

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


class World:
    """A test CA whose clock stands at NOW, its trust store, and questions to path validation."""

    def __init__(self, folder):
        self.ca = TestCa.create(folder / "ca", "http://127.0.0.1:1", "only for tests", clock=lambda: NOW - 2 * HOUR)
        self.store = TrustStore.open(folder / "trust")
        self.store.import_certificates(self.ca.certificate_files, root_fingerprints={fingerprint(self.ca.root)})
        self.key = ec.generate_private_key(ec.SECP256R1())

    def issue(self, **times):
        return self.ca.issue_card_certificates(
            Holder.named("Bruno Antunes"), self.key.public_key(), self.key.public_key(), **times
        ).authentication

    def crls(self):
        return tuple(x509.load_der_x509_crl(p.read_bytes()) for p in sorted(self.ca.crl_folder.glob("*.crl")))

    def ask(self, certificate, *, moment=NOW, now=NOW, crls=None, store=None, extra=(), **policy):
        store = store or self.store
        lists = self.crls() if crls is None else crls
        return validate_path(
            certificate,
            anchors=store.roots,
            intermediates=[*store.intermediates, *extra],
            revocation=RevocationData(crls=tuple(each.public_bytes(Encoding.DER) for each in lists)),
            moment=moment,
            now=now,
            policy=ValidationPolicy(**policy),
        )


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def crl(issuer, key, *, revoked=(), start=NOW - HOUR, end=NOW + DAY, number=99, extensions=()):
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(start)
        .next_update(end)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    for entry in revoked:
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(key, hashes.SHA384())


def entry(serial, when, *extensions):
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.build()


def test_a_good_certificate_is_valid_with_its_whole_path(world):
    certificate = world.issue()
    result = world.ask(certificate)
    assert result.verdict is Verdict.VALID
    assert result.require_valid() is result
    assert result.path[0] == certificate
    assert result.path[-1] == world.ca.root
    assert len(result.path) == 4


def test_an_expired_certificate(world):
    certificate = world.issue(not_before=NOW - 10 * DAY + DAY / 2, not_after=NOW - HOUR)
    assert world.ask(certificate).verdict is Verdict.EXPIRED


def test_a_certificate_that_is_not_valid_yet(world):
    assert world.ask(world.issue(not_before=NOW + DAY)).verdict is Verdict.NOT_YET_VALID


def test_a_certificate_of_another_hierarchy_with_the_same_names(world, tmp_path):
    foreign = World(tmp_path / "foreign")
    result = world.ask(foreign.issue(), extra=[*foreign.ca.intermediates, foreign.ca.root], crls=foreign.crls())
    assert result.verdict is Verdict.UNTRUSTED
    with pytest.raises(PathInvalid, match="No root that you trust") as caught:
        result.require_valid()
    assert caught.value.result is result


def test_a_chain_without_a_root_in_the_store(world, tmp_path):
    empty = TrustStore.open(tmp_path / "empty")
    result = world.ask(world.issue(), store=empty, extra=[*world.ca.intermediates, world.ca.root])
    assert result.verdict is Verdict.UNTRUSTED


def test_intermediates_may_come_with_the_certificate(world, tmp_path):
    store = TrustStore.open(tmp_path / "root only")
    store.import_certificates(world.ca.certificate_files[:1], root_fingerprints={fingerprint(world.ca.root)})
    certificate = world.issue()
    assert world.ask(certificate, store=store).verdict is Verdict.UNTRUSTED
    assert world.ask(certificate, store=store, extra=world.ca.intermediates).verdict is Verdict.VALID


def test_a_citizen_cannot_issue_certificates(world):
    citizen = world.issue()
    builder = (
        x509.CertificateBuilder()
        .subject_name(citizen.subject)
        .issuer_name(citizen.subject)
        .public_key(world.key.public_key())
        .serial_number(5)
        .not_valid_before(NOW - HOUR)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(world.key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(world.key.public_key()), critical=False)
        .add_extension(citizen.extensions.get_extension_for_class(x509.KeyUsage).value, critical=True)
    )
    forged = builder.sign(world.key, hashes.SHA256())
    assert world.ask(forged, extra=[citizen]).verdict in (Verdict.UNTRUSTED, Verdict.MALFORMED)
    assert not world.ask(forged, extra=[citizen]).valid


KEYS = {
    "RSA-1024": lambda: rsa.generate_private_key(65537, 1024),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "P-192": lambda: ec.generate_private_key(ec.SECP192R1()),
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_that_is_not_accepted(world, kind):
    key = KEYS[kind]().public_key()
    certificate = world.ca.issue_card_certificates(Holder.named("Bruno Antunes"), key, key).authentication
    assert world.ask(certificate).verdict is Verdict.MALFORMED


def test_the_purpose_must_fit_the_key_usage(world):
    certificate = world.issue()
    assert world.ask(certificate, purpose=Purpose.AUTHENTICATION).valid
    assert world.ask(certificate, purpose=Purpose.SIGNATURE).verdict is Verdict.MALFORMED


# --- revocation ---------------------------------------------------------------------------------------------------


def test_a_revoked_certificate_says_when_and_why(world):
    certificate = world.issue()
    world.ca.revoke(certificate.serial_number, x509.ReasonFlags.key_compromise, NOW - HOUR)
    result = world.ask(certificate)
    assert (result.verdict, result.revoked_at) == (Verdict.REVOKED, NOW - HOUR)
    assert result.revocation_reason == "keyCompromise"


@pytest.mark.parametrize(
    ("moment", "verdict"),
    [
        (NOW - 61 * timedelta(minutes=1), Verdict.VALID),
        (NOW - HOUR - timedelta(seconds=1), Verdict.VALID),
        (NOW - HOUR, Verdict.REVOKED),
        (NOW, Verdict.REVOKED),
    ],
)
def test_a_revocation_counts_from_its_date_on(world, moment, verdict):
    certificate = world.issue()
    world.ca.revoke(certificate.serial_number, when=NOW - HOUR)
    assert world.ask(certificate, moment=moment).verdict is verdict


def test_an_invalidity_date_before_the_revocation_counts(world):
    certificate = world.issue()
    issuer, key = world.ca.authority("authentication")
    invalid_since = x509.InvalidityDate((NOW - 3 * HOUR).replace(tzinfo=None))
    revoked = crl(issuer, key, revoked=[entry(certificate.serial_number, NOW - HOUR, invalid_since)])
    result = world.ask(certificate, moment=NOW - 2 * HOUR, crls=[*world.crls(), revoked])
    assert (result.verdict, result.revoked_at) == (Verdict.REVOKED, NOW - 3 * HOUR)


def test_a_certificate_on_hold_counts_as_revoked(world):
    certificate = world.issue()
    world.ca.revoke(certificate.serial_number, x509.ReasonFlags.certificate_hold, NOW - HOUR)
    assert world.ask(certificate).verdict is Verdict.REVOKED


def test_a_revoked_issuer_revokes_what_is_below_it(world):
    certificate = world.issue()
    issuer, _ = world.ca.authority("authentication")
    above, key = world.ca.authority("card")
    revoked = crl(above, key, revoked=[entry(issuer.serial_number, NOW - HOUR)])
    assert world.ask(certificate, crls=[*world.crls(), revoked]).verdict is Verdict.REVOKED
    earlier = world.ask(certificate, moment=NOW - 90 * timedelta(minutes=1), crls=[*world.crls(), revoked])
    assert earlier.verdict is Verdict.VALID


def test_a_later_revocation_below_does_not_hide_an_earlier_one_above(world):
    certificate = world.issue()
    world.ca.revoke(certificate.serial_number, when=NOW - timedelta(minutes=1))
    issuer, _ = world.ca.authority("authentication")
    above, key = world.ca.authority("card")
    revoked = crl(above, key, revoked=[entry(issuer.serial_number, NOW - HOUR)])
    result = world.ask(certificate, moment=NOW - HOUR / 2, crls=[*world.crls(), revoked])
    assert (result.verdict, result.revoked_at) == (Verdict.REVOKED, NOW - HOUR)


def test_a_certificate_revoked_in_a_delta_crl(world):
    issuer, key = world.ca.authority("authentication")
    freshest = x509.FreshestCRL(
        [x509.DistributionPoint([x509.UniformResourceIdentifier("http://127.0.0.1:1/delta.crl")], None, None, None)]
    )
    certificate = world.issue()
    base = crl(issuer, key, number=50, extensions=[(freshest, False)])
    delta = crl(
        issuer,
        key,
        number=51,
        revoked=[entry(certificate.serial_number, NOW - HOUR)],
        extensions=[(x509.DeltaCRLIndicator(50), True)],
    )
    others = [c for c in world.crls() if c.issuer != issuer.subject]
    assert world.ask(certificate, crls=[*others, base, delta]).verdict is Verdict.REVOKED
    alone = world.ask(certificate, crls=[*others, base])
    assert alone.verdict is Verdict.COULD_NOT_TELL
    assert "the delta list that" in alone.detail


def test_no_crl_at_all_is_no_answer(world):
    result = world.ask(world.issue(), crls=[])
    assert result.verdict is Verdict.COULD_NOT_TELL
    with pytest.raises(PathInvalid, match="we would not know"):
        result.require_valid()


def test_no_crl_of_an_issuer_is_no_answer(world):
    above, _ = world.ca.authority("card")
    remaining = [c for c in world.crls() if c.issuer != above.subject]
    assert world.ask(world.issue(), crls=remaining).verdict is Verdict.COULD_NOT_TELL


def test_without_required_revocation_a_missing_crl_passes(world):
    assert world.ask(world.issue(), crls=[], require_revocation=False).verdict is Verdict.VALID


def test_a_stale_crl_is_no_answer(world):
    certificate = world.issue()
    world.ca.publish_crls(this_update=NOW - 3 * DAY, next_update=NOW - DAY)
    assert world.ask(certificate).verdict is Verdict.COULD_NOT_TELL
    assert world.ask(certificate, max_crl_staleness=2 * DAY).verdict is Verdict.VALID


def test_a_crl_of_the_future_is_no_answer(world):
    certificate = world.issue()
    world.ca.publish_crls(this_update=NOW + HOUR)
    assert world.ask(certificate).verdict is Verdict.COULD_NOT_TELL


def test_a_crl_that_somebody_else_signed_is_no_answer(world):
    issuer, _ = world.ca.authority("authentication")
    forged = crl(issuer, ec.generate_private_key(ec.SECP384R1()))
    others = [c for c in world.crls() if c.issuer != issuer.subject]
    assert world.ask(world.issue(), crls=[*others, forged]).verdict is Verdict.COULD_NOT_TELL


def test_a_crl_younger_than_the_moment_serves(world):
    certificate = world.issue(not_before=NOW - 20 * HOUR)
    world.ca.publish_crls(this_update=NOW - timedelta(minutes=1))
    assert world.ask(certificate, moment=NOW - 10 * HOUR).verdict is Verdict.VALID


def test_a_crl_made_after_the_certificate_ended_says_nothing_about_it(world):
    certificate = world.issue(not_before=NOW - 20 * HOUR, not_after=NOW - 5 * HOUR)
    result = world.ask(certificate, moment=NOW - 10 * HOUR)
    assert result.verdict is Verdict.COULD_NOT_TELL
    issuer, key = world.ca.authority("authentication")
    generalized_time = b"\x18\x0f20200101000000Z"
    keeps = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.60"), generalized_time)
    kept = crl(issuer, key, extensions=[(keeps, False)])
    assert world.ask(certificate, moment=NOW - 10 * HOUR, crls=[*world.crls(), kept]).verdict is Verdict.VALID


def test_what_went_wrong_with_a_list_is_told(world):
    class Failing:
        def collect(self, path, now):
            return Collected(problems=("the server answered 503",))

    result = IdentityValidator(world.store, Failing(), clock=lambda: NOW).validate(world.issue())
    assert result.verdict is Verdict.COULD_NOT_TELL
    assert "the server answered 503" in result.detail


# --- what is remembered -----------------------------------------------------------------------------------------------


class Lists:
    """The CA's lists, and how often somebody wanted them."""

    def __init__(self, world):
        self.world, self.asked = world, 0

    def collect(self, path, now):
        self.asked += 1
        return Collected(RevocationData(crls=tuple(each.public_bytes(Encoding.DER) for each in self.world.crls())))


class Remembering:
    """A validator at a clock of its own, a certificate that began twenty hours ago, and the lists behind both."""

    def __init__(self, world):
        self.lists, self.now = Lists(world), NOW
        self.validator = IdentityValidator(world.store, self.lists, remember_for=HOUR, clock=lambda: self.now)
        self.leaf = world.issue(not_before=NOW - 20 * HOUR)

    def ask(self, moment):
        """The verdict, and whether it was judged for this question."""
        before = self.lists.asked
        result = self.validator.validate(self.leaf, (), moment)
        assert result.moment == (moment or self.now)
        return result.verdict, self.lists.asked > before


@pytest.fixture
def remembering(world):
    return Remembering(world)


def test_what_was_valid_later_was_valid_before(remembering):
    assert remembering.ask(NOW - 2 * HOUR) == (Verdict.VALID, True)
    assert remembering.ask(NOW - 2 * HOUR) == (Verdict.VALID, False)
    assert remembering.ask(NOW - 9 * HOUR) == (Verdict.VALID, False)
    assert remembering.ask(NOW - HOUR) == (Verdict.VALID, True)
    assert remembering.ask(NOW - 2 * HOUR + timedelta(minutes=1)) == (Verdict.VALID, False)
    assert remembering.ask(None) == (Verdict.VALID, True)  # of now no other answer serves


def test_a_remembered_answer_is_about_the_certificate_that_is_asked_about(world, remembering):
    first = remembering.validator.validate(remembering.leaf)
    again = x509.load_der_x509_certificate(remembering.leaf.public_bytes(Encoding.DER))
    assert remembering.validator.validate(again) == first
    assert remembering.validator.validate(again).certificate is again
    assert remembering.lists.asked == 1


def test_what_is_remembered_keeps_nothing_that_was_read_of_a_certificate(world, remembering):
    """A worker remembers thousands of answers: what the library reads of one certificate takes 48 KiB."""

    def read() -> int:
        gc.collect()
        return sum(type(each) is x509.Extension for each in gc.get_objects())

    def ask() -> None:
        leaf = world.issue(not_before=NOW - 20 * HOUR)
        for moment in (NOW - HOUR, None):
            assert remembering.validator.validate(leaf, (), moment).valid

    ask()  # reads those of the issuers, which all answers share
    before = read()
    for _ in range(5):
        ask()
    assert len(remembering.validator._answers) == 12
    assert read() == before


def test_issuers_of_remembered_answers_are_kept_once_and_not_for_ever(world, remembering, monkeypatch):
    for _ in range(3):
        path = remembering.validator.validate(world.issue(not_before=NOW - 20 * HOUR)).require_valid().path
    issuers = {id(each) for _, answer in remembering.validator._answers.values() for each in answer.path[1:]}
    assert len(issuers) == len(remembering.validator._issuers) == len(path) - 1
    monkeypatch.setattr(validator, "ISSUERS_MAX", 1)
    assert remembering.validator.validate(world.issue(not_before=NOW - 20 * HOUR)).valid
    assert len(remembering.validator._issuers) == 1


def test_an_answer_says_nothing_about_what_came_before_the_certificate(remembering):
    assert remembering.ask(NOW - 2 * HOUR) == (Verdict.VALID, True)
    verdict, _ = remembering.ask(NOW - 20 * HOUR - timedelta(seconds=1))
    assert verdict is Verdict.NOT_YET_VALID


def test_an_answer_about_the_past_says_nothing_about_later(world, remembering):
    assert remembering.ask(NOW - 9 * HOUR) == (Verdict.VALID, True)
    world.ca.revoke(remembering.leaf.serial_number, when=NOW - 5 * HOUR)
    assert remembering.ask(NOW - 2 * HOUR) == (Verdict.REVOKED, True)
    assert remembering.ask(None)[0] is Verdict.REVOKED


def test_a_revocation_ends_what_was_remembered_of_the_same_card(world, remembering):
    assert remembering.ask(NOW - 2 * HOUR) == (Verdict.VALID, True)
    world.ca.revoke(remembering.leaf.serial_number, when=NOW - 5 * HOUR)
    assert remembering.ask(NOW - HOUR) == (Verdict.REVOKED, True)
    assert remembering.ask(NOW - 3 * HOUR) == (Verdict.REVOKED, True)


def test_an_answer_is_remembered_for_its_time_and_until_it_is_dropped(world, remembering):
    assert remembering.ask(NOW - 2 * HOUR) == (Verdict.VALID, True)
    world.ca.revoke(remembering.leaf.serial_number, when=NOW - 5 * HOUR)
    assert remembering.ask(NOW - 4 * HOUR) == (Verdict.VALID, False)
    remembering.now += HOUR
    assert remembering.ask(NOW - 4 * HOUR) == (Verdict.REVOKED, True)


def test_who_drops_what_was_remembered_is_told_anew(world, remembering):
    assert remembering.ask(NOW - 2 * HOUR) == (Verdict.VALID, True)
    world.ca.revoke(remembering.leaf.serial_number, when=NOW - 5 * HOUR)
    remembering.validator.forget()
    assert remembering.ask(NOW - 4 * HOUR) == (Verdict.REVOKED, True)


def test_one_purpose_says_nothing_about_another(remembering):
    assert remembering.ask(NOW - 2 * HOUR) == (Verdict.VALID, True)
    result = remembering.validator.validate(remembering.leaf, (), NOW - 3 * HOUR, Purpose.SIGNATURE)
    assert not result.valid
