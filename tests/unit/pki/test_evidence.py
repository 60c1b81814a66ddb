"""Evidence of a repository verifies under its operator root, signed by a certificate that is made for this alone."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from pki import operator
from pki.errors import OperatorError, SignatureInvalid
from pki.evidence import EvidenceSigner, verify_evidence

NOW = datetime(2026, 11, 22, 14, tzinfo=UTC)
ROOT = operator.create_operator_root("Organização Exemplo", now=NOW)
SIGNER = operator.issue_evidence_signer(ROOT, NOW)
DOCUMENT = b'{"type":"delivery-evidence"}'
SIGNATURE = EvidenceSigner(SIGNER).sign_document(DOCUMENT, NOW)


def verify(document=DOCUMENT, signature=SIGNATURE, root=ROOT, pinned=None, moment=NOW):
    return verify_evidence(
        document, signature, root.certificate, root_fingerprint=pinned or root.fingerprint, moment=moment
    )


def test_it_verifies():
    assert verify() == SIGNER.certificate


def test_openssl_verifies_it_with_the_root_alone(tmp_path):
    (tmp_path / "root.pem").write_bytes(ROOT.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "evidence.json").write_bytes(DOCUMENT)
    (tmp_path / "evidence.p7s").write_bytes(SIGNATURE)
    done = subprocess.run(
        "openssl cms -verify -binary -purpose any -attime 1795356000 -inform DER "
        "-in evidence.p7s -content evidence.json -CAfile root.pem -out /dev/null",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_another_document_is_refused():
    with pytest.raises(SignatureInvalid):
        verify(document=DOCUMENT + b" ")


def test_another_operator_is_refused():
    other = operator.create_operator_root("Organização Exemplo", now=NOW)
    with pytest.raises(OperatorError):
        verify(root=other)
    with pytest.raises(OperatorError):
        verify(pinned=other.fingerprint)


def test_the_key_of_the_descriptor_signs_no_evidence():
    signature = EvidenceSigner(operator.issue_descriptor_signer(ROOT, NOW)).sign_document(DOCUMENT, NOW)
    with pytest.raises(OperatorError, match="not meant for this"):
        verify(signature=signature)


@pytest.mark.parametrize("moment", [NOW - timedelta(days=1), NOW + operator.SIGNER_LIFE + timedelta(days=1)])
def test_outside_of_its_time_it_is_refused(moment):
    with pytest.raises(OperatorError, match="not valid at that time"):
        verify(moment=moment)
