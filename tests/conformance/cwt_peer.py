"""The other side of the comparison: python-cwt, an independent implementation of COSE, spoken to through a pipe.

Runs in an environment of its own (`.venv/cwt-env`, made by bootstrap.sh), since it wants an older CBOR library. Reads
one JSON request a line from standard input, writes one JSON answer a line; byte strings are hexadecimal. It imports
nothing of this project.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from cwt import COSE, COSEKey, Recipient
from cwt.exceptions import CWTError

Request = dict[str, Any]


def cose_key(given: Request) -> Any:
    """A COSE key from a map whose names are texts of integers and whose byte strings are {"hex": …}."""
    return COSEKey.new({int(name): value(each) for name, each in given.items()})


def value(given: Any) -> Any:
    return bytes.fromhex(given["hex"]) if isinstance(given, dict) else given


def headers(given: Request) -> dict[int, Any]:
    return {int(name): value(each) for name, each in given.items()}


def sign1(request: Request) -> bytes:
    return COSE.new().encode_and_sign(
        bytes.fromhex(request["payload"]),
        cose_key(request["key"]),
        protected=headers(request["protected"]),
        external_aad=bytes.fromhex(request["external_aad"]),
    )


def encrypt0(request: Request) -> bytes:
    return COSE.new().encode_and_encrypt(
        bytes.fromhex(request["payload"]),
        cose_key(request["key"]),
        protected=headers(request["protected"]),
        unprotected=headers(request["unprotected"]),
        external_aad=bytes.fromhex(request["external_aad"]),
    )


def encrypt(request: Request) -> bytes:
    recipients = [
        Recipient.new(
            protected=headers(each["protected"]),
            recipient_key=cose_key(each["key"]),
            extra_info=bytes.fromhex(each["extra_info"]),
        )
        for each in request["recipients"]
    ]
    return COSE.new().encode_and_encrypt(
        bytes.fromhex(request["payload"]),
        cose_key(request["key"]),
        protected=headers(request["protected"]),
        unprotected=headers(request["unprotected"]),
        recipients=recipients,
    )


def decode(request: Request) -> bytes:
    return COSE.new().decode(
        bytes.fromhex(request["message"]),
        cose_key(request["key"]),
        external_aad=bytes.fromhex(request.get("external_aad", "")),
        extra_info=bytes.fromhex(request.get("extra_info", "")),
    )


VERBS = {"sign1": sign1, "encrypt0": encrypt0, "encrypt": encrypt, "decode": decode}


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": VERBS[request["do"]](request).hex()}
        except (CWTError, ValueError) as error:
            answer = {"refused": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
