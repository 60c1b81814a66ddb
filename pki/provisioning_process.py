"""The provisioning process: `python -m pki.provisioning_process`, started by `virtual_card` and by nothing else.

A process of its own, since SoftHSM reads `SOFTHSM2_CONF` once, when it is loaded.
"""

from __future__ import annotations

from pki.tokens import provisioning
from pki.tokens.serve import serve
from pki.tokens.wire import Message


def _create(request: Message) -> Message:
    return provisioning.create(request["module"], request["label"], request["pin"], request["key_kind"])


def _store(request: Message) -> Message:
    return provisioning.store(
        request["module"], request["label"], request["pin"], request["certificates"], request["issuers"]
    )


def main() -> None:
    """Serve until the pipe closes."""
    serve({"create": _create, "store": _store})


if __name__ == "__main__":
    main()
