"""The operator's CA for TLS: what its certificates say, and that a real TLS handshake accepts and refuses by them."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pki.errors import OperatorError
from pki.operator import Credential
from pki.transport_ca import HOSTS_MAX, SERVER_LIFE, create_transport_root, issue_server

OPERATOR = "Organização Exemplo"


def handshake(root: Credential, server: Credential, host: str, folder: Path) -> str:
    """The TLS version that a client, which trusts `root` and asks for `host`, agrees on with `server`."""
    (folder / "server.pem").write_bytes(server.certificate.public_bytes(Encoding.PEM))
    (folder / "server.key").write_bytes(server.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(folder / "server.pem", folder / "server.key")
    ours = ssl.create_default_context(cadata=root.chain_pem().decode())
    left, right = socket.socketpair()

    def serve() -> None:
        try:
            theirs.wrap_socket(right, server_side=True).close()
        except OSError:
            right.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours.wrap_socket(left, server_hostname=host) as agreed:
            return agreed.version() or ""
    finally:
        left.close()
        thread.join()


@pytest.mark.parametrize("host", ["broker.example", "127.0.0.1", "::1"])
def test_a_client_accepts_a_server_by_each_of_its_names(tmp_path: Path, host: str) -> None:
    root = create_transport_root(OPERATOR)
    server = issue_server(root, ["broker.example", "127.0.0.1", "::1"])
    assert handshake(root, server, host, tmp_path) == "TLSv1.3"


def test_a_client_refuses_another_name(tmp_path: Path) -> None:
    root = create_transport_root(OPERATOR)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(root, issue_server(root, ["broker.example"]), "mongo.example", tmp_path)


def test_a_client_refuses_the_certificate_of_another_ca(tmp_path: Path) -> None:
    other = create_transport_root(OPERATOR)
    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
        handshake(create_transport_root(OPERATOR), issue_server(other, ["broker.example"]), "broker.example", tmp_path)


def test_a_client_refuses_an_outdated_certificate(tmp_path: Path) -> None:
    root = create_transport_root(OPERATOR)
    then = datetime.now(UTC) - SERVER_LIFE - timedelta(days=1)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(root, issue_server(root, ["broker.example"], now=then), "broker.example", tmp_path)


def test_the_ca_issues_leaves_and_nothing_else() -> None:
    root = create_transport_root(OPERATOR)
    constraints = root.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    leaf = issue_server(root, ["a.example", "192.0.2.7"]).certificate
    leaf.verify_directly_issued_by(root.certificate)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("a.example"), x509.IPAddress(ip_address("192.0.2.7"))]


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        ["a.example"] * (HOSTS_MAX + 1),
        [""],
        ["A.example"],
        ["a..example"],
        ["a b"],
        ["-a.example"],
        ["a.example\n"],
    ],
)
def test_no_certificate_for_what_is_no_host(hosts: list[str]) -> None:
    with pytest.raises(OperatorError):
        issue_server(create_transport_root(OPERATOR), hosts)
