"""Several changes in one transaction, with one operation for each collection that they touch.

Only for changes that are expected to be new. Nothing is looked for: what is there already meets a unique index, which
ends the whole transaction, and then the changes are to be applied one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database

from crypto_core.ids import RepositoryId
from repository_worker.effects import Change, Effect, MarkRead, Outcome, StoreLetter, StoreReceipt
from repository_worker.storage import collections as names
from repository_worker.storage import documents
from repository_worker.storage.chains import Chains, Placing, placing_of_letter, placing_of_receipt
from repository_worker.storage.documents import Document

#: The effects that can be stored beside others. The rest is rare, and each reads before it writes.
GROUPED: Final = (StoreLetter, StoreReceipt, MarkRead)


def apply(
    changes: Sequence[Change], database: Database[Document], repository: RepositoryId, session: ClientSession
) -> list[Outcome]:
    """Applies changes whose effects are all among `GROUPED`; the outcomes in their order. Raises PyMongoError."""
    effects = [change.effect for change in changes]
    letters = [effect for effect in effects if isinstance(effect, StoreLetter)]
    receipts = [effect for effect in effects if isinstance(effect, StoreReceipt)]
    reads = [effect for effect in effects if isinstance(effect, MarkRead)]
    outcomes = _append(effects, database, repository, session)
    _insert(database, names.COUNTERS, [documents.counter_document(change.counter) for change in changes], session)
    heads = [{**documents.letter_key(each), **documents.sealed_document(each.letter)} for each in letters]
    _insert(database, names.LETTERS, heads, session)
    _insert(database, names.BODIES, [{**documents.letter_key(each), "body": each.body} for each in letters], session)
    sealed = [{**documents.receipt_key(each), **documents.sealed_document(each.receipt)} for each in receipts]
    _insert(database, names.RECEIPTS, sealed, session)
    if reads:
        marks = [UpdateOne(documents.received_key(each), documents.READ) for each in reads]
        database[names.ENTRIES].bulk_write(marks, session=session)
    return outcomes


def _append(
    effects: Sequence[Effect], database: Database[Document], repository: RepositoryId, session: ClientSession
) -> list[Outcome]:
    placings = [_placing(effect) for effect in effects]
    owners = {owner for placing in placings if placing is not None for owner in placing.owners}
    if not owners:
        return [Outcome()] * len(effects)
    chains = Chains(database, repository, owners, session)
    outcomes: list[Outcome] = []
    for effect, placing in zip(effects, placings, strict=True):
        if placing is None or not isinstance(effect, StoreLetter | StoreReceipt):
            outcomes.append(Outcome())
            continue
        sealed = effect.letter if isinstance(effect, StoreLetter) else effect.receipt
        outcomes.append(Outcome(entries=chains.append(sealed, placing, effect.now)))
    chains.store()
    return outcomes


def _placing(effect: Effect) -> Placing | None:
    match effect:
        case StoreLetter():
            return placing_of_letter(effect)
        case StoreReceipt():
            return placing_of_receipt(effect)
        case _:
            return None


def _insert(database: Database[Document], name: str, new: list[Document], session: ClientSession) -> None:
    if new:
        database[name].insert_many(new, session=session)
