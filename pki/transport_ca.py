"""The operator's CA for TLS: the certificates that the broker and the database show to whoever connects.

It is apart from the operator root: whoever holds a server's key can listen on a wire, and sign nothing that people
trust. Clients get its certificate with their broker account; nobody else needs it.

    root = create_transport_root("Organização Exemplo")
    broker = issue_server(root, ["broker.example", "127.0.0.1"])

Rules: P-256, TLS server and client use (members of a cluster are both to each other), names in the subject alternative
name alone (RFC 9525 section 2); a CA that may issue leaves and nothing else.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki.errors import OperatorError
from pki.operator import ROOT_LIFE, Credential, certificate_builder, key_usage, organisation, subject_name

#: Short enough that some clients' limits (825 days) are kept, long enough that a yearly renewal is never late.
SERVER_LIFE: Final = timedelta(days=800)
HOSTS_MAX: Final = 32
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST: Final = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")


def create_transport_root(operator: str, *, now: datetime | None = None) -> Credential:
    """A new CA for TLS, in the name of `operator` (1 to 64 characters)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = subject_name(operator, "Transport CA")
    certificate = (
        certificate_builder(name, name, key, key, now or datetime.now(UTC), ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(ca=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Credential((certificate,), key)


def issue_server(root: Credential, hosts: Sequence[str], *, now: datetime | None = None) -> Credential:
    """A certificate for a server that is reached by these host names and addresses. Raises OperatorError for others."""
    if not 0 < len(hosts) <= HOSTS_MAX:
        raise _refused(f"{len(hosts)} names")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = subject_name(organisation(root.certificate), "Server")
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        certificate_builder(subject, root.certificate.subject, key, root.key, now or datetime.now(UTC), SERVER_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(ca=False), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .sign(root.key, hashes.SHA256())
    )
    return Credential((certificate, *root.chain), key)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not _HOST.fullmatch(host):
        raise _refused(repr(host))
    return x509.DNSName(host)


def _refused(what: str) -> OperatorError:
    return OperatorError(
        f"No certificate can be made for {what}.",
        "Whoever connects compares the name in the certificate with the one that they asked for.",
        f"Give 1 to {HOSTS_MAX} host names in lower case, or addresses.",
    )
