"""Which signatures are accepted, by us and by two others; and a table of what is refused, each for its own reason."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from datetime import UTC, datetime

import pytest
from asn1crypto import cms, core, tsp
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from pyhanko.sign.validation import async_validate_detached_cms
from pyhanko.sign.validation.settings import KeyUsageConstraints
from pyhanko_certvalidator.context import ValidationContext

from pki.cades import SignatureAlgorithm, sign_document, verify_document
from pki.errors import SignatureInvalid
from pki.tokens.profiles import CardKeyUse
from tests.support.cms_forge import (
    DOCUMENT,
    TIME,
    Forge,
    OurCard,
    asn1,
    attribute,
    pss,
    signing_certificate,
    signing_time,
)
from tests.support.small_pki import NOW, SmallPki, name, usage

KEYS = {
    "RSA-1024": lambda: rsa.generate_private_key(65537, 1024),
    "RSA-2048": lambda: rsa.generate_private_key(65537, 2048),
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
}


class World:
    """A hierarchy and a signer for each kind of key."""

    def __init__(self):
        self.pki = SmallPki()
        self.forges = {}
        for kind, make in KEYS.items():
            key = make()
            extensions = [(usage("digital_signature", "content_commitment"), True)]
            self.forges[kind] = Forge(self.pki.issue("ca", name(f"João Sá {kind}"), key.public_key(), extensions), key)
        self.ec, self.rsa = self.forges["P-256"], self.forges["RSA-2048"]

    @property
    def other(self):
        """Somebody else's certificate of the same CA."""
        return self.forges["P-384"].certificate


@pytest.fixture(scope="module")
def world():
    return World()


# --- accepted ---------------------------------------------------------------------------------------------------------


class PssCard(OurCard):
    """A card that pads with PSS, as the newer RSA ones do."""

    def sign(self, use, data):
        return self.forge.sign(data, pss(), "sha256")


def ours(kind, time=None, card=OurCard):
    return lambda world: sign_document(
        DOCUMENT, card(world.forges[kind]), CardKeyUse.SIGNATURE, chain=[world.pki.ca], signing_time=time
    )


def forged(kind, **options):
    return lambda world: world.forges[kind].make(**options)


