"""A CA hierarchy shaped like the Portuguese state's, for development and tests.

    ECRaizEstado TEST
    └── Cartão de Cidadão TEST 001
        ├── EC de Autenticação do Cartão de Cidadão TEST 0001                  → authentication certificates
        └── EC de Assinatura Qualificada do Cartão de Cidadão TEST 0001 → signature certificates

Rules: every name says TEST; keys lie on disk only as encrypted PKCS#8; every CA publishes a CRL, which is made anew at
every revocation; several processes may use a folder, since every change to its book is made under a lock.

Certificates have the profile of the real ones: citizens are named by given name, surname and civil number; each
certificate says where its list is, where one may ask about it (OCSP, see `test_responder`) and, a citizen's, where the
deltas to that list are. The citizens' lists name their distribution point, as the state's, which are split into parts.

    ca = TestCa.create(folder, "http://127.0.0.1:8080", passphrase)
    ca.issue_card_certificates(Holder.named("Maria Conceição Reis"), authentication_key, signature_key)
    ca.revoke(serial, x509.ReasonFlags.key_compromise)

The folder: `keys/*.pem` (encrypted), `certificates/*.pem`, `crls/*.crl` (served to everybody), `issued.json`.
"""

from __future__ import annotations

import fcntl
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from pki.errors import TestCaError
from pki.files import PRIVATE_FILE, private_folder, write_atomically
from pki.tokens.profiles import CardKeyUse

CRL_LIFE: Final = timedelta(days=7)
DELTA_LIFE: Final = timedelta(days=1)
CA_LIFE: Final = timedelta(days=12 * 365)
CARD_LIFE: Final = timedelta(days=5 * 365)
BACKDATED: Final = timedelta(days=1)  #: certificates begin a little earlier, so that clocks need not agree exactly
CIVIL_NUMBER_DIGITS: Final = 9
_STATE_FILE: Final = "issued.json"
_LOCK_FILE: Final = "issued.lock"
_QC_STATEMENTS: Final = x509.UnrecognizedExtension(
    x509.ObjectIdentifier("1.3.6.1.5.5.7.1.3"),
    # SEQUENCE of QcCompliance and QcSSCD (ETSI EN 319 412-5 sections 4.2.1 and 4.2.2)
    bytes.fromhex("3014 3008 0606 04008e460101 3008 0606 04008e460104"),
)
_POLICY_TEST_CARD: Final = x509.ObjectIdentifier("2.16.620.1.1.1.2.4.99.999")  #: under the state's arc, marked as test


@dataclass(frozen=True, slots=True)
class _Authority:
    key: str
    name: str
    parent: str | None
    citizens: bool = False  #: it issues to citizens, and publishes deltas


_AUTHORITIES: Final = (
    _Authority("root", "ECRaizEstado TEST", None),
    _Authority("card", "Cartão de Cidadão TEST 001", "root"),
    _Authority("authentication", "EC de Autenticação do Cartão de Cidadão TEST 0001", "card", citizens=True),
    _Authority("signature", "EC de Assinatura Qualificada do Cartão de Cidadão TEST 0001", "card", citizens=True),
)


@dataclass(frozen=True, slots=True)
class Holder:
    """A citizen as a card names one."""

    given_name: str
    surname: str
    civil_number: str

    @classmethod
    def named(cls, name: str, civil_number: str | None = None) -> Self:
        """A holder by the whole name; the last word is the surname. Without a number one is drawn."""
        given, _, surname = name.strip().rpartition(" ")
        if not given:
            raise TestCaError("A card needs a given name and a surname.", "", "Give both, with a space between them.")
        number = civil_number or f"BI{secrets.randbelow(10**CIVIL_NUMBER_DIGITS):0{CIVIL_NUMBER_DIGITS}}"
        return cls(given, surname, number)

    @property
    def name(self) -> str:
        """The whole name, as the common name shows it."""
        return f"{self.given_name} {self.surname}"


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A line of the CA's book. Times are ISO 8601, UTC."""

    serial: int
    authority: str
    holder: str
    civil_number: str
    use: str
    revoked_at: str | None = None
    reason: str | None = None
    in_complete_list: bool = False  #: False: if it is revoked, only the delta says so yet


