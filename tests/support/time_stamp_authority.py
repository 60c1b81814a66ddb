"""A time-stamp authority on loopback: `openssl ts` behind a small HTTP server, with a root of its own.

with TimeStampAuthority(folder) as authority:
    authority.url, authority.root_path, authority.root
"""

from __future__ import annotations

import subprocess
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.hierarchy import key_usage

POLICY = "1.2.3.4.1"
_CONFIG = f"""\
[tsa]
default_tsa = tsa1
[tsa1]
serial = serial
crypto_device = builtin
signer_cert = signer.pem
certs = root.pem
signer_key = signer.key
signer_digest = sha256
default_policy = {POLICY}
digests = sha256
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


class TimeStampAuthority:
    """`answers` holds what it said; while it is `down` it refuses, and says so in `refused`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers: list[bytes] = []
        self.down = False
        self.refused = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "serial").write_text("01\n")
        (folder / "tsa.cnf").write_text(_CONFIG)
        key = ec.generate_private_key(ec.SECP256R1())
        self.key = key
        root_key = ec.generate_private_key(ec.SECP256R1())
        self.root = make_certificate("Time Root", "Time Root", root_key, root_key, ca=True)
        usage = ExtendedKeyUsageOID.TIME_STAMPING
        signer = make_certificate("Time Stamping", "Time Root", key, root_key, usage=usage)
        self.root_path = folder / "root.pem"
        self.root_path.write_bytes(self.root.public_bytes(Encoding.PEM))
        (folder / "signer.pem").write_bytes(signer.public_bytes(Encoding.PEM))
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "signer.key").write_bytes(pem)

    def answer(self, question: bytes) -> bytes:
        (self.folder / "question").write_bytes(question)
        command = "openssl ts -reply -config tsa.cnf -section tsa1 -queryfile question -out answer"
        subprocess.run(command.split(), cwd=self.folder, check=True, capture_output=True)
        self.answers.append((self.folder / "answer").read_bytes())
        return self.answers[-1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> Self:
        authority, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                question = self.rfile.read(int(self.headers["Content-Length"]))
                with lock:
                    answer = b"" if authority.down else authority.answer(question)
                if authority.down:
                    authority.refused.set()
                self.send_response(503 if authority.down else 200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def make_certificate(subject, issuer, key, issuer_key, *, ca=False, usage=None, critical=True) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(key_usage(ca), critical=True)
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=critical)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
