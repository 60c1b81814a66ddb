"""Time stamps: one document for each stamped leaf, and one for each token, which many leaves share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pymongo import UpdateOne
from pymongo.database import Database

from crypto_core.ids import Digest
from repository_worker.errors import StorageError
from repository_worker.stamper import StoredStamp
from repository_worker.storage import collections as names
from repository_worker.storage.driver import Document

PIECE: Final = 1000  #: leaves that are written at once


class Stamps:
    """The stamps of one repository. Thread-safe. Raises PyMongoError."""

    def __init__(self, database: Database[Document]) -> None:
        self._leaves = database[names.STAMPED]
        self._tokens = database[names.TOKENS]

    def keep(self, root: Digest, token: bytes, stamps: Sequence[StoredStamp]) -> None:
        """The token first: no leaf may name one that is not there. A leaf that has a stamp keeps the earlier one."""
        self._tokens.update_one({"_id": root}, {"$setOnInsert": {"token": token}}, upsert=True)
        for at in range(0, len(stamps), PIECE):
            writes = [
                UpdateOne(
                    {"_id": each.leaf},
                    {"$setOnInsert": {"root": root, "index": each.index, "size": each.size, "path": list(each.path)}},
                    upsert=True,
                )
                for each in stamps[at : at + PIECE]
            ]
            self._leaves.bulk_write(writes, ordered=False)

    def of(self, leaves: Sequence[Digest]) -> dict[Digest, StoredStamp]:
        """The stamps of those of these leaves that have one. Raises StorageError for a leaf without its token."""
        found = list(self._leaves.find({"_id": {"$in": list(leaves)}}))
        roots = {bytes(each["root"]) for each in found}
        tokens = {bytes(each["_id"]): bytes(each["token"]) for each in self._tokens.find({"_id": {"$in": list(roots)}})}
        if tokens.keys() != roots:
            raise StorageError("a stamped entry without its token")
        return {
            Digest(each["_id"]): StoredStamp(
                Digest(each["_id"]),
                int(each["index"]),
                int(each["size"]),
                tuple(Digest(one) for one in each["path"]),
                tokens[bytes(each["root"])],
            )
            for each in found
        }
