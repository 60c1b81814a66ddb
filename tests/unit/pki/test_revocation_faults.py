"""What becomes of every bad answer about revocation: a table of cases for lists, deltas and OCSP, over real HTTP.

Each row says what a server does, and what must come of it: the reason that people are told, and which data counts.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from asn1crypto import ocsp as asn1_ocsp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki import fetchers
from pki.errors import RevocationUnavailable
from pki.fetchers import HttpFetcher
from pki.ocsp import read_answer
from pki.revocation import CollectionPolicy, RevocationCache
from pki.test_ca import Holder, TestCa
from pki.test_responder import Appointed, TestResponder, appoint
from tests.support.revocation_server import Fault, RevocationServer

SECONDS = 0.5
PATIENCE_SECONDS = 20.0  #: within which a fetch that must not take for ever is over, on a busy machine too
FETCHER = HttpFetcher(allow_private_addresses=True, max_bytes=100_000, max_seconds=SECONDS)
LIST, DELTA, ANSWER = "/authentication.crl", "/authentication-delta.crl", "/ocsp/authentication"
URI = x509.UniformResourceIdentifier
NOW, HOUR = datetime.now(UTC), timedelta(hours=1)


@dataclass(frozen=True)
class World:
    """A CA behind the server, a citizen's path, and a fresh cache."""

    server: RevocationServer
    ca: TestCa
    path: list[x509.Certificate]
    cache: RevocationCache

    @property
    def leaf(self):
        return self.path[0]

    def collect(self, now=None):
        """For the citizen's certificate alone: what stands above is not spoilt."""
        return self.cache.collect(self.path[:2], now or datetime.now(UTC))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    with RevocationServer() as server:
        ca = TestCa.create(tmp_path_factory.mktemp("ca"), server.url, "only for tests")
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        leaf = ca.issue_card_certificates(Holder.named("João Sá"), key, key).authentication
        card, authentication, _signature = ca.intermediates
        yield server, ca, [leaf, authentication, card, ca.root]


@pytest.fixture
def world(published, tmp_path):
    server, ca, path = published
    server.pages.clear()
    server.counts.clear()
    ca.publish_crls()
    for file in ca.crl_folder.glob("*.crl"):
        server.publish(f"/{file.name}", file.read_bytes())
    responder = TestResponder(ca)
    for name in ("root", "card", "authentication", "signature"):
        server.answer(f"/ocsp/{name}", lambda question, name=name: responder.answer(name, question))
    return World(server, ca, path, RevocationCache(tmp_path, FETCHER))


# --- making lists and answers that are not as they should be ------------------------------------------------------


def make_list(world, *, issuer="authentication", start=None, end=None, scope=None, number=99, base=None, others=()):
    certificate, key = world.ca.authority(issuer)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(certificate.subject)
        .last_update(start or now - timedelta(minutes=1))
        .next_update(end or now + timedelta(days=1))
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    if scope is not None:
        builder = builder.add_extension(idp(**scope), critical=True)
    if base is not None:
        builder = builder.add_extension(x509.DeltaCRLIndicator(base), critical=True)
    for extension, critical in others:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def idp(**scope):
    full = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return x509.IssuingDistributionPoint(**{**full, **scope})


def own_scope(world):
    return {"full_name": [URI(world.ca.crl_url("authentication"))]}


def another_key(world, data):
    """The same list, signed by somebody who only has the issuer's name."""
    crl = x509.load_der_x509_crl(data)
    builder = x509.CertificateRevocationListBuilder(crl.issuer, crl.last_update_utc, crl.next_update_utc)
    for extension in crl.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.DER)


