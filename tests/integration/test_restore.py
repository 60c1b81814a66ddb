"""A backup as `docs/OPERATIONS.md` describes it: the files of a locked database, put back where they were."""

from __future__ import annotations

import shutil
import threading

import pymongo
import pytest

from crypto_core.ids import RepositoryId
from repository_worker import worker
from repository_worker.local_mongo import LocalMongo
from repository_worker.storage.driver import connect
from repository_worker.storage.mongo import MongoStorage
from repository_worker.storage.operations import Operations

DATABASE = "restored"
REPOSITORY = RepositoryId("a" * 32)


def prepared(mongo: LocalMongo) -> Operations:
    operations = Operations(connect(mongo.uri), DATABASE)
    storage = MongoStorage(connect(mongo.uri), DATABASE, REPOSITORY)
    worker.prepare(operations, storage)
    storage.close()
    return operations


@pytest.mark.timeout(180)
def test_what_was_there_at_the_backup_is_there_after_the_restore(tmp_path):
    with LocalMongo(tmp_path / "mongo") as mongo:
        operations = prepared(mongo)
        with pymongo.MongoClient(mongo.uri, w="majority", journal=True) as client:
            marks = client[DATABASE]["marks"]
            marks.insert_one({"_id": "before"})
            client.admin.command("fsync", lock=True)
            waiting = threading.Thread(target=marks.insert_one, args=({"_id": "meanwhile"},), daemon=True)
            waiting.start()  # writes wait, and come through afterwards
            shutil.copytree(mongo.folder / "data", tmp_path / "backup")
            client.admin.command("fsyncUnlock")
            waiting.join(60)
            assert not waiting.is_alive()
            marks.insert_one({"_id": "after"})
        operations.close()
        mongo.stop()
        shutil.rmtree(mongo.folder / "data")
        shutil.copytree(tmp_path / "backup", mongo.folder / "data")
        mongo.start()
        with pymongo.MongoClient(mongo.uri, w="majority", journal=True) as client:
            assert [each["_id"] for each in client[DATABASE]["marks"].find()] == ["before"]
            client[DATABASE]["marks"].insert_one({"_id": "again"})
        operations = Operations(connect(mongo.uri), DATABASE)
        assert operations.missing() == []
        assert operations.require_served() >= 1
        operations.close()
