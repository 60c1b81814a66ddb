"""Two engines: who is asked is computed from the inputs, what they say is weighed, and OCSP answers are judged."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki import certvalidator_engine, openssl_engine
from pki.authentic import Evidence, sift
from pki.path import Verdict, find_path, judge, validate_path, weigh
from pki.policy import PolicyInputs, ValidationPolicy
from pki.revocation_data import RevocationData
from pki.verdict import Judgement
from tests.support.small_pki import (
    DAY,
    HOUR,
    NOW,
    SmallPki,
    name,
    new_key,
    usage,
    weakly_signed,
    weakly_signed_answer,
    weakly_signed_list,
)

REVOKED = ocsp.OCSPCertStatus.REVOKED
POLICY = x509.ObjectIdentifier("1.2.3.4")


@pytest.fixture(scope="module")
def pki():
    return SmallPki()


def ask(pki, crls=(), answers=(), *, moment=NOW, now=None, extra=(), leaf=None, anchors=None, **policy):
    return validate_path(
        leaf or pki.leaf,
        anchors=anchors or [pki.root],
        intermediates=[pki.ca, *extra],
        revocation=RevocationData(tuple(crls), tuple(answers)),
        moment=moment,
        now=now,
        policy=ValidationPolicy(**policy),
    )


def delegate(pki, *, by="ca", nocheck=True, purpose=ExtendedKeyUsageOID.OCSP_SIGNING, **options):
    """A responder's key and its certificate."""
    key = new_key()
    extensions = [(usage("digital_signature"), True), (x509.ExtendedKeyUsage([purpose]), False)]
    if nocheck:
        extensions.append((x509.OCSPNoCheck(), False))
    return key, pki.issue(by, name("Responder"), key.public_key(), extensions, **options)


def delegated(pki, key, certificate, **options):
    return pki.answer(**{"responder": certificate, "key": key, "brings": [certificate], **options})


# --- who can judge ------------------------------------------------------------------------------------------------


def first_cannot(pki, crls=(), answers=(), **policy):
    rules = ValidationPolicy(**policy)
    found = find_path(pki.leaf, anchors=[pki.root], intermediates=[pki.ca], moment=NOW, policy=rules)
    assert found.valid
    evidence = sift(RevocationData(tuple(crls), tuple(answers)), found.path, [pki.ca], rules, NOW)
    return openssl_engine.cannot_judge(found.path, evidence, rules)


def test_the_first_engine_judges_plain_lists(pki):
    assert first_cannot(pki, [pki.crl("root"), pki.crl("ca")]) == ""


@pytest.mark.parametrize(
    "inputs",
    [
        PolicyInputs(initial_policies=frozenset({"1.2.3.4"})),
        PolicyInputs(require_explicit=True),
        PolicyInputs(inhibit_mapping=True),
        PolicyInputs(inhibit_any=True),
    ],
)
def test_the_first_engine_is_not_asked_about_policy_inputs(pki, inputs):
    assert "policy inputs" in first_cannot(pki, inputs=inputs)


@pytest.mark.parametrize(
    "extension",
    [
        x509.PolicyConstraints(require_explicit_policy=0, inhibit_policy_mapping=None),
        x509.InhibitAnyPolicy(0),
        x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.33"), bytes.fromhex("300c300a06032903040603290305")),
    ],
)
def test_the_first_engine_is_not_asked_about_certificates_that_constrain_policies(extension):
    assert "policies" in first_cannot(SmallPki(ca_extensions=[(extension, True)]))


def test_the_first_engine_is_not_asked_about_ocsp_answers(pki):
    assert "OCSP" in first_cannot(pki, answers=[pki.answer()])


def test_the_first_engine_is_not_asked_about_indirect_lists(pki):
    scope = x509.IssuingDistributionPoint(None, None, False, False, None, True, False)
    assert "indirect" in first_cannot(pki, [pki.crl("ca", extensions=[(scope, True)])])


def test_data_that_does_not_count_does_not_change_who_is_asked(pki):
    """Else a stranger could choose the engine."""
    assert first_cannot(pki, answers=[pki.answer(key=new_key())]) == ""


