"""A hierarchy of three certificates, made in milliseconds, whose every part a test can choose: for path validation.

pki = SmallPki()                     # root → CA → Maria, P-256, all good at NOW
pki.crl("root"), pki.crl("ca")       # DER
pki.answer()                         # an OCSP answer of the CA about Maria, DER
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from asn1crypto import core as asn1_core
from asn1crypto import crl as asn1_crl
from asn1crypto import ocsp as asn1_ocsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
YEAR = timedelta(days=365)
_RESPONDER = x509.UniformResourceIdentifier("http://127.0.0.1:1/ocsp")
_LIST = x509.UniformResourceIdentifier("http://127.0.0.1:1/list.crl")


def name(common_name):
    parts = [(NameOID.COMMON_NAME, common_name), (NameOID.COUNTRY_NAME, "PT")]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def usage(*allowed):
    kinds = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    kinds += ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    return x509.KeyUsage(**{kind: kind in allowed for kind in kinds})


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


def weakly_signed(certificate, issuer_key, digest):
    """The same RSA-signed certificate with a signature over SHA-1 or MD5, which makers of certificates refuse to do."""
    parsed = asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))
    algorithm = {"algorithm": f"{digest.name}_rsa", "parameters": asn1_core.Null()}
    parsed["tbs_certificate"]["signature"] = algorithm
    parsed["signature_algorithm"] = algorithm
    parsed["signature_value"] = issuer_key.sign(parsed["tbs_certificate"].dump(force=True), padding.PKCS1v15(), digest)
    return x509.load_der_x509_certificate(parsed.dump(force=True))


def weakly_signed_list(crl, issuer_key, digest):
    """The same list in DER, RSA-signed over SHA-1 or MD5."""
    parsed = asn1_crl.CertificateList.load(crl)
    algorithm = {"algorithm": f"{digest.name}_rsa", "parameters": asn1_core.Null()}
    parsed["tbs_cert_list"]["signature"] = algorithm
    parsed["signature_algorithm"] = algorithm
    signed = parsed["tbs_cert_list"].dump(force=True)
    parsed["signature"] = issuer_key.sign(signed, padding.PKCS1v15(), digest)
    return parsed.dump(force=True)


def weakly_signed_answer(answer, issuer_key, digest):
    """The same OCSP answer in DER, RSA-signed over SHA-1 or MD5."""
    parsed = asn1_ocsp.OCSPResponse.load(answer)
    basic = parsed["response_bytes"]["response"].parsed
    basic["signature_algorithm"] = {"algorithm": f"{digest.name}_rsa", "parameters": asn1_core.Null()}
    basic["signature"] = issuer_key.sign(basic["tbs_response_data"].dump(), padding.PKCS1v15(), digest)
    made = {"response_type": "basic_ocsp_response", "response": asn1_core.ParsableOctetString(basic.dump(force=True))}
    return asn1_ocsp.OCSPResponse({"response_status": "successful", "response_bytes": made}).dump()


class SmallPki:
    """Root, CA and a citizen. Keys may be given; the rest is chosen by each call."""

    def __init__(self, *, root_key=None, ca_key=None, ca_extensions=(), leaf_end=NOW + YEAR):
        self.keys = {"root": root_key or new_key(), "ca": ca_key or new_key(), "maria": new_key()}
        root_name, ca_name = name("Root"), name("CA")
        ca_usage = (usage("key_cert_sign", "crl_sign"), True)
        basic = (x509.BasicConstraints(ca=True, path_length=None), True)
        self.root = self.issue("root", root_name, self.keys["root"].public_key(), [basic, ca_usage], issuer=root_name)
        self.ca = self.issue(
            "root", ca_name, self.keys["ca"].public_key(), [basic, ca_usage, *ca_extensions], issuer=root_name
        )
        self.leaf = self.issue(
            "ca",
            name("Maria Conceição Reis"),
            self.keys["maria"].public_key(),
            [(usage("digital_signature"), True)],
            end=leaf_end,
        )

    def issue(self, by, subject, key, extensions=(), *, issuer=None, start=NOW - YEAR, end=NOW + YEAR, sign_with=None):
        """A certificate with key identifiers, a distribution point and an OCSP address."""
        signing_key = sign_with or self.keys[by]
        access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, _RESPONDER)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or (self.ca if by == "ca" else self.root).subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
            .add_extension(x509.AuthorityInformationAccess([access]), critical=False)
            .add_extension(x509.CRLDistributionPoints([x509.DistributionPoint([_LIST], None, None, None)]), False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(signing_key, hashes.SHA256())

    def crl(self, by, *, revoked=(), start=NOW - HOUR, end=NOW + DAY, number=1, extensions=(), key=None):
        """A list of "root" or "ca" in DER; `revoked` are (certificate, when, entry extensions...)."""
        issuer = {"root": self.root, "ca": self.ca}[by]
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.subject)
            .last_update(start)
            .next_update(end)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        for certificate, when, *others in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(when)
            for other in others:
                entry = entry.add_extension(other, critical=False)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(key or self.keys[by], hashes.SHA256()).public_bytes(Encoding.DER)

    def answer(
        self,
        *,
        about=None,
        issuer=None,
        status=ocsp.OCSPCertStatus.GOOD,
        revoked_at=None,
        reason=None,
        start=NOW - HOUR,
        end=NOW + HOUR,
        responder=None,
        key=None,
        brings=(),
    ):
        """An OCSP answer in DER, of the CA itself or of another responder."""
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=about or self.leaf,
            issuer=issuer or self.ca,
            algorithm=hashes.SHA1(),
            cert_status=status,
            this_update=start,
            next_update=end,
            revocation_time=revoked_at,
            revocation_reason=reason,
        )
        if key is not None and responder is None:  # an impostor: the CA's name over another key
            responder = self.issue("ca", self.ca.subject, key.public_key(), issuer=self.ca.subject, sign_with=key)
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.NAME, responder or self.ca)
        if brings:
            builder = builder.certificates(list(brings))
        return builder.sign(key or self.keys["ca"], hashes.SHA256()).public_bytes(Encoding.DER)