def make_answer(
    world,
    *,
    certificate=None,
    status=ocsp.OCSPCertStatus.GOOD,
    start=None,
    end=None,
    no_end=False,
    nonce="same",
    signer="delegate",
    digest=None,
    **appointment,
):
    """A function that answers a question; every argument departs from what is right."""
    issuer, issuer_key = world.ca.authority("authentication")
    now = datetime.now(UTC)
    start = start or now - timedelta(minutes=1)
    end = None if no_end else end or now + timedelta(hours=1)
    signers = {
        "stranger": lambda: stranger(issuer.subject),
        "delegate": lambda: appoint(issuer, issuer_key, now, **appointment),
        "foreign": lambda: appoint(*world.ca.authority("signature"), now),
        "early": lambda: appoint(issuer, issuer_key, now + timedelta(days=2)),
    }

    def answer(question):
        sent = ocsp.load_der_ocsp_request(question).extensions
        revoked = status is ocsp.OCSPCertStatus.REVOKED
        builder = ocsp.OCSPResponseBuilder().add_response(
            certificate or world.leaf, issuer, hashes.SHA1(), status, start, end, start if revoked else None, None
        )
        if nonce == "same":
            builder = builder.add_extension(sent.get_extension_for_class(x509.OCSPNonce).value, critical=False)
        elif nonce is not None:
            builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
        if signer == "issuer":
            signed = builder.responder_id(ocsp.OCSPResponderEncoding.NAME, issuer).sign(issuer_key, hashes.SHA256())
            return signed.public_bytes(Encoding.DER)
        appointed = signers[signer]()
        encoding = ocsp.OCSPResponderEncoding.NAME if signer == "stranger" else ocsp.OCSPResponderEncoding.HASH
        builder = builder.responder_id(encoding, appointed.certificate).certificates([appointed.certificate])
        return builder.sign(appointed.key, digest or hashes.SHA256()).public_bytes(Encoding.DER)

    return answer