def test_a_long_list_is_left_to_the_first_engine():
    def evidence(entries):
        builder = (
            x509.CertificateRevocationListBuilder().issuer_name(name("CA")).last_update(NOW).next_update(NOW + DAY)
        )
        for serial in range(entries):
            entry = x509.RevokedCertificateBuilder().serial_number(2**150 + serial).revocation_date(NOW)
            builder = builder.add_revoked_certificate(entry.build())
        return Evidence((builder.sign(new_key(), hashes.SHA256()),), (), (), ())

    assert certvalidator_engine.is_quick(evidence(1_000))
    assert not certvalidator_engine.is_quick(evidence(2_000))


def test_both_engines_are_asked_where_both_can(pki, monkeypatch):
    lists = [pki.crl("root"), pki.crl("ca")]
    assert ask(pki, lists).valid
    for engine, function in ((openssl_engine, "check_revocation"), (certvalidator_engine, "check")):
        with monkeypatch.context() as patch:
            patch.setattr(engine, function, lambda *_: Judgement(Verdict.UNTRUSTED, "it says so"))
            result = ask(pki, lists)
        assert result.verdict is Verdict.UNTRUSTED
        assert f"{engine.NAME} says untrusted (it says so)" in result.detail
        assert "says valid" in result.detail


@pytest.mark.parametrize(("before", "verdict"), [(1, Verdict.VALID), (0, Verdict.REVOKED), (-1, Verdict.REVOKED)])
def test_each_engine_counts_a_revocation_from_its_date_on(pki, before, verdict):
    lists = RevocationData((pki.crl("root"), pki.crl("ca", revoked=[(pki.leaf, NOW - DAY)])))
    moment, path = NOW - DAY - timedelta(seconds=before), (pki.leaf, pki.ca, pki.root)
    evidence = sift(lists, path, [], ValidationPolicy(), NOW)
    assert openssl_engine.check_revocation(path, evidence, moment).verdict is verdict
    assert certvalidator_engine.check(path, evidence, moment, NOW, ValidationPolicy()).verdict is verdict


# --- weighing -----------------------------------------------------------------------------------------------------

GOOD = Judgement(Verdict.VALID)
GONE = Judgement(Verdict.REVOKED, "it was revoked", NOW, "superseded")
UNTOLD = Judgement(Verdict.COULD_NOT_TELL, "no list")


@pytest.mark.parametrize(
    ("said", "verdict", "detail"),
    [
        ([], Verdict.COULD_NOT_TELL, "no engine can judge this path"),
        ([GOOD], Verdict.VALID, ""),
        ([GOOD, GOOD], Verdict.VALID, ""),
        ([GONE, GONE], Verdict.REVOKED, "it was revoked"),
        ([GOOD, GONE], Verdict.REVOKED, "0 says valid; 1 says revoked (it was revoked)"),
        ([GONE, GOOD], Verdict.REVOKED, "0 says revoked (it was revoked); 1 says valid"),
        ([UNTOLD, GOOD], Verdict.COULD_NOT_TELL, "0 says could not tell (no list); 1 says valid"),
        ([UNTOLD, GONE], Verdict.REVOKED, "0 says could not tell (no list); 1 says revoked (it was revoked)"),
    ],
)
def test_a_refusal_outweighs_an_acceptance_and_both_reasons_are_told(said, verdict, detail):
    weighed = weigh([(str(at), judgement) for at, judgement in enumerate(said)])
    assert (weighed.verdict, weighed.detail) == (verdict, detail)


def test_every_verdict_has_a_weight_and_valid_the_least():
    for verdict in Verdict:
        assert weigh([("a", GOOD), ("b", Judgement(verdict))]).verdict is verdict


# --- policies -----------------------------------------------------------------------------------------------------


def test_policy_inputs_are_obeyed():
    policies = x509.CertificatePolicies([x509.PolicyInformation(POLICY, None)])
    pki = SmallPki(ca_extensions=[(policies, False)])
    key = new_key().public_key()
    leaf = pki.issue("ca", name("João Sá"), key, [(usage("digital_signature"), True), (policies, False)])
    lists = [pki.crl("root"), pki.crl("ca")]

    def verdict(*wanted):
        inputs = PolicyInputs(initial_policies=frozenset(wanted), require_explicit=True)
        return ask(pki, lists, leaf=leaf, inputs=inputs).verdict

    assert verdict() is Verdict.VALID
    assert verdict("1.2.3.4") is Verdict.VALID
    assert verdict("1.2.3.5") is Verdict.UNTRUSTED


