"""ASiCManifest.xml (ETSI EN 319 162-1 annex A.4): the names and SHA-256 of all data objects, in one form of XML.

It is only ever written: who verifies writes it again from the files, and compares. No XML is parsed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Final

NAME: Final = "META-INF/ASiCManifest.xml"
SIGNATURE_NAME: Final = "META-INF/signature.p7s"
_ASIC: Final = "http://uri.etsi.org/02918/v1.2.1#"
_XMLDSIG: Final = "http://www.w3.org/2000/09/xmldsig#"
_SHA256: Final = "http://www.w3.org/2001/04/xmlenc#sha256"
_TYPES: Final = {
    ".json": "application/json",
    ".p7s": "application/pkcs7-signature",
    ".pem": "application/x-pem-file",
    ".ocsp": "application/ocsp-response",
    ".tst": "application/vnd.etsi.timestamp-token",
    ".txt": "text/plain",
}


def write(data_objects: Mapping[str, bytes]) -> bytes:
    """The manifest of these files. Names and types have no character that XML would write otherwise."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<asic:ASiCManifest xmlns:asic="{_ASIC}" xmlns:ds="{_XMLDSIG}">',
        f'  <asic:SigReference URI="{SIGNATURE_NAME}" MimeType="application/pkcs7-signature"/>',
    ]
    for name, data in data_objects.items():
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        lines += [
            f'  <asic:DataObjectReference URI="{name}" MimeType="{_type(name)}">',
            f'    <ds:DigestMethod Algorithm="{_SHA256}"/>',
            f"    <ds:DigestValue>{digest}</ds:DigestValue>",
            "  </asic:DataObjectReference>",
        ]
    lines.append("</asic:ASiCManifest>")
    return "".join(f"{line}\n" for line in lines).encode()


def _type(name: str) -> str:
    return _TYPES.get(name[name.rfind(".") :] if "." in name else "", "application/octet-stream")
