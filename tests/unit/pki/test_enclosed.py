"""Judging a past moment: with what is known now, and where that does not tell, with what a letter brought along.

revoked after the letter was accepted    → the letter is good, a session is refused
revoked before                           → both are refused
nobody can be asked any more             → what was enclosed tells, if it is authentic and was current then
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from pki.fetchers import HttpFetcher, NoFetcher
from pki.identity import fingerprint
from pki.path import Verdict
from pki.policy import Purpose
from pki.revocation import RevocationCache
from pki.revocation_data import Enclosure, RevocationData
from pki.test_ca import Holder, TestCa
from pki.test_responder import TestResponder
from pki.trust_store import TrustStore
from pki.validator import IdentityValidator
from tests.support.clock import Clock
from tests.support.revocation_server import RevocationServer

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ACCEPTED = NOW
LIMIT = 48 * 1024
FETCHER = HttpFetcher(allow_private_addresses=True, max_seconds=5)


@dataclasses.dataclass
class World:
    """A CA whose servers can go, its trust store, one clock for everybody, and João."""

    folder: object
    server: RevocationServer
    ca: TestCa
    clock: Clock[datetime]
    leaf: object

    def publish(self):
        for file in self.ca.crl_folder.glob("*.crl"):
            self.server.publish(f"/{file.name}", file.read_bytes())

    def go(self):
        """The CA's servers are gone, for good."""
        self.server.pages.clear()

    def validator(self, cache="cache", fetcher=FETCHER):
        (self.folder / cache).mkdir(exist_ok=True)
        store = TrustStore.open(self.folder / "trust")
        kept = RevocationCache(self.folder / cache, fetcher, clock=self.clock)
        return IdentityValidator(store, kept, remember_for=timedelta(0), clock=self.clock)

    def enclose(self, certificate=None, limit=LIMIT, items=16, cache="the author's"):
        found = [(certificate or self.leaf, Purpose.AUTHENTICATION)]
        return self.validator(cache).enclose(found, (), limit, items)

    def ask(self, moment=ACCEPTED, enclosed=None, **where):
        found = enclosed.data if isinstance(enclosed, Enclosure) else enclosed
        return self.validator(**where).validate(self.leaf, (), moment, Purpose.AUTHENTICATION, found)


@pytest.fixture
def world(tmp_path):
    clock = Clock(NOW)
    with RevocationServer() as server:
        ca = TestCa.create(tmp_path / "ca", server.url, "only for tests", clock=clock)
        TrustStore.open(tmp_path / "trust").import_certificates(
            ca.certificate_files, root_fingerprints={fingerprint(ca.root)}
        )
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        leaf = ca.issue_card_certificates(Holder.named("João Sá"), key, key, not_after=NOW + 30 * DAY).authentication
        made = World(tmp_path, server, ca, clock, leaf)
        made.publish()
        responder = TestResponder(ca, clock=clock)
        for name in ("root", "card", "authentication"):
            server.answer(f"/ocsp/{name}", lambda question, name=name: responder.answer(name, question))
        yield made


# --- what is known now --------------------------------------------------------------------------------------------


def test_revoked_after_the_letter_was_accepted_the_letter_is_good_and_a_session_is_refused(world):
    world.clock.now = ACCEPTED + 2 * HOUR
    world.ca.revoke(world.leaf.serial_number)
    world.publish()
    assert world.ask(ACCEPTED).verdict is Verdict.VALID
    assert world.ask(None).verdict is Verdict.REVOKED


def test_revoked_before_the_letter_was_accepted_both_are_refused(world):
    enclosed = world.enclose()
    world.ca.revoke(world.leaf.serial_number, when=ACCEPTED - HOUR)
    world.publish()
    world.clock.now = ACCEPTED + 2 * HOUR
    assert world.ask(ACCEPTED).verdict is Verdict.REVOKED
    assert world.ask(ACCEPTED, enclosed).verdict is Verdict.REVOKED, "what the author knew does not outweigh it"
    assert world.ask(None).verdict is Verdict.REVOKED


def test_a_revocation_that_only_the_delta_tells_counts_for_both(world):
    world.ca.revoke(world.leaf.serial_number, when=ACCEPTED - HOUR, in_delta=True)
    world.publish()
    assert world.ask(ACCEPTED).verdict is Verdict.REVOKED
    assert world.ask(None).verdict is Verdict.REVOKED


