"""Whose signature is it, and was that card good then? Judged from what is in the package and the roots that one trusts.

A certificate is judged for the moment that the repository recorded. Revocation data counts whatever it says of
"revoked", however old; for "not revoked" it must have been current when the package was made, or at the moment itself,
without any grace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from pki import identity
from pki.authentic import sift
from pki.path import PathResult, Verdict, find_path, validate_path
from pki.policy import Purpose, ValidationPolicy
from pki.registration import Registered
from pki.revocation_data import RevocationData
from pki.revocation_entries import first_revoked

_FOREVER: Final = timedelta(days=100 * 365)


@dataclass(frozen=True, slots=True)
class Judge:
    """What is known. `anchors` are trusted, everything else is not; `exported`: when the package was made."""

    anchors: Sequence[x509.Certificate]
    helpers: Sequence[x509.Certificate]
    revocation: RevocationData
    exported: datetime
    now: datetime
    policy: ValidationPolicy = field(default_factory=ValidationPolicy)

    def require_good(self, registered: Registered, moment: datetime) -> None:
        """Raises PathInvalid or CertificateError unless all registered certificates were good at `moment`."""
        paths = [self._judge(each, purpose, moment).require_valid().path for each, purpose in registered.certificates]
        if registered.signature is not None:
            identity.same_citizen(registered.authentication, registered.signature, (paths[0], paths[1]))

    def _judge(self, certificate: x509.Certificate, purpose: Purpose, moment: datetime) -> PathResult:
        policy = replace(self.policy, purpose=purpose)
        found = find_path(certificate, anchors=self.anchors, intermediates=self.helpers, moment=moment, policy=policy)
        if not found.valid:
            return found
        lasting = replace(policy, max_crl_staleness=_FOREVER)
        at_hand = sift(self.revocation, found.path, self.helpers, lasting, self.now)
        revoked = first_revoked(found.path, at_hand, found.moment)
        if revoked is not None:
            return replace(
                found,
                verdict=revoked.verdict,
                detail=revoked.detail,
                revoked_at=revoked.revoked_at,
                revocation_reason=revoked.revocation_reason,
            )
        strict = replace(policy, max_crl_staleness=policy.max_enclosed_staleness)
        later = self._validate(certificate, moment, self.exported, strict)
        if later.verdict is not Verdict.COULD_NOT_TELL:
            return later
        then = self._validate(certificate, moment, moment, strict)
        return then if then.verdict is not Verdict.COULD_NOT_TELL else later

    def _validate(
        self, certificate: x509.Certificate, moment: datetime, now: datetime, policy: ValidationPolicy
    ) -> PathResult:
        return validate_path(
            certificate,
            anchors=self.anchors,
            intermediates=self.helpers,
            revocation=self.revocation,
            moment=moment,
            now=now,
            policy=policy,
        )
