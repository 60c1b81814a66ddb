"""Everything that this room raises, in one tree.

    PkiError
    ├── CardError                 a card or its reader
    │   ├── NoModule              the PKCS#11 library is missing or does not load
    │   ├── NoCard                no reader, no card in it, or not the card that was asked for
    │   ├── SeveralCards          more than one, and nothing says which
    │   ├── WrongPin              the card refused the PIN
    │   ├── PinLocked             too many wrong PINs
    │   ├── PinRequired           the card wants a PIN and none was offered
    │   ├── PinCancelled          the dialog of the reader or the driver was closed without a PIN
    │   ├── CardRemoved           it was there when we began
    │   ├── CertificateMissing    the card has no such certificate or key
    │   ├── NoMechanism           the card offers no way of signing that is accepted here
    │   ├── KeyMismatch           what the card signed is not of the key that its certificate names
    │   └── SigningFailed         anything else that ended a signature, the signing process included
    ├── CertificateError          a certificate cannot be used as an identity
    │   └── PathInvalid           path validation did not answer VALID (carries the whole answer)
    ├── SignatureInvalid          a CMS signature is malformed or does not hold
    ├── TrustStoreError           the local trust store cannot be read, or an import is refused
    ├── RevocationUnavailable     a CRL could not be had, or what came is not a good one
    ├── OperatorError             the operator's root or what it issued
    └── TestCaError               the CA for development and tests, and its virtual cards

Rules: every message says what happened, why it matters and what to do next, each in one sentence. Exceptions of
libraries never leave this room; they are the `__cause__`. No message holds a PIN, a passphrase or a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pki.verdict import PathResult


class PkiError(Exception):
    """A refusal of this room: `what` happened, `why` it matters, what to do next (`action`)."""

    def __init__(self, what: str, why: str = "", action: str = "") -> None:
        super().__init__(" ".join(part for part in (what, why, action) if part))
        self.what = what
        self.why = why
        self.action = action


class CardError(PkiError):
    """A card, its reader or its driver could not do what was asked."""


class NoModule(CardError):
    """The PKCS#11 library that speaks to the card is missing or does not load."""


class NoCard(CardError):
    """No reader, no card in it, or not the card that was asked for."""


class SeveralCards(CardError):
    """There is more than one card, and nothing says which is meant."""


class WrongPin(CardError):
    """The card refused the PIN. `final_try`: True when the card says that one try is left, None when it is silent."""

    def __init__(self, what: str, why: str = "", action: str = "", *, final_try: bool | None = None) -> None:
        super().__init__(what, why, action)
        self.final_try = final_try


class PinLocked(CardError):
    """The card takes no PIN any more until it is unblocked."""


class PinRequired(CardError):
    """The card wants a PIN and the caller gave no way to ask for it."""


class PinCancelled(CardError):
    """Somebody closed the PIN dialog of the reader or the driver, or it ran out of time."""


class CardRemoved(CardError):
    """The card was there when we began and is there no longer."""


class CertificateMissing(CardError):
    """The card has no certificate, or no key, for the use that was asked for."""


class NoMechanism(CardError):
    """The card offers no way of signing with SHA-256 that is accepted here."""


class KeyMismatch(CardError):
    """The card's signature does not hold under the certificate that the card shows."""


class SigningFailed(CardError):
    """The card, its driver or the signing process ended without a signature."""


class CertificateError(PkiError):
    """A certificate cannot be read as, or is not, the identity that is needed."""


class PathInvalid(CertificateError):
    """Path validation did not answer VALID. `result` holds the verdict, the reason and the path."""

    def __init__(self, result: PathResult, what: str, why: str = "", action: str = "") -> None:
        super().__init__(what, why, action)
        self.result = result


class SignatureInvalid(PkiError):
    """A CMS signature is not of the one form that we accept, or does not hold for the document."""


class TrustStoreError(PkiError):
    """The local trust store cannot be read or written, or an import is refused."""


class RevocationUnavailable(PkiError):
    """A CRL could not be fetched, or what was fetched is not a good CRL of that issuer."""


class OperatorError(PkiError):
    """The operator's root, or a certificate said to be issued under it, is not acceptable."""


class TestCaError(PkiError):
    """The CA for development and tests, or a virtual card, could not be made, opened or used."""

    __test__ = False  # the name begins like a test's: pytest must not collect it
