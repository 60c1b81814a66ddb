"""The operator's root and its signers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from pki import operator
from pki.errors import OperatorError
from pki.operator import Credential, create_operator_root, issue_descriptor_signer, issue_evidence_signer

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def root():
    return create_operator_root("Organização Exemplo", now=NOW)


def verify(chain, root, moment=NOW):
    return operator.verify_descriptor_signer(chain, root_fingerprint=root.fingerprint, moment=moment)


def test_a_signer_under_the_pinned_root_is_accepted(root):
    signer = issue_descriptor_signer(root, NOW)
    assert verify(signer.chain, root) == signer.certificate
    assert operator.organisation(signer.certificate) == "Organização Exemplo"


def test_another_root_with_the_same_name_is_refused(root):
    other = create_operator_root("Organização Exemplo", now=NOW)
    with pytest.raises(OperatorError, match="another root"):
        verify(issue_descriptor_signer(other, NOW).chain, root)


def test_the_pinned_root_under_a_foreign_signer_is_refused(root):
    other = create_operator_root("Organização Exemplo", now=NOW)
    leaf = issue_descriptor_signer(other, NOW).certificate
    with pytest.raises(OperatorError, match="not issued"):
        verify([leaf, root.certificate], root)


def test_each_signer_serves_its_own_purpose_only(root):
    with pytest.raises(OperatorError, match="not meant for this"):
        verify(issue_evidence_signer(root, NOW).chain, root)
    evidence = issue_evidence_signer(root, NOW)
    operator.verify_evidence_signer(evidence.chain, root_fingerprint=root.fingerprint, moment=NOW)


@pytest.mark.parametrize("days", [-1, 366 * 3])
def test_a_signer_is_refused_outside_its_time(root, days):
    with pytest.raises(OperatorError, match="not valid at that time"):
        verify(issue_descriptor_signer(root, NOW).chain, root, NOW + timedelta(days=days))


def test_the_root_itself_signs_nothing(root):
    with pytest.raises(OperatorError):
        verify([root.certificate], root)
    with pytest.raises(OperatorError):
        verify([root.certificate, root.certificate], root)


def test_a_signer_cannot_issue_others(root):
    signer = issue_descriptor_signer(root, NOW)
    below = operator._issue(Credential(signer.chain, signer.key), "Descriptor Signer", operator.DESCRIPTOR_SIGNER, NOW)
    with pytest.raises(OperatorError, match="may not issue"):
        verify(below.chain, root)


@pytest.mark.parametrize("length", [0, 1, 9])
def test_a_chain_of_another_length_is_refused(root, length):
    chain = (issue_descriptor_signer(root, NOW).chain * 5)[:length]
    with pytest.raises(OperatorError):
        verify(chain, root)


def test_what_is_no_fingerprint_is_refused(root):
    with pytest.raises(OperatorError, match="not a SHA-256"):
        operator.verify_descriptor_signer(issue_descriptor_signer(root, NOW).chain, root_fingerprint="ab", moment=NOW)


def crafted(root, *, organisation="Organização Exemplo", key=None, extensions=()):
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(operator.subject_name(organisation, "Descriptor Signer"))
        .issuer_name(root.certificate.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(hours=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return [builder.sign(root.key, hashes.SHA256()), root.certificate]


def certified(above, *extensions):
    """A credential whose issuer is `above`."""
    key = ec.generate_private_key(ec.SECP256R1())
    chain = crafted(above, key=key, extensions=extensions)
    return Credential((chain[0], *above.chain), key)


def test_a_chain_longer_than_the_root_allows_is_refused(root):
    any_ca = x509.BasicConstraints(ca=True, path_length=None)
    ca_usage = operator.key_usage(ca=True)
    first = certified(root, any_ca, ca_usage)
    verify(certified(first, END_ENTITY, USAGE, PURPOSE).chain, root)
    second = certified(first, any_ca, ca_usage)
    with pytest.raises(OperatorError, match="longer than its root allows"):
        verify(certified(second, END_ENTITY, USAGE, PURPOSE).chain, root)


END_ENTITY = x509.BasicConstraints(ca=False, path_length=None)
USAGE = operator.key_usage(ca=False)
PURPOSE = x509.ExtendedKeyUsage([operator.DESCRIPTOR_SIGNER])
TWO_PURPOSES = x509.ExtendedKeyUsage([operator.DESCRIPTOR_SIGNER, operator.EVIDENCE_SIGNER])
CA = x509.BasicConstraints(ca=True, path_length=0)


def test_the_crafted_one_is_good_when_nothing_is_missing(root):
    verify(crafted(root, extensions=[END_ENTITY, USAGE, PURPOSE]), root)


BAD = {
    "no purpose": {"extensions": [END_ENTITY, USAGE]},
    "a second purpose": {"extensions": [END_ENTITY, USAGE, TWO_PURPOSES]},
    "no key usage": {"extensions": [END_ENTITY, PURPOSE]},
    "a CA's key usage": {"extensions": [END_ENTITY, operator.key_usage(ca=True), PURPOSE]},
    "no basic constraints": {"extensions": [USAGE, PURPOSE]},
    "a CA": {"extensions": [CA, USAGE, PURPOSE]},
    "another organisation": {"organisation": "Outra", "extensions": [END_ENTITY, USAGE, PURPOSE]},
    "another curve": {"key": ec.generate_private_key(ec.SECP384R1()), "extensions": [END_ENTITY, USAGE, PURPOSE]},
}


@pytest.mark.parametrize("name", BAD)
def test_a_leaf_that_lacks_something_is_refused(root, name):
    with pytest.raises(OperatorError):
        verify(crafted(root, **BAD[name]), root)


def test_a_credential_survives_its_files_and_shows_no_key(root):
    read = Credential.from_pem(root.chain_pem(), root.key_pem(b"secret"), b"secret")
    assert read.chain == root.chain
    assert "key" not in repr(read)
    assert b"ENCRYPTED" in root.key_pem(b"secret")


def test_a_wrong_passphrase_or_a_key_of_another_chain_is_refused(root):
    with pytest.raises(OperatorError):
        Credential.from_pem(root.chain_pem(), root.key_pem(b"secret"), b"wrong")
    other = create_operator_root("Organização Exemplo", now=NOW)
    with pytest.raises(OperatorError):
        Credential.from_pem(root.chain_pem(), other.key_pem(b"secret"), b"secret")


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, "a\nb"])
def test_an_organisation_that_no_certificate_can_hold_is_refused(name):
    with pytest.raises(OperatorError):
        create_operator_root(name)