def stranger(name):
    """Somebody with the issuer's name, and a key of their own."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - HOUR, NOW + HOUR)
    return Appointed(builder.sign(key, hashes.SHA256()), key)


# --- what any server can do wrong ---------------------------------------------------------------------------------

#: fault, the reason that is told; None where the answer must count all the same
OVER_HTTP = [
    (Fault.NONE, None),
    (Fault.REDIRECT, None),
    (Fault.SILENT, "it took too long"),
    (Fault.SLOW, "it took too long"),
    (Fault.TRUNCATED, "it came incomplete|IncompleteRead"),
    (Fault.OVERSIZED, "it is larger than"),
    (Fault.OVERSIZED_WITHOUT_LENGTH, "it is larger than"),
    (Fault.REFUSED, "the server answered 503"),
    (Fault.EMPTY, "it is not a CRL|it cannot be read"),
    (Fault.RUBBISH, "it is not a CRL|it cannot be read"),
    (Fault.TRAILING, "it is not a CRL|it cannot be read"),
    (Fault.CIRCLE, "more than 3 redirects"),
    (Fault.REDIRECT_TO_FILE, "only plain http and https"),
]


def names(row):
    return row.name.lower() if isinstance(row, Fault) else ""


def told(collected, reason):
    return any(re.search(reason, problem) for problem in collected.problems)


@pytest.mark.parametrize(("fault", "reason"), OVER_HTTP, ids=names)
def test_a_list_over_http(world, fault, reason):
    world.server.spoil(LIST, fault)
    del world.server.pages[ANSWER]
    began = time.monotonic()
    found = world.collect()
    assert time.monotonic() - began < PATIENCE_SECONDS
    if reason is None:
        assert (len(found.data.crls), found.problems) == (2, ())
    else:
        assert found.data.crls == ()
        assert told(found, reason)


@pytest.mark.parametrize(("fault", "reason"), OVER_HTTP, ids=names)
def test_a_delta_over_http(world, fault, reason):
    world.server.spoil(DELTA, fault)
    found = world.collect()
    if reason is None:
        assert (len(found.data.crls), found.problems) == (2, ())
    else:
        assert found.data.crls == (world.server.pages[LIST].answer(b""),), "the complete list counts without its delta"
        assert told(found, reason)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [*OVER_HTTP, (Fault.REDIRECT_TO_SEE_OTHER, "the server answered 303")],
    ids=names,
)
def test_an_answer_over_http(world, fault, reason):
    del world.server.pages[LIST]
    world.server.spoil(ANSWER, fault)
    found = world.collect()
    assert found.data.crls == ()
    assert len(found.data.ocsp) == (reason is None)
    assert reason is None or told(found, reason)


# --- lists --------------------------------------------------------------------------------------------------------

#: name, what the server publishes, the reason that is told
LISTS = {
    "of another issuer": (lambda w: make_list(w, issuer="card"), "it is a list of .*, not of"),
    "of another key": (lambda w: another_key(w, make_list(w)), "did not sign it"),
    "of another distribution point": (
        lambda w: make_list(w, scope={"full_name": [URI("http://127.0.0.1/p0002.crl")]}),
        "another distribution point",
    ),
    "of CAs": (lambda w: make_list(w, scope={"only_contains_ca_certs": True}), "CAs' certificates only"),
    "of attributes": (lambda w: make_list(w, scope={"only_contains_attribute_certs": True}), "attribute certificates"),
    "indirect": (lambda w: make_list(w, scope={"indirect_crl": True}), "an indirect list"),
    "a delta": (lambda w: make_list(w, base=1), "it is a delta where a complete list should be"),
    "with something critical and unknown": (
        lambda w: make_list(w, others=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0"), True)]),
        "its critical extension 1.2.3 is not known",
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_that_does_not_count(world, name):
    make, reason = LISTS[name]
    world.server.publish(LIST, make(world))
    del world.server.pages[ANSWER]
    found = world.collect()
    assert found.data.crls == ()
    assert told(found, reason)


def test_a_stale_list_is_kept_for_validation_to_judge_and_another_datum_is_asked_for(world):
    ended = {"start": NOW - 2 * HOUR, "end": NOW - HOUR}
    world.server.publish(LIST, make_list(world, scope=own_scope(world), **ended))
    found = world.collect()
    assert len(found.data.crls) == 2
    assert len(found.data.ocsp) == 1


def test_a_list_of_user_certificates_says_nothing_about_a_ca(world):
    scope = {"only_contains_user_certs": True}
    world.server.publish("/card.crl", make_list(world, issuer="card", scope=scope))
    del world.server.pages["/ocsp/card"]
    found = world.cache.collect(world.path[1:3], datetime.now(UTC))
    assert found.data.crls == ()
    assert told(found, "citizens' certificates only")


def test_lists_split_by_reason_count_when_they_tell_every_reason(world):
    issuer, key = world.ca.authority("authentication")
    flags = x509.ReasonFlags
    some = frozenset({flags.key_compromise, flags.ca_compromise, flags.aa_compromise})
    rest = frozenset(set(flags) - some - {flags.unspecified, flags.remove_from_crl})
    places = [URI(f"{world.server.url}/part-{number}.crl") for number in (1, 2)]
    for place, reasons in zip(places, (some, rest), strict=True):
        scope = {"full_name": [place], "only_some_reasons": reasons}
        world.server.publish(place.value.removeprefix(world.server.url), make_list(world, scope=scope))
    points = [x509.DistributionPoint([place], None, None, None) for place in places]
    leaf = issued(world, issuer, key, x509.CRLDistributionPoints(points))
    assert len(world.cache.collect([leaf, issuer], datetime.now(UTC)).data.crls) == 2
    half = issued(world, issuer, key, x509.CRLDistributionPoints(points[:1]), with_responder=True)
    found = world.cache.collect([half, issuer], datetime.now(UTC))
    assert (len(found.data.crls), world.server.counts[ANSWER]) == (1, 1), "half of the reasons is no answer"


def test_the_addresses_of_one_point_are_ways_to_the_same_list(world):
    issuer, key = world.ca.authority("authentication")
    places = [
        URI("ldap://directory.example/cn=list"),
        URI(f"{world.server.url}/none.crl"),
        URI(f"{world.server.url}/good.crl"),
    ]
    world.server.publish("/good.crl", make_list(world))
    leaf = issued(world, issuer, key, x509.CRLDistributionPoints([x509.DistributionPoint(places, None, None, None)]))
    found = world.cache.collect([leaf, issuer], datetime.now(UTC))
    assert len(found.data.crls) == 1
    assert told(found, "'ldap://directory.example/cn=list' is not followed: only http and https are")
    assert told(found, "404")


def test_a_list_that_another_issuer_signs_is_left_out_with_a_reason(world):
    issuer, key = world.ca.authority("authentication")
    point = x509.DistributionPoint(
        [URI(f"{world.server.url}{LIST}")], None, None, [x509.DirectoryName(world.ca.root.subject)]
    )
    leaf = issued(world, issuer, key, x509.CRLDistributionPoints([point]))
    found = world.cache.collect([leaf, issuer], datetime.now(UTC))
    assert found.data.crls == ()
    assert told(found, "another issuer signs")


def issued(world, issuer, key, points, *, with_responder=False):
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(points, critical=False)
    )
    if with_responder:
        method = x509.oid.AuthorityInformationAccessOID.OCSP
        access = x509.AccessDescription(method, URI(world.server.url + ANSWER))
        builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
    return builder.sign(key, hashes.SHA256())


# --- deltas -------------------------------------------------------------------------------------------------------

DELTAS = {
    "no delta": (lambda w: make_list(w, scope=own_scope(w)), "it is not a delta"),
    "of another issuer": (lambda w: make_list(w, issuer="card", base=1), "it is a list of .*, not of"),
    "of another key": (lambda w: another_key(w, make_list(w, base=1, scope=own_scope(w))), "did not sign it"),
    "of another list": (lambda w: make_list(w, base=1), "a delta of a list that is not at hand"),
    "of a newer list": (
        lambda w: make_list(w, base=10_000, number=10_001, scope=own_scope(w)),
        "a delta of a newer list",
    ),
}


@pytest.mark.parametrize("name", DELTAS)
def test_a_delta_that_does_not_count(world, name):
    make, reason = DELTAS[name]
    world.server.publish(DELTA, make(world))
    found = world.collect()
    assert found.data.crls == (world.server.pages[LIST].answer(b""),)
    assert told(found, reason)


def test_a_delta_tells_what_the_complete_list_does_not_know_yet(world):
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    leaf = world.ca.issue_card_certificates(Holder.named("Bruno Antunes"), key, key).authentication
    world.ca.revoke(leaf.serial_number, in_delta=True)
    world.server.publish(DELTA, (world.ca.crl_folder / DELTA[1:]).read_bytes())
    complete, delta = map(
        x509.load_der_x509_crl, world.cache.collect([leaf, world.path[1]], datetime.now(UTC)).data.crls
    )
    assert complete.get_revoked_certificate_by_serial_number(leaf.serial_number) is None
    assert delta.get_revoked_certificate_by_serial_number(leaf.serial_number) is not None


# --- OCSP ---------------------------------------------------------------------------------------------------------

#: name: arguments of `make_answer`, the reason that is told; None where the answer counts
ANSWERS = {
    "right": ({}, None),
    "by the issuer itself": ({"signer": "issuer"}, None),
    "without a nonce": ({"nonce": None}, None),
    "without an end, young": ({"no_end": True}, None),
    "revoked": ({"status": ocsp.OCSPCertStatus.REVOKED}, None),
    "with another nonce": ({"nonce": b"another nonce"}, "its nonce is not the one that was sent"),
    "unknown": ({"status": ocsp.OCSPCertStatus.UNKNOWN}, "does not know the certificate"),
    "past its end": ({"start": NOW - 2 * HOUR, "end": NOW - HOUR}, "it counted only until"),
    "without an end, old": ({"start": NOW - 2 * HOUR, "no_end": True}, "it counted only until"),
    "of the future": ({"start": NOW + HOUR, "end": NOW + 2 * HOUR}, "it counts only from"),
    "about another certificate": ({"certificate": "issuer"}, "it is not about the certificate of"),
    "signed by a stranger": ({"signer": "stranger"}, "did not sign it"),
    "signed for another CA": ({"signer": "foreign"}, "did not appoint"),
    "by a delegate for something else": ({"usage": ExtendedKeyUsageOID.CLIENT_AUTH}, "is not meant for that"),
    "by a delegate who would have to be checked": ({"nocheck": False}, "own revocation would have to be checked"),
    "by a delegate of tomorrow": ({"signer": "early"}, "whose certificate is out of its time"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer(world, name):
    arguments, reason = ANSWERS[name]
    if arguments.get("certificate") == "issuer":
        arguments = {"certificate": world.path[1]}
    del world.server.pages[LIST]
    world.server.answer(ANSWER, make_answer(world, **arguments))
    found = world.collect()
    assert len(found.data.ocsp) == (reason is None)
    assert reason is None or told(found, reason)


def test_an_answer_that_says_no(world):
    del world.server.pages[LIST]
    refusal = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
    world.server.answer(ANSWER, lambda _question: refusal.public_bytes(Encoding.DER))
    found = world.collect()
    assert found.data.ocsp == ()
    assert told(found, "the responder says try later")


def hostile(world, change):
    """A right answer to the world's question, taken apart, changed and put together again."""

    def answer(question):
        outer = asn1_ocsp.OCSPResponse.load(make_answer(world)(question))
        basic = outer["response_bytes"]["response"].parsed
        change(basic)
        return outer.dump(force=True)

    return answer