@dataclass(frozen=True, slots=True)
class CardCertificates:
    """What one card gets."""

    authentication: x509.Certificate
    signature: x509.Certificate

    def of(self, use: CardKeyUse) -> x509.Certificate:
        """The certificate for that use."""
        return self.authentication if use is CardKeyUse.AUTHENTICATION else self.signature


class TestCa:
    """The four authorities with their keys. Not for anything but development and tests."""

    __test__: ClassVar[bool] = False  # the name begins like a test's: pytest must not collect it

    def __init__(
        self,
        folder: Path,
        crl_base_url: str,
        keys: dict[str, ec.EllipticCurvePrivateKey],
        certificates: dict[str, x509.Certificate],
        clock: Callable[[], datetime],
    ) -> None:
        self.folder = folder
        self.crl_base_url = crl_base_url.rstrip("/")
        self._keys = keys
        self._certificates = certificates
        self._clock = clock
        self._issued: list[IssuedCertificate] = []
        self._crl_number = 0
        self._base_number = 0  #: of the last complete lists

    # --- making and opening ---------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls, folder: Path, crl_base_url: str, passphrase: str, *, clock: Callable[[], datetime] | None = None
    ) -> Self:
        """Make the hierarchy, its keys and first CRLs. Raises TestCaError when the folder has one already."""
        if (folder / _STATE_FILE).exists():
            raise TestCaError(f"{folder} holds a test CA already.", "Its cards would lose their issuer.", "Open it.")
        ca = cls(folder, crl_base_url, {}, {}, clock or _now)
        try:
            ca._make_folders()
            for authority in _AUTHORITIES:
                ca._make_authority(authority, passphrase)
            ca._save()
            ca.publish_crls()
        except OSError as error:
            raise _unwritable(folder) from error
        return ca

    @classmethod
    def open(cls, folder: Path, passphrase: str, *, clock: Callable[[], datetime] | None = None) -> Self:
        """Open an existing test CA. Raises TestCaError for a wrong passphrase or a broken folder."""
        try:
            state = json.loads((folder / _STATE_FILE).read_text(encoding="utf-8"))
            certificates = {
                a.key: x509.load_pem_x509_certificate((folder / "certificates" / f"{a.key}.pem").read_bytes())
                for a in _AUTHORITIES
            }
            keys = {a.key: _load_key(folder / "keys" / f"{a.key}.pem", passphrase) for a in _AUTHORITIES}
            ca = cls(folder, state["crl_base_url"], keys, certificates, clock or _now)
            ca._take(state)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise TestCaError(
                f"The test CA in {folder} could not be opened.",
                "No virtual card can be issued or revoked without it.",
                "Check the folder and the passphrase.",
            ) from error
        return ca

    def _make_folders(self) -> None:
        private_folder(self.folder)
        private_folder(self.folder / "keys")
        for name in ("certificates", "crls"):
            (self.folder / name).mkdir(exist_ok=True)

    def _make_authority(self, authority: _Authority, passphrase: str) -> None:
        key = ec.generate_private_key(ec.SECP384R1())
        self._keys[authority.key] = key
        issuer = authority.parent or authority.key
        builder = self._builder(_authority_name(authority), key.public_key(), issuer)
        not_before = self._clock() - BACKDATED
        certificate = (
            _valid(builder, not_before, not_before + CA_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.CertificatePolicies([_policy(x509.ObjectIdentifier("2.5.29.32.0"))]), critical=False)
            .sign(self._keys[issuer], hashes.SHA384())
        )
        self._certificates[authority.key] = certificate
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase.encode()))
        write_atomically(self.folder / "keys" / f"{authority.key}.pem", pem, PRIVATE_FILE)
        write_atomically(self.folder / "certificates" / f"{authority.key}.pem", certificate.public_bytes(Encoding.PEM))

    # --- what others need of it -----------------------------------------------------------------------------------

    @property
    def root(self) -> x509.Certificate:
        """The root, which people import into their trust store."""
        return self._certificates["root"]

    @property
    def intermediates(self) -> list[x509.Certificate]:
        """The three CAs below the root."""
        return [self._certificates[a.key] for a in _AUTHORITIES if a.parent is not None]

    @property
    def certificate_files(self) -> list[Path]:
        """The PEM files of root and intermediates, for an import."""
        return [self.folder / "certificates" / f"{a.key}.pem" for a in _AUTHORITIES]

    @property
    def crl_folder(self) -> Path:
        """The CRLs as DER, to be served at the base URL."""
        return self.folder / "crls"

    @property
    def issued(self) -> list[IssuedCertificate]:
        """Every certificate that was issued to a citizen."""
        return list(self._issued)

    def authority(self, name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """Certificate and key of `root`, `card`, `authentication` or `signature`, for crafting bad input."""
        return self._certificates[name], self._keys[name]

    # --- issuing --------------------------------------------------------------------------------------------------

    def issue_card_certificates(
        self,
        holder: Holder,
        authentication_key: CertificatePublicKeyTypes,
        signature_key: CertificatePublicKeyTypes,
        *,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> CardCertificates:
        """The two certificates of a card. The times can be moved to make expired and not yet valid ones."""
        start = not_before or self._clock() - BACKDATED
        end = not_after or start + CARD_LIFE
        with self._book():
            return CardCertificates(
                self._issue(holder, CardKeyUse.AUTHENTICATION, authentication_key, start, end),
                self._issue(holder, CardKeyUse.SIGNATURE, signature_key, start, end),
            )

    def _issue(
        self,
        holder: Holder,
        use: CardKeyUse,
        key: CertificatePublicKeyTypes,
        not_before: datetime,
        not_after: datetime,
    ) -> x509.Certificate:
        authentication = use is CardKeyUse.AUTHENTICATION
        usage = _key_usage(digital_signature=authentication, content_commitment=not authentication)
        builder = (
            _valid(self._builder(_citizen_name(holder, use), key, use.value), not_before, not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.CertificatePolicies([self._card_policy()]), critical=False)
        )
        if authentication:
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        else:
            builder = builder.add_extension(_QC_STATEMENTS, critical=False)
        certificate = builder.sign(self._keys[use.value], hashes.SHA256())
        self._issued.append(
            IssuedCertificate(certificate.serial_number, use.value, holder.name, holder.civil_number, use.value)
        )
        return certificate

    def _card_policy(self) -> x509.PolicyInformation:
        """The policy of a card's certificates, with the address of its statement, as on real cards."""
        return x509.PolicyInformation(_POLICY_TEST_CARD, [f"{self.crl_base_url}/policy.html"])

    def _builder(self, subject: x509.Name, key: CertificatePublicKeyTypes, issuer: str) -> x509.CertificateBuilder:
        """What every certificate has: names, key, serial, key identifiers and where its CRL is."""
        issuer_key = self._keys[issuer].public_key()
        authority = next(a for a in _AUTHORITIES if a.key == issuer)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(_authority_name(authority))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key),
                critical=False,
            )
        )
        if subject == _authority_name(authority):
            return builder  # a root is not revoked by a list of its own
        if authority.citizens:
            freshest = x509.FreshestCRL([_distribution_point(self.delta_url(issuer))])
            builder = builder.add_extension(freshest, critical=False)
        places = {
            AuthorityInformationAccessOID.OCSP: self.ocsp_url(issuer),
            AuthorityInformationAccessOID.CA_ISSUERS: f"{self.crl_base_url}/{issuer}.cer",
        }
        access = [x509.AccessDescription(m, x509.UniformResourceIdentifier(url)) for m, url in places.items()]
        return builder.add_extension(
            x509.CRLDistributionPoints([_distribution_point(self.crl_url(issuer))]), critical=False
        ).add_extension(x509.AuthorityInformationAccess(access), critical=False)

    # --- revoking -------------------------------------------------------------------------------------------------

    def crl_url(self, authority: str) -> str:
        """Where the CRL of that authority is published."""
        return f"{self.crl_base_url}/{authority}.crl"

    def delta_url(self, authority: str) -> str:
        """Where the delta to that list is published."""
        return f"{self.crl_base_url}/{authority}-delta.crl"

    def ocsp_url(self, authority: str) -> str:
        """Where one may ask about a certificate of that authority."""
        return f"{self.crl_base_url}/ocsp/{authority}"

    def revoke(
        self,
        serial: int,
        reason: x509.ReasonFlags = x509.ReasonFlags.unspecified,
        when: datetime | None = None,
        *,
        in_delta: bool = False,
    ) -> IssuedCertificate:
        """Revoke a citizen's certificate and publish new CRLs. A second revocation keeps the first one's time.

        With `in_delta` only the deltas are new: they alone tell it, until the next complete lists.
        """
        with self._book():
            index = next((i for i, line in enumerate(self._issued) if line.serial == serial), None)
            if index is None:
                raise TestCaError(f"This test CA issued no certificate {serial:x}.", "", "Check the serial number.")
            line = self._issued[index]
            if line.revoked_at is None:
                moment = (when or self._clock()).astimezone(UTC).replace(microsecond=0)
                line = replace(line, revoked_at=moment.isoformat(), reason=reason.value)
                self._issued[index] = line
            self._publish(None, None, complete=not in_delta)
        return line

    def publish_crls(self, *, this_update: datetime | None = None, next_update: datetime | None = None) -> None:
        """Make and write a new CRL and delta of every authority. The times can be moved to make stale ones."""
        with self._book():
            self._publish(this_update, next_update, complete=True)

    def status(self, authority: str, serial: int) -> IssuedCertificate | None:
        """What the book says now of a certificate of that authority; None for one that it did not issue."""
        issued = [IssuedCertificate(**line) for line in self._read_book()["issued"]]
        below = (self._certificates[a.key] for a in _AUTHORITIES if a.parent == authority)
        authorities = [
            IssuedCertificate(each.serial_number, authority, each.subject.rfc4514_string(), "", "authority")
            for each in below
        ]
        return next((x for x in [*issued, *authorities] if (x.authority, x.serial) == (authority, serial)), None)

    def _publish(self, this_update: datetime | None, next_update: datetime | None, *, complete: bool) -> None:
        self._crl_number += 1
        start = this_update or self._clock()
        if complete:
            self._base_number = self._crl_number
            self._issued = [replace(line, in_complete_list=line.revoked_at is not None) for line in self._issued]
        for authority in _AUTHORITIES:
            if complete:
                self._write(f"{authority.key}.crl", self._crl(authority, start, next_update or start + CRL_LIFE))
                self._write(f"{authority.key}.cer", self._certificates[authority.key])
            if authority.citizens:
                self._write(
                    f"{authority.key}-delta.crl", self._delta(authority, start, next_update or start + DELTA_LIFE)
                )

    def _write(self, name: str, published: x509.CertificateRevocationList | x509.Certificate) -> None:
        write_atomically(self.crl_folder / name, published.public_bytes(Encoding.DER))

    def _crl(self, authority: _Authority, start: datetime, end: datetime) -> x509.CertificateRevocationList:
        lines = [line for line in self._issued if line.revoked_at is not None and line.in_complete_list]
        return self._signed(authority, self._list(authority, start, end), lines)

    def _delta(self, authority: _Authority, start: datetime, end: datetime) -> x509.CertificateRevocationList:
        lines = [line for line in self._issued if line.revoked_at is not None and not line.in_complete_list]
        builder = self._list(authority, start, end)
        builder = builder.add_extension(x509.DeltaCRLIndicator(self._base_number), critical=True)
        return self._signed(authority, builder, lines)

    def _list(self, authority: _Authority, start: datetime, end: datetime) -> x509.CertificateRevocationListBuilder:
        key = self._keys[authority.key].public_key()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(_authority_name(authority))
            .last_update(start)
            .next_update(end)
            .add_extension(x509.CRLNumber(self._crl_number), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key), critical=False)
        )
        if authority.citizens:
            builder = builder.add_extension(_scope(self.crl_url(authority.key)), critical=True)
        return builder

    def _signed(
        self, authority: _Authority, builder: x509.CertificateRevocationListBuilder, lines: list[IssuedCertificate]
    ) -> x509.CertificateRevocationList:
        for line in lines:
            if line.authority == authority.key:
                builder = builder.add_revoked_certificate(_revoked(line))
        return builder.sign(self._keys[authority.key], hashes.SHA384())

    @contextmanager
    def _book(self) -> Iterator[None]:
        """The CA's book, read anew and written at the end: several processes may issue and revoke at a time."""
        try:
            with (self.folder / _LOCK_FILE).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._take(self._read_book())
                yield
                self._save()
        except OSError as error:
            raise _unwritable(self.folder) from error

    def _read_book(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.folder / _STATE_FILE).read_text(encoding="utf-8"))
        return state

    def _take(self, state: dict[str, Any]) -> None:
        self._issued = [IssuedCertificate(**line) for line in state["issued"]]
        self._crl_number, self._base_number = int(state["crl_number"]), int(state["base_number"])

    def _save(self) -> None:
        state: dict[str, Any] = {
            "crl_base_url": self.crl_base_url,
            "crl_number": self._crl_number,
            "base_number": self._base_number,
            "issued": [asdict(line) for line in self._issued],
        }
        text = json.dumps(state, ensure_ascii=False, indent=2)
        write_atomically(self.folder / _STATE_FILE, text.encode(), PRIVATE_FILE)