RSA, PSS, ECDSA = (
    SignatureAlgorithm.RSA_PKCS1_SHA256,
    SignatureAlgorithm.RSA_PSS_SHA256,
    SignatureAlgorithm.ECDSA_SHA256,
)
ACCEPTED = {
    "ours-with-RSA": (ours("RSA-2048"), RSA),
    "ours-with-PSS": (ours("RSA-2048", card=PssCard), PSS),
    "ours-with-P-256": (ours("P-256"), ECDSA),
    "ours-with-P-384": (ours("P-384"), ECDSA),
    "ours-after-2049": (ours("P-256", datetime(2051, 11, 22, 14, 1, 57, tzinfo=UTC)), ECDSA),
    "PSS": (forged("RSA-2048", algorithm=pss()), PSS),
    "RSA-by-the-name-of-the-key": (forged("RSA-2048", algorithm={"algorithm": "rsassa_pkcs1v15"}), RSA),
    "digest-without-null": (forged("P-256", bare_digest=True), ECDSA),
    "without-signing-time": (forged("P-256", without=["signing_time"]), ECDSA),
    "certificate-named-by-hash-alone": (
        lambda world: world.ec.make(
            change={
                "signing_certificate_v2": attribute(
                    "signing_certificate_v2", signing_certificate(world.ec.certificate, named=False)
                )
            }
        ),
        ECDSA,
    ),
    "its-issuer-comes-along": (lambda world: world.ec.make(certificates=[world.ec.certificate, world.pki.ca]), ECDSA),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_is_accepted_is_accepted_by_openssl_and_pyhanko_too(world, case, tmp_path):
    make, algorithm = ACCEPTED[case]
    signature = make(world)
    verified = verify_document(DOCUMENT, signature)
    assert verified.algorithm is algorithm
    (tmp_path / "signature").write_bytes(signature)
    (tmp_path / "document").write_bytes(DOCUMENT)
    cas = b"".join(each.public_bytes(Encoding.PEM) for each in (world.pki.root, world.pki.ca))
    (tmp_path / "cas").write_bytes(cas)
    command = (
        "openssl cms -verify -binary -purpose any -cades -inform DER -in signature -content document -CAfile cas"
        f" -attime {int(NOW.timestamp())} -out copy"
    )
    done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy").read_bytes() == DOCUMENT

    context = ValidationContext(
        trust_roots=[asn1(world.pki.root)], other_certs=[asn1(world.pki.ca)], moment=NOW, revocation_mode="soft-fail"
    )
    signed_data = cms.ContentInfo.load(signature)["content"]
    status = asyncio.run(
        async_validate_detached_cms(DOCUMENT, signed_data, context, key_usage_settings=KeyUsageConstraints())
    )
    assert (status.intact, status.valid, status.trusted) == (True, True, True)


def test_our_signatures_say_when_they_were_made(world):
    before = datetime.now(UTC).replace(microsecond=0)
    claimed = verify_document(DOCUMENT, ours("P-256")(world)).claimed_time
    assert before <= claimed <= datetime.now(UTC)
    assert verify_document(DOCUMENT, ours("P-256", TIME)(world)).claimed_time == TIME


# --- refused ----------------------------------------------------------------------------------------------------------


def certificate_attribute(**other):
    """A signing-certificate-v2 in which one part is not the signer's."""

    def make(world):
        chosen = {part: value(world) if callable(value) else value for part, value in other.items()}
        changed = signing_certificate(world.ec.certificate, **chosen)
        return world.ec.make(change={"signing_certificate_v2": attribute("signing_certificate_v2", changed)})

    return make


def changed(kind, *values):
    return forged("P-256", change={kind: attribute(kind, *values)})


def of_v1(world):
    """signing-certificate of RFC 2634, which hashes with SHA-1."""
    identifier = tsp.ESSCertID({"cert_hash": hashlib.sha1(asn1(world.ec.certificate).dump()).digest()})
    return attribute("signing_certificate", tsp.SigningCertificate({"certs": [identifier]}))


def key_identifier(world):
    return cms.SignerIdentifier("subject_key_identifier", asn1(world.ec.certificate).key_identifier)


def named_other(world):
    parsed = asn1(world.other)
    number = {"issuer": parsed.issuer, "serial_number": parsed.serial_number}
    return cms.SignerIdentifier("issuer_and_serial_number", cms.IssuerAndSerialNumber(number))


def indefinite(world):
    good = world.ec.make()
    assert good[:2] == b"\x30\x82"
    return b"\x30\x80" + good[4:] + b"\x00\x00"


def long_length(world):
    """BER: a length in more bytes than it needs."""
    good = world.ec.make()
    return b"\x30\x83\x00" + good[2:]


def constructed_string(world):
    """BER: the signature's OCTET STRING in two pieces."""
    good = world.ec.make()
    signature = cms.ContentInfo.load(good)["content"]["signer_infos"][0]["signature"].native
    pieces = b"".join(core.OctetString(piece).dump() for piece in (signature[:9], signature[9:]))
    return replaced(good, core.OctetString(signature).dump(), b"\x24" + bytes([len(pieces)]) + pieces)


def replaced(der, old, new):
    """One element exchanged for a longer one; the four lengths around it (SignedData down to SignerInfo) grow."""
    at = der.index(old)
    grown = len(new) - len(old)
    found = bytearray(der[:at] + new + der[at + len(old) :])
    position = 0
    while position < at:
        tag, first = found[position], found[position + 1]
        size = (first & 0x7F) if first & 0x80 else 0
        start = position + 2 + size
        length = int.from_bytes(found[position + 2 : start], "big") if size else first
        if start <= at < start + length:
            if size:
                found[position + 2 : start] = (length + grown).to_bytes(size, "big")
            else:
                assert length + grown < 0x80
                found[position + 1] = length + grown
            position = start if tag & 0x20 else at
        else:
            position = start + length
    return bytes(found)


def another_tool(world):
    options = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary]
    builder = pkcs7.PKCS7SignatureBuilder().set_data(DOCUMENT)
    return builder.add_signer(world.ec.certificate, world.ec.key, hashes.SHA256()).sign(Encoding.DER, options)


