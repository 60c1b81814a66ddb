"""What the lists and answers at hand say about one certificate, read without an engine.

Used for the date and reason of a revocation, and as the last word before VALID: whoever is named as revoked is revoked,
whatever an engine made of it. Only the data that `authentic` let through is read here.

A certificate on hold counts as revoked until a delta list takes it off. Where an entry names an invalidity date (RFC
5280 section 5.3.2) earlier than the revocation, that one counts: the key may have been in other hands since.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.x509 import ocsp

from pki.authentic import Answer, Crl, Evidence, Path, is_indirect, same_name
from pki.identity import display_name
from pki.verdict import Judgement, Verdict

UNREADABLE_REASON: Final = "reason unreadable"


@dataclass(frozen=True, slots=True)
class Entry:
    """Since when and why a certificate is revoked."""

    since: datetime
    reason: str  #: CRLReason (RFC 5280 section 5.3.1)

    def judgement(self, certificate: x509.Certificate) -> Judgement:
        """The verdict with its reason, for people."""
        name = display_name(certificate.subject)
        detail = f"{name} was revoked on {self.since:%Y-%m-%d %H:%M:%S} UTC, {self.reason}"
        return Judgement(Verdict.REVOKED, detail, self.since, self.reason)


def first_revoked(path: Path, evidence: Evidence, moment: datetime) -> Judgement | None:
    """The verdict on the certificate nearest to the leaf that is named as revoked at `moment`, None when none is."""
    for certificate in path[:-1]:
        entry = entry_for(certificate, evidence.crls, evidence.answers)
        if entry is not None and entry.since <= moment:
            return entry.judgement(certificate)
    return None


def entry_for(certificate: x509.Certificate, crls: Iterable[Crl], answers: Sequence[Answer] = ()) -> Entry | None:
    """The earliest entry about a certificate in its issuer's own lists and in OCSP answers."""
    held: list[tuple[Entry, datetime]] = []
    found = [_answered(answer.response) for answer in answers if answer.certificate == certificate]
    released: list[datetime] = []
    for crl in crls:
        if is_indirect(crl) or not same_name(crl.issuer, certificate.issuer):
            continue
        revoked = _listed(crl, certificate.serial_number)
        entry = None if revoked is None else _entry(revoked)
        if entry is None:
            continue
        if entry.reason == x509.ReasonFlags.remove_from_crl.value:
            released.append(crl.last_update_utc)
        elif entry.reason == x509.ReasonFlags.certificate_hold.value:
            held.append((entry, crl.last_update_utc))
        else:
            found.append(entry)
    found += [entry for entry, told in held if not any(told <= each for each in released)]
    return min((each for each in found if each), key=lambda entry: entry.since, default=None)


def _listed(crl: Crl, serial: int) -> x509.RevokedCertificate | None:
    if serial < 0:  # against RFC 5280 section 4.1.2.2, but they exist, and the library's look-up refuses them
        return next((revoked for revoked in crl if revoked.serial_number == serial), None)
    return crl.get_revoked_certificate_by_serial_number(serial)


def _answered(response: ocsp.OCSPResponse) -> Entry | None:
    since = response.revocation_time_utc
    if since is None:
        return None
    reason = response.revocation_reason or x509.ReasonFlags.unspecified
    return Entry(since, reason.value)


def _entry(revoked: x509.RevokedCertificate) -> Entry:
    since, reason = revoked.revocation_date_utc, x509.ReasonFlags.unspecified.value
    try:
        for extension in revoked.extensions:
            if isinstance(extension.value, x509.InvalidityDate):
                since = min(since, extension.value.invalidity_date_utc)
            elif isinstance(extension.value, x509.CRLReason):
                reason = extension.value.reason.value
    except ValueError:
        reason = UNREADABLE_REASON  # the date stands in the entry itself: the certificate is revoked all the same
    return Entry(since, reason)