@pytest.mark.parametrize("delta", ["missing", "stale"])
def test_without_a_current_delta_the_complete_list_counts_as_long_as_it_is_current(world, delta):
    if delta == "missing":
        del world.server.pages["/authentication-delta.crl"]
    else:
        world.clock.now = ACCEPTED + 2 * DAY
    assert world.ask(None).verdict is Verdict.VALID
    world.clock.now = ACCEPTED + 8 * DAY
    world.server.pages = {path: page for path, page in world.server.pages.items() if path.endswith(".crl")}
    assert world.ask(None, cache="another").verdict is Verdict.COULD_NOT_TELL


def test_without_lists_a_responder_tells(world):
    for path in list(world.server.pages):
        if path.endswith(".crl"):
            del world.server.pages[path]
    assert world.ask(None).verdict is Verdict.VALID
    world.ca.revoke(world.leaf.serial_number)
    assert world.ask(None, cache="another").verdict is Verdict.REVOKED


# --- what was enclosed --------------------------------------------------------------------------------------------


def test_when_the_servers_are_gone_what_was_enclosed_tells(world):
    enclosed = world.enclose()
    assert enclosed.left_out == 0
    world.clock.now = ACCEPTED + 3 * 365 * DAY
    world.go()
    result = world.ask(ACCEPTED, enclosed)
    assert (result.verdict, result.by_enclosed) == (Verdict.VALID, True)


def test_without_it_nobody_can_tell_and_the_reason_names_what_is_missing(world):
    world.go()
    world.clock.now = ACCEPTED + DAY
    result = world.ask(ACCEPTED)
    assert result.verdict is Verdict.COULD_NOT_TELL
    assert "there is no revocation list of EC de Autenticação" in result.detail
    assert "authentication.crl' says about revocation could not be fetched: the server answered 404" in result.detail


def test_a_card_that_expired_before_the_current_list_is_told_by_what_was_enclosed(world):
    enclosed = world.enclose()
    world.clock.now = NOW + 40 * DAY
    world.ca.publish_crls()
    world.publish()
    assert world.ask(ACCEPTED).verdict is Verdict.COULD_NOT_TELL
    assert world.ask(ACCEPTED, enclosed).by_enclosed


def test_newer_data_of_ones_own_comes_first(world):
    enclosed = world.enclose()
    world.clock.now = ACCEPTED + DAY
    result = world.ask(ACCEPTED, enclosed)
    assert (result.verdict, result.by_enclosed) == (Verdict.VALID, False)


def test_it_says_nothing_about_now(world):
    enclosed = world.enclose()
    world.go()
    assert world.ask(None, enclosed).verdict is Verdict.COULD_NOT_TELL


def test_an_answer_that_rests_on_it_is_not_remembered(world):
    enclosed = world.enclose()
    world.go()
    world.clock.now = ACCEPTED + DAY
    validator = world.validator()
    validator._remember_for = HOUR
    question = (world.leaf, (), ACCEPTED, Purpose.AUTHENTICATION)
    assert validator.validate(*question, enclosed.data).valid
    assert validator.validate(*question).verdict is Verdict.COULD_NOT_TELL


def test_a_list_of_ones_own_that_is_stale_but_says_revoked_outweighs_it(world):
    """An attacker who keeps the reader from the servers cannot hide what the reader knew before."""
    enclosed = world.enclose()
    world.clock.now = ACCEPTED + HOUR  # this list was not there yet when the letter was accepted
    world.ca.revoke(world.leaf.serial_number, when=ACCEPTED - HOUR)
    world.publish()
    world.ask(ACCEPTED)
    world.go()
    world.clock.now = ACCEPTED + 25 * DAY
    result = world.ask(ACCEPTED, enclosed)
    assert result.verdict is Verdict.REVOKED
    assert result.revoked_at == ACCEPTED - HOUR


def test_what_it_says_about_a_revocation_counts(world):
    world.ca.revoke(world.leaf.serial_number, when=ACCEPTED - HOUR)
    world.publish()
    enclosed = world.enclose()
    world.go()
    world.clock.now = ACCEPTED + DAY
    assert world.ask(ACCEPTED, enclosed).verdict is Verdict.REVOKED


def foreign(world):
    """A CA with the same names, whose lists are as good as its word."""
    ca = TestCa.create(world.folder / "foreign", world.server.url, "only for tests", clock=world.clock)
    return RevocationData(tuple(p.read_bytes() for p in sorted(ca.crl_folder.glob("*.crl"))))


def spoilt(world):
    return RevocationData(tuple(each[:-1] + bytes([each[-1] ^ 1]) for each in world.enclose().data.crls))