# --- OCSP answers (RFC 6960) ----------------------------------------------------------------------------------------


def test_an_answer_of_the_issuer_counts(pki):
    result = ask(pki, [pki.crl("root")], [pki.answer()])
    assert result.valid, result.detail


def test_an_answer_of_a_certified_responder_counts(pki):
    result = ask(pki, [pki.crl("root")], [delegated(pki, *delegate(pki))])
    assert result.valid, result.detail


def test_a_responder_without_nocheck_needs_an_answer_about_itself(pki):
    key, certificate = delegate(pki, nocheck=False)
    answer = delegated(pki, key, certificate)
    assert ask(pki, [pki.crl("root")], [answer]).verdict is Verdict.COULD_NOT_TELL
    gone = pki.crl("ca", revoked=[(certificate, NOW - HOUR)])
    # Where the list speaks for Maria herself, the answer is not needed, and a revoked responder does no harm.
    assert ask(pki, [pki.crl("root"), gone], [answer]).valid


def test_an_answer_that_says_revoked_says_when_and_why(pki):
    answer = pki.answer(status=REVOKED, revoked_at=NOW - HOUR, reason=x509.ReasonFlags.key_compromise)
    result = ask(pki, [pki.crl("root")], [answer])
    assert (result.verdict, result.revoked_at) == (Verdict.REVOKED, NOW - HOUR)
    assert result.revocation_reason == "keyCompromise"


@pytest.mark.parametrize(("before", "verdict"), [(1, Verdict.VALID), (0, Verdict.REVOKED), (-1, Verdict.REVOKED)])
def test_a_revocation_in_an_answer_counts_from_its_time_on(pki, before, verdict):
    answer = pki.answer(status=REVOKED, revoked_at=NOW - DAY, reason=x509.ReasonFlags.superseded)
    moment = NOW - DAY - timedelta(seconds=before)
    lists = [pki.crl("root"), pki.crl("ca")]
    assert ask(pki, lists, [answer], moment=moment, now=NOW).verdict is verdict


def test_what_a_list_says_is_not_undone_by_a_good_answer(pki):
    lists = [pki.crl("root"), pki.crl("ca", revoked=[(pki.leaf, NOW - HOUR)])]
    assert ask(pki, lists, [pki.answer()]).verdict is Verdict.REVOKED


def test_two_answers_of_one_responder_and_the_worse_counts(pki):
    answers = [pki.answer(), pki.answer(status=REVOKED, revoked_at=NOW - HOUR, start=NOW - 2 * HOUR)]
    assert ask(pki, [pki.crl("root")], answers).verdict is Verdict.REVOKED


def test_an_answer_about_maria_says_nothing_about_her_issuer(pki):
    result = ask(pki, [], [pki.answer()])
    assert result.verdict is Verdict.COULD_NOT_TELL
    assert "CA: there is no revocation list of Root" in result.detail


def test_a_responder_younger_than_the_moment_may_speak_about_it(pki):
    answer = delegated(pki, *delegate(pki, start=NOW - HOUR))
    result = ask(pki, [pki.crl("root")], [answer], moment=NOW - 30 * DAY, now=NOW)
    assert result.valid, result.detail


def test_an_answer_made_after_the_certificate_ended_says_nothing():
    pki = SmallPki(leaf_end=NOW - DAY)
    late = pki.answer(), [pki.crl("root")]
    result = ask(pki, late[1], [late[0]], moment=NOW - 2 * DAY, now=NOW)
    assert result.verdict is Verdict.COULD_NOT_TELL
    assert "made after it had expired" in result.detail


