"""The citizen's card at work: which one of several, whether it is still valid, and signing.

A signature may take minutes, until a person has found the reader and typed a PIN. It is made in a process of its own
(see `pki.signers`), the connection to the broker is kept alive meanwhile, and what is awaited is said. Ctrl-C ends the
wait, the dialog and that process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from cryptography import x509

from client.errors import CardProblem, Stopped
from client.settings import Settings
from crypto_core.documents import SignedDocument
from crypto_core.ids import UserId
from crypto_core.moments import to_datetime
from pki import cades, identity
from pki.errors import CardError, SeveralCards
from pki.signers import Card, CardInfo, CardKeyUse, CardSettings, PinRequest, list_cards

_STOP_SECONDS: Final = 0.2  #: how often a person who stops is looked after

KeepAlive = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class OpenCard:
    """A card whose citizen is known. `authentication` is the certificate that the user id comes from."""

    card: Card
    user: UserId
    authentication: x509.Certificate
    signature: x509.Certificate | None
    settings: Settings
    keep_alive: KeepAlive

    def sign(self, document: bytes, use: CardKeyUse) -> SignedDocument:
        """The document with the card's detached signature.

        Raises CardError, Stopped, CardProblem for a card that has run out.
        """
        self._require_in_time(use)
        own_dialog = self.card.summary.asks_pin_itself
        awaited = "the PIN on the reader or in its window, Ctrl-C to stop" if own_dialog else "the card's signature"
        with self.keep_alive(), self.settings.waiting(awaited), self._stoppable():
            return SignedDocument(document, cades.sign_document(document, self.card, use))

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Ends the signing process when the person stops meanwhile: only that ends a dialog of the card's own."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(_STOP_SECONDS):
                if self.settings.stopped():
                    self.card.stop()
                    return

        watching = threading.Thread(target=watch, name="smr stop", daemon=True)
        watching.start()
        try:
            yield
        except CardError as error:
            if self.settings.stopped():
                raise Stopped from error
            raise
        finally:
            done.set()
            watching.join()

    def _require_in_time(self, use: CardKeyUse) -> None:
        """Before a PIN is asked for: a signature of a certificate that has run out helps nobody."""
        certificate = self.authentication if use is CardKeyUse.AUTHENTICATION else self.signature
        if certificate is None:
            return  # signing says so, in its own words
        now = to_datetime(self.settings.clock())
        if now > certificate.not_valid_after_utc:
            raise CardProblem(
                f"The card's {use.value} certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}.",
                "Everybody would refuse what it signs now, so it was not asked to.",
                "Have the card renewed; smr renew then binds the new one to your registration.",
            )


@contextmanager
def open_card(settings: Settings, owner: UserId | None, keep_alive: KeepAlive) -> Iterator[OpenCard]:
    """The card that the settings name; of several, `owner`'s. Raises CardError, CardProblem."""

    def pin(request: PinRequest) -> str:
        if request.final_try and not settings.risk_last_try():
            raise CardProblem(
                "The card says that one try of its PIN is left, and none was made.",
                "One more wrong PIN locks it.",
                "Look the PIN up, then repeat the command on a terminal and say yes.",
            )
        return settings.pin(request.use.value)

    with settings.waiting("the card"):
        card = _open(settings.card, owner, pin)
    with card:
        authentication = card.certificate(CardKeyUse.AUTHENTICATION)
        if authentication is None:
            raise CardProblem(
                "The card has no authentication certificate.",
                "It is what says who you are.",
                "Use a Citizen Card, or have yours renewed.",
            )
        signature = card.certificate(CardKeyUse.SIGNATURE)
        yield OpenCard(card, _user(authentication), authentication, signature, settings, keep_alive)


def _open(settings: CardSettings, owner: UserId | None, pin: Callable[[PinRequest], str]) -> Card:
    try:
        return Card.open(settings, pin)
    except SeveralCards:
        if owner is None:
            raise
        found = slot_of(settings, owner)
        if found is None:
            raise
        return Card.open(replace(settings, slot=found), pin)


def slot_of(settings: CardSettings, user: UserId) -> int | None:
    """The slot of this citizen's card among those that the settings allow; None where it is not there."""
    return next((info.slot for info, owner in _citizens(settings) if owner == user), None)


def slot_of_another(settings: CardSettings, user: UserId) -> int:
    """The slot of the only card that is not this citizen's. Raises CardProblem."""
    found = [info.slot for info, owner in _citizens(settings) if owner is not None and owner != user]
    if len(found) == 1:
        return found[0]
    if found:
        raise CardProblem(
            "There are several cards that could be the new one.",
            "Nothing was bound to a card that you did not mean.",
            "Take the others out, or name it: smr --card LABEL or --slot N.",
        )
    raise CardProblem(
        "The only card here is the one that you registered with.",
        "The new card has to sign that it renews it.",
        "Insert the new card, in another reader or in place of this one.",
    )


def _citizens(settings: CardSettings) -> Iterator[tuple[CardInfo, UserId | None]]:
    for info in list_cards(settings):
        with Card.open(replace(settings, slot=info.slot)) as card:
            certificate = card.certificate(CardKeyUse.AUTHENTICATION)
        yield info, _user(certificate) if certificate is not None else None


def _user(authentication: x509.Certificate) -> UserId:
    return UserId(identity.user_id(authentication))
