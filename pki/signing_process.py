"""The signing process: `python -m pki.signing_process`, started by `signers.Card` and by nothing else.

It loads one PKCS#11 module, keeps one session and answers `open`, `certificates`, `login` and `sign` until its parent
closes the pipe. The PIN is here only while `C_Login` runs.
"""

from __future__ import annotations

from dataclasses import asdict

from pki.tokens import token
from pki.tokens.profiles import CardKeyUse
from pki.tokens.serve import TokenFailure, serve
from pki.tokens.wire import Message


class _Process:
    def __init__(self) -> None:
        self._token: token.Token | None = None

    def list(self, request: Message) -> Message:
        return {"tokens": [asdict(info) for info in token.tokens(token.load(request["module"]))]}

    def open(self, request: Message) -> Message:
        library = token.load(request["module"])
        wanted = request["label"]
        found = [info for info in token.tokens(library) if wanted in (None, info.label)]
        if not found:
            raise TokenFailure("NO_CARD", "no card in any reader" if wanted is None else f"none is called {wanted}")
        if len(found) > 1:
            labels = ", ".join(info.label for info in found)
            raise TokenFailure("NO_CARD", f"there are several, say which: {labels}")
        self._token = token.Token(library, found[0])
        return asdict(self._token.info)

    def certificates(self, _request: Message) -> Message:
        return {"certificates": [list(found) for found in self._opened().certificates()]}

    def login(self, request: Message) -> Message:
        self._opened().login(request["pin"])
        return {}

    def sign(self, request: Message) -> Message:
        return {"signature": self._opened().sign(CardKeyUse(request["use"]), request["data"])}

    def _opened(self) -> token.Token:
        if self._token is None:
            raise TokenFailure("NO_CARD", "no card is open")
        return self._token


def main() -> None:
    """Serve until the pipe closes."""
    process = _Process()
    serve(
        {
            "list": process.list,
            "open": process.open,
            "certificates": process.certificates,
            "login": process.login,
            "sign": process.sign,
        }
    )


if __name__ == "__main__":
    main()