def test_data_of_the_time_serves_where_that_time_is_given_as_now():
    """How a letter stays verifiable when the CA is gone: what was known then, asked then."""
    pki = SmallPki(leaf_end=NOW - DAY)
    then = NOW - 2 * DAY
    lists = [pki.crl("root", start=then - HOUR, end=then + HOUR)]
    answers = [pki.answer(start=then - HOUR, end=then + HOUR)]
    assert ask(pki, lists, answers, moment=then, now=NOW).verdict is Verdict.COULD_NOT_TELL
    assert ask(pki, lists, answers, moment=then, now=then).valid


def unsuccessful(_):
    status = ocsp.OCSPResponseStatus.TRY_LATER
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)


#: Each is refused, and the reason is told.
ANSWERS = {
    "rubbish": (lambda pki: b"rubbish", "cannot be read"),
    "unsuccessful": (unsuccessful, "did not answer (try_later)"),
    "truncated": (lambda pki: pki.answer()[:-1], "cannot be read"),
    "stale": (lambda pki: pki.answer(start=NOW - 3 * DAY, end=NOW - DAY), "is stale: it ended on 2026-11-21"),
    "stale-without-an-end": (lambda pki: pki.answer(start=NOW - DAY, end=None), "is stale"),
    "of-the-future": (lambda pki: pki.answer(start=NOW + HOUR), "begins only on"),
    "of-another-certificate": (lambda pki: pki.answer(about=pki.root), "about another certificate"),
    "of-the-same-serial-number-elsewhere": (lambda pki: pki.answer(issuer=pki.root), "about another certificate"),
    "unknown": (lambda pki: pki.answer(status=ocsp.OCSPCertStatus.UNKNOWN), ""),
    "signed-by-a-stranger": (lambda pki: pki.answer(key=new_key()), "not signed by anybody who may"),
    "signed-by-maria": (
        lambda pki: pki.answer(responder=pki.leaf, key=pki.keys["maria"], brings=[pki.leaf]),
        "not signed by anybody",
    ),
    "responder-for-something-else": (
        lambda pki: delegated(pki, *delegate(pki, purpose=ExtendedKeyUsageOID.SERVER_AUTH)),
        "not signed by anybody",
    ),
    "responder-with-another-issuer-name": (
        lambda pki: delegated(pki, *delegate(pki, issuer=pki.root.subject)),
        "not signed by anybody",
    ),
    "responder-of-the-root": (lambda pki: delegated(pki, *delegate(pki, by="root")), "not signed by anybody"),
    "responder-that-has-expired": (lambda pki: delegated(pki, *delegate(pki, end=NOW - HOUR)), "not signed by anybody"),
    "responder-of-a-stranger": (
        lambda pki: delegated(pki, *delegate(pki, sign_with=new_key())),
        "not signed by anybody",
    ),
    "responder-that-is-not-brought": (
        lambda pki: delegated(pki, *delegate(pki), brings=[]),
        "not signed by anybody",
    ),
    "a-stranger-comes-along": (lambda pki: pki.answer(brings=[SmallPki().root]), "not signed by anybody"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_that_does_not_count(pki, case):
    make, reason = ANSWERS[case]
    result = ask(pki, [pki.crl("root")], [make(pki)])
    assert result.verdict is Verdict.COULD_NOT_TELL
    assert reason in result.detail


@pytest.mark.parametrize("case", [case for case in ANSWERS if case != "unknown"])
def test_an_answer_that_does_not_count_harms_nobody_where_a_list_speaks(pki, case):
    make, _ = ANSWERS[case]
    assert ask(pki, [pki.crl("root"), pki.crl("ca")], [make(pki)]).valid


# --- weak algorithms ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rsa_pki():
    return SmallPki(root_key=rsa.generate_private_key(65537, 2048), ca_key=rsa.generate_private_key(65537, 2048))


@pytest.mark.parametrize("digest", [hashes.SHA1(), hashes.MD5()], ids=["SHA-1", "MD5"])
def test_a_certificate_signed_with_a_broken_digest_is_refused(rsa_pki, digest):
    lists = [rsa_pki.crl("root"), rsa_pki.crl("ca")]
    assert ask(rsa_pki, lists).valid
    leaf = weakly_signed(rsa_pki.leaf, rsa_pki.keys["ca"], digest)
    ca = weakly_signed(rsa_pki.ca, rsa_pki.keys["root"], digest)
    for result in (
        ask(rsa_pki, lists, leaf=leaf),
        validate_path(
            rsa_pki.leaf,
            anchors=[rsa_pki.root],
            intermediates=[ca],
            revocation=RevocationData(tuple(lists)),
            moment=NOW,
            policy=ValidationPolicy(),
        ),
    ):
        assert result.verdict is Verdict.UNTRUSTED
        assert "weak algorithm" in result.detail


@pytest.mark.parametrize("digest", [hashes.SHA1(), hashes.MD5(), hashes.SHA256()], ids=["SHA-1", "MD5", "SHA-256"])
def test_revocation_data_signed_with_a_broken_digest_does_not_count(rsa_pki, digest):
    """With SHA-256 the same maker makes data that counts."""
    good = isinstance(digest, hashes.SHA256)
    weak = weakly_signed_list(rsa_pki.crl("ca"), rsa_pki.keys["ca"], digest)
    answer = weakly_signed_answer(rsa_pki.answer(), rsa_pki.keys["ca"], digest)
    for result in (ask(rsa_pki, [rsa_pki.crl("root"), weak]), ask(rsa_pki, [rsa_pki.crl("root")], [answer])):
        assert result.verdict is (Verdict.VALID if good else Verdict.COULD_NOT_TELL), result.detail
        assert good or "signed with a weak algorithm" in result.detail


def test_the_signature_of_an_old_anchor_over_itself_is_not_looked_at(rsa_pki):
    old = weakly_signed(rsa_pki.root, rsa_pki.keys["root"], hashes.SHA1())
    assert ask(rsa_pki, [rsa_pki.crl("root"), rsa_pki.crl("ca")], anchors=[old]).valid


def test_an_issuer_with_a_short_key_is_refused():
    pki = SmallPki(ca_key=rsa.generate_private_key(65537, 1024))
    result = ask(pki, [pki.crl("root"), pki.crl("ca")])
    assert result.verdict is Verdict.UNTRUSTED
    assert "its issuer CA: an RSA key of 1024 bits is not accepted" in result.detail


# --- lists ----------------------------------------------------------------------------------------------------------


def test_of_two_lists_of_one_scope_the_newer_counts(pki):
    """A hold that was lifted: the older list is still current, and says nothing any more."""
    hold = x509.CRLReason(x509.ReasonFlags.certificate_hold)
    older = pki.crl("ca", revoked=[(pki.leaf, NOW - DAY, hold)], start=NOW - 2 * HOUR)
    assert ask(pki, [pki.crl("root"), older]).verdict is Verdict.REVOKED
    assert ask(pki, [pki.crl("root"), older, pki.crl("ca", number=2)]).valid


def test_an_older_list_counts_where_the_newer_may_have_dropped_who_has_expired():
    pki = SmallPki(leaf_end=NOW - DAY)
    older = pki.crl("ca", revoked=[(pki.leaf, NOW - 3 * DAY)], start=NOW - 2 * DAY)
    newer = pki.crl("ca", number=2)
    lists = [pki.crl("root"), older, newer]
    for given in (lists, lists[::-1]):
        assert ask(pki, given, moment=NOW - 2 * DAY, now=NOW).verdict is Verdict.REVOKED


def test_a_hold_is_lifted_by_a_delta_list(pki):
    freshest = x509.FreshestCRL(
        [x509.DistributionPoint([x509.UniformResourceIdentifier("http://x/")], None, None, None)]
    )
    hold = (pki.leaf, NOW - DAY, x509.CRLReason(x509.ReasonFlags.certificate_hold))
    gone = (pki.leaf, NOW - HOUR / 2, x509.CRLReason(x509.ReasonFlags.remove_from_crl))
    base = pki.crl("ca", revoked=[hold], extensions=[(freshest, False)])
    indicator = [(x509.DeltaCRLIndicator(1), True)]
    same = pki.crl("ca", revoked=[hold], number=2, start=NOW - HOUR / 2, extensions=indicator)
    lifted = pki.crl("ca", revoked=[gone], number=2, start=NOW - HOUR / 2, extensions=indicator)
    assert ask(pki, [pki.crl("root"), base, same]).verdict is Verdict.REVOKED
    assert ask(pki, [pki.crl("root"), base, lifted]).valid


def test_a_delta_that_no_list_announces_still_revokes(pki):
    """Only the certificate says that there are deltas: certvalidator does not read such a delta, and is outvoted."""
    delta = pki.crl("ca", number=2, revoked=[(pki.leaf, NOW - HOUR)], extensions=[(x509.DeltaCRLIndicator(1), True)])
    lists = [pki.crl("root"), pki.crl("ca"), delta]
    found = find_path(pki.leaf, anchors=[pki.root], intermediates=[pki.ca], moment=NOW, policy=ValidationPolicy())
    evidence = sift(RevocationData(tuple(lists)), found.path, [pki.ca], ValidationPolicy(), NOW)
    assert judge(found.path, evidence, NOW, NOW, ValidationPolicy()).verdict is Verdict.VALID
    assert ask(pki, lists).verdict is Verdict.REVOKED


def test_what_is_missing_or_stale_is_told(pki):
    stale = pki.crl("ca", start=NOW - 3 * DAY, end=NOW - DAY)
    result = ask(pki, [pki.crl("root"), stale])
    assert result.verdict is Verdict.COULD_NOT_TELL
    assert "Maria Conceição Reis: there is no revocation list of CA" in result.detail
    assert "the revocation list of CA is stale: it ended on 2026-11-21 14:00 UTC" in result.detail


# --- what cannot be read --------------------------------------------------------------------------------------------


def unreadable(pki, tag):
    """Maria's certificate, well signed, with her name in a string of another ASN.1 type."""
    tbs = bytearray(pki.leaf.tbs_certificate_bytes)
    place = tbs.rindex(b"Maria") - 2
    assert tbs[place] == 0x0C  # UTF8String
    tbs[place] = tag
    signature = pki.keys["ca"].sign(bytes(tbs), ec.ECDSA(hashes.SHA256()))
    body = bytes(tbs) + bytes.fromhex("300a06082a8648ce3d040302") + bytes([3, len(signature) + 1, 0]) + signature
    return x509.load_der_x509_certificate(b"\x30\x82" + len(body).to_bytes(2, "big") + body)


@pytest.mark.parametrize(
    "tag", [0x1B, 0x19, 0x12, 0x04], ids=["GeneralString", "GraphicString", "NumericString", "OCTET"]
)
def test_a_name_that_not_everybody_can_read_is_malformed(pki, tag):
    assert ask(pki, [pki.crl("root"), pki.crl("ca")], leaf=unreadable(pki, tag)).verdict is Verdict.MALFORMED


@pytest.mark.parametrize(
    "tag", [0x1B, 0x19, 0x12, 0x04], ids=["GeneralString", "GraphicString", "NumericString", "OCTET"]
)
def test_an_unreadable_certificate_sent_along_spoils_nothing(pki, tag):
    foreign = SmallPki().crl("ca", key=new_key())  # makes validation look for its signer among those sent along
    assert ask(pki, [foreign, pki.crl("root"), pki.crl("ca")], extra=[unreadable(pki, tag)]).valid


def test_what_another_library_cannot_read_in_a_path_is_malformed(pki, monkeypatch):
    def cannot(*_):
        raise ValueError("unreadable")

    monkeypatch.setattr("pki.path.sift", cannot)
    result = ask(pki, [pki.crl("root"), pki.crl("ca")])
    assert result.verdict is Verdict.MALFORMED


def test_an_engine_that_judges_another_time_judges_the_path_at_the_moment_too():
    """The second engine is lenient about validity where it looks at younger signers; the path is judged before."""
    pki = SmallPki(leaf_end=NOW - 3 * DAY)
    path = (pki.leaf, pki.ca, pki.root)
    evidence = sift(RevocationData((pki.crl("root"), pki.crl("ca"))), path, [], ValidationPolicy(), NOW)
    judged = certvalidator_engine.check(path, evidence, NOW - 2 * DAY, NOW, ValidationPolicy())
    assert judged.verdict is Verdict.EXPIRED
