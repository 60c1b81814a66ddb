"""card: readers and cards, with what each certificate is good for now. Needs no PIN and no repository."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from cryptography import x509

from client.context import Context
from client.errors import card_or_check
from crypto_core.ids import UserId
from pki import identity
from pki.errors import CardError, PkiError
from pki.policy import Purpose
from pki.signers import Card, CardInfo, CardKeyUse, list_readers
from pki.tokens.profiles import generation_of

LOCKED: Final = "locked"  #: how a report says it of a PIN, at its beginning


@dataclass(frozen=True, slots=True)
class CardKey:
    """One key of a card: what for, which kind, how long its certificate is valid, and whether it may be believed.

    `mechanism` is how the card would sign with it, empty where it cannot.
    """

    use: str
    kind: str
    mechanism: str
    valid_from: datetime
    valid_until: datetime
    sha256: str
    verdict: str
    detail: str


@dataclass(frozen=True, slots=True)
class CardReport:
    """One card. `problem` says why it could not be read, where it could not.

    `kind` is which card it is, with its generation where that is known. `pin` says how it takes its PIN, and whether
    that is locked or about to be. `own`: is it the card of this home's citizen?
    """

    reader: str
    slot: int
    label: str
    serial: str
    pin: str
    kind: str = ""
    holder: str = ""
    civil_number: str = ""
    user: UserId | None = None
    own: bool = False
    keys: tuple[CardKey, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class CardsReport:
    """All cards, and the readers that hold none."""

    cards: tuple[CardReport, ...]
    empty_readers: tuple[str, ...]


_PURPOSES = {CardKeyUse.AUTHENTICATION: Purpose.AUTHENTICATION, CardKeyUse.SIGNATURE: Purpose.SIGNATURE}


def cards(context: Context) -> CardsReport:
    """Every card in every reader. Raises CardError when there is no module."""
    with context.settings.waiting("the cards and the revocation lists"):
        found = list_readers(context.settings.card)
        used = {info.reader for info in found.cards}
        reports = tuple(_report(context, info) for info in found.cards)
        return CardsReport(reports, tuple(name for name in found.names if name not in used))


def _report(context: Context, info: CardInfo) -> CardReport:
    report = CardReport(info.reader, info.slot, info.label, info.serial, _pin(info))
    try:
        with Card.open(replace(context.settings.card, slot=info.slot)) as card:
            return _read(context, card, report)
    except PkiError as error:
        return replace(report, problem=str(card_or_check(error)))


def _read(context: Context, card: Card, report: CardReport) -> CardReport:
    authentication = card.certificate(CardKeyUse.AUTHENTICATION)
    keys = tuple(key for use in CardKeyUse if (key := _key(context, card, use)) is not None)
    if authentication is None:
        return replace(report, kind=card.profile.name, keys=keys, problem="no authentication certificate")
    generation = generation_of(card.profile, identity.key_kind(authentication))
    user = UserId(identity.user_id(authentication))
    return replace(
        report,
        kind=f"{card.profile.name}, {generation.name}" if generation else card.profile.name,
        holder=identity.holder_name(authentication),
        civil_number=identity.civil_number(authentication),
        user=user,
        own=user == context.home.owner(),
        keys=keys,
    )


def _pin(info: CardInfo) -> str:
    if info.pin_locked:
        return f"{LOCKED}: unblock it with its PUK or at a citizen service desk"
    asked = "asked for by the reader or the card's own window" if info.asks_pin_itself else "asked for here"
    return f"{asked}; one try is left" if info.final_try else asked


def _key(context: Context, card: Card, use: CardKeyUse) -> CardKey | None:
    certificate = card.certificate(use)
    if certificate is None:
        return None
    verdict, detail = _verdict(context, use, certificate, card.certificates())
    try:
        mechanism = card.mechanism(use)
    except CardError as error:
        mechanism, verdict, detail = None, "of no use", str(error)
    return CardKey(
        use=use.value,
        kind=identity.key_kind(certificate),
        mechanism=mechanism.name.removeprefix("CKM_") if mechanism else "",
        valid_from=certificate.not_valid_before_utc,
        valid_until=certificate.not_valid_after_utc,
        sha256=identity.fingerprint(certificate),
        verdict=verdict,
        detail=detail,
    )


def _verdict(
    context: Context, use: CardKeyUse, certificate: x509.Certificate, extra: list[x509.Certificate]
) -> tuple[str, str]:
    try:
        result = context.validator.validate(certificate, extra, purpose=_PURPOSES[use])
        return result.verdict.value, result.detail
    except PkiError as error:
        return "could not tell", str(error)