def _now() -> datetime:
    return datetime.now(UTC)


def _load_key(path: Path, passphrase: str) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(path.read_bytes(), passphrase.encode())
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("not an elliptic curve key")
    return key


def _unwritable(folder: Path) -> TestCaError:
    return TestCaError(f"{folder} cannot be written.", "The test CA keeps its book there.", "Check its permissions.")


def _authority_name(authority: _Authority) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "PT"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SCEE TEST - Not the Portuguese State"),
            x509.NameAttribute(NameOID.COMMON_NAME, authority.name),
        ]
    )


def _citizen_name(holder: Holder, use: CardKeyUse) -> x509.Name:
    authentication = use is CardKeyUse.AUTHENTICATION
    unit = "Autenticação do Cidadão" if authentication else "Assinatura Qualificada do Cidadão"
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "PT"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Cartão de Cidadão TEST"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Cidadão Português"),
            x509.NameAttribute(NameOID.SURNAME, holder.surname),
            x509.NameAttribute(NameOID.GIVEN_NAME, holder.given_name),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, holder.civil_number),
            x509.NameAttribute(NameOID.COMMON_NAME, holder.name),
        ]
    )


def _valid(builder: x509.CertificateBuilder, start: datetime, end: datetime) -> x509.CertificateBuilder:
    return builder.not_valid_before(start).not_valid_after(end)


def _policy(oid: x509.ObjectIdentifier) -> x509.PolicyInformation:
    return x509.PolicyInformation(oid, None)


def _scope(url: str) -> x509.IssuingDistributionPoint:
    """One part of an authority's lists: what is found at that address."""
    return x509.IssuingDistributionPoint(
        full_name=[x509.UniformResourceIdentifier(url)],
        relative_name=None,
        only_contains_user_certs=False,
        only_contains_ca_certs=False,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )


def _distribution_point(url: str) -> x509.DistributionPoint:
    return x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)


def _key_usage(
    *,
    digital_signature: bool = False,
    content_commitment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=content_commitment,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _revoked(line: IssuedCertificate) -> x509.RevokedCertificate:
    builder = (
        x509.RevokedCertificateBuilder()
        .serial_number(line.serial)
        .revocation_date(datetime.fromisoformat(str(line.revoked_at)))
    )
    if line.reason is not None and line.reason != x509.ReasonFlags.unspecified.value:
        builder = builder.add_extension(x509.CRLReason(x509.ReasonFlags(line.reason)), critical=False)
    return builder.build()