def countersigned(world):
    info = cms.ContentInfo.load(world.ec.make())["content"]["signer_infos"][0]
    return world.ec.make(unsigned=[attribute("counter_signature", info)])


def swapped_signature(world):
    """The attributes of one signature with the signature bytes of another."""
    info = cms.ContentInfo.load(world.ec.make())
    elsewhere = world.ec.make(change=world.ec.attributes(document=b"another document"))
    info["content"]["signer_infos"][0]["signature"] = cms.ContentInfo.load(elsewhere)["content"]["signer_infos"][0][
        "signature"
    ].native
    return info.dump(force=True)


def bombs(world):
    return world.ec.make(certificates=[world.ec.certificate] + [world.pki.ca] * 8)


def certificate_as_string(world):
    return b"\x04" + asn1(world.ec.certificate).dump()[1:]


def certificates_turned(world):
    """A SET OF whose elements do not stand in the order of DER."""
    certificates = [world.ec.certificate, world.pki.ca]
    first, second = sorted(asn1(each).dump() for each in certificates)
    return replaced(world.ec.make(certificates=certificates), first + second, second + first)


def huge(world):
    return world.ec.make(change={"signing_time": attribute("1.2.3.4", core.OctetString(bytes(70_000)))})


def wrong_key(world):
    return Forge(world.ec.certificate, ec.generate_private_key(ec.SECP256R1())).make()


def many(count):
    return forged("P-256", signers=count)


