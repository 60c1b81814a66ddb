"""Another reader of the same profile of CMS, on another library (asn1crypto): what `pki.cades` is compared with.

It takes a signature apart as a general library sees it, checks the profile value by value, puts the parts together
again with that library, and refuses what does not give the same bytes. Slower by an order, and written without DER of
its own.
"""

from __future__ import annotations

import functools
import hashlib
from datetime import UTC

from asn1crypto import algos, cms, core, parser, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.utils import CryptographyDeprecationWarning

from tests.support.cms_forge import BARE_SHA256, pss

_MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)
# The library writes NULL for the parameters of each digest; here there are none.
_BARE_PSS = bytes.fromhex(
    "303d06092a864886f70d01010a3030a00d300b0609608648016503040201"
    "a11a301806092a864886f70d010108300b0609608648016503040201a203020120"
)
_MANDATORY = {"content_type", "message_digest", "signing_certificate_v2"}


class Refused(Exception):
    """The signature is not accepted."""


def accepts(document, signature):
    """Whether a detached signature over a document is one of the profile, and holds."""
    try:
        _verify(document, signature)
    except (Refused, *_MALFORMED, x509.InvalidVersion, CryptographyDeprecationWarning):
        return False
    return True


def require(held):
    if not held:
        raise Refused


def _verify(document, signature):
    require(len(signature) <= 64 * 1024)
    require(parser.peek(signature) == len(signature))
    info = cms.ContentInfo.load(signature)
    require(info["content_type"].native == "signed_data")
    content = info["content"]
    _check_content(content)
    signer = content["signer_infos"][0]
    _check_signer_info(signer)
    require(content["digest_algorithms"][0].dump() == signer["digest_algorithm"].dump())
    certificates = [choice.chosen for choice in content["certificates"]]
    require(all(choice.name == "certificate" for choice in content["certificates"]))
    attributes = _rebuilt(signer["signed_attrs"])
    require(_assembled(certificates, signer, attributes) == signature)
    _check_algorithms(signer)
    certificate = _signer_certificate(certificates, signer)
    _check_attributes(attributes, document, certificate)
    _check_signature(signer, attributes, certificate)


def _assembled(certificates, signer, attributes):
    again = {
        "version": "v1",
        "sid": signer["sid"],
        "digest_algorithm": signer["digest_algorithm"],
        "signed_attrs": attributes,
        "signature_algorithm": signer["signature_algorithm"],
        "signature": signer["signature"].native,
    }
    body = {
        "version": "v1",
        "digest_algorithms": [signer["digest_algorithm"]],
        "encap_content_info": {"content_type": "data"},
        "certificates": [cms.CertificateChoices("certificate", each) for each in certificates],
        "signer_infos": [again],
    }
    return cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(body)}).dump()


def _check_content(content):
    require(content["version"].native == "v1")
    require(len(content["signer_infos"]) == 1)
    require(len(content["digest_algorithms"]) == 1)
    require(content["encap_content_info"]["content_type"].native == "data")
    inside = content["encap_content_info"]["content"]
    require(isinstance(inside, core.Void) or inside.native is None)
    require(1 <= len(content["certificates"]) <= 8)
    require(content["crls"].native is None)


def _check_signer_info(signer):
    require(signer["sid"].name == "issuer_and_serial_number")
    require(signer["version"].native == "v1")
    require(signer["signed_attrs"].native is not None)
    require(signer["unsigned_attrs"].native is None)


def _rebuilt(attributes):
    kinds = [attribute["type"].native for attribute in attributes]
    require(len(set(kinds)) == len(kinds))
    require(_MANDATORY <= set(kinds) <= {*_MANDATORY, "signing_time"})
    for attribute in attributes:
        require(len(attribute["values"]) == 1 and attribute["values"][0].native is not None)
    encoded = [attribute.dump(force=True) for attribute in attributes]
    require(encoded == sorted(encoded))
    return cms.CMSAttributes([cms.CMSAttribute.load(each, strict=True) for each in encoded])


def _check_algorithms(signer):
    require(signer["digest_algorithm"].dump() in _digests())
    require(signer["signature_algorithm"].dump() in _signatures())


@functools.cache
def _digests():
    return {algos.DigestAlgorithm({"algorithm": "sha256"}).dump(), BARE_SHA256}


@functools.cache
def _signatures():
    kinds = ("rsassa_pkcs1v15", "sha256_rsa", "sha256_ecdsa")
    made = [{"algorithm": kind} for kind in kinds] + [pss()]
    return {*(algos.SignedDigestAlgorithm(each).dump() for each in made), _BARE_PSS}


def _signer_certificate(certificates, signer):
    named = [
        each
        for each in certificates
        if cms.IssuerAndSerialNumber({"issuer": each.issuer, "serial_number": each.serial_number}).dump()
        == signer["sid"].chosen.dump()
    ]
    ders = [each.dump() for each in certificates]
    require(len(named) == 1 and len(set(ders)) == len(ders))
    for each in ders:
        require(x509.load_der_x509_certificate(each).serial_number > 0)
    return named[0]


def _check_attributes(attributes, document, certificate):
    values = {attribute["type"].native: attribute["values"][0] for attribute in attributes}
    require(values["content_type"].native == "data")
    require(values["message_digest"].native == hashlib.sha256(document).digest())
    require(values["signing_certificate_v2"].dump() in (_named(certificate, True), _named(certificate, False)))
    if "signing_time" in values:
        _check_time(values["signing_time"])


def _check_time(value):
    whole = value.native.astimezone(UTC).replace(microsecond=0)
    made = core.UTCTime(whole) if whole.year < 2050 else core.GeneralizedTime(whole)
    require(value.dump() == made.dump())


def _named(certificate, with_issuer):
    identifier = {"cert_hash": hashlib.sha256(certificate.dump()).digest()}
    if with_issuer:
        issuer = asn1_x509.GeneralName("directory_name", certificate.issuer)
        identifier["issuer_serial"] = {"issuer": [issuer], "serial_number": certificate.serial_number}
    return tsp.SigningCertificateV2({"certs": [tsp.ESSCertIDv2(identifier)]}).dump()


def _check_signature(signer, attributes, certificate):
    key = x509.load_der_x509_certificate(certificate.dump()).public_key()
    kind, value = signer["signature_algorithm"]["algorithm"].native, signer["signature"].native
    try:
        if isinstance(key, rsa.RSAPublicKey) and kind != "sha256_ecdsa":
            require(2048 <= key.key_size <= 8192)
            scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32) if kind == "rsassa_pss" else padding.PKCS1v15()
            key.verify(value, attributes.dump(), scheme, hashes.SHA256())
        else:
            require(isinstance(key, ec.EllipticCurvePublicKey) and kind == "sha256_ecdsa")
            require(key.curve.name in {"secp256r1", "secp384r1"})
            key.verify(value, attributes.dump(), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm) as error:
        raise Refused from error
