"""Everything that this room raises.

    ProtocolError
    ├── Malformed              the bytes are not what the format demands
    │   └── LimitExceeded      … because a named limit is passed
    ├── SignatureInvalid       a signature does not verify
    ├── DecryptionFailed       a sealed object does not open under this key and context
    │   └── WrongPassphrase    … a keystore does not open under this passphrase
    ├── BindingMismatch        authentic, but bound to another request, session, letter or person
    ├── OutOfTime              expired, not yet valid, or beyond the allowed clock skew
    └── ChainBroken            a mailbox does not extend what its owner has already seen

However bad the input is, a public function of this room ends in one of these. Messages never contain secrets.
"""

from __future__ import annotations


class ProtocolError(Exception):
    """Base of every refusal of this room."""


class Malformed(ProtocolError):
    """The bytes are not a well-formed, deterministic object of the expected kind."""


class LimitExceeded(Malformed):
    """A named limit (size, count, depth) is passed."""


class SignatureInvalid(ProtocolError):
    """A signature does not verify under the expected key."""


class DecryptionFailed(ProtocolError):
    """A sealed object does not open: wrong key, wrong context, or changed bytes."""


class WrongPassphrase(DecryptionFailed):
    """A keystore does not open: the passphrase is wrong or the file was changed."""


class BindingMismatch(ProtocolError):
    """An authentic object is bound to something else than what it is used for."""


class OutOfTime(ProtocolError):
    """A moment lies outside of the allowed window."""


class ChainBroken(ProtocolError):
    """A mailbox chain does not connect to what was seen before."""

    def __init__(self, message: str, seen: bytes | None = None, shown: bytes | None = None) -> None:
        """`seen` and `shown` are the signed heads (COSE_Sign1) that contradict each other, where there are two."""
        super().__init__(message)
        self.seen = seen
        self.shown = shown