#: name: (how it is made, what the refusal says)
REFUSED = {
    # the whole
    "empty": (lambda world: b"", "not a CMS signature"),
    "rubbish": (lambda world: b"rubbish", "not a CMS signature"),
    "truncated": (lambda world: world.ec.make()[:-1], "not a CMS signature"),
    "trailing-byte": (lambda world: world.ec.make() + b"\x00", "bytes follow after its end"),
    "two-in-a-row": (lambda world: world.ec.make() * 2, "bytes follow after its end"),
    "BER-indefinite-length": (indefinite, "a length is indefinite"),
    "BER-long-length": (long_length, "not in its shortest form"),
    "BER-constructed-string": (constructed_string, "not a CMS signature"),
    "a-certificate-that-is-none": (
        lambda world: world.ec.make().replace(asn1(world.ec.certificate).dump(), certificate_as_string(world), 1),
        "certificate in it cannot be read",
    ),
    "a-certificate-twice": (
        lambda world: world.ec.make(certificates=[world.ec.certificate, world.pki.ca, world.pki.ca]),
        "certificate exactly once",
    ),
    "certificates-not-in-order": (certificates_turned, "one canonical form"),
    "too-large": (huge, "over the limit of 65536"),
    "not-signed-data": (
        lambda world: cms.ContentInfo({"content_type": "data", "content": DOCUMENT}).dump(),
        "not SignedData",
    ),
    "version-3": (forged("P-256", version="v3"), "its version is not 1"),
    # the content
    "attached-content": (forged("P-256", content=DOCUMENT), "must be detached"),
    "attached-empty-content": (forged("P-256", content=b""), "must be detached"),
    "content-of-another-type": (forged("P-256", content_type="signed_data"), "not of type id-data"),
    "lists-come-along": (
        lambda world: world.ec.make(crls=[cms.RevocationInfoChoice.load(world.pki.crl("ca"))]),
        "brings revocation lists",
    ),
    # digests
    "SHA-1": (forged("RSA-2048", digest="sha1"), "digest is not SHA-256"),
    "MD5": (forged("RSA-2048", digest="md5"), "digest is not SHA-256"),
    "SHA-512": (forged("P-256", digest="sha512"), "digest is not SHA-256"),
    "announces-another-digest": (forged("P-256", announced=[{"algorithm": "sha1"}]), "announces another digest"),
    "announces-two-digests": (
        forged("P-256", announced=[{"algorithm": "sha256"}, {"algorithm": "sha1"}]),
        "names 2 digests",
    ),
    "announces-no-digest": (forged("P-256", announced=[]), "names 0 digests"),
    # signers
    "no-signer": (many(0), "has 0 signers"),
    "two-signers": (many(2), "has 2 signers"),
    "signer-version-3": (forged("P-256", signer_version="v3"), "version of its signer is not 1"),
    "signer-named-by-key-identifier": (
        lambda world: world.ec.make(sid=key_identifier(world), signer_version="v3"),
        "not named by issuer and serial number",
    ),
    "signer-named-is-another": (
        lambda world: world.ec.make(sid=named_other(world)),
        "does not hold its signer's certificate exactly once",
    ),
    # signed and unsigned attributes
    "no-signed-attributes": (forged("P-256", bare=True), "no signed attributes"),
    "content-type-missing": (forged("P-256", without=["content_type"]), "content-type is missing"),
    "message-digest-missing": (forged("P-256", without=["message_digest"]), "message-digest is missing"),
    "signing-certificate-missing": (
        forged("P-256", without=["signing_certificate_v2"]),
        "signing-certificate-v2 is missing",
    ),
    "signing-certificate-of-v1-instead": (
        lambda world: world.ec.make(without=["signing_certificate_v2"], more=[of_v1(world)]),
        "1.2.840.113549.1.9.16.2.12 is not known here",
    ),
    "signing-certificate-of-v1-beside": (
        lambda world: world.ec.make(more=[of_v1(world)]),
        "1.2.840.113549.1.9.16.2.12 is not known here",
    ),
    "attribute-twice": (
        forged("P-256", more=[attribute("message_digest", hashlib.sha256(b"other").digest())]),
        "message-digest stands in it twice",
    ),
    "attribute-with-two-values": (
        changed("message_digest", hashlib.sha256(DOCUMENT).digest(), hashlib.sha256(b"other").digest()),
        "message-digest has not exactly one value",
    ),
    "attribute-with-no-value": (changed("signing_time"), "signing-time has not exactly one value"),
    "attribute-unknown": (
        forged("P-256", more=[attribute("1.2.3.4.5", core.OctetString(b"x"))]),
        "1.2.3.4.5 is not known here",
    ),
    "attributes-not-in-order": (forged("P-256", unordered=True), "not in DER order"),
    "unsigned-attribute": (
        forged("P-256", unsigned=[attribute("1.2.3.4.5", core.OctetString(b"x"))]),
        "attributes that are not signed",
    ),
    "countersignature": (countersigned, "attributes that are not signed"),
    "content-type-of-another": (changed("content_type", "signed_data"), "content-type attribute is not id-data"),
    "message-digest-of-another-document": (
        changed("message_digest", hashlib.sha256(b"another document").digest()),
        "changed after it was signed",
    ),
    "message-digest-too-short": (changed("message_digest", b"\x00" * 20), "changed after it was signed"),
    "signing-time-with-an-offset": (
        changed("signing_time", cms.Time("utc_time", core.UTCTime(contents=b"261122150157+0100"))),
        "signing time is not in the form",
    ),
    "signing-time-generalized-before-2050": (
        changed("signing_time", cms.Time("generalized_time", core.GeneralizedTime(TIME))),
        "signing time is not in the form",
    ),
    "signing-time-that-is-none": (
        changed("signing_time", cms.Time("utc_time", core.UTCTime(contents=b"269922150157Z"))),
        "signing time is not in the form",
    ),
    # which certificate signed
    "certificate-hash-of-another": (certificate_attribute(digest=bytes(32)), "names another certificate"),
    "certificate-serial-of-another": (certificate_attribute(serial=7), "names another certificate"),
    "certificate-issuer-of-another": (
        certificate_attribute(issuer=lambda world: asn1(world.pki.root).subject),
        "names another certificate",
    ),
    "certificate-hash-of-another-kind": (
        certificate_attribute(digest=bytes(20), algorithm="sha1"),
        "names another certificate",
    ),
    "certificate-named-twice": (
        lambda world: world.ec.make(
            change={
                "signing_certificate_v2": attribute(
                    "signing_certificate_v2",
                    tsp.SigningCertificateV2({"certs": [*signing_certificate(world.ec.certificate)["certs"]] * 2}),
                )
            }
        ),
        "names another certificate",
    ),
    "certificate-of-another-person-in-all-places": (
        lambda world: Forge(world.other, world.ec.key).make(),
        "the signature does not hold",
    ),
    "certificates-absent": (forged("P-256", certificates=[]), "brings 0 certificates"),
    "certificate-of-somebody-else-only": (
        lambda world: world.ec.make(certificates=[world.other]),
        "does not hold its signer's certificate exactly once",
    ),
    "certificate-twice": (
        lambda world: world.ec.make(certificates=[world.ec.certificate] * 2),
        "does not hold its signer's certificate exactly once",
    ),
    "certificates-nine": (bombs, "brings 9 certificates, not 1 to 8"),
    # algorithms and keys
    "algorithm-of-another-key": (
        forged("P-256", algorithm={"algorithm": "sha256_rsa"}),
        "does not fit the certificate's key",
    ),
    "algorithm-ECDSA-for-RSA": (
        forged("RSA-2048", algorithm={"algorithm": "sha256_ecdsa"}),
        "does not fit the certificate's key",
    ),
    "algorithm-with-SHA-1-over-SHA-256": (
        forged("P-256", algorithm={"algorithm": "sha1_ecdsa"}),
        "signature algorithm, or a parameter of it",
    ),
    "RSA-1024": (forged("RSA-1024"), "1024 bits"),
    "P-521": (forged("P-521"), "elliptic curve is not one that is accepted"),
    "secp256k1": (forged("secp256k1"), "elliptic curve is not one that is accepted"),
    "PSS-other-salt": (forged("RSA-2048", algorithm=pss(salt=20)), "signature algorithm, or a parameter of it"),
    "PSS-other-mask": (forged("RSA-2048", algorithm=pss(mgf="sha1")), "signature algorithm, or a parameter of it"),
    "PSS-other-digest": (forged("RSA-2048", algorithm=pss(digest="sha1")), "signature algorithm, or a parameter of it"),
    "PSS-said-PKCS1-meant": (
        lambda world: forged_scheme(world, said=pss(), done={"algorithm": "sha256_rsa"}),
        "the signature does not hold",
    ),
    "PKCS1-said-PSS-meant": (
        lambda world: forged_scheme(world, said={"algorithm": "sha256_rsa"}, done=pss()),
        "the signature does not hold",
    ),
    "another-key": (wrong_key, "the signature does not hold"),
    "signature-of-another-document": (swapped_signature, "the signature does not hold"),
    "signed-over-the-document-itself": (forged("P-256", signed_over=DOCUMENT), "the signature does not hold"),
    "without-binding-by-another-tool": (another_tool, "is not known here"),
}


def forged_scheme(world, *, said, done):
    made = world.rsa.make(algorithm=done)
    info = cms.ContentInfo.load(made)
    info["content"]["signer_infos"][0]["signature_algorithm"] = said
    return info.dump(force=True)


@pytest.mark.parametrize("case", REFUSED)
def test_refused_for_the_right_reason(world, case):
    make, reason = REFUSED[case]
    with pytest.raises(SignatureInvalid) as refused:
        verify_document(DOCUMENT, make(world))
    assert reason in refused.value.what


@pytest.mark.parametrize("document", [b"", DOCUMENT + b" ", DOCUMENT[:-1], DOCUMENT.upper()])
def test_another_document_is_refused(world, document):
    with pytest.raises(SignatureInvalid, match="changed after it was signed"):
        verify_document(document, world.ec.make())


def test_the_table_is_long_and_its_maker_makes_good_ones(world):
    assert len(REFUSED) >= 60
    for forge in (world.ec, world.rsa, world.forges["P-384"]):
        assert verify_document(DOCUMENT, forge.make()).certificate == forge.certificate
    assert signing_time().native == TIME
