"""Makes detached signatures in which everything may be wrong, and which are well signed all the same.

    forge = Forge(certificate, key)
    forge.make()                                  # good
    forge.make(signer_version="v3")               # not good

The signature is made last, over what was chosen before, so that nothing is refused only because it does not verify.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

DOCUMENT = b'{"type":"letter","version":1}'
TIME = datetime(2026, 11, 22, 14, 1, 57, tzinfo=UTC)
BARE_SHA256 = bytes.fromhex("300b0609608648016503040201")
_HASHES = {"md5": hashes.MD5(), "sha1": hashes.SHA1(), "sha256": hashes.SHA256(), "sha512": hashes.SHA512()}


def asn1(certificate):
    return asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))


def attribute(kind, *values):
    return cms.CMSAttribute({"type": kind, "values": list(values)})


def signing_certificate(certificate, *, digest=None, issuer=None, serial=None, named=True, algorithm=None):
    """SigningCertificateV2 (RFC 5035), each part of which may be another certificate's."""
    parsed = asn1(certificate)
    identifier = {"cert_hash": digest or hashlib.sha256(parsed.dump()).digest()}
    if algorithm:
        identifier["hash_algorithm"] = {"algorithm": algorithm}
    if named:
        name = asn1_x509.GeneralName("directory_name", issuer or parsed.issuer)
        identifier["issuer_serial"] = {"issuer": [name], "serial_number": serial or parsed.serial_number}
    return tsp.SigningCertificateV2({"certs": [tsp.ESSCertIDv2(identifier)]})


def signing_time(moment=TIME):
    return cms.Time("utc_time", core.UTCTime(moment))


def pss(*, digest="sha256", mgf="sha256", salt=32):
    """RSASSA-PSS parameters with NULL in every digest (RFC 4055 section 3.1)."""
    return {
        "algorithm": "rsassa_pss",
        "parameters": algos.RSASSAPSSParams(
            {
                "hash_algorithm": {"algorithm": digest, "parameters": core.Null()},
                "mask_gen_algorithm": {
                    "algorithm": "mgf1",
                    "parameters": {"algorithm": mgf, "parameters": core.Null()},
                },
                "salt_length": salt,
            }
        ),
    }


@dataclass(frozen=True)
class Forge:
    """A signer with its certificate and key, which need not fit."""

    certificate: x509.Certificate
    key: Any

    def attributes(self, digest="sha256", document=DOCUMENT):
        """The four of CAdES-B-B, by kind."""
        return {
            "content_type": attribute("content_type", "data"),
            "message_digest": attribute("message_digest", hashlib.new(digest, document).digest()),
            "signing_certificate_v2": attribute("signing_certificate_v2", signing_certificate(self.certificate)),
            "signing_time": attribute("signing_time", signing_time()),
        }

    def sign(self, data, algorithm, digest):
        chosen = _HASHES[digest]
        if isinstance(self.key, rsa.RSAPrivateKey):
            if algorithm["algorithm"] != "rsassa_pss":
                return self.key.sign(data, padding.PKCS1v15(), chosen)
            parameters = algorithm["parameters"]
            mask = _HASHES[parameters["mask_gen_algorithm"]["parameters"]["algorithm"].native]
            scheme = padding.PSS(padding.MGF1(mask), parameters["salt_length"].native)
            return self.key.sign(data, scheme, _HASHES[parameters["hash_algorithm"]["algorithm"].native])
        return self.key.sign(data, ec.ECDSA(chosen))

    def make(
        self,
        *,
        change=None,
        without=(),
        more=(),
        digest="sha256",
        algorithm=None,
        unordered=False,
        certificates=None,
        sid=None,
        signer_version="v1",
        version="v1",
        content=None,
        content_type="data",
        unsigned=(),
        announced=None,
        signers=1,
        crls=None,
        bare=False,
        bare_digest=False,
        signed_over=None,
    ):
        """A ContentInfo in DER. `change` maps kinds of attributes to other attributes.

        `bare_digest`: SHA-256 without parameters. The library writes NULL on its own.
        """
        kinds = {**self.attributes(digest), **(change or {})}
        chosen = sorted([a for kind, a in kinds.items() if kind not in without] + list(more), key=lambda a: a.dump())
        signed = cms.CMSAttributes(chosen)
        if unordered:  # the library sorts what it is given: the bytes are put together here
            turned = b"".join(a.dump() for a in chosen[::-1])
            signed = cms.CMSAttributes.load(signed.dump()[: -len(turned)] + turned)
        scheme = "rsa" if isinstance(self.key, rsa.RSAPrivateKey) else "ecdsa"
        algorithm = algorithm or {"algorithm": f"{digest}_{scheme}"}
        digest_algorithm = algos.DigestAlgorithm({"algorithm": digest})
        if bare_digest:
            digest_algorithm = algos.DigestAlgorithm.load(BARE_SHA256)
        parsed = asn1(self.certificate)
        named = {"issuer": parsed.issuer, "serial_number": parsed.serial_number}
        info = {
            "version": signer_version,
            "sid": sid or cms.SignerIdentifier("issuer_and_serial_number", cms.IssuerAndSerialNumber(named)),
            "digest_algorithm": digest_algorithm,
            "signature_algorithm": algorithm,
            "signature": self.sign(signed_over or (DOCUMENT if bare else signed.dump()), algorithm, digest),
        }
        if not bare:
            info["signed_attrs"] = signed
        if unsigned:
            info["unsigned_attrs"] = list(unsigned)
        brought = [self.certificate] if certificates is None else certificates
        body = {
            "version": version,
            "digest_algorithms": announced if announced is not None else [digest_algorithm],
            "encap_content_info": {"content_type": content_type, **({} if content is None else {"content": content})},
            "signer_infos": [info] * signers,
        }
        if brought:
            body["certificates"] = [cms.CertificateChoices("certificate", asn1(c)) for c in brought]
        if crls:
            body["crls"] = crls
        return cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(body)}).dump()


class OurCard:
    """Signs as a card does, with the key of a forge."""

    def __init__(self, forge):
        self.forge = forge

    def certificate(self, use):
        return self.forge.certificate

    def sign(self, use, data):
        return self.forge.sign(data, {"algorithm": "by the key"}, "sha256")
