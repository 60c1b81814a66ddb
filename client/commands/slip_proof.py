"""Proof against a sender: a slip whose two shares are as they were signed for, and open nothing.

The file holds the slip with its signature, the signer's certificate and both shares. Whoever judges needs nothing else,
no home and no network: that the signature holds, that both shares are the ones to which the slip commits, and that its
line does not open with them, anybody can compute. Whose certificate it is, the state's roots tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cryptography.hazmat.primitives.serialization import Encoding

from client.context import Context
from client.errors import CheckFailed
from client.identity import Registry
from client.naming import letter_name
from client.opening import BrokenSlip
from client.state import files
from crypto_core import canonical_json, documents, limits, schema, sign_for
from crypto_core.commands import CertificateField
from crypto_core.documents import Slip
from crypto_core.errors import DecryptionFailed, Malformed, ProtocolError
from crypto_core.ids import RepositoryId, UserId, UserIdField
from crypto_core.schema import Size
from crypto_core.sign_for import ShareField
from pki import cades
from pki.errors import PkiError
from pki.identity import CertificateSummary, load_certificate, summary

PROOF_BYTES = 512 * limits.KIB


@dataclass(frozen=True, slots=True)
class SlipProof:
    """The file, as canonical JSON."""

    slip: Annotated[bytes, Size(2, limits.DOCUMENT_BYTES)]
    signature: Annotated[bytes, Size(1, limits.SIGNATURE_BYTES)]
    certificate: CertificateField
    reader: UserIdField
    share_1: ShareField
    share_2: ShareField


@dataclass(frozen=True, slots=True)
class CheatedSlip:
    """A proof that holds: who signed, for which letter."""

    letter_id: str
    signer: CertificateSummary


def keep(context: Context, registry: Registry, slip: Slip, broken: BrokenSlip, reader: UserId) -> Path:
    """Keeps the proof in this home and says where."""
    signer = registry.named(slip.from_).signing.public_bytes(Encoding.DER)
    proof = SlipProof(broken.slip.document, broken.slip.signature, signer, reader, broken.share_1, broken.share_2)
    path = context.home.slip_proofs / f"{slip.letter.hex()}-{slip.from_.user.hex()}.json"
    files.save_document(path, proof)
    return path


def judge(data: bytes) -> CheatedSlip:
    """Judges a proof from anywhere. Raises CheckFailed unless it shows that the slip's signer cheated."""
    try:
        proof = schema.from_document(SlipProof, canonical_json.decode(data, PROOF_BYTES))
        certificate = load_certificate(proof.certificate)
        cades.verify_document(proof.slip, proof.signature, certificate=certificate)
        slip = _slip(proof)
        try:
            sign_for.open_line(slip, proof.reader, proof.share_1, proof.share_2)
        except DecryptionFailed:
            return CheatedSlip(letter_name(slip.letter), summary(certificate))
    except (ProtocolError, PkiError) as error:
        raise CheckFailed(
            f"This proves nothing: {error}.",
            "What is in the file was not signed so, or was changed afterwards.",
            "Ask for the file again, from who read the letter.",
        ) from error
    raise CheckFailed("This proves nothing: the shares open what was signed for.", "The slip is as it should be.")


def _slip(proof: SlipProof) -> Slip:
    members: Any = canonical_json.decode(proof.slip)
    repository = members.get("repository") if type(members) is dict else None
    if type(repository) is not str:
        raise Malformed("a slip names its repository")
    return documents.decode(Slip, proof.slip, RepositoryId(repository))
