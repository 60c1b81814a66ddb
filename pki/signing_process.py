"""The signing process: `python -m pki.signing_process`, started by `signers.Card` and by nothing else.

It loads one PKCS#11 module, keeps one session and answers the requests named in `main` until its parent closes the
pipe. The PIN is here only while `C_Login` runs.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pki.tokens import token
from pki.tokens.serve import TokenFailure, serve
from pki.tokens.wire import Message


class _Process:
    def __init__(self) -> None:
        self._token: token.Token | None = None

    def list(self, request: Message) -> Message:
        library = token.load(request["module"])
        return {"readers": token.readers(library), "tokens": [asdict(info) for info in token.tokens(library)]}

    def open(self, request: Message) -> Message:
        library = token.load(request["module"])
        self._token = token.Token(library, _the_one(library, request["label"], request["slot"]))
        return asdict(self._token.info)

    def certificates(self, _request: Message) -> Message:
        return {"certificates": [list(found) for found in self._opened().certificates()]}

    def mechanisms(self, _request: Message) -> Message:
        return {"mechanisms": self._opened().mechanisms()}

    def state(self, _request: Message) -> Message:
        return asdict(self._opened().state())

    def login(self, request: Message) -> Message:
        self._opened().login(request["pin"])
        return {}

    def sign(self, request: Message) -> Message:
        found = self._opened().sign(request["labels"], request["id"], request["data"], request["pin"])
        return {"pin_needed": True} if found is None else {"signature": found}

    def _opened(self) -> token.Token:
        if self._token is None:
            raise TokenFailure("NO_CARD", "no card is open")
        return self._token


def _the_one(library: Any, label: str | None, slot: int | None) -> token.TokenInfo:
    """The token of this label and slot, where they are given. Raises TokenFailure."""
    everything = token.tokens(library)
    found = [info for info in everything if label in (None, info.label) and slot in (None, info.slot)]
    if len(found) == 1:
        return found[0]
    shown = ", ".join(f"{info.label} (slot {info.slot})" for info in everything)
    if found:
        raise TokenFailure("SEVERAL_CARDS", shown)
    if everything:
        named = " in slot ".join(str(each) for each in (label, slot) if each is not None)
        raise TokenFailure("OTHER_CARD", f"{named} was asked for, there is {shown}")
    if not token.readers(library):
        raise TokenFailure("NO_READER")
    raise TokenFailure("NO_CARD")


def main() -> None:
    """Serve until the pipe closes."""
    process = _Process()
    serve(
        {
            "list": process.list,
            "open": process.open,
            "certificates": process.certificates,
            "mechanisms": process.mechanisms,
            "state": process.state,
            "login": process.login,
            "sign": process.sign,
        }
    )


if __name__ == "__main__":
    main()