def without(world, name):
    """All but the lists of one authority."""
    drop = {p.read_bytes() for p in world.ca.crl_folder.glob(f"{name}*.crl")}
    return RevocationData(tuple(each for each in world.enclose().data.crls if each not in drop))


def ended_before(world):
    world.ca.publish_crls(this_update=ACCEPTED - 2 * DAY, next_update=ACCEPTED - HOUR)
    return every_list(world)


def begun_after(world):
    world.ca.publish_crls(this_update=ACCEPTED + HOUR, next_update=ACCEPTED + DAY)
    return every_list(world)


def every_list(world):
    return RevocationData(tuple(p.read_bytes() for p in world.ca.crl_folder.glob("*.crl")))


def answers_about_somebody_else(world):
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    other = world.ca.issue_card_certificates(Holder.named("Bruno Antunes"), key, key).authentication
    for path in list(world.server.pages):
        if path.startswith("/authentication"):
            del world.server.pages[path]
    return world.enclose(other).data


#: name, what is enclosed
USELESS = {
    "nothing": lambda _: RevocationData(),
    "lists of a CA with the same names": foreign,
    "lists that were changed": spoilt,
    "no list about the card": lambda world: without(world, "authentication"),
    "no list about the card's CA": lambda world: without(world, "card"),
    "no list about the CA above": lambda world: without(world, "root"),
    "lists that ended before": ended_before,
    "lists that began after": begun_after,
    "rubbish": lambda _: RevocationData((b"rubbish", b"\x30\x80"), (b"rubbish", b"")),
    "answers about somebody else": answers_about_somebody_else,
}


@pytest.mark.parametrize("name", USELESS)
def test_what_is_forged_foreign_or_of_another_time_does_not_help(world, name):
    enclosed = USELESS[name](world)
    world.go()
    world.clock.now = ACCEPTED + 20 * DAY
    result = world.ask(ACCEPTED, enclosed, fetcher=NoFetcher())
    assert result.verdict is Verdict.COULD_NOT_TELL
    assert "with what was sent along" in result.detail


# --- what an author encloses --------------------------------------------------------------------------------------


def test_lists_are_enclosed_once_each_and_nothing_else(world):
    other = world.ca.issue_card_certificates(
        Holder.named("Bruno Antunes"), world.leaf.public_key(), world.leaf.public_key()
    )
    both = [(other.authentication, Purpose.AUTHENTICATION), (other.signature, Purpose.SIGNATURE)]
    found = world.validator().enclose(both, (), LIMIT, 16)
    names = {"root", "card", "authentication", "authentication-delta", "signature", "signature-delta"}
    assert set(found.data.crls) == {(world.ca.crl_folder / f"{name}.crl").read_bytes() for name in names}
    assert (len(found.data.crls), found.data.ocsp, found.left_out) == (6, (), 0)


def large_list(world, key):
    """The CA's own list, with two thousand other cards in it."""
    own = x509.load_der_x509_crl((world.ca.crl_folder / "authentication.crl").read_bytes())
    builder = x509.CertificateRevocationListBuilder(own.issuer, own.last_update_utc, own.next_update_utc)
    for extension in own.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    for serial in range(1, 2001):
        entry = x509.RevokedCertificateBuilder().serial_number(2**150 + serial).revocation_date(NOW - DAY)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(key, hashes.SHA384()).public_bytes(Encoding.DER)


def test_an_answer_stands_for_a_list_that_is_too_large(world):
    world.server.publish("/authentication.crl", large_list(world, world.ca.authority("authentication")[1]))
    found = world.enclose()
    assert (len(found.data.crls), len(found.data.ocsp), found.left_out) == (2, 1, 0)
    assert found.data.size <= LIMIT
    world.go()
    world.clock.now = ACCEPTED + DAY
    assert world.ask(ACCEPTED, found).by_enclosed


def test_what_fits_in_no_form_is_left_out_and_counted(world):
    assert world.enclose(limit=100) == Enclosure(RevocationData(), left_out=3)


def test_items_are_bounded_too(world):
    found = world.enclose(items=3)
    assert (len(found.data.crls), found.left_out) == (2, 1)


def test_what_is_not_to_be_had_is_left_out_and_counted(world):
    world.go()
    assert world.enclose() == Enclosure(RevocationData(), left_out=3)


def test_a_certificate_without_a_path_is_counted(world):
    stranger = TestCa.create(world.folder / "foreign", world.server.url, "only for tests", clock=world.clock)
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    leaf = stranger.issue_card_certificates(Holder.named("João Sá"), key, key).authentication
    assert world.enclose(leaf).left_out == 1
