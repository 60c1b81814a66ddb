"""Is a new card that of the citizen who registered with an earlier one?

A renewal (`crypto_core.documents.Renewal`) is believed when all of this holds, in this order:

  1. it is a renewal for this repository, of this new card and of that former registration
  2. it is signed with the new card's authentication key
  3. where it carries a signature of the former card, that one holds too
  4. the state named one citizen in both: the same civil number in the same country, each certificate under a root that
     is trusted here, at the moment at which its registration was accepted
  5. without a signature of the former card both lead to the same root: civil numbers are unique under one state only

Revocation of the former card is not asked for: a card is revoked because it is renewed, or lost, and that says nothing
about whom the state named in it. The new card is judged like every card, with revocation, by who looks it up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cryptography import x509

from crypto_core import documents
from crypto_core.documents import Party, Renewal, SignedRenewal
from crypto_core.errors import BindingMismatch
from crypto_core.ids import RepositoryId
from pki import cades, identity
from pki.errors import CertificateError
from pki.path import PathResult
from pki.policy import Purpose


class Tracer(Protocol):
    """`pki.validator.IdentityValidator`, or anything else that finds paths."""

    def trace(
        self,
        certificate: x509.Certificate,
        extra_intermediates: Iterable[x509.Certificate],
        moment: datetime,
        purpose: Purpose,
    ) -> PathResult:
        """The path of a certificate at that moment, revocation aside."""


@dataclass(frozen=True, slots=True)
class RegisteredCard:
    """A registration as a renewal sees it: `accepted` is when the repository took it."""

    party: Party
    authentication: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]
    accepted: datetime


def verify(
    signed: SignedRenewal, repository: RepositoryId, former: RegisteredCard, current: RegisteredCard, tracer: Tracer
) -> Renewal:
    """The renewal, when it is to be believed. Of `current` the registration's digest does not matter.

    Raises Malformed, BindingMismatch, SignatureInvalid, CertificateError.
    """
    renewal = documents.decode(Renewal, signed.document, repository)
    if renewal.user != current.party.user or renewal.user != identity.user_id(current.authentication):
        raise BindingMismatch("the renewal is of another new card than the one that it came with")
    if renewal.former != former.party or renewal.former.user != identity.user_id(former.authentication):
        raise BindingMismatch("the renewal is of another former registration than the last one of that card")
    cades.verify_document(signed.document, signed.signature, certificate=current.authentication)
    if signed.former_signature is not None:
        cades.verify_document(signed.document, signed.former_signature, certificate=former.authentication)
    identity.require_same_holder(former.authentication, current.authentication)
    roots = [_root(card, tracer) for card in (former, current)]
    if signed.former_signature is None and roots[0] != roots[1]:
        raise CertificateError(
            "The new card comes from another hierarchy of the state than the former one.",
            "A civil number alone says who somebody is under one root only.",
            "Renew with both cards: the former one has to sign too.",
        )
    return renewal


def _root(card: RegisteredCard, tracer: Tracer) -> str:
    found = tracer.trace(card.authentication, card.intermediates, card.accepted, Purpose.AUTHENTICATION)
    return identity.fingerprint(found.require_valid().path[-1])
