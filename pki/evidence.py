"""Evidence of a repository: signed with a key whose certificate stands under the operator root, for this use alone.

The signature has the form of a card's (see `cades`), so that `openssl cms -verify` checks it with the operator root as
the only trusted certificate. Its certificate carries the extended key usage `operator.EVIDENCE_SIGNER`, which no other
certificate of the operator has.

    signer = EvidenceSigner(operator.issue_evidence_signer(root))
    signature = signer.sign_document(document, now)
    verify_evidence(document, signature, root, root_fingerprint=pinned, moment=now)
"""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from pki import cades, operator
from pki.operator import Credential
from pki.tokens.profiles import CardKeyUse


class EvidenceSigner:
    """A key in memory that signs evidence."""

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    def certificate(self, use: CardKeyUse) -> x509.Certificate:  # noqa: ARG002 - it has one key, for one use
        """Its certificate."""
        return self._credential.certificate

    def sign(self, use: CardKeyUse, data: bytes) -> bytes:  # noqa: ARG002 - the same
        """ECDSA on P-256 over SHA-256 of the data."""
        return self._credential.key.sign(data, ec.ECDSA(hashes.SHA256()))

    def sign_document(self, document: bytes, now: datetime) -> bytes:
        """A detached signature in DER, with the certificates between it and the root."""
        return cades.sign_document(
            document, self, CardKeyUse.SIGNATURE, chain=self._credential.chain[1:-1], signing_time=now
        )


def verify_evidence(
    document: bytes, signature: bytes, root: x509.Certificate, *, root_fingerprint: str, moment: datetime
) -> x509.Certificate:
    """The signer's certificate, if evidence was signed under this operator root, which has the pinned fingerprint.

    `moment` is when the evidence says that it was made. Raises SignatureInvalid or OperatorError.
    """
    verified = cades.verify_document(document, signature)
    chain = (verified.certificate, *verified.other_certificates, root)
    return operator.verify_evidence_signer(chain, root_fingerprint=root_fingerprint, moment=moment)