def twice(basic):
    basic["tbs_response_data"]["responses"].append(basic["tbs_response_data"]["responses"][0])


def weakly(basic):
    basic["signature_algorithm"] = {"algorithm": "sha1_ecdsa"}


#: name: what is changed in a right answer, the reason that is told
CHANGED = {
    "to two questions": (twice, "it answers more than one question"),
    "with a weak hash": (weakly, "its signature is with a weak hash"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_answer(world, name):
    change, reason = CHANGED[name]
    del world.server.pages[LIST]
    world.server.answer(ANSWER, hostile(world, change))
    found = world.collect()
    assert found.data.ocsp == ()
    assert told(found, reason)


def test_an_answer_over_the_limit_is_not_read(world):
    with pytest.raises(RevocationUnavailable, match="larger than the limit"):
        read_answer(bytes(fetchers.OCSP_BYTES_MAX + 1), world.leaf, world.path[1], NOW, skew=HOUR)


def test_an_answer_whose_signer_did_not_come_along(world):
    del world.server.pages[LIST]

    def answer(question):
        issuer, issuer_key = world.ca.authority("authentication")
        appointed = appoint(issuer, issuer_key, datetime.now(UTC))
        now = datetime.now(UTC)
        builder = ocsp.OCSPResponseBuilder().add_response(
            world.leaf, issuer, hashes.SHA1(), ocsp.OCSPCertStatus.GOOD, now, now + HOUR, None, None
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, appointed.certificate)
        return builder.sign(appointed.key, hashes.SHA256()).public_bytes(Encoding.DER)

    world.server.answer(ANSWER, answer)
    found = world.collect()
    assert found.data.ocsp == ()
    assert told(found, "the certificate of who signed it is not there")


def test_a_nonce_can_be_demanded(world, tmp_path):
    del world.server.pages[LIST]
    strict = RevocationCache(tmp_path, FETCHER, CollectionPolicy(nonce_required=True))
    world.server.answer(ANSWER, make_answer(world, nonce=None))
    found = strict.collect(world.path[:2], datetime.now(UTC))
    assert found.data.ocsp == ()
    assert told(found, "it brings no nonce")


def test_every_question_has_a_nonce_of_its_own(world):
    seen = []
    del world.server.pages[LIST]
    right = make_answer(world)

    def answer(question):
        seen.append(ocsp.load_der_ocsp_request(question).extensions.get_extension_for_class(x509.OCSPNonce).value.nonce)
        return right(question)

    world.server.answer(ANSWER, answer)
    later = datetime.now(UTC) + timedelta(minutes=70)
    world.collect()
    world.cache.collect(world.path[:2], later)
    assert len(set(seen)) == 2
    assert {len(each) for each in seen} == {32}


def test_a_card_with_rsa_keys_of_its_issuer_can_be_asked_about():
    """Key hashes are made over another form of an RSA key than of one on a curve."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, NOW - HOUR, NOW + HOUR)
    certificate = builder.sign(key, hashes.SHA256())
    response = (
        ocsp.OCSPResponseBuilder()
        .add_response(certificate, certificate, hashes.SHA256(), ocsp.OCSPCertStatus.GOOD, NOW, NOW + HOUR, None, None)
        .responder_id(ocsp.OCSPResponderEncoding.HASH, certificate)
        .sign(key, hashes.SHA256())
    )
    der = response.public_bytes(Encoding.DER)
    assert read_answer(der, certificate, certificate, NOW, skew=HOUR).revoked_at is None


def test_the_limits_of_an_answer_and_a_list_are_apart():
    assert fetchers.OCSP_BYTES_MAX < fetchers.CRL_BYTES_MAX
