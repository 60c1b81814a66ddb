"""card: readers and cards, with what each certificate is good for now. Needs no PIN and no repository."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509

from client.context import Context
from client.errors import card_or_check
from crypto_core.ids import UserId
from pki import identity
from pki.errors import PkiError
from pki.policy import Purpose
from pki.signers import Card, CardInfo, CardKeyUse, list_cards


@dataclass(frozen=True, slots=True)
class CardKey:
    """One key of a card: what for, which kind, how long its certificate is valid, and whether it may be believed."""

    use: str
    kind: str
    valid_from: datetime
    valid_until: datetime
    verdict: str
    detail: str


@dataclass(frozen=True, slots=True)
class CardReport:
    """One card. `problem` says why it could not be read, where it could not."""

    reader: str
    label: str
    serial: str
    holder: str
    civil_number: str
    user: UserId | None
    keys: tuple[CardKey, ...]
    problem: str


_PURPOSES = {CardKeyUse.AUTHENTICATION: Purpose.AUTHENTICATION, CardKeyUse.SIGNATURE: Purpose.SIGNATURE}


def cards(context: Context) -> tuple[CardReport, ...]:
    """Every card in every reader. Raises CardError when there is no module."""
    with context.settings.waiting("the cards and the revocation lists"):
        return tuple(_report(context, info) for info in list_cards(context.settings.card))


def _report(context: Context, info: CardInfo) -> CardReport:
    try:
        with Card.open(replace(context.settings.card, token_label=info.label)) as card:
            authentication = card.certificate(CardKeyUse.AUTHENTICATION)
            extra = card.certificates()
            keys = tuple(
                _key(context, use, certificate, extra)
                for use in CardKeyUse
                if (certificate := card.certificate(use)) is not None
            )
        if authentication is None:
            return CardReport(info.reader, info.label, info.serial, "", "", None, keys, "no authentication certificate")
        return CardReport(
            reader=info.reader,
            label=info.label,
            serial=info.serial,
            holder=identity.holder_name(authentication),
            civil_number=identity.civil_number(authentication),
            user=UserId(identity.user_id(authentication)),
            keys=keys,
            problem="",
        )
    except PkiError as error:
        return CardReport(info.reader, info.label, info.serial, "", "", None, (), str(card_or_check(error)))


def _key(context: Context, use: CardKeyUse, certificate: x509.Certificate, extra: list[x509.Certificate]) -> CardKey:
    try:
        result = context.validator.validate(certificate, extra, purpose=_PURPOSES[use])
        verdict, detail = result.verdict.value, result.detail
    except PkiError as error:
        verdict, detail = "could not tell", str(error)
    return CardKey(
        use.value,
        identity.key_kind(certificate),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        verdict,
        detail,
    )
