"""Time stamps of `openssl ts` are taken, and each thing that may be wrong with one is refused."""

from __future__ import annotations

import hashlib

import pytest
from asn1crypto import cms, core, tsp
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki import signed_data
from pki.errors import PathInvalid, PkiError, SignatureInvalid
from pki.fetchers import HttpFetcher
from pki.timestamp import StampTrust, ask, read_answer, verify_token
from tests.support.cms_forge import asn1, attribute, signing_certificate
from tests.support.time_stamp_authority import POLICY, TimeStampAuthority, make_certificate

DIGEST = hashlib.sha256(b"a root").digest()
NONCE = bytes(range(1, 17))


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return TimeStampAuthority(tmp_path_factory.mktemp("tsa"))


@pytest.fixture(scope="module")
def answer(authority):
    return authority.answer(ask(DIGEST, NONCE, POLICY))


@pytest.fixture(scope="module")
def trust(authority):
    return StampTrust((authority.root,), POLICY)


@pytest.fixture(scope="module")
def token(answer, trust):
    return read_answer(answer, DIGEST, NONCE, trust)


def test_a_stamp_over_http(tmp_path):
    with TimeStampAuthority(tmp_path / "tsa") as authority:
        fetcher = HttpFetcher(allow_private_addresses=True)
        answer = fetcher.ask_for_stamp(authority.url, ask(DIGEST, NONCE))
        token = read_answer(answer, DIGEST, NONCE, StampTrust((authority.root,)))
        assert verify_token(token, DIGEST, StampTrust((authority.root,))).time
        authority.down = True
        with pytest.raises(PkiError):
            fetcher.ask_for_stamp(authority.url, ask(DIGEST, NONCE))


def test_about_something_else(token, trust):
    with pytest.raises(SignatureInvalid, match="something else"):
        verify_token(token, hashlib.sha256(b"x").digest(), trust)


def test_an_answer_to_another_question(answer, trust):
    with pytest.raises(SignatureInvalid, match="another question"):
        read_answer(answer, DIGEST, NONCE[::-1], trust)


def test_an_answer_without_a_nonce(authority, trust):
    question = tsp.TimeStampReq.load(ask(DIGEST, NONCE))
    del question["nonce"]
    with pytest.raises(SignatureInvalid, match="another question"):
        read_answer(authority.answer(question.dump(force=True)), DIGEST, NONCE, trust)


def test_under_another_policy(token, authority):
    with pytest.raises(SignatureInvalid, match="policy"):
        verify_token(token, DIGEST, StampTrust((authority.root,), "1.2.3.4.2"))


def test_a_policy_that_the_authority_does_not_have(authority, trust):
    with pytest.raises(SignatureInvalid, match="gave none: rejection"):
        read_answer(authority.answer(ask(DIGEST, NONCE, "1.2.3.4.9")), DIGEST, NONCE, trust)


def test_under_another_root(token, tmp_path):
    other = TimeStampAuthority(tmp_path / "other")
    with pytest.raises(PathInvalid):
        verify_token(token, DIGEST, StampTrust((other.root,)))
    with pytest.raises(PathInvalid):
        verify_token(token, DIGEST, StampTrust(()))


def test_every_changed_part_is_refused(token, trust):
    for at in range(0, len(token), 7):
        changed = bytearray(token)
        changed[at] ^= 1 << at % 8
        try:
            found = verify_token(bytes(changed), DIGEST, trust)
        except PkiError:
            continue
        # What the signature does not cover: the certificates that come along, and forms that say the same.
        assert found.time == verify_token(token, DIGEST, trust).time


@pytest.mark.parametrize("data", [b"", b"0\x00", b"\x30\x80", bytes(100), b"x" * 20_000], ids=len)
def test_other_bytes(data, trust):
    with pytest.raises(SignatureInvalid):
        verify_token(data, DIGEST, trust)
    with pytest.raises(SignatureInvalid):
        read_answer(data, DIGEST, NONCE, trust)


def test_bytes_after_its_end(token, trust):
    with pytest.raises(SignatureInvalid, match="follow"):
        verify_token(token + b"\x00", DIGEST, trust)


def resigned(token, key, edit):
    """A token that the same key signs over changed attributes."""
    info = cms.ContentInfo.load(token)
    signer = info["content"]["signer_infos"][0]
    edit(info["content"], signer)
    signed = signer["signed_attrs"].untag().dump(force=True)
    signer["signature"] = key.sign(signed, ec.ECDSA(hashes.SHA256()))
    return info.dump(force=True)


def drop(kind):
    def edit(_, signer):
        kept = [each for each in signer["signed_attrs"] if each["type"].native != kind]
        signer["signed_attrs"] = cms.CMSAttributes(kept)

    return edit


@pytest.mark.parametrize("kind", ["content_type", "message_digest", "signing_certificate_v2"])
def test_without_a_signed_attribute(token, trust, authority, kind):
    with pytest.raises(SignatureInvalid):
        verify_token(resigned(token, authority.key, drop(kind)), DIGEST, trust)


def test_signed_with_another_key(token, trust):
    made = resigned(token, ec.generate_private_key(ec.SECP256R1()), lambda *_: None)
    with pytest.raises(SignatureInvalid, match="does not hold"):
        verify_token(made, DIGEST, trust)


def test_a_token_with_other_content_under_the_signature(token, trust, authority):
    def edit(content, _):
        info = tsp.TSTInfo.load(bytes(content["encap_content_info"]["content"]))
        info["serial_number"] = 77
        content["encap_content_info"]["content"] = core.ParsableOctetString(info.dump(force=True))

    with pytest.raises(SignatureInvalid, match="changed after"):
        verify_token(resigned(token, authority.key, edit), DIGEST, trust)


BAD_USAGES = [(ExtendedKeyUsageOID.CODE_SIGNING, True), (ExtendedKeyUsageOID.TIME_STAMPING, False), (None, True)]


def by_another(usage, critical):
    """The token of a signer whose certificate has this extended key usage, and its trust."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = make_certificate("Time Root", "Time Root", root_key, root_key, ca=True)
    made = make_certificate("Time Stamping", "Time Root", key, root_key, usage=usage, critical=critical)

    def edit(content, signer):
        parsed = asn1(made)
        content["certificates"] = [cms.CertificateChoices("certificate", parsed)]
        signer["sid"] = cms.SignerIdentifier.load(signed_data.name_signer(made))
        kept = [each for each in signer["signed_attrs"] if each["type"].native != "signing_certificate_v2"]
        kept.append(attribute("signing_certificate_v2", signing_certificate(made)))
        signer["signed_attrs"] = cms.CMSAttributes(sorted(kept, key=lambda each: each.dump()))

    return (key, edit), StampTrust((root,))


def test_a_certificate_for_time_stamping_alone(token):
    signer, trust = by_another(ExtendedKeyUsageOID.TIME_STAMPING, True)
    assert verify_token(resigned(token, *signer), DIGEST, trust).certificate.issuer == trust.anchors[0].subject


@pytest.mark.parametrize(("usage", "critical"), BAD_USAGES)
def test_a_certificate_for_something_else(token, usage, critical):
    signer, trust = by_another(usage, critical)
    with pytest.raises(SignatureInvalid, match="not for time stamping"):
        verify_token(resigned(token, *signer), DIGEST, trust)
